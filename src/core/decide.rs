//! The one function that moves a workflow: `decide(plan, run, event, facts)`.
//!
//! It changes the run in memory and says what follows (tickets to queue, rows
//! to write). It never does any of it. A refused event leaves the run exactly
//! as it was: redelivery makes "impossible" events ordinary.

use serde_json::Value;

use crate::ids::{Epoch, Nonce, SessionId, StepIndex};
use crate::plan::Plan;
use crate::report::Failure;
use crate::run::{Lease, Run, StepState, WorkflowState};

mod mover;
mod posts;

use crate::ticket::Priority;
use mover::Mover;

/// What happened, or what somebody asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The workflow was accepted: start what needs nothing.
    Accepted,
    /// A worker wants to run a queued step.
    Claim {
        /// Which step.
        step: StepIndex,
        /// The epoch on its ticket.
        epoch: Epoch,
        /// The lease it will hold.
        lease: Lease,
    },
    /// An attempt ended well; its result row is written in the same transaction.
    Succeeded {
        /// Which attempt.
        token: Token,
    },
    /// An attempt ended badly.
    Failed {
        /// Which attempt.
        token: Token,
        /// What should follow.
        failure: Failure,
    },
    /// A worker gives a claim back unstarted (drain, pause, refusal): the
    /// attempt does not count.
    GivenBack {
        /// Which attempt.
        token: Token,
    },
    /// The session that held the step is dead.
    LeaseLost {
        /// Which step.
        step: StepIndex,
        /// The session that is dead.
        session: SessionId,
    },
    /// The attempt ran longer than it may although its session lives.
    Overdue {
        /// Which attempt.
        token: Token,
    },
    /// A scheduled step's time has come.
    Due {
        /// Which step.
        step: StepIndex,
        /// The epoch its timer was set for.
        epoch: Epoch,
    },
    /// There is money for a step that waited for it.
    Funded {
        /// Which step.
        step: StepIndex,
        /// The epoch it waits at.
        epoch: Epoch,
    },
    /// Somebody cancels the workflow.
    Cancel,
    /// Somebody sends a dead step back to its queue.
    Replay {
        /// Which step.
        step: StepIndex,
        /// Whether its input was replaced.
        edited: bool,
    },
    /// Somebody gives a dead step up.
    Discard {
        /// Which step.
        step: StepIndex,
    },
    /// A queued step must not start before a person said so.
    NeedsGo {
        /// Which step.
        step: StepIndex,
        /// The epoch on its ticket.
        epoch: Epoch,
    },
    /// An attempt found that a person has to say yes first: it does not count.
    Held {
        /// Which attempt.
        token: Token,
    },
    /// An attempt found that it is not time yet: it does not count.
    Postponed {
        /// Which attempt.
        token: Token,
        /// Milliseconds from now.
        delay_ms: u64,
    },
    /// A person said yes.
    Approved {
        /// Which step.
        step: StepIndex,
    },
    /// A post was rejected, or nobody said yes in time.
    Withdrawn {
        /// Which step.
        step: StepIndex,
    },
    /// A person did not give a step its go, or did so too late.
    Refused {
        /// Which step.
        step: StepIndex,
    },
    /// A person changed a post before it went out.
    Amended {
        /// Which step.
        step: StepIndex,
        /// Whether somebody has to approve it now.
        hold: bool,
    },
    /// From here on the post may be out there.
    Intent {
        /// Which attempt.
        token: Token,
    },
    /// A post of which nobody knows whether it went out is sent once more, with
    /// the same key.
    Repeated {
        /// Which attempt.
        token: Token,
    },
    /// Nobody knows whether the post went out.
    Unsure {
        /// Which attempt.
        token: Token,
    },
    /// Only a person can find out whether the post went out.
    Doubted {
        /// Which attempt.
        token: Token,
    },
    /// A person found out whether the post of a step in doubt went out.
    Settled {
        /// Which step.
        step: StepIndex,
        /// What they found.
        how: Settlement,
    },
}

impl Event {
    /// The step it is about; `None` for the whole workflow.
    pub fn step(&self) -> Option<StepIndex> {
        match self {
            Self::Accepted | Self::Cancel => None,
            Self::Claim { step, .. }
            | Self::LeaseLost { step, .. }
            | Self::Due { step, .. }
            | Self::Funded { step, .. }
            | Self::Replay { step, .. }
            | Self::Discard { step }
            | Self::NeedsGo { step, .. }
            | Self::Approved { step }
            | Self::Withdrawn { step }
            | Self::Refused { step }
            | Self::Amended { step, .. }
            | Self::Settled { step, .. } => Some(*step),
            Self::Succeeded { token }
            | Self::Failed { token, .. }
            | Self::GivenBack { token }
            | Self::Overdue { token }
            | Self::Held { token }
            | Self::Postponed { token, .. }
            | Self::Intent { token }
            | Self::Repeated { token }
            | Self::Unsure { token }
            | Self::Doubted { token } => Some(token.step),
        }
    }
}

/// What a person says about a post in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Settlement {
    /// It is there.
    Published,
    /// It is not there: send it.
    NotThere,
    /// It is not there, and shall not be.
    GivenUp,
}

/// Names one attempt: a write that does not carry it is stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    /// Which step.
    pub step: StepIndex,
    /// The epoch of the claim.
    pub epoch: Epoch,
    /// The nonce of the claim.
    pub nonce: Nonce,
}

