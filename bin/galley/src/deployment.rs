//! What the roles are made of, put together from the configuration: the
//! engine over both stores, and the agents this process can run.

use std::sync::Arc;
use std::time::Duration;

use galley_agents::{
    Definitions, OfflineConfig, OfflineOrders, OwnRules, Prices, ProviderConfig, RegisterError, Registry,
    RemoteConfig,
};
use galley_api::{ApiConfig, KeySet, RateLimits, Signer, TokenRules};
use galley_engine::queue::{QueueError, Rates, RedisConfig, RedisQueue, RedisRates};
use galley_engine::store::{Role, Store};
use galley_engine::{CheckpointKey, Engine, EngineConfig, Targets};
use galley_gateway::{GatewayConfig, GatewayState};
use galley_publishers::Publishers;
use galley_worker::{Adapters, WorkerOptions};
use secrecy::{ExposeSecret, SecretString};

use crate::Changes;
use crate::cli::Settings;
use crate::config::{Config, Providers};
use crate::defaults::{self, Guessable};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::secrets;

/// The database, in one of Galley's roles; [`Role::Login`] for what whoever
/// deploys does without an API.
///
/// # Errors
/// No URL, or one that is none.
pub(crate) fn store(config: &Config, role: Role) -> Result<Store, Failure> {
    let url = config.database.url.as_ref().ok_or_else(|| {
        Failure::usage("no database is configured")
            .detail("setting database.url is empty")
            .hint("set DATABASE_URL=postgres://USER:PASSWORD@HOST:PORT/DATABASE, or run `galley dev`, which brings its own")
    })?;
    let patience = Duration::from_secs(config.database.wait_s.max(1).into());
    Store::connect_as(role, url.expose_secret(), config.database.connections, patience).map_err(|error| {
        Failure::usage("setting database.url is not the URL of a PostgreSQL database")
            .detail(error)
            .hint("write postgres://USER:PASSWORD@HOST:PORT/DATABASE")
    })
}

/// The queue. Connects when it is first used.
///
/// # Errors
/// No URL, or one that is none.
pub(crate) fn queue(config: &Config) -> Result<RedisQueue, Failure> {
    let url = config.redis.url.as_ref().ok_or_else(|| {
        Failure::usage("no Redis is configured")
            .detail("setting redis.url is empty")
            .hint("set REDIS_URL=redis://HOST:PORT/, or run `galley dev`, which brings its own")
    })?;
    let redis = RedisConfig::new(url.expose_secret()).with_prefix(&config.redis.prefix);
    RedisQueue::new(redis).map_err(not_a_redis)
}

fn not_a_redis(error: QueueError) -> Failure {
    Failure::usage("setting redis.url is not the URL of a Redis")
        .detail(error)
        .hint("write redis://HOST:PORT/")
}

/// The engine over both.
///
/// # Errors
/// As [`store`] and [`queue`].
pub(crate) fn engine(config: &Config, changes: Changes, role: Role) -> Result<Engine, Failure> {
    let session_ttl = Duration::from_millis(config.scheduler.session_ttl_ms);
    if session_ttl < Duration::from_secs(1) {
        return Err(Failure::usage("setting scheduler.session_ttl_ms has a value that cannot be used")
            .detail(format!("{} ms: a busy machine would lose its sessions", config.scheduler.session_ttl_ms))
            .hint("write at least 1000"));
    }
    let mut engine = EngineConfig {
        session_ttl,
        renew_every: session_ttl / 3,
        reconcile_rate: config.scheduler.reconcile_rate.max(1),
        keyring: secrets::keyring(config)?,
        checkpoint_key: checkpoint_key(config)?,
        targets: Targets { allow_private: config.publishing.allow_private_targets },
        platforms: Some(adapters(config)?),
        ..EngineConfig::default()
    };
    (changes.engine)(&mut engine);
    Ok(Engine::new(store(config, role)?, Arc::new(queue(config)?), engine))
}

