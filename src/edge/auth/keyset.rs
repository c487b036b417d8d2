//! Keys that check tokens, read from a JWK Set (RFC 7517).
//!
//! Each key has exactly one algorithm, and it is the key's: a token's header
//! can name a key, but never how its signature is checked. So a public RSA key
//! cannot be made to pass as an HMAC secret.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;

use super::MIN_SECRET_BYTES;

/// Longest name of a key that is looked up, in bytes.
const MAX_KID_BYTES: usize = 256;

/// Shortest RSA modulus, in bytes: 2048 bits.
const MIN_RSA_BYTES: usize = 256;

/// Longest RSA modulus, in bytes: 8192 bits, so that no check takes long.
const MAX_RSA_BYTES: usize = 1_024;

/// A key and its one algorithm.
pub(super) struct Key {
    pub(super) algorithm: Algorithm,
    pub(super) decoding: DecodingKey,
}

/// Keys by their names.
#[derive(Clone, Default)]
pub struct KeySet {
    keys: Arc<HashMap<String, Arc<Key>>>,
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.keys.keys()).finish()
    }
}

/// Why a key set cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// It is not a JWK Set.
    #[error("not a JWK Set (`{{\"keys\": [...]}}`): {0}")]
    NotASet(String),
    /// One of its keys.
    #[error("keys[{at}]: {problem}")]
    Key {
        /// Its place in the set.
        at: usize,
        /// What is wrong with it.
        problem: String,
    },
}

/// Where a key set came from: what it may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A file of the deployment: every key must be one that can be used.
    File,
    /// A service: what it holds beside usable keys is passed over, and a shared
    /// secret that anybody can read is none.
    Url,
}

#[derive(Deserialize)]
struct Wire {
    keys: Vec<serde_json::Value>,
}

/// The members of a JWK that we read.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
    d: Option<serde::de::IgnoredAny>,
}

impl KeySet {
    /// Reads the text of a file: every key in it must be usable.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse(text: &str) -> Result<Self, KeySetError> {
        Self::read(text.as_bytes(), Source::File)
    }

    pub(super) fn read(text: &[u8], source: Source) -> Result<Self, KeySetError> {
        let not_a_set = |error: serde_json::Error| KeySetError::NotASet(error.to_string());
        let wire: Wire = serde_json::from_slice(text).map_err(not_a_set)?;
        let mut keys = HashMap::new();
        for (at, value) in wire.keys.into_iter().enumerate() {
            let wrong = |problem: String| KeySetError::Key { at, problem };
            let read = serde_json::from_value::<Jwk>(value)
                .map_err(|error| error.to_string())
                .and_then(|jwk| key_of(&jwk, source));
            match read {
                // Which of two a token means cannot be told.
                Ok((kid, _)) if keys.contains_key(&kid) => {
                    return Err(wrong(format!("a second key with the `kid` {kid}")));
                }
                Ok((kid, key)) => {
                    keys.insert(kid, Arc::new(key));
                }
                Err(problem) if source == Source::File => return Err(wrong(problem)),
                Err(problem) => tracing::debug!(at, problem, "passed over a key of the JWKS URL"),
            }
        }
        if keys.is_empty() {
            return Err(KeySetError::NotASet("it has no key that can be used".into()));
        }
        Ok(Self { keys: Arc::new(keys) })
    }

    /// The key of a name.
    pub(super) fn get(&self, kid: &str) -> Option<Arc<Key>> {
        if kid.len() > MAX_KID_BYTES { None } else { self.keys.get(kid).cloned() }
    }
}

fn key_of(jwk: &Jwk, source: Source) -> Result<(String, Key), String> {
    let kid = jwk.kid.clone().unwrap_or_default();
    if kid.is_empty() || kid.len() > MAX_KID_BYTES {
        return Err(format!("`kid`: a name of 1-{MAX_KID_BYTES} bytes, which tokens choose it by"));
    }
    if jwk.usage.as_deref().is_some_and(|usage| usage != "sig") {
        return Err("`use`: this key is not for signatures".into());
    }
    if jwk.d.is_some() {
        return Err("`d`: this is a private key; only its public half belongs here".into());
    }
    let (algorithm, decoding) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("OKP", Some("Ed25519")) => {
            let x = part("x", jwk.x.as_deref())?;
            if x.len() != 32 {
                return Err("`x`: an Ed25519 public key has 32 bytes".into());
            }
            (Algorithm::EdDSA, DecodingKey::from_ed_der(&x))
        }
        ("EC", Some("P-256")) => {
            let (x, y) = (part("x", jwk.x.as_deref())?, part("y", jwk.y.as_deref())?);
            if x.len() != 32 || y.len() != 32 {
                return Err("`x`, `y`: coordinates of P-256 have 32 bytes".into());
            }
            (Algorithm::ES256, DecodingKey::from_ec_der(&[&[4], &x[..], &y[..]].concat()))
        }
        ("RSA", _) => {
            let (n, e) = (part("n", jwk.n.as_deref())?, part("e", jwk.e.as_deref())?);
            if !(MIN_RSA_BYTES..=MAX_RSA_BYTES).contains(&n.len()) {
                return Err("`n`: 2048 to 8192 bits".into());
            }
            (Algorithm::RS256, DecodingKey::from_rsa_raw_components(&n, &e))
        }
        ("oct", _) if source == Source::Url => return Err("a shared secret, which a URL cannot hold".into()),
        ("oct", _) => {
            let k = part("k", jwk.k.as_deref())?;
            if k.len() < MIN_SECRET_BYTES {
                return Err(format!("`k`: at least {MIN_SECRET_BYTES} bytes"));
            }
            (Algorithm::HS256, DecodingKey::from_secret(&k))
        }
        _ => return Err("`kty`, `crv`: an Ed25519, P-256, RSA or oct key".into()),
    };
    let named = match jwk.alg.as_deref() {
        // RFC 9864 names the curve; it is the same algorithm.
        Some("Ed25519") => "EdDSA",
        Some(alg) => alg,
        // These curves are for one algorithm. An RSA key or a secret could be
        // used with several: its owner says which.
        None if matches!(algorithm, Algorithm::EdDSA | Algorithm::ES256) => name(algorithm),
        None => {
            return Err(format!("`alg`: {} is the one that this kind of key is used with", name(algorithm)));
        }
    };
    if named != name(algorithm) {
        return Err(format!(
            "`alg`: {named} is not {}, the one that this kind of key is used with",
            name(algorithm)
        ));
    }
    Ok((kid, Key { algorithm, decoding }))
}

