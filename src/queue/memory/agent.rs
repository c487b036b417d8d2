//! One agent's queue in memory: what the scripts do, in Rust. Each function
//! mirrors the script of its name; a random comparison keeps them equal.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::time::Instant;

use galley_core::ids::{AgentType, WorkspaceId};
use galley_core::ticket::{Priority, Ticket};

use crate::dispatch::{AgentControl, LARGEST_POP, LARGEST_WEIGHT, Popped, QueueDepth, Unbuilt};
use crate::wire;

/// What one ticket of weight 1 costs in virtual time.
const COST: u64 = 2520;

/// Where a workspace stands in the fair order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Turn {
    /// Its next ticket is due at this virtual time.
    At(u64),
    /// It is at its own limit and waits for one of its steps to end.
    Parked,
}

/// The ready tickets of one workspace.
#[derive(Debug, Default)]
struct Ready {
    /// By priority, then place: growing at the back, shrinking at the front.
    order: BTreeMap<(Priority, i64), Ticket>,
    places: HashMap<Ticket, (Priority, i64)>,
}

impl Ready {
    /// Whether it was new.
    fn add(&mut self, ticket: Ticket, place: i64) -> bool {
        let at = (ticket.priority, place);
        let new = !self.places.contains_key(&ticket);
        if new {
            self.places.insert(ticket, at);
            self.order.insert(at, ticket);
        }
        new
    }

    fn remove(&mut self, ticket: &Ticket) {
        if let Some(at) = self.places.remove(ticket) {
            self.order.remove(&at);
        }
    }

    fn take_first(&mut self) -> Option<Ticket> {
        let (_, ticket) = self.order.pop_first()?;
        self.places.remove(&ticket);
        Some(ticket)
    }

