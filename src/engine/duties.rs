//! The scheduler's duties: each a `run_once` of its own file, looped here until
//! told to stop. Any number of schedulers may run.

use std::future::Future;
use std::time::Duration;

use galley_probe::{Rescue, seen};
use tokio_util::sync::CancellationToken;

use crate::answer::expire_questions;
use crate::audit::seal_audit;
use crate::backoff::Backoff;
use crate::budgets::{charge_lost, fund_waiting};
use crate::coordinate::forget_responses;
use crate::due::queue_due_steps;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::forget::forget_finished;
use crate::messages::time_out_requests;
use crate::reap::Reaper;
use crate::reconcile::{Reconciler, rebuild};
use crate::recurring::submit_due_schedules;
use crate::sweep::forget_lost;

/// How often each duty looks. Latencies, not deadlines.
const DUE_EVERY: Duration = Duration::from_millis(100);
const QUESTIONS_EVERY: Duration = Duration::from_secs(1);
const SCHEDULES_EVERY: Duration = Duration::from_secs(1);
const SEAL_EVERY: Duration = Duration::from_secs(1);
const FORGET_EVERY: Duration = Duration::from_secs(15);
const RESPONSES_EVERY: Duration = Duration::from_secs(10);
const REQUESTS_EVERY: Duration = Duration::from_secs(1);
const MONEY_EVERY: Duration = Duration::from_millis(500);
const REBUILD_EVERY: Duration = Duration::from_millis(300);
const EXPIRE_EVERY: Duration = Duration::from_millis(500);
const MIRROR_EVERY: Duration = Duration::from_secs(5);
const GAUGES_EVERY: Duration = Duration::from_secs(5);
/// Between two rounds of the reconciler over everything.
const ROUND_EVERY: Duration = Duration::from_secs(2);
/// In-flight tickets given back per agent and look.
const EXPIRE_BATCH: usize = 10_000;

/// Runs all duties until told to stop.
pub async fn run_duties(engine: &Engine, stop: &CancellationToken) {
    let reap_every = engine.config().session_ttl / 8;
    tokio::join!(
        every(DUE_EVERY, stop, "queue due steps", || async {
            // A full batch means more is waiting.
            while queue_due_steps(engine).await? > 0 {}
            Ok(())
        }),
        every(QUESTIONS_EVERY, stop, "expire approvals", || async {
            while expire_questions(engine).await? > 0 {}
            Ok(())
        }),
        every(SCHEDULES_EVERY, stop, "submit due schedules", || async {
            while submit_due_schedules(engine).await? > 0 {}
            Ok(())
        }),
        every(SEAL_EVERY, stop, "seal the audit", || async {
            while seal_audit(engine).await? > 0 {}
            Ok(())
        }),
        every(FORGET_EVERY, stop, "forget what is finished", || async {
            forget_finished(engine).await?;
            Ok(())
        }),
        every(MONEY_EVERY, stop, "let steps on that there is money for", || async {
            fund_waiting(engine).await.map(drop)
        }),
        every(engine.config().look_every, stop, "charge lost calls", || async {
            charge_lost(engine).await?;
            Ok(())
        }),
        every(RESPONSES_EVERY, stop, "forget kept answers", || async {
            while forget_responses(engine).await? > 0 {}
            Ok(())
        }),
        every(REQUESTS_EVERY, stop, "time requests out", || async {
            while time_out_requests(engine).await? > 0 {}
            Ok(())
        }),
        every(REBUILD_EVERY, stop, "rebuild lost queues", || async { rebuild(engine).await.map(|_| ()) }),
        every(EXPIRE_EVERY, stop, "return unclaimed tickets", || expire(engine)),
        every(engine.config().look_every, stop, "compare what is in flight with what runs", || async {
            forget_lost(engine).await.map(drop)
        }),
        every(MIRROR_EVERY, stop, "mirror controls", || mirror(engine)),
        every(GAUGES_EVERY, stop, "measure queues", || crate::gauges::measure(engine)),
        Box::pin(reap(engine, reap_every, stop)),
        Box::pin(reconcile(engine, stop)),
    );
}

/// Calls a duty on a timer; a failure is logged once and waited out.
async fn every<F, Fut>(period: Duration, stop: &CancellationToken, what: &str, duty: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<(), EngineError>>,
{
    let mut backoff = Backoff::patient();
    loop {
        let done = tokio::select! {
            // On the heap: all duties together would be a large future.
            done = Box::pin(duty()) => done,
            () = stop.cancelled() => return,
        };
        match done {
            Ok(()) => {
                backoff = Backoff::patient();
                pause(period, stop).await;
            }
            Err(error) => {
                tracing::warn!(%error, "could not {what}; trying again");
                tokio::select! { () = backoff.wait() => {}, () = stop.cancelled() => return }
            }
        }
        if stop.is_cancelled() {
            return;
        }
    }
}

async fn pause(period: Duration, stop: &CancellationToken) {
    tokio::select! { () = tokio::time::sleep(period) => {}, () = stop.cancelled() => {} }
}

async fn reap(engine: &Engine, period: Duration, stop: &CancellationToken) {
    let reaper = tokio::sync::Mutex::new(Reaper::default());
    every(period, stop, "reap dead sessions", || async {
        let reaped = reaper.lock().await.run_once(engine).await?;
        if reaped != crate::reap::Reaped::default() {
            tracing::info!(
                sessions = reaped.sessions,
                steps = reaped.steps,
                overdue = reaped.overdue,
                "reaped"
            );
        }
        Ok(())
    })
    .await;
}

async fn reconcile(engine: &Engine, stop: &CancellationToken) {
    let mut reconciler = Reconciler::default();
    let mut backoff = Backoff::patient();
    while !stop.is_cancelled() {
        let page = tokio::select! {
            page = reconciler.run_once(engine) => page,
            () = stop.cancelled() => return,
        };
        match page {
            Ok(page) => {
                backoff = Backoff::patient();
                if page.pushed > 0 || page.started > 0 {
                    tracing::info!(pushed = page.pushed, started = page.started, "reconciled");
                }
                let rest = if page.round_over {
                    ROUND_EVERY
                } else {
                    Duration::from_secs_f64(page.runs as f64 / engine.config().reconcile_rate as f64)
                };
                pause(rest, stop).await;
            }
            Err(error) => {
                tracing::warn!(%error, "could not reconcile; trying again");
                tokio::select! { () = backoff.wait() => {}, () = stop.cancelled() => return }
            }
        }
    }
}

async fn expire(engine: &Engine) -> Result<(), EngineError> {
    for agent in engine.fleet().reading().await?.agent_types() {
        let returned = engine.queue().expire(&agent, EXPIRE_BATCH).await?;
        if returned > 0 {
            seen(Rescue::TicketExpired);
        }
        metrics::counter!("galley_tickets_expired_total").increment(returned);
    }
    Ok(())
}

async fn mirror(engine: &Engine) -> Result<(), EngineError> {
    let reading = engine.fleet().fresh().await?;
    engine.queue().mirror(&reading.controls()).await?;
    Ok(())
}
