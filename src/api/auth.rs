//! Who is asking: JSON Web Tokens and API keys, checked and issued.
//!
//! - [`galley_edge::auth`]: what a token says, and whether it ended early;
//! - [`issue`]: signing with the deployment's secret;
//! - [`key`]: API keys.

mod issue;
mod key;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use galley_edge::auth::{Checker, Jwks, KEY_SUBJECT, bearer, refuse};
use secrecy::SecretString;

use crate::authorize::Caller;
use crate::config::ApiState;
use crate::error::ApiError;

pub(crate) use self::key::NewKey;
pub(crate) use galley_edge::auth::Ended;

pub use self::issue::{NewToken, NewWorkerToken, Signer, TokenError};
pub use galley_edge::auth::{
    Identities, JwksUrlError, KeySet, KeySetError, MIN_SECRET_BYTES, REVOKED_WITHIN, TokenRules,
};

/// Which tokens are believed.
#[derive(Clone, Debug)]
pub struct AuthConfig {
    /// What tokens have to say.
    pub rules: TokenRules,
    /// Keys that vouch for tokens beside the deployment's secret.
    pub keys: KeySet,
    /// Where more of them are: `https://…`, or `http://` on this machine.
    pub jwks_url: Option<String>,
    /// The least time between two fetches of that URL.
    pub jwks_pause: Duration,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            rules: TokenRules::default(),
            keys: KeySet::default(),
            jwks_url: None,
            jwks_pause: Duration::from_secs(60),
        }
    }
}

/// Why the API cannot tell who is asking.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The secret.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The URL of keys.
    #[error("the JWKS URL: {0}")]
    Jwks(#[from] JwksUrlError),
}

/// Checks whoever asks, and signs tokens. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    checker: Checker,
    signer: Signer,
    ended: Ended,
}

impl Door {
    pub(crate) fn new(
        secret: &SecretString,
        config: &AuthConfig,
        identities: Arc<dyn Identities>,
    ) -> Result<Self, AuthError> {
        let signer = Signer::new(secret, config.rules.clone())?;
        let url = config.jwks_url.as_deref().map(|url| Jwks::new(url, config.jwks_pause)).transpose()?;
        let checker = Checker::new(secret, config.keys.clone(), url, config.rules.clone());
        Ok(Self { checker, signer, ended: Ended::new(identities) })
    }

    /// The longest that a token or a key may hold.
    pub(crate) fn longest(&self) -> Duration {
        self.signer.longest()
    }

    /// What ended early.
    pub(crate) fn ended(&self) -> &Ended {
        &self.ended
    }

    /// What signs tokens.
    pub(crate) fn signer(&self) -> &Signer {
        &self.signer
    }

    /// Who a bearer is.
    async fn caller(&self, bearer: &str) -> Result<Caller, ApiError> {
        if key::is_key(bearer) {
            return self.keyholder(bearer).await;
        }
        let claims = self.checker.check(bearer).await.map_err(refuse)?;
        let (workspace, id, issued) = (claims.workspace, claims.jti.as_deref(), claims.issued());
        if self.ended.is_revoked(workspace, id, &claims.sub, issued).await? {
            return Err(refuse("it was revoked".into()));
        }
        let roles = claims.roles.iter().filter_map(|role| role.parse().ok()).collect();
        Ok(Caller::new(claims.workspace, claims.sub, roles).of_deployment(claims.deployment))
    }

    /// Who a bearer is that says it is a key.
    async fn keyholder(&self, bearer: &str) -> Result<Caller, ApiError> {
        let (prefix, secret) = key::parts(bearer).ok_or_else(|| refuse("not a key of ours".into()))?;
        let keys = self.ended.keys(prefix).await?;
        let key = keys.iter().find(|key| key::fits(secret, &key.hash));
        let key = key.ok_or_else(|| refuse("no such key".into()))?;
        if !key.valid {
            return Err(refuse("the key was revoked or is over".into()));
        }
        self.ended.tell_used(key.workspace, prefix);
        let roles = key.roles.iter().filter_map(|role| role.parse().ok()).collect();
        Ok(Caller::new(key.workspace, format!("{KEY_SUBJECT}{prefix}"), roles).of_key())
    }
}

/// Lets a request pass with a good token only, and says in its span whose it
/// is.
pub(crate) async fn require_token(
    State(state): State<ApiState>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let bearer = bearer(request.headers()).ok_or_else(|| refuse("no bearer token".into()))?;
    let caller = state.door.caller(bearer).await?;
    tracing::Span::current().record("workspace", tracing::field::display(caller.workspace()));
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    request.extensions_mut().insert(caller.clone());
    let response = next.run(request).await;
    if response.status() == StatusCode::FORBIDDEN {
        state.denials.tell(&caller, method.as_str(), &path);
    }
    Ok(response)
}
