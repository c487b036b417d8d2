//! Schedules whose time has come are submitted.
//!
//! A due time becomes a workflow through everything an ordinary submit goes
//! through, and the schedule moves on in the transaction that accepts it. The
//! workflow's idempotency key is the schedule and the instant: whatever crashes
//! or races, an instant is one workflow at most.

use futures::StreamExt;
use galley_core::schedule::{Missed, Recurrence};
use galley_probe::{Point, Rescue, point, seen};
use galley_store::{DueSchedule, ScheduleTurn, StoreError};

use crate::accept::{Submit, SubmitContext};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::policy::instant;
use crate::schedules::{MISSED, submitter};
use crate::vault::Row;

/// Schedules handled per round.
const BATCH: i64 = 200;

/// How many of them at once.
const AT_ONCE: usize = 8;

/// Longest reason that is kept, in characters.
const LONGEST_PROBLEM: usize = 1_000;

/// One round; answers how many schedules were due. Several schedulers may meet:
/// one of them moves a schedule on, the others find it changed.
///
/// # Errors
/// Postgres is away. What a schedule asks for and does not get is no error but
/// its problem, which is stored with it.
pub async fn submit_due_schedules(engine: &Engine) -> Result<usize, EngineError> {
    let due = engine.store().due_schedules(BATCH).await?;
    let count = due.len();
    if count > 0 {
        point(Point::ScheduleRead);
    }
    let turns = futures::stream::iter(due).map(|due| take_turn(engine, due)).buffer_unordered(AT_ONCE);
    // All of them, before the first error is told: one must not hold up others.
    let done: Vec<Result<(), EngineError>> = turns.collect().await;
    done.into_iter().collect::<Result<(), _>>()?;
    Ok(count)
}

async fn take_turn(engine: &Engine, due: DueSchedule) -> Result<(), EngineError> {
    let DueSchedule { workspace, row, now } = due;
    let Some(waited) = row.next_at else { return Ok(()) };
    let mut turn = ScheduleTurn {
        workspace,
        id: row.id,
        name: row.name.clone(),
        actor: "scheduler".into(),
        fence: Some((row.version, waited.clone())),
        at: waited.clone(),
        next_at: None,
    };
    let decided = match Recurrence::parse(&row.cron, &row.time_zone) {
        Ok(recurrence) => {
            let missed = Missed::from_word(&row.missed).unwrap_or_default();
            recurrence.turn(instant(&waited)?, instant(&now)?, missed)
        }
        // It could be read when it was stored: a zone that is no more.
        Err(problems) => return pass(engine, turn, false, &EngineError::Invalid(problems).to_string()).await,
    };
    turn.at = decided.at.to_string();
    turn.next_at = decided.next.map(|next| next.to_string());
    if !decided.run {
        let told = format!("{MISSED}: nobody looked before {now}, and its rule about missed times is `skip`");
        return pass(engine, turn, true, &told).await;
    }
    let request = match engine.open(Row::Schedule(workspace, row.id), row.submit).await? {
        Ok(request) => request,
        Err(why) => return pass(engine, turn, false, &why).await,
    };
    let submitted = match serde_json::from_str::<Submit>(&request) {
        Ok(submit) => {
            let context = SubmitContext {
                workspace,
                actor: submitter(&row.name),
                idempotency_key: format!("schedule:{}:{}", row.id, decided.at),
                traceparent: None,
            };
            engine.submit_scheduled(&context, &submit, turn.clone()).await
        }
        Err(error) => Err(EngineError::Internal(format!("its request cannot be read: {error}"))),
    };
    match submitted {
        Ok(submitted) => {
            if submitted.is_none() {
                seen(Rescue::ScheduleOvertaken);
            }
            if let Some(submitted) = submitted {
                metrics::counter!("galley_schedule_turns_total", "outcome" => "run").increment(1);
                tracing::info!(workflow.id = %submitted.workflow, schedule = row.name, "submitted a schedule");
            }
            Ok(())
        }
        Err(error) if error.is_transient() => Err(error),
        Err(error) => pass(engine, turn, false, &error.to_string()).await,
    }
}

/// The time becomes no workflow; the schedule goes on, and says why.
async fn pass(engine: &Engine, turn: ScheduleTurn, skipped: bool, problem: &str) -> Result<(), EngineError> {
    let name = turn.name.clone();
    let action = if skipped { "schedule.skip" } else { "schedule.refuse" };
    let kept = problem.chars().take(LONGEST_PROBLEM).collect();
    match engine.store().pass_scheduled(turn, action, kept).await {
        Ok(()) => {
            point(Point::SchedulePassed);
            if skipped {
                seen(Rescue::ScheduleMissed);
                metrics::counter!("galley_schedule_turns_total", "outcome" => "skipped").increment(1);
            } else {
                metrics::counter!("galley_schedule_turns_total", "outcome" => "refused").increment(1);
                tracing::warn!(schedule = name, problem, "a schedule's workflow was refused");
            }
            Ok(())
        }
        Err(StoreError::Overtaken(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
