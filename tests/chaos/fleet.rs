//! The processes of the fleet: real roles of Galley, each a child in a process
//! group of its own, each behind two proxies of its own, each started again
//! whenever it dies.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use galley_engine::EngineConfig;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::agents;
use crate::outside;
use crate::proxy::{Counts, Protocol, Proxy};
use crate::servers::Servers;

/// How long a session lives without a renewal in this fleet.
const SESSION_TTL: Duration = Duration::from_secs(2);
/// How long after its end a process is started again.
const REST: Duration = Duration::from_millis(100);
/// Connections to PostgreSQL per process.
const CONNECTIONS: u32 = 6;
/// Steps at once per worker.
const CONCURRENCY: usize = 8;

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Serves the REST API.
    Api,
    /// Runs the duties.
    Scheduler,
    /// Runs steps.
    Worker,
    /// Speaks for workers outside.
    Gateway,
    /// A worker in Python. Its proxies are before the gateways.
    Outside,
}

impl Role {
    /// Who it is to PostgreSQL, as in production.
    pub const fn login(self) -> &'static str {
        match self {
            Self::Api => "chaos_api",
            Self::Scheduler => "chaos_scheduler",
            Self::Worker => "chaos_worker",
            Self::Gateway => "chaos_gateway",
            Self::Outside => "nobody",
        }
    }

    /// The command that starts it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Scheduler => "scheduler",
            Self::Worker => "worker",
            Self::Gateway => "gateway",
            Self::Outside => "outside",
        }
    }
}

/// Runs this process as one of Galley's own commands, with the agents and the
/// times of the harness.
pub fn be_galley() -> ExitCode {
    // A killed harness takes its children along, stopped ones too.
    if std::env::var_os(agents::EXECUTIONS).is_some() {
        let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
    }
    galley_bin::main(galley_bin::Changes { agents: agents::register, engine: hurry })
}

/// The times of a production fleet, each as short as it can be without
/// changing the order of any two of them.
fn hurry(config: &mut EngineConfig) {
    config.claim_deadline = Duration::from_millis(1_500);
    config.overdue_grace = Duration::from_secs(2);
    config.look_every = Duration::from_secs(2);
    config.policy_memory = Duration::from_millis(300);
    config.publishing.window = Duration::from_millis(3_500);
    config.publishing.timeout = Duration::from_millis(2_000);
    // As in production: longer than window and timeout together.
    config.publishing.rest = Duration::from_millis(6_000);
}

/// What every process of the fleet is told.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The harness' folder: logs, calls, marks.
    pub folder: PathBuf,
    /// What tokens are signed with.
    pub jwt_secret: String,
    /// What credentials are sealed with.
    pub seal_key: String,
    /// The planted bug, if one is.
    pub planted: Option<String>,
}

impl Setup {
    /// Where every execution of an agent is written down.
    pub fn calls(&self) -> PathBuf {
        self.folder.join("calls.jsonl")
    }

    /// Where rescue paths are written down.
    pub fn marks(&self) -> PathBuf {
        self.folder.join("marks")
    }

    /// Where the logs are.
    pub fn logs(&self) -> PathBuf {
        self.folder.join("logs")
    }

    /// A command of Galley's.
    ///
    /// # Errors
    /// This program cannot be found.
    pub fn command(&self, database_url: &str, redis_url: &str) -> Result<Command> {
        let mut command = Command::new(std::env::current_exe().context("where is this program?")?);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("DATABASE_URL", database_url)
            .env("REDIS_URL", redis_url)
            .env("GALLEY_DATABASE_CONNECTIONS", CONNECTIONS.to_string())
            .env("GALLEY_SESSION_TTL_MS", SESSION_TTL.as_millis().to_string())
            .env("GALLEY_CONCURRENCY", CONCURRENCY.to_string())
            .env("GALLEY_METRICS_ADDR", "off")
            .env("GALLEY_LOG", std::env::var("GALLEY_LOG").unwrap_or_else(|_| "info".into()))
            .env("GALLEY_JWT_SECRET", &self.jwt_secret)
            .env("GALLEY_SECRET_KEY", &self.seal_key)
            // The platform is behind a proxy on this machine.
            .env("GALLEY_ALLOW_PRIVATE_TARGETS", "true")
            .env(agents::EXECUTIONS, self.calls())
            .env("GALLEY_SEEN_FILE", self.marks())
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        if let Some(bug) = &self.planted {
            command.env("GALLEY_PLANTED", bug);
        }
        Ok(command)
    }

