//! What every request passes, whatever its route.

use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::from_fn;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::TimeoutLayer;

use crate::frame::{frame, panicked};

/// What a request, and a connection, may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// Largest request body, in bytes. Larger ones are answered with 413.
    pub body_bytes: usize,
    /// How long a request may take until its answer begins. Over it: 504.
    pub request_timeout: Duration,
    /// How long a connection may take for a request's head, and idle between
    /// two. Then it is closed.
    pub head_timeout: Duration,
    /// Largest head of a request, in bytes.
    pub head_bytes: usize,
    /// Most headers of a request. More are answered with 431.
    pub headers: usize,
    /// Connections at a time; further ones wait.
    pub connections: usize,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            body_bytes: 1024 * 1024,
            request_timeout: Duration::from_secs(30),
            head_timeout: Duration::from_secs(30),
            head_bytes: 64 * 1024,
            headers: 64,
            connections: 10_000,
        }
    }
}

/// The routes behind the limits, the frame and the catch of panics.
pub fn layered<S: Clone + Send + Sync + 'static>(router: Router<S>, limits: HttpLimits) -> Router<S> {
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
    use axum::http::header::CONTENT_TYPE;
    use axum::routing::get;
    use tower::ServiceExt as _;

    use super::*;
    use crate::body::to_the_end;
    use crate::problem::Problem;

    async fn problem_of(router: Router, limits: HttpLimits) -> (StatusCode, Problem) {
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
        let router = Router::new().route("/", get(|| to_the_end(breaks())));
        let (status, problem) = problem_of(router, HttpLimits::default()).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(problem.kind, "urn:galley:problem:internal");
        assert!(!format!("{problem:?}").contains("secret"), "{problem:?}");
    }

    #[tokio::test]
    async fn a_request_that_hangs_is_answered() {
        let router = Router::new().route("/", get(std::future::pending::<()>));
        let limits = HttpLimits { request_timeout: Duration::from_millis(1), ..HttpLimits::default() };
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
