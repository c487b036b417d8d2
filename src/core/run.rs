//! A workflow's live state: one narrow value, stored as one narrow row.
//!
//! Payloads and results are never in here. The bytes carry a format version;
//! saved samples in the tests keep old rows readable for ever.

use serde::{Deserialize, Serialize};

use crate::decide::Token;
use crate::ids::{Epoch, Nonce, SessionId, StepIndex};
use crate::plan::Plan;
use crate::ticket::Priority;

/// Where a step stands. The order is part of the stored format: add at the end.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Serialize, Deserialize)]
pub enum StepState {
    /// Its needs are not met yet.
    Blocked,
    /// It may run: a ticket is, or will be, in its agent's queue.
    Queued,
    /// A worker holds its lease.
    Running,
    /// It waits for a time (a retry); a timer row knows when.
    Scheduled,
    /// A `forEach` step whose children are not all final yet.
    Expanded,
    /// It produced a result. Final.
    Succeeded,
    /// Its condition was false. Final.
    Skipped,
    /// It failed for good: discarded by a person, or optional. Final.
    Failed,
    /// The workflow was cancelled, or a step it needs failed for good. Final.
    Cancelled,
    /// Its attempts or crashes are used up: a dead letter that a person can
    /// replay or discard.
    Dead,
}

impl StepState {
    /// Every state, for exhaustive tests and for the diagram.
    pub const ALL: [Self; 10] = [
        Self::Blocked,
        Self::Queued,
        Self::Running,
        Self::Scheduled,
        Self::Expanded,
        Self::Succeeded,
        Self::Skipped,
        Self::Failed,
        Self::Cancelled,
        Self::Dead,
    ];

    /// Whether the state never changes again.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Skipped | Self::Failed | Self::Cancelled)
    }

    /// The word used in the API, the CLI and the docs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Scheduled => "scheduled",
            Self::Expanded => "expanded",
            Self::Succeeded => "succeeded",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Dead => "dead",
        }
    }

    /// The word of the AgentTaskHistory entity, which knows only four.
    pub fn history_word(self) -> &'static str {
        match self {
            Self::Blocked | Self::Queued | Self::Scheduled => "pending",
            Self::Running | Self::Expanded => "running",
            Self::Succeeded | Self::Skipped => "completed",
            Self::Failed | Self::Cancelled | Self::Dead => "failed",
        }
    }
}

/// Where a workflow stands; follows from its steps.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkflowState {
    /// Something is queued, running or will be by itself.
    Running,
    /// Nothing can move, and something is dead: a person replays or discards.
    Stalled,
    /// Every step is final and none that matters failed. Final.
    Succeeded,
    /// A step failed for good. Final.
    Failed,
    /// It was cancelled. Final.
    Cancelled,
}

impl WorkflowState {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Running, Self::Stalled, Self::Succeeded, Self::Failed, Self::Cancelled];

    /// Whether the state never changes again.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    /// The word used in the API, the CLI and the docs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stalled => "stalled",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.word() == word)
    }
}

/// A worker's hold on a step.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Lease {
    /// The random token of this claim.
    pub nonce: Nonce,
    /// The worker process that holds it.
    pub session: SessionId,
}

/// A step's live state.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct StepRun {
    /// The definition step it belongs to: itself, or the `forEach` step it was
    /// expanded from.
    pub plan: StepIndex,
    /// Which element of the expansion it is.
    pub item: Option<u16>,
    /// Where it stands.
    pub state: StepState,
    /// The fencing counter.
    pub epoch: Epoch,
    /// Attempts that count.
    pub attempts: u16,
    /// Workers that died holding it.
    pub crashes: u16,
    /// Present exactly while running.
    pub lease: Option<Lease>,
    /// The run's sequence number at the last change: what event streams resume
    /// from.
    pub changed: u64,
    /// Whether a person replaced its input when replaying it; the input of
    /// that epoch is a row of its own.
    pub edited: Option<Epoch>,
}

/// A workflow's live state.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Run {
    /// Order of its steps within the workspace.
    pub priority: Priority,
    /// Whether somebody cancelled it: nothing starts any more.
    pub cancelled: bool,
    /// The definition's steps in order, then expanded children.
    pub steps: Vec<StepRun>,
}

/// The stored format this code writes.
const FORMAT: u8 = 1;

/// A stored run that cannot be read: the row is named by whoever loaded it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRun {
    /// Written by a newer release.
    #[error("run format {0} is not known to this release; upgrade this process")]
    Format(u8),
    /// Not a run at all.
    #[error("run bytes do not decode: {0}")]
    Bytes(String),
    /// An invariant does not hold.
    #[error("run breaks an invariant at step {step}: {rule}")]
    Invariant {
        /// The step.
        step: usize,
        /// The broken rule.
        rule: &'static str,
    },
}

impl Run {
    /// The run of a workflow that was just accepted: everything blocked. The
    /// `Accepted` event gets it moving.
    pub fn new(plan: &Plan, priority: Priority) -> Self {
        let steps = (0..plan.steps.len())
            .map(|index| StepRun {
                plan: index as StepIndex,
                item: None,
                state: StepState::Blocked,
                epoch: 0,
                attempts: 0,
                crashes: 0,
                lease: None,
                changed: 0,
                edited: None,
            })
            .collect();
        Self { priority, cancelled: false, steps }
    }

