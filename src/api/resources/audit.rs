//! The audit log: list.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;

use crate::authorize::{May, ReadAudit};
use crate::config::ApiState;
use crate::cursor::Binding;
use crate::error::ApiError;
use crate::extract::{QueryString, page_limit};
use crate::views::{AuditLine, Page};

/// Which lines.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListAudit {
    /// Items per page, 1 to 200; 50 when absent.
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
