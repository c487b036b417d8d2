//! A worker process: a session, one lane per agent type, one committer.
//!
//! ```text
//! Redis ─pop─▶ lane ─claim─▶ apalis worker ─▶ agent ─▶ committer ─▶ Postgres
//!               │ one per agent type                      │ one per process
//!               └── slots (gate) are held until ──────────┘
//! ```
//!
//! All I/O happens in tasks of our own; apalis runs the handlers. A lane that
//! ends unexpectedly is started again with back-off. This room has no SQL.

// The futures of a worker are nested deeper than the compiler looks by default.
#![recursion_limit = "256"]

mod apalis;
mod attempt;
mod checks;
mod committer;
mod desk;
mod gate;
mod lane;
mod process;
mod publish;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use galley_agents::Registry;
use galley_core::agent::AgentSpec;
use galley_core::ids::AgentType;
use galley_engine::queue::Wake;
use galley_engine::store::SessionOpen;
use galley_engine::{Backoff, Engine, EngineError, Recorded, Report, Session};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::attempt::{Finished, Runner, Running};
use crate::gate::Gate;
use crate::lane::Lane;
pub use crate::process::{allow_connections, small_pages};
pub use crate::publish::Adapters;
use crate::publish::Postman;

/// What a worker process is.
#[derive(Clone)]
pub struct WorkerOptions {
    /// Its name among workers.
    pub name: String,
    /// The machine it runs on.
    pub host: String,
    /// The agent types it serves; empty: all that are registered.
    pub agents: Vec<AgentType>,
    /// Steps it runs at once, all agent types together.
    pub concurrency: usize,
    /// The adapters of platforms: with them it serves `publisher`, too. The same
    /// that the engine asks.
    pub adapters: Option<Arc<Adapters>>,
    /// Called with every batch of reports once it is known what became of
    /// them.
    pub on_recorded: Option<OnRecorded>,
}

/// See [`WorkerOptions::on_recorded`]. Must be quick: the committer waits.
pub type OnRecorded = Arc<dyn Fn(&[(&Report, Recorded)]) + Send + Sync>;

impl std::fmt::Debug for WorkerOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, host, agents, concurrency, adapters, on_recorded: _ } = self;
        f.debug_struct("WorkerOptions")
            .field("name", name)
            .field("host", host)
            .field("agents", agents)
            .field("concurrency", concurrency)
            .field("adapters", adapters)
            .finish_non_exhaustive()
    }
}

/// How to stop a worker: first softly, then hard.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// Finish what runs, give back what was not started.
    pub soft: CancellationToken,
    /// Give back what runs, too.
    pub hard: CancellationToken,
}

/// Why a worker did not start.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// It was asked to serve an agent that is not registered.
    #[error("agent type `{0}` is not registered in this worker; it knows: {1}")]
    UnknownAgent(AgentType, String),
    /// There is nothing to serve.
    #[error("no agent types are registered in this worker")]
    NoAgents,
    /// Postgres did not let it register.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Runs a worker until stopped.
