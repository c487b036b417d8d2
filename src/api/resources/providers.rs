//! Providers of the workspace's own: list, set, remove. No answer has a key.

use axum::Json;
use axum::extract::{Path, State};

use crate::authorize::{May, Read, SetProviders};
use crate::config::ApiState;
use crate::error::ApiError;
use crate::extract::{Body, provider_name, to_the_end};
use crate::views::{Page, Provider, SetProvider};

/// Lists the workspace's own providers, by name.
///
/// Where it has none of a name, the deployment's answers, if that has one.
#[utoipa::path(
    get, path = "/v1/providers", operation_id = "listProviders", tag = "providers",
    responses((status = 200, description = "All of them", body = Page<Provider>)),
)]
pub(crate) async fn list(
    State(state): State<ApiState>,
    grant: May<Read>,
) -> Result<Json<Page<Provider>>, ApiError> {
    let providers = state.engine.store().providers(grant.workspace).await?;
    Ok(Json(Page { items: providers.into_iter().map(Into::into).collect(), next_cursor: None }))
}

/// Sets a provider of the workspace's own, in place of one of the same name.
///
/// What is not given is not there any more, the key included: it never goes to
/// an address it was not given for. It is sealed before it is stored and is in no
/// answer. In force within two seconds; calls under way end as they began.
#[utoipa::path(
    put, path = "/v1/providers/{name}", operation_id = "setProvider", tag = "providers",
    params(("name" = String, Path, description = "`openai`, `anthropic`, `gemini` or `ollama`: what it speaks, and what agents call it")),
    request_body = SetProvider,
    responses(
        (status = 200, description = "The provider as it is now", body = Provider),
        (status = 409, description = "The deployment has no key to seal with",
            body = crate::views::Problem, content_type = "application/problem+json"),
        (status = 422, description = "Not valid: every problem is named",
            body = crate::views::Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn set(
    State(state): State<ApiState>,
    grant: May<SetProviders>,
    Path(name): Path<String>,
    Body(set): Body<SetProvider>,
) -> Result<Json<Provider>, ApiError> {
    provider_name(&name)?;
    let (engine, workspace, actor) = (state.engine.clone(), grant.workspace, grant.actor.clone());
    let done = to_the_end(async move { engine.set_provider(workspace, &name, set.into(), &actor).await });
    Ok(Json(done.await?.into()))
}

/// Removes a provider of the workspace's own, and its key.
///
/// The deployment's of that name, if it has one, answers again.
#[utoipa::path(
    delete, path = "/v1/providers/{name}", operation_id = "removeProvider", tag = "providers",
    params(("name" = String, Path, description = "The provider's name")),
    responses((status = 200, description = "The provider as it was", body = Provider)),
)]
pub(crate) async fn remove(
    State(state): State<ApiState>,
    grant: May<SetProviders>,
    Path(name): Path<String>,
) -> Result<Json<Provider>, ApiError> {
    provider_name(&name)?;
    let (engine, workspace, actor) = (state.engine.clone(), grant.workspace, grant.actor.clone());
    let done = to_the_end(async move { engine.remove_provider(workspace, &name, &actor).await });
    Ok(Json(done.await?.into()))
}
