//! One test's network and a client of it.

use galley_preview::{Endpoint, PreviewNetwork, PreviewOptions, SeedAccount};
use reqwest::header::HeaderMap;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// A running network with the accounts `ada` and `ben`.
pub(crate) struct Bed {
    pub(crate) network: PreviewNetwork,
    pub(crate) http: Client,
}

/// What a client got.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// `Null` when the body is not JSON.
    pub(crate) json: Value,
    pub(crate) text: String,
}

impl Answer {
    /// The id of the post that was published.
    pub(crate) fn id(&self) -> String {
        self.json["id"].as_str().unwrap_or_else(|| panic!("no id in {self:?}")).to_owned()
    }

    /// The code of an error and what it says.
    pub(crate) fn error(&self) -> (&str, &str) {
        let part = |name: &str| self.json["error"][name].as_str();
        part("code").zip(part("message")).unwrap_or_else(|| panic!("no error in {self:?}"))
    }
}

/// The token of a seeded account.
pub(crate) fn token(handle: &str) -> String {
    format!("token-of-{handle}")
}

pub(crate) fn seed(handle: &str, display_name: &str) -> SeedAccount {
    SeedAccount { handle: handle.into(), display_name: display_name.into(), token: token(handle) }
}

/// The usual accounts.
pub(crate) fn options() -> PreviewOptions {
    PreviewOptions {
        accounts: vec![seed("ada", "Ada Lovelace"), seed("ben", "Ben")],
        ..PreviewOptions::default()
    }
}

pub(crate) async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

impl Bed {
    pub(crate) async fn new() -> Self {
        Self::with(options()).await
    }

    pub(crate) async fn with(options: PreviewOptions) -> Self {
        // The one TLS provider of the workspace; without it a client panics.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let network = PreviewNetwork::start(listener().await, options).unwrap();
        Self { network, http: Client::builder().no_proxy().build().unwrap() }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.network.url()))
    }

    /// A request to publish as this account, by this endpoint.
    pub(crate) fn publishing(&self, by: Endpoint, handle: &str, key: &str, text: &str) -> RequestBuilder {
        let request = match by {
            Endpoint::Idempotent => self.request(Method::PUT, &format!("/api/idempotent/posts/{key}")),
            Endpoint::Verifiable => {
                self.request(Method::POST, "/api/verifiable/posts").header("X-Client-Key", key)
            }
            Endpoint::Blind => self.request(Method::POST, "/api/blind/posts").header("X-Trace-Key", key),
        };
        request.bearer_auth(token(handle)).json(&json!({ "text": text }))
    }

    pub(crate) async fn publish(&self, by: Endpoint, handle: &str, key: &str, text: &str) -> Answer {
        read(self.publishing(by, handle, key, text)).await.unwrap()
    }

    /// A request that looks for a key at the verifiable endpoint.
    pub(crate) fn looking(&self, handle: &str, key: &str) -> RequestBuilder {
        let request = self.request(Method::GET, "/api/verifiable/posts").query(&[("clientKey", key)]);
        request.bearer_auth(token(handle))
    }

    /// What a path answers to whoever has no token.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        read(self.request(Method::GET, path)).await.unwrap()
    }

    /// The page at a path, which must be there.
    pub(crate) async fn page(&self, path: &str) -> String {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.text
    }

    /// The texts in the ledger, oldest first.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.network.ledger().posts.into_iter().map(|post| post.text).collect()
    }
}

/// Sends and reads everything; an error when there was no whole answer.
pub(crate) async fn read(request: RequestBuilder) -> Result<Answer, reqwest::Error> {
    let response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await?;
    let json = serde_json::from_str(&text).unwrap_or(Value::Null);
    Ok(Answer { status, headers, json, text })
}
