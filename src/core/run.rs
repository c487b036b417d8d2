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
    /// It waits for a person: an approval row says for what.
    WaitingApproval,
    /// A publish step: nobody knows yet whether the post went out.
    Unknown,
    /// A publish step: only a person can find out whether the post went out.
    InDoubt,
    /// A budget has no room for its next call: it goes on when the budget is
    /// raised or its period turns.
    WaitingBudget,
}

impl StepState {
    /// Every state, for exhaustive tests and for the diagram.
    pub const ALL: [Self; 14] = [
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
        Self::WaitingApproval,
        Self::Unknown,
        Self::InDoubt,
        Self::WaitingBudget,
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
            Self::WaitingApproval => "waiting_approval",
            Self::Unknown => "unknown",
            Self::InDoubt => "in_doubt",
            Self::WaitingBudget => "waiting_budget",
        }
    }

    /// The word of the AgentTaskHistory entity, which knows only four.
    pub fn history_word(self) -> &'static str {
        match self {
            Self::Blocked | Self::Queued | Self::Scheduled | Self::WaitingApproval | Self::WaitingBudget => {
                "pending"
            }
            Self::Running | Self::Expanded | Self::Unknown | Self::InDoubt => "running",
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
    /// Nothing runs; it waits for a person, for money or for a post's slot.
    Waiting,
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
    pub const ALL: [Self; 6] =
        [Self::Running, Self::Waiting, Self::Stalled, Self::Succeeded, Self::Failed, Self::Cancelled];

    /// Whether the state never changes again.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    /// The word used in the API, the CLI and the docs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Waiting => "waiting",
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
    /// A publish step's post may be out there. Set before anything is sent,
    /// cleared only by a definite outcome: neither cancel nor a lost worker
    /// ends such a step.
    #[serde(skip)]
    pub intent: bool,
    /// A person said that the step may run.
    #[serde(skip)]
    pub go: bool,
}

impl StepRun {
    /// A step that nothing happened to yet.
    pub fn blocked(plan: StepIndex, item: Option<u16>) -> Self {
        Self {
            plan,
            item,
            state: StepState::Blocked,
            epoch: 0,
            attempts: 0,
            crashes: 0,
            lease: None,
            changed: 0,
            edited: None,
            intent: false,
            go: false,
        }
    }
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
    /// How many messages and context entries its steps have written: whether
    /// there is anything to load for those that follow.
    #[serde(skip)]
    pub said: u32,
}

/// The stored format of a run whose steps have no marks. Kept for those, so
/// that a worker one release older reads them.
const PLAIN: u8 = 1;

/// The stored format of a run with marked steps: the plain run, then the marks.
const MARKED: u8 = 2;

/// The stored format of a run whose steps have said something: the marked run,
/// then how much.
const TALKED: u8 = 3;

/// What the plain format has no place for.
#[derive(Serialize, Deserialize)]
struct Mark {
    step: StepIndex,
    intent: bool,
    go: bool,
}

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
        let steps = (0..plan.steps.len()).map(|index| StepRun::blocked(index as StepIndex, None)).collect();
        Self { priority, cancelled: false, steps, said: 0 }
    }

    /// The bytes to store.
    pub fn encode(&self) -> Vec<u8> {
        // Room for the usual chain in one allocation.
        let out = Vec::with_capacity(16 + 24 * self.steps.len());
        let marks: Vec<Mark> = self
            .steps
            .iter()
            .enumerate()
            .filter(|(_, step)| step.intent || step.go || step.state > StepState::Dead)
            .map(|(index, step)| Mark { step: index as StepIndex, intent: step.intent, go: step.go })
            .collect();
        let format = match (self.said, marks.is_empty()) {
            (0, true) => PLAIN,
            (0, false) => MARKED,
            _ => TALKED,
        };
        // Encoding plain integers and options into memory cannot fail.
        let mut out = postcard::to_extend(&format, out).unwrap_or_default();
        out = postcard::to_extend(self, out).unwrap_or_default();
        if format != PLAIN {
            out = postcard::to_extend(&marks, out).unwrap_or_default();
        }
        if format == TALKED {
            out = postcard::to_extend(&self.said, out).unwrap_or_default();
        }
        out
    }

    /// Reads stored bytes back and checks their invariants.
    ///
    /// # Errors
    /// See [`BadRun`].
    pub fn decode(bytes: &[u8]) -> Result<Self, BadRun> {
        let (&format, rest) = bytes.split_first().ok_or(BadRun::Bytes("empty".into()))?;
        if !matches!(format, PLAIN | MARKED | TALKED) {
            return Err(BadRun::Format(format));
        }
        let bad = |error: postcard::Error| BadRun::Bytes(error.to_string());
        let (mut run, mut left): (Self, _) = postcard::take_from_bytes(rest).map_err(bad)?;
        if format != PLAIN {
            let marks: Vec<Mark>;
            (marks, left) = postcard::take_from_bytes(left).map_err(bad)?;
            for mark in marks {
                let step = run.steps.get_mut(usize::from(mark.step));
                let step = step.ok_or_else(|| BadRun::Bytes(format!("a mark on step {}", mark.step)))?;
                (step.intent, step.go) = (mark.intent, mark.go);
            }
        }
        if format == TALKED {
            (run.said, left) = postcard::take_from_bytes(left).map_err(bad)?;
        }
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
            if step.intent
                && !matches!(
                    step.state,
                    StepState::Running | StepState::Queued | StepState::Unknown | StepState::InDoubt
                )
            {
                return broken("an open intent means running, queued, unknown or in doubt");
            }
            if !step.intent && matches!(step.state, StepState::Unknown | StepState::InDoubt) {
                return broken("unknown and in doubt mean an open intent");
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
        let mut waiting = false;
        for step in &self.steps {
            match step.state {
                // A post waits for its slot; any other step for its next try.
                StepState::Scheduled
                    if plan.steps.get(usize::from(step.plan)).is_some_and(|p| p.publishes) =>
                {
                    waiting = true;
                }
                StepState::Queued | StepState::Running | StepState::Scheduled | StepState::Unknown => {
                    return WorkflowState::Running;
                }
                StepState::WaitingApproval | StepState::InDoubt | StepState::WaitingBudget => waiting = true,
                StepState::Dead => dead = true,
                StepState::Blocked | StepState::Expanded => open = true,
                StepState::Failed => {
                    failed |= !plan.steps.get(usize::from(step.plan)).is_some_and(|p| p.optional);
                }
                StepState::Succeeded | StepState::Skipped | StepState::Cancelled => {}
            }
        }
        if waiting {
            return WorkflowState::Waiting;
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