/// The adapters of platforms.
///
/// # Errors
/// The HTTP client cannot be made.
fn adapters(config: &Config) -> Result<Arc<Adapters>, Failure> {
    let options = galley_publishers::Options {
        allow_private_targets: config.publishing.allow_private_targets,
        ..galley_publishers::Options::default()
    };
    let publishers = Publishers::built_in(options)
        .map_err(|why| Failure::unexpected("the adapters of platforms cannot be made").detail(why))?;
    Ok(Arc::new(Adapters(publishers)))
}

/// What the audit's checkpoints are signed with.
///
/// # Errors
/// A key that is none.
pub(crate) fn checkpoint_key(config: &Config) -> Result<Option<CheckpointKey>, Failure> {
    let Some(key) = &config.audit.signing_key else { return Ok(None) };
    CheckpointKey::from_hex(key.expose_secret()).map(Some).map_err(|error| {
        Failure::usage("setting audit.signing_key has a value that cannot be used").detail(error)
    })
}

/// The engine of a production role: the schema is this release's and the
/// database's clock is the true one.
///
/// # Errors
/// As [`engine`]; PostgreSQL is away; the schema is not ready; the API's login
/// could step out of its role.
pub(crate) async fn production_engine(settings: &Settings, role: Role) -> Result<Engine, Failure> {
    for guessable in guessable(&settings.config) {
        let Guessable { setting, why, todo } = guessable;
        tracing::warn!(setting, "setting {setting} can be guessed: {why}; {todo}");
    }
    let engine = engine(&settings.config, settings.changes, role)?;
    engine.store().check_schema(false).await?;
    if role == Role::Api && !settings.config.database.allow_owner {
        engine.store().check_login().await?;
    }
    Ok(engine)
}

/// What of a configuration somebody could guess.
pub(crate) fn guessable(config: &Config) -> Vec<Guessable> {
    defaults::guessable(config, &std::env::current_dir().unwrap_or_default())
}

/// Who a worker is to the database: only one that publishes may read
/// credentials.
pub(crate) fn worker_role(config: &Config) -> Role {
    let agents = &config.worker.agents.0;
    let publishes =
        agents.is_empty() || agents.iter().any(|agent| agent.as_str() == galley_core::publish::PUBLISHER);
    if publishes { Role::Publisher } else { Role::Engine }
}

/// The agents this process can run.
///
/// # Errors
/// A definition or a provider that is wrong, told with its place.
pub(crate) fn registry(config: &Config) -> Result<Registry, Failure> {
    let mut definitions = Definitions::built_in().map_err(definition)?;
    if let Some(folder) = &config.worker.agents_dir {
        definitions = definitions.with_folder(folder).map_err(definition)?;
    }
    let mut prices = Prices::built_in().map_err(definition)?;
    if let Some(folder) = &config.worker.agents_dir {
        prices = prices.with_folder(folder).map_err(definition)?;
    }
    let providers = galley_agents::Providers::new(
        providers(&config.providers, config.publishing.allow_private_targets)?,
        prices,
    )
    .map_err(|why| {
        Failure::usage("the providers are not configured right")
            .detail(why)
            .hint("see the providers in docs/configuration.md")
    })?;
    let mut registry = Registry::new();
    registry.register_definitions(definitions, &Arc::new(providers)).map_err(register)?;
    Ok(registry)
}

/// An agent that was not registered.
pub(crate) fn register(error: RegisterError) -> Failure {
    Failure::usage("an agent cannot be registered").detail(error)
}

fn definition(error: galley_agents::LoadError) -> Failure {
    Failure::usage("an agent definition cannot be used").detail(error)
}