    /// The bytes to store.
    pub fn encode(&self) -> Vec<u8> {
        // Room for the usual chain in one allocation.
        let out = Vec::with_capacity(16 + 24 * self.steps.len());
        let mut out = postcard::to_extend(&FORMAT, out).unwrap_or_default();
        // Encoding plain integers and options into memory cannot fail.
        out = postcard::to_extend(self, out).unwrap_or_default();
        out
    }

    /// Reads stored bytes back and checks their invariants.
    ///
    /// # Errors
    /// See [`BadRun`].
    pub fn decode(bytes: &[u8]) -> Result<Self, BadRun> {
        let (&format, rest) = bytes.split_first().ok_or(BadRun::Bytes("empty".into()))?;
        if format != FORMAT {
            return Err(BadRun::Format(format));
        }
        let (run, left): (Self, _) =
            postcard::take_from_bytes(rest).map_err(|e| BadRun::Bytes(e.to_string()))?;
        if !left.is_empty() {
            return Err(BadRun::Bytes(format!("{} bytes too many", left.len())));
        }
        run.check()?;
        Ok(run)
    }

    /// The invariants every stored run keeps.
    ///
    /// # Errors
    /// The first one that is broken, with its step.
    pub fn check(&self) -> Result<(), BadRun> {
        let first_child = self.steps.iter().position(|s| s.item.is_some()).unwrap_or(self.steps.len());
        for (index, step) in self.steps.iter().enumerate() {
            let broken = |rule| Err(BadRun::Invariant { step: index, rule });
            if (step.state == StepState::Running) != step.lease.is_some() {
                return broken("running if and only if leased");
            }
            if step.item.is_none() && usize::from(step.plan) != index {
                return broken("a definition step stands at its own position");
            }
            if step.item.is_none() && index > first_child {
                return broken("a definition step stands before every child");
            }
            if step.item.is_some() && usize::from(step.plan) >= index {
                return broken("a child stands behind the step it was expanded from");
            }
            if step.item.is_some() && usize::from(step.plan) >= first_child {
                return broken("a child was expanded from a definition step");
            }
            if step.item.is_some() && step.state == StepState::Expanded {
                return broken("a child is not expanded again");
            }
        }
        Ok(())
    }

    /// The step at a position.
    pub fn step(&self, index: StepIndex) -> Option<&StepRun> {
        self.steps.get(usize::from(index))
    }

    /// Whether this is the attempt that runs its step now.
    pub fn is_held_by(&self, token: Token) -> bool {
        self.step(token.step).is_some_and(|step| {
            step.state == StepState::Running
                && step.epoch == token.epoch
                && step.lease.is_some_and(|lease| lease.nonce == token.nonce)
        })
    }

    /// The positions of the children expanded from a definition step.
    pub fn children(&self, plan_step: StepIndex) -> impl Iterator<Item = StepIndex> + '_ {
        self.steps
            .iter()
            .enumerate()
            .filter(move |(_, s)| s.item.is_some() && s.plan == plan_step)
            .map(|(i, _)| i as StepIndex)
    }

    /// The name of a step: its definition name, children with their element:
    /// `content.0`.
    pub fn step_name(&self, plan: &Plan, index: StepIndex) -> String {
        let Some(step) = self.step(index) else { return format!("#{index}") };
        let name = plan.steps.get(usize::from(step.plan)).map_or("?", |s| s.name.as_str());
        match step.item {
            Some(item) => format!("{name}.{item}"),
            None => name.to_owned(),
        }
    }

    /// The position of a step by the name [`Run::step_name`] gives it.
    pub fn find_step(&self, plan: &Plan, name: &str) -> Option<StepIndex> {
        let (base, item) = match name.split_once('.') {
            Some((base, item)) => (base, Some(item.parse::<u16>().ok()?)),
            None => (name, None),
        };
        let plan_step = plan.steps.iter().position(|s| s.name == base)? as StepIndex;
        match item {
            None => Some(plan_step),
            Some(item) => self.children(plan_step).find(|i| self.steps[usize::from(*i)].item == Some(item)),
        }
    }

    /// Where the workflow stands.
    pub fn state(&self, plan: &Plan) -> WorkflowState {
        let mut dead = false;
        let mut failed = false;
        let mut open = false;
        for step in &self.steps {
            match step.state {
                StepState::Queued | StepState::Running | StepState::Scheduled => {
                    return WorkflowState::Running;
                }
                StepState::Dead => dead = true,
                StepState::Blocked | StepState::Expanded => open = true,
                StepState::Failed => {
                    failed |= !plan.steps.get(usize::from(step.plan)).is_some_and(|p| p.optional);
                }
                StepState::Succeeded | StepState::Skipped | StepState::Cancelled => {}
            }
        }
        // Open without anything dead cannot be: `decide` leaves no step blocked
        // whose needs are settled. Saying `stalled` shows it if it ever were.
        if dead || open {
            WorkflowState::Stalled
        } else if self.cancelled {
            WorkflowState::Cancelled
        } else if failed {
            WorkflowState::Failed
        } else {
            WorkflowState::Succeeded
        }
    }

    /// How many steps are in a state.
    pub fn count(&self, state: StepState) -> usize {
        self.steps.iter().filter(|s| s.state == state).count()
    }
}
