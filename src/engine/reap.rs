//! Returning the steps of workers that died.
//!
//! A session is dead when its sequence number did not move for the TTL on this
//! process' own monotonic clock: clock jumps reap nobody. Any number of reapers
//! may run: closing is a compare-and-set, and returning a step is fenced.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use galley_core::decide::{Event, Token, suspicion};
use galley_core::ids::{AgentType, Epoch, SessionId, StepIndex, WorkflowKey};
use galley_core::plan::Plan;
use galley_core::report::Usage;
use galley_core::run::{Run, StepState};
use galley_core::ticket::Ticket;
use galley_probe::{Point, Rescue, point, seen};
use galley_store::{AttemptKey, AttemptWrite, RunRow, SessionRow, StoreError};

use crate::engine::Engine;
use crate::transition::{Applied, Command, Record, Verdict};

/// Returned steps per transaction.
const BATCH: usize = 500;

/// What one reaper remembers between its rounds.
#[derive(Debug, Default)]
pub struct Reaper {
    /// When each session was first seen at its current sequence number.
    seen: HashMap<SessionId, (i64, Instant)>,
    /// When each running attempt was first seen.
    running: HashMap<(WorkflowKey, StepIndex, Epoch), Instant>,
    /// When all running steps were last looked at.
    looked: Option<Instant>,
}

/// What one round did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reaped {
    /// Sessions declared dead.
    pub sessions: usize,
    /// Steps returned or declared dead.
    pub steps: usize,
    /// Steps taken from live sessions because they ran too long.
    pub overdue: usize,
}

/// A running step as a row says it.
struct Held {
    key: WorkflowKey,
    step: StepIndex,
    token: Token,
    session: SessionId,
    agent: AgentType,
    ticket: Ticket,
    timeout: std::time::Duration,
}

impl Reaper {
    /// One round: close dead sessions, return the steps of closed ones, take
    /// back steps that ran past their time.
    ///
    /// # Errors
    /// Postgres is away; nothing is forgotten.
    pub async fn run_once(&mut self, engine: &Engine) -> Result<Reaped, StoreError> {
        let sessions = engine.store().unswept_sessions().await?;
        let mut reaped = Reaped::default();
        let mut closed: HashMap<SessionId, SessionRow> = HashMap::new();
        let known: HashSet<SessionId> = sessions.iter().map(|session| session.id).collect();
        self.seen.retain(|id, _| known.contains(id));
        for session in sessions {
            if session.closed_at.is_some() || self.bury(engine, &session, &mut reaped).await? {
                closed.insert(session.id, session);
            }
        }
        if closed.is_empty() && self.looked.is_some_and(|at| at.elapsed() < engine.config().look_every) {
            return Ok(reaped);
        }
        // Read after closing: what the dead session's worker still commits
        // later, the next look finds by its unknown session.
        let held = self.held(engine).await?;
        self.looked = Some(Instant::now());
        self.take_overdue(engine, &held, &mut reaped).await?;
        let ttl = engine.config().session_ttl;
        let lost: Vec<&Held> = held
            .iter()
            .filter(|held| {
                closed.contains_key(&held.session)
                    || (!known.contains(&held.session) && self.seen_for(held) > ttl)
            })
            .collect();
        for part in lost.chunks(BATCH) {
            reaped.steps += give_back(engine, part, &closed).await?;
        }
        if lost.is_empty() && !closed.is_empty() {
            point(Point::ReapEmpty);
            let swept: Vec<SessionId> = closed.keys().copied().collect();
            engine.store().mark_swept(&swept).await?;
        }
        Ok(reaped)
    }

    /// Whether the session is dead now; closes it then.
    async fn bury(
        &mut self,
        engine: &Engine,
        session: &SessionRow,
        reaped: &mut Reaped,
    ) -> Result<bool, StoreError> {
        let now = Instant::now();
        let (seq, since) = *self
            .seen
            .entry(session.id)
            .and_modify(|(seq, since)| {
                if *seq != session.seq {
                    (*seq, *since) = (session.seq, now);
                }
            })
            .or_insert((session.seq, now));
        if now.duration_since(since) < engine.config().session_ttl {
            return Ok(false);
        }
        let buried = engine.store().close_session(session.id, Some(seq), "lost").await?;
        if buried {
            point(Point::ReapClosed);
            reaped.sessions += 1;
            metrics::counter!("galley_sessions_lost_total").increment(1);
            tracing::warn!(
                session.id = %session.id,
                "session {} (worker {} on {}, pid {}) is dead; returning its steps",
                session.id, session.opened.worker, session.opened.host, session.opened.pid
            );
        }
        Ok(buried)
    }

    /// How long an attempt has been seen running. A step that was seen for
    /// longer than a session takes to open cannot belong to a session that is
    /// only too new to be known.
    fn seen_for(&self, held: &Held) -> std::time::Duration {
        let name = (held.key, held.step, held.token.epoch);
        self.running.get(&name).map_or(std::time::Duration::ZERO, Instant::elapsed)
    }

    async fn held(&self, engine: &Engine) -> Result<Vec<Held>, StoreError> {
        let rows = engine.store().running_runs().await?;
        let mut held = Vec::with_capacity(rows.len());
        for row in rows {
            held_in(engine, &row, &mut held).await?;
        }
        Ok(held)
    }

