//! Recording what attempts reported, in batches, exactly once each.

use std::collections::{HashMap, HashSet};

use galley_core::decide::{Event, Token};
use galley_core::ids::{AgentType, SessionId, StepIndex, WorkflowKey};
use galley_core::message::{MOST_CONTEXT_BYTES, MOST_SAID};
use galley_core::report::{Failure, StepError, StepOutput, Usage};
use galley_core::ticket::Ticket;
use galley_probe::{Bug, Point, Rescue, planted, point, seen};
use galley_store::{AttemptKey, AttemptWrite, Overtaken, ResultWrite, StoreError};

use crate::claim::Claimed;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::messages::count_said;
use crate::transition::{Applied, Command, Record, Verdict};

/// What an attempt reports.
#[derive(Clone, Debug)]
pub struct Report {
    /// The ticket it came from.
    pub ticket: Ticket,
    /// The agent type.
    pub agent: AgentType,
    /// Which attempt.
    pub token: Token,
    /// The session that ran it.
    pub session: SessionId,
    /// Monotonic run time, milliseconds.
    pub duration_ms: u32,
    /// How it ended.
    pub outcome: Outcome,
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// With an output.
    Succeeded(StepOutput),
    /// With an error that says what should follow.
    Failed(StepError),
    /// It never started: the attempt does not count.
    GivenBack,
}

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// It is in Postgres, by this call or by an earlier one of unknown outcome.
    Yes,
    /// The attempt was overtaken: its outcome was dropped, its bill kept.
    Stale,
}

impl Report {
    /// The report of a claim.
    pub fn of(claim: &Claimed, duration_ms: u32, outcome: Outcome) -> Self {
        Self {
            ticket: claim.ticket,
            agent: claim.agent.clone(),
            token: claim.token,
            session: claim.session,
            duration_ms,
            outcome,
        }
    }

    fn key(&self) -> WorkflowKey {
        self.ticket.key()
    }

    fn attempt(&self) -> AttemptKey {
        AttemptKey {
            key: self.key(),
            step: self.token.step,
            epoch: self.token.epoch,
            nonce: self.token.nonce.0,
            session: self.session,
        }
    }

    fn name(&self) -> (WorkflowKey, StepIndex, u64) {
        (self.key(), self.token.step, self.token.nonce.0)
    }

    fn is_unstorable(&self) -> bool {
        matches!(&self.outcome, Outcome::Failed(error) if error.class == "unstorable_output")
    }

    fn usage(&self) -> Option<&Usage> {
        match &self.outcome {
            Outcome::Succeeded(output) => Some(&output.usage),
            Outcome::Failed(error) => Some(&error.usage),
            Outcome::GivenBack => None,
        }
    }

    fn command(&self) -> Command {
        let token = self.token;
        let (event, record) = match &self.outcome {
            Outcome::Succeeded(output) => (
                Event::Succeeded { token },
                Record::Result(
                    ResultWrite {
                        attempt: self.attempt(),
                        duration_ms: self.duration_ms,
                        usage: output.usage.clone(),
                        output: output.output.get().into(),
                        sealed: None,
                    },
                    output.says.clone(),
                ),
            ),
            Outcome::Failed(error) => {
                (Event::Failed { token, failure: error.failure }, Record::Attempt(self.failed_attempt(error)))
            }
            Outcome::GivenBack => (Event::GivenBack { token }, Record::Nothing),
        };
        Command { key: self.key(), event, record }
    }

    fn failed_attempt(&self, error: &StepError) -> AttemptWrite {
        AttemptWrite {
            attempt: self.attempt(),
            outcome: match error.failure {
                Failure::Throttled { .. } => "throttled",
                Failure::Unfunded { .. } => "waiting_budget",
                Failure::Transient | Failure::Permanent => "failed",
            },
            class: storable(&error.class, 100),
            message: storable(&error.message, 4_000),
            duration_ms: Some(self.duration_ms),
            usage: error.usage.clone(),
        }
    }
}

/// Text that Postgres can store: without NUL, and not endless.
fn storable(text: &str, most: usize) -> String {
    text.chars().filter(|c| *c != '\0').take(most).collect()
}

/// The bill is real, whatever was wrong with the output or with its own texts.
fn storable_usage(usage: &Usage) -> Usage {
    let storable = |text: &String| storable(text, 200);
    Usage {
        provider: usage.provider.as_ref().map(storable),
        model: usage.model.as_ref().map(storable),
        ..usage.clone()
    }
}

impl Engine {
    /// Records reports in one transaction, then frees their tickets and pushes
    /// what became runnable. Repeating a report is harmless: it recognises
    /// itself.
    ///
    /// # Errors
    /// Postgres is away: nobody knows what was recorded, repeat all of them.
    pub async fn complete(&self, reports: &[Report]) -> Result<Vec<Recorded>, EngineError> {
        point(Point::CompleteReported);
        let commands: Vec<Command> = reports.iter().map(Report::command).collect();
        let mut applied = self.apply(&commands).await?;
        point(Point::CompleteCommitted);
        self.replace_unstorable(reports, &mut applied).await?;
        for (command, verdict) in commands.into_iter().zip(&applied.verdicts) {
            if let Record::Result(result, _) = command.record
                && (matches!(verdict, Verdict::Done) || planted(Bug::StaleIsMine))
            {
                let step = (result.attempt.key, result.attempt.step);
                self.caches().outputs.insert(step, result.output);
            }
        }
        let done: Vec<_> = reports.iter().map(|report| (report.agent.clone(), report.ticket)).collect();
        self.push(&done, &applied).await;
        point(Point::CompletePushed);
        self.forget_finished(&applied);
        let recorded = self.settle_refused(reports, &applied).await?;
        count(reports, &recorded);
        Ok(recorded)
    }

