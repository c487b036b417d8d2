//! The one function that moves state: take a batch of (workflow, event), load,
//! decide, save, commit. Pushing what became runnable comes after, and is the
//! caller's next line.
//!
//! 1. Load the runs: what this process remembers, the rest from Postgres.
//! 2. Decide every event on its run, in order; several events of one workflow
//!    meet the same run.
//! 3. Save with one compare-and-set per run, in one transaction.
//! 4. Runs that lost are forgotten, loaded and decided again.
//!
//! Every step can be repeated: events are fenced by epoch and nonce.

mod rows;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use galley_core::decide::{Death, Effect, Event, Facts, Refusal, decide};
use galley_core::ids::{AgentType, WorkflowKey};
use galley_core::message::{MOST_SAID, Says};
use galley_core::plan::Plan;
use galley_core::run::{Run, WorkflowState};
use galley_core::ticket::Ticket;
use galley_probe::{Bug, Rescue, planted, seen};
use galley_store::{AttemptWrite, Hashes, Overtaken, PostOp, ResultWrite, StoreError};
use serde_json::Value;

use crate::cache::KnownRun;
use crate::engine::Engine;
use crate::facts::KnownFacts;
use crate::planted::{reset_epoch, unfenced};

/// The low bits of a version are random, so that a version this process
/// remembers cannot come back with another meaning after Postgres was restored
/// to an older point. The high bits are the run's sequence number.
const VERSION_NOISE_BITS: u32 = 24;

/// The sequence number inside a version: what event streams count in.
pub(crate) fn seq_of(version: i64) -> u64 {
    (version >> VERSION_NOISE_BITS) as u64
}

/// The version of a run at a sequence number.
pub(crate) fn version_at(seq: u64) -> i64 {
    let noise = rand::random::<u32>() >> (32 - VERSION_NOISE_BITS);
    ((seq as i64) << VERSION_NOISE_BITS) | i64::from(noise)
}

/// One event for one workflow, with the rows that go with it.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) key: WorkflowKey,
    pub(crate) event: Event,
    pub(crate) record: Record,
}

/// What is written along with an event, if the event is not refused.
#[derive(Debug)]
pub(crate) enum Record {
    Nothing,
    /// A result, with what its step says to others.
    Result(ResultWrite, Says),
    Attempt(AttemptWrite),
    /// What a person did, and the input they replaced.
    Person {
        actor: String,
        action: &'static str,
        object: String,
        input: Option<String>,
    },
    /// Everything about a post.
    Post(Box<PostRecord>),
}

/// Who did what to what, and more as JSON text: for the audit.
pub(crate) type AuditedAct = (String, &'static str, String, Option<String>);

/// The rows that go with an event about a post.
#[derive(Debug, Default)]
pub(crate) struct PostRecord {
    pub(crate) ops: Vec<PostOp>,
    pub(crate) audit: Option<AuditedAct>,
    /// What that changed.
    pub(crate) hashes: Hashes,
    pub(crate) attempt: Option<AttemptWrite>,
    pub(crate) result: Option<ResultWrite>,
    /// Whether it stands or falls with the other commands about its workflow.
    pub(crate) together: bool,
}

impl Record {
    pub(crate) fn result(&self) -> Option<&ResultWrite> {
        match self {
            Self::Result(result, _) => Some(result),
            Self::Post(post) => post.result.as_ref(),
            Self::Nothing | Self::Attempt(_) | Self::Person { .. } => None,
        }
    }

    fn attempt(&self) -> Option<&AttemptWrite> {
        match self {
            Self::Attempt(attempt) => Some(attempt),
            Self::Post(post) => post.attempt.as_ref(),
            Self::Nothing | Self::Result(..) | Self::Person { .. } => None,
        }
    }
}

/// What became of a command.
#[derive(Debug, Clone)]
pub(crate) enum Verdict {
    /// Decided and written.
    Done,
    /// The run refused it.
    Refused(Refusal),
    /// There is no live run of that workflow.
    Gone,
    /// Postgres cannot store what came with it.
    Unstorable(String),
    /// Something about the post was not as it was when this was decided.
    Overtaken(Overtaken),
}

/// Everything a batch of commands led to.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    /// One verdict per command, in order.
    pub(crate) verdicts: Vec<Verdict>,
    /// Tickets to push now that it is committed.
    pub(crate) runnable: Vec<(AgentType, Ticket)>,
    /// Workflows whose running attempts were overtaken.
    pub(crate) interrupted: Vec<WorkflowKey>,
    /// Workflows that became final, each with its state.
    pub(crate) finished: Vec<(WorkflowKey, WorkflowState)>,
    /// Steps that died.
    pub(crate) died: usize,
    /// Commands of one workflow that Postgres refused together: each is tried
    /// alone.
    apart: Vec<(WorkflowKey, Vec<usize>)>,
    /// The runs as they are now, for those that were decided on.
    pub(crate) runs: HashMap<WorkflowKey, (Arc<Plan>, Arc<KnownRun>)>,
}

