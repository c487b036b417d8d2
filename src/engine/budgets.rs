//! Money: reserved before a call that costs something, settled after it.
//!
//! What is spent never exceeds a limit: a reservation is a true upper bound, in
//! a transaction of its own that also proves that the attempt still holds its
//! step. A step without money waits and goes on by itself. What nobody can know
//! is charged at its bound.

use std::collections::HashMap;

use futures::FutureExt;
use galley_core::decide::Event;
use galley_core::hash;
use galley_core::ids::{WorkflowKey, WorkspaceId};
use galley_core::money::{Budget, Counter, LARGEST_LIMIT, Tokens, Waiting, admit, room};
use galley_core::plan::Problem;
use galley_core::run::Run;
use galley_probe::{Bug, Point, Rescue, planted, point, seen};
use galley_store::{
    AttemptKey, Booked, BudgetRow, CallKey, CounterRow, DayRule, Hashes, MoneyWaitRow, OnLedger, OpenCall,
    ReportedWrite, ReserveWrite, Reserved, SettleWrite, Settled, SpendBy, SpendRow, Store, StoreError,
};

use crate::batches::Batches;
use crate::claim::Claimed;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::transition::{Command, Record, Verdict};

/// Waits of one workspace read at once.
const BATCH: i64 = 2_000;

/// Seconds after which a call is looked at although its worker lives: it should
/// have been settled long ago.
const LOST_AFTER_S: i64 = 15 * 60;

/// Reservations looked at per round.
const LOST_BATCH: i64 = 200;

/// A call that costs something, before it is made.
#[derive(Clone, Debug)]
pub struct NewCall {
    /// Which call of the attempt, from 0.
    pub call: u16,
    /// Who is asked.
    pub provider: String,
    /// For which model.
    pub model: String,
    /// The most it can cost, millionths of a US dollar.
    pub bound_micros: u64,
}

/// Whether a call may be made.
#[derive(Clone, Debug, PartialEq)]
pub enum Funding {
    /// It may: its bound is reserved.
    Reserved,
    /// The step was taken from this attempt.
    Overtaken,
    /// There is no room: the sentence says in what.
    Refused(String),
    /// Another call of the attempt has this number.
    Taken,
}

/// A workspace's money at a glance.
#[derive(Clone, Debug)]
pub struct BudgetView {
    /// Its limits.
    pub row: BudgetRow,
    /// This day and month, and the workflow that was asked about.
    pub counters: Vec<CounterRow>,
    /// Steps that wait for money.
    pub waiting: usize,
}

/// Where a process' calls are reserved and settled, in batches.
pub(crate) struct Till {
    reserves: Batches<ReserveWrite, Reserved>,
    settles: Batches<SettleWrite, Settled>,
    rooms: Batches<(WorkflowKey, DayRule), Option<u64>>,
    pub(crate) reported: Batches<ReportedWrite, OnLedger>,
}

impl Till {
    pub(crate) fn new(store: &Store) -> Self {
        Self {
            reserves: Batches::new(store.clone(), |store, writes| {
                async move { store.reserve(writes).await }.boxed()
            }),
            settles: Batches::new(store.clone(), |store, calls| {
                async move { store.settle(calls).await }.boxed()
            }),
            rooms: Batches::new(store.clone(), |store, asked| {
                async move { store.rooms(&asked).await }.boxed()
            }),
            reported: Batches::new(store.clone(), |store, writes| {
                async move { store.book_reported(writes).await }.boxed()
            }),
        }
    }
}

pub(crate) fn attempt_of(claim: &Claimed) -> AttemptKey {
    AttemptKey {
        key: claim.key(),
        step: claim.token.step,
        epoch: claim.token.epoch,
        nonce: claim.token.nonce.0,
        session: claim.session,
    }
}

fn call_key(claim: &Claimed, call: u16) -> CallKey {
    CallKey { attempt: attempt_of(claim), call }
}

