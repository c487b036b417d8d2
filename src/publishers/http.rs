//! One HTTP call and what it proves: sorted so that "not sent" is only said
//! when no byte of the request can have arrived.

use std::time::Duration;

use galley_core::publish::Sent;
use reqwest::{Client, RequestBuilder, StatusCode, redirect};
use serde_json::Value;

/// Most bytes of an answer that are read.
const LARGEST_ANSWER: usize = 64 * 1024;
/// Most characters of an answer that are told.
const TOLD: usize = 300;

/// A client for effects.
///
/// # Errors
/// A TLS store that cannot be read.
pub(crate) fn client(timeout: Duration) -> Result<Client, String> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    Client::builder()
        .timeout(timeout)
        .connect_timeout(timeout / 2)
        // A connection that died while it was idle makes the client send the
        // request a second time by itself. With a fresh connection per call it
        // never does.
        .pool_max_idle_per_host(0)
        .retry(reqwest::retry::never())
        .redirect(redirect::Policy::none())
        .user_agent(concat!("galley/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| format!("the HTTP client of the platforms cannot be made: {error}"))
}

/// An answer that was read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) retry_after_ms: Option<u64>,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Option<Value> {
        serde_json::from_str(&self.text).ok()
    }

    /// What it says, short enough to tell.
    pub(crate) fn told(&self) -> String {
        let said = match self
            .json()
            .as_ref()
            .and_then(|json| json.pointer("/error/message"))
            .and_then(Value::as_str)
        {
            Some(message) => message.to_owned(),
            None => self.text.split_whitespace().collect::<Vec<_>>().join(" "),
        };
        let said: String = said.chars().take(TOLD).collect();
        format!("{} {said}", self.status.as_u16()).trim_end().to_owned()
    }
}

/// Sends, and reads the answer.
///
/// # Errors
/// No answer: what is known then.
pub(crate) async fn call(request: RequestBuilder) -> Result<Answer, Sent> {
    let mut response = request.send().await.map_err(|error| no_answer(&error))?;
    let status = response.status();
    let header = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
    let retry_after_ms =
        header.and_then(|text| text.trim().parse::<u64>().ok()).map(|s| s.saturating_mul(1_000));
    let mut body = Vec::new();
    // An answer that breaks off still has its status; the rest is only told.
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() >= LARGEST_ANSWER {
            body.truncate(LARGEST_ANSWER);
            break;
        }
    }
    Ok(Answer { status, retry_after_ms, text: String::from_utf8_lossy(&body).into_owned() })
}

fn no_answer(error: &reqwest::Error) -> Sent {
    // A connection that was never made carried nothing. Everything else may
    // have arrived.
    if error.is_builder() {
        return Sent::Refused("the request cannot be built; check the account's settings".into());
    }
    if error.is_connect() {
        return Sent::NotSent { why: "no connection to the platform".into(), retry_after_ms: None };
    }
    if error.is_timeout() {
        return Sent::Unknown("the platform did not answer in time".into());
    }
    Sent::Unknown("the connection was lost before the platform answered".into())
}

/// What an answer other than success proves.
pub(crate) fn refusal(answer: &Answer) -> Sent {
    let told = answer.told();
    match answer.status.as_u16() {
        429 => Sent::NotSent { why: told, retry_after_ms: Some(answer.retry_after_ms.unwrap_or(30_000)) },
        401 | 403 => Sent::Refused(format!("{told}; renew the account's credential")),
        // Nobody says what was done before the time ran out.
        408 | 425 | 499 => Sent::Unknown(told),
        400..=498 => Sent::Refused(told),
        300..=399 => Sent::Refused(format!("{told}; redirects are not followed, correct the account's URL")),
        _ => Sent::Unknown(told),
    }
}
