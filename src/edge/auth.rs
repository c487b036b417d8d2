//! Who is asking: JSON Web Tokens, checked.
//!
//! - [`check`](Checker): a token's key and claims; [`Claims`]: what they say;
//! - [`KeySet`]: the keys, from a file and from a URL;
//! - [`Ended`]: which tokens and keys ended early.
//!
//! One key has one algorithm, which the token's header cannot choose. Whatever
//! is wrong with a token, the caller hears the same 401: the reason is in the
//! log only.

mod check;
mod claims;
mod ended;
mod jwks;
mod keyset;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;

pub use self::check::{Checker, OWN_ALGORITHM};
pub use self::claims::{Claims, KEY_SUBJECT, NewClaims, OWN_ISSUER, TokenRules, is_subject};
pub use self::ended::{Ended, Identities, REVOKED_WITHIN};
pub use self::jwks::{Jwks, JwksUrlError};
pub use self::keyset::{KeySet, KeySetError};
use crate::error::ApiError;

/// Shortest secret, in bytes: what HS256 itself asks for.
pub const MIN_SECRET_BYTES: usize = 32;

/// The one answer; why, goes to the log.
pub fn refuse(reason: String) -> ApiError {
    tracing::debug!(reason, "refused a token");
    ApiError::unauthenticated()
}

/// The one bearer of a request.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let (value, None) = (given.next()?, given.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
