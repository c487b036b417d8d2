//! `galley doctor`: is everything there that a deployment needs, and what to do
//! about what is not.

use clap::Args;
use galley_api::views;
use galley_engine::queue::server_info;
use galley_engine::store::{Role, Store, StoreError};
use secrecy::ExposeSecret;

use crate::cli::{Remote, Run, Settings};
use crate::client;
use crate::config::{Config, Flags};
use crate::deployment;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::print::{self, style};
use crate::secrets;

/// Check the deployment: servers, schema, API, token, workers
///
/// Checks what is configured here: PostgreSQL if DATABASE_URL is set, Redis if
/// REDIS_URL is set, the API if its URL is known. Exit code 4 when a check
/// fails; warnings alone exit 0.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    remote: Remote,
}

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Ok,
    Skip,
    Warn,
    Fail,
}

/// One check.
#[derive(Debug, serde::Serialize)]
struct Check {
    verdict: Verdict,
    what: &'static str,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    todo: Option<String>,
}

#[derive(Default)]
struct Report {
    checks: Vec<Check>,
}

impl Report {
    fn ok(&mut self, what: &'static str, found: impl Into<String>) {
        self.checks.push(Check { verdict: Verdict::Ok, what, found: found.into(), todo: None });
    }

    fn skip(&mut self, what: &'static str, why: impl Into<String>) {
        self.checks.push(Check { verdict: Verdict::Skip, what, found: why.into(), todo: None });
    }

    fn warn(&mut self, what: &'static str, found: impl Into<String>, todo: impl Into<String>) {
        self.checks.push(Check {
            verdict: Verdict::Warn,
            what,
            found: found.into(),
            todo: Some(todo.into()),
        });
    }

    fn fail(&mut self, what: &'static str, found: impl Into<String>, todo: impl Into<String>) {
        self.checks.push(Check {
            verdict: Verdict::Fail,
            what,
            found: found.into(),
            todo: Some(todo.into()),
        });
    }
}

impl Run for Doctor {
    fn flags(&self) -> Flags {
        self.remote.flags()
    }

    async fn run(self, settings: Settings) -> Result<(), Failure> {
        let config = &settings.config;
        let mut report = Report::default();
        postgres(config, &mut report).await;
        redis(config, &mut report).await;
        agents(config, &mut report);
        guessable(config, &mut report);
        api(&settings, &mut report).await;
        let failed = report.checks.iter().filter(|check| check.verdict == Verdict::Fail).count();
        if self.remote.json {
            print::json(&report.checks)?;
        } else {
            print::data(&shown(&report))?;
        }
        if failed > 0 { Err(Failure::silent(Exit::Refused)) } else { Ok(()) }
    }
}

fn shown(report: &Report) -> String {
    let mut text = String::new();
    for check in &report.checks {
        let (paint, word) = match check.verdict {
            Verdict::Ok => (style::GOOD, "ok  "),
            Verdict::Skip => (style::DIM, "skip"),
            Verdict::Warn => (style::WARN, "warn"),
            Verdict::Fail => (style::BAD, "fail"),
        };
        text.push_str(&format!("{}  {:13} {}\n", paint.on(word), check.what, check.found));
        if let Some(todo) = &check.todo {
            text.push_str(&format!("      {:13} {} {todo}\n", "", style::DIM.on("→")));
        }
    }
    text
}

async fn postgres(config: &Config, report: &mut Report) {
    if config.database.url.is_none() {
        report.skip("PostgreSQL", "DATABASE_URL is not set here; set it to check the database itself");
        return;
    }
    let store = match deployment::store(config, Role::Login) {
        Ok(store) => store,
        Err(failure) => return report.fail("PostgreSQL", failure.line(), "correct DATABASE_URL"),
    };
    if let Err(error) = store.ping().await {
        return report.fail(
            "PostgreSQL",
            error.to_string(),
            "is the server up, and are host, port, user and password in DATABASE_URL right?",
        );
    }
    match store.server_version().await {
        Ok(version) if leading_number(&version) < OLDEST_POSTGRES => {
            report.fail(
                "PostgreSQL",
                format!("answers; version {version}"),
                "install PostgreSQL 15 or later",
            );
        }
        Ok(version) => report.ok("PostgreSQL", format!("answers; version {version}")),
        Err(error) => report.fail("PostgreSQL", error.to_string(), "see the server's log"),
    }
    match store.check_schema(false).await {
        Ok(()) => {
            report.ok("schema", "is this release's, and the database's clock is the true one");
            secret_keys(config, &store, report).await;
        }
        Err(StoreError::Schema(why)) => {
            // The store's sentence ends with what to do.
            let (found, todo) = why.split_once("; ").unwrap_or((&why, "run `galley migrate`"));
            report.fail("schema", found, todo);
        }
        Err(error) => report.fail("schema", error.to_string(), "run `galley migrate`"),
    }
}

/// Whether the keys configured here open what is sealed there.
async fn secret_keys(config: &Config, store: &Store, report: &mut Report) {
    let what = "secret keys";
    let known = match secrets::keyring(config) {
        Ok(Some(keyring)) => keyring.versions(),
        Ok(None) => {
            return report
                .skip(what, "none is set here; set GALLEY_SECRET_KEY as the workers have it to check");
        }
        Err(failure) => return report.fail(what, failure.line(), "correct what it names"),
    };
    let newest = known.iter().max().copied().unwrap_or_default();
    match store.kek_versions().await {
        Ok(used) => {
            let used: Vec<u32> = used.iter().map(|(version, _)| version.unsigned_abs()).collect();
            let listed =
                |versions: Vec<&u32>| versions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let lost: Vec<_> = used.iter().filter(|version| !known.contains(version)).collect();
            let old: Vec<_> = used.iter().filter(|version| **version != newest).collect();
            if !lost.is_empty() {
                report.fail(
                    what,
                    format!("data keys are wrapped by secret key {}, which is not set here", listed(lost)),
                    "set it here, too, and run `galley secret rotate`",
                );
            } else if !old.is_empty() {
                report.warn(
                    what,
                    format!(
                        "data keys are still wrapped by secret key {}; the newest is {newest}",
                        listed(old)
                    ),
                    "`galley secret rotate` wraps them with the newest",
                );
            } else {
                report.ok(what, format!("every data key is wrapped by secret key {newest}"));
            }
        }
        Err(error) => report.fail(what, error.to_string(), "see the server's log"),
    }
}