///
/// # Errors
/// It could not start; once it runs, it goes on through every outage.
pub async fn run(
    engine: Engine,
    registry: Registry,
    options: WorkerOptions,
    stop: Stop,
) -> Result<(), WorkerError> {
    let mut specs: Vec<AgentSpec> = registry.specs().cloned().collect();
    if options.adapters.is_some() {
        specs.push(galley_core::publish::spec().map_err(EngineError::from)?);
    }
    let agents = served(&specs, &options)?;
    register(&engine, &specs, &agents, &stop).await?;

    process::check(options.concurrency);
    let registry = Arc::new(registry);
    let gate = Gate::new(options.concurrency);
    let running = Arc::new(Running::default());
    let postman = options.adapters.clone().map(|adapters| Postman { engine: engine.clone(), adapters });
    let runner = Arc::new(Runner {
        engine: engine.clone(),
        registry: Arc::clone(&registry),
        postman,
        hard_stop: stop.hard.clone(),
    });
    let (finished, reports) = mpsc::unbounded_channel();
    let (publish, session) = watch::channel(None);
    let woken: HashMap<AgentType, Arc<Notify>> =
        agents.iter().map(|agent| (agent.clone(), Arc::default())).collect();

    let helpers_stop = CancellationToken::new();
    let open = SessionOpen {
        worker: options.name.clone(),
        host: options.host.clone(),
        pid: std::process::id(),
        release: env!("CARGO_PKG_VERSION").into(),
        agents: agents.iter().map(ToString::to_string).collect(),
        concurrency: u32::try_from(options.concurrency).unwrap_or(u32::MAX),
    };
    let keeper =
        tokio::spawn(keep_session(engine.clone(), open, publish, Arc::clone(&gate), helpers_stop.clone()));
    let listener =
        tokio::spawn(listen(engine.clone(), woken.clone(), Arc::clone(&running), helpers_stop.clone()));
    let committer = tokio::spawn(committer::commit(
        engine.clone(),
        reports,
        session.clone(),
        options.on_recorded.clone(),
    ));

    let student = tokio::spawn(write_lessons(engine.clone(), helpers_stop.clone()));
    let publishes = options.adapters.is_some()
        && agents.iter().any(|agent| agent.as_str() == galley_core::publish::PUBLISHER);
    let checker = publishes.then(|| tokio::spawn(checks::answer(engine.clone(), helpers_stop.clone())));

    let mut lanes = JoinSet::new();
    for agent in agents {
        let most = registry.get(&agent).and_then(|agent| agent.concurrency()).unwrap_or(options.concurrency);
        let lane = LaneSetup {
            engine: engine.clone(),
            gate: Arc::clone(&gate),
            most: Gate::new(most),
            running: Arc::clone(&running),
            runner: Arc::clone(&runner),
            woken: Arc::clone(&woken[&agent]),
            session: session.clone(),
            soft_stop: stop.soft.clone(),
            finished: finished.clone(),
            agent,
        };
        lanes.spawn(lane.keep_running());
    }
    drop(finished);
    while lanes.join_next().await.is_some() {}
    // Every sender is gone now: the committer writes the rest and ends.
    let _ = committer.await;
    tokio::time::timeout(Duration::from_secs(1), gate.empty()).await.ok();
    let last = session.borrow().clone();
    helpers_stop.cancel();
    if let Some(session) = last
        && let Err(error) = engine.close_session(&session, "drained").await
    {
        tracing::warn!(%error, "could not close session {}; the reaper does", session.id());
    }
    let _ = tokio::join!(keeper, listener, student);
    if let Some(checker) = checker {
        let _ = checker.await;
    }
    Ok(())
}

/// Writes down what attempts saw of models, a second's worth at a time.
async fn write_lessons(engine: Engine, stop: CancellationToken) {
    loop {
        let ends = tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => false,
            () = stop.cancelled() => true,
        };
        if let Err(error) = engine.write_lessons().await {
            tracing::debug!(%error, "what was seen of models is forgotten");
        }
        if ends {
            return;
        }
    }
}

fn served(specs: &[AgentSpec], options: &WorkerOptions) -> Result<Vec<AgentType>, WorkerError> {
    let known: Vec<AgentType> = specs.iter().map(|spec| spec.agent.clone()).collect();
    if known.is_empty() {
        return Err(WorkerError::NoAgents);
    }
    if options.agents.is_empty() {
        return Ok(known);
    }
    let mut agents = options.agents.clone();
    agents.sort();
    agents.dedup();
    if let Some(stranger) = agents.iter().find(|agent| !known.contains(agent)) {
        let known: Vec<_> = known.iter().map(AgentType::as_str).collect();
        return Err(WorkerError::UnknownAgent(stranger.clone(), known.join(", ")));
    }
    Ok(agents)
}

