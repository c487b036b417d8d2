//! Agent types as workers registered them.

use axum::Json;
use axum::extract::{Path, State};
use galley_engine::EngineError;

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

/// Shows an agent type: what it takes, what it makes, an example.
#[utoipa::path(
    get, path = "/v1/agents/{agent}", operation_id = "showAgent", tag = "agents",
    params(("agent" = String, Path, description = "Its name")),
    responses((status = 200, description = "The agent type", body = Agent)),
)]
pub(crate) async fn show(
    State(state): State<ApiState>,
    _grant: May<Read>,
    Path(name): Path<String>,
) -> Result<Json<Agent>, ApiError> {
    let agents = state.engine.store().list_agents().await?;
    let found = agents.into_iter().find(|row| row.spec.agent.as_str() == name);
    let found = found.ok_or(EngineError::NotFound { kind: "agent", id: name })?;
    Ok(Json(found.into()))
}
