//! Steps whose waiting time is over go back to their queue.

use galley_core::decide::Event;
use galley_probe::{Point, point};
use galley_store::{StoreError, TimerRow};

use crate::engine::Engine;
use crate::transition::{Command, Record, Verdict};

/// Timers handled per round.
const BATCH: i64 = 500;

/// One round; answers how many steps were queued. Several schedulers may meet:
/// the run decides once.
///
/// # Errors
/// Postgres is away.
pub async fn queue_due_steps(engine: &Engine) -> Result<usize, StoreError> {
    let timers = engine.store().due_timers(BATCH).await?;
    if timers.is_empty() {
        return Ok(0);
    }
    point(Point::DueRead);
    let commands: Vec<Command> = timers
        .iter()
        .map(|timer| Command {
            key: timer.key,
            event: Event::Due { step: timer.step, epoch: timer.epoch },
            record: Record::Nothing,
        })
        .collect();
    let applied = engine.apply(&commands).await?;
    point(Point::DueQueued);
    engine.push(&[], &applied).await;
    // A timer whose run refused it (or is gone) waits for nobody.
    let orphans: Vec<TimerRow> = timers
        .iter()
        .zip(&applied.verdicts)
        .filter(|(_, verdict)| matches!(verdict, Verdict::Refused(_) | Verdict::Gone))
        .map(|(timer, _)| *timer)
        .collect();
    let queued = timers.len() - orphans.len();
    if !orphans.is_empty() {
        point(Point::DueOrphaned);
        engine.store().drop_timers(orphans).await?;
    }
    metrics::counter!("galley_steps_due_total").increment(queued as u64);
    Ok(queued)
}
