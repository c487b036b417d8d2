//! What a workflow's event stream says.

use galley_core::ids::WorkflowId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::words::{TaskState, WorkflowState};

/// `event: step`: where a step stands now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepEvent {
    /// `<workflow id>.<step name>`.
    pub task_id: String,
    /// The step's name.
    pub step: String,
    /// The agent type.
    pub agent: String,
    /// Where it stands.
    pub state: TaskState,
    /// Attempts that count.
    pub attempts: u16,
    /// The workflow's change number at which it came to stand there.
    pub seq: u64,
}

/// `event: workflow`: where the workflow stands now. The last event of each
/// change, and after a final state of the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowEvent {
    /// The workflow.
    #[schema(value_type = Uuid)]
    pub workflow_id: WorkflowId,
    /// Where it stands.
    pub state: WorkflowState,
    /// Its change number; also the event's `id`.
    pub seq: u64,
}
