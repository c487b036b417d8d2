//! What a worker is handed and hands back: its session, and the leases on its
//! steps. Signed, so that a gateway believes them without having to remember
//! them, and bound to the subject of the token they were made for: they are of
//! no use to anybody else.

use std::fmt;
use std::sync::Arc;

use axum::http::StatusCode;
use galley_core::ids::{AgentType, SessionId, WorkspaceId};
use galley_edge::ApiError;
use galley_edge::auth::OWN_ALGORITHM;
use galley_edge::error::Kind;
use galley_engine::Lease;
use jsonwebtoken::{DecodingKey, EncodingKey, Header, Validation};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::door::Pass;

/// Whom a session is shown to. No token has such an audience, and no token is
/// believed that has.
const SESSION: &str = "galley/session";

/// Whom a lease is shown to.
const LEASE: &str = "galley/lease";

/// Longest text that is looked at, in bytes.
const MAX_BYTES: usize = 8 * 1024;

pub(crate) const SESSION_OVER: Kind =
    Kind::of_its_own("session-over", "The session is over", StatusCode::GONE);

/// Signs and reads both.
#[derive(Clone)]
pub(crate) struct Seal {
    keys: Arc<(EncodingKey, DecodingKey)>,
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seal").finish_non_exhaustive()
    }
}

/// A session, as its worker carries it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Carried {
    pub(crate) session: SessionId,
    /// The agent types it serves.
    pub(crate) agents: Vec<AgentType>,
    /// Steps it runs at once.
    pub(crate) concurrency: usize,
}

/// What is signed: the content, what it is, and whose.
#[derive(Serialize, Deserialize)]
struct Signed<T> {
    aud: String,
    sub: String,
    workspace: WorkspaceId,
    #[serde(flatten)]
    content: T,
}

impl Seal {
    pub(crate) fn new(secret: &SecretString) -> Self {
        let secret = secret.expose_secret().as_bytes();
        Self { keys: Arc::new((EncodingKey::from_secret(secret), DecodingKey::from_secret(secret))) }
    }

    fn sign<T: Serialize>(&self, pass: &Pass, what: &str, content: T) -> Result<String, ApiError> {
        let signed = Signed {
            aud: what.to_owned(),
            sub: pass.subject.to_string(),
            workspace: pass.workspace,
            content,
        };
        jsonwebtoken::encode(&Header::new(OWN_ALGORITHM), &signed, &self.keys.0)
            .map_err(|error| ApiError::internal(format!("{what} cannot be signed: {error}")))
    }

    fn read<T: DeserializeOwned>(&self, pass: &Pass, what: &str, text: &str) -> Option<T> {
        if text.len() > MAX_BYTES {
            return None;
        }
        let mut validation = Validation::new(OWN_ALGORITHM);
        validation.set_audience(&[what]);
        validation.set_required_spec_claims(&["aud", "sub"]);
        // It ends with what it stands for, which Postgres knows.
        validation.validate_exp = false;
        let signed: Signed<T> = jsonwebtoken::decode(text, &self.keys.1, &validation).ok()?.claims;
        let whose = *signed.sub == *pass.subject && signed.workspace == pass.workspace;
        whose.then_some(signed.content)
    }

    /// A session, to be carried by its worker.
    pub(crate) fn session(&self, pass: &Pass, carried: &Carried) -> Result<String, ApiError> {
        self.sign(pass, SESSION, carried)
    }

    /// The session that a worker shows.
    pub(crate) fn read_session(&self, pass: &Pass, text: &str) -> Result<Carried, ApiError> {
        let carried: Carried = self.read(pass, SESSION, text).ok_or_else(|| {
            ApiError::invalid("session", "not a session of this token; `POST /v1/connect` opens one")
        })?;
        // The token may be a narrower one than the session was opened with.
        carried.agents.iter().try_for_each(|agent| pass.allow(agent))?;
        Ok(carried)
    }

    /// A lease, to be carried by the worker that runs its step.
    pub(crate) fn lease(&self, pass: &Pass, lease: &Lease) -> Result<String, ApiError> {
        self.sign(pass, LEASE, lease)
    }

    /// The lease that a worker shows, at a place of its request.
    pub(crate) fn read_lease(&self, pass: &Pass, at: &str, text: &str) -> Result<Lease, ApiError> {
        let told = || ApiError::invalid(at, "not a lease of this token; `POST /v1/lease` hands them out");
        let lease: Lease = self.read(pass, LEASE, text).ok_or_else(told)?;
        pass.allow(&lease.agent)?;
        Ok(lease)
    }

    /// Several leases.
    pub(crate) fn read_leases(
        &self,
        pass: &Pass,
        at: &str,
        texts: &[String],
    ) -> Result<Vec<Lease>, ApiError> {
        let each = texts.iter().enumerate();
        each.map(|(place, text)| self.read_lease(pass, &format!("{at}[{place}]"), text)).collect()
    }
}

/// The session of a call that is over.
pub(crate) fn session_over() -> ApiError {
    ApiError::new(
        SESSION_OVER,
        "nobody heard of this worker for longer than its session may be silent, or it was closed; its steps are \
         somebody else's: stop working on them, and open a new session with `POST /v1/connect`",
    )
}
