//! One attempt: run the agent, within its time, whatever it does.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use galley_agents::{Registry, StepContext};
use galley_core::ids::WorkflowKey;
use galley_core::publish::PUBLISHER;
use galley_core::report::StepError;
use galley_engine::{Claimed, Engine, Outcome, Report};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::desk::AttemptDesk;
use crate::gate::Slot;
use crate::publish::Postman;

/// How long a cancelled agent may take to stop by itself (and report its bill)
/// before it is dropped.
const CANCEL_GRACE: Duration = Duration::from_secs(1);

/// A claimed step on its way through the worker.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) claim: Arc<Claimed>,
    /// Given back when the last holder is done with it: the committer.
    pub(crate) slot: Arc<(Slot, Slot)>,
    /// Fires when the outcome is not wanted any more.
    pub(crate) cancelled: CancellationToken,
}

/// How an attempt ended, and how long it took.
#[derive(Debug)]
pub(crate) struct Ended {
    /// `None`: it is recorded already.
    pub(crate) outcome: Option<Outcome>,
    pub(crate) took: Duration,
}

/// A report on its way to Postgres, with the slot it frees once it is there.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) report: Report,
    pub(crate) slot: Arc<(Slot, Slot)>,
}

impl Attempt {
    /// Its report, unless it was recorded already.
    pub(crate) fn finished(self, ended: Ended) -> Option<Finished> {
        let duration_ms = u32::try_from(ended.took.as_millis()).unwrap_or(u32::MAX);
        let outcome = ended.outcome?;
        Some(Finished { report: Report::of(&self.claim, duration_ms, outcome), slot: self.slot })
    }
}

/// The attempts that run now, so that a cancelled workflow's can be stopped.
#[derive(Debug, Default)]
pub(crate) struct Running {
    tokens: Mutex<HashMap<WorkflowKey, Vec<(u64, CancellationToken)>>>,
}

impl Running {
    pub(crate) fn add(&self, claim: &Claimed, token: CancellationToken) {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.entry(claim.key()).or_default().push((claim.token.nonce.0, token));
    }

    pub(crate) fn remove(&self, key: WorkflowKey, nonce: u64) {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(attempts) = tokens.get_mut(&key) {
            attempts.retain(|(other, _)| *other != nonce);
            if attempts.is_empty() {
                tokens.remove(&key);
            }
        }
    }

    /// Stops the attempts of a workflow.
    pub(crate) fn cancel(&self, key: WorkflowKey) {
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, token) in tokens.get(&key).into_iter().flatten() {
            token.cancel();
        }
    }
}

/// What running an attempt needs.
#[derive(Debug)]
pub(crate) struct Runner {
    pub(crate) engine: Engine,
    pub(crate) registry: Arc<Registry>,
    /// Runs publish steps, where this worker has adapters.
    pub(crate) postman: Option<Postman>,
    /// The second stop signal: unfinished attempts are given back.
    pub(crate) hard_stop: CancellationToken,
}

impl Runner {
    /// Runs one attempt to its outcome. Never panics, never takes longer than
    /// the step's time.
    pub(crate) async fn run(&self, attempt: &Attempt) -> Ended {
        let begun = Instant::now();
        let claim = &attempt.claim;
        let span = tracing::info_span!(
            "step",
            workspace.id = %claim.ticket.workspace,
            workflow.id = %claim.ticket.workflow,
            step = claim.step_name,
            agent = %claim.agent,
            attempt = claim.attempt,
            traceparent = claim.traceparent.as_deref(),
        );
        let outcome = match &self.postman {
            Some(postman) if claim.agent.as_str() == PUBLISHER => {
                // Apart: the larger of the two would be every attempt's size.
                Box::pin(self.delivered(postman, attempt)).instrument(span).await
            }
            _ => Some(self.outcome(attempt).instrument(span).await),
        };
        let took = begun.elapsed();
        metrics::histogram!("galley_step_seconds", "agent" => claim.agent.to_string())
            .record(took.as_secs_f64());
        Ended { outcome, took }
    }