impl Engine {
    /// Reserves what a call may cost at most. Repeatable.
    ///
    /// # Errors
    /// Postgres is away: nobody knows what was committed; repeat.
    pub async fn reserve_call(&self, claim: &Claimed, call: NewCall) -> Result<Funding, EngineError> {
        let policy = self.recent_policy(claim.ticket.workspace).await?;
        let write = ReserveWrite {
            call: call_key(claim, call.call),
            step_name: claim.step_name.clone(),
            agent: claim.agent.to_string(),
            provider: call.provider,
            model: call.model,
            account: None,
            micros: call.bound_micros,
            day: policy.day_rule(),
        };
        let reserved = self.till().reserves.ask(write).await?;
        point(Point::CallReserved);
        Ok(match reserved {
            Reserved::Overtaken => Funding::Overtaken,
            Reserved::Taken => Funding::Taken,
            Reserved::Refused(full) => {
                Funding::Refused(no_room("the next call", &full.name, &full.counter, call.bound_micros))
            }
            Reserved::Yes { warnings } => {
                warnings.iter().for_each(|warning| tell_nearly_used(claim.ticket.workspace, warning));
                Funding::Reserved
            }
        })
    }

    /// Books what a call came to; `None`: nobody can know, it is charged at its
    /// bound. Not fenced and repeatable: a bill is real whoever holds the step,
    /// and the first one that says a cost stands.
    ///
    /// # Errors
    /// Postgres is away: nobody knows what was committed; repeat.
    pub async fn settle_call(
        &self,
        claim: &Claimed,
        call: u16,
        cost: Option<u64>,
        tokens: Tokens,
    ) -> Result<Booked, EngineError> {
        let word = if cost.is_some() { "settled" } else { "estimated" };
        let write = SettleWrite { call: call_key(claim, call), cost, tokens };
        if planted(Bug::SettleForgotten) {
            return Ok(Booked::Now);
        }
        point(Point::CallSettling);
        let Settled { booked, warnings } = self.till().settles.ask(write).await?;
        warnings.iter().for_each(|warning| tell_nearly_used(claim.ticket.workspace, warning));
        match booked {
            // Counted when it was booked, or by nobody.
            Booked::Before | Booked::NotThere => return Ok(booked),
            Booked::Now => {}
            Booked::Late => seen(Rescue::LateBill),
            Booked::OverBound { over_micros } => {
                seen(Rescue::BillOverBound);
                metrics::counter!("galley_bills_over_bound_total").increment(1);
                tracing::warn!(
                    workspace.id = %claim.ticket.workspace,
                    over_micros,
                    "a call of `{}` cost more than its bound: is the price of its model right?",
                    claim.agent
                );
            }
        }
        metrics::counter!("galley_calls_total", "bill" => word).increment(1);
        metrics::counter!("galley_spend_micros_total").increment(cost.unwrap_or(0));
        Ok(booked)
    }

    /// Why there is no room for an amount, for people.
    pub(crate) async fn no_room_for(
        &self,
        key: WorkflowKey,
        what: &str,
        micros: u64,
    ) -> Result<String, EngineError> {
        let rule = self.recent_policy(key.workspace).await?.day_rule();
        let rows = self.store().counters(key.workspace, Some(key.workflow), &rule).await?;
        let full = rows.iter().find(|row| row.counter.room().is_some_and(|room| room < micros));
        Ok(match full {
            Some(full) => no_room(what, &full.name, &full.counter, micros),
            // Somebody has made room since.
            None => format!("there was no room for the {} that {what} may cost", dollars(micros)),
        })
    }