    /// A report that Postgres cannot store becomes a failure that it can; one
    /// that wrote on an entry of the shared context that is another's by now
    /// becomes another try.
    async fn replace_unstorable(&self, reports: &[Report], applied: &mut Applied) -> Result<(), StoreError> {
        let mut replaced = Vec::new();
        for (index, verdict) in applied.verdicts.iter().enumerate() {
            let error = match verdict {
                Verdict::Unstorable(why) => {
                    let told = format!("the output cannot be stored: {why}");
                    Some(StepError::permanent("unstorable_output", told))
                }
                Verdict::Overtaken(Overtaken::Silenced) => {
                    let told = format!(
                        "the steps of its workflow have said as much as they may, {MOST_SAID} things"
                    );
                    Some(StepError::permanent("bad_message", told))
                }
                Verdict::Overtaken(Overtaken::ContextFull) => {
                    let told = format!(
                        "with what it wrote, its workflow's shared context would hold more than \
                         {MOST_CONTEXT_BYTES} bytes"
                    );
                    Some(StepError::permanent("bad_message", told))
                }
                Verdict::Overtaken(what @ Overtaken::Context) => {
                    Some(StepError::transient("context_conflict", what.to_string()))
                }
                _ => None,
            };
            if let Some(error) = error {
                let usage = reports[index].usage().map(storable_usage).unwrap_or_default();
                let outcome = Outcome::Failed(error.with_usage(usage));
                replaced.push((index, Report { outcome, ..reports[index].clone() }));
            }
        }
        if replaced.is_empty() {
            return Ok(());
        }
        if replaced.iter().any(|(_, report)| report.is_unstorable()) {
            seen(Rescue::UnstorableOutput);
        }
        let commands: Vec<Command> = replaced.iter().map(|(_, report)| report.command()).collect();
        let second = self.apply(&commands).await?;
        for ((index, _), verdict) in replaced.iter().zip(second.verdicts) {
            applied.verdicts[*index] = verdict;
        }
        applied.runnable.extend(second.runnable);
        applied.finished.extend(second.finished);
        applied.died += second.died;
        Ok(())
    }

    /// Sorts refused reports into "it was me, before" and "overtaken".
    async fn settle_refused(
        &self,
        reports: &[Report],
        applied: &Applied,
    ) -> Result<Vec<Recorded>, StoreError> {
        let refused: Vec<usize> =
            (0..reports.len()).filter(|index| !matches!(applied.verdicts[*index], Verdict::Done)).collect();
        if refused.is_empty() {
            return Ok(vec![Recorded::Yes; reports.len()]);
        }
        let names: Vec<_> = refused.iter().map(|index| reports[*index].name()).collect();
        let mine: HashSet<_> = self.store().recorded_attempts(&names).await?.into_iter().collect();
        let mut recorded = vec![Recorded::Yes; reports.len()];
        let mut late = Vec::new();
        for (index, name) in refused.into_iter().zip(names) {
            if planted(Bug::StaleIsMine) {
                continue;
            }
            // What was reported of the attempt before was not that it goes back.
            let back = matches!(reports[index].outcome, Outcome::GivenBack);
            if mine.contains(&name) && !back && !planted(Bug::UnknownCommitFailed) {
                seen(Rescue::ResultWasMine);
                metrics::counter!("galley_unknown_commits_recovered_total").increment(1);
                continue;
            }
            seen(Rescue::StaleCompletion);
            recorded[index] = Recorded::Stale;
            let report = &reports[index];
            // The bill of an overtaken attempt is real.
            if let Some(usage) = report.usage().filter(|usage| **usage != Usage::default()) {
                late.push(AttemptWrite {
                    attempt: report.attempt(),
                    outcome: "overtaken",
                    class: "overtaken".into(),
                    message: "finished after the step was taken from it; only the bill was kept".into(),
                    duration_ms: Some(report.duration_ms),
                    usage: storable_usage(usage),
                });
            }
        }
        if !late.is_empty() {
            self.store().record_late_attempts(late).await?;
        }
        Ok(recorded)
    }

    fn forget_finished(&self, applied: &Applied) {
        for (key, _) in &applied.finished {
            self.caches().inputs.remove(key);
            if let Some((_, known)) = applied.runs.get(key) {
                for step in 0..known.run.steps.len() {
                    self.caches().outputs.remove(&(*key, step as StepIndex));
                }
            }
        }
    }
}

fn count(reports: &[Report], recorded: &[Recorded]) {
    metrics::histogram!("galley_complete_batch_size").record(reports.len() as f64);
    let mut steps: HashMap<(&AgentType, &'static str), u64> = HashMap::new();
    for (report, recorded) in reports.iter().zip(recorded) {
        let outcome = match (&report.outcome, recorded) {
            (_, Recorded::Stale) => "stale",
            (Outcome::Succeeded(_), _) => "succeeded",
            (Outcome::Failed(error), _) => match error.failure {
                Failure::Transient => "failed_transient",
                Failure::Throttled { .. } => "throttled",
                Failure::Unfunded { .. } => "waiting_budget",
                Failure::Permanent => "failed_permanent",
            },
            (Outcome::GivenBack, _) => {
                seen(Rescue::GivenBack);
                "given_back"
            }
        };
        *steps.entry((&report.agent, outcome)).or_default() += 1;
    }
    let said = reports.iter().zip(recorded).filter(|(_, recorded)| **recorded == Recorded::Yes);
    for (report, _) in said {
        if let Outcome::Succeeded(output) = &report.outcome {
            count_said(&report.agent, &output.says);
        }
    }
    for ((agent, outcome), n) in steps {
        metrics::counter!("galley_steps_total", "agent" => agent.to_string(), "outcome" => outcome)
            .increment(n);
    }
}