/// Tells the fleet what this worker offers; waits for Postgres.
async fn register(
    engine: &Engine,
    specs: &[AgentSpec],
    agents: &[AgentType],
    stop: &Stop,
) -> Result<(), WorkerError> {
    let specs: Vec<_> = specs.iter().filter(|spec| agents.contains(&spec.agent)).cloned().collect();
    let mut backoff = Backoff::patient();
    loop {
        match engine.store().register_agents(&specs).await.map_err(EngineError::from) {
            Ok(()) => return Ok(()),
            Err(error) if error.is_transient() && !stop.soft.is_cancelled() => {
                tracing::warn!(%error, "cannot register yet; waiting for Postgres");
                tokio::select! { () = backoff.wait() => {}, () = stop.soft.cancelled() => {} }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Keeps a session open: a lost one is followed by a new one.
async fn keep_session(
    engine: Engine,
    open: SessionOpen,
    publish: watch::Sender<Option<Session>>,
    gate: Arc<Gate>,
    stop: CancellationToken,
) {
    let mut backoff = Backoff::quick();
    loop {
        match engine.open_session(open.clone()).await {
            Ok(session) => {
                backoff = Backoff::quick();
                tracing::info!(session.id = %session.id(), worker = open.worker, "session {} is open", session.id());
                publish.send_replace(Some(session.clone()));
                watch_session(&session, &gate, &stop).await;
                if stop.is_cancelled() {
                    return;
                }
                publish.send_replace(None);
            }
            Err(error) => {
                tracing::warn!(%error, "could not open a session; trying again");
                tokio::select! { () = backoff.wait() => {}, () = stop.cancelled() => return }
            }
        }
    }
}

async fn watch_session(session: &Session, gate: &Gate, stop: &CancellationToken) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = tick.tick() => {
                let running = gate.used();
                session.set_running(u32::try_from(running).unwrap_or(u32::MAX));
                metrics::gauge!("galley_worker_running").set(running as f64);
            }
            () = session.lost().cancelled() => return,
            () = stop.cancelled() => return,
        }
    }
}

/// Passes wake-ups to lanes and cancellations to attempts.
async fn listen(
    engine: Engine,
    woken: HashMap<AgentType, Arc<Notify>>,
    running: Arc<Running>,
    stop: CancellationToken,
) {
    let agents: Vec<AgentType> = woken.keys().cloned().collect();
    let mut wakes = engine.queue().wakes(&agents);
    loop {
        let wake = tokio::select! {
            wake = wakes.next() => wake,
            () = stop.cancelled() => return,
        };
        match wake {
            Some(Wake::Work(agent)) => {
                if let Some(lane) = woken.get(&agent) {
                    lane.notify_one();
                }
            }
            Some(Wake::Resync) => woken.values().for_each(|lane| lane.notify_one()),
            Some(Wake::Cancelled(workflow)) => running.cancel(workflow),
            None => return,
        }
    }
}

/// What a lane is built from, again and again.
struct LaneSetup {
    engine: Engine,
    agent: AgentType,
    gate: Arc<Gate>,
    most: Arc<Gate>,
    running: Arc<Running>,
    runner: Arc<Runner>,
    woken: Arc<Notify>,
    session: watch::Receiver<Option<Session>>,
    soft_stop: CancellationToken,
    finished: mpsc::UnboundedSender<Finished>,
}

impl LaneSetup {
    async fn keep_running(self) {
        let mut backoff = Backoff::patient();
        loop {
            let (attempts, source) = mpsc::unbounded_channel();
            let lane = Lane {
                engine: self.engine.clone(),
                agent: self.agent.clone(),
                gate: Arc::clone(&self.gate),
                running: Arc::clone(&self.running),
                most: Arc::clone(&self.most),
                woken: Arc::clone(&self.woken),
                session: self.session.clone(),
                soft_stop: self.soft_stop.clone(),
                attempts,
            };
            let attempts = apalis::run_attempts(
                self.agent.as_str(),
                source,
                Arc::clone(&self.runner),
                Arc::clone(&self.running),
                self.finished.clone(),
            );
            // The fetcher drops its sender when it stops; apalis then drains.
            let fetch = tokio::spawn(lane.fetch());
            let ended = attempts.await;
            fetch.abort();
            if self.soft_stop.is_cancelled() {
                return;
            }
            tracing::error!(agent = %self.agent, ?ended, "lane {} ended by itself; starting it again", self.agent);
            backoff.wait().await;
        }
    }
}