/// A run being decided on.
pub(crate) struct Draft {
    pub(crate) plan: Arc<Plan>,
    definition: i64,
    expected: i64,
    pub(crate) run: Run,
    /// Whether the run came from memory: then a refusal proves nothing.
    remembered: bool,
}

/// What one workflow's commands led to, before it is known whether they win.
struct Decision {
    draft: Draft,
    seq: u64,
    effects: Vec<(usize, Vec<Effect>)>,
    verdicts: Vec<(usize, Verdict)>,
}

impl Engine {
    /// Moves a batch of workflows.
    ///
    /// # Errors
    /// Postgres is away: nobody knows what was committed, repeat the batch.
    pub(crate) async fn apply(&self, commands: &[Command]) -> Result<Applied, StoreError> {
        let mut applied = Applied { verdicts: vec![Verdict::Gone; commands.len()], ..Applied::default() };
        let mut by_key: HashMap<WorkflowKey, Vec<usize>> = HashMap::with_capacity(commands.len());
        for (index, command) in commands.iter().enumerate() {
            by_key.entry(command.key).or_default().push(index);
        }
        self.apply_each(commands, &by_key, &mut applied).await?;
        while let Some((key, events)) = applied.apart.pop() {
            for event in events {
                let alone = HashMap::from([(key, vec![event])]);
                self.apply_each(commands, &alone, &mut applied).await?;
            }
        }
        Ok(applied)
    }

    /// Decides and saves until every workflow has its verdicts.
    async fn apply_each(
        &self,
        commands: &[Command],
        by_key: &HashMap<WorkflowKey, Vec<usize>>,
        applied: &mut Applied,
    ) -> Result<(), StoreError> {
        let mut open: Vec<WorkflowKey> = by_key.keys().copied().collect();
        let mut rounds = 0_u32;
        while !open.is_empty() {
            rounds += 1;
            if rounds > 1 {
                metrics::counter!("galley_run_conflicts_total").increment(open.len() as u64);
                // Several writers on one hot row: spread them.
                if rounds > 3 {
                    let pause = rand::random_range(0..(1_u64 << rounds.min(8)));
                    tokio::time::sleep(Duration::from_micros(100 * pause)).await;
                }
            }
            let decisions = self.decide_all(commands, by_key, &open, rounds == 1).await?;
            // A workflow without a live run has no decision: its verdicts stay `Gone`.
            open = self.save_all(commands, decisions, applied).await?;
        }
        Ok(())
    }

