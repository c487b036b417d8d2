//! Every request with a token is counted: how often somebody may ask.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;

use crate::authorize::Caller;
use crate::config::ApiState;
use crate::error::ApiError;

/// Counts a request, and refuses it when its caller or workspace asked too
/// often.
pub(crate) async fn limit_rate(
    State(state): State<ApiState>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    // A route outside the token check is closed, not unlimited.
    let caller = request.extensions().get::<Caller>().cloned().ok_or_else(ApiError::unauthenticated)?;
    let standing = state.gate.pass(caller.workspace(), caller.subject()).await?;
    let mut response = next.run(request).await;
    response.headers_mut().extend(standing.map(|standing| standing.headers()).unwrap_or_default());
    Ok(response)
}