    /// What a workflow's next call may cost at most; `None`: anything.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn money_left(&self, key: WorkflowKey) -> Result<Option<u64>, EngineError> {
        let rule = self.recent_policy(key.workspace).await?.day_rule();
        self.till().rooms.ask((key, rule)).await
    }

    /// A workspace's limits and what was spent of them, and of a workflow's.
    ///
    /// # Errors
    /// [`EngineError::NotFound`]: there is no such workflow.
    pub async fn budget(
        &self,
        workspace: WorkspaceId,
        workflow: Option<WorkflowKey>,
    ) -> Result<BudgetView, EngineError> {
        if let Some(key) = workflow {
            self.known_workflow(key).await?;
        }
        let rule = self.policy(workspace).await?.day_rule();
        let row = self.store().budget(workspace).await?;
        let counters = self.store().counters(workspace, workflow.map(|key| key.workflow), &rule).await?;
        let waiting = self.store().count_money_waits(workspace).await?;
        Ok(BudgetView { row, counters, waiting })
    }

    /// Replaces a workspace's limits. Steps that wait for money go on by
    /// themselves where there is room now.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] with every problem; [`EngineError::Conflict`]
    /// when they are not at the version that was seen any more.
    pub async fn set_budget(
        &self,
        workspace: WorkspaceId,
        budget: Budget,
        seen: Option<i64>,
        actor: &str,
    ) -> Result<(), EngineError> {
        let problems = budget.problems();
        if !problems.is_empty() {
            return Err(EngineError::Invalid(problems));
        }
        let old = self.store().budget(workspace).await?;
        if seen.is_some_and(|seen| seen != old.version) {
            return Err(EngineError::Conflict(format!(
                "the budget was changed meanwhile: it is at version {}; look at it and try again",
                old.version
            )));
        }
        let told = |budget: &Budget| {
            serde_json::to_string(budget)
                .map_err(|error| EngineError::Internal(format!("a budget does not serialize: {error}")))
        };
        let (before, after) = (told(&old.budget)?, told(&budget)?);
        let before = (old.version > 0).then(|| hash::of_text(&before));
        let hashes = Hashes { before, after: Some(hash::of_text(&after)) };
        let set = self.store().set_budget(workspace, old.version, budget, actor.to_owned(), after, hashes);
        match set.await {
            Err(StoreError::Overtaken(_)) => Err(EngineError::Conflict(
                "the budget was changed by somebody else at the same moment; look at it and try again".into(),
            )),
            done => Ok(done?),
        }
    }

    /// Gives a workflow a limit of its own; `None`: the workspace's again.
    ///
    /// # Errors
    /// [`EngineError::NotFound`], or [`EngineError::Invalid`].
    pub async fn set_workflow_budget(
        &self,
        key: WorkflowKey,
        limit: Option<u64>,
        actor: &str,
    ) -> Result<(), EngineError> {
        if limit.is_some_and(|limit| limit > LARGEST_LIMIT) {
            let problem = Problem::new("workflowMicros", "at most 10000000000000 (ten million dollars)");
            return Err(EngineError::Invalid(vec![problem]));
        }
        self.known_workflow(key).await?;
        Ok(self.store().set_workflow_budget(key, limit, actor.to_owned()).await?)
    }

    async fn known_workflow(&self, key: WorkflowKey) -> Result<(), EngineError> {
        match self.store().workflow(key).await? {
            Some(_) => Ok(()),
            None => Err(EngineError::NotFound { kind: "workflow", id: key.workflow.to_string() }),
        }
    }

    /// Spend between two days of the workspace, both included (absent: this
    /// month so far): the days, what all of it comes to, and the first rows.
    ///
    /// # Errors
    /// [`EngineError::Invalid`]: a day is none, or they are in the wrong order.
    pub async fn spend(
        &self,
        workspace: WorkspaceId,
        by: SpendBy,
        since: Option<&str>,
        until: Option<&str>,
    ) -> Result<(jiff::civil::Date, jiff::civil::Date, u64, Vec<SpendRow>), EngineError> {
        let policy = self.policy(workspace).await?;
        let today = policy.days()?.day(policy.now()?);
        let day = |field: &str, text: Option<&str>, other: jiff::civil::Date| match text {
            None => Ok(other),
            Some(text) => text
                .parse()
                .map_err(|_| EngineError::invalid(field, format!("`{text}` is no day; write 2026-11-26"))),
        };
        let since = day("since", since, today.first_of_month())?;
        let until = day("until", until, today)?;
        if since > until {
            return Err(EngineError::invalid("since", format!("{since} is after {until}")));
        }
        let (first, last) = (since.to_string(), until.to_string());
        let (total, rows) = self.store().spend_by(workspace, by, &first, &last).await?;
        Ok((since, until, total, rows))
    }
}

