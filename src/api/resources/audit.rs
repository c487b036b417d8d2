//! The audit log: list, and export with its chain.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::IntoResponse;
use futures::StreamExt as _;
use galley_core::chain::ExportLine;
use galley_engine::EngineError;
use serde::Deserialize;

use crate::authorize::{May, ReadAudit};
use crate::config::ApiState;
use crate::cursor::Binding;
use crate::error::ApiError;
use crate::extract::{QueryString, page_limit};
use crate::views::{AuditCheckpoint, AuditLine, Page};

/// Which lines.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListAudit {
    /// Items per page, 1 to 200; 50 when absent.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
    /// The `nextCursor` of the page before.
    cursor: Option<String>,
}

/// Lists the workspace's audit lines, newest first.
#[utoipa::path(
    get, path = "/v1/audit", operation_id = "listAudit", tag = "audit",
    params(ListAudit),
    responses((status = 200, description = "One page", body = Page<AuditLine>)),
)]
pub(crate) async fn list(
    State(state): State<ApiState>,
    grant: May<ReadAudit>,
    QueryString(query): QueryString<ListAudit>,
) -> Result<Json<Page<AuditLine>>, ApiError> {
    let limit = page_limit(query.limit)?;
    let binding = Binding::new("audit", grant.workspace, &());
    let before = binding.open::<i64>(query.cursor.as_deref())?;
    // One more than asked for tells whether there is more.
    let mut lines = state.engine.store().list_audit(grant.workspace, before, limit as i64 + 1).await?;
    let more = lines.len() > limit;
    lines.truncate(limit);
    let last = lines.last().filter(|_| more).map(|line| line.id);
    let next_cursor = last.map(|last| binding.seal(last)).transpose()?;
    Ok(Json(Page { items: lines.into_iter().map(Into::into).collect(), next_cursor }))
}

/// Exports the workspace's whole audit log with its hash chain.
///
/// One JSON object per line, each with one key. `export`: the first line.
/// `link`: a row at its place in the chain, in order; `row` is null when it was
/// removed. `unsealed`: a row that is in no place yet. `checkpoint`: the last
/// line, where the chain ended, signed where the deployment has a key for it.
/// `galley audit verify` checks it. The export itself is in the audit log.
#[utoipa::path(
    get, path = "/v1/audit/export", operation_id = "exportAudit", tag = "audit",
    responses((status = 200, description = "All of it", body = String, content_type = "application/x-ndjson")),
)]
pub(crate) async fn export(
    State(state): State<ApiState>,
    grant: May<ReadAudit>,
) -> Result<impl IntoResponse, ApiError> {
    let pages = state.engine.export_audit(grant.workspace, &grant.actor).await?;
    let text = pages.map(|page| {
        // An error cuts the body off: an export without a checkpoint is none.
        page.and_then(|lines| written(&lines)).inspect_err(|error| {
            tracing::warn!(%error, "an audit export was cut off");
        })
    });
    let headers = [(CONTENT_TYPE, "application/x-ndjson"), (CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(text)))
}

fn written(lines: &[ExportLine]) -> Result<Vec<u8>, EngineError> {
    let mut text = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut text, line)
            .map_err(|error| EngineError::Internal(format!("an audit line does not serialize: {error}")))?;
        text.push(b'\n');
    }
    Ok(text)
}

/// Where the workspace's chain ends now.
///
/// Kept elsewhere, it proves later that nothing up to here was changed since.
#[utoipa::path(
    get, path = "/v1/audit/checkpoint", operation_id = "getAuditCheckpoint", tag = "audit",
    responses((status = 200, description = "The last place and its hash", body = AuditCheckpoint)),
)]
pub(crate) async fn checkpoint(
    State(state): State<ApiState>,
    grant: May<ReadAudit>,
) -> Result<Json<AuditCheckpoint>, ApiError> {
    Ok(Json(state.engine.checkpoint(grant.workspace).await?.into()))
}
