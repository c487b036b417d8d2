//! Why something does not move: one sentence, and what to do.

use axum::Json;
use axum::extract::{Path, State};

use crate::authorize::{May, Read};
use crate::config::ApiState;
use crate::error::ApiError;
use crate::extract::{agent_type, task_id};
use crate::views::Why;

/// Says what a workflow, a task, a post, an approval, a schedule or a queue waits for.
#[utoipa::path(
    get, path = "/v1/why/{id}", operation_id = "why", tag = "why",
    params(("id" = String, Path, description = "The id of a workflow, a post, an approval, a schedule or a task, or an agent type")),
    responses((status = 200, description = "One sentence", body = Why)),
)]
pub(crate) async fn show(
    State(state): State<ApiState>,
    grant: May<Read>,
    Path(id): Path<String>,
) -> Result<Json<Why>, ApiError> {
    let why = if let Ok(any) = id.parse() {
        state.engine.why_id(grant.workspace, any).await?
    } else if let Ok((workflow, step_name)) = task_id(&id) {
        state.engine.why(grant.key(workflow), Some(step_name)).await?
    } else if let Ok(agent) = agent_type(&id) {
        state.engine.why_queue(&agent).await?
    } else {
        let told = format!(
            "`{id}` is none of: the id of a workflow, a post, an approval or a schedule, a task id (<workflow id>.<step \
             name>), an agent type"
        );
        return Err(ApiError::malformed("id", told));
    };
    Ok(Json(Why { id, sentence: why.sentence, needs_action: why.needs_action }))
}
