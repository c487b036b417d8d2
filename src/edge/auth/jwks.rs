//! Keys from a URL: an identity provider's JWK Set.
//!
//! The set is kept; a token that names an unknown key makes it be fetched
//! again, at most once a minute, however many such tokens come. While the URL
//! fails the keys that were known stay known.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures::StreamExt as _;
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::keyset::{Key, KeySet, Source};

/// Largest set that is read, in bytes.
const MAX_BYTES: usize = 128 * 1024;

/// How long a fetch may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// After how long a set is fetched again although nobody missed a key: a key
/// that was taken out ends to hold.
const OLD: Duration = Duration::from_secs(600);

/// Why a URL cannot be one of keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct JwksUrlError(String);

/// The keys of a URL. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Jwks {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    url: Url,
    client: Client,
    known: RwLock<Known>,
    /// When it was last tried. Held while one fetch runs.
    tried: Mutex<Option<Instant>>,
    /// The least time between two fetches.
    pause: Duration,
}

#[derive(Clone, Debug, Default)]
struct Known {
    keys: KeySet,
    since: Option<Instant>,
}

impl Jwks {
    /// The keys of a URL, fetched when first needed.
    ///
    /// # Errors
    /// A URL that keys are not fetched from.
    pub fn new(url: &str, pause: Duration) -> Result<Self, JwksUrlError> {
        let url: Url = url.parse().map_err(|error| JwksUrlError(format!("not a URL: {error}")))?;
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let loopback = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        if url.scheme() != "https" && !(url.scheme() == "http" && loopback) {
            return Err(JwksUrlError("keys are fetched by https:// only (http:// on this machine)".into()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(JwksUrlError("it holds a password; a JWK Set is public".into()));
        }
        // reqwest is built without a TLS provider of its own.
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let client = Client::builder()
            .user_agent(concat!("galley/", env!("CARGO_PKG_VERSION")))
            // The allowed URL is this one, not what it points to.
            .redirect(Policy::none())
            .connect_timeout(PATIENCE)
            .timeout(PATIENCE)
            .build()
            .map_err(|error| JwksUrlError(format!("no HTTP client: {error}")))?;
        Ok(Self {
            inner: Arc::new(Inner { url, client, known: RwLock::default(), tried: Mutex::new(None), pause }),
        })
    }

    /// The key of a name, if the URL has it.
    pub(super) async fn get(&self, kid: &str) -> Option<Arc<Key>> {
        let known = self.inner.known();
        let refresh = || tokio::spawn(Arc::clone(&self.inner).refresh());
        if let Some(key) = known.keys.get(kid) {
            if known.since.is_none_or(|since| since.elapsed() > OLD) {
                refresh();
            }
            return Some(key);
        }
        // In a task of its own: a caller that hangs up must not end the one
        // fetch of this minute.
        let _ = refresh().await;
        self.inner.known().keys.get(kid)
    }
}

impl Inner {
    fn known(&self) -> Known {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn refresh(self: Arc<Self>) {
        let mut tried = self.tried.lock().await;
        if tried.is_some_and(|at| at.elapsed() < self.pause) {
            return;
        }
        *tried = Some(Instant::now());
        match self.fetch().await {
            Ok(keys) => {
                let known = Known { keys, since: Some(Instant::now()) };
                *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
            }
            Err(why) => tracing::warn!(url = %self.url, why, "the JWKS URL gave no keys; those known stay"),
        }
    }

    async fn fetch(&self) -> Result<KeySet, String> {
        let told = |error: reqwest::Error| error.without_url().to_string();
        let response = self.client.get(self.url.clone()).send().await.map_err(told)?;
        if response.status() != 200 {
            return Err(format!("it answered {}", response.status()));
        }
        let (mut text, mut body) = (Vec::new(), response.bytes_stream());
        while let Some(chunk) = body.next().await {
            text.extend_from_slice(&chunk.map_err(told)?);
            if text.len() > MAX_BYTES {
                return Err(format!("its answer is over {MAX_BYTES} bytes"));
            }
        }
        KeySet::read(&text, Source::Url).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_by_https_or_from_this_machine() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        for good in
            ["https://id.example/keys", "http://127.0.0.1:9/k", "http://localhost/k", "http://[::1]/k"]
        {
            assert!(Jwks::new(good, PATIENCE).is_ok(), "{good}");
        }
        for bad in [
            "http://id.example/keys",
            "file:///etc/passwd",
            "keys",
            "https://a:b@id.example",
            "http://127.0.0.1.example/",
        ] {
            assert!(Jwks::new(bad, PATIENCE).is_err(), "{bad}");
        }
    }
}
