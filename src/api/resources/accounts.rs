//! Accounts: add, list, remove, try. No answer has a credential.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use galley_engine::EngineError;

use crate::authorize::{ManageAccounts, May, Read};
use crate::config::ApiState;
use crate::error::ApiError;
use crate::extract::{Body, account_name, to_the_end};
use crate::views::{Account, AccountTest, AddAccount, Page};

/// Lists the accounts, by name.
#[utoipa::path(
    get, path = "/v1/accounts", operation_id = "listAccounts", tag = "accounts",
    responses((status = 200, description = "All of them", body = Page<Account>)),
)]
pub(crate) async fn list(
    State(state): State<ApiState>,
    grant: May<Read>,
) -> Result<Json<Page<Account>>, ApiError> {
    let accounts = state.engine.store().accounts(grant.workspace).await?;
    Ok(Json(Page { items: accounts.into_iter().map(Into::into).collect(), next_cursor: None }))
}

/// Adds an account.
///
/// The credential is sealed before it is stored and is in no answer.
#[utoipa::path(
    post, path = "/v1/accounts", operation_id = "addAccount", tag = "accounts",
    request_body = AddAccount,
    responses(
        (status = 201, description = "Added", body = Account),
        (status = 409, description = "The name is taken, or the deployment has no key to seal with",
            body = crate::views::Problem, content_type = "application/problem+json"),
        (status = 422, description = "Not valid: every problem is named",
            body = crate::views::Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn add(
    State(state): State<ApiState>,
    grant: May<ManageAccounts>,
    Body(add): Body<AddAccount>,
) -> Result<impl IntoResponse, ApiError> {
    let (workspace, actor) = (grant.workspace, grant.actor.clone());
    let engine = state.engine.clone();
    let added = to_the_end(async move { engine.add_account(workspace, add.into(), &actor).await }).await?;
    Ok((StatusCode::CREATED, Json(Account::from(added))))
}

/// Removes an account and its credential.
///
/// What is out stays known. Posts that are not out become dead letters when
/// their time comes.
#[utoipa::path(
    delete, path = "/v1/accounts/{name}", operation_id = "removeAccount", tag = "accounts",
    params(("name" = String, Path, description = "The account's name")),
    responses((status = 200, description = "The account as it was", body = Account)),
)]
pub(crate) async fn remove(
    State(state): State<ApiState>,
    grant: May<ManageAccounts>,
    Path(name): Path<String>,
) -> Result<Json<Account>, ApiError> {
    account_name(&name)?;
    let (workspace, actor) = (grant.workspace, grant.actor.clone());
    let engine = state.engine.clone();
    let removed = to_the_end(async move {
        let account = engine.account(workspace, &name).await?;
        engine.remove_account(workspace, &name, &actor).await?;
        Ok::<_, EngineError>(account)
    })
    .await?;
    Ok(Json(removed.into()))
}

/// Tries an account without publishing anything.
///
/// The API cannot open credentials: a worker that publishes tries it, and this
/// waits for its answer, up to 15 seconds.
#[utoipa::path(
    post, path = "/v1/accounts/{name}/test", operation_id = "testAccount", tag = "accounts",
    params(("name" = String, Path, description = "The account's name")),
    responses(
        (status = 200, description = "How it went: `ok` or what is wrong", body = AccountTest),
        (status = 409, description = "No worker that publishes answered in time",
            body = crate::views::Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn test(
    State(state): State<ApiState>,
    grant: May<ManageAccounts>,
    Path(name): Path<String>,
) -> Result<Json<AccountTest>, ApiError> {
    account_name(&name)?;
    Ok(Json(state.engine.test_account(grant.workspace, &name, &grant.actor).await?.into()))
}