    async fn take_overdue(
        &mut self,
        engine: &Engine,
        held: &[Held],
        reaped: &mut Reaped,
    ) -> Result<(), StoreError> {
        let now = Instant::now();
        let mut still = HashMap::with_capacity(held.len());
        let mut overdue = Vec::new();
        for held in held {
            let name = (held.key, held.step, held.token.epoch);
            let since = self.running.get(&name).copied().unwrap_or(now);
            still.insert(name, since);
            if now.duration_since(since) > held.timeout + engine.config().overdue_grace {
                overdue.push(held);
            }
        }
        self.running = still;
        for part in overdue.chunks(BATCH) {
            let commands: Vec<Command> = part
                .iter()
                .map(|held| Command {
                    key: held.key,
                    event: Event::Overdue { token: held.token },
                    record: Record::Attempt(attempt(
                        held,
                        "overdue",
                        "timeout",
                        format!("ran longer than its {} s", held.timeout.as_secs()),
                    )),
                })
                .collect();
            let applied = engine.apply(&commands).await?;
            point(Point::ReapOverdue);
            let done = tickets_done(part, &applied);
            if !done.is_empty() {
                seen(Rescue::Overdue);
            }
            reaped.overdue += done.len();
            metrics::counter!("galley_steps_overdue_total").increment(done.len() as u64);
            engine.push(&done, &applied).await;
        }
        Ok(())
    }
}

async fn give_back(
    engine: &Engine,
    lost: &[&Held],
    closed: &HashMap<SessionId, SessionRow>,
) -> Result<usize, StoreError> {
    let commands: Vec<Command> = lost
        .iter()
        .map(|held| {
            let who = closed.get(&held.session).map_or_else(
                || "its worker".to_owned(),
                |session| {
                    format!(
                        "worker {} (pid {} on {})",
                        session.opened.worker, session.opened.pid, session.opened.host
                    )
                },
            );
            Command {
                key: held.key,
                event: Event::LeaseLost { step: held.step, session: held.session },
                record: Record::Attempt(attempt(
                    held,
                    "crashed",
                    "worker_lost",
                    format!("{who} was lost while it ran this step"),
                )),
            }
        })
        .collect();
    let applied = engine.apply(&commands).await?;
    point(Point::ReapReturned);
    let done = tickets_done(lost, &applied);
    if !done.is_empty() {
        seen(Rescue::Reap);
    }
    metrics::counter!("galley_steps_reaped_total").increment(done.len() as u64);
    engine.push(&done, &applied).await;
    Ok(done.len())
}

fn tickets_done(held: &[&Held], applied: &Applied) -> Vec<(AgentType, Ticket)> {
    held.iter()
        .zip(&applied.verdicts)
        .filter(|(_, verdict)| matches!(verdict, Verdict::Done))
        .map(|(held, _)| (held.agent.clone(), held.ticket))
        .collect()
}

fn attempt(held: &Held, outcome: &'static str, class: &str, message: String) -> AttemptWrite {
    AttemptWrite {
        attempt: AttemptKey {
            key: held.key,
            step: held.step,
            epoch: held.token.epoch,
            nonce: held.token.nonce.0,
            session: held.session,
        },
        outcome,
        class: class.into(),
        message,
        duration_ms: None,
        usage: Usage::default(),
    }
}

async fn held_in(engine: &Engine, row: &RunRow, held: &mut Vec<Held>) -> Result<(), StoreError> {
    let Ok(run) = Run::decode(&row.run) else {
        // Counted and logged where it is next decided on.
        return Ok(());
    };
    let plan = engine.caches().plan(engine.store(), row.key.workspace, row.definition).await?;
    for (index, step) in run.steps.iter().enumerate().filter(|(_, step)| step.state == StepState::Running) {
        let Some(lease) = step.lease else { continue };
        let index = index as StepIndex;
        let plan_step = &plan.steps[usize::from(step.plan)];
        held.push(Held {
            key: row.key,
            step: index,
            token: Token { step: index, epoch: step.epoch, nonce: lease.nonce },
            session: lease.session,
            agent: plan_step.agent.clone(),
            ticket: running_ticket(row.key, &run, index, &plan),
            timeout: std::time::Duration::from_millis(plan_step.retry.timeout_ms),
        });
    }
    Ok(())
}

/// The ticket a running step was claimed with: it was queued one epoch before.
pub(crate) fn running_ticket(key: WorkflowKey, run: &Run, step: StepIndex, plan: &Plan) -> Ticket {
    let state = &run.steps[usize::from(step)];
    Ticket { epoch: state.epoch.saturating_sub(1), ..ticket_of(key, run, step, plan) }
}

/// The ticket of a queued step.
pub(crate) fn ticket_of(key: WorkflowKey, run: &Run, step: StepIndex, plan: &Plan) -> Ticket {
    let state = &run.steps[usize::from(step)];
    let max_crashes = plan.steps[usize::from(state.plan)].retry.max_crashes;
    Ticket {
        workspace: key.workspace,
        workflow: key.workflow,
        step,
        epoch: state.epoch,
        crashes: suspicion(state.crashes, max_crashes),
        priority: run.priority,
    }
}
