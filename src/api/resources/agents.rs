//! Agent types as workers registered them.

use axum::Json;
use axum::extract::State;

use crate::authorize::{May, Read};
use crate::config::ApiState;
use crate::error::ApiError;
use crate::views::{Agent, Page};

/// Lists the agent types, by name.
#[utoipa::path(
    get, path = "/v1/agents", operation_id = "listAgents", tag = "agents",
    responses((status = 200, description = "All of them", body = Page<Agent>)),
)]
pub(crate) async fn list(
    State(state): State<ApiState>,
    _grant: May<Read>,
) -> Result<Json<Page<Agent>>, ApiError> {
    let agents = state.engine.store().list_agents().await?;
    Ok(Json(Page { items: agents.into_iter().map(Into::into).collect(), next_cursor: None }))
}