/// The oldest PostgreSQL that is tested.
const OLDEST_POSTGRES: u32 = 15;

/// `15` of `15.18 (Debian …)`; 0 where there is no number.
fn leading_number(version: &str) -> u32 {
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

/// The oldest Redis whose scripts do what the queue needs.
const OLDEST_REDIS: u32 = 7;

async fn redis(config: &Config, report: &mut Report) {
    let Some(url) = &config.redis.url else {
        report.skip("Redis", "REDIS_URL is not set here; set it to check Redis itself");
        return;
    };
    let info = match server_info(url.expose_secret()).await {
        Ok(info) => info,
        Err(why) => {
            return report.fail(
                "Redis",
                why.to_string(),
                "is the server up, and are host, port and password in REDIS_URL right?",
            );
        }
    };
    let fact = |name: &str| info.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let version = fact("redis_version").unwrap_or("unknown");
    let major: u32 = leading_number(version);
    if major < OLDEST_REDIS {
        report.fail("Redis", format!("answers; version {version}"), "install Redis 7 or later");
    } else {
        report.ok("Redis", format!("answers; version {version}"));
    }
    match fact("maxmemory_policy") {
        Some("noeviction") => report.ok("Redis memory", "nothing is evicted"),
        Some(policy) => report.warn(
            "Redis memory",
            format!("maxmemory-policy is {policy}: under pressure queues lose entries, and come back late"),
            "set maxmemory-policy to noeviction",
        ),
        None => report.warn(
            "Redis memory",
            "the server does not tell its maxmemory-policy",
            "make sure it is noeviction",
        ),
    }
}

fn agents(config: &Config, report: &mut Report) {
    match deployment::registry(config) {
        Ok(registry) => {
            let provider = if config.providers.openai_base_url.is_some() {
                "an OpenAI-compatible provider"
            } else {
                "sample copy only"
            };
            report.ok("agents", format!("{} can run here, with {provider}", registry.specs().count()));
        }
        Err(failure) => report.fail("agents", failure.line(), "correct what it names"),
    }
}

fn guessable(config: &Config, report: &mut Report) {
    let found = deployment::guessable(config);
    if found.is_empty() {
        report.ok("secrets", "none that is set here is an example's or can be guessed");
    }
    for guessable in found {
        report.warn(
            "secrets",
            format!("{} can be guessed: {}", guessable.setting, guessable.why),
            guessable.todo,
        );
    }
}

async fn api(settings: &Settings, report: &mut Report) {
    let Ok(client) = Remote::client(settings) else {
        return report.skip(
            "API",
            "nobody said where it is; give --url or GALLEY_URL, or run this where `galley dev` runs",
        );
    };
    match client.get(&["health"]).await.and_then(|answer| client::read::<views::Health>(&answer)) {
        Ok(health) if health.release == env!("CARGO_PKG_VERSION") => {
            report.ok("API", format!("{} answers; release {}", client.url(), health.release));
        }
        Ok(health) => report.warn(
            "API",
            format!(
                "{} answers; release {}, and this program is {}",
                client.url(),
                health.release,
                env!("CARGO_PKG_VERSION")
            ),
            "use the program of the server's release",
        ),
        Err(failure) => return report.fail("API", failure.line(), "start `galley api` or `galley dev`"),
    }
    if let Ok(ready) = client.ready().await {
        for (what, check) in [("API: database", &ready.postgres), ("API: queue", &ready.redis)] {
            match &check.detail {
                _ if check.ok => report.ok(what, "answers"),
                why => report.fail(
                    what,
                    why.as_deref().unwrap_or("does not answer"),
                    "check what the API server is configured with",
                ),
            }
        }
    }
    let queues = client.list_all(&["v1", "queues"]).await.and_then(|listed| listed.items::<views::Queue>());
    let queues = match queues {
        Ok(queues) => queues,
        Err(failure) if failure.exit == Exit::Unauthorized => {
            return report.fail(
                "token",
                failure.line(),
                "give --token or GALLEY_TOKEN; `galley token issue` makes one",
            );
        }
        Err(failure) => return report.fail("queues", failure.line(), "see the API server's log"),
    };
    report.ok("token", "is accepted");
    if queues.is_empty() {
        return report.warn("workers", "no agent type is registered", "start `galley worker`");
    }
    let idle: Vec<_> =
        queues.iter().filter(|queue| queue.workers == 0).map(|queue| queue.agent.as_str()).collect();
    if idle.is_empty() {
        report.ok("workers", format!("every one of {} agent types has a live worker", queues.len()));
    } else {
        let waiting: u64 =
            queues.iter().filter(|queue| queue.workers == 0).filter_map(|queue| queue.ready).sum();
        report.warn(
            "workers",
            format!("no live worker serves {} ({waiting} steps wait)", idle.join(", ")),
            format!("start `galley worker --agents {}`", idle.join(",")),
        );
    }
    for queue in queues.iter().filter(|queue| queue.paused) {
        report.warn(
            "queues",
            format!("{} is paused", queue.agent),
            format!("`galley queue resume {}` lets it go on", queue.agent),
        );
    }
}