/// What follows from a decision, besides the new run.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Put a ticket into the queue of the step's agent.
    Enqueue {
        /// Which step.
        step: StepIndex,
        /// Its new epoch.
        epoch: Epoch,
        /// How careful its next worker has to be: see [`suspicion`].
        suspicion: u16,
        /// Order within the workspace.
        priority: Priority,
    },
    /// Write a timer row.
    Wait {
        /// Which step.
        step: StepIndex,
        /// The epoch the timer is for.
        epoch: Epoch,
        /// Milliseconds from now.
        delay_ms: u64,
    },
    /// Remove the step's timer row.
    StopWaiting {
        /// Which step.
        step: StepIndex,
    },
    /// Note that the step waits for money.
    WaitForMoney {
        /// Which step.
        step: StepIndex,
        /// The epoch it waits at.
        epoch: Epoch,
        /// What its next call may cost at most, millionths of a US dollar.
        needed_micros: u64,
    },
    /// The step does not wait for money any more.
    MoneyWaitOver {
        /// Which step.
        step: StepIndex,
    },
    /// Write a dead letter.
    Died {
        /// Which step.
        step: StepIndex,
        /// Why.
        why: Death,
    },
    /// Close the step's dead letter.
    LetterClosed {
        /// Which step.
        step: StepIndex,
        /// How it was repaired.
        how: LetterEnd,
    },
    /// A running attempt was overtaken: tell its worker to stop.
    Interrupt {
        /// Which step.
        step: StepIndex,
    },
    /// Every step is final: the run moves to history.
    Finished(WorkflowState),
}

/// Why a step died.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Death {
    /// Its attempts are used up.
    Attempts,
    /// Too many workers died holding it.
    Crashes,
    /// The error said that trying again is useless.
    Permanent,
    /// Its condition or expansion could not be evaluated.
    Condition(String),
}

impl Death {
    /// The word used in the API and the CLI.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Attempts => "attempts",
            Self::Crashes => "crashes",
            Self::Permanent => "permanent",
            Self::Condition(_) => "condition",
        }
    }
}

/// How a dead letter ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LetterEnd {
    /// Sent back to its queue.
    Replayed,
    /// Given up.
    Discarded,
    /// Its workflow was cancelled.
    Cancelled,
}

impl LetterEnd {
    /// The word used in the API and the CLI.
    pub fn word(self) -> &'static str {
        match self {
            Self::Replayed => "replayed",
            Self::Discarded => "discarded",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Why an event was refused. The run is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such step.
    #[error("there is no such step")]
    NoSuchStep,
    /// The event belongs to an attempt, ticket or timer that was overtaken.
    #[error("overtaken: the step is {state:?} at epoch {epoch}")]
    Stale {
        /// Where the step stands.
        state: StepState,
        /// Its epoch.
        epoch: Epoch,
    },
    /// A post may be out there: it cannot be changed any more.
    #[error("the post is on its way out or may be out already ({0:?})")]
    MayBeOut(StepState),
    /// The step does not wait for that.
    #[error("the step is {0:?} and does not wait for this")]
    NotWaiting(StepState),
    /// Only a dead step can be replayed or discarded.
    #[error("the step is {0:?}, not dead")]
    NotDead(StepState),
    /// The workflow is already final or was cancelled before.
    #[error("the workflow is already over or being cancelled")]
    AlreadyOver,
}

/// What deciding needs to know and cannot compute.
pub struct Facts<'a> {
    /// The sequence number the run will have once written.
    pub seq: u64,
    /// Uniform in [0, 1): the jitter of a back-off.
    pub jitter: f64,
    /// Milliseconds an unknown post rests before anybody looks: longer than a
    /// stopped worker may still send it.
    pub rest_ms: u64,
    /// The workflow's input; only asked for when [`Plan::conditional`].
    pub brief: &'a Value,
    /// The output of a succeeded step; only asked for when
    /// [`Plan::conditional`], and then for every need of a conditional step.
    pub result: &'a dyn Fn(StepIndex) -> Option<Value>,
    /// Why `brief` or a result cannot be read: then no condition and no
    /// expansion is evaluated.
    pub unreadable: Option<&'a str>,
}

/// `Effect::Enqueue::suspicion` of a step that must run without neighbours.
pub const ALONE: u16 = u16::MAX;

/// How careful a worker has to be with a step: 0 for one that never crashed,
/// the number of crashes while halving its neighbours is enough, [`ALONE`] for
/// its last try.
pub fn suspicion(crashes: u16, max_crashes: u16) -> u16 {
    if crashes == 0 {
        0
    } else if crashes.saturating_add(1) >= max_crashes {
        ALONE
    } else {
        crashes
    }
}

/// How many steps may run in one process (this one included) while a step of
/// that suspicion runs there.
pub fn allowed_co_runners(concurrency: usize, suspicion: u16) -> usize {
    match suspicion {
        0 => concurrency,
        ALONE => 1,
        n => (concurrency >> n.min(16)).max(1),
    }
}

/// Moves the run by one event.
///
/// # Errors
/// [`Refusal`]; the run is then exactly as it was.
pub fn decide(plan: &Plan, run: &mut Run, event: Event, facts: &Facts<'_>) -> Result<Vec<Effect>, Refusal> {
    let mut mover = Mover { plan, run, facts, effects: Vec::with_capacity(2), settled: Vec::new() };
    mover.apply(event)?;
    mover.settle();
    if mover.all_final() {
        let state = mover.run.state(plan);
        mover.effects.push(Effect::Finished(state));
    }
    Ok(mover.effects)
}
