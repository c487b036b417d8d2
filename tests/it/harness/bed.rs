//! One test's world: a database, a queue prefix, an engine, workers, duties;
//! and the end of it, which accuses whoever left something behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use galley_core::ids::{AgentType, WorkflowKey, WorkspaceId};
use galley_core::run::WorkflowState;
use galley_engine::queue::{RedisConfig, RedisQueue};
use galley_engine::store::{Role, SessionOpen, Store};
use galley_engine::{
    Claimed, Engine, EngineConfig, EngineError, Keyring, PublishingTimes, Session, Submit, SubmitContext,
    Targets, WorkflowHistory, rebuild, run_duties,
};
use galley_publishers::Publishers;
use galley_worker::{Adapters, Stop, WorkerError, WorkerOptions};
use serde_json::{Value, json};
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Row};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::agents::Agents;
use super::network::Network;
use super::servers::{Servers, unique_name};

/// How long a condition may take to come true before the test fails. Far
/// longer than anything takes: only a hang reaches it.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a deployment waits for a connection unless told.
const USUAL_PATIENCE: Duration = galley_engine::store::PATIENCE;

/// What wraps the workspaces' data keys.
pub(crate) const KEY: &str = "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a";

/// Connections of one engine.
const CONNECTIONS: u32 = 6;

/// What differs from the usual bed.
#[derive(Clone, Default)]
pub(crate) struct Setup {
    /// Another Postgres than the shared one: a database URL with a schema.
    pub(crate) database_url: Option<String>,
    /// Another Redis than the shared one.
    pub(crate) redis_url: Option<String>,
    /// Sessions die after a second without renewal, and a step past its time
    /// is taken from a live one half a second later.
    pub(crate) nervous: bool,
    /// A platform that posts are published to.
    pub(crate) network: Option<Network>,
    /// The adapters of real platforms, beside `network`.
    pub(crate) publishers: Publishers,
    /// Another prefix of the Redis keys than one of its own.
    pub(crate) prefix: Option<String>,
}

/// One test's world.
pub(crate) struct Bed {
    pub(crate) engine: Engine,
    /// What an API process would have: Postgres holds it to the workspaces it
    /// names.
    pub(crate) api: Engine,
    pub(crate) workspace: WorkspaceId,
    pub(crate) database_url: String,
    pub(crate) redis_url: String,
    pub(crate) prefix: String,
    setup: Setup,
    /// For assertions: never the engine's own pool.
    sql: PgPool,
    /// The shared servers and this test's database on them.
    shared: Option<(Arc<Servers>, String)>,
    workers: Vec<Worker>,
    duties: Option<(CancellationToken, JoinHandle<()>)>,
    keys: AtomicU32,
    ended: bool,
}

/// A worker inside the test's process.
pub(crate) struct Worker {
    pub(crate) stop: Stop,
    task: JoinHandle<Result<(), WorkerError>>,
}

/// Polls until the condition holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn adapters(setup: &Setup) -> Option<Arc<Adapters>> {
    let mut publishers = setup.publishers.clone();
    if let Some(network) = setup.network.clone() {
        publishers.register(network).unwrap();
    }
    publishers.platforms().next()?;
    Some(Arc::new(Adapters(publishers)))
}

fn config(setup: &Setup) -> EngineConfig {
    let session_ttl = Duration::from_millis(if setup.nervous { 1_000 } else { 20_000 });
    let usual = EngineConfig::default();
    let patience = |usual| if setup.nervous { Duration::from_millis(500) } else { usual };
    EngineConfig {
        session_ttl,
        overdue_grace: patience(usual.overdue_grace),
        look_every: patience(usual.look_every),
        check_patience: patience(usual.check_patience),
        renew_every: Duration::from_millis(200),
        claim_deadline: Duration::from_millis(300),
        policy_memory: Duration::ZERO,
        publishing: PublishingTimes {
            window: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            rest: Duration::from_millis(300),
        },
        keyring: Some(Keyring::single(KEY).unwrap()),
        targets: Targets::ANY,
        platforms: adapters(setup).map(|adapters| adapters as _),
        ..usual
    }
}

impl Bed {
    /// The usual world on the shared servers.
    pub(crate) async fn new() -> Self {
        Self::with(Setup::default()).await
    }

