//! The API of a bed's engine on a port of its own, and whoever calls it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use galley_api::views::{IssuedToken, Role};
use galley_api::{ApiConfig, ApiState, Limits, NewToken, Signer, TokenRules, serve};
use galley_core::ids::WorkspaceId;
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Bed;

pub(super) const SECRET: &str = "a secret of these tests, long enough to be one";

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) text: String,
    /// The text, where it is JSON.
    pub(crate) body: Value,
}

/// A served API; it ends when this is dropped.
pub(crate) struct Api {
    signer: Signer,
    address: String,
    token: String,
    client: reqwest::Client,
    keys: AtomicU64,
    _stop: DropGuard,
}

impl Api {
    /// Serves a bed's engine to somebody in a role.
    pub(crate) async fn of(bed: &Bed, role: Role) -> Self {
        Self::capped(bed, role, Limits::default().unfinished_workflows).await
    }

    /// The same; a workspace may have so many unfinished workflows.
    pub(crate) async fn capped(bed: &Bed, role: Role, unfinished_workflows: u32) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let secret = SecretString::from(SECRET);
        let limits =
            Limits { request_timeout: Duration::from_secs(20), unfinished_workflows, ..Limits::default() };
        let config = ApiConfig { limits, ..ApiConfig::new(secret.clone()) };
        let state = ApiState::new(bed.api.clone(), &config).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        tokio::spawn(serve(listener, state, stop.clone()));
        let signer = Signer::new(&secret, TokenRules::default()).unwrap();
        let mut api = Self {
            signer,
            address,
            token: String::new(),
            client: reqwest::Client::new(),
            keys: AtomicU64::new(0),
            _stop: stop.drop_guard(),
        };
        api.token = api.token(bed.workspace, &[role], false);
        api
    }

    /// A token of somebody else.
    pub(crate) fn token(&self, workspace: WorkspaceId, roles: &[Role], deployment: bool) -> String {
        self.token_of("ada", workspace, roles, deployment)
    }

    pub(crate) fn token_of(
        &self,
        subject: &str,
        workspace: WorkspaceId,
        roles: &[Role],
        deployment: bool,
    ) -> String {
        self.sign(subject, workspace, roles, deployment).token
    }

    /// A producer's token, with its id.
    pub(crate) fn issue(&self, subject: &str, workspace: WorkspaceId) -> IssuedToken {
        self.sign(subject, workspace, &[Role::Producer], false)
    }

    fn sign(&self, subject: &str, workspace: WorkspaceId, roles: &[Role], deployment: bool) -> IssuedToken {
        let new = NewToken {
            workspace,
            subject: subject.into(),
            roles: roles.to_vec(),
            ttl: Duration::from_secs(3_600),
            deployment,
        };
        self.signer.issue(&new).unwrap()
    }

    /// A request, with or without a token; an event stream is not read.
    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> Answer {
        // Each request is one of its own.
        let key = format!("key-{}", self.keys.fetch_add(1, Ordering::Relaxed));
        self.ask_under(&key, method, path, token, body).await
    }

    /// The same under an idempotency key.
    pub(crate) async fn ask_under(
        &self,
        key: &str,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> Answer {
        let method = method.parse().unwrap();
        let mut request = self.client.request(method, format!("{}{path}", self.address));
        request = request.header("Idempotency-Key", key);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let streams = response.headers().get("content-type").is_some_and(|kind| kind == "text/event-stream");
        let text = if streams { String::new() } else { response.text().await.unwrap() };
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Answer { status, text, body }
    }

    /// An event stream that ends, to its end.
    pub(crate) async fn events(&self, path: &str, token: &str) -> (u16, String) {
        let request = self.client.get(format!("{}{path}", self.address)).bearer_auth(token);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// Submits one step under a key.
    pub(crate) async fn submit(&self, key: &str) -> (u16, Value) {
        let definition = json!({ "name": "one", "steps": [{ "name": "a", "agent": "echo" }] });
        let body = json!({ "definition": definition, "input": { "text": "hello" } });
        let request = self.client.post(format!("{}/v1/workflows", self.address));
        self.answer(request.header("Idempotency-Key", key).json(&body)).await
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        self.answer(self.client.get(format!("{}{path}", self.address))).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.answer(self.client.post(format!("{}{path}", self.address)).json(body)).await
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> (u16, Value) {
        let response = request.bearer_auth(&self.token).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }
}