    async fn decide_all(
        &self,
        commands: &[Command],
        by_key: &HashMap<WorkflowKey, Vec<usize>>,
        open: &[WorkflowKey],
        trust_memory: bool,
    ) -> Result<Vec<(WorkflowKey, Decision)>, StoreError> {
        let rest =
            if planted(Bug::ResolverTooEarly) { Duration::ZERO } else { self.config().publishing.rest };
        let rest_ms = u64::try_from(rest.as_millis()).unwrap_or(u64::MAX);
        let drafts = self.drafts(open, trust_memory).await?;
        let facts = self.facts(commands, by_key, &drafts).await?;
        let mut decisions = Vec::with_capacity(drafts.len());
        let mut doubtful = Vec::new();
        for (key, draft) in drafts {
            let events = &by_key[&key];
            match decide_one(commands, events, draft, &facts, key, rest_ms) {
                Ok(decision) => decisions.push((key, decision)),
                // Refused on a remembered run: look at the real one.
                Err(Doubt) => doubtful.push(key),
            }
        }
        if !doubtful.is_empty() {
            let drafts = self.drafts(&doubtful, false).await?;
            let facts = self.facts(commands, by_key, &drafts).await?;
            for (key, draft) in drafts {
                if let Ok(decision) = decide_one(commands, &by_key[&key], draft, &facts, key, rest_ms) {
                    decisions.push((key, decision));
                }
            }
        }
        Ok(decisions)
    }

    async fn drafts(
        &self,
        keys: &[WorkflowKey],
        trust_memory: bool,
    ) -> Result<Vec<(WorkflowKey, Draft)>, StoreError> {
        let mut known: Vec<(WorkflowKey, Arc<KnownRun>, bool)> = Vec::with_capacity(keys.len());
        let mut missing = Vec::new();
        for key in keys {
            match self.caches().runs.get(key).filter(|_| trust_memory) {
                Some(run) => known.push((*key, run, true)),
                None => missing.push(*key),
            }
        }
        if !missing.is_empty() {
            for row in self.store().load_runs(&missing).await? {
                let run = match Run::decode(&row.run) {
                    Ok(run) => run,
                    Err(source) => {
                        // One broken row must not stop its neighbours; the
                        // operator is told which it is.
                        let error = StoreError::Corrupt { key: row.key, source };
                        tracing::error!(%error, "a run cannot be read and stays where it is");
                        metrics::counter!("galley_corrupt_runs_total").increment(1);
                        continue;
                    }
                };
                let read = KnownRun { definition: row.definition, version: row.version, run };
                known.push((row.key, Arc::new(read), false));
            }
        }
        let definitions: Vec<_> = known.iter().map(|(key, run, _)| (key.workspace, run.definition)).collect();
        let plans = self.caches().plans(self.store(), &definitions).await?;
        let plan_of =
            |id: i64| plans.iter().find(|(known, _)| *known == id).map(|(_, plan)| Arc::clone(plan));
        known
            .into_iter()
            .map(|(key, known, remembered)| {
                let plan = plan_of(known.definition).ok_or_else(|| {
                    StoreError::Schema(format!(
                        "table definitions, id {}: the row is missing",
                        known.definition
                    ))
                })?;
                let draft = Draft {
                    plan,
                    definition: known.definition,
                    expected: known.version,
                    run: known.run.clone(),
                    remembered,
                };
                Ok((key, draft))
            })
            .collect()
    }