    fn len(&self) -> usize {
        self.order.len()
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct AgentQueue {
    ready: HashMap<WorkspaceId, Ready>,
    /// By the workspace's text, because Redis breaks ties by it.
    turns: BTreeMap<String, (WorkspaceId, Turn)>,
    flight: HashMap<Ticket, Instant>,
    running: HashMap<WorkspaceId, usize>,
    control: AgentControl,
    weights: HashMap<WorkspaceId, u32>,
    virtual_time: u64,
    back: i64,
    front: i64,
    build: Option<u64>,
    built: bool,
}

impl AgentQueue {
    /// `began`: steps of workflows that began go before others of their
    /// priority.
    pub(super) fn push(&mut self, tickets: Vec<&Ticket>, began: bool) -> u64 {
        self.settle_time();
        let mut new = 0;
        for (workspace, tickets) in wire::by_workspace(tickets) {
            let fresh: Vec<&Ticket> =
                tickets.into_iter().filter(|ticket| !self.flight.contains_key(ticket)).collect();
            let amount = fresh.len() as i64;
            let place = if began {
                self.front -= amount;
                self.front
            } else {
                self.back += amount;
                self.back - amount
            };
            for (place, ticket) in (place + 1..).zip(&fresh) {
                new += u64::from(self.ready.entry(workspace).or_default().add(**ticket, place));
            }
            if !fresh.is_empty() {
                self.join(workspace);
            }
        }
        new
    }

    pub(super) fn pop(&mut self, max: usize, due: Instant, unbuilt: Unbuilt) -> Popped {
        self.settle_time();
        let mut popped = Popped::default();
        if unbuilt == Unbuilt::Refuse && !self.built {
            popped.unbuilt = true;
        } else if self.control.paused {
            popped.paused = true;
        } else {
            let room = self
                .control
                .max_running
                .map_or(max, |most| max.min((most as usize).saturating_sub(self.flight.len())));
            popped.tickets = self.choose(room);
            for ticket in &popped.tickets {
                self.flight.insert(*ticket, due);
                *self.running.entry(ticket.workspace).or_default() += 1;
            }
        }
        popped.ready_left = self.ready_count();
        popped
    }

    /// Self-clocked fair queueing, one ticket at a time.
    fn choose(&mut self, room: usize) -> Vec<Ticket> {
        let mut candidates: Vec<(u64, String, WorkspaceId)> = self
            .turns
            .iter()
            .filter_map(|(name, (workspace, turn))| match turn {
                Turn::At(tag) => Some((*tag, name.clone(), *workspace)),
                Turn::Parked => None,
            })
            .collect();
        candidates.sort_unstable_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        let mut heap: BinaryHeap<Reverse<(u64, usize)>> =
            candidates.iter().enumerate().map(|(rank, (tag, ..))| Reverse((*tag, rank))).collect();
        // Served so far, in the order of the first ticket.
        let mut served: Vec<(usize, Vec<Ticket>)> = Vec::new();
        let mut taken = 0;
        while taken < room {
            let Some(Reverse((tag, rank))) = heap.pop() else { break };
            let (_, name, workspace) = &candidates[rank];
            let mine = served.iter().position(|(of, _)| *of == rank);
            let running = self.running.get(workspace).copied().unwrap_or(0)
                + mine.map_or(0, |place| served[place].1.len());
            let limit = self.control.max_running_per_workspace.map_or(usize::MAX, |most| most as usize);
            if self.ready.get(workspace).map_or(0, Ready::len) == 0 {
                self.turns.remove(name);
                continue;
            }
            if running >= limit {
                self.turns.insert(name.clone(), (*workspace, Turn::Parked));
                continue;
            }
            let Some(ticket) = self.ready.get_mut(workspace).and_then(Ready::take_first) else { continue };
            match mine {
                Some(place) => served[place].1.push(ticket),
                None => served.push((rank, vec![ticket])),
            }
            taken += 1;
            self.virtual_time = self.virtual_time.max(tag);
            let next = tag + self.cost(*workspace);
            let stands = if self.ready[workspace].len() == 0 {
                self.turns.remove(name);
                continue;
            } else if running + 1 >= limit {
                Turn::Parked
            } else {
                heap.push(Reverse((next, rank)));
                Turn::At(next)
            };
            self.turns.insert(name.clone(), (*workspace, stands));
        }
        served.into_iter().flat_map(|(_, tickets)| tickets).collect()
    }

    /// Answers with those that were not in flight.
    pub(super) fn claimed(&mut self, tickets: Vec<&Ticket>, due: Instant) -> Vec<Ticket> {
        self.settle_time();
        let mut fresh = Vec::new();
        for ticket in tickets {
            if self.flight.insert(*ticket, due).is_none() {
                *self.running.entry(ticket.workspace).or_default() += 1;
                self.forget_ready(ticket);
                fresh.push(*ticket);
            }
        }
        fresh
    }

    /// Whether somebody who found the limit reached should look again.
    pub(super) fn done(&mut self, tickets: Vec<&Ticket>) -> bool {
        self.settle_time();
        let mut gone = false;
        for ticket in tickets {
            if self.flight.remove(ticket).is_some() {
                gone = true;
                self.release(ticket.workspace);
            } else {
                self.forget_ready(ticket);
            }
        }
        let limited = self.control.max_running.is_some() || self.control.max_running_per_workspace.is_some();
        gone && limited && !self.turns.is_empty()
    }

    /// How many became ready.
    pub(super) fn give_back(&mut self, tickets: &[Ticket]) -> u64 {
        self.settle_time();
        let mut back = 0;
        for (workspace, tickets) in wire::by_workspace(tickets) {
            self.front -= tickets.len() as i64;
            for (place, ticket) in (self.front + 1..).zip(tickets) {
                if self.flight.remove(ticket).is_some() {
                    self.release(workspace);
                }
                back += u64::from(self.ready.entry(workspace).or_default().add(*ticket, place));
            }
            self.join(workspace);
        }
        back
    }

    pub(super) fn expire(&mut self, now: Instant, max: usize) -> u64 {
        let mut late: Vec<(Instant, String, Ticket)> = self
            .flight
            .iter()
            .filter(|(_, due)| **due <= now)
            .map(|(ticket, due)| (*due, wire::entry(ticket), *ticket))
            .collect();
        late.sort_unstable_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        late.truncate(max.min(LARGEST_POP));
        late.sort_unstable_by(|a, b| a.1.cmp(&b.1));
        let tickets: Vec<Ticket> = late.into_iter().map(|(_, _, ticket)| ticket).collect();
        self.give_back(&tickets);
        tickets.len() as u64
    }

    pub(super) fn in_flight(&self, from: usize, max: usize) -> Vec<Ticket> {
        let by_deadline = |(ticket, due): (&Ticket, &Instant)| (*due, wire::entry(ticket), *ticket);
        let mut all: Vec<(Instant, String, Ticket)> = self.flight.iter().map(by_deadline).collect();
        all.sort_unstable_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        all.into_iter().skip(from).take(max.min(LARGEST_POP)).map(|(_, _, ticket)| ticket).collect()
    }

    /// Whether something changed and somebody waits.
    pub(super) fn mirror(&mut self, control: AgentControl, weights: &[(WorkspaceId, u32)]) -> bool {
        self.settle_time();
        if control.version < self.control.version {
            return false;
        }
        let bare = |control| AgentControl { version: 0, ..control };
        let changed = bare(self.control) != bare(control);
        self.control = control;
        self.weights = weights.iter().copied().collect();
        if changed {
            self.unpark();
        }
        changed && !self.turns.is_empty()
    }

    /// The token of the rebuild: a running one's, or `fresh`.
    pub(super) fn begin_build(&mut self, fresh: u64) -> u64 {
        self.settle_time();
        self.unpark();
        *self.build.get_or_insert(fresh)
    }

    pub(super) fn mark_built(&mut self, token: &str) -> bool {
        let mine = self.build.is_some_and(|build| build.to_string() == token);
        self.built |= mine;
        mine
    }

    pub(super) fn depth(&mut self, agent: AgentType) -> QueueDepth {
        QueueDepth {
            agent,
            ready: self.ready_count(),
            in_flight: self.flight.len() as u64,
            workspaces: self.turns.len() as u64,
            paused: self.control.paused,
            built: self.built,
        }
    }

    fn ready_count(&self) -> u64 {
        self.ready.values().map(|ready| ready.len() as u64).sum()
    }

    /// Nobody waits: virtual time starts again.
    fn settle_time(&mut self) {
        if self.turns.is_empty() {
            self.virtual_time = 0;
        }
    }

    fn cost(&self, workspace: WorkspaceId) -> u64 {
        COST / u64::from(self.weights.get(&workspace).copied().unwrap_or(1).clamp(1, LARGEST_WEIGHT))
    }

    /// One ticket after the current virtual time, unless it has its turn.
    fn join(&mut self, workspace: WorkspaceId) {
        let at = Turn::At(self.virtual_time + self.cost(workspace));
        self.turns.entry(wire::workspace_text(workspace)).or_insert((workspace, at));
    }

    fn unpark(&mut self) {
        let parked: Vec<WorkspaceId> = self
            .turns
            .values()
            .filter(|(_, turn)| *turn == Turn::Parked)
            .map(|(workspace, _)| *workspace)
            .collect();
        for workspace in parked {
            self.turns.remove(&wire::workspace_text(workspace));
            self.join(workspace);
        }
    }

    /// One entry has left flight.
    fn release(&mut self, workspace: WorkspaceId) {
        if let Some(running) = self.running.get_mut(&workspace) {
            *running -= 1;
            if *running == 0 {
                self.running.remove(&workspace);
            }
        }
        let name = wire::workspace_text(workspace);
        if self.turns.get(&name).is_some_and(|(_, turn)| *turn == Turn::Parked) {
            self.turns.remove(&name);
            self.join(workspace);
        }
    }

    fn forget_ready(&mut self, ticket: &Ticket) {
        let Some(ready) = self.ready.get_mut(&ticket.workspace) else { return };
        let before = ready.len();
        ready.remove(ticket);
        if before > 0 && ready.len() == 0 {
            self.turns.remove(&wire::workspace_text(ticket.workspace));
        }
    }
}
