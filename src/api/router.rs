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
use crate::config::{ApiState, Limits};
use crate::frame::{frame, panicked};
use crate::openapi;
use crate::rate::limit_rate;
use crate::resources::{
    accounts, agents, approvals, audit, automation, budgets, dead_letters, events, health, keys, posts,
    queues, schedules, tasks, templates, tokens, why, workers, workflows, workspaces,
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
        .routes(routes!(posts::list))
        .routes(routes!(posts::show, posts::edit))
        .routes(routes!(posts::reschedule))
        .routes(routes!(posts::reject))
        .routes(routes!(posts::resolve))
        .routes(routes!(approvals::list))
        .routes(routes!(approvals::show))
        .routes(routes!(approvals::approve))
        .routes(routes!(approvals::reject))
        .routes(routes!(approvals::edit))
        .routes(routes!(automation::get, automation::set))
        .routes(routes!(budgets::get, budgets::set))
        .routes(routes!(budgets::set_workflow))
        .routes(routes!(budgets::spend))
        .routes(routes!(accounts::list, accounts::add))
        .routes(routes!(accounts::remove))
        .routes(routes!(accounts::test))
        .routes(routes!(schedules::list, schedules::add))
        .routes(routes!(schedules::show, schedules::set, schedules::remove))
        .routes(routes!(schedules::pause))
        .routes(routes!(schedules::resume))
        .routes(routes!(schedules::run))
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
        .routes(routes!(tokens::revoke))
        .routes(routes!(keys::list, keys::create))
        .routes(routes!(keys::revoke))
        .routes(routes!(audit::list))
        .routes(routes!(audit::export))
        .routes(routes!(audit::checkpoint))
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
    let closed = closed_routes().route_layer(from_fn_with_state(state.clone(), limit_rate));
    let closed = closed.route_layer(from_fn_with_state(state.clone(), require_token));
    let (router, api) = open_routes().merge(closed).split_for_parts();
    let description = openapi::render(api);
    let describe = move || std::future::ready(([(CONTENT_TYPE, "application/json")], description));
    layered(router.route("/openapi.json", get(describe)), state.limits).with_state(state)
}

/// What every request passes, whatever its route.
fn layered<S: Clone + Send + Sync + 'static>(router: axum::Router<S>, limits: Limits) -> axum::Router<S> {
    // Layers run from the last to the first.
    router
        .layer(DefaultBodyLimit::max(limits.body_bytes))
        .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, limits.request_timeout))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(frame))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::body::{Body, to_bytes};
    use axum::extract::Request;
    use tower::ServiceExt as _;

    use super::*;
    use crate::extract::to_the_end;
    use crate::views::Problem;

    async fn problem_of(router: axum::Router, limits: Limits) -> (StatusCode, Problem) {
        let request = Request::get("/").body(Body::empty()).unwrap();
        let response = layered(router, limits).oneshot(request).await.unwrap();
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        let status = response.status();
        let body = to_bytes(response.into_body(), 10_000).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn a_panic_is_a_problem_that_keeps_its_reason_to_itself() {
        async fn breaks() {
            panic!("the secret of the house");
        }
        let router = axum::Router::new().route("/", get(|| to_the_end(breaks())));
        let (status, problem) = problem_of(router, Limits::default()).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(problem.kind, "urn:galley:problem:internal");
        assert!(!format!("{problem:?}").contains("secret"), "{problem:?}");
    }

    #[tokio::test]
    async fn a_request_that_hangs_is_answered() {
        let router = axum::Router::new().route("/", get(std::future::pending::<()>));
        let limits = Limits { request_timeout: Duration::from_millis(1), ..Limits::default() };
        let (status, problem) = problem_of(router, limits).await;
        assert_eq!(status, StatusCode::GATEWAY_TIMEOUT);
        assert_eq!(problem.kind, "urn:galley:problem:timeout");
    }

    /// A change goes on although its request is gone.
    #[tokio::test]
    async fn a_client_that_hangs_up_does_not_stop_a_change() {
        let (go, went) = (tokio::sync::oneshot::channel::<()>(), tokio::sync::oneshot::channel::<()>());
        let change = to_the_end(async move {
            go.1.await.unwrap();
            went.0.send(()).unwrap();
        });
        // The request is dropped while its change waits.
        tokio::time::timeout(Duration::from_millis(1), change).await.unwrap_err();
        go.0.send(()).unwrap();
        went.1.await.unwrap();
    }
}
