//! Dead letters: steps whose attempts or crashes are used up.

use galley_core::ids::WorkflowId;
use galley_engine::store::{LetterGroup, LetterRow};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::tasks::Attempt;

/// A step that died.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetter {
    /// `<workflow id>.<step name>`: what it is retried or discarded by.
    pub task_id: String,
    /// Its workflow.
    #[schema(value_type = Uuid)]
    pub workflow_id: WorkflowId,
    /// The step's name.
    pub step: String,
    /// The agent type.
    pub agent: String,
    /// Why it died: `attempts`, `crashes`, `permanent` or `condition`.
    pub reason: String,
    /// The last error's class.
    pub class: String,
    /// The last error's message.
    pub message: String,
    /// What groups it with its like.
    pub fingerprint: String,
    /// Attempts that counted.
    pub attempts: u32,
    /// Workers that died holding it.
    pub crashes: u32,
    /// `open`, `replayed`, `discarded` or `cancelled`.
    pub status: String,
    /// When it died.
    #[schema(format = DateTime)]
    pub died_at: String,
    /// When it was closed.
    #[schema(format = DateTime)]
    pub closed_at: Option<String>,
    /// Who closed it.
    pub closed_by: Option<String>,
}

impl From<LetterRow> for DeadLetter {
    fn from(row: LetterRow) -> Self {
        Self {
            task_id: format!("{}.{}", row.key.workflow, row.step_name),
            workflow_id: row.key.workflow,
            step: row.step_name,
            agent: row.agent,
            reason: row.reason,
            class: row.class,
            message: row.message,
            fingerprint: row.fingerprint,
            attempts: row.attempts.unsigned_abs(),
            crashes: row.crashes.unsigned_abs(),
            status: row.status,
            died_at: row.died_at,
            closed_at: row.closed_at,
            closed_by: row.closed_by,
        }
    }
}

/// A dead letter with all it needs to be repaired.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterDetail {
    /// As in the list.
    #[serde(flatten)]
    pub letter: DeadLetter,
    /// The whole input of the step, as a retry would run it and as an edited
    /// retry may replace it: `brief`, `params`, `results`, perhaps `item`.
    pub input: Value,
    /// Every attempt, oldest first.
    pub attempt_log: Vec<Attempt>,
}

/// Open dead letters that died of the same thing.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterGroup {
    /// What they share.
    pub fingerprint: String,
    /// Their agent type.
    pub agent: String,
    /// Why they died.
    pub reason: String,
    /// The error's class.
    pub class: String,
    /// One message of the group.
    pub message: String,
    /// How many are open.
    pub count: u64,
    /// When the first died.
    #[schema(format = DateTime)]
    pub first_at: String,
    /// When the last died.
    #[schema(format = DateTime)]
    pub last_at: String,
}

impl From<LetterGroup> for DeadLetterGroup {
    fn from(group: LetterGroup) -> Self {
        Self {
            fingerprint: group.fingerprint,
            agent: group.agent,
            reason: group.reason,
            class: group.class,
            message: group.message,
            count: group.count.unsigned_abs(),
            first_at: group.first_at,
            last_at: group.last_at,
        }
    }
}

/// A request to retry one dead letter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetryDeadLetter {
    /// Replaces the step's whole input; absent: the input stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
}

/// Which open dead letters to retry or discard. Names at least one field, or
/// says `all`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RepairFilter {
    /// Only of this agent type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Only of this group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// Only of this workflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>)]
    pub workflow: Option<WorkflowId>,
    /// All of the workspace: said on purpose, never by leaving fields out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// Only list what would be touched.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// What a retry or discard by filter did, or would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepairOutcome {
    /// Whether nothing was done.
    pub dry_run: bool,
    /// The tasks that were, or would be, retried or discarded.
    pub tasks: Vec<String>,
    /// The tasks that were left alone, and why.
    pub refused: Vec<RefusedRepair>,
    /// Whether the request reached its limit: repeat it for the rest.
    pub more: bool,
}

/// A dead letter that was left alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RefusedRepair {
    /// The task.
    pub task_id: String,
    /// Why.
    pub reason: String,
}
