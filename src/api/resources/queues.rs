//! Queues: depths, pause, resume, limits. They are the fleet's: what an
//! operator sets holds for all workspaces.

use axum::Json;
use axum::extract::{Path, State};
use galley_engine::store::ControlChange;

use crate::authorize::{ControlQueue, Grant, May, Read};
use crate::config::ApiState;
use crate::error::ApiError;
use crate::extract::{Body, MaybeBody, agent_type, to_the_end};
use crate::views::{LimitQueue, Page, PauseQueue, Queue};

/// Longest reason for a pause, in bytes.
const MAX_REASON_BYTES: usize = 500;

/// Lists the queues, by agent type.
#[utoipa::path(
    get, path = "/v1/queues", operation_id = "listQueues", tag = "queues",
    responses((status = 200, description = "All of them", body = Page<Queue>)),
)]
pub(crate) async fn list(
    State(state): State<ApiState>,
    _grant: May<Read>,
) -> Result<Json<Page<Queue>>, ApiError> {
    let queues = state.engine.queues().await?;
    Ok(Json(Page { items: queues.into_iter().map(Into::into).collect(), next_cursor: None }))
}

/// Pauses a queue: nothing of it starts, what runs goes on.
#[utoipa::path(
    post, path = "/v1/queues/{agent}/pause", operation_id = "pauseQueue", tag = "queues",
    params(("agent" = String, Path, description = "The agent type")),
    request_body = Option<PauseQueue>,
    responses((status = 200, description = "The queue as it stands now", body = Queue)),
)]
pub(crate) async fn pause(
    State(state): State<ApiState>,
    grant: May<ControlQueue>,
    Path(agent): Path<String>,
    MaybeBody(pause): MaybeBody<PauseQueue>,
) -> Result<Json<Queue>, ApiError> {
    if pause.reason.as_ref().is_some_and(|reason| reason.len() > MAX_REASON_BYTES) {
        return Err(ApiError::invalid("reason", format!("at most {MAX_REASON_BYTES} bytes")));
    }
    let paused = Some((true, grant.actor.to_string(), pause.reason));
    change(&state, &grant, &agent, ControlChange { paused, ..ControlChange::default() }).await
}

/// Resumes a queue.
#[utoipa::path(
    post, path = "/v1/queues/{agent}/resume", operation_id = "resumeQueue", tag = "queues",
    params(("agent" = String, Path, description = "The agent type")),
    responses((status = 200, description = "The queue as it stands now", body = Queue)),
)]
pub(crate) async fn resume(
    State(state): State<ApiState>,
    grant: May<ControlQueue>,
    Path(agent): Path<String>,
) -> Result<Json<Queue>, ApiError> {
    let paused = Some((false, grant.actor.to_string(), None));
    change(&state, &grant, &agent, ControlChange { paused, ..ControlChange::default() }).await
}

/// Changes a queue's limits.
///
/// A number sets a limit, null lifts it, an absent field stays as it is.
#[utoipa::path(
    post, path = "/v1/queues/{agent}/limit", operation_id = "limitQueue", tag = "queues",
    params(("agent" = String, Path, description = "The agent type")),
    request_body = LimitQueue,
    responses((status = 200, description = "The queue as it stands now", body = Queue)),
)]
pub(crate) async fn limit(
    State(state): State<ApiState>,
    grant: May<ControlQueue>,
    Path(agent): Path<String>,
    Body(limits): Body<LimitQueue>,
) -> Result<Json<Queue>, ApiError> {
    if limits == LimitQueue::default() {
        return Err(ApiError::invalid("body", "name `maxRunning`, `maxRunningPerWorkspace` or both"));
    }
    let checked = |at, limit: Option<Option<u32>>| match limit.flatten() {
        None => Ok(limit.map(|_| None)),
        Some(number) => match i32::try_from(number) {
            Ok(number @ 1..) => Ok(Some(Some(number))),
            _ => Err(ApiError::invalid(at, "1 to 2147483647, or null to lift it")),
        },
    };
    let change_to = ControlChange {
        paused: None,
        max_running: checked("maxRunning", limits.max_running)?,
        max_running_per_workspace: checked("maxRunningPerWorkspace", limits.max_running_per_workspace)?,
    };
    change(&state, &grant, &agent, change_to).await
}

async fn change(
    state: &ApiState,
    grant: &Grant,
    agent: &str,
    change: ControlChange,
) -> Result<Json<Queue>, ApiError> {
    let agent = agent_type(agent)?;
    let (workspace, actor) = (grant.workspace, grant.actor.clone());
    let (engine, changed) = (state.engine.clone(), agent.clone());
    to_the_end(async move { engine.control_agent(workspace, &changed, change, &actor).await }).await?;
    let queue = state.engine.queues().await?.into_iter().find(|queue| queue.agent == agent);
    let queue = queue.ok_or_else(|| ApiError::not_found("agent type", agent.as_str()))?;
    Ok(Json(queue.into()))
}
