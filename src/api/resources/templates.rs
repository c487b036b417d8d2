//! Workflow templates: list, show, store.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::IntoResponse;
use galley_core::definition::Definition;

use crate::authorize::{May, Read, StoreTemplate};
use crate::config::ApiState;
use crate::error::ApiError;
use crate::extract::{Body, to_the_end};
use crate::views::{DefinitionShape, Page, Template};

/// Lists the templates of the workspace, by name.
///
/// Built-in ones and its own, each in its newest version.
#[utoipa::path(
    get, path = "/v1/templates", operation_id = "listTemplates", tag = "templates",
    responses((status = 200, description = "All of them", body = Page<Template>)),
)]
pub(crate) async fn list(
    State(state): State<ApiState>,
    grant: May<Read>,
) -> Result<Json<Page<Template>>, ApiError> {
    let templates = state.engine.templates(grant.workspace).await?;
    Ok(Json(Page { items: templates.into_iter().map(Into::into).collect(), next_cursor: None }))
}

/// Shows a template.
#[utoipa::path(
    get, path = "/v1/templates/{name}", operation_id = "showTemplate", tag = "templates",
    params(("name" = String, Path, description = "`name` (the newest version) or `name@version`")),
    responses((status = 200, description = "The template", body = Template)),
)]
pub(crate) async fn show(
    State(state): State<ApiState>,
    grant: May<Read>,
    Path(name): Path<String>,
) -> Result<Json<Template>, ApiError> {
    Ok(Json(state.engine.template(grant.workspace, &name).await?.into()))
}

/// Stores the next version of a template.
///
/// The definition's name is the template's; workflows that run an earlier
/// version keep it.
#[utoipa::path(
    post, path = "/v1/templates", operation_id = "storeTemplate", tag = "templates",
    request_body = DefinitionShape,
    responses((status = 201, description = "Stored", body = Template)),
)]
pub(crate) async fn store(
    State(state): State<ApiState>,
    grant: May<StoreTemplate>,
    Body(definition): Body<Definition>,
) -> Result<impl IntoResponse, ApiError> {
    let (workspace, actor) = (grant.workspace, grant.actor.clone());
    let engine = state.engine.clone();
    let stored =
        to_the_end(async move { engine.store_template(workspace, definition, &actor).await }).await?;
    let place = format!("/v1/templates/{}@{}", stored.definition.name, stored.version);
    Ok((StatusCode::CREATED, [(LOCATION, place)], Json(Template::from(stored))))
}
