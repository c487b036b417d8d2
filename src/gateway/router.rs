//! Every route of the gateway, and serving them until told to stop.

use std::io;

use axum::http::header::CONTENT_TYPE;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use galley_edge::{health, layered};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::config::GatewayState;
use crate::door::require_worker;
use crate::{lease, offer, openapi, pay, report, session};

/// Routes that take a worker's token.
pub(crate) fn closed_routes() -> OpenApiRouter<GatewayState> {
    OpenApiRouter::new()
        .routes(routes!(offer::connect))
        .routes(routes!(session::heartbeat))
        .routes(routes!(session::close))
        .routes(routes!(lease::lease))
        .routes(routes!(pay::reserve))
        .routes(routes!(pay::settle))
        .routes(routes!(report::complete))
        .routes(routes!(report::fail))
        .routes(routes!(report::give_back))
}

/// Routes that take none.
pub(crate) fn open_routes() -> OpenApiRouter<GatewayState> {
    OpenApiRouter::with_openapi(openapi::frame())
        .routes(routes!(health::health))
        .routes(routes!(health::ready))
}

/// The gateway as a service.
pub fn router(state: GatewayState) -> axum::Router {
    let closed = closed_routes().route_layer(from_fn_with_state(state.clone(), require_worker));
    let (router, api) = open_routes().merge(closed).split_for_parts();
    let description = galley_edge::openapi::render(api);
    let describe = move || std::future::ready(([(CONTENT_TYPE, "application/json")], description));
    layered(router.route("/openapi.json", get(describe)), state.limits.http).with_state(state)
}

/// Serves the gateway until `stop`: then it takes no new call, ends the waits
/// for steps, and lets running calls finish.
///
/// # Errors
/// The listener broke.
pub async fn serve(
    listener: TcpListener,
    mut state: GatewayState,
    stop: CancellationToken,
) -> io::Result<()> {
    state.closing = stop.clone();
    let limits = state.limits.http;
    galley_edge::serve(listener, router(state), limits, stop).await
}