    /// Another world.
    pub(crate) async fn with(setup: Setup) -> Self {
        let shared = match (&setup.database_url, &setup.redis_url) {
            (Some(_), Some(_)) => None,
            (database_url, _) => {
                let servers = Servers::shared().await;
                let database = match database_url {
                    Some(_) => String::new(),
                    None => servers.create_database().await,
                };
                Some((servers, database))
            }
        };
        let servers = shared.as_ref();
        let database_url = setup.database_url.clone();
        let database_url =
            database_url.or_else(|| servers.map(|(servers, database)| servers.url_of(database))).unwrap();
        let redis_url = setup.redis_url.clone();
        let redis_url = redis_url.or_else(|| servers.map(|(s, _)| s.redis_url().to_owned())).unwrap();
        let prefix = setup.prefix.clone().unwrap_or_else(unique_name);
        let patience = if setup.database_url.is_none() { PATIENCE } else { USUAL_PATIENCE };
        let engine_as = |role| {
            let store = Store::connect_as(role, &database_url, CONNECTIONS, patience).unwrap();
            engine(store, &redis_url, &prefix, config(&setup))
        };
        let (engine, api) = (engine_as(Role::Publisher), engine_as(Role::Api));
        let sql = PgPoolOptions::new()
            .max_connections(2)
            .acquire_timeout(PATIENCE)
            .connect_lazy(&database_url)
            .unwrap();
        let workspace = engine.create_workspace("acme", 1, "test").await.unwrap().id;
        Self {
            engine,
            api,
            workspace,
            database_url,
            redis_url,
            prefix,
            setup,
            sql,
            shared,
            workers: Vec::new(),
            duties: None,
            keys: AtomicU32::new(0),
            ended: false,
        }
    }

    /// What a process of another role would have.
    pub(crate) fn engine_as(&self, role: Role) -> Engine {
        let store = Store::connect_as(role, &self.database_url, CONNECTIONS, PATIENCE).unwrap();
        engine(store, &self.redis_url, &self.prefix, config(&self.setup))
    }

    /// What an API process without secret keys would have.
    pub(crate) fn engine_without_keys(&self) -> Engine {
        let store = Store::connect_as(Role::Api, &self.database_url, CONNECTIONS, PATIENCE).unwrap();
        engine(store, &self.redis_url, &self.prefix, EngineConfig { keyring: None, ..config(&self.setup) })
    }

    /// What an API process would have that lets nobody name private addresses.
    pub(crate) fn engine_of_the_internet(&self) -> Engine {
        let store = Store::connect_as(Role::Api, &self.database_url, CONNECTIONS, PATIENCE).unwrap();
        let config = EngineConfig { targets: Targets::default(), ..config(&self.setup) };
        engine(store, &self.redis_url, &self.prefix, config)
    }

    /// What another process would have: its own pool, its own memory.
    pub(crate) fn another_engine(&self) -> Engine {
        self.engine_on(&self.database_url, CONNECTIONS)
    }

    /// An engine that reaches this bed's database some other way.
    pub(crate) fn engine_on(&self, database_url: &str, connections: u32) -> Engine {
        // A busy machine is no fault of what is tested; servers that a test
        // takes away are.
        let stays = self.setup.database_url.is_none();
        let patience = if stays && database_url == self.database_url { PATIENCE } else { USUAL_PATIENCE };
        let store = Store::connect_as(Role::Publisher, database_url, connections, patience).unwrap();
        engine(store, &self.redis_url, &self.prefix, config(&self.setup))
    }

    /// Registers agents without a worker that serves them, and builds their
    /// queues.
    pub(crate) async fn register(&self, agents: &Agents) {
        self.engine.store().register_agents(&agents.specs()).await.unwrap();
        rebuild(&self.engine).await.unwrap();
    }

    /// Starts the scheduler's duties.
    pub(crate) fn start_duties(&mut self) {
        let stop = CancellationToken::new();
        let (engine, token) = (self.engine_as(Role::Engine), stop.clone());
        let task = tokio::spawn(async move { run_duties(&engine, &token).await });
        self.duties = Some((stop, task));
    }

    /// Starts a worker that the end of the bed drains.
    pub(crate) async fn start_worker(&mut self, agents: &Agents, concurrency: usize) {
        let worker = self.spawn_worker(agents, concurrency).await;
        self.workers.push(worker);
    }

    /// Starts a worker that serves no publish steps: the test plays the
    /// publisher itself.
    pub(crate) async fn start_worker_without_network(&mut self, agents: &Agents, concurrency: usize) {
        let network = self.setup.network.take();
        let worker = self.spawn_worker(agents, concurrency).await;
        self.setup.network = network;
        self.workers.push(worker);
    }

    /// Starts a worker with an engine of its own, as in a process of its own;
    /// returns when it has registered its agents.
    pub(crate) async fn spawn_worker(&self, agents: &Agents, concurrency: usize) -> Worker {
        self.spawn_worker_on(self.another_engine(), agents, concurrency).await
    }

