//! Forgetting tickets in flight that nobody will forget any more.
//!
//! After a commit the tickets that are done are taken out of flight. That call
//! can be lost: the process dies in between, or Redis does not hear it. The
//! ticket would then hold a place under a limit until the longest its step
//! might have run. So what is in flight is compared with Postgres now and then.

use std::collections::HashMap;

use galley_core::ids::WorkflowKey;
use galley_core::run::{Run, StepState};
use galley_core::ticket::Ticket;
use galley_probe::{Point, Rescue, point, seen};

use crate::engine::Engine;
use crate::error::EngineError;

/// Tickets looked at in one go.
const PAGE: usize = 1_000;

/// Looks at every ticket in flight once; answers how many were forgotten.
///
/// An epoch never comes back, so a ticket that matches neither a queued nor a
/// running step now never will: forgetting it cannot race with anything.
///
/// # Errors
/// Postgres or Redis is away: begin again.
pub async fn forget_lost(engine: &Engine) -> Result<u64, EngineError> {
    let mut forgotten = 0;
    for agent in engine.fleet().reading().await?.agent_types() {
        let mut from = 0;
        loop {
            let tickets = engine.queue().in_flight(&agent, from, PAGE).await?;
            let lost: Vec<_> =
                lost(engine, &tickets).await?.into_iter().map(|t| (agent.clone(), t)).collect();
            if !lost.is_empty() {
                point(Point::PlacesRead);
                seen(Rescue::PlaceFreed);
                engine.queue().settle(&lost, &[]).await?;
            }
            forgotten += lost.len() as u64;
            if tickets.len() < PAGE {
                break;
            }
            // What was forgotten left its place to others.
            from += tickets.len() - lost.len();
        }
    }
    if forgotten > 0 {
        tracing::info!(tickets = forgotten, "forgot tickets whose steps had gone on without them");
        metrics::counter!("galley_places_freed_total").increment(forgotten);
    }
    Ok(forgotten)
}

async fn lost(engine: &Engine, tickets: &[Ticket]) -> Result<Vec<Ticket>, EngineError> {
    let mut keys: Vec<WorkflowKey> = tickets.iter().map(Ticket::key).collect();
    keys.sort_unstable();
    keys.dedup();
    let rows = engine.store().load_runs(&keys).await?;
    // A run that cannot be read keeps its tickets; one that is over has none.
    let runs: HashMap<WorkflowKey, Option<Run>> =
        rows.iter().map(|row| (row.key, Run::decode(&row.run).ok())).collect();
    let lives = |ticket: &Ticket| match runs.get(&ticket.key()) {
        None => false,
        Some(None) => true,
        Some(Some(run)) => run.step(ticket.step).is_some_and(|step| match step.state {
            StepState::Queued => step.epoch == ticket.epoch,
            StepState::Running => step.epoch == ticket.epoch + 1,
            _ => false,
        }),
    };
    Ok(tickets.iter().filter(|ticket| !lives(ticket)).copied().collect())
}
