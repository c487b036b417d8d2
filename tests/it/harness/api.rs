//! The API of a bed's engine on a port of its own, and whoever calls it.

use std::time::Duration;

use galley_api::views::Role;
use galley_api::{ApiConfig, ApiState, Limits, NewToken, Signer, TokenRules, serve};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Bed;

const SECRET: &str = "a secret of these tests, long enough to be one";

/// A served API; it ends when this is dropped.
pub(crate) struct Api {
    address: String,
    token: String,
    client: reqwest::Client,
    _stop: DropGuard,
}

impl Api {
    /// Serves a bed's engine to somebody in a role.
    pub(crate) async fn of(bed: &Bed, role: Role) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let secret = SecretString::from(SECRET);
        let limits = Limits { body_bytes: 1 << 20, request_timeout: Duration::from_secs(20) };
        let config = ApiConfig { limits, ..ApiConfig::new(secret.clone()) };
        let state = ApiState::new(bed.api.clone(), &config).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        tokio::spawn(serve(listener, state, stop.clone()));
        let new = NewToken {
            workspace: bed.workspace,
            subject: "ada".into(),
            roles: vec![role],
            ttl: Duration::from_secs(3_600),
            deployment: false,
        };
        let token = Signer::new(&secret, TokenRules::default()).unwrap().issue(&new).unwrap().token;
        Self { address, token, client: reqwest::Client::new(), _stop: stop.drop_guard() }
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
