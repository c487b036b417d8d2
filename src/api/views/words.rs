//! The closed sets of words: states, statuses, roles.

use std::fmt;

use galley_core::automation::Mode;
use galley_core::{publish, run};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where a workflow stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WorkflowState {
    /// Something is queued, running or will be by itself.
    Running,
    /// Nothing runs; it waits for a person or for a post's slot.
    Waiting,
    /// Nothing can move, and something is dead: a person retries or discards.
    Stalled,
    /// Done. Final.
    Succeeded,
    /// A step failed for good. Final.
    Failed,
    /// It was cancelled. Final.
    Cancelled,
}

impl WorkflowState {
    /// Whether the state never changes again.
    pub fn is_final(self) -> bool {
        run::WorkflowState::from(self).is_final()
    }
}

impl From<run::WorkflowState> for WorkflowState {
    fn from(state: run::WorkflowState) -> Self {
        match state {
            run::WorkflowState::Running => Self::Running,
            run::WorkflowState::Waiting => Self::Waiting,
            run::WorkflowState::Stalled => Self::Stalled,
            run::WorkflowState::Succeeded => Self::Succeeded,
            run::WorkflowState::Failed => Self::Failed,
            run::WorkflowState::Cancelled => Self::Cancelled,
        }
    }
}

impl From<WorkflowState> for run::WorkflowState {
    fn from(state: WorkflowState) -> Self {
        match state {
            WorkflowState::Running => Self::Running,
            WorkflowState::Waiting => Self::Waiting,
            WorkflowState::Stalled => Self::Stalled,
            WorkflowState::Succeeded => Self::Succeeded,
            WorkflowState::Failed => Self::Failed,
            WorkflowState::Cancelled => Self::Cancelled,
        }
    }
}

impl fmt::Display for WorkflowState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(run::WorkflowState::from(*self).word())
    }
}

/// Where a task (a step) stands, exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Its needs are not met yet.
    Blocked,
    /// It may run: it waits in its agent's queue.
    Queued,
    /// A worker holds its lease.
    Running,
    /// It waits for a time (a retry).
    Scheduled,
    /// A `forEach` step whose parts are not all final yet.
    Expanded,
    /// It produced a result. Final.
    Succeeded,
    /// Its condition was false. Final.
    Skipped,
    /// It failed for good. Final.
    Failed,
    /// It was cancelled. Final.
    Cancelled,
    /// A dead letter: a person retries or discards it.
    Dead,
    /// It waits for a person.
    WaitingApproval,
    /// Nobody knows yet whether its post went out.
    Unknown,
    /// Only a person can find out whether its post went out.
    InDoubt,
    /// A budget has no room for its next call: it goes on when the budget is
    /// raised or its period turns.
    WaitingBudget,
}

impl TaskState {
    /// The word used everywhere.
    pub fn word(self) -> &'static str {
        run::StepState::from(self).word()
    }
}

impl From<run::StepState> for TaskState {
    fn from(state: run::StepState) -> Self {
        match state {
            run::StepState::Blocked => Self::Blocked,
            run::StepState::Queued => Self::Queued,
            run::StepState::Running => Self::Running,
            run::StepState::Scheduled => Self::Scheduled,
            run::StepState::Expanded => Self::Expanded,
            run::StepState::Succeeded => Self::Succeeded,
            run::StepState::Skipped => Self::Skipped,
            run::StepState::Failed => Self::Failed,
            run::StepState::Cancelled => Self::Cancelled,
            run::StepState::Dead => Self::Dead,
            run::StepState::WaitingApproval => Self::WaitingApproval,
            run::StepState::Unknown => Self::Unknown,
            run::StepState::InDoubt => Self::InDoubt,
            run::StepState::WaitingBudget => Self::WaitingBudget,
        }
    }
}