/// Says that a counter is nearly used, for the first time.
pub(crate) fn tell_nearly_used(workspace: WorkspaceId, warning: &CounterRow) {
    let CounterRow { name, counter, .. } = warning;
    metrics::counter!("galley_budget_warnings_total").increment(1);
    tracing::warn!(
        workspace.id = %workspace,
        spent_micros = counter.spent,
        limit_micros = counter.limit,
        "the budget of {} {name} is nearly used",
        counter.period.word()
    );
}

/// Why a call is not made, for people.
fn no_room(who: &str, name: &str, full: &Counter, micros: u64) -> String {
    let Counter { period, limit, reserved, spent } = *full;
    let limit = limit.unwrap_or(0);
    let what = match period.word() {
        "workflow" => "this workflow".to_owned(),
        word => format!("the {word} {name}"),
    };
    let under_way = if reserved > 0 { format!(" and {} reserved", dollars(reserved)) } else { String::new() };
    format!(
        "{who} may cost {}, and of the {} for {what} {} are spent{under_way}",
        dollars(micros),
        dollars(limit),
        dollars(spent)
    )
}

/// An amount as people read it.
pub(crate) fn dollars(micros: u64) -> String {
    let (whole, part) = (micros / 1_000_000, micros % 1_000_000);
    let part = format!("{part:06}");
    let shown = part.trim_end_matches('0');
    format!("${whole}.{shown:0<2}")
}

/// One round: steps that wait for money, those that wait longest first, go on
/// where there is room for their next call. Answers how many.
///
/// # Errors
/// Postgres is away.
pub async fn fund_waiting(engine: &Engine) -> Result<usize, EngineError> {
    let waits = engine.store().money_waits(None, None, BATCH).await?;
    let mut by_workspace: HashMap<WorkspaceId, Vec<MoneyWaitRow>> = HashMap::new();
    for wait in waits {
        by_workspace.entry(wait.key.workspace).or_default().push(wait);
    }
    for (workspace, waits) in &mut by_workspace {
        // However many wait at the limits of their workflows: they hide nobody.
        let mut page = waits.len();
        while i64::try_from(page) == Ok(BATCH) {
            let more = engine.store().money_waits(Some(*workspace), waits.last(), BATCH).await?;
            page = more.len();
            waits.extend(more);
        }
    }
    metrics::gauge!("galley_budget_waits").set(by_workspace.values().map(Vec::len).sum::<usize>() as f64);
    let mut funded = 0;
    for (workspace, waits) in by_workspace {
        let let_on = with_money(engine, workspace, waits).await?;
        if let_on.is_empty() {
            continue;
        }
        let commands: Vec<Command> = let_on
            .iter()
            .map(|wait| Command {
                key: wait.key,
                event: Event::Funded { step: wait.step, epoch: wait.epoch },
                record: Record::Nothing,
            })
            .collect();
        let applied = engine.apply(&commands).await?;
        engine.push(&[], &applied).await;
        let mut orphans = Vec::new();
        for (wait, verdict) in let_on.into_iter().zip(&applied.verdicts) {
            match verdict {
                Verdict::Done => {
                    seen(Rescue::Funded);
                    funded += 1;
                }
                // A wait whose run refused it (or is gone) waits for nobody.
                Verdict::Refused(_) | Verdict::Gone => orphans.push(wait),
                Verdict::Unstorable(_) | Verdict::Overtaken(_) => {}
            }
        }
        if !orphans.is_empty() {
            engine.store().drop_money_waits(orphans).await?;
        }
    }
    Ok(funded)
}