    /// Saves decisions; answers with the workflows that have to be decided
    /// again.
    async fn save_all(
        &self,
        commands: &[Command],
        decisions: Vec<(WorkflowKey, Decision)>,
        applied: &mut Applied,
    ) -> Result<Vec<WorkflowKey>, StoreError> {
        let (unchanged, changed): (Vec<_>, Vec<_>) =
            decisions.into_iter().partition(|(_, decision)| decision.effects.is_empty());
        for (key, Decision { draft, verdicts, .. }) in unchanged {
            for (index, verdict) in verdicts {
                applied.verdicts[index] = verdict;
            }
            // A claim that was mine already comes with its run, as a new one.
            let known = KnownRun { definition: draft.definition, version: draft.expected, run: draft.run };
            applied.runs.insert(key, (draft.plan, Arc::new(known)));
        }
        let mut again = Vec::new();
        let mut parts = vec![changed];
        while let Some(mut part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            let (mut batch, written) = rows::of(commands, &mut part);
            let saved = match self.seal_batch(&mut batch).await {
                Ok(()) => self.store().save(batch).await,
                Err(error) => Err(error),
            };
            match saved {
                Ok(won) => {
                    for ((key, decision), known) in part.into_iter().zip(written) {
                        if won.contains(&key) {
                            self.note(key, decision, known, applied);
                        } else {
                            seen(Rescue::CompareAndSetLost);
                            self.caches().runs.remove(&key);
                            again.push(key);
                        }
                    }
                }
                Err(StoreError::TryAgain(cause)) => {
                    tracing::debug!(%cause, "a batch met a deadlock; repeating it");
                    seen(Rescue::DeadlockRetried);
                    part.iter().for_each(|(key, _)| {
                        self.caches().runs.remove(key);
                    });
                    again.extend(part.into_iter().map(|(key, _)| key));
                }
                Err(StoreError::Overtaken(what)) if part.len() == 1 => {
                    let (key, decision) = part.remove(0);
                    // Of several attempts of one workflow one wrote on what
                    // was not there any more, or one too many.
                    let one_of_them = matches!(what, Overtaken::Context | Overtaken::ContextFull);
                    if one_of_them && decision.effects.len() > 1 {
                        applied.apart.push((key, decision.effects.iter().map(|(index, _)| *index).collect()));
                        continue;
                    }
                    for (index, verdict) in decision.verdicts {
                        applied.verdicts[index] = match verdict {
                            Verdict::Done => Verdict::Overtaken(what),
                            other => other,
                        };
                    }
                }
                // One bad value must not take its neighbours down: halve until
                // it stands alone.
                Err(
                    cause @ (StoreError::Data(_) | StoreError::Constraint { .. } | StoreError::Sealed(_)),
                ) if part.len() == 1 => {
                    let (key, decision) = part.remove(0);
                    if decision.effects.len() > 1 {
                        // Several attempts of one workflow: one is to blame.
                        let events = decision.effects.iter().map(|(index, _)| *index);
                        applied.apart.push((key, events.collect()));
                        continue;
                    }
                    tracing::warn!(%cause, "what an attempt reported cannot be stored");
                    for (index, _) in decision.effects {
                        applied.verdicts[index] = Verdict::Unstorable(cause.to_string());
                    }
                    for (index, verdict) in decision.verdicts {
                        if !matches!(verdict, Verdict::Done) {
                            applied.verdicts[index] = verdict;
                        }
                    }
                }
                Err(
                    StoreError::Data(_)
                    | StoreError::Constraint { .. }
                    | StoreError::Overtaken(_)
                    | StoreError::Sealed(_),
                ) => {
                    metrics::counter!("galley_batches_bisected_total").increment(1);
                    seen(Rescue::BatchBisected);
                    let half = part.split_off(part.len() / 2);
                    parts.push(part);
                    parts.push(half);
                }
                Err(other) => {
                    // Perhaps it committed, perhaps not: remember nothing.
                    for (key, _) in &part {
                        self.caches().runs.remove(key);
                    }
                    return Err(other);
                }
            }
        }
        Ok(again)
    }

