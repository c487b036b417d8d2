//! Checking tokens: which key, then what it says.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::claims::{Claims, OWN_ISSUER, TokenRules};
use super::jwks::Jwks;
use super::keyset::{Key, KeySet, name};

/// The algorithm of the deployment's secret.
pub const OWN_ALGORITHM: Algorithm = Algorithm::HS256;

/// Longest token that is looked at, in bytes.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// A token's header, as far as we read it.
#[derive(Deserialize)]
struct Head {
    alg: String,
    kid: Option<String>,
    // Headers by which a token would choose its own key, or change what its
    // signature means.
    jwk: Option<IgnoredAny>,
    jku: Option<IgnoredAny>,
    x5u: Option<IgnoredAny>,
    x5c: Option<IgnoredAny>,
    crit: Option<IgnoredAny>,
    b64: Option<IgnoredAny>,
}

/// Checks tokens. Cheap to clone.
#[derive(Clone)]
pub struct Checker {
    own: Arc<Key>,
    file: KeySet,
    url: Option<Jwks>,
    rules: TokenRules,
}

impl fmt::Debug for Checker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { own: _, file, url, rules } = self;
        f.debug_struct("Checker")
            .field("file", file)
            .field("url", url)
            .field("rules", rules)
            .finish_non_exhaustive()
    }
}

impl Checker {
    /// The secret's length was checked by the signer.
    pub fn new(secret: &SecretString, file: KeySet, url: Option<Jwks>, rules: TokenRules) -> Self {
        let decoding = DecodingKey::from_secret(secret.expose_secret().as_bytes());
        Self { own: Arc::new(Key { algorithm: OWN_ALGORITHM, decoding }), file, url, rules }
    }

    /// What a token says, if it is to be believed.
    ///
    /// # Errors
    /// Why not, for the log.
    pub async fn check(&self, token: &str) -> Result<Claims, String> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(format!("over {MAX_TOKEN_BYTES} bytes"));
        }
        let head = head(token)?;
        if [&head.jwk, &head.jku, &head.x5u, &head.x5c, &head.crit, &head.b64]
            .into_iter()
            .any(Option::is_some)
        {
            return Err("its header wants to say how it is checked".into());
        }
        let (key, own) = match head.kid.as_deref() {
            // Ours name no key: there is one.
            None => (Arc::clone(&self.own), true),
            Some(kid) => (self.named(kid).await.ok_or("no key of that name")?, false),
        };
        if head.alg != name(key.algorithm) {
            return Err("its key has another algorithm".into());
        }
        let issuer = if own { OWN_ISSUER } else { &self.rules.issuer };
        let validation = self.rules.validation(key.algorithm, issuer);
        let data = jsonwebtoken::decode::<Claims>(token, &key.decoding, &validation)
            .map_err(|error| error.to_string())?;
        let mut claims = data.claims;
        self.rules.check(&claims)?;
        // The deployment is opened by its secret alone: what an identity
        // provider lets its users put into a token must not reach that far.
        claims.deployment &= own;
        Ok(claims)
    }

    async fn named(&self, kid: &str) -> Option<Arc<Key>> {
        match (self.file.get(kid), &self.url) {
            (Some(key), _) => Some(key),
            (None, Some(url)) => url.get(kid).await,
            (None, None) => None,
        }
    }
}

fn head(token: &str) -> Result<Head, String> {
    let first = token.split('.').next().unwrap_or_default();
    let bytes = URL_SAFE_NO_PAD.decode(first).map_err(|_| "its header is not base64url")?;
    serde_json::from_slice(&bytes).map_err(|error| format!("its header: {error}"))
}
