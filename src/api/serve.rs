//! Serving the API until told to stop.

use std::io;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::ApiState;
use crate::router::router;

/// Serves the API until `stop`: then it takes no new request, ends the event
/// streams (their clients resume elsewhere) and lets running requests finish.
///
/// # Errors
/// The listener broke.
pub async fn serve(listener: TcpListener, mut state: ApiState, stop: CancellationToken) -> io::Result<()> {
    state.closing = stop.clone();
    let limits = state.limits.http();
    galley_edge::serve(listener, router(state), limits, stop).await
}
