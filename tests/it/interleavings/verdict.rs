//! What must hold after every run, whatever the order of its steps.
//!
//! Two things: the rows agree with each other, and what happened is what would
//! have happened one after the other, in some order, without those who were
//! told no.

use std::collections::BTreeMap;

use galley_core::publish::PostState;
use galley_core::run::{Run, StepRun, StepState};
use serde_json::{Value, json};

use super::operation::Operation;
use super::stage::{Ended, Stage, name_of};

/// What operations do one after the other, played when it is asked for.
pub(crate) struct InTurn<'a> {
    operations: &'a [Operation],
    ends: BTreeMap<Vec<usize>, Ended>,
}

/// Every order of every choice of the first `n` numbers, longest first.
fn orders_of(n: usize) -> Vec<Vec<usize>> {
    let mut all = vec![Vec::new()];
    let mut at = 0;
    while at < all.len() {
        for next in 0..n {
            if !all[at].contains(&next) {
                let longer = all[at].iter().copied().chain([next]).collect();
                all.push(longer);
            }
        }
        at += 1;
    }
    all.reverse();
    all
}

/// Nothing came of it, as far as whoever asked was told.
fn idle(told: &str) -> bool {
    matches!(told, "no" | "nothing")
}

impl<'a> InTurn<'a> {
    pub(crate) fn new(operations: &'a [Operation]) -> Self {
        Self { operations, ends: BTreeMap::new() }
    }

    async fn end_of(&mut self, stage: &mut Stage, order: &[usize]) -> Result<Ended, String> {
        if let Some(ended) = self.ends.get(order) {
            return Ok(ended.clone());
        }
        let mut ended = stage.in_turn(self.operations, order).await;
        agree(&stage.before, &ended.rows, self.operations, order, &ended.told)
            .map_err(|law| format!("in turn {:?}: {law}", self.told(order, &ended)))?;
        ended.rows = comparable(&ended.rows);
        self.ends.insert(order.to_vec(), ended.clone());
        Ok(ended)
    }

    fn told(&self, order: &[usize], ended: &Ended) -> Vec<String> {
        let line = |(actor, told): (&usize, &String)| format!("{}: {told}", self.operations[*actor].name());
        order.iter().zip(&ended.told).map(line).collect()
    }

    /// Whether a run at once ended as one in turn.
    ///
    /// # Errors
    /// How it differs.
    pub(crate) async fn contains(&mut self, stage: &mut Stage, ended: &Ended) -> Result<(), String> {
        let everybody: Vec<usize> = (0..self.operations.len()).collect();
        agree(&stage.before, &ended.rows, self.operations, &everybody, &ended.told)?;
        goes_on(&stage.before, &ended.rows)?;
        let rows = comparable(&ended.rows);
        let (mut near, mut may_be_nobody) = (Vec::new(), false);
        for order in orders_of(everybody.len()) {
            let left_out = everybody.iter().filter(|actor| !order.contains(actor));
            if !left_out.into_iter().all(|actor| idle(&ended.told[*actor])) {
                continue;
            }
            let alone = self.end_of(stage, &order).await?;
            let whole = order.len() == everybody.len();
            may_be_nobody |= whole && alone.told.iter().all(|told| idle(told));
            if order.is_empty() && !may_be_nobody && ended.told.iter().all(|told| told == "no") {
                return Err("everybody was told no: nobody won".into());
            }
            if ended.sends_out_of(&order) {
                continue;
            }
            let told = order.iter().zip(&alone.told).all(|(actor, told)| ended.told[*actor] == *told);
            if told && alone.rows == rows {
                return Ok(());
            }
            near.push(format!(
                "in turn {:?}:\n{}",
                self.told(&order, &alone),
                differences(&alone.rows, &rows)
            ));
        }
        Err(format!(
            "no order of these one after the other ends like this: {:?}\n{}",
            self.told(&everybody, ended),
            near.join("\n")
        ))
    }
}

fn differences(one: &Value, other: &Value) -> String {
    let (Value::Object(one), Value::Object(other)) = (one, other) else { return String::new() };
    let differ = one.iter().filter(|(key, value)| other.get(*key) != Some(value));
    differ
        .map(|(key, value)| format!("  {key}: {value}\n  not {}", other[key]))
        .collect::<Vec<_>>()
        .join("\n")
}

