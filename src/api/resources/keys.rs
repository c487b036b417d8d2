//! API keys: create, list, revoke. The store has hashes; the secret is shown
//! once, to whoever made it.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::IntoResponse;
use galley_engine::store::{AuditWrite, Hashes, KeyWrite};
use secrecy::ExposeSecret as _;
use serde_json::json;

use crate::auth::NewKey;
use crate::authorize::{ManageKeys, May, ReadKeys};
use crate::config::ApiState;
use crate::error::ApiError;
use crate::extract::{Body, to_the_end};
use crate::views::{ApiKey, CreateKey, CreatedKey, Page};

/// Longest name, in bytes.
const MAX_NAME_BYTES: usize = 100;

/// Lists the workspace's keys, newest first; revoked and expired ones, too.
#[utoipa::path(
    get, path = "/v1/keys", operation_id = "listKeys", tag = "workspaces",
    responses((status = 200, description = "At most 1,000", body = Page<ApiKey>)),
)]
pub(crate) async fn list(
    State(state): State<ApiState>,
    grant: May<ReadKeys>,
) -> Result<Json<Page<ApiKey>>, ApiError> {
    let keys = state.engine.store().list_keys(grant.workspace).await?;
    Ok(Json(Page { items: keys.into_iter().map(Into::into).collect(), next_cursor: None }))
}

/// Makes a key.
#[utoipa::path(
    post, path = "/v1/keys", operation_id = "createKey", tag = "workspaces",
    request_body = CreateKey,
    responses((status = 201, description = "The key; its secret is shown once", body = CreatedKey)),
)]
pub(crate) async fn create(
    State(state): State<ApiState>,
    grant: May<ManageKeys>,
    Body(mut wish): Body<CreateKey>,
) -> Result<impl IntoResponse, ApiError> {
    let workspace = grant.enter(wish.workspace_id)?;
    if wish.name.is_empty() || wish.name.len() > MAX_NAME_BYTES || wish.name.chars().any(char::is_control) {
        let told = format!("1-{MAX_NAME_BYTES} bytes without control characters");
        return Err(ApiError::invalid("name", told));
    }
    wish.roles.sort_unstable();
    wish.roles.dedup();
    grant.hand_on(&wish.roles)?;
    let (ttl, longest) = (Duration::from_secs(wish.ttl_seconds), state.door.longest());
    if ttl.is_zero() || ttl > longest {
        return Err(ApiError::invalid(
            "ttlSeconds",
            format!("1 second to {} days", longest.as_secs() / 86_400),
        ));
    }
    if state.engine.store().workspace(workspace).await?.is_none() {
        return Err(ApiError::not_found("workspace", &workspace.to_string()));
    }
    let NewKey { prefix, text, hash } = NewKey::draw();
    let roles: Vec<_> = wish.roles.iter().map(|role| role.word().to_owned()).collect();
    let audit = AuditWrite {
        workspace,
        key: None,
        actor: grant.actor.to_string(),
        action: "key.create",
        object: prefix.clone(),
        detail: Some(
            json!({ "name": wish.name, "roles": roles, "ttlSeconds": wish.ttl_seconds }).to_string(),
        ),
        hashes: Hashes::default(),
    };
    let write = KeyWrite { prefix, name: wish.name, hash, roles, ttl, audit };
    let row = to_the_end(async move { state.engine.store().create_key(write).await }).await?;
    let created = CreatedKey { secret: text.expose_secret().to_owned(), key: row.into() };
    Ok((StatusCode::CREATED, [(CACHE_CONTROL, "no-store")], Json(created)))
}

/// Revokes a key.
///
/// Every API server refuses it after two seconds at most. Once more changes
/// nothing.
#[utoipa::path(
    delete, path = "/v1/keys/{prefix}", operation_id = "revokeKey", tag = "workspaces",
    params(("prefix" = String, Path, description = "What it is known by")),
    responses((status = 200, description = "The key, revoked", body = ApiKey)),
)]
pub(crate) async fn revoke(
    State(state): State<ApiState>,
    grant: May<ManageKeys>,
    Path(prefix): Path<String>,
) -> Result<Json<ApiKey>, ApiError> {
    let audit = AuditWrite {
        workspace: grant.workspace,
        key: None,
        actor: grant.actor.to_string(),
        action: "key.revoke",
        object: prefix.clone(),
        detail: None,
        hashes: Hashes::default(),
    };
    let (store, named) = (state.engine.store().clone(), prefix.clone());
    let row = to_the_end(async move { store.revoke_key(&named, audit).await }).await?;
    state.door.ended().forget_key(&prefix);
    Ok(Json(row.ok_or_else(|| ApiError::not_found("key", &prefix))?.into()))
}
