//! What a token says, and when that is believed.

use std::time::Duration;

use galley_core::ids::{AgentType, WorkspaceId};
use jsonwebtoken::{Algorithm, Validation};
use serde::{Deserialize, Serialize};

/// Who issues the tokens of the deployment's own secret.
pub const OWN_ISSUER: &str = "galley";

/// What the subject of an API key begins with, and no token's does.
pub const KEY_SUBJECT: &str = "key:";

/// How far two clocks may differ, seconds.
const LEEWAY: u64 = 30;

/// Longest subject, in bytes.
const MAX_SUBJECT_BYTES: usize = 200;

/// Longest token id, in bytes.
const MAX_ID_BYTES: usize = 200;

/// A day.
const DAY: Duration = Duration::from_secs(86_400);

/// What tokens have to say to be believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRules {
    /// The `iss` of tokens that a key file or a JWKS URL vouches for. Tokens of
    /// the deployment's own secret say `galley`.
    pub issuer: String,
    /// The `aud` of every token.
    pub audience: String,
    /// How long a token may hold, from its issue to its end.
    pub max_lifetime: Duration,
}

impl Default for TokenRules {
    fn default() -> Self {
        Self { issuer: OWN_ISSUER.into(), audience: "galley".into(), max_lifetime: DAY * 365 }
    }
}

/// A token's claims. `iss` and `aud` are checked before these are read.
#[derive(Deserialize)]
pub struct Claims {
    /// Whom it names.
    pub sub: String,
    /// The workspace it opens, or, of a worker's, the one it is kept in.
    pub workspace: WorkspaceId,
    /// Text, not a role of the API's: a role that only a newer release
    /// knows allows nothing here, but does not void the others.
    pub roles: Vec<String>,
    /// Whether it is for the deployment, not for its workspace alone.
    #[serde(default)]
    pub deployment: bool,
    /// The agent types that a worker's token is for.
    #[serde(default)]
    pub agents: Vec<String>,
    /// Its id.
    pub jti: Option<String>,
    exp: i64,
    nbf: i64,
    iat: Option<i64>,
}

/// The claims of a token of ours.
#[derive(Serialize)]
pub struct NewClaims<'a> {
    /// Whom it names.
    pub sub: &'a str,
    /// The workspace it opens.
    pub workspace: WorkspaceId,
    /// What it allows.
    pub roles: Vec<&'static str>,
    /// Whether it is for the deployment.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub deployment: bool,
    /// The agent types it is for, of a worker's.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub agents: &'a [AgentType],
    /// Its id.
    pub jti: &'a str,
    /// When it ends.
    pub exp: i64,
    /// When it begins.
    pub nbf: i64,
    /// When it was issued.
    pub iat: i64,
    /// Who issued it.
    pub iss: &'a str,
    /// Whom it is shown to.
    pub aud: &'a str,
}

impl Claims {
    /// When it was issued, seconds: it is revoked by what came later.
    pub fn issued(&self) -> i64 {
        self.iat.map_or(self.nbf, |iat| iat.min(self.nbf))
    }
}

impl TokenRules {
    /// What workers' tokens have to say: they are shown to the gateway, and the
    /// API believes none of them, nor the gateway any of the API's.
    #[must_use]
    pub fn of_workers(&self) -> Self {
        Self { audience: format!("{}/worker", self.audience), ..self.clone() }
    }

    /// What is checked of every token under a key of this algorithm.
    pub fn validation(&self, algorithm: Algorithm, issuer: &str) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[&self.audience]);
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        validation
    }

    /// What is checked beyond that.
    ///
    /// # Errors
    /// Why it is not believed, for the log.
    pub fn check(&self, claims: &Claims) -> Result<(), &'static str> {
        if !is_subject(&claims.sub) {
            return Err("the subject is empty, too long, has control characters or is a key's");
        }
        if claims.jti.as_ref().is_some_and(|id| !(1..=MAX_ID_BYTES).contains(&id.len())) {
            return Err("the id is empty or too long");
        }
        let longest = i64::try_from(self.max_lifetime.as_secs()).unwrap_or(i64::MAX);
        if claims.exp.saturating_sub(claims.issued()) > longest {
            return Err("it holds for longer than tokens may");
        }
        Ok(())
    }
}

/// Whether a text can name somebody in the audit log. What keys are called there
/// is theirs.
pub fn is_subject(text: &str) -> bool {
    (1..=MAX_SUBJECT_BYTES).contains(&text.len())
        && !text.chars().any(char::is_control)
        && !text.starts_with(KEY_SUBJECT)
}
