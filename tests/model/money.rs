//! Money as a model of its own: steps whose attempts make calls that cost
//! something, a limit per day that they share, workers that die anywhere, and
//! bills that come late or never.
//!
//! Why a third model: dispatch and money meet only in "this attempt still holds
//! its step", which the dispatch model searches. So a claim is one action here,
//! and what stays apart is what lies between a reservation, a call and a bill.
//!
//! It must never depend on another package of the workspace: it states what the
//! code has to do.
//!
//! # Protocol rule → where it is
//!
//! | rule | here |
//! |---|---|
//! | a true upper bound is reserved before the call, in a transaction that proves that the attempt holds its step | [`Action::Reserve`], `Money::fence` |
//! | an unknown commit is repeated, one's own row recognised | [`Reply`]; a row that is there is a yes |
//! | a ledger row per (step, claim, call), moved from state to state once | `Money::book` |
//! | what nobody can know is charged at its bound | [`Action::AnswerLost`], [`Action::GivesUp`] |
//! | a call of an attempt that is over is charged at its bound, once | [`Action::ChargeLost`] |
//! | a late bill replaces the estimate | [`Action::Settle`] after [`Action::ChargeLost`] |
//! | a step without money waits, and goes on when there is room | [`Action::Refuse`], [`Action::Wait`], [`Action::Fund`] |

mod action;
mod next;
mod possible;
mod property;
mod shortcut;
mod state;
mod theme;
mod witness;

pub use action::{Action, CallNo, StepNo};
pub use shortcut::Shortcut;
pub use state::{Bounds, State};
pub use theme::{THEMES, theme};
pub use witness::Witness;

#[cfg(doc)]
use crate::action::Reply;
use crate::named::searched;
use state::{Call, Counter, DAYS, Phase, Row, Step, StepState, WORKERS};

/// A configuration of the model.
#[derive(Clone, Copy, Debug)]
pub struct Money {
    /// One step or two.
    pub steps: u8,
    /// Calls of an attempt that goes well: one, or two with a repair.
    pub calls: u8,
    /// What a day may cost, at first.
    pub limit: i8,
    /// The most one call can cost.
    pub bound: i8,
    /// Attempts of a step.
    pub max_attempts: u8,
    /// Faults and commands.
    pub bounds: Bounds,
    /// What must be seen to happen.
    pub witnesses: &'static [Witness],
    /// Deliberate mistakes.
    pub shortcuts: &'static [Shortcut],
}

impl Money {
    pub(crate) fn takes(&self, shortcut: Shortcut) -> bool {
        self.shortcuts.contains(&shortcut)
    }

    pub(crate) fn steps(&self) -> impl Iterator<Item = StepNo> + use<> {
        (0..self.steps).map(StepNo)
    }

    /// The steps are queued.
    fn beginnings(&self) -> Vec<State> {
        vec![self.ready()]
    }

    fn ready(&self) -> State {
        let step = Step { state: StepState::Queued, claim: 0, drawn: 0, cancelled: false };
        // A step that does not take part.
        let absent = Step { state: StepState::Cancelled, cancelled: true, ..step };
        let call = Call { row: Row::Absent, day: 0, billed: 0, wire: false };
        State {
            limit: self.limit,
            day: 0,
            counters: [Counter { reserved: 0, spent: 0 }; DAYS],
            steps: [step, if self.steps > 1 { step } else { absent }],
            ledger: [[call; state::CALLS]; 2],
            workers: [Phase::Idle; WORKERS],
            unheld: false,
            left: self.bounds,
        }
    }
}

searched!(Money from beginnings);
