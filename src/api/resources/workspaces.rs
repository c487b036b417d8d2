//! Workspaces: create, list. A workspace's token knows its own; only a token of
//! the deployment makes and sees others.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;

use crate::authorize::{MakeWorkspace, May, Read};
use crate::config::ApiState;
use crate::error::ApiError;
use crate::extract::{Body, to_the_end};
use crate::views::{CreateWorkspace, Page, Workspace};

/// Lists the workspaces, by name.
///
/// All of them to a token of the deployment, else the token's own.
#[utoipa::path(
    get, path = "/v1/workspaces", operation_id = "listWorkspaces", tag = "workspaces",
    responses((status = 200, description = "Those the token opens", body = Page<Workspace>)),
)]
pub(crate) async fn list(
    State(state): State<ApiState>,
    grant: May<Read>,
) -> Result<Json<Page<Workspace>>, ApiError> {
    let store = state.engine.store();
    let workspaces = if grant.is_of_deployment() {
        store.list_workspaces().await?
    } else {
        store.workspace(grant.workspace).await?.into_iter().collect()
    };
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
    grant: May<MakeWorkspace>,
    Body(new): Body<CreateWorkspace>,
) -> Result<impl IntoResponse, ApiError> {
    let actor = grant.actor.clone();
    let made =
        to_the_end(async move { state.engine.create_workspace(&new.name, new.weight, &actor).await }).await?;
    Ok((StatusCode::CREATED, Json(Workspace::from(made))))
}
