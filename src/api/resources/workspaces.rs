//! Workspaces: create, list. Admins are the deployment's, not a workspace's.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;

use crate::authorize::{ManageWorkspaces, May};
use crate::config::ApiState;
use crate::error::ApiError;
use crate::extract::{Body, to_the_end};
use crate::views::{CreateWorkspace, Page, Workspace};

/// Lists the workspaces, by name.
#[utoipa::path(
    get, path = "/v1/workspaces", operation_id = "listWorkspaces", tag = "workspaces",
    responses((status = 200, description = "All of them", body = Page<Workspace>)),
)]
pub(crate) async fn list(
    State(state): State<ApiState>,
    _grant: May<ManageWorkspaces>,
) -> Result<Json<Page<Workspace>>, ApiError> {
    let workspaces = state.engine.store().list_workspaces().await?;
    Ok(Json(Page { items: workspaces.into_iter().map(Into::into).collect(), next_cursor: None }))
}

/// Makes a workspace.
#[utoipa::path(
    post, path = "/v1/workspaces", operation_id = "createWorkspace", tag = "workspaces",
    request_body = CreateWorkspace,
    responses(
        (status = 201, description = "Made", body = Workspace),
        (status = 409, description = "The name is taken",
            body = crate::views::Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn create(
    State(state): State<ApiState>,
    grant: May<ManageWorkspaces>,
    Body(new): Body<CreateWorkspace>,
) -> Result<impl IntoResponse, ApiError> {
    let actor = grant.actor.clone();
    let made =
        to_the_end(async move { state.engine.create_workspace(&new.name, new.weight, &actor).await }).await?;
    Ok((StatusCode::CREATED, Json(Workspace::from(made))))
}