    /// Runs a command to its end and returns what it said on stdout.
    ///
    /// # Errors
    /// It failed.
    pub async fn run(&self, servers: &Servers, arguments: &[&str]) -> Result<String> {
        let mut command = self.command(&servers.database_url, &servers.redis_url)?;
        let output = command.args(arguments).output().await?;
        let told = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "`galley {}` failed: {told}", arguments.join(" "));
        Ok(String::from_utf8(output.stdout)?)
    }
}

/// One process of the fleet, whichever incarnation of it lives.
#[derive(Debug)]
pub struct Member {
    /// What it is.
    pub role: Role,
    /// What it is called: `worker-2`.
    pub name: String,
    /// Before its PostgreSQL.
    pub database: Proxy,
    /// Before its Redis.
    pub queue: Proxy,
    /// Where it listens, if it is an API or a gateway.
    pub url: Option<String>,
    /// Its port, if it is a gateway.
    gateway: Option<u16>,
    pid: Mutex<Option<Pid>>,
    /// What its next incarnation is told to do at a crash point.
    plan: Mutex<Option<String>>,
    deaths: AtomicU64,
    spared: AtomicBool,
}

impl Member {
    /// Sends a signal to the process; false: there is none.
    pub fn signal(&self, signal: Signal) -> bool {
        // Held while signalling: whoever reaps it takes the id out first.
        let pid = self.pid.lock().unwrap_or_else(PoisonError::into_inner);
        pid.is_some_and(|pid| killpg(pid, signal).is_ok())
    }

    /// Has its next incarnation die or stop by itself: see
    /// [`galley_probe::CRASH_POINT`].
    pub fn plan(&self, plan: String) {
        *self.plan.lock().unwrap_or_else(PoisonError::into_inner) = Some(plan);
    }

    /// Its process, and whether that is stopped.
    pub fn stopped(&self) -> Option<(Pid, bool)> {
        let pid = (*self.pid.lock().unwrap_or_else(PoisonError::into_inner))?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // Behind the name, which is in parentheses and can hold anything.
        let state = stat.rsplit_once(')')?.1.trim_start().chars().next();
        Some((pid, state == Some('T')))
    }

    /// Has the other faults pass it by, or not any more.
    pub fn spare(&self, spared: bool) {
        self.spared.store(spared, Ordering::Relaxed);
    }

    /// Whether faults are to pass it by.
    pub fn is_spared(&self) -> bool {
        self.spared.load(Ordering::Relaxed)
    }

    /// How often it died.
    pub fn deaths(&self) -> u64 {
        self.deaths.load(Ordering::Relaxed)
    }

    fn set(&self, pid: Option<Pid>) {
        *self.pid.lock().unwrap_or_else(PoisonError::into_inner) = pid;
    }
}

/// All of them.
#[derive(Debug)]
pub struct Fleet {
    /// The processes.
    pub members: Vec<Arc<Member>>,
    keepers: Vec<JoinHandle<()>>,
    stop: CancellationToken,
}

impl Fleet {
    /// Starts so many of each.
    ///
    /// # Errors
    /// No ports, or a process that cannot be started.
    pub async fn start(setup: &Setup, servers: &Servers, sizes: &[(Role, usize)]) -> Result<Self> {
        std::fs::create_dir_all(setup.logs())?;
        let stop = CancellationToken::new();
        let (mut members, mut keepers) = (Vec::<Arc<Member>>::new(), Vec::new());
        for (role, count) in sizes {
            for index in 1..=*count {
                let serves = matches!(role, Role::Api | Role::Gateway);
                let port = if serves { Some(free_port()?) } else { None };
                let (database, queue) = if *role == Role::Outside {
                    // The gateways were started before it.
                    let gateways: Vec<u16> = members.iter().filter_map(|member| member.gateway).collect();
                    anyhow::ensure!(gateways.len() == 2, "a worker outside speaks with two gateways");
                    let before = async |port: u16| {
                        Proxy::before(([127, 0, 0, 1], port).into(), Protocol::Opaque).await
                    };
                    (before(gateways[0]).await?, before(gateways[1]).await?)
                } else {
                    let database = Proxy::before(servers.database(), Protocol::Postgres).await?;
                    (database, Proxy::before(servers.queue(), Protocol::Opaque).await?)
                };
                let member = Arc::new(Member {
                    role: *role,
                    name: format!("{}-{index}", role.word()),
                    database,
                    queue,
                    url: port.map(|port| format!("http://127.0.0.1:{port}")),
                    gateway: port.filter(|_| *role == Role::Gateway),
                    pid: Mutex::new(None),
                    plan: Mutex::new(None),
                    deaths: AtomicU64::new(0),
                    spared: AtomicBool::new(false),
                });
                let keeper = Keeper {
                    member: Arc::clone(&member),
                    setup: setup.clone(),
                    database_url: through(&servers.database_url, role.login(), member.database.port()),
                    port,
                    stop: stop.clone(),
                };
                keepers.push(tokio::spawn(keeper.keep()));
                members.push(member);
            }
        }
        Ok(Self { members, keepers, stop })
    }

