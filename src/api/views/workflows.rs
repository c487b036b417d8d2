//! Workflows: what is submitted, what is shown.

use galley_core::definition::Definition;
use galley_core::ids::{PostId, WorkflowId, WorkspaceId};
use galley_engine::store::PostRow;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::collaboration::{Collaboration, Span};
use super::definition::DefinitionShape;
use super::posts::telling;
use super::tasks::TaskError;
use super::words::{PostState, TaskState, WorkflowState};

/// A request to run a workflow: a template or a definition, and its input.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SubmitWorkflow {
    /// `name` (the newest version) or `name@version` of a template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "single_post")]
    pub template: Option<String>,
    /// A definition of its own instead of a template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<DefinitionShape>)]
    pub definition: Option<Definition>,
    /// The workflow's input: the brief. At most 256 KiB of JSON.
    #[serde(default)]
    pub input: Value,
    /// 0 (first) to 9 (last) within the workspace; 5 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 9)]
    pub priority: Option<u8>,
}

impl From<SubmitWorkflow> for galley_engine::Submit {
    fn from(submit: SubmitWorkflow) -> Self {
        let SubmitWorkflow { template, definition, input, priority } = submit;
        Self { template, definition, input, priority }
    }
}

impl From<galley_engine::Submit> for SubmitWorkflow {
    fn from(submit: galley_engine::Submit) -> Self {
        let galley_engine::Submit { template, definition, input, priority } = submit;
        Self { template, definition, input, priority }
    }
}

/// An accepted workflow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SubmittedWorkflow {
    /// Its id.
    #[schema(value_type = Uuid)]
    pub workflow_id: WorkflowId,
    /// Whether this request made it (202), or an earlier one with the same
    /// idempotency key (200).
    pub new: bool,
}

/// A workflow in a list.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowSummary {
    /// Its id.
    #[schema(value_type = Uuid)]
    pub id: WorkflowId,
    /// Its tenant.
    #[schema(value_type = Uuid)]
    pub workspace_id: WorkspaceId,
    /// Its definition's name.
    pub name: String,
    /// `name@version` of the template it came from.
    pub template: Option<String>,
    /// Where it stands.
    pub state: WorkflowState,
    /// 0 (first) to 9 (last) within the workspace.
    pub priority: u8,
    /// Who submitted it.
    pub created_by: String,
    /// When it was accepted.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it finished.
    #[schema(format = DateTime)]
    pub finished_at: Option<String>,
    /// The number of its last change: what its event stream resumes from.
    pub seq: u64,
    /// How its steps stand.
    pub steps: StepCounts,
}

/// How many steps of a workflow stand where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepCounts {
    /// All of them, expanded parts included.
    pub total: usize,
    /// Those that change no more.
    pub done: usize,
    /// Blocked, queued or scheduled.
    pub pending: usize,
    /// Running, or waiting for their parts.
    pub running: usize,
    /// Dead letters.
    pub dead: usize,
}

/// A workflow with everything its agents did.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowDetail {
    /// As in the list.
    #[serde(flatten)]
    pub summary: WorkflowSummary,
    /// The workflow's input: the brief.
    pub input: Value,
    /// The definition it runs, frozen when it was accepted.
    #[schema(value_type = DefinitionShape)]
    pub definition: Definition,
    /// The W3C trace it was submitted in.
    pub traceparent: Option<String>,
    /// Each agent's contribution, and what they sum up to.
    pub result: CompiledResult,
    /// The posts of its publish steps, in the order of those.
    #[serde(default)]
    pub posts: Vec<WorkflowPost>,
}

/// A post of a workflow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowPost {
    /// Its id: `GET /v1/posts/{id}` is its receipt.
    #[schema(value_type = Uuid)]
    pub id: PostId,
    /// Its publish step.
    pub step: String,
    /// The name of its account.
    pub account: String,
    /// The account's platform.
    pub platform: String,
    /// Where it stands.
    #[schema(value_type = PostState)]
    pub state: String,
    /// What it waits for, or what ended it.
    pub reason: Option<String>,
    /// When it goes out, if that is known.
    #[schema(format = DateTime)]
    pub slot_at: Option<String>,
}

impl From<&PostRow> for WorkflowPost {
    fn from(row: &PostRow) -> Self {
        Self {
            id: row.id,
            step: row.step_name.clone(),
            account: row.account_name.clone(),
            platform: row.platform.clone(),
            state: row.state.clone(),
            reason: telling(&row.state, row.reason.clone()),
            slot_at: row.slot_at.clone(),
        }
    }
}

/// What the agents made of a workflow.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CompiledResult {
    /// One per step, in definition order, expanded parts behind.
    pub contributions: Vec<Contribution>,
    /// Their sums.
    pub totals: Totals,
    /// How well the agents worked together; null until the workflow is over,
    /// and where it was cancelled.
    #[serde(default)]
    pub collaboration: Option<Collaboration>,
}

/// What one agent did for a workflow.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Contribution {
    /// `<workflow id>.<step name>`.
    pub task_id: String,
    /// The step's name; `content.0` for an expanded part.
    pub step: String,
    /// The agent type.
    pub agent: String,
    /// Where the step stands.
    pub state: TaskState,
    /// The steps whose results it needs.
    pub needs: Vec<String>,
    /// Attempts that count.
    pub attempts: u16,
    /// Workers that died holding it.
    pub crashes: u16,
    /// What the agent made; null until it succeeded.
    pub output: Value,
    /// The model's name at its provider.
    pub model: Option<String>,
    /// Who answered.
    pub provider: Option<String>,
    /// Prompt tokens, those of attempts that failed included.
    pub tokens_in: u32,
    /// Completion tokens, those of attempts that failed included.
    pub tokens_out: u32,
    /// Cost in millionths of a US dollar, that of attempts that failed included.
    pub cost_micros: u64,
    /// Whether the answer came from the response cache.
    pub cache_hit: bool,
    /// Run time of the attempt that succeeded, milliseconds.
    pub duration_ms: Option<u32>,
    /// When it succeeded.
    #[schema(format = DateTime)]
    pub finished_at: Option<String>,
    /// When it is tried again, while it waits for that.
    #[schema(format = DateTime)]
    pub due_at: Option<String>,
    /// What its time was, stretch by stretch, from when it could begin to when
    /// it was over, or to now; empty while it waits for other steps.
    #[serde(default)]
    pub timeline: Vec<Span>,
    /// The last error of an attempt, unless the step succeeded.
    pub error: Option<TaskError>,
}

/// Sums over a workflow's steps. Tokens and cost are those of the attempts
/// that succeeded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// Attempts that count.
    pub attempts: u64,
    /// Workers that died holding one of its steps.
    pub crashes: u64,
    /// Prompt tokens, those of attempts that failed included.
    pub tokens_in: u64,
    /// Completion tokens, those of attempts that failed included.
    pub tokens_out: u64,
    /// Cost in millionths of a US dollar, that of attempts that failed included.
    pub cost_micros: u64,
    /// Answers from the response cache.
    pub cache_hits: u64,
    /// What those answers had cost when they were asked for, millionths of a US
    /// dollar: what was saved.
    #[serde(default)]
    pub saved_micros: u64,
    /// Run time of all succeeded attempts together, milliseconds.
    pub agent_ms: u64,
    /// Run time along the longest chain of steps that waited for each other,
    /// milliseconds: no fleet could have been faster. (The chain that the end
    /// really waited for is `collaboration.criticalPath`.)
    pub critical_path_ms: u64,
    /// From accept to finish, or to now, milliseconds.
    pub total_ms: u64,
}
