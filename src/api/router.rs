//! Every route, on one page. A line here is also a line in `/openapi.json`.

use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::get;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::TimeoutLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::require_token;
use crate::config::ApiState;
use crate::frame::{frame, panicked};
use crate::openapi;
use crate::resources::{
    agents, audit, dead_letters, events, health, queues, tasks, templates, tokens, why, workers, workflows,
    workspaces,
};

/// Routes that take a token.
pub(crate) fn closed_routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(workflows::list, workflows::submit))
        .routes(routes!(workflows::show))
        .routes(routes!(workflows::cancel))
        .routes(routes!(events::stream))
        .routes(routes!(templates::list, templates::store))
        .routes(routes!(templates::show))
        .routes(routes!(tasks::list))
        .routes(routes!(tasks::show))
        .routes(routes!(agents::list))
        .routes(routes!(queues::list))
        .routes(routes!(queues::pause))
        .routes(routes!(queues::resume))
        .routes(routes!(queues::limit))
        .routes(routes!(workers::list))
        .routes(routes!(dead_letters::list))
        .routes(routes!(dead_letters::groups))
        .routes(routes!(dead_letters::retry_matching))
        .routes(routes!(dead_letters::discard_matching))
        .routes(routes!(dead_letters::show))
        .routes(routes!(dead_letters::retry))
        .routes(routes!(dead_letters::discard))
        .routes(routes!(workspaces::list, workspaces::create))
        .routes(routes!(tokens::issue))
        .routes(routes!(audit::list))
        .routes(routes!(why::show))
}

/// Routes that take none: they say nothing about any workspace.
pub(crate) fn open_routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::with_openapi(openapi::frame())
        .routes(routes!(health::health))
        .routes(routes!(health::ready))
}

/// The API as a service.
pub fn router(state: ApiState) -> axum::Router {
    let closed = closed_routes().route_layer(from_fn_with_state(state.clone(), require_token));
    let (router, api) = open_routes().merge(closed).split_for_parts();
    let description = openapi::render(api);
    let describe = move || std::future::ready(([(CONTENT_TYPE, "application/json")], description));
    // Layers run from the last to the first.
    router
        .route("/openapi.json", get(describe))
        .layer(DefaultBodyLimit::max(state.limits.body_bytes))
        .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, state.limits.request_timeout))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(frame))
        .with_state(state)
}
