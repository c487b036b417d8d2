//! One HTTP call to a platform: sent once, bounded in time and size, and
//! sorted by whether the platform may have seen it.
//!
//! A workspace names the address. So this is the only place in which an adapter
//! gets a client or sends anything (`tests/it/architecture.rs`), and no call
//! leaves it for an address that [`Targets`] does not allow.

use std::error::Error;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use galley_core::publish::SEND_TIMEOUT;
use galley_reach::{Forbidden, System, Targets};
use jiff::fmt::rfc2822;
use reqwest::dns::Resolve;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use reqwest::{Client, Method, Request, RequestBuilder, Response, Url};
use tokio::time::Instant;

use crate::registry::{Options, SetupError};

/// Most that is read of a response, in bytes. Real ones have a few hundred.
pub(crate) const LARGEST_BODY: usize = 64 * 1024;

/// The client of one adapter.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    client: Client,
    timeout: Duration,
    targets: Targets,
}

/// What a platform answered.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) status: u16,
    /// How long it asked us to stay away, milliseconds.
    pub(crate) retry_after_ms: Option<u64>,
    /// What came with it.
    pub(crate) body: Body,
}

/// The body of an answer.
#[derive(Debug)]
pub(crate) enum Body {
    /// All of it.
    Whole(Vec<u8>),
    /// It is not all here, and why. The answer's status stands.
    Cut(String),
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failed {
    /// Nothing left this process, and it would be the same next time.
    Unsendable(String),
    /// There was no connection, so not a byte of the request left.
    NoConnection(String),
    /// The platform may have read the request.
    Lost(String),
}

impl Http {
    /// A client under the deployment's rules.
    pub(crate) fn new(options: Options) -> Result<Self, SetupError> {
        Self::over(options, Arc::new(System))
    }

    /// The same, with names looked up by `names`. What it answers is checked
    /// here, whatever it is.
    pub(crate) fn over(options: Options, names: Arc<dyn Resolve>) -> Result<Self, SetupError> {
        // reqwest is built without a TLS provider of its own; a program that
        // installed one keeps it.
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let timeout = options.timeout.min(SEND_TIMEOUT);
        let targets = Targets { allow_private: options.allow_private_targets };
        let client = Client::builder()
            .user_agent(concat!("galley/", env!("CARGO_PKG_VERSION")))
            // A call that ends while it still connects is known to have sent
            // nothing, so connecting has a limit of its own, well inside the
            // whole call's.
            .connect_timeout(timeout * 5 / 8)
            // Nobody below us may send a request twice. hyper repeats one whose
            // pooled connection died before an answer, and it cannot know what
            // the platform did with it: so no connection is ever used again.
            // reqwest repeats what HTTP/2 calls unprocessed, on the platform's
            // word alone, and HTTP/2 shares connections in any case.
            .pool_max_idle_per_host(0)
            .http1_only()
            .retry(reqwest::retry::never())
            // A redirect would carry the credential, and perhaps a second post,
            // to a place nobody configured.
            .redirect(reqwest::redirect::Policy::none())
            // A proxy looks names up on its own: an address that was checked
            // here would not be the one it connects to.
            .no_proxy()
            .dns_resolver(targets.resolver(names))
            .build();
        let client = client.map_err(|error| SetupError::Client(root_cause(&error)))?;
        Ok(Self { client, timeout, targets })
    }

    /// What a workspace may name.
    pub(crate) fn targets(&self) -> Targets {
        self.targets
    }

    /// Begins a request; [`call`](Self::call) sends it.
    pub(crate) fn request(&self, method: Method, url: Url) -> RequestBuilder {
        self.client.request(method, url)
    }

    /// Sends a request, once, and reads the answer.
    pub(crate) async fn call(&self, request: Request) -> Result<Answer, Failed> {
        // The client asks its resolver about names alone: an address in the
        // URL itself is looked at here.
        self.targets.check(request.url()).map_err(Failed::Unsendable)?;
        let deadline = Instant::now() + self.timeout;
        let mut response = match within(deadline, self.client.execute(request)).await {
            Some(Ok(response)) => response,
            Some(Err(error)) => return Err(failed(&error)),
            None => return Err(Failed::Lost(format!("no answer within {:?}", self.timeout))),
        };
        let body = match within(deadline, read(&mut response)).await {
            Some(body) => body,
            None => Body::Cut(format!("the answer did not end within {:?}", self.timeout)),
        };
        Ok(Answer {
            status: response.status().as_u16(),
            retry_after_ms: retry_after_ms(response.headers()),
            body,
        })
    }
}

/// Runs to its end or to the deadline. The deadline is looked at first: a
/// process that was stopped in between must not go on and send.
async fn within<T>(deadline: Instant, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = tokio::time::sleep_until(deadline) => None,
        done = work => Some(done),
    }
}

async fn read(response: &mut Response) -> Body {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= LARGEST_BODY => body.extend_from_slice(&chunk),
            Ok(Some(_)) => return Body::Cut(format!("the answer has more than {LARGEST_BODY} bytes")),
            Ok(None) => return Body::Whole(body),
            Err(error) => return Body::Cut(format!("the answer broke off: {}", root_cause(&error))),
        }
    }
}

fn failed(error: &reqwest::Error) -> Failed {
    if let Some(forbidden) = causes(error).find_map(|cause| cause.downcast_ref::<Forbidden>()) {
        return Failed::Unsendable(forbidden.to_string());
    }
    let why = root_cause(error);
    if error.is_builder() {
        Failed::Unsendable(format!("the request cannot be made: {why}"))
    } else if error.is_connect() {
        // Names, TCP and TLS: the request is written after all three. No early
        // data is sent.
        Failed::NoConnection(format!("no connection: {why}"))
    } else {
        Failed::Lost(format!("the connection was lost before an answer: {why}"))
    }
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// The innermost cause. The outer ones name the URL, which may hold a secret.
fn root_cause(error: &reqwest::Error) -> String {
    match causes(error).skip(1).last() {
        Some(cause) => cause.to_string(),
        None => "unknown cause".into(),
    }
}

/// How long the platform asks us to wait. A date is measured against the
/// response's own `Date`: both are the platform's clock, ours is not asked.
fn retry_after_ms(headers: &HeaderMap) -> Option<u64> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let after = text(RETRY_AFTER)?;
    if let Ok(seconds) = after.parse::<u64>() {
        return Some(seconds.saturating_mul(1_000));
    }
    let instant = |text: &str| rfc2822::DateTimeParser::new().parse_timestamp(text).ok();
    let wait = instant(after)?.as_millisecond().saturating_sub(instant(text(DATE)?)?.as_millisecond());
    Some(u64::try_from(wait).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(reqwest::header::HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_of_the_same_clock() {
        let (then, now) = ("Tue, 24 Nov 2026 12:00:30 GMT", "Tue, 24 Nov 2026 12:00:00 GMT");
        for (pairs, expected) in [
            (&[][..], None),
            (&[(RETRY_AFTER, "7")], Some(7_000)),
            (&[(RETRY_AFTER, "99999999999999999999")], None),
            (&[(RETRY_AFTER, "-1")], None),
            (&[(RETRY_AFTER, "soon")], None),
            (&[(RETRY_AFTER, then)], None),
            (&[(RETRY_AFTER, then), (DATE, now)], Some(30_000)),
            (&[(RETRY_AFTER, now), (DATE, then)], Some(0)),
        ] {
            assert_eq!(retry_after_ms(&headers(pairs)), expected, "{pairs:?}");
        }
    }
}
