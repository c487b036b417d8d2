//! Workers: the processes that run steps.

use axum::Json;
use axum::extract::State;

use crate::authorize::{May, Read};
use crate::config::ApiState;
use crate::error::ApiError;
use crate::views::{Page, Worker};

/// Lists the live workers, and those that ended within the last hour.
#[utoipa::path(
    get, path = "/v1/workers", operation_id = "listWorkers", tag = "workers",
    responses((status = 200, description = "At most 500, live ones first", body = Page<Worker>)),
)]
pub(crate) async fn list(
    State(state): State<ApiState>,
    _grant: May<Read>,
) -> Result<Json<Page<Worker>>, ApiError> {
    let sessions = state.engine.store().list_sessions().await?;
    Ok(Json(Page { items: sessions.into_iter().map(Into::into).collect(), next_cursor: None }))
}
