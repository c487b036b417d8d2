//! One agent type's way through a worker: pop, claim, hand to apalis.
//!
//! Claims only what can start now: a slot is taken before a ticket is popped.
//! Steps that were part of crashes start only when few enough others run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use galley_core::decide::allowed_co_runners;
use galley_core::ids::AgentType;
use galley_core::ticket::Ticket;
use galley_engine::{Backoff, Engine, EngineError, Session};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::attempt::{Attempt, Running};
use crate::gate::{Gate, Slot};

/// Most tickets per pop.
const LARGEST_POP: usize = 256;

/// While there is a backlog, this long a lane waits for half a pop of room
/// before it makes do with less: claims in batches, but no idle slots.
const ROOM_PATIENCE: Duration = Duration::from_millis(2);

/// An idle lane looks at its queue this often although nobody woke it.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a stop waits for a pop that is under way.
const STOP_PATIENCE: Duration = Duration::from_millis(500);

/// Fetches one agent type's steps.
pub(crate) struct Lane {
    pub(crate) engine: Engine,
    pub(crate) agent: AgentType,
    pub(crate) gate: Arc<Gate>,
    pub(crate) running: Arc<Running>,
    /// Most steps of this agent at once in this process.
    pub(crate) most: Arc<Gate>,
    pub(crate) woken: Arc<Notify>,
    pub(crate) session: watch::Receiver<Option<Session>>,
    pub(crate) soft_stop: CancellationToken,
    pub(crate) attempts: mpsc::UnboundedSender<Attempt>,
}

impl Lane {
    /// Fetches until told to stop. What it took and did not start, it gives
    /// back.
    pub(crate) async fn fetch(mut self) {
        let mut backoff = Backoff::quick();
        let mut backlog = false;
        while !self.soft_stop.is_cancelled() {
            let Some(session) = self.live_session().await else { return };
            let Some(slots) = self.slots(backlog).await else { return };
            if slots.is_empty() {
                continue;
            }
            let popped = tokio::select! {
                popped = self.engine.pop(&self.agent, slots.len()) => popped,
                // Stores that are away must not hold up the stop; a ticket
                // popped all the same returns at its deadline.
                () = after(&self.soft_stop, STOP_PATIENCE) => return,
            };
            match popped {
                Ok(popped) if popped.tickets.is_empty() => {
                    drop(slots);
                    backlog = false;
                    backoff = Backoff::quick();
                    self.sleep_until_woken().await;
                }
                Ok(popped) => {
                    backoff = Backoff::quick();
                    backlog = popped.ready_left > 0;
                    self.start(&session, popped.tickets, slots).await;
                }
                Err(error) => {
                    drop(slots);
                    tracing::warn!(%error, agent = %self.agent, "could not pop from queue {}; trying again", self.agent);
                    tokio::select! { () = backoff.wait() => {}, () = self.soft_stop.cancelled() => return }
                }
            }
        }
    }

    async fn live_session(&mut self) -> Option<Session> {
        loop {
            if let Some(session) = self.session.borrow_and_update().clone().filter(Session::is_live) {
                return Some(session);
            }
            tokio::select! {
                changed = self.session.changed() => changed.ok()?,
                () = self.soft_stop.cancelled() => return None,
                // A session can stop being live before anybody says so.
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
            }
        }
    }

    async fn slots(&self, backlog: bool) -> Option<Vec<(Slot, Slot)>> {
        let wanted = LARGEST_POP.min(self.gate.capacity());
        tokio::select! {
            () = async { tokio::join!(self.gate.room(1), self.most.room(1)); } => {}
            () = self.soft_stop.cancelled() => return None,
        }
        if backlog && self.gate.free() < wanted / 2 {
            let _ = tokio::time::timeout(ROOM_PATIENCE, self.gate.room(wanted / 2)).await;
        }
        let mine = self.most.take(wanted, None);
        let shared = self.gate.take(mine.len(), None);
        Some(shared.into_iter().zip(mine).collect())
    }

    async fn sleep_until_woken(&self) {
        let jitter = rand::random_range(0.75..1.25);
        tokio::select! {
            () = self.woken.notified() => {}
            () = tokio::time::sleep(LOOK_EVERY.mul_f64(jitter)) => {}
            () = self.soft_stop.cancelled() => {}
        }
    }

    async fn start(&self, session: &Session, tickets: Vec<Ticket>, mut slots: Vec<(Slot, Slot)>) {
        let mut suspects: BTreeMap<u16, Vec<Ticket>> = BTreeMap::new();
        let mut innocent = Vec::with_capacity(tickets.len());
        for ticket in tickets {
            match ticket.crashes {
                0 => innocent.push(ticket),
                crashes => suspects.entry(crashes).or_default().push(ticket),
            }
        }
        slots.truncate(innocent.len());
        self.claim(session, innocent, slots).await;
        for (crashes, tickets) in suspects {
            self.start_suspects(session, crashes, tickets).await;
        }
    }

    /// Suspects wait until few enough others run, and keep it so while they run.
    async fn start_suspects(&self, session: &Session, crashes: u16, mut tickets: Vec<Ticket>) {
        let most = allowed_co_runners(self.gate.capacity(), crashes);
        while !tickets.is_empty() {
            let cap = self.gate.cap(most);
            tokio::select! {
                () = async { tokio::join!(self.gate.room(1), self.most.room(1)); } => {}
                () = self.soft_stop.cancelled() => return self.give_back(&tickets).await,
                () = session.lost().cancelled() => return self.give_back(&tickets).await,
            }
            let mine = self.most.take(tickets.len(), None);
            let shared = self.gate.take(mine.len(), Some(&cap));
            let slots: Vec<_> = shared.into_iter().zip(mine).collect();
            let now = tickets.split_off(tickets.len() - slots.len());
            self.claim(session, now, slots).await;
        }
    }

    async fn claim(&self, session: &Session, tickets: Vec<Ticket>, slots: Vec<(Slot, Slot)>) {
        if tickets.is_empty() {
            return;
        }
        if self.soft_stop.is_cancelled() {
            return self.give_back(&tickets).await;
        }
        let tickets = tickets.into_iter().map(|ticket| (self.agent.clone(), ticket)).collect();
        let claimed = match self.engine.claim(session, tickets).await {
            Ok(claimed) => claimed,
            Err(EngineError::StoreUnavailable(_)) => return,
            Err(error) => {
                tracing::error!(%error, agent = %self.agent, "could not claim steps of {}; they return by themselves", self.agent);
                return;
            }
        };
        for (claim, (slot, mine)) in claimed.into_iter().zip(slots) {
            let cancelled = session.lost().child_token();
            self.running.add(&claim, cancelled.clone());
            let attempt = Attempt { claim: Arc::new(claim), slot: Arc::new((slot, mine)), cancelled };
            // The receiver lives as long as this lane.
            let _ = self.attempts.send(attempt);
        }
    }

    async fn give_back(&self, tickets: &[Ticket]) {
        if let Err(error) = self.engine.queue().give_back(&self.agent, tickets).await {
            tracing::debug!(%error, "could not give tickets back; they expire");
        }
    }
}

async fn after(stop: &CancellationToken, patience: Duration) {
    stop.cancelled().await;
    tokio::time::sleep(patience).await;
}
