//! What the API can be told, and what its handlers share.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRef;
use galley_edge::HttpLimits;
use galley_edge::rate::{Gate, RateLimits};
use galley_engine::Engine;
use galley_engine::queue::Rates;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use crate::auth::{AuthConfig, AuthError, Door, Identities};
use crate::backlog::Backlog;
use crate::denials::Denials;
use crate::watch::Hub;

/// What a deployment says about its API.
#[derive(Clone, Debug)]
pub struct ApiConfig {
    /// The HS256 secret that signs and checks tokens; at least
    /// [`MIN_SECRET_BYTES`](crate::MIN_SECRET_BYTES) bytes.
    pub jwt_secret: SecretString,
    /// Which tokens are believed.
    pub auth: AuthConfig,
    /// What a request may cost.
    pub limits: Limits,
    /// Counts requests for all API servers; without it each counts for itself.
    pub rates: Option<Arc<dyn Rates>>,
}

impl ApiConfig {
    /// The defaults, with this secret.
    pub fn new(jwt_secret: SecretString) -> Self {
        Self { jwt_secret, auth: AuthConfig::default(), limits: Limits::default(), rates: None }
    }
}

/// What a request may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest request body, in bytes. Larger ones are answered with 413.
    pub body_bytes: usize,
    /// How long a request may take until its answer begins; event streams
    /// begin at once and then last. Over it: 504.
    pub request_timeout: Duration,
    /// How long a connection may take for a request's head, and idle between
    /// two. Then it is closed.
    pub head_timeout: Duration,
    /// Largest head of a request, in bytes.
    pub head_bytes: usize,
    /// Most headers of a request. More are answered with 431.
    pub headers: usize,
    /// Connections at a time; further ones wait.
    pub connections: usize,
    /// How often somebody may ask.
    pub rates: RateLimits,
    /// Most unfinished workflows of a workspace, about; 0: no limit.
    pub unfinished_workflows: u32,
}

impl Limits {
    /// Those that every HTTP server has.
    pub(crate) fn http(&self) -> HttpLimits {
        let Self { body_bytes, request_timeout, head_timeout, head_bytes, headers, connections, .. } = *self;
        HttpLimits { body_bytes, request_timeout, head_timeout, head_bytes, headers, connections }
    }
}

impl Default for Limits {
    fn default() -> Self {
        let HttpLimits { body_bytes, request_timeout, head_timeout, head_bytes, headers, connections } =
            HttpLimits::default();
        Self {
            body_bytes,
            request_timeout,
            head_timeout,
            head_bytes,
            headers,
            connections,
            rates: RateLimits::OFF,
            unfinished_workflows: 0,
        }
    }
}

/// What the handlers share. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ApiState {
    /// Does everything.
    pub engine: Engine,
    /// What a request may cost.
    pub limits: Limits,
    /// Checks whoever asks, and signs tokens.
    pub(crate) door: Door,
    /// Counts requests.
    pub(crate) gate: Gate,
    /// Counts what is unfinished.
    pub(crate) backlog: Backlog,
    /// Writes denials down.
    pub(crate) denials: Denials,
    /// Tells event streams of changes.
    pub(crate) hub: Hub,
    /// Ends event streams when the server stops.
    pub(crate) closing: CancellationToken,
}

impl ApiState {
    /// The state of an API over an engine.
    ///
    /// # Errors
    /// A weak secret, or a JWKS URL that is none.
    pub fn new(engine: Engine, config: &ApiConfig) -> Result<Self, AuthError> {
        let identities = Arc::new(engine.store().clone());
        Self::with_identities(engine, config, identities)
    }

    /// The same, asking somebody else than the engine's store who is let in.
    ///
    /// # Errors
    /// As [`ApiState::new`].
    pub fn with_identities(
        engine: Engine,
        config: &ApiConfig,
        identities: Arc<dyn Identities>,
    ) -> Result<Self, AuthError> {
        Ok(Self {
            door: Door::new(&config.jwt_secret, &config.auth, identities)?,
            limits: config.limits,
            backlog: Backlog::new(config.limits.unfinished_workflows),
            denials: Denials::new(engine.store().clone()),
            gate: Gate::new(config.limits.rates, config.rates.clone()),
            hub: Hub::new(engine.clone()),
            closing: CancellationToken::new(),
            engine,
        })
    }
}

impl FromRef<ApiState> for Engine {
    fn from_ref(state: &ApiState) -> Self {
        state.engine.clone()
    }
}
