//! What the bench runs on: servers, worker processes, the scheduler's duties.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use galley_agents::{Agent as _, Registry};
use galley_core::ids::WorkspaceId;
use galley_engine::queue::{RedisConfig, RedisQueue};
use galley_engine::store::{PATIENCE, Role, Store};
use galley_engine::{Engine, EngineConfig, Recorded};
use galley_servers::{PrivatePostgres, PrivateRedis, Speed};
use galley_worker::{Stop, WorkerOptions};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::agent::{self, IDLE, NOOP, Noop, STUCK, Stuck};
use crate::args::{BenchArgs, BenchWorkerArgs};
use crate::ledger::{Entry, Ledger};
use crate::{calls, usage};

/// Connections of the bench's own engine: clients and scheduler.
const CONNECTIONS: u32 = 8;
/// Connections of one worker process.
const WORKER_CONNECTIONS: u32 = 6;

/// Everything a scenario runs on. Ends its processes when dropped.
pub(crate) struct Fleet {
    /// The scheduler's, which sees everything.
    pub(crate) engine: Engine,
    /// What an API would have: submits go through it, under row-level security.
    pub(crate) api: Engine,
    /// The owner of the tables, for the floor.
    pub(crate) owner: Store,
    pub(crate) workspace: WorkspaceId,
    pub(crate) postgres: Option<PrivatePostgres>,
    pub(crate) redis: Option<PrivateRedis>,
    database_url: String,
    redis_url: String,
    folder: tempfile::TempDir,
    workers: Vec<Child>,
    started: usize,
    args: BenchArgs,
    provider: Option<(String, bool)>,
    stop: CancellationToken,
    duties: Option<JoinHandle<()>>,
}

