use std::collections::{BTreeMap, HashMap, HashSet};

use galley_core::run::StepState;

use super::Invariant;
use super::world::World;
use crate::history::SpendRow;

pub(super) const INVARIANT: Invariant = Invariant {
    name: "money",
    says: "nothing over budget: no limit is passed at any moment, what was truly charged is on the ledger, each sum \
           is that of its rows, and nothing is reserved or waits for money when nothing moves",
    find,
};

fn find(world: &World<'_>) -> Vec<String> {
    let mut found = limits(world);
    found.extend(sums(world));
    found.extend(calls(world));
    found.extend(posts(world));
    found.extend(waits(world));
    found
}

/// What was reserved and spent together, after every change.
fn limits(world: &World<'_>) -> Vec<String> {
    let over = world.history.dump.budget_journal.iter();
    over.filter(|row| row.reserved_micros + row.spent_micros > row.limit_micros)
        .map(|row| {
            format!(
                "{} of workspace {}: {} spent and {} reserved of {}",
                row.name, row.workspace_id, row.spent_micros, row.reserved_micros, row.limit_micros
            )
        })
        .collect()
}

/// Every counter is the sum of its rows, and no row is open.
fn sums(world: &World<'_>) -> Vec<String> {
    let dump = &world.history.dump;
    let mut found = Vec::new();
    let mut sums: BTreeMap<_, i64> = BTreeMap::new();
    for row in &dump.spend {
        if row.state == "reserved" {
            found.push(format!("a call of {}.{} is still reserved", row.workflow_id, row.step_name));
        }
        let day = row.day.to_string();
        let names = [
            ("day", day.clone()),
            ("month", day.get(..7).unwrap_or_default().to_owned()),
            ("workflow", row.workflow_id.to_string()),
        ];
        for (period, name) in names {
            *sums.entry((row.workspace_id, period.to_owned(), name)).or_default() += row.cost_micros;
        }
    }
    for row in &dump.budget_counters {
        let sum = sums.remove(&(row.workspace_id, row.period.clone(), row.name.clone())).unwrap_or(0);
        if (row.reserved_micros, row.spent_micros) != (0, sum) {
            found.push(format!(
                "the {} {} of workspace {} counts {} spent and {} reserved; its calls cost {sum}",
                row.period, row.name, row.workspace_id, row.spent_micros, row.reserved_micros
            ));
        }
    }
    found.extend(sums.into_iter().filter(|(_, sum)| *sum > 0).map(|((workspace, period, name), sum)| {
        format!("the {period} {name} of workspace {workspace} is not counted; its calls cost {sum}")
    }));
    found
}

/// What rows say was spent: known, and estimated.
#[derive(Clone, Copy, Default)]
struct Spent {
    known: i64,
    estimated: i64,
}

impl Spent {
    fn add(&mut self, row: &SpendRow) {
        match row.state.as_str() {
            "estimated" => self.estimated += row.cost_micros,
            _ => self.known += row.cost_micros,
        }
    }

    /// What is wrong about it, where so much was truly charged.
    fn problem(self, truly: i64) -> Option<String> {
        let Self { known, estimated } = self;
        let fits = known <= truly && truly <= known + estimated;
        (!fits).then(|| format!("{truly} were charged; {known} are booked, and {estimated} as estimates"))
    }
}

/// What providers charged for each step is what is booked for it.
fn calls(world: &World<'_>) -> Vec<String> {
    let mut spent: HashMap<_, (Spent, i64)> = HashMap::new();
    for row in world.history.dump.spend.iter().filter(|row| row.account.is_none()) {
        let key = (row.workspace_id, row.workflow_id, row.step_name.as_str());
        spent.entry(key).or_default().0.add(row);
    }
    for bill in &world.history.bills {
        let key = (bill.workspace, bill.workflow, bill.step.as_str());
        spent.entry(key).or_default().1 += i64::try_from(bill.micros).unwrap_or(i64::MAX);
    }
    let mut found: Vec<String> = spent
        .into_iter()
        .filter_map(|((_, workflow, step), (spent, truly))| {
            Some(format!("task {workflow}.{step}: {}", spent.problem(truly)?))
        })
        .collect();
    found.sort();
    found
}

/// What a platform took for each post is what is booked for it.
fn posts(world: &World<'_>) -> Vec<String> {
    let dump = &world.history.dump;
    let mut spent: HashMap<_, Spent> = HashMap::new();
    for row in dump.spend.iter().filter(|row| row.account.is_some()) {
        spent.entry((row.workspace_id, row.workflow_id, row.step)).or_default().add(row);
    }
    let mut found = Vec::new();
    for publication in &dump.publications {
        let key = (publication.workspace_id, publication.workflow_id, publication.step);
        let took: u64 = world.effects(publication).iter().map(|effect| effect.cost_micros).sum();
        let spent = spent.remove(&key).unwrap_or_default();
        if let Some(problem) = spent.problem(i64::try_from(took).unwrap_or(i64::MAX)) {
            found.push(format!("post {}: {problem}", publication.post_id));
        }
    }
    found.extend(
        spent.into_keys().map(|(_, workflow, step)| format!("step {step} of {workflow}: paid for no post")),
    );
    found
}

/// Who waits for money is known to, and nobody else.
fn waits(world: &World<'_>) -> Vec<String> {
    let waits = world.history.dump.budget_waits.iter();
    let mut waits: HashSet<_> =
        waits.map(|row| ((row.workspace_id, row.workflow_id), row.step, row.epoch)).collect();
    let mut found = Vec::new();
    for flow in world.flows.values() {
        for (index, step, _) in flow.steps().filter(|(_, step, _)| step.state == StepState::WaitingBudget) {
            if !waits.remove(&(flow.key, index, step.epoch)) {
                found.push(format!("task {} waits for money, and nobody knows", flow.task(index)));
            }
        }
    }
    found.extend(
        waits
            .into_iter()
            .map(|((_, workflow), step, _)| format!("step {step} of {workflow} waits for no money")),
    );
    found
}
