//! An API whose database is nowhere and whose queue is in memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode, header};
use galley_api::views::{Problem, Role};
use galley_api::{
    ApiConfig, ApiState, AuthConfig, Identities, Limits, NewToken, RateLimits, Signer, TokenRules, router,
};
use galley_core::ids::WorkspaceId;
use galley_engine::queue::MemoryQueue;
use galley_engine::store::{KeyHash, Revocations, Store, StoreError};
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
    app_with(AuthConfig::default())
}

/// An API that believes other tokens.
pub(crate) fn app_with(auth: AuthConfig) -> axum::Router {
    app_knowing(auth, Arc::new(Known::default()))
}

/// What the store would know of keys, and of what ended early.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) revocations: Mutex<Revocations>,
    pub(crate) keys: Mutex<HashMap<String, KeyHash>>,
}

#[async_trait]
impl Identities for Known {
    async fn revocations(&self, _: WorkspaceId) -> Result<Revocations, StoreError> {
        Ok(self.revocations.lock().unwrap().clone())
    }

    async fn keys_of_prefix(&self, prefix: &str) -> Result<Vec<KeyHash>, StoreError> {
        Ok(self.keys.lock().unwrap().get(prefix).cloned().into_iter().collect())
    }

    async fn key_used(&self, _: WorkspaceId, _: &str) -> Result<(), StoreError> {
        Ok(())
    }
}

/// An API that lets in whom these identities say.
pub(crate) fn app_knowing(auth: AuthConfig, known: Arc<dyn Identities>) -> axum::Router {
    app_limited(auth, known, RateLimits::OFF)
}

/// An API that counts requests.
pub(crate) fn app_limited(auth: AuthConfig, known: Arc<dyn Identities>, rates: RateLimits) -> axum::Router {
    // Nobody listens on port 1.
    let store = Store::connect("postgres://nobody@127.0.0.1:1/none", 1).unwrap();
    let engine = Engine::new(store, Arc::new(MemoryQueue::new()), EngineConfig::default());
    let limits =
        Limits { body_bytes: 4_096, request_timeout: Duration::from_secs(20), rates, ..Limits::default() };
    let config = ApiConfig { auth, limits, ..ApiConfig::new(SecretString::from(SECRET)) };
    router(ApiState::with_identities(engine, &config, known).unwrap())
}

pub(crate) fn workspace() -> WorkspaceId {
    WorkspaceId(Uuid::from_u128(42))
}

pub(crate) fn signer() -> Signer {
    Signer::new(&SecretString::from(SECRET), TokenRules::default()).unwrap()
}

pub(crate) fn token(roles: &[Role]) -> String {
    token_of(roles, false)
}

/// A token of the deployment, or not.
pub(crate) fn token_of(roles: &[Role], deployment: bool) -> String {
    let new = NewToken {
        workspace: workspace(),
        subject: "somebody".into(),
        roles: roles.to_vec(),
        ttl: Duration::from_secs(60),
        deployment,
    };
    signer().issue(&new).unwrap().token
}

pub(crate) fn request(method: &str, path: &str) -> axum::http::request::Builder {
    Request::builder().method(method).uri(path)
}

/// A request of somebody who may do everything.
pub(crate) fn allowed(method: &str, path: &str) -> axum::http::request::Builder {
    request(method, path).header(header::AUTHORIZATION, format!("Bearer {}", token_of(&[Role::Admin], true)))
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