    /// Books what a winning decision led to.
    fn note(&self, key: WorkflowKey, decision: Decision, known: Arc<KnownRun>, applied: &mut Applied) {
        let Decision { draft, effects, verdicts, .. } = decision;
        for (index, verdict) in verdicts {
            applied.verdicts[index] = verdict;
        }
        let mut finished = false;
        for effect in effects.into_iter().flat_map(|(_, effects)| effects) {
            match effect {
                Effect::Enqueue { step, epoch, suspicion, priority } => {
                    let agent =
                        draft.plan.steps[usize::from(known.run.steps[usize::from(step)].plan)].agent.clone();
                    let crashes = suspicion;
                    let WorkflowKey { workspace, workflow } = key;
                    applied
                        .runnable
                        .push((agent, Ticket { workspace, workflow, step, epoch, crashes, priority }));
                }
                // An overdue attempt is past the end that its worker set it;
                // its neighbours in the workflow must not hear of it.
                Effect::Interrupt { .. } => {
                    if known.run.cancelled {
                        seen(Rescue::CancelWhileRunning);
                        applied.interrupted.push(key);
                    }
                }
                Effect::Finished(state) => {
                    finished = true;
                    applied.finished.push((key, state));
                }
                Effect::Died { why, .. } => {
                    match why {
                        Death::Attempts => seen(Rescue::DeadByAttempts),
                        Death::Crashes => seen(Rescue::DeadByCrashes),
                        Death::Permanent | Death::Condition(_) => {}
                    }
                    applied.died += 1;
                }
                Effect::Wait { .. }
                | Effect::StopWaiting { .. }
                | Effect::WaitForMoney { .. }
                | Effect::MoneyWaitOver { .. }
                | Effect::LetterClosed { .. } => {}
            }
        }
        if finished {
            self.caches().runs.remove(&key);
        } else {
            self.caches().runs.insert(key, Arc::clone(&known));
        }
        applied.runs.insert(key, (draft.plan, known));
    }
}

/// A remembered run refused an event: perhaps it is only old.
struct Doubt;

fn decide_one(
    commands: &[Command],
    events: &[usize],
    mut draft: Draft,
    known: &KnownFacts,
    key: WorkflowKey,
    rest_ms: u64,
) -> Result<Decision, Doubt> {
    let seq = seq_of(draft.expected) + 1;
    let result = |step| known.outputs.get(&(key, step)).cloned();
    let facts = Facts {
        seq,
        jitter: rand::random(),
        rest_ms,
        brief: known.briefs.get(&key).unwrap_or(&Value::Null),
        result: &result,
        unreadable: known.unreadable.get(&key).map(String::as_str),
    };
    let together = |index: &usize| matches!(&commands[*index].record, Record::Post(post) if post.together);
    let before = events.iter().any(together).then(|| draft.run.clone());
    let mut effects = Vec::new();
    let mut verdicts = Vec::with_capacity(events.len());
    for &index in events {
        let event = &commands[index].event;
        if let Record::Result(_, says) = &commands[index].record
            && says.count() > 0
            && draft.run.said.saturating_add(says.count()) > MOST_SAID
        {
            verdicts.push((index, Verdict::Overtaken(Overtaken::Silenced)));
            continue;
        }
        let judged = unfenced(&mut draft.run, event.clone());
        match decide(&draft.plan, &mut draft.run, judged, &facts) {
            Ok(mut follows) => {
                reset_epoch(&mut draft.run, event, &mut follows);
                if let Record::Result(_, says) = &commands[index].record {
                    draft.run.said = draft.run.said.saturating_add(says.count());
                }
                effects.push((index, follows));
                verdicts.push((index, Verdict::Done));
            }
            Err(refusal) if draft.remembered => {
                tracing::trace!(%refusal, "a remembered run refused; looking at the stored one");
                return Err(Doubt);
            }
            Err(refusal) if is_mine(&draft.run, event) && !planted(Bug::UnknownCommitFailed) => {
                // An earlier try of this very claim was committed unknown to us.
                seen(Rescue::ClaimWasMine);
                tracing::debug!(%refusal, "a claim was already mine");
                verdicts.push((index, Verdict::Done));
            }
            Err(refusal) => {
                if let Some(before) = before {
                    draft.run = before;
                    let refused = events.iter().map(|index| (*index, Verdict::Refused(refusal)));
                    return Ok(Decision { draft, seq, effects: Vec::new(), verdicts: refused.collect() });
                }
                verdicts.push((index, Verdict::Refused(refusal)));
            }
        }
    }
    Ok(Decision { draft, seq, effects, verdicts })
}

/// Whether a refused claim is in force already, with the very same nonce.
fn is_mine(run: &Run, event: &Event) -> bool {
    let Event::Claim { step, lease, .. } = event else { return false };
    run.step(*step).is_some_and(|step| step.lease == Some(*lease))
}
