//! The configuration: defaults < TOML file < environment < flags.
//!
//! Every setting is declared once, in the list below: its section, type,
//! environment variable, default and meaning. The structs, the reading and the
//! table in docs/configuration.md follow from it. Nothing else in this package
//! reads the environment for a setting.

mod setting;
mod source;

use std::path::PathBuf;

use galley_agents::{Fault, Rubbish};
use secrecy::SecretString;

pub(crate) use self::setting::{Address, Agents, LogFormat};
pub(crate) use self::source::{Flags, Sources};
use crate::failure::Failure;

/// A setting as the docs and the sources know it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    /// The table in the TOML file.
    pub(crate) section: &'static str,
    /// The key in that table.
    pub(crate) name: &'static str,
    /// The environment variable.
    pub(crate) env: &'static str,
    /// What holds when nobody says anything; empty: nothing.
    pub(crate) default: &'static str,
    /// What it means.
    pub(crate) about: &'static str,
}

macro_rules! config {
    ($(
        #[doc = $section_about:literal]
        $section:ident: $Section:ident {
            $( $(#[doc = $about:literal])+ $name:ident: $Type:ty = $default:literal, $env:literal; )+
        }
    )+) => {
        $(
            #[doc = $section_about]
            #[derive(Clone, Debug)]
            pub(crate) struct $Section {
                $( $(#[doc = $about])+ pub(crate) $name: $Type, )+
            }
        )+

        /// The whole configuration.
        #[derive(Clone, Debug)]
        pub(crate) struct Config {
            $( #[doc = $section_about] pub(crate) $section: $Section, )+
        }

        /// Every setting, in the order of the docs.
        pub(crate) const KEYS: &[Key] = &[$($(
            Key {
                section: stringify!($section),
                name: stringify!($name),
                env: $env,
                default: $default,
                about: concat!($($about),+),
            },
        )+)+];

        impl Config {
            /// Reads every setting from the sources.
            ///
            /// # Errors
            /// The first setting whose value is wrong, with where it came from.
            pub(crate) fn read(sources: &Sources) -> Result<Self, Failure> {
                Ok(Self {
                    $( $section: $Section {
                        $( $name: sources.get::<$Type>(stringify!($section), stringify!($name))?, )+
                    }, )+
                })
            }
        }
    };
}

config! {
    /// PostgreSQL, where everything that counts is kept.
    database: Database {
        /// Where PostgreSQL is: `postgres://USER:PASSWORD@HOST:PORT/DATABASE`.
        url: Option<SecretString> = "", "DATABASE_URL";
        /// Most connections one process opens.
        connections: u32 = "16", "GALLEY_DATABASE_CONNECTIONS";
        /// Seconds an operation waits for a free connection before it fails.
        wait_s: u32 = "3", "GALLEY_DATABASE_WAIT_S";
        /// Whether the API may run with a login that is a superuser or owns the tables: not in production.
        allow_owner: bool = "false", "GALLEY_DATABASE_ALLOW_OWNER";
    }
    /// Redis, where steps wait for workers.
    redis: Redis {
        /// Where Redis is: `redis://HOST:PORT/`.
        url: Option<SecretString> = "", "REDIS_URL";
        /// What all keys begin with, so that deployments can share a Redis.
        prefix: String = "galley", "GALLEY_REDIS_PREFIX";
    }
    /// The REST API.
    api: Api {
        /// Where the API listens.
        addr: Address = "127.0.0.1:8080", "GALLEY_API_ADDR";
    }
    /// The gateway, for workers in any language.
    gateway: Gateway {
        /// Where the gateway listens; `off` for nowhere.
        addr: Address = "127.0.0.1:8082", "GALLEY_GATEWAY_ADDR";
        /// Calls per minute of one worker's token; 0: any number.
        calls_per_minute: u32 = "60000", "GALLEY_GATEWAY_CALLS_PER_MINUTE";
        /// Calls of one worker's token at once, those that wait for steps among them.
        calls_at_once: usize = "1000", "GALLEY_GATEWAY_CALLS_AT_ONCE";
    }
    /// Workers.
    worker: Worker {
        /// The agent types this worker serves, separated by commas; all when empty.
        agents: Agents = "", "GALLEY_AGENTS";
        /// Steps it runs at once.
        concurrency: usize = "16", "GALLEY_CONCURRENCY";
        /// A folder of agent definitions (`*.toml`) that add to the built-in ones or replace them.
        agents_dir: Option<PathBuf> = "", "GALLEY_AGENTS_DIR";
        /// What `galley worker list` calls it; the host and process id when empty.
        name: Option<String> = "", "GALLEY_WORKER_NAME";
    }
    /// The scheduler's duties; workers use the same session time.
    scheduler: Scheduler {
        /// Milliseconds after which a silent worker is dead; the same for every role.
        session_ttl_ms: u64 = "6000", "GALLEY_SESSION_TTL_MS";
        /// Workflows per second the reconciler looks at, at most.
        reconcile_rate: usize = "20000", "GALLEY_RECONCILE_RATE";
    }
    /// The preview network that `galley dev` brings along.
    preview: Preview {
        /// Where it listens; `off` for nowhere.
        addr: Address = "127.0.0.1:8081", "GALLEY_PREVIEW_ADDR";
    }
    /// Prometheus metrics, on a port of their own.
    metrics: Metrics {
        /// Where `/metrics` is served; `off` for nowhere.
        addr: Address = "127.0.0.1:9464", "GALLEY_METRICS_ADDR";
    }
    /// Who answers the prompts.
    providers: Providers {
        /// OpenAI, or a service that speaks as it does: the URL before
        /// `/chat/completions`, where it is not OpenAI's own.
        openai_base_url: Option<String> = "", "GALLEY_OPENAI_BASE_URL";
        /// Its key; none for a local service that asks for none.
        openai_api_key: Option<SecretString> = "", "GALLEY_OPENAI_API_KEY";
        /// The model that answers when an agent names none.
        openai_model: Option<String> = "", "GALLEY_OPENAI_MODEL";
        /// Anthropic's URL, where it is not the public one.
        anthropic_base_url: Option<String> = "", "GALLEY_ANTHROPIC_BASE_URL";
        /// Its key.
        anthropic_api_key: Option<SecretString> = "", "GALLEY_ANTHROPIC_API_KEY";
        /// The model that answers when an agent names none.
        anthropic_model: Option<String> = "", "GALLEY_ANTHROPIC_MODEL";
        /// Gemini's URL, where it is not the public one.
        gemini_base_url: Option<String> = "", "GALLEY_GEMINI_BASE_URL";
        /// Its key.
        gemini_api_key: Option<SecretString> = "", "GALLEY_GEMINI_API_KEY";
        /// The model that answers when an agent names none.
        gemini_model: Option<String> = "", "GALLEY_GEMINI_MODEL";
        /// Ollama's URL, where it is not this machine's.
        ollama_base_url: Option<String> = "", "GALLEY_OLLAMA_BASE_URL";
        /// The model that answers when an agent names none.
        ollama_model: Option<String> = "", "GALLEY_OLLAMA_MODEL";
        /// Most calls at once to each of them from this process; none: any number.
        max_concurrency: Option<usize> = "", "GALLEY_PROVIDER_CONCURRENCY";
        /// Whether their answers are streamed; without, nothing is known of a call before it is over.
        stream: bool = "true", "GALLEY_PROVIDER_STREAM";
        /// Milliseconds for which one of them may be silent within a streamed call.
        idle_timeout_ms: u64 = "120000", "GALLEY_PROVIDER_IDLE_TIMEOUT_MS";
        /// Whether those at `http://` URLs speak HTTP/2, many calls over one connection; at `https://` URLs both sides say what they speak.
        http2: bool = "false", "GALLEY_PROVIDER_HTTP2";
        /// Whether workspaces bring their own (`galley provider set`): then a worker starts although an agent's models have none of the deployment's.
        from_workspaces: bool = "false", "GALLEY_PROVIDERS_FROM_WORKSPACES";
        /// Whether the built-in provider of sample copy may answer.
        offline_enabled: bool = "true", "GALLEY_OFFLINE_ENABLED";
        /// Milliseconds it waits before it answers.
        offline_delay_ms: Option<u64> = "", "GALLEY_OFFLINE_DELAY_MS";
        /// It fails: `transient`, `permanent` or `throttled`.
        offline_fail: Option<Fault> = "", "GALLEY_OFFLINE_FAIL";
        /// It fails only this many attempts of a step.
        offline_fail_first: Option<u32> = "", "GALLEY_OFFLINE_FAIL_FIRST";
        /// Milliseconds a throttled answer asks to wait.
        offline_retry_after_ms: Option<u64> = "", "GALLEY_OFFLINE_RETRY_AFTER_MS";
        /// It answers something that is no JSON: `true`, `false` or `once`.
        offline_rubbish: Option<Rubbish> = "", "GALLEY_OFFLINE_RUBBISH";
    }
    /// Sending posts out.
    publishing: Publishing {
        /// Whether accounts and workspaces' own providers may name private addresses, and `http://` without TLS. For API servers and workers that publish; `galley dev` allows them.
        allow_private_targets: bool = "false", "GALLEY_ALLOW_PRIVATE_TARGETS";
    }
    /// The keys that wrap the data keys of workspaces, which seal credentials: the same for every API server and worker.
    secrets: Secrets {
        /// One key, as version 1: 64 hexadecimal digits.
        key: Option<SecretString> = "", "GALLEY_SECRET_KEY";
        /// A file of keys, one `VERSION:KEY` a line; the highest version is the newest, and wraps what is new.
        key_file: Option<PathBuf> = "", "GALLEY_SECRET_KEY_FILE";
        /// A command that prints such lines; the shell runs it when the process starts.
        key_command: Option<String> = "", "GALLEY_SECRET_KEY_COMMAND";
    }
    /// The audit's chain.
    audit: Audit {
        /// What signs where the chains end: an Ed25519 key of 64 hexadecimal digits, for API servers.
        signing_key: Option<SecretString> = "", "GALLEY_AUDIT_SIGNING_KEY";
    }
    /// Who may call the API.
    auth: Auth {
        /// What tokens are signed with: at least 32 characters, the same for all API servers.
        jwt_secret: Option<SecretString> = "", "GALLEY_JWT_SECRET";
        /// A JWK Set (JSON) of further keys that vouch for tokens: EdDSA, ES256, RS256 or HS256, each with its `kid` and its `alg` (an Ed25519 or P-256 key has only one).
        keys_file: Option<PathBuf> = "", "GALLEY_AUTH_KEYS_FILE";
        /// A URL of such a set, of public keys alone; `https://`, or `http://` on this machine. Fetched again for an unknown `kid`, at most once a minute.
        jwks_url: Option<String> = "", "GALLEY_AUTH_JWKS_URL";
        /// The `iss` of tokens under those keys. Tokens of the secret say `galley`.
        issuer: String = "galley", "GALLEY_AUTH_ISSUER";
        /// The `aud` of every token.
        audience: String = "galley", "GALLEY_AUTH_AUDIENCE";
        /// Days a token may hold at most, from its issue to its end.
        max_lifetime_days: u32 = "365", "GALLEY_AUTH_MAX_LIFETIME_DAYS";
    }
    /// What callers of the API may ask for.
    limits: CallerLimits {
        /// Requests per minute of one workspace, all its callers together; a minute's may come at once. 0: no limit.
        workspace_per_minute: u32 = "60000", "GALLEY_LIMITS_WORKSPACE_PER_MINUTE";
        /// Requests per minute of one caller: a token's subject, or a key. 0: no limit.
        caller_per_minute: u32 = "12000", "GALLEY_LIMITS_CALLER_PER_MINUTE";
        /// Unfinished workflows of one workspace, about; a submit beyond is refused with 429. 0: no limit.
        unfinished_workflows: u32 = "100000", "GALLEY_LIMITS_UNFINISHED_WORKFLOWS";
        /// Connections one API server serves at a time; further ones wait.
        connections: usize = "10000", "GALLEY_LIMITS_CONNECTIONS";
    }
    /// Logs.
    log: Log {
        /// What is logged: `error`, `warn`, `info`, `debug`, `trace`, or directives such as `info,galley_engine=debug`.
        filter: String = "info", "GALLEY_LOG";
        /// `human` or `json`.
        format: LogFormat = "human", "GALLEY_LOG_FORMAT";
    }
    /// Where the commands that talk to the API find it.
    client: Client {
        /// The API's URL; what `galley dev` of this folder wrote when empty.
        url: Option<String> = "", "GALLEY_URL";
        /// The token to show it; what `galley dev` of this folder wrote when empty.
        token: Option<SecretString> = "", "GALLEY_TOKEN";
    }
}

#[cfg(test)]
mod tests;
