//! Galley's preview network: a small platform for a first look, for the demo
//! and for tests. An account's `endpoint` says what it can tell.

use std::time::Duration;

use async_trait::async_trait;
use galley_core::plan::Problem;
use galley_core::publish::{Capability, Looked, PostContent, Receipt, Sent};
use reqwest::{Client, Method, RequestBuilder};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::http::{Answer, call, client, refusal};
use crate::publisher::{Account, Outgoing, Publisher};

/// Longest post, characters.
const LONGEST: usize = 500;
/// How long the network keeps a key.
const WINDOW_S: u64 = 24 * 3_600;
/// How long after a call a post may still appear.
const SETTLE_S: u64 = 5;

/// The adapter.
#[derive(Debug)]
pub struct Preview {
    client: Client,
}

impl Preview {
    /// With a longest call.
    ///
    /// # Errors
    /// The HTTP client cannot be made.
    pub fn new(timeout: Duration) -> Result<Self, String> {
        Ok(Self { client: client(timeout)? })
    }

    fn request(&self, account: &Account, method: Method, path: &str) -> RequestBuilder {
        let base = account.settings["url"].as_str().unwrap_or_default().trim_end_matches('/');
        self.client
            .request(method, format!("{base}/api/{path}"))
            .bearer_auth(account.credential.expose_secret())
    }
}

fn endpoint(settings: &Value) -> &str {
    settings.get("endpoint").and_then(Value::as_str).unwrap_or("idempotent")
}

fn receipt(post: &Value) -> Option<Receipt> {
    let remote_id = match post.get("id")? {
        Value::String(id) => id.clone(),
        Value::Number(id) => id.to_string(),
        _ => return None,
    };
    Some(Receipt { remote_id, link: post.get("url").and_then(Value::as_str).map(str::to_owned) })
}

fn outcome(answer: &Answer) -> Sent {
    if !answer.status.is_success() {
        return refusal(answer);
    }
    let Some(body) = answer.json() else {
        return Sent::Unknown(format!("an answer that is no JSON: {}", answer.told()));
    };
    // The network's contract: an answer with an error had no effect.
    if body.get("error").is_some() {
        return Sent::Refused(answer.told());
    }
    match receipt(&body) {
        Some(receipt) => Sent::Published(receipt),
        None => Sent::Unknown(format!("an answer without an id: {}", answer.told())),
    }
}

#[async_trait]
impl Publisher for Preview {
    fn platform(&self) -> &'static str {
        "preview"
    }

    fn description(&self) -> &'static str {
        "Galley's own preview network; settings: url, endpoint (idempotent, verifiable, blind)"
    }

    fn capability(&self, settings: &Value) -> Capability {
        match endpoint(settings) {
            "verifiable" => Capability::Verifiable { settle_s: SETTLE_S },
            "idempotent" => Capability::Idempotent { window_s: WINDOW_S },
            _ => Capability::Blind,
        }
    }

    fn check_account(&self, settings: &Value, credential: &SecretString) -> Result<(), Vec<Problem>> {
        let mut problems = Vec::new();
        let url = settings.get("url").and_then(Value::as_str).unwrap_or_default();
        if !(url.starts_with("http://") || url.starts_with("https://")) {
            problems.push(Problem::new("settings.url", "the network's address, as http://127.0.0.1:8081"));
        }
        if !["idempotent", "verifiable", "blind"].contains(&endpoint(settings)) {
            problems.push(Problem::new("settings.endpoint", "one of idempotent, verifiable, blind"));
        }
        if credential.expose_secret().trim().is_empty() {
            problems.push(Problem::new("credential", "the account's token on the network"));
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    fn check_post(&self, _settings: &Value, post: &PostContent) -> Result<(), String> {
        match post.text.chars().count() {
            0 => Err("it is empty".into()),
            n if n > LONGEST => Err(format!("{n} characters; at most {LONGEST} are allowed")),
            _ => Ok(()),
        }
    }

    async fn publish(&self, account: &Account, out: &Outgoing) -> Sent {
        let request = match endpoint(&account.settings) {
            "idempotent" => self.request(account, Method::PUT, &format!("idempotent/posts/{}", out.key)),
            "verifiable" => {
                self.request(account, Method::POST, "verifiable/posts").header("X-Client-Key", &out.key)
            }
            _ => self.request(account, Method::POST, "blind/posts").header("X-Trace-Key", &out.key),
        };
        let mut body = json!({ "text": out.payload.text, "createdAt": out.intended_at });
        if let Some(link) = &out.payload.link {
            body["link"] = link.as_str().into();
        }
        match call(request.json(&body)).await {
            Ok(answer) => outcome(&answer),
            Err(known) => known,
        }
    }

    async fn look(&self, account: &Account, out: &Outgoing) -> Looked {
        if endpoint(&account.settings) != "verifiable" {
            return Looked::Unknown("this endpoint cannot be asked".into());
        }
        let request =
            self.request(account, Method::GET, "verifiable/posts").query(&[("clientKey", &out.key)]);
        let answer = match call(request).await {
            Ok(answer) if answer.status.is_success() => answer,
            Ok(answer) => return Looked::Unknown(answer.told()),
            Err(_) => return Looked::Unknown("the network did not answer".into()),
        };
        let body = answer.json();
        let list = body.as_ref().and_then(|body| body.get("posts").unwrap_or(body).as_array());
        match list.map(Vec::as_slice) {
            Some([]) => Looked::Absent,
            Some([post, ..]) => {
                receipt(post).map_or_else(|| Looked::Unknown("a post without an id".into()), Looked::Found)
            }
            None => Looked::Unknown(format!("an answer that is no list: {}", answer.told())),
        }
    }

    async fn test(&self, account: &Account) -> Result<String, String> {
        match call(self.request(account, Method::GET, "me")).await {
            Ok(answer) if answer.status.is_success() => {
                let body = answer.json().unwrap_or_default();
                Ok(format!("the preview network knows it as `{}`", body["handle"].as_str().unwrap_or("?")))
            }
            Ok(answer) => Err(answer.told()),
            Err(_) => Err("no answer from the preview network".into()),
        }
    }
}
