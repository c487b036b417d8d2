//! Signing tokens with the deployment's secret.

use std::fmt;
use std::time::Duration;

use galley_core::ids::WorkspaceId;
use galley_edge::auth::{MIN_SECRET_BYTES, NewClaims, OWN_ALGORITHM, OWN_ISSUER, TokenRules, is_subject};
use jiff::Timestamp;
use jsonwebtoken::{EncodingKey, Header};
use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;

use crate::views::{IssuedToken, Role};

/// Why no token can be issued, or none checked.
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
    /// How long it holds: one second to the rules' longest.
    pub ttl: Duration,
    /// Whether it is for the whole deployment: it may make and list all
    /// workspaces, issue for others, and control the queues they share.
    pub deployment: bool,
}

/// Signs tokens.
#[derive(Clone)]
pub struct Signer {
    encoding: EncodingKey,
    rules: TokenRules,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("rules", &self.rules).finish_non_exhaustive()
    }
}

impl Signer {
    /// Signs with a secret.
    ///
    /// # Errors
    /// [`TokenError::WeakSecret`].
    pub fn new(secret: &SecretString, rules: TokenRules) -> Result<Self, TokenError> {
        let bytes = secret.expose_secret().as_bytes();
        if bytes.len() < MIN_SECRET_BYTES {
            return Err(TokenError::WeakSecret);
        }
        Ok(Self { encoding: EncodingKey::from_secret(bytes), rules })
    }

    /// The longest that a token may hold.
    pub fn longest(&self) -> Duration {
        self.rules.max_lifetime
    }

    /// Signs a token.
    ///
    /// # Errors
    /// [`TokenError::Invalid`].
    pub fn issue(&self, new: &NewToken) -> Result<IssuedToken, TokenError> {
        let invalid = |at, problem: String| Err(TokenError::Invalid { at, problem });
        if !is_subject(&new.subject) {
            return invalid(
                "subject",
                "1-200 bytes without control characters, not beginning with `key:`".into(),
            );
        }
        if new.roles.is_empty() {
            let told = "at least one of producer, approver, operator, auditor, admin";
            return invalid("roles", told.into());
        }
        let longest = self.rules.max_lifetime;
        if new.ttl < Duration::from_secs(1) || new.ttl > longest {
            return invalid("ttlSeconds", format!("1 second to {} days", longest.as_secs() / 86_400));
        }
        let now = Timestamp::now();
        let expires = Timestamp::from_second(now.as_second().saturating_add_unsigned(new.ttl.as_secs()))
            .map_err(|error| TokenError::Signing(error.to_string()))?;
        // Random alone: an id says nothing about when or where it was made.
        let id = Uuid::new_v4().to_string();
        let claims = NewClaims {
            sub: &new.subject,
            workspace: new.workspace,
            roles: new.roles.iter().map(|role| role.word()).collect(),
            deployment: new.deployment,
            agents: &[],
            jti: &id,
            exp: expires.as_second(),
            nbf: now.as_second(),
            iat: now.as_second(),
            iss: OWN_ISSUER,
            aud: &self.rules.audience,
        };
        let token = jsonwebtoken::encode(&Header::new(OWN_ALGORITHM), &claims, &self.encoding)
            .map_err(|error| TokenError::Signing(error.to_string()))?;
        Ok(IssuedToken { token, id, expires_at: expires.to_string() })
    }
}
