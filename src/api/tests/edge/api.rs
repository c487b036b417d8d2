//! An API whose database is nowhere and whose queue is in memory.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode, header};
use galley_api::views::{Problem, Role};
use galley_api::{ApiConfig, ApiState, Limits, NewToken, issue_token, router};
use galley_core::ids::WorkspaceId;
use galley_engine::queue::MemoryQueue;
use galley_engine::store::Store;
use galley_engine::{Engine, EngineConfig};
use secrecy::SecretString;
use serde_json::Value;
use std::time::Duration;
use tower::ServiceExt as _;
use uuid::Uuid;

pub(crate) const SECRET: &str = "a secret for tests, thirty-two bytes or more";

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    /// The answer as the problem it must be.
    pub(crate) fn problem(&self) -> Problem {
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json", "{self:?}");
        let problem: Problem = serde_json::from_value(self.body.clone()).unwrap();
        assert_eq!(problem.status, self.status.as_u16());
        assert_eq!(problem.instance, self.headers["x-request-id"]);
        assert!(problem.kind.starts_with("urn:galley:problem:"), "{problem:?}");
        assert!(!problem.title.is_empty() && !problem.detail.is_empty(), "{problem:?}");
        problem
    }
}

pub(crate) fn app() -> axum::Router {
    // Nobody listens on port 1.
    let store = Store::connect("postgres://nobody@127.0.0.1:1/none", 1).unwrap();
    let engine = Engine::new(store, Arc::new(MemoryQueue::new()), EngineConfig::default());
    let limits = Limits { body_bytes: 4_096, request_timeout: Duration::from_secs(20) };
    let config = ApiConfig { jwt_secret: SecretString::from(SECRET), limits };
    router(ApiState::new(engine, &config).unwrap())
}

pub(crate) fn workspace() -> WorkspaceId {
    WorkspaceId(Uuid::from_u128(42))
}

pub(crate) fn token(roles: &[Role]) -> String {
    let new = NewToken {
        workspace: workspace(),
        subject: "somebody".into(),
        roles: roles.to_vec(),
        ttl: Duration::from_secs(60),
    };
    issue_token(&SecretString::from(SECRET), &new).unwrap().token
}

pub(crate) fn request(method: &str, path: &str) -> axum::http::request::Builder {
    Request::builder().method(method).uri(path)
}

/// A request of somebody who may do everything.
pub(crate) fn allowed(method: &str, path: &str) -> axum::http::request::Builder {
    request(method, path).header(header::AUTHORIZATION, format!("Bearer {}", token(&[Role::Admin])))
}

pub(crate) async fn ask(request: Request<Body>) -> Answer {
    ask_of(&app(), request).await
}

/// For many requests: making an API also makes its description.
pub(crate) async fn ask_of(app: &axum::Router, request: Request<Body>) -> Answer {
    let response = app.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, 1 << 20).await.unwrap();
    let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    Answer { status: parts.status, headers: parts.headers, body }
}
