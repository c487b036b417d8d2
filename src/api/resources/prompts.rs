//! Prompts: what agents ask their models with in this workspace.

use axum::Json;
use axum::extract::{Path, State};
use galley_engine::Templates;
use serde::Deserialize;

use crate::authorize::{May, Read, SetPrompts};
use crate::config::ApiState;
use crate::error::ApiError;
use crate::extract::{Body, MaybeBody, QueryString, agent_type, to_the_end};
use crate::views::{Page, PreviewPrompt, Prompt, PromptInForce, RenderedPrompt, SetPrompt};

/// Lists the agents that have a prompt, by name, and whose is in force.
#[utoipa::path(
    get, path = "/v1/prompts", operation_id = "listPrompts", tag = "prompts",
    responses((status = 200, description = "All of them", body = Page<PromptInForce>)),
)]
pub(crate) async fn list(
    State(state): State<ApiState>,
    grant: May<Read>,
) -> Result<Json<Page<PromptInForce>>, ApiError> {
    let prompts = state.engine.prompts(grant.workspace).await?;
    Ok(Json(Page { items: prompts.into_iter().map(Into::into).collect(), next_cursor: None }))
}

/// Which version.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ShowPrompt {
    /// One that this workspace set, of the last hundred; absent: the one in force.
    version: Option<u32>,
}

/// Shows an agent's prompt as its two templates.
#[utoipa::path(
    get, path = "/v1/prompts/{agent}", operation_id = "showPrompt", tag = "prompts",
    params(("agent" = String, Path, description = "The agent"), ShowPrompt),
    responses((status = 200, description = "The prompt", body = Prompt)),
)]
pub(crate) async fn show(
    State(state): State<ApiState>,
    grant: May<Read>,
    Path(agent): Path<String>,
    QueryString(query): QueryString<ShowPrompt>,
) -> Result<Json<Prompt>, ApiError> {
    let agent = agent_type(&agent)?;
    Ok(Json(state.engine.prompt(grant.workspace, &agent, query.version.map(i64::from)).await?.into()))
}

/// Sets the workspace's own prompt of an agent, in place of the deployment's.
///
/// It is rendered with the agent's example before it is stored. In force within
/// two seconds; attempts under way end as they began.
#[utoipa::path(
    put, path = "/v1/prompts/{agent}", operation_id = "setPrompt", tag = "prompts",
    params(("agent" = String, Path, description = "The agent")),
    request_body = SetPrompt,
    responses(
        (status = 200, description = "The prompt as it is now", body = Prompt),
        (status = 409, description = "It was changed since it was looked at",
            body = crate::views::Problem, content_type = "application/problem+json"),
        (status = 422, description = "It does not read or render: the line is named",
            body = crate::views::Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn set(
    State(state): State<ApiState>,
    grant: May<SetPrompts>,
    Path(agent): Path<String>,
    Body(set): Body<SetPrompt>,
) -> Result<Json<Prompt>, ApiError> {
    let agent = agent_type(&agent)?;
    let (engine, workspace, actor) = (state.engine.clone(), grant.workspace, grant.actor.clone());
    let SetPrompt { system, user, version } = set;
    // A version that cannot be is one that nobody saw.
    let seen = version.map(|version| i64::try_from(version).unwrap_or(i64::MAX));
    let done = to_the_end(async move {
        engine.set_prompt(workspace, &agent, Templates { system, user }, seen, &actor).await
    });
    Ok(Json(done.await?.into()))
}

/// Puts the deployment's prompt in force again.
///
/// What the workspace had is kept, and can be looked at by its version.
#[utoipa::path(
    delete, path = "/v1/prompts/{agent}", operation_id = "removePrompt", tag = "prompts",
    params(("agent" = String, Path, description = "The agent")),
    responses(
        (status = 200, description = "What is in force now", body = PromptInForce),
        (status = 409, description = "It was changed at the same moment",
            body = crate::views::Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn reset(
    State(state): State<ApiState>,
    grant: May<SetPrompts>,
    Path(agent): Path<String>,
) -> Result<Json<PromptInForce>, ApiError> {
    let agent = agent_type(&agent)?;
    let (engine, workspace, actor) = (state.engine.clone(), grant.workspace, grant.actor.clone());
    let done = to_the_end(async move { engine.reset_prompt(workspace, &agent, &actor).await });
    Ok(Json(done.await?.into()))
}

/// Shows what a prompt makes of an input, without asking a model.
#[utoipa::path(
    post, path = "/v1/prompts/{agent}/preview", operation_id = "previewPrompt", tag = "prompts",
    params(("agent" = String, Path, description = "The agent")),
    request_body = Option<PreviewPrompt>,
    responses(
        (status = 200, description = "The texts a model would be asked with", body = RenderedPrompt),
        (status = 422, description = "It does not read or render: the line is named",
            body = crate::views::Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn preview(
    State(state): State<ApiState>,
    grant: May<Read>,
    Path(agent): Path<String>,
    MaybeBody(preview): MaybeBody<PreviewPrompt>,
) -> Result<Json<RenderedPrompt>, ApiError> {
    let agent = agent_type(&agent)?;
    let PreviewPrompt { templates, input } = preview;
    let templates = templates.map(Into::into);
    Ok(Json(state.engine.preview_prompt(grant.workspace, &agent, templates, input).await?.into()))
}