/// Those of a workspace's waits that there is money for.
async fn with_money(
    engine: &Engine,
    workspace: WorkspaceId,
    waits: Vec<MoneyWaitRow>,
) -> Result<Vec<MoneyWaitRow>, EngineError> {
    let rule = engine.policy(workspace).await?.day_rule();
    let shared = engine.store().counters(workspace, None, &rule).await?;
    let mut counters: Vec<Counter> = shared.iter().map(|row| row.counter).collect();
    let least = waits.iter().map(|wait| wait.needed_micros).min().unwrap_or(0);
    if room(&counters).is_some_and(|room| room < least) {
        return Ok(Vec::new());
    }
    let mut workflows: Vec<_> = waits.iter().map(|wait| wait.key.workflow).collect();
    workflows.sort_unstable();
    workflows.dedup();
    let mut places = HashMap::new();
    for (workflow, counter) in engine.store().workflow_counters(workspace, &workflows).await? {
        places.insert(workflow, counters.len());
        counters.push(counter);
    }
    let waiting: Vec<Waiting> = waits
        .iter()
        .map(|wait| {
            let own = places.get(&wait.key.workflow).copied();
            Waiting { counters: (0..shared.len()).chain(own).collect(), micros: wait.needed_micros }
        })
        .collect();
    let let_on = admit(&mut counters, &waiting);
    Ok(waits.into_iter().zip(let_on).filter(|(_, on)| *on).map(|(wait, _)| wait).collect())
}

/// One round: calls of attempts that are over and that nobody settled are
/// charged at their bound. Answers how many. A bill that comes later replaces
/// the estimate.
///
/// # Errors
/// Postgres is away.
pub async fn charge_lost(engine: &Engine) -> Result<usize, EngineError> {
    let (mut charged, mut seen) = (0, None);
    loop {
        // Behind those that are under way, however many: they hide nobody.
        let open = engine.store().lost_calls(LOST_AFTER_S, seen.as_ref(), LOST_BATCH).await?;
        let full = i64::try_from(open.len()) == Ok(LOST_BATCH);
        seen = open.last().cloned();
        charged += charge(engine, open).await?;
        if !full {
            return Ok(charged);
        }
    }
}

/// Charges those of the calls whose attempts are over.
async fn charge(engine: &Engine, open: Vec<OpenCall>) -> Result<usize, EngineError> {
    if open.is_empty() {
        return Ok(0);
    }
    let mut keys: Vec<WorkflowKey> = open.iter().map(|call| call.key).collect();
    keys.sort_unstable();
    keys.dedup();
    let rows = engine.store().load_runs(&keys).await?;
    let runs: HashMap<_, _> =
        rows.iter().filter_map(|row| Some((row.key, Run::decode(&row.run).ok()?))).collect();
    let lost: Vec<SettleWrite> = open
        .into_iter()
        .filter(|call| !runs.get(&call.key).is_some_and(|run| run.is_held_by(call.token)))
        .map(|call| SettleWrite {
            call: CallKey {
                attempt: AttemptKey {
                    key: call.key,
                    step: call.token.step,
                    epoch: call.token.epoch,
                    nonce: call.token.nonce.0,
                    session: galley_core::ids::SessionId(call.session),
                },
                call: call.call,
            },
            cost: planted(Bug::LostCallDropped).then_some(0),
            tokens: Tokens::default(),
        })
        .collect();
    if lost.is_empty() {
        return Ok(0);
    }
    point(Point::CallsLost);
    let workspaces: Vec<WorkspaceId> = lost.iter().map(|write| write.call.attempt.key.workspace).collect();
    let settled = engine.store().settle(lost).await?;
    let mut charged = 0;
    for (workspace, Settled { booked, warnings }) in workspaces.into_iter().zip(settled) {
        charged += usize::from(!matches!(booked, Booked::Before | Booked::NotThere));
        warnings.iter().for_each(|warning| tell_nearly_used(workspace, warning));
    }
    if charged > 0 {
        seen(Rescue::LostCallCharged);
        tracing::warn!(calls = charged, "calls of lost attempts are charged at their bound");
        metrics::counter!("galley_calls_total", "bill" => "lost").increment(charged as u64);
    }
    Ok(charged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_as_dollars() {
        for (micros, text) in [
            (0, "$0.00"),
            (1, "$0.000001"),
            (10_000, "$0.01"),
            (2_500_000, "$2.50"),
            (12_345_678, "$12.345678"),
        ] {
            assert_eq!(dollars(micros), text);
        }
    }
}