    /// The processes of a role.
    pub fn of(&self, role: Role) -> Vec<&Arc<Member>> {
        self.members.iter().filter(|member| member.role == role).collect()
    }

    /// What all proxies did.
    pub fn counts(&self) -> Counts {
        let mut all = Counts::new();
        for member in &self.members {
            for (what, count) in member.database.counts().into_iter().chain(member.queue.counts()) {
                *all.entry(what).or_default() += count;
            }
        }
        all
    }

    /// Lets everything pass and everybody go on.
    pub fn heal(&self) {
        for member in &self.members {
            member.database.heal();
            member.queue.heal();
            member.signal(Signal::SIGCONT);
        }
    }

    /// Ends all processes for good: politely, then by force.
    pub async fn stop(self) {
        self.stop.cancel();
        for keeper in self.keepers {
            // A keeper never panics; there is nothing to do about it here.
            let _ = keeper.await;
        }
    }
}

/// Whoever keeps one member alive.
struct Keeper {
    member: Arc<Member>,
    setup: Setup,
    database_url: String,
    port: Option<u16>,
    stop: CancellationToken,
}

impl Keeper {
    async fn keep(self) {
        while !self.stop.is_cancelled() {
            let mut child = match self.spawn() {
                Ok(child) => child,
                Err(error) => {
                    tracing::error!(%error, member = self.member.name, "a process cannot be started");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
            };
            self.member.set(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw));
            tokio::select! {
                _ = child.wait() => {
                    self.member.set(None);
                    self.member.deaths.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(REST).await;
                }
                () = self.stop.cancelled() => self.end(&mut child).await,
            }
        }
    }

    async fn end(&self, child: &mut Child) {
        self.member.signal(Signal::SIGCONT);
        self.member.signal(Signal::SIGTERM);
        if tokio::time::timeout(Duration::from_secs(5), child.wait()).await.is_err() {
            self.member.signal(Signal::SIGKILL);
            // Killed: it ends.
            let _ = child.wait().await;
        }
        self.member.set(None);
    }

    fn spawn(&self) -> Result<Child> {
        let ports = [self.member.database.port(), self.member.queue.port()];
        let mut command = if self.member.role == Role::Outside {
            outside::command(&self.setup.folder, &self.setup.calls(), ports)
        } else {
            let redis_url = format!("redis://127.0.0.1:{}/", ports[1]);
            let mut command = self.setup.command(&self.database_url, &redis_url)?;
            command.arg(self.member.role.word());
            command
        };
        let log = self.setup.logs().join(format!("{}.log", self.member.name));
        let log = File::options().create(true).append(true).open(log)?;
        command
            .env("GALLEY_WORKER_NAME", &self.member.name)
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        if let Some(plan) = self.member.plan.lock().unwrap_or_else(PoisonError::into_inner).take() {
            command.env(galley_probe::CRASH_POINT, plan);
        }
        if let Some(port) = self.port {
            let setting =
                if self.member.role == Role::Gateway { "GALLEY_GATEWAY_ADDR" } else { "GALLEY_API_ADDR" };
            command.env(setting, format!("127.0.0.1:{port}"));
        }
        Ok(command.spawn()?)
    }
}

/// The database's URL for a login, through a proxy; without TLS, so that the
/// proxy can tell messages apart, and without a password, as everybody is
/// trusted here.
fn through(url: &str, login: &str, port: u16) -> String {
    let database = url.rsplit_once('/').map_or("galley", |(_, database)| database);
    format!("postgres://{login}@127.0.0.1:{port}/{database}?sslmode=disable")
}

/// A port that is free now and stays so: below the range the kernel gives to
/// outgoing connections.
fn free_port() -> Result<u16> {
    for _ in 0..200 {
        let port = rand::random_range(15_000..32_000);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    anyhow::bail!("no free port")
}

/// Reads the marks of rescue paths: how often each was walked.
pub fn marks(path: &Path) -> std::collections::BTreeMap<String, u64> {
    let mut counts = std::collections::BTreeMap::new();
    for name in std::fs::read_to_string(path).unwrap_or_default().lines() {
        *counts.entry(name.to_owned()).or_default() += 1;
    }
    counts
}
