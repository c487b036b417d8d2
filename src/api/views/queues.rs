//! Queues: one per agent type.

use galley_engine::QueueView;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

/// An agent's queue, and what operators set about it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Queue {
    /// The agent type.
    pub agent: String,
    /// What the agent is for.
    pub description: String,
    /// Steps ready to run; null while Redis does not answer.
    pub ready: Option<u64>,
    /// Steps taken by workers; null while Redis does not answer.
    pub in_flight: Option<u64>,
    /// Workspaces with ready steps; null while Redis does not answer.
    pub workspaces: Option<u64>,
    /// Nothing of it starts.
    pub paused: bool,
    /// Who paused it.
    pub paused_by: Option<String>,
    /// Why.
    pub paused_reason: Option<String>,
    /// Most steps running at once in the whole fleet.
    pub max_running: Option<u32>,
    /// Most steps running at once for one workspace.
    pub max_running_per_workspace: Option<u32>,
    /// Live workers that serve it.
    pub workers: usize,
    /// Steps those workers may run at once, all their agents together.
    pub capacity: u64,
}

impl From<QueueView> for Queue {
    fn from(view: QueueView) -> Self {
        let limit = |value: Option<i32>| value.map(i32::unsigned_abs);
        let depth = view.depth.as_ref();
        Self {
            agent: view.agent.to_string(),
            description: view.description,
            ready: depth.map(|depth| depth.ready),
            in_flight: depth.map(|depth| depth.in_flight),
            workspaces: depth.map(|depth| depth.workspaces),
            paused: view.control.paused,
            paused_by: view.control.paused_by,
            paused_reason: view.control.paused_reason,
            max_running: limit(view.control.max_running),
            max_running_per_workspace: limit(view.control.max_running_per_workspace),
            workers: view.workers,
            capacity: view.capacity,
        }
    }
}

/// A request to pause a queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PauseQueue {
    /// Why: shown to everybody who asks why nothing moves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A request to change a queue's limits: a number sets one, null lifts it, an
/// absent field stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LimitQueue {
    /// Most steps running at once in the whole fleet.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>, minimum = 1)]
    pub max_running: Option<Option<u32>>,
    /// Most steps running at once for one workspace.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>, minimum = 1)]
    pub max_running_per_workspace: Option<Option<u32>>,
}

/// A field that is there, even as null.
fn present<'de, D: Deserializer<'de>>(field: D) -> Result<Option<Option<u32>>, D::Error> {
    Option::<u32>::deserialize(field).map(Some)
}
