//! The protocol under search: what runs, within which bounds, with which
//! shortcuts taken. Also the face it shows to stateright.
//!
//! Nothing here is a rule of the protocol; those are in `decide.rs` (what is
//! written), `possible.rs` (when, and what may go wrong) and `next.rs` (what follows).

use crate::action::Action;
use crate::named::searched;
use crate::property;
use crate::shortcut::Shortcut;
use crate::state::{
    Budget, Db, MAX_STEPS, Phase, Publication, Redis, Results, Run, State, Step, StepState, Ticket, WORKERS,
    Worker, session,
};
use crate::witness::Witness;

/// What the last step does to the outside world.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Nothing.
    None,
    /// A request with the effect key, to a platform that keeps the key.
    Keyed,
    /// A request to a platform that keeps no key: guarded by an intent.
    Intent,
}

/// How often each fault or command may come. The search is exhaustive within.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Bounds {
    /// Processes killed.
    pub crashes: u8,
    /// Live workers whose session is closed, or whose step is overdue.
    pub expiries: u8,
    /// Replies of COMMIT lost, committed or not.
    pub lost_replies: u8,
    /// Times Redis is emptied.
    pub flushes: u8,
    /// Tickets that appear once more.
    pub duplicates: u8,
    /// Pushes that do not arrive.
    pub lost_pushes: u8,
    /// Tickets that return while somebody still works on them.
    pub early_returns: u8,
    /// Attempts that fail, and publishes that are refused.
    pub failures: u8,
    /// Requests whose reply nobody waits for any more.
    pub slow_posts: u8,
    /// Times the workflow is cancelled.
    pub cancels: u8,
    /// Dead letters replayed or discarded.
    pub replays: u8,
    /// Restores of Postgres to an older point.
    pub restores: u8,
}

/// A configuration of the model.
#[derive(Clone, Debug)]
pub struct Protocol {
    /// Bit set of needed steps, per step.
    pub needs: &'static [u8],
    /// What the last step does.
    pub effect: Effect,
    /// Claims a step gets before it is dead.
    pub max_attempts: u8,
    /// Crashes a step may be part of before it is dead.
    pub max_crashes: u8,
    /// Faults and commands.
    pub bounds: Bounds,
    /// What must be seen to happen, or the search proved nothing.
    pub witnesses: &'static [Witness],
    /// Deliberate mistakes.
    pub shortcuts: Vec<Shortcut>,
}

impl Protocol {
    /// Whether the mistake is made.
    pub(crate) fn takes(&self, shortcut: Shortcut) -> bool {
        self.shortcuts.contains(&shortcut)
    }

    /// The effectful step: the last one.
    pub(crate) fn last(&self) -> u8 {
        self.needs.len() as u8 - 1
    }

    /// What this step does to the outside world.
    pub(crate) fn effect_of(&self, step: u8) -> Effect {
        if step == self.last() { self.effect } else { Effect::None }
    }

    /// The steps there are.
    pub(crate) fn steps(&self) -> std::ops::Range<u8> {
        0..self.needs.len() as u8
    }

    fn accepted(&self, pushed: bool) -> State {
        let mut steps = [Step {
            state: StepState::Blocked,
            epoch: 0,
            attempts: 0,
            crashes: 0,
            lease: None,
            intent: false,
        }; MAX_STEPS];
        let mut redis = Redis::default();
        for step in self.steps() {
            if self.needs[usize::from(step)] == 0 {
                steps[usize::from(step)].state = StepState::Queued;
                steps[usize::from(step)].epoch = 1;
                if pushed {
                    redis.push(Ticket { step, epoch: 1 });
                }
            }
        }
        let b = self.bounds;
        State {
            db: Db {
                run: Run { version: 1, cancelling: false, steps },
                results: [Results::default(); MAX_STEPS],
                open: (0..WORKERS).map(|worker| 1 << session(worker, 0)).sum(),
                publication: Publication::Absent,
                marked: 0,
            },
            backup: None,
            redis,
            workers: [Worker { phase: Phase::Idle, incarnation: 0 }; WORKERS],
            desk: None,
            relay: None,
            drawn: [0; MAX_STEPS],
            effects: 0,
            window: 0,
            wire: 0,
            acknowledged: 0,
            broken: 0,
            left: Budget {
                crashes: b.crashes,
                expiries: b.expiries,
                lost_replies: b.lost_replies,
                flushes: b.flushes,
                duplicates: b.duplicates,
                lost_pushes: b.lost_pushes,
                early_returns: b.early_returns,
                failures: b.failures,
                slow_posts: b.slow_posts,
                cancels: b.cancels,
                replays: b.replays,
                restores: b.restores,
            },
        }
    }

    /// The workflow is accepted and committed. The push may have been lost; an
    /// outbox has not even marked it.
    fn beginnings(&self) -> Vec<State> {
        if self.takes(Shortcut::MarkBeforePush) {
            vec![self.accepted(false)]
        } else if self.bounds.lost_pushes > 0 {
            vec![self.accepted(true), self.accepted(false)]
        } else {
            vec![self.accepted(true)]
        }
    }
}

searched!(Protocol from beginnings);
