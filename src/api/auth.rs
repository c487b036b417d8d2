//! Who is asking: JSON Web Tokens, checked and issued.
//!
//! One key has one algorithm, which the token's header cannot choose. Whatever
//! is wrong with a token, the caller hears the same 401: the reason is in the
//! log only.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::Response;
use galley_core::ids::WorkspaceId;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use crate::authorize::Caller;
use crate::config::ApiState;
use crate::error::ApiError;
use crate::views::{IssuedToken, Role};

/// The one algorithm of the one key.
const ALGORITHM: Algorithm = Algorithm::HS256;

/// Who issues tokens, and for whom.
const NAME: &str = "galley";

/// How far two clocks may differ, seconds.
const LEEWAY: u64 = 30;

/// Shortest secret, in bytes: what HS256 itself asks for.
pub const MIN_SECRET_BYTES: usize = 32;

/// Longest subject, in bytes.
const MAX_SUBJECT_BYTES: usize = 200;

/// Longest validity: a year.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3_600);

/// Why no token can be issued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The secret can be guessed.
    #[error(
        "the JWT secret has fewer than {MIN_SECRET_BYTES} bytes; `openssl rand -hex 32` makes a good one"
    )]
    WeakSecret,
    /// A wish that cannot be granted.
    #[error("{at}: {problem}")]
    Invalid {
        /// The field of the request for a token.
        at: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Signing failed: a bug.
    #[error("the token could not be signed: {0}")]
    Signing(String),
}

/// What a new token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewToken {
    /// The workspace it opens.
    pub workspace: WorkspaceId,
    /// Whom it names: what audit lines will say.
    pub subject: String,
    /// What it allows.
    pub roles: Vec<Role>,
    /// How long it holds: one second to 365 days.
    pub ttl: Duration,
}

/// A token's claims.
#[derive(Serialize, Deserialize)]
struct Claims {
    sub: String,
    workspace: WorkspaceId,
    /// Text, not [`Role`]: a role that only a newer release knows allows
    /// nothing here, but does not void the others.
    roles: Vec<String>,
    exp: i64,
    nbf: i64,
    iat: i64,
    iss: String,
    aud: String,
}

/// Checks tokens, and signs new ones.
#[derive(Clone)]
pub struct Keys {
    inner: Arc<Inner>,
}

struct Inner {
    decoding: DecodingKey,
    encoding: EncodingKey,
    validation: Validation,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

impl Keys {
    /// The keys of a secret.
    ///
    /// # Errors
    /// [`TokenError::WeakSecret`].
    pub fn new(secret: &SecretString) -> Result<Self, TokenError> {
        let bytes = secret.expose_secret().as_bytes();
        if bytes.len() < MIN_SECRET_BYTES {
            return Err(TokenError::WeakSecret);
        }
        let mut validation = Validation::new(ALGORITHM);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        validation.set_issuer(&[NAME]);
        validation.set_audience(&[NAME]);
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        Ok(Self {
            inner: Arc::new(Inner {
                decoding: DecodingKey::from_secret(bytes),
                encoding: EncodingKey::from_secret(bytes),
                validation,
            }),
        })
    }

    /// Signs a token.
    ///
    /// # Errors
    /// [`TokenError::Invalid`].
    pub fn issue(&self, new: &NewToken) -> Result<IssuedToken, TokenError> {
        let invalid = |at, problem: &str| Err(TokenError::Invalid { at, problem: problem.to_owned() });
        if !is_subject(&new.subject) {
            return invalid("subject", "1-200 bytes without control characters");
        }
        if new.roles.is_empty() {
            return invalid("roles", "at least one of producer, approver, operator, auditor, admin");
        }
        if new.ttl < Duration::from_secs(1) || new.ttl > LONGEST {
            return invalid("ttlSeconds", "1 second to 365 days");
        }
        let now = Timestamp::now();
        let expires = Timestamp::from_second(now.as_second().saturating_add_unsigned(new.ttl.as_secs()))
            .map_err(|error| TokenError::Signing(error.to_string()))?;
        let claims = Claims {
            sub: new.subject.clone(),
            workspace: new.workspace,
            roles: new.roles.iter().map(|role| role.word().to_owned()).collect(),
            exp: expires.as_second(),
            nbf: now.as_second(),
            iat: now.as_second(),
            iss: NAME.into(),
            aud: NAME.into(),
        };
        let token = jsonwebtoken::encode(&Header::new(ALGORITHM), &claims, &self.inner.encoding)
            .map_err(|error| TokenError::Signing(error.to_string()))?;
        Ok(IssuedToken { token, expires_at: expires.to_string() })
    }

    /// Who a token names; why not, if nobody.
    fn check(&self, token: &str) -> Result<Caller, String> {
        let data = jsonwebtoken::decode::<Claims>(token, &self.inner.decoding, &self.inner.validation)
            .map_err(|error| error.to_string())?;
        let claims = data.claims;
        if !is_subject(&claims.sub) {
            return Err("the subject is empty, too long or has control characters".into());
        }
        let roles = claims.roles.iter().filter_map(|role| role.parse().ok()).collect();
        Ok(Caller::new(claims.workspace, claims.sub, roles))
    }
}

fn is_subject(text: &str) -> bool {
    (1..=MAX_SUBJECT_BYTES).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// Signs a token without an API: `galley token issue`.
///
/// # Errors
/// [`TokenError`].
pub fn issue_token(secret: &SecretString, new: &NewToken) -> Result<IssuedToken, TokenError> {
    Keys::new(secret)?.issue(new)
}

/// Lets a request pass with a good token only, and says in its span whose it
/// is.
pub(crate) async fn require_token(
    State(state): State<ApiState>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = header.and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    let checked = token.ok_or_else(|| "no bearer token".to_owned()).and_then(|token| state.keys.check(token));
    let caller = checked.map_err(|reason| {
        tracing::debug!(reason, "refused a token");
        ApiError::unauthenticated()
    })?;
    tracing::Span::current().record("workspace", tracing::field::display(caller.workspace()));
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}
