//! Serving until told to stop.

use std::io;

use axum::serve::ListenerExt as _;
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
    // Small answers go out at once instead of waiting for more.
    let listener = listener.tap_io(|connection| {
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(%error, "a connection keeps its delay");
        }
    });
    axum::serve(listener, router(state)).with_graceful_shutdown(stop.cancelled_owned()).await
}
