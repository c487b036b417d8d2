//! Every JSON shape that crosses the edge, one file per resource: the API
//! writes them, the CLI reads them, OpenAPI describes them.
//!
//! Shapes only: how they come about is the business of the resources, and what
//! they mean is the business of the engine. Fields are camelCase outside and
//! snake_case inside; times are RFC 3339 text; money is millionths of a US
//! dollar. Requests refuse fields they do not know, answers may gain fields.

mod accounts;
mod agents;
mod approvals;
mod audit;
mod automation;
mod budgets;
mod collaboration;
mod dead_letters;
mod definition;
mod events;
mod keys;
mod messages;
mod posts;
mod prompts;
mod providers;
mod queues;
mod schedules;
mod tasks;
mod templates;
mod why;
mod words;
mod workers;
mod workflows;
mod workspaces;

pub use accounts::{Account, AccountTest, AddAccount};
pub use agents::{Agent, RetryPolicy};
pub use approvals::{Approval, ApprovalDetail, Approve};
pub use audit::{AuditCheckpoint, AuditLine};
pub use automation::{Automation, ModelWeights, SetAutomation};
pub use budgets::{
    Budget, BudgetCounter, BudgetPeriod, Saved, SetBudget, SetWorkflowBudget, Spend, SpendBy, SpendItem,
};
pub use collaboration::{Collaboration, CriticalStep, Loss, Span, SpanKind};
pub use dead_letters::{
    DeadLetter, DeadLetterDetail, DeadLetterGroup, RefusedRepair, RepairFilter, RepairOutcome,
    RetryDeadLetter,
};
pub use definition::{DefinitionShape, ForEachShape, RetryOverrideShape, StepShape};
pub use events::{StepEvent, WorkflowEvent};
pub use galley_edge::health::{Check, Health, Readiness, Ready};
pub use galley_edge::{Problem, ProblemAt};
pub use keys::{ApiKey, CreateKey, CreatedKey, RevokeTokens, RevokedTokens};
pub use messages::{
    AgentMessage, CommunicationPattern, MessageMetadata, MessageState, MessageType, SharedEntry,
};
pub use posts::{
    EditPost, EditedPost, Post, PostContent, PostDetail, PostRevision, Publication, PublicationEvent, Reject,
    ReschedulePost, Resolution, ResolvePost,
};
pub use prompts::{PreviewPrompt, Prompt, PromptInForce, PromptTemplates, RenderedPrompt, SetPrompt};
pub use providers::{ModelPrice, Provider, SetProvider};
pub use queues::{LimitQueue, PauseQueue, Queue};
pub use schedules::{AddSchedule, MissedRuns, Schedule, ScheduleDetail, ScheduleState, SetSchedule};
pub use tasks::{AgentTaskHistory, Attempt, ModelChoice, ModelScore, TaskError, TaskResult};
pub use templates::Template;
pub use why::Why;
pub use words::{
    ApprovalStatus, AutomationMode, LetterStatus, PostState, Role, TaskState, TaskStatus, WorkflowState,
};
pub use workers::Worker;
pub use workflows::{
    CompiledResult, Contribution, StepCounts, SubmitWorkflow, SubmittedWorkflow, Totals, WorkflowDetail,
    WorkflowPost, WorkflowSummary,
};
pub use workspaces::{CreateWorkspace, IssueToken, IssuedToken, Workspace};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One page of a list.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Page<T> {
    /// What is on it. A page may be shorter than asked for although more
    /// follow.
    pub items: Vec<T>,
    /// Hand it back as `cursor`, with the same filter, for the next page;
    /// absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}
