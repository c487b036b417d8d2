//! Tokens: issue. They are signed, not stored; each leaves an audit line in the
//! workspace it opens.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::IntoResponse;
use galley_engine::store::AuditWrite;
use serde_json::json;

use crate::auth::{NewToken, TokenError};
use crate::authorize::{IssueToken as MayIssue, May};
use crate::config::ApiState;
use crate::error::ApiError;
use crate::extract::Body;
use crate::views::{IssueToken, IssuedToken};

/// Issues a token for a workspace.
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
    let workspace = wish.workspace_id.unwrap_or(grant.workspace);
    if state.engine.store().workspace(workspace).await?.is_none() {
        let told = format!("there is no workspace {workspace}; see `galley workspace list`");
        return Err(ApiError::invalid("workspaceId", told));
    }
    let ttl = Duration::from_secs(wish.ttl_seconds);
    let new = NewToken { workspace, subject: wish.subject, roles: wish.roles, ttl };
    let issued = state.keys.issue(&new).map_err(|error| match error {
        TokenError::Invalid { at, problem } => ApiError::invalid(at, problem),
        other => ApiError::internal(other.to_string()),
    })?;
    // Before the token is handed out: none goes unrecorded.
    let line = AuditWrite {
        workspace,
        key: None,
        actor: grant.actor.to_string(),
        action: "token.issue",
        object: new.subject,
        detail: Some(json!({ "roles": new.roles, "expiresAt": issued.expires_at }).to_string()),
    };
    state.engine.store().audit(line).await?;
    Ok((StatusCode::CREATED, [(CACHE_CONTROL, "no-store")], Json(issued)))
}