fn providers(config: &Providers, allow_private: bool) -> Result<ProviderConfig, Failure> {
    let remote =
        |name: &str, base_url: &Option<String>, api_key: &Option<SecretString>, model: &Option<String>| {
            match model {
                Some(model) => Ok(Some(RemoteConfig {
                    base_url: base_url.clone(),
                    api_key: api_key.clone(),
                    model: model.clone(),
                    max_concurrency: config.max_concurrency,
                    stream: config.stream,
                    idle_timeout_ms: Some(config.idle_timeout_ms),
                    http2: config.http2,
                })),
                None if base_url.is_none() && api_key.is_none() => Ok(None),
                None => {
                    let variable = format!("GALLEY_{}_MODEL", name.to_uppercase());
                    Err(Failure::usage(format!("the provider {name} is configured in part"))
                        .detail("it needs the model that answers when an agent names none")
                        .hint(format!("set {variable}, or nothing about {name}")))
                }
            }
        };
    let openai = remote("openai", &config.openai_base_url, &config.openai_api_key, &config.openai_model)?;
    let anthropic =
        remote("anthropic", &config.anthropic_base_url, &config.anthropic_api_key, &config.anthropic_model)?;
    let gemini = remote("gemini", &config.gemini_base_url, &config.gemini_api_key, &config.gemini_model)?;
    let ollama = remote("ollama", &config.ollama_base_url, &None, &config.ollama_model)?;
    let offline = OfflineConfig {
        enabled: config.offline_enabled,
        defaults: OfflineOrders {
            delay_ms: config.offline_delay_ms,
            fail: config.offline_fail,
            fail_first: config.offline_fail_first,
            retry_after_ms: config.offline_retry_after_ms,
            rubbish: config.offline_rubbish,
        },
    };
    let own = OwnRules {
        allow_private,
        idle_timeout_ms: Some(config.idle_timeout_ms),
        suffice: config.from_workspaces,
    };
    Ok(ProviderConfig { offline, openai, anthropic, gemini, ollama, own })
}

/// How this process calls itself among workers.
///
/// # Errors
/// No room to run anything.
pub(crate) fn worker_options(config: &Config) -> Result<WorkerOptions, Failure> {
    let concurrency = config.worker.concurrency;
    if concurrency == 0 {
        return Err(Failure::usage("setting worker.concurrency has a value that cannot be used")
            .detail("a worker with room for 0 steps runs nothing")
            .hint("write at least 1"));
    }
    let host = host();
    let name = config.worker.name.clone().unwrap_or_else(|| format!("{host}-{}", std::process::id()));
    Ok(WorkerOptions {
        name,
        host,
        agents: config.worker.agents.0.clone(),
        concurrency,
        adapters: Some(adapters(config)?),
        on_recorded: None,
    })
}

fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "unknown".into() } else { name.trim().into() }
}

/// What tokens are signed with.
///
/// # Errors
/// None, or one that is too short.
pub(crate) fn jwt_secret(config: &Config) -> Result<SecretString, Failure> {
    let how =
        "make one with `openssl rand -hex 32` and give the same to every API server as GALLEY_JWT_SECRET";
    match &config.auth.jwt_secret {
        None => Err(Failure::usage("no secret for tokens is configured")
            .detail("setting auth.jwt_secret is empty")
            .hint(how)),
        Some(secret) if secret.expose_secret().len() < galley_api::MIN_SECRET_BYTES => {
            Err(Failure::usage("the secret for tokens is too short")
                .detail(format!(
                    "setting auth.jwt_secret has fewer than {} characters",
                    galley_api::MIN_SECRET_BYTES
                ))
                .hint(how))
        }
        Some(secret) => Ok(secret.clone()),
    }
}

/// What tokens have to say.
///
/// # Errors
/// A lifetime of none.
pub(crate) fn token_rules(config: &Config) -> Result<TokenRules, Failure> {
    let auth = &config.auth;
    if auth.max_lifetime_days == 0 {
        return Err(Failure::usage("setting auth.max_lifetime_days has a value that cannot be used")
            .detail("no token could hold")
            .hint("write at least 1"));
    }
    Ok(TokenRules {
        issuer: auth.issuer.clone(),
        audience: auth.audience.clone(),
        max_lifetime: Duration::from_secs(u64::from(auth.max_lifetime_days) * 86_400),
    })
}