fn list<'a>(rows: &'a Value, of: &str) -> impl Iterator<Item = &'a Value> {
    rows[of].as_array().map(Vec::as_slice).unwrap_or_default().iter()
}

fn runs(rows: &Value) -> BTreeMap<String, Run> {
    let run = |row: &Value| {
        let bytes = hex::decode(row["run"].as_str().unwrap()).unwrap();
        // Decoding checks the run's own invariants.
        let run = Run::decode(&bytes).unwrap_or_else(|error| panic!("{error}: {row}"));
        (row["id"].as_str().unwrap().to_owned(), run)
    };
    list(rows, "runs").chain(list(rows, "finished")).map(run).collect()
}

/// Rows without the parts that no two runs share.
fn comparable(rows: &Value) -> Value {
    let mut rows = rows.clone();
    let readable = |step: &StepRun| {
        let session = step.lease.map(|lease| lease.session.0);
        let marks = [step.intent, step.go];
        format!(
            "{:?} epoch {} {}/{} {marks:?} {session:?} {:?}",
            step.state, step.epoch, step.attempts, step.crashes, step.edited
        )
    };
    let steps: BTreeMap<_, Vec<_>> =
        runs(&rows).into_iter().map(|(id, run)| (id, run.steps.iter().map(readable).collect())).collect();
    for of in ["runs", "finished"] {
        for row in rows[of].as_array_mut().into_iter().flatten() {
            let id = row["id"].as_str().unwrap().to_owned();
            let changes = row["version"].as_i64().map(|version| version >> 24);
            *row = json!({ "id": id, "state": row["state"], "running": row["running"], "changes": changes, "steps": steps[&id] });
        }
    }
    rows
}

/// A step that was final before is what it was, and no epoch comes back.
fn goes_on(before: &Value, after: &Value) -> Result<(), String> {
    let after = runs(after);
    for (id, was) in runs(before) {
        let Some(now) = after.get(&id) else { return Err(format!("the workflow {id} is gone")) };
        for (index, (was, now)) in was.steps.iter().zip(&now.steps).enumerate() {
            if was.state.is_final() && was != now {
                return Err(format!("step {index} was {:?} for good and is {:?}", was.state, now.state));
            }
            if now.epoch < was.epoch {
                return Err(format!("step {index} was at epoch {} and is at {}", was.epoch, now.epoch));
            }
        }
    }
    Ok(())
}

macro_rules! law {
    ($holds:expr, $($why:tt)+) => {
        if !$holds {
            return Err(format!($($why)+));
        }
    };
}

/// Whether the rows tell one story, and the audit what people were told.
fn agree(
    before: &Value,
    rows: &Value,
    operations: &[Operation],
    order: &[usize],
    told: &[String],
) -> Result<(), String> {
    // A policy that begins to ask does so for what is not on its way yet; what
    // was intended before is none of this law's, but of the orders in turn.
    let asks = list(before, "policy").all(|row| row["config"]["contentApprovalRequired"] != false);
    let all = runs(rows);
    let is = |row: &Value, id: &str, step: usize| row["workflow"] == *id && row["step"] == step;
    for (id, run) in &all {
        for (index, step) in run.steps.iter().enumerate() {
            let of = |what| list(rows, what).filter(|row| is(row, id, index));
            // Exactly one result, of the epoch that won; a person's has none.
            let results: Vec<_> = of("results").map(|row| row["epoch"].as_u64().unwrap()).collect();
            let won = step.state == StepState::Succeeded;
            law!(
                results.len() == usize::from(won),
                "step {index} is {:?} with {} results",
                step.state,
                results.len()
            );
            law!(
                results.iter().all(|epoch| *epoch == u64::from(step.epoch) || *epoch == 0),
                "the result of step {index} is of epoch {results:?}, not {}",
                step.epoch
            );
            let timers: Vec<_> = of("timers").map(|row| row["epoch"].as_u64().unwrap()).collect();
            let waits = matches!(step.state, StepState::Scheduled | StepState::Unknown);
            let due = if waits { vec![u64::from(step.epoch)] } else { vec![] };
            law!(
                timers == due,
                "step {index} is {:?} at epoch {} with timers {timers:?}",
                step.state,
                step.epoch
            );
            let letters = of("letters").filter(|row| row["status"] == "open").count();
            law!(letters == usize::from(step.state == StepState::Dead), "step {index}: {letters} letters");
            let asked = of("approvals").filter(|row| row["status"] == "pending").count();
            law!(
                asked == usize::from(step.state == StepState::WaitingApproval),
                "step {index} is {:?} with {asked} open questions",
                step.state
            );
            for post in of("posts") {
                let publication = list(rows, "publications").find(|row| row["post"] == post["id"]);
                post_agrees(rows, step, post, publication, asks)?;
            }
        }
    }
    for row in list(rows, "runs") {
        let run = &all[row["id"].as_str().unwrap()];
        let running = run.count(StepState::Running);
        law!(row["running"] == running, "{running} steps run, the row says {}", row["running"]);
    }
    let live = list(rows, "runs").count() + list(rows, "finished").count();
    law!(live == all.len(), "a workflow is live and finished");
    quota_agrees(rows)?;
    for (actor, told) in order.iter().zip(told) {
        let Some(actions) = operations[*actor].audited() else { continue };
        let name = name_of(operations, *actor);
        let lines: Vec<_> = list(rows, "audit")
            .filter(|row| row["actor"] == *name)
            .map(|row| row["action"].as_str().unwrap())
            .collect();
        let expected = if told == "yes" { actions } else { &[] };
        law!(lines == expected, "{name} was told {told}, and the audit says {lines:?}");
    }
    Ok(())
}