    /// Runs a publish step. Whatever ends it early says nothing about the post:
    /// given back with an open intent, the run makes it unknown.
    async fn delivered(&self, postman: &Postman, attempt: &Attempt) -> Option<Outcome> {
        if self.hard_stop.is_cancelled() {
            return Some(Outcome::GivenBack);
        }
        let deliver = AssertUnwindSafe(postman.deliver(attempt)).catch_unwind();
        tokio::select! {
            biased;
            done = deliver => match done {
                Ok(()) => None,
                Err(panic) => {
                    tracing::error!("{}", panic_text(panic.as_ref()));
                    Some(Outcome::GivenBack)
                }
            },
            () = self.stopped_hard(attempt) => Some(Outcome::GivenBack),
        }
    }

    async fn outcome(&self, attempt: &Attempt) -> Outcome {
        let claim = &attempt.claim;
        let Some(agent) = self.registry.get(&claim.agent) else {
            // It was asked for by name, so this process registered it once.
            return Outcome::GivenBack;
        };
        if self.hard_stop.is_cancelled() {
            return Outcome::GivenBack;
        }
        let context = StepContext {
            workspace: claim.ticket.workspace,
            workflow: claim.ticket.workflow,
            step_name: claim.step_name.clone(),
            agent: claim.agent.clone(),
            attempt: claim.attempt,
            effect_key: claim.effect_key.clone(),
            input: claim.input.clone(),
            inbox: Arc::clone(&claim.inbox),
            cancelled: attempt.cancelled.clone(),
            timeout: claim.timeout,
            desk: Arc::new(AttemptDesk {
                engine: self.engine.clone(),
                claim: Arc::clone(claim),
                cancelled: attempt.cancelled.clone(),
            }),
        };
        let run = AssertUnwindSafe(agent.run(context)).catch_unwind();
        tokio::select! {
            biased;
            outcome = run => match outcome {
                Ok(Ok(output)) => Outcome::Succeeded(output),
                // It obeyed the second stop signal: that is no failure.
                Ok(Err(error)) if error.class == "cancelled" && self.hard_stop.is_cancelled() => {
                    Outcome::GivenBack
                }
                Ok(Err(error)) => {
                    tracing::debug!(%error, "attempt failed");
                    Outcome::Failed(error)
                }
                Err(panic) => Outcome::Failed(StepError::transient("panic", panic_text(panic.as_ref()))),
            },
            () = tokio::time::sleep(claim.timeout) => {
                let limit = claim.timeout.as_secs_f64();
                Outcome::Failed(StepError::transient("timeout", format!("ran longer than its {limit} s")))
            }
            // Before the next: it fires that one's token, too.
            () = self.stopped_hard(attempt) => Outcome::GivenBack,
            () = stopped(&attempt.cancelled) => {
                Outcome::Failed(StepError::transient("cancelled", "nobody waits for this attempt any more"))
            }
        }
    }

    /// Tells the agent that the process ends, and gives it a moment to stop.
    async fn stopped_hard(&self, attempt: &Attempt) {
        self.hard_stop.cancelled().await;
        attempt.cancelled.cancel();
        tokio::time::sleep(CANCEL_GRACE).await;
    }
}

/// The time an agent gets after its token fired.
async fn stopped(token: &CancellationToken) {
    token.cancelled().await;
    tokio::time::sleep(CANCEL_GRACE).await;
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    format!("the agent panicked: {}", text.unwrap_or_else(|| "without a message".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<'a, F>(_: impl FnOnce(&'a Runner, &'a Attempt) -> F) -> usize {
        size_of::<F>()
    }

    /// Ten thousand of them are in memory at once: what is rare or short stands
    /// apart, on the heap. With the postman's way inside it were 24 kB.
    #[test]
    fn an_attempt_that_waits_for_its_agent_is_small() {
        let bytes = size(Runner::run);
        assert!(bytes <= 6 * 1_024, "{bytes} bytes");
    }
}
