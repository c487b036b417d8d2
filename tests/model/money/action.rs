//! What can happen to money, by name: counterexamples read as a list of these.

use std::fmt;

use crate::action::Reply;

/// One of the steps.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StepNo(pub u8);

impl fmt::Debug for StepNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}", self.0)
    }
}

/// One call: of which claim of which step, and which of that attempt's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallNo {
    /// The step.
    pub step: StepNo,
    /// The claim, from 1.
    pub claim: u8,
    /// The call, from 0.
    pub call: u8,
}

impl fmt::Debug for CallNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}@{}.{}", self.step, self.claim, self.call)
    }
}

/// One atomic event. Numbers are workers (0, 1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs, reason = "the fields are workers, steps, calls and what they cost")]
pub enum Action {
    /// queued → running, under a claim of its own.
    Claim { worker: u8, step: StepNo },
    /// Only with [`super::Shortcut::CheckWithoutLock`]: the room is read alone.
    Check { worker: u8 },
    /// The step is held and there is room: the row, and what it may cost.
    Reserve { worker: u8, reply: Reply },
    /// There is no room; nothing is written.
    Refuse { worker: u8 },
    /// The step waits for money.
    Wait { worker: u8 },
    /// The fence refuses: the step is somebody else's.
    Drop { worker: u8 },
    /// The provider answers, and bills.
    Answer { worker: u8, cost: i8 },
    /// The provider bills; its answer is lost.
    AnswerLost { worker: u8, cost: i8 },
    /// Nobody waits for the answer any more; the request is on the wire.
    GivesUp { worker: u8 },
    /// A request that nobody waits for is answered, and billed, after all.
    LateAnswer { call: CallNo, cost: i8 },
    /// A request that nobody waits for never arrives.
    RequestVanishes { call: CallNo },
    /// What the call came to, or its bound.
    Settle { worker: u8, reply: Reply },
    /// The answer does not fit: once more, with what is wrong.
    Repair { worker: u8 },
    /// The attempt's end: a result, another try, a dead letter.
    Conclude { worker: u8 },
    /// The process dies, with all it knew.
    Crash { worker: u8 },
    /// A new process in its place.
    Restart { worker: u8 },
    /// The session of the claim is over: its step is taken back.
    Reap { step: StepNo },
    /// A call that nobody settled, of an attempt that is over.
    ChargeLost { call: CallNo },
    /// A step that waits goes on: there is room for its call.
    Fund { step: StepNo },
    /// The limit is raised by one.
    Raise,
    /// Midnight.
    DayTurns,
    /// Somebody cancels the workflow of a step.
    Cancel { step: StepNo },
}
