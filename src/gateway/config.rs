//! What a deployment says about its gateways, and what their handlers share.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRef;
use galley_edge::HttpLimits;
use galley_edge::auth::{Ended, Identities, TokenRules};
use galley_edge::rate::{Gate, RateLimits};
use galley_engine::Engine;
use galley_engine::queue::Rates;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use crate::committer::Committer;
use crate::door::Door;
use crate::hub::Hub;
use crate::schemas::Schemas;
use crate::seal::Seal;

/// What a deployment says about its gateways.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// The deployment's secret: it checks workers' tokens, and seals what
    /// workers are handed. The same for every gateway, and for the API.
    pub jwt_secret: SecretString,
    /// What tokens of the API have to say; those of workers differ by their
    /// audience.
    pub rules: TokenRules,
    /// What calls may cost.
    pub limits: GatewayLimits,
    /// Counts calls for all gateways; without it each counts for itself.
    pub rates: Option<Arc<dyn Rates>>,
}

impl GatewayConfig {
    /// The defaults, with this secret.
    pub fn new(jwt_secret: SecretString) -> Self {
        Self { jwt_secret, rules: TokenRules::default(), limits: GatewayLimits::default(), rates: None }
    }
}

/// What calls may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GatewayLimits {
    /// Of a request and a connection.
    pub http: HttpLimits,
    /// Longest wait for steps in one call; shorter than a request may take.
    pub longest_wait: Duration,
    /// Most steps in one lease call.
    pub largest_batch: usize,
    /// Calls per minute of one worker's token; 0: no limit.
    pub calls_per_minute: u32,
    /// Calls of one worker's token at once, those that wait for steps among
    /// them.
    pub calls_at_once: usize,
}

impl Default for GatewayLimits {
    fn default() -> Self {
        Self {
            // An output may be as large as one of a worker of ours.
            http: HttpLimits { body_bytes: 4 * 1024 * 1024, ..HttpLimits::default() },
            longest_wait: Duration::from_secs(20),
            largest_batch: 64,
            calls_per_minute: 60_000,
            calls_at_once: 1_000,
        }
    }
}

/// What the handlers share. Cheap to clone.
#[derive(Clone, Debug)]
pub struct GatewayState {
    /// Does everything.
    pub engine: Engine,
    /// What calls may cost.
    pub limits: GatewayLimits,
    pub(crate) door: Arc<Door>,
    pub(crate) gate: Gate,
    pub(crate) seal: Seal,
    pub(crate) schemas: Arc<Schemas>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) committer: Committer,
    /// Ends the waits for steps when the server stops.
    pub(crate) closing: CancellationToken,
}

impl GatewayState {
    /// The state of a gateway over an engine. Must be called inside a tokio
    /// runtime.
    pub fn new(engine: Engine, config: &GatewayConfig) -> Self {
        let store: Arc<dyn Identities> = Arc::new(engine.store().clone());
        let limits = config.limits;
        let rates = RateLimits { workspace_per_minute: 0, caller_per_minute: limits.calls_per_minute };
        let door = Door::new(&config.jwt_secret, &config.rules, Ended::new(store), limits.calls_at_once);
        Self {
            door: Arc::new(door),
            gate: Gate::new(rates, config.rates.clone()),
            seal: Seal::new(&config.jwt_secret),
            schemas: Arc::new(Schemas::new(engine.clone())),
            hub: Arc::new(Hub::start(engine.clone())),
            committer: Committer::start(engine.clone()),
            closing: CancellationToken::new(),
            limits,
            engine,
        }
    }
}

impl FromRef<GatewayState> for Engine {
    fn from_ref(state: &GatewayState) -> Self {
        state.engine.clone()
    }
}