/// A post, its step and its publication.
fn post_agrees(
    rows: &Value,
    step: &StepRun,
    post: &Value,
    publication: Option<&Value>,
    asks: bool,
) -> Result<(), String> {
    let state = post["state"].as_str().unwrap();
    match PostState::of(step) {
        Some(of) => law!(of.word() == state, "the step is {:?}, its post {state}", step.state),
        None => {
            law!(matches!(state, "rejected" | "expired"), "the step is {:?}, its post {state}", step.state);
        }
    }
    let sent = publication.map_or("none", |publication| publication["state"].as_str().unwrap());
    let open = matches!(sent, "intent" | "unknown" | "in_doubt");
    law!(open == step.intent, "the step's intent is {}, its publication {sent}", step.intent);
    law!((sent == "published") == (state == "published"), "the post is {state}, its publication {sent}");
    let Some(publication) = publication else { return Ok(()) };
    if open || sent == "published" {
        // What goes out is what the post says, and what somebody approved.
        law!(publication["hash"] == post["hash"], "what goes out is not what the post says");
        law!(publication["revision"] == post["revision"], "another revision goes out");
        let approved = publication["approved"] == publication["hash"];
        law!(approved || !asks && publication["approved"].is_null(), "nobody approved what goes out");
        law!(publication["held"] == true, "it goes out without a place");
    } else {
        law!(publication["held"] == false, "a place is held for a post that is not out");
    }
    let revision = list(rows, "revisions")
        .find(|row| row["post"] == post["id"] && row["revision"] == publication["revision"]);
    law!(
        revision.is_some_and(|row| row["hash"] == publication["hash"]),
        "what was sent is none of the post's revisions"
    );
    Ok(())
}

/// The counters are the places that are held, and never more than allowed.
fn quota_agrees(rows: &Value) -> Result<(), String> {
    let held = || list(rows, "publications").filter(|row| row["held"] == true);
    let nobody = "00000000-0000-0000-0000-000000000000";
    let limit = list(rows, "policy").find_map(|row| row["config"]["maxDailyPosts"].as_u64());
    for row in list(rows, "quota") {
        let counts = |p: &&Value| {
            p["day"] == row["day"] && (row["account"] == nobody || p["account"] == row["account"])
        };
        let held = held().filter(counts).count();
        law!(row["used"] == held, "{held} places are held, the counter says {}", row["used"]);
        law!(
            row["account"] != nobody || limit.is_none_or(|limit| held as u64 <= limit),
            "{held} of {limit:?} places"
        );
    }
    let counted: u64 = list(rows, "quota")
        .filter(|row| row["account"] == nobody)
        .filter_map(|row| row["used"].as_u64())
        .sum();
    law!(counted == held().count() as u64, "{counted} places are counted, {} held", held().count());
    Ok(())
}