    pub(crate) async fn spawn_worker_on(
        &self,
        engine: Engine,
        agents: &Agents,
        concurrency: usize,
    ) -> Worker {
        let stop = Stop::default();
        let options = WorkerOptions {
            name: unique_name(),
            host: "test".into(),
            agents: Vec::new(),
            concurrency,
            adapters: adapters(&self.setup),
            on_recorded: None,
        };
        let name = options.name.clone();
        let task = tokio::spawn(galley_worker::run(engine, agents.registry(), options, stop.clone()));
        until("the worker has a session", || async {
            let sessions = self.engine.store().unswept_sessions().await.unwrap();
            sessions.iter().any(|session| session.opened.worker == name)
        })
        .await;
        Worker { stop, task }
    }

    /// Everything a plain run needs: one worker with all agents, and duties.
    pub(crate) async fn serve(&mut self, agents: &Agents) {
        self.start_duties();
        self.start_worker(agents, 16).await;
    }

    /// A submit's context with a new idempotency key.
    pub(crate) fn context(&self) -> SubmitContext {
        let number = self.keys.fetch_add(1, Ordering::Relaxed);
        self.context_with(self.workspace, &format!("key-{number}"))
    }

    pub(crate) fn context_with(&self, workspace: WorkspaceId, key: &str) -> SubmitContext {
        SubmitContext { workspace, actor: "producer".into(), idempotency_key: key.into(), traceparent: None }
    }

    /// Submits a definition given as its list of steps.
    pub(crate) async fn submit(&self, steps: Value, input: Value) -> WorkflowKey {
        self.submit_in(self.workspace, steps, input).await
    }

    pub(crate) async fn submit_in(&self, workspace: WorkspaceId, steps: Value, input: Value) -> WorkflowKey {
        let mut context = self.context();
        context.workspace = workspace;
        let submitted = self.api.submit(&context, &request(steps, input)).await.unwrap();
        WorkflowKey { workspace, workflow: submitted.workflow }
    }

    /// Submits many one-step workflows at once.
    pub(crate) async fn submit_many(
        &self,
        workspace: WorkspaceId,
        agent: &str,
        count: usize,
    ) -> Vec<WorkflowKey> {
        use futures::StreamExt;
        let submit = request(json!([{ "name": "only", "agent": agent }]), Value::Null);
        let ready = self.api.ready(workspace, &submit).await.unwrap();
        let placed = futures::stream::iter(0..count).map(|_| async {
            let mut context = self.context();
            context.workspace = workspace;
            let submitted = self.api.submit_ready(&context, &submit, &ready).await.unwrap();
            WorkflowKey { workspace, workflow: submitted.workflow }
        });
        placed.buffer_unordered(512).collect().await
    }