impl From<TaskState> for run::StepState {
    fn from(state: TaskState) -> Self {
        match state {
            TaskState::Blocked => Self::Blocked,
            TaskState::Queued => Self::Queued,
            TaskState::Running => Self::Running,
            TaskState::Scheduled => Self::Scheduled,
            TaskState::Expanded => Self::Expanded,
            TaskState::Succeeded => Self::Succeeded,
            TaskState::Skipped => Self::Skipped,
            TaskState::Failed => Self::Failed,
            TaskState::Cancelled => Self::Cancelled,
            TaskState::Dead => Self::Dead,
            TaskState::WaitingApproval => Self::WaitingApproval,
            TaskState::Unknown => Self::Unknown,
            TaskState::InDoubt => Self::InDoubt,
            TaskState::WaitingBudget => Self::WaitingBudget,
        }
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// Where a task stands, in the four words of AgentTaskHistory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskStatus {
    /// Blocked, queued or scheduled.
    Pending,
    /// Running, or waiting for its parts.
    Running,
    /// Succeeded or skipped.
    Completed,
    /// Failed, dead or cancelled.
    Failed,
}

impl TaskStatus {
    /// The word used everywhere.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }
}

impl From<run::StepState> for TaskStatus {
    fn from(state: run::StepState) -> Self {
        match state.history_word() {
            "pending" => Self::Pending,
            "running" => Self::Running,
            "completed" => Self::Completed,
            _ => Self::Failed,
        }
    }
}

impl fmt::Display for TaskStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// What became of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LetterStatus {
    /// It waits for a person.
    Open,
    /// It was sent back to its queue.
    Replayed,
    /// It was given up.
    Discarded,
    /// Its workflow was cancelled.
    Cancelled,
}

impl LetterStatus {
    /// Every status.
    pub const ALL: [Self; 4] = [Self::Open, Self::Replayed, Self::Discarded, Self::Cancelled];

    /// The word used everywhere.
    pub fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Replayed => "replayed",
            Self::Discarded => "discarded",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for LetterStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// Where a post stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PostState {
    /// Made, not yet judged by the policy.
    Draft,
    /// A person has to say yes.
    WaitingApproval,
    /// It goes out at its slot.
    Scheduled,
    /// On its way to the platform.
    Publishing,
    /// Nobody knows yet whether it went out; Galley finds out.
    Unknown,
    /// Only a person can find out whether it went out.
    InDoubt,
    /// It is out. Final.
    Published,
    /// A person said no. Final.
    Rejected,
    /// It was refused for good: a dead letter knows why.
    Failed,
    /// Nobody said yes in time. Final.
    Expired,
    /// Its workflow was cancelled. Final.
    Cancelled,
}

impl PostState {
    /// The word used everywhere.
    pub fn word(self) -> &'static str {
        publish::PostState::from(self).word()
    }
}

impl From<PostState> for publish::PostState {
    fn from(state: PostState) -> Self {
        match state {
            PostState::Draft => Self::Draft,
            PostState::WaitingApproval => Self::WaitingApproval,
            PostState::Scheduled => Self::Scheduled,
            PostState::Publishing => Self::Publishing,
            PostState::Unknown => Self::Unknown,
            PostState::InDoubt => Self::InDoubt,
            PostState::Published => Self::Published,
            PostState::Rejected => Self::Rejected,
            PostState::Failed => Self::Failed,
            PostState::Expired => Self::Expired,
            PostState::Cancelled => Self::Cancelled,
        }
    }
}

/// Where a question to a person stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalStatus {
    /// Nobody answered yet.
    Pending,
    /// A person said yes.
    Approved,
    /// A person said no.
    Rejected,
    /// Nobody answered in time.
    Expired,
    /// What it was about was changed, or is over.
    Void,
}

impl ApprovalStatus {
    /// Every status.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Approved, Self::Rejected, Self::Expired, Self::Void];

    /// The word used everywhere.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Void => "void",
        }
    }
}

/// Who decides that work goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AutomationMode {
    /// Agents run and posts go out by themselves.
    FullAutonomous,
    /// Agents run by themselves; each post waits for an approval.
    Assisted,
    /// Each step waits for a person's go, each post for an approval.
    Manual,
    /// Agents run by themselves; rules decide about posts. While there are no
    /// rules, each post waits for an approval.
    Hybrid,
}

impl AutomationMode {
    /// The word used everywhere.
    pub fn word(self) -> &'static str {
        Mode::from(self).word()
    }
}

/// What somebody may do; a token carries one or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Submits and cancels workflows, stores templates.
    Producer,
    /// Approves posts.
    Approver,
    /// Runs queues and repairs dead letters; also submits and cancels.
    Operator,
    /// Reads the audit log.
    Auditor,
    /// Everything, and workspaces and tokens.
    Admin,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] = [Self::Producer, Self::Approver, Self::Operator, Self::Auditor, Self::Admin];

    /// The word used in tokens and by the CLI.
    pub fn word(self) -> &'static str {
        match self {
            Self::Producer => "producer",
            Self::Approver => "approver",
            Self::Operator => "operator",
            Self::Auditor => "auditor",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl std::str::FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|role| role.word() == text)
            .ok_or_else(|| format!("`{text}` is not a role: producer, approver, operator, auditor or admin"))
    }
}
