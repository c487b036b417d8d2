//! Making Redis agree with Postgres: the guarantee behind the immediate push.
//!
//! The reconciler walks all live runs, round after round, and pushes every
//! queued step; the queue ignores those it has. The rebuild does the same at
//! full speed when the queue lost its memory, and puts pauses, limits and
//! running steps back first.

use galley_core::decide::Event;
use galley_core::ids::{AgentType, StepIndex, WorkflowKey};
use galley_core::run::{Run, StepState, WorkflowState};
use galley_core::ticket::Ticket;
use galley_probe::{Bug, Point, Rescue, planted, point, seen};
use galley_store::RunRow;
use std::time::Duration;

use crate::engine::Engine;
use crate::error::EngineError;
use crate::reap::{running_ticket, ticket_of};
use crate::transition::{Command, Record};

/// Where a walk over all live runs stands.
#[derive(Debug, Default)]
pub struct Reconciler {
    after: Option<WorkflowKey>,
}

/// What one page did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Runs looked at.
    pub runs: usize,
    /// Tickets that were missing and are back.
    pub pushed: u64,
    /// Workflows that stood still and were started.
    pub started: usize,
    /// Whether the walk reached its end.
    pub round_over: bool,
}

/// What a page of runs holds.
#[derive(Default)]
struct Page {
    queued: Vec<(AgentType, Ticket)>,
    running: Vec<(AgentType, Ticket)>,
    unstarted: Vec<WorkflowKey>,
}

impl Reconciler {
    /// One page.
    ///
    /// # Errors
    /// Postgres or Redis is away; the walk goes on from the same place.
    pub async fn run_once(&mut self, engine: &Engine) -> Result<Reconciled, EngineError> {
        if planted(Bug::NoReconciler) {
            return Ok(Reconciled { round_over: true, ..Reconciled::default() });
        }
        let limit = engine.config().page;
        let rows = engine.store().page_runs(self.after, limit as i64).await?;
        let round_over = rows.len() < limit;
        let page = read_page(engine, &rows).await?;
        if !page.queued.is_empty() {
            point(Point::ReconcileRead);
        }
        let pushed = engine.queue().push(&page.queued).await?;
        if pushed > 0 {
            seen(Rescue::ReconcilePush);
            point(Point::ReconcilePushed);
        }
        metrics::counter!("galley_reconciled_tickets_total").increment(pushed);
        let started = start_unstarted(engine, &page.unstarted).await?;
        self.after = if round_over { None } else { rows.last().map(|row| row.key) };
        Ok(Reconciled { runs: rows.len(), pushed, started, round_over })
    }
}

/// Workflows that were stored but not started (see `accept`).
async fn start_unstarted(engine: &Engine, keys: &[WorkflowKey]) -> Result<usize, EngineError> {
    if keys.is_empty() {
        return Ok(0);
    }
    let commands: Vec<Command> = keys
        .iter()
        .map(|key| Command { key: *key, event: Event::Accepted, record: Record::Nothing })
        .collect();
    let applied = engine.apply(&commands).await?;
    seen(Rescue::ReconcileStart);
    point(Point::ReconcileStarted);
    engine.push(&[], &applied).await;
    Ok(keys.len())
}

async fn read_page(engine: &Engine, rows: &[RunRow]) -> Result<Page, EngineError> {
    let mut page = Page::default();
    for row in rows {
        let run = match Run::decode(&row.run) {
            Ok(run) => run,
            Err(error) => {
                tracing::error!(%error, workflow.id = %row.key.workflow, "run {} cannot be read and stays where it is", row.key.workflow);
                continue;
            }
        };
        let plan = engine.caches().plan(engine.store(), row.key.workspace, row.definition).await?;
        let mut moving = false;
        for (index, step) in run.steps.iter().enumerate() {
            let index = index as StepIndex;
            let agent = || plan.steps[usize::from(step.plan)].agent.clone();
            match step.state {
                StepState::Queued if planted(Bug::MarkBeforePush) => {}
                StepState::Queued => page.queued.push((agent(), ticket_of(row.key, &run, index, &plan))),
                StepState::Running => {
                    page.running.push((agent(), running_ticket(row.key, &run, index, &plan)));
                }
                _ => {}
            }
            moving |= !matches!(step.state, StepState::Blocked);
        }
        if !moving && run.state(&plan) == WorkflowState::Stalled {
            page.unstarted.push(row.key);
        }
    }
    Ok(page)
}

/// How long a restored running step counts as in flight.
const RESTORED_FLIGHT: Duration = Duration::from_secs(600);

/// Rebuilds the queues of agents that lost their memory; answers how many
/// tickets came back. Does nothing, cheaply, when none did.
///
/// # Errors
/// Postgres or Redis is away: begin again.
pub async fn rebuild(engine: &Engine) -> Result<u64, EngineError> {
    let reading = engine.fleet().fresh().await?;
    let agents = reading.agent_types();
    let lost = engine.queue().unbuilt(&agents).await?;
    if lost.is_empty() {
        return Ok(0);
    }
    let begun = std::time::Instant::now();
    let build = engine.queue().begin_build(&lost).await?;
    point(Point::RebuildBegun);
    let mut controls = reading.controls();
    controls.agents.retain(|(agent, _)| lost.contains(agent));
    engine.queue().mirror(&controls).await?;
    point(Point::RebuildMirrored);
    let mut after = None;
    let mut pushed = 0;
    loop {
        let rows = engine.store().page_runs(after, engine.config().page as i64).await?;
        let Some(last) = rows.last() else { break };
        after = Some(last.key);
        let mut page = read_page(engine, &rows).await?;
        page.running.retain(|(agent, _)| lost.contains(agent));
        page.queued.retain(|(agent, _)| lost.contains(agent));
        if !page.running.is_empty() {
            engine.queue().claimed(&page.running, RESTORED_FLIGHT).await?;
        }
        pushed += engine.queue().push(&page.queued).await?;
        if rows.len() < engine.config().page {
            break;
        }
    }
    point(Point::RebuildPushed);
    let void = engine.queue().mark_built(&build).await?;
    metrics::counter!("galley_rebuilds_total").increment(1);
    if pushed > 0 {
        seen(Rescue::Rebuild);
    }
    metrics::counter!("galley_rebuilt_tickets_total").increment(pushed);
    tracing::info!(
        agents = lost.len(),
        void = void.len(),
        pushed,
        took_ms = begun.elapsed().as_millis() as u64,
        "rebuilt the queues of {} agents: {pushed} tickets",
        lost.len()
    );
    Ok(pushed)
}
