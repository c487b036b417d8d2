//! The state: what the database says, what the workers know, and what the
//! provider truly billed.

use super::action::{CallNo, StepNo};

/// Worker processes.
pub(crate) const WORKERS: usize = 2;
/// Days.
pub(crate) const DAYS: usize = 2;
/// Claims of a step.
const CLAIMS: usize = 3;
/// Calls of a step: of three claims, two each.
pub(crate) const CALLS: usize = CLAIMS * 2;

/// How often each fault and command may still happen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Bounds {
    /// Workers that die.
    pub crashes: u8,
    /// Living workers whose session is taken for dead.
    pub stops: u8,
    /// Replies of COMMIT that are lost.
    pub lost_replies: u8,
    /// Answers of the provider that are lost, or come late.
    pub lost_answers: u8,
    /// Raises of the limit.
    pub raises: u8,
    /// Midnights.
    pub days: u8,
    /// Cancels.
    pub cancels: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum StepState {
    Queued,
    Running,
    WaitingBudget,
    Succeeded,
    Dead,
    Cancelled,
}

impl StepState {
    pub(crate) fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Dead | Self::Cancelled)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Step {
    pub state: StepState,
    /// The claim that runs it; 0: nobody's.
    pub claim: u8,
    /// Claims so far.
    pub drawn: u8,
    pub cancelled: bool,
}

/// A row of the ledger.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Row {
    Absent,
    Reserved(i8),
    Settled(i8),
    Estimated(i8),
}

/// A call: what the ledger says of it, and what is true.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Call {
    pub row: Row,
    /// The day it is counted in.
    pub day: u8,
    /// What the provider billed for it.
    pub billed: i8,
    /// A request that nobody waits for.
    pub wire: bool,
}

/// A day's counter.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Counter {
    pub reserved: i8,
    pub spent: i8,
}

/// What a worker is at.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Phase {
    Idle,
    Down,
    /// About to reserve.
    Asks(CallNo),
    /// Only with a shortcut: it saw that there is room.
    Checked(CallNo),
    /// It was told that there is no room.
    Refused(CallNo),
    /// About to call.
    Funded(CallNo),
    /// It has an answer and its bill; without a bill nobody can know it.
    Answered(CallNo, Option<i8>),
    /// Settled; whether there was an answer.
    Settled(CallNo, bool),
}

impl Phase {
    /// The call it is at.
    pub(crate) fn work(self) -> Option<CallNo> {
        match self {
            Self::Idle | Self::Down => None,
            Self::Asks(call)
            | Self::Checked(call)
            | Self::Refused(call)
            | Self::Funded(call)
            | Self::Answered(call, _)
            | Self::Settled(call, _) => Some(call),
        }
    }
}

/// Everything.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct State {
    pub(crate) limit: i8,
    pub(crate) day: u8,
    pub(crate) counters: [Counter; DAYS],
    pub(crate) steps: [Step; 2],
    pub(crate) ledger: [[Call; CALLS]; 2],
    pub(crate) workers: [Phase; WORKERS],
    /// A reservation was written for an attempt that did not hold its step.
    pub(crate) unheld: bool,
    pub(crate) left: Bounds,
}

impl State {
    pub(crate) fn step(&self, step: StepNo) -> &Step {
        &self.steps[usize::from(step.0)]
    }

    pub(crate) fn step_mut(&mut self, step: StepNo) -> &mut Step {
        &mut self.steps[usize::from(step.0)]
    }

    pub(crate) fn call(&self, call: CallNo) -> &Call {
        &self.ledger[usize::from(call.step.0)][place(call)]
    }

    pub(crate) fn call_mut(&mut self, call: CallNo) -> &mut Call {
        &mut self.ledger[usize::from(call.step.0)][place(call)]
    }

    /// Every call there may be, with its name.
    pub(crate) fn calls(&self) -> impl Iterator<Item = (CallNo, &Call)> {
        self.ledger.iter().enumerate().flat_map(|(step, calls)| {
            calls.iter().enumerate().map(move |(place, call)| {
                let (claim, number) = (place / 2 + 1, place % 2);
                (CallNo { step: StepNo(step as u8), claim: claim as u8, call: number as u8 }, call)
            })
        })
    }

    /// What today has room for.
    pub(crate) fn room(&self) -> i8 {
        let today = self.counters[usize::from(self.day)];
        self.limit - today.reserved - today.spent
    }

    /// Whether the claim still runs the step.
    pub(crate) fn holds(&self, call: CallNo) -> bool {
        let step = self.step(call.step);
        step.state == StepState::Running && step.claim == call.claim && !step.cancelled
    }

    /// Whether a process works on the claim that runs the step.
    pub(crate) fn is_worked_on(&self, step: StepNo) -> bool {
        let claim = self.step(step).claim;
        self.workers
            .iter()
            .any(|phase| phase.work().is_some_and(|call| call.step == step && call.claim == claim))
    }
}

fn place(call: CallNo) -> usize {
    usize::from(call.claim.saturating_sub(1)) * 2 + usize::from(call.call)
}
