//! Tokens: issue, revoke. They are signed, not stored; each leaves an audit line
//! in the workspace it opens.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::IntoResponse;
use galley_engine::store::{AuditWrite, Hashes, MOST_REVOKED, Revoke};
use serde_json::json;

use crate::auth::{NewToken, NewWorkerToken, REVOKED_WITHIN, TokenError};
use crate::authorize::{IssueToken as MayIssue, May};
use crate::config::ApiState;
use crate::error::{ApiError, CONFLICT};
use crate::extract::{Body, to_the_end};
use crate::views::{IssueToken, IssuedToken, RevokeTokens, RevokedTokens};

/// Issues a token for a workspace, or for a worker that speaks to the gateway.
#[utoipa::path(
    post, path = "/v1/tokens", operation_id = "issueToken", tag = "workspaces",
    request_body = IssueToken,
    responses((status = 201, description = "The token; it is shown once", body = IssuedToken)),
)]
pub(crate) async fn issue(
    State(state): State<ApiState>,
    grant: May<MayIssue>,
    Body(wish): Body<IssueToken>,
) -> Result<impl IntoResponse, ApiError> {
    let workspace = grant.enter(wish.workspace_id)?;
    if wish.deployment && !grant.is_of_deployment() {
        let told = "only a token of the deployment issues another one";
        return Err(ApiError::forbidden(told.into()));
    }
    if !wish.agents.is_empty() {
        if !grant.is_of_deployment() {
            let told =
                "a worker runs steps of all workspaces: only a token of the deployment issues its token";
            return Err(ApiError::forbidden(told.into()));
        }
        if wish.deployment || !wish.roles.is_empty() {
            let told = "a worker's token has no roles: name either `agents`, or `roles` (and `deployment`)";
            return Err(ApiError::invalid("agents", told));
        }
    }
    if !wish.roles.is_empty() {
        grant.hand_on(&wish.roles)?;
    }
    if state.engine.store().workspace(workspace).await?.is_none() {
        return Err(ApiError::not_found("workspace", &workspace.to_string()));
    }
    let ttl = Duration::from_secs(wish.ttl_seconds);
    let IssueToken { subject, roles, deployment, agents, .. } = wish;
    let issued = if agents.is_empty() {
        let new = NewToken { workspace, subject: subject.clone(), roles: roles.clone(), ttl, deployment };
        state.door.signer().issue(&new)
    } else {
        let agents = agents.clone();
        let new = NewWorkerToken { workspace, subject: subject.clone(), agents, ttl };
        state.door.signer().issue_for_worker(&new)
    };
    let issued = issued.map_err(|error| match error {
        TokenError::Invalid { at, problem } => ApiError::invalid(at, problem),
        other => ApiError::internal(other.to_string()),
    })?;
    let mut detail = json!({ "id": issued.id, "roles": roles, "expiresAt": issued.expires_at });
    if deployment {
        detail["deployment"] = true.into();
    }
    if !agents.is_empty() {
        detail["agents"] = json!(agents);
    }
    // Before the token is handed out: none goes unrecorded.
    let line = AuditWrite {
        workspace,
        key: None,
        actor: grant.actor.to_string(),
        action: "token.issue",
        object: subject,
        // Never the token itself.
        detail: Some(detail.to_string()),
        hashes: Hashes::default(),
    };
    state.engine.store().audit(line).await?;
    Ok((StatusCode::CREATED, [(CACHE_CONTROL, "no-store")], Json(issued)))
}

/// Longest name of what is revoked, in bytes.
const MAX_REVOKED_BYTES: usize = 200;

/// Ends tokens before their time: one by its id, or all that a subject was
/// issued until now.
///
/// Every API server refuses them after two seconds at most. A token that the
/// subject is issued within the same second is refused, too. Keys that the
/// subject made are not touched: `GET /v1/keys` shows who made them.
#[utoipa::path(
    post, path = "/v1/tokens/revoke", operation_id = "revokeTokens", tag = "workspaces",
    request_body = RevokeTokens,
    responses((status = 200, description = "Revoked", body = RevokedTokens)),
)]
pub(crate) async fn revoke(
    State(state): State<ApiState>,
    grant: May<MayIssue>,
    Body(wish): Body<RevokeTokens>,
) -> Result<Json<RevokedTokens>, ApiError> {
    let workspace = grant.enter(wish.workspace_id)?;
    let (at, name, what) = match (&wish.id, &wish.subject) {
        (Some(id), None) => ("id", id, Revoke::Token(id.clone())),
        (None, Some(subject)) => ("subject", subject, Revoke::Subject(subject.clone())),
        _ => return Err(ApiError::invalid("body", "name either `id` or `subject`")),
    };
    if name.is_empty() || name.len() > MAX_REVOKED_BYTES || name.chars().any(char::is_control) {
        let told = format!("1-{MAX_REVOKED_BYTES} bytes without control characters");
        return Err(ApiError::invalid(at, told));
    }
    let audit = AuditWrite {
        workspace,
        key: None,
        actor: grant.actor.to_string(),
        action: if wish.id.is_some() { "token.revoke" } else { "subject.revoke" },
        object: name.clone(),
        detail: None,
        hashes: Hashes::default(),
    };
    let (store, longest) = (state.engine.store().clone(), state.door.longest());
    let revoked = to_the_end(async move { store.revoke(what, longest, audit).await }).await?;
    if !revoked {
        let told = format!(
            "workspace {workspace} has {MOST_REVOKED} of them revoked already; revoke a subject instead of \
             single tokens, or change the deployment's secret"
        );
        return Err(ApiError::new(CONFLICT, told));
    }
    state.door.ended().forget_revocations(workspace);
    Ok(Json(RevokedTokens {
        workspace_id: workspace,
        id: wish.id,
        subject: wish.subject,
        within_seconds: REVOKED_WITHIN.as_secs(),
    }))
}