/// What signs tokens here.
///
/// # Errors
/// A weak secret.
pub(crate) fn signer(secret: &SecretString, config: &Config) -> Result<Signer, Failure> {
    Signer::new(secret, token_rules(config)?)
        .map_err(|error| Failure::usage("no token can be signed").detail(error))
}

/// What the API is told.
///
/// # Errors
/// A key file that cannot be used, or a Redis URL that is none.
pub(crate) fn api_config(config: &Config, secret: SecretString) -> Result<ApiConfig, Failure> {
    let mut api = ApiConfig::new(secret);
    api.auth.rules = token_rules(config)?;
    api.auth.jwks_url.clone_from(&config.auth.jwks_url);
    api.limits.unfinished_workflows = config.limits.unfinished_workflows;
    api.limits.connections = config.limits.connections.max(1);
    api.limits.rates = RateLimits {
        workspace_per_minute: config.limits.workspace_per_minute,
        caller_per_minute: config.limits.caller_per_minute,
    };
    if api.limits.rates != RateLimits::OFF {
        api.rates = rates(config)?;
    }
    if let Some(path) = &config.auth.keys_file {
        let wrong = || Failure::usage(format!("the key file {} cannot be used", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| {
            wrong().detail(error).hint("setting auth.keys_file names a JWK Set that this process can read")
        })?;
        api.auth.keys = KeySet::parse(&text).map_err(|error| wrong().detail(error))?;
    }
    Ok(api)
}

/// What counts calls for all servers, where there is a Redis.
///
/// # Errors
/// A Redis URL that is none.
fn rates(config: &Config) -> Result<Option<Arc<dyn Rates>>, Failure> {
    let Some(url) = &config.redis.url else { return Ok(None) };
    let redis = RedisConfig::new(url.expose_secret()).with_prefix(&config.redis.prefix);
    Ok(Some(Arc::new(RedisRates::new(redis).map_err(not_a_redis)?)))
}

/// What a gateway is told.
///
/// # Errors
/// A lifetime of tokens that is none, or a Redis URL that is none.
pub(crate) fn gateway_config(config: &Config, secret: SecretString) -> Result<GatewayConfig, Failure> {
    let mut gateway = GatewayConfig::new(secret);
    gateway.rules = token_rules(config)?;
    gateway.limits.calls_per_minute = config.gateway.calls_per_minute;
    gateway.limits.calls_at_once = config.gateway.calls_at_once;
    gateway.limits.http.connections = config.limits.connections.max(1);
    if gateway.limits.calls_per_minute > 0 {
        gateway.rates = rates(config)?;
    }
    Ok(gateway)
}

/// Serves the gateway until told to stop.
///
/// # Errors
/// A socket that broke.
pub(crate) async fn serve_gateway(
    listener: tokio::net::TcpListener,
    engine: Engine,
    config: &GatewayConfig,
    stop: tokio_util::sync::CancellationToken,
) -> Result<(), Failure> {
    galley_gateway::serve(listener, GatewayState::new(engine, config), stop)
        .await
        .map_err(|error| Failure::unexpected("the gateway stopped serving").detail(error))
}

/// A task of the role that panicked: a bug that the panic hook has logged.
pub(crate) fn broken(what: &str, error: &tokio::task::JoinError) -> Failure {
    Failure::new(Exit::Unexpected, format!("{what} ended by itself")).detail(error)
}

/// Serves the API until told to stop.
///
/// # Errors
/// A weak secret, a JWKS URL that is none, or a socket that broke.
pub(crate) async fn serve_api(
    listener: tokio::net::TcpListener,
    engine: Engine,
    config: &ApiConfig,
    stop: tokio_util::sync::CancellationToken,
) -> Result<(), Failure> {
    let state = galley_api::ApiState::new(engine, config)
        .map_err(|error| Failure::usage("the API cannot start").detail(error))?;
    galley_api::serve(listener, state, stop)
        .await
        .map_err(|error| Failure::unexpected("the API stopped serving").detail(error))
}
