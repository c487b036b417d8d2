//! Signing tokens with the deployment's secret.

use std::fmt;
use std::time::Duration;

use galley_core::agent::inside_only;
use galley_core::ids::{AgentType, WorkspaceId};
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

/// What a new worker's token says: it is shown to the gateway, runs steps of
/// all workspaces, and only of these agents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewWorkerToken {
    /// The workspace it is kept in: whose audit log tells of it, and in which
    /// it is revoked.
    pub workspace: WorkspaceId,
    /// Whom it names.
    pub subject: String,
    /// The agent types it may serve.
    pub agents: Vec<AgentType>,
    /// How long it holds: one second to the rules' longest.
    pub ttl: Duration,
}

/// Most agent types that a worker's token is for.
const MOST_AGENTS: usize = 32;

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
        if new.roles.is_empty() {
            let told = "at least one of producer, approver, operator, auditor, admin";
            return Err(invalid("roles", told));
        }
        let draft = Draft {
            workspace: new.workspace,
            subject: &new.subject,
            roles: new.roles.iter().map(|role| role.word()).collect(),
            deployment: new.deployment,
            agents: &[],
            audience: &self.rules.audience,
        };
        self.sign(draft, new.ttl)
    }

    /// Signs a worker's token.
    ///
    /// # Errors
    /// [`TokenError::Invalid`].
    pub fn issue_for_worker(&self, new: &NewWorkerToken) -> Result<IssuedToken, TokenError> {
        if !(1..=MOST_AGENTS).contains(&new.agents.len()) {
            return Err(invalid("agents", format!("1 to {MOST_AGENTS} agent types")));
        }
        if let Some(why) = new.agents.iter().find_map(inside_only) {
            return Err(invalid("agents", why));
        }
        let draft = Draft {
            workspace: new.workspace,
            subject: &new.subject,
            roles: Vec::new(),
            deployment: true,
            agents: &new.agents,
            audience: &self.rules.of_workers().audience,
        };
        self.sign(draft, new.ttl)
    }

    fn sign(&self, draft: Draft<'_>, ttl: Duration) -> Result<IssuedToken, TokenError> {
        if !is_subject(draft.subject) {
            let told = "1-200 bytes without control characters, not beginning with `key:`";
            return Err(invalid("subject", told));
        }
        let longest = self.rules.max_lifetime;
        if ttl < Duration::from_secs(1) || ttl > longest {
            return Err(invalid("ttlSeconds", format!("1 second to {} days", longest.as_secs() / 86_400)));
        }
        let now = Timestamp::now();
        let expires = Timestamp::from_second(now.as_second().saturating_add_unsigned(ttl.as_secs()))
            .map_err(|error| TokenError::Signing(error.to_string()))?;
        // Random alone: an id says nothing about when or where it was made.
        let id = Uuid::new_v4().to_string();
        let claims = NewClaims {
            sub: draft.subject,
            workspace: draft.workspace,
            roles: draft.roles,
            deployment: draft.deployment,
            agents: draft.agents,
            jti: &id,
            exp: expires.as_second(),
            nbf: now.as_second(),
            iat: now.as_second(),
            iss: OWN_ISSUER,
            aud: draft.audience,
        };
        let token = jsonwebtoken::encode(&Header::new(OWN_ALGORITHM), &claims, &self.encoding)
            .map_err(|error| TokenError::Signing(error.to_string()))?;
        Ok(IssuedToken { token, id, expires_at: expires.to_string() })
    }
}

/// What differs between kinds of tokens.
struct Draft<'a> {
    workspace: WorkspaceId,
    subject: &'a str,
    roles: Vec<&'static str>,
    deployment: bool,
    agents: &'a [AgentType],
    audience: &'a str,
}

fn invalid(at: &'static str, problem: impl Into<String>) -> TokenError {
    TokenError::Invalid { at, problem: problem.into() }
}