    /// Waits until the workflow is over, and asserts how.
    pub(crate) async fn finish(&self, key: WorkflowKey, state: WorkflowState) -> WorkflowHistory {
        let begun = Instant::now();
        loop {
            let view = self.api.workflow(key).await.unwrap();
            if view.state == state {
                return self.api.history(key).await.unwrap();
            }
            if view.state.is_final() || begun.elapsed() > PATIENCE {
                let why = self.api.why(key, None).await.unwrap().sentence;
                panic!("workflow is {:?}, not {state:?}: {why}", view.state);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until no workflow is live.
    pub(crate) async fn finish_all(&self) {
        until("every workflow is over", || async {
            // A server that was crashed on purpose does not answer.
            self.engine.store().count_live_runs().await.is_ok_and(|live| live == 0)
        })
        .await;
    }

    /// Opens a session as a worker would.
    pub(crate) async fn session(&self) -> Session {
        let open = SessionOpen {
            worker: "by hand".into(),
            host: "test".into(),
            pid: 0,
            release: "test".into(),
            agents: vec!["echo".into()],
            concurrency: 1,
        };
        self.engine.open_session(open).await.unwrap()
    }

    /// Pops and claims by hand, until there is something.
    pub(crate) async fn claim_one(&self, session: &Session, agent: &str) -> Claimed {
        let agent = AgentType::new(agent).unwrap();
        let begun = Instant::now();
        loop {
            rebuild(&self.engine).await.unwrap();
            let popped = self.engine.pop(&agent, 1).await.unwrap();
            let tickets = popped.tickets.into_iter().map(|ticket| (agent.clone(), ticket)).collect();
            if let Some(claimed) = self.engine.claim(session, tickets).await.unwrap().pop() {
                return claimed;
            }
            assert!(begun.elapsed() < PATIENCE, "nothing to claim for {agent}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// One number from a query.
    pub(crate) async fn count(&self, query: &str) -> i64 {
        let row = sqlx::query(AssertSqlSafe(query.to_owned())).fetch_one(&self.sql).await;
        row.unwrap().try_get(0).unwrap()
    }

    /// One text from a query.
    pub(crate) async fn text(&self, query: &str) -> String {
        let row = sqlx::query(AssertSqlSafe(query.to_owned())).fetch_one(&self.sql).await;
        row.unwrap().try_get(0).unwrap()
    }

    /// One column of texts from a query.
    pub(crate) async fn texts(&self, query: &str) -> Vec<String> {
        let rows = sqlx::query(AssertSqlSafe(query.to_owned())).fetch_all(&self.sql).await.unwrap();
        rows.iter().map(|row| row.try_get(0).unwrap()).collect()
    }

    /// The workflows that are not over.
    pub(crate) async fn live(&self) -> Vec<WorkflowKey> {
        self.engine.store().page_runs(None, 1_000).await.unwrap().into_iter().map(|row| row.key).collect()
    }

    /// Runs statements.
    pub(crate) async fn execute(&self, statements: &str) {
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&self.sql).await.unwrap();
    }

    /// From here on the database's time runs on from that instant.
    pub(crate) async fn set_clock(&self, at: &str) {
        self.execute(&format!(
            "CREATE OR REPLACE FUNCTION galley_now() RETURNS timestamptz LANGUAGE sql STABLE
             AS $$SELECT timestamptz '{at}' + (now() - timestamptz '{}')$$",
            // Postgres' own time, as text: the function must not depend on a table.
            self.text("SELECT now()::text").await
        ))
        .await;
    }

    /// The audit's actions, oldest first.
    pub(crate) async fn audited(&self) -> Vec<String> {
        self.texts("SELECT action FROM audit ORDER BY id").await
    }

    /// Connections of the engine that sit inside a transaction.
    pub(crate) async fn idle_in_transaction(&self) -> i64 {
        self.count(
            "SELECT count(*) FROM pg_stat_activity
              WHERE datname = current_database() AND state LIKE 'idle in transaction%'",
        )
        .await
    }

    /// The end: drains workers, stops duties, and accuses.
    pub(crate) async fn end(mut self) {
        self.ended = true;
        for worker in self.workers.drain(..) {
            worker.drain().await;
        }
        if let Some((stop, task)) = self.duties.take() {
            stop.cancel();
            let ended = tokio::time::timeout(PATIENCE, task).await;
            ended.expect("the duties did not stop").expect("a duty panicked");
        }
        let running = self.count("SELECT coalesce(sum(running), 0)::int8 FROM runs").await;
        assert_eq!(running, 0, "steps are still marked running");
        let broken =
            self.count("SELECT count(*) FROM finished_runs f JOIN runs r USING (workspace_id, id)").await;
        assert_eq!(broken, 0, "workflows are live and finished at once");
        let orphans = self
            .count(
                "SELECT count(*) FROM timers t LEFT JOIN runs r
                     ON r.workspace_id = t.workspace_id AND r.id = t.workflow_id WHERE r.id IS NULL",
            )
            .await;
        assert_eq!(orphans, 0, "timers of workflows that are over");
        until("nothing is idle in a transaction", || async { self.idle_in_transaction().await == 0 }).await;
        self.engine.store().close().await;
        self.api.store().close().await;
        self.sql.close().await;
        if let Some((servers, database)) = self.shared.take()
            && !database.is_empty()
        {
            servers.drop_database(&database).await;
        }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if !self.ended && !std::thread::panicking() {
            panic!("a test must end its bed: `bed.end().await`");
        }
    }
}

impl Worker {
    /// Stops it softly and waits; it must end well.
    pub(crate) async fn drain(self) {
        self.stop.soft.cancel();
        self.ended().await;
    }

    /// Waits until it ended well.
    pub(crate) async fn ended(self) {
        let ended = tokio::time::timeout(PATIENCE, self.task).await;
        ended.expect("a worker did not stop").expect("a worker panicked").expect("a worker failed");
    }
}

/// A submit of a definition given as its list of steps.
pub(crate) fn request(steps: Value, input: Value) -> Submit {
    let definition = json!({ "name": "test", "steps": steps });
    serde_json::from_value(json!({ "definition": definition, "input": input })).unwrap()
}

fn engine(store: Store, redis_url: &str, prefix: &str, config: EngineConfig) -> Engine {
    let redis = RedisConfig::new(redis_url).with_prefix(prefix);
    let queue = RedisQueue::new(redis).unwrap();
    Engine::new(store, Arc::new(queue), config)
}

/// The problems of a refused request, as `place: problem` lines.
pub(crate) fn problems(error: &EngineError) -> Vec<String> {
    match error {
        EngineError::Invalid(problems) => problems.iter().map(ToString::to_string).collect(),
        other => panic!("not refused as invalid: {other}"),
    }
}