impl Fleet {
    /// Servers, schema, workspace, scheduler duties; no workers yet.
    pub(crate) async fn start(args: &BenchArgs, provider: Option<(String, bool)>) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("galley-bench").tempdir()?;
        std::fs::create_dir(folder.path().join("ledger"))?;
        std::fs::create_dir(folder.path().join("marks"))?;
        let (postgres, database_url) = match &args.database_url {
            Some(url) => (None, url.clone()),
            None => {
                let server = PrivatePostgres::start_temporary(Speed::Durable).await?;
                let url = server.url();
                (Some(server), url)
            }
        };
        let (redis, redis_url) = match &args.redis_url {
            Some(url) => (None, url.clone()),
            None => {
                let server = PrivateRedis::start_temporary().await?;
                let url = server.url();
                (Some(server), url)
            }
        };
        let owner = Store::connect(&database_url, 1)?;
        owner.migrate().await?;
        let store = Store::connect_as(Role::Engine, &database_url, CONNECTIONS, PATIENCE)?;
        let mut specs = vec![agent::spec(NOOP)?, agent::spec(IDLE)?, agent::spec(STUCK)?];
        if let Some((provider, http1)) = &provider {
            specs.push(calls::agent(provider, *http1)?.spec().clone());
        }
        store.register_agents(&specs).await?;
        let queue = Arc::new(RedisQueue::new(RedisConfig::new(&redis_url))?);
        let engine = Engine::new(store, Arc::clone(&queue) as _, EngineConfig::default());
        let store = Store::connect_as(Role::Api, &database_url, CONNECTIONS, PATIENCE)?;
        let api = Engine::new(store, queue, EngineConfig::default());
        let workspace =
            engine.create_workspace(&format!("bench-{}", std::process::id()), 1, "bench").await?.id;
        galley_engine::rebuild(&engine).await?;
        let stop = CancellationToken::new();
        let duties = tokio::spawn({
            let (engine, stop) = (engine.clone(), stop.clone());
            async move { galley_engine::run_duties(&engine, &stop).await }
        });
        Ok(Self {
            engine,
            api,
            owner,
            workspace,
            postgres,
            redis,
            database_url,
            redis_url,
            folder,
            workers: Vec::new(),
            started: 0,
            args: args.clone(),
            provider,
            stop,
            duties: Some(duties),
        })
    }

    pub(crate) fn redis_url(&self) -> &str {
        &self.redis_url
    }

    pub(crate) fn ledger_folder(&self) -> PathBuf {
        self.folder.path().join("ledger")
    }

    /// Starts the asked number of worker processes and waits until each has a
    /// session.
    pub(crate) async fn start_workers(&mut self) -> anyhow::Result<()> {
        for _ in 0..self.args.workers {
            let worker = self.spawn_worker()?;
            self.workers.push(worker);
        }
        loop {
            let open = self.engine.store().list_sessions().await?;
            if open.iter().filter(|session| session.closed_at.is_none()).count() >= self.args.workers {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn spawn_worker(&mut self) -> anyhow::Result<Child> {
        self.started += 1;
        let ledger = self.ledger_folder().join(format!("worker-{}", self.started));
        // Also right when the file was replaced since this process started.
        Command::new("/proc/self/exe")
            .arg("bench-worker")
            .args(["--concurrency", &self.args.concurrency.to_string()])
            .args(["--payload", &self.args.payload.to_string()])
            .arg("--ledger")
            .arg(ledger)
            .arg("--marks")
            .arg(self.folder.path().join("marks"))
            .args(self.provider.iter().flat_map(|(provider, _)| ["--provider", provider]))
            .args(self.provider.iter().filter(|(_, http1)| *http1).map(|_| "--provider-http1"))
            .env("DATABASE_URL", &self.database_url)
            .env("REDIS_URL", &self.redis_url)
            .env("GALLEY_LOG", std::env::var("GALLEY_LOG").unwrap_or_else(|_| "warn".into()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(if verbose() { Stdio::inherit() } else { Stdio::null() })
            .kill_on_drop(true)
            .spawn()
            .context("cannot start a worker process")
    }

    /// Kills one worker process without warning and starts another.
    pub(crate) async fn kill_one(&mut self) -> anyhow::Result<()> {
        if self.workers.is_empty() {
            return Ok(());
        }
        let mut victim = self.workers.remove(0);
        victim.kill().await?;
        let worker = self.spawn_worker()?;
        self.workers.push(worker);
        Ok(())
    }

    /// Empties Redis.
    pub(crate) async fn flush(&self) -> anyhow::Result<()> {
        galley_engine::queue::flush_all(&self.redis_url).await?;
        Ok(())
    }

    /// CPU seconds so far: this process, its children, the servers.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let servers = [
            self.postgres.as_ref().and_then(PrivatePostgres::pid),
            self.redis.as_ref().and_then(PrivateRedis::pid),
        ];
        // Servers and workers are children of this process, or of a helper
        // that is.
        let own = usage::cpu_seconds(std::process::id());
        let apart: f64 = servers
            .into_iter()
            .flatten()
            .filter(|pid| !usage::is_descendant(*pid, std::process::id()))
            .map(usage::cpu_seconds)
            .sum();
        own + apart
    }

    /// Resident memory of the largest worker process, MB.
    pub(crate) fn worker_rss_mb(&self) -> f64 {
        self.workers.iter().filter_map(Child::id).map(usage::rss_mb).fold(0.0, f64::max)
    }

    /// The most resident memory a worker process ever had, MB.
    pub(crate) fn worker_peak_mb(&self) -> f64 {
        self.workers.iter().filter_map(Child::id).map(usage::peak_mb).fold(0.0, f64::max)
    }

    /// Stops workers softly, then the duties, then the servers.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        for worker in &mut self.workers {
            if let Some(pid) = worker.id() {
                let pid = nix::unistd::Pid::from_raw(i32::try_from(pid)?);
                nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).ok();
            }
        }
        for mut worker in self.workers.drain(..) {
            if tokio::time::timeout(Duration::from_secs(10), worker.wait()).await.is_err() {
                worker.kill().await.ok();
            }
        }
        self.stop.cancel();
        if let Some(duties) = self.duties.take() {
            duties.await.ok();
        }
        for store in [self.engine.store(), self.api.store(), &self.owner] {
            store.close().await;
        }
        if let Some(mut server) = self.postgres.take() {
            server.stop().await;
        }
        if let Some(mut server) = self.redis.take() {
            server.stop().await;
        }
        Ok(())
    }
}

/// Worker processes are silent unless somebody asked for their log.
fn verbose() -> bool {
    std::env::var_os("GALLEY_LOG").is_some()
}

/// The body of a worker process: a real worker that serves the benched agent.
///
/// # Errors
/// It could not start.
pub async fn run_worker(args: BenchWorkerArgs, stop: Stop) -> anyhow::Result<()> {
    let ledger = Arc::new(Ledger::open(&args.ledger)?);
    let store = Store::connect_as(Role::Engine, &args.database_url, WORKER_CONNECTIONS, PATIENCE)?;
    let queue = Arc::new(RedisQueue::new(RedisConfig::new(&args.redis_url))?);
    let engine = Engine::new(store, queue, EngineConfig::default());
    let mut registry = Registry::new();
    registry.register(Noop::new(args.payload, Arc::clone(&ledger))?)?;
    registry.register(Stuck::new(args.marks)?)?;
    if let Some(provider) = &args.provider {
        registry.register(calls::agent(provider, args.provider_http1)?)?;
    }
    let options = WorkerOptions {
        name: format!("bench-{}", std::process::id()),
        host: "localhost".into(),
        agents: Vec::new(),
        concurrency: args.concurrency,
        adapters: None,
        on_recorded: Some(Arc::new(move |reports| {
            let recorded = reports.iter().filter(|(_, recorded)| *recorded == Recorded::Yes);
            ledger.write(
                recorded.map(|(report, _)| (Entry::Recorded, report.ticket.workflow, report.ticket.step)),
            );
        })),
    };
    galley_worker::run(engine, registry, options, stop).await?;
    Ok(())
}