fn part(name: &str, text: Option<&str>) -> Result<Vec<u8>, String> {
    let text = text.ok_or_else(|| format!("`{name}` is missing"))?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| format!("`{name}` is not base64url"))
}

/// An algorithm as headers write it.
pub(super) fn name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::EdDSA => "EdDSA",
        Algorithm::ES256 => "ES256",
        Algorithm::RS256 => "RS256",
        Algorithm::HS256 => "HS256",
        // No key of ours has another.
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(key: &str) -> String {
        KeySet::parse(&format!(r#"{{"keys":[{key}]}}"#)).unwrap_err().to_string()
    }

    #[test]
    fn a_file_says_which_key_is_wrong_and_how() {
        let secret = URL_SAFE_NO_PAD.encode([7; 32]);
        let good = format!(r#"{{"kty":"oct","kid":"a","alg":"HS256","k":"{secret}"}}"#);
        assert!(KeySet::parse(&format!(r#"{{"keys":[{good}]}}"#)).is_ok());
        for (key, told) in [
            (good.replace(r#""kid":"a","#, ""), "`kid`"),
            (good.replace("HS256", "HS512"), "HS512 is not HS256"),
            (good.replace("HS256", "RS256"), "RS256 is not HS256"),
            (good.replace(r#""alg":"HS256","#, ""), "`alg`"),
            (good.replace(&secret, "c2hvcnQ"), "`k`: at least 32"),
            (good.replace(r#""kid""#, r#""use":"enc","kid""#), "not for signatures"),
            (good.replace(r#""kid""#, r#""d":"x","kid""#), "private key"),
            (r#"{"kty":"EC","crv":"P-521","kid":"a","alg":"ES512"}"#.into(), "`kty`, `crv`"),
            (r#"{"kty":"OKP","crv":"Ed25519","kid":"a","alg":"EdDSA","x":"AA"}"#.into(), "32 bytes"),
            (r#"{"kty":"RSA","kid":"a","alg":"RS256","n":"AA","e":"AQAB"}"#.into(), "2048"),
            (format!("{good},{good}"), "a second key"),
        ] {
            assert!(problem(&key).contains(told), "{}", problem(&key));
        }
        // A curve with one algorithm says it by itself; an RSA key does not.
        let point = URL_SAFE_NO_PAD.encode([9; 32]);
        let modulus = URL_SAFE_NO_PAD.encode([0xff; 256]);
        for (key, algorithm) in [
            (format!(r#""kty":"OKP","crv":"Ed25519","x":"{point}""#), Some(Algorithm::EdDSA)),
            (format!(r#""kty":"EC","crv":"P-256","x":"{point}","y":"{point}""#), Some(Algorithm::ES256)),
            (format!(r#""kty":"RSA","n":"{modulus}","e":"AQAB""#), None),
        ] {
            let keys = KeySet::parse(&format!(r#"{{"keys":[{{"kid":"a",{key}}}]}}"#));
            assert_eq!(keys.ok().and_then(|keys| keys.get("a")).map(|key| key.algorithm), algorithm, "{key}");
        }
        assert!(KeySet::parse("{}").is_err() && KeySet::parse(r#"{"keys":[]}"#).is_err());
    }

    /// One odd key in somebody else's set does not lock everybody out, and a
    /// secret that is served to all is no secret.
    #[test]
    fn a_url_may_hold_more_than_we_use() {
        let secret = URL_SAFE_NO_PAD.encode([7; 32]);
        let point = URL_SAFE_NO_PAD.encode([9; 32]);
        let set = format!(
            r#"{{"keys":[{{"kty":"oct","kid":"a","alg":"HS256","k":"{secret}"}},{{"kty":"new"}},
               {{"kty":"OKP","crv":"Ed25519","kid":"b","alg":"EdDSA","x":"{point}"}}]}}"#
        );
        let keys = KeySet::read(set.as_bytes(), Source::Url).unwrap();
        assert!(keys.get("a").is_none());
        assert!(keys.get("b").is_some_and(|key| key.algorithm == Algorithm::EdDSA));
    }
}
