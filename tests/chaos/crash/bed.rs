//! One case's world: a database, a queue prefix and a platform of its own, and
//! the clean fleet that takes over.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use galley_core::automation::{AutomationConfig, Mode};
use galley_core::ids::{AgentType, WorkflowKey, WorkspaceId};
use galley_core::run::WorkflowState;
use galley_engine::store::{ApprovalFilter, ApprovalRow, PostFilter, PostRow, SessionOpen, Store};
use galley_engine::{
    Claimed, Engine, EngineError, NewAccount, Session, Submit, SubmitContext, rebuild, run_duties,
};
use galley_preview::{PreviewNetwork, PreviewOptions};
use galley_servers::{PrivatePostgres, PrivateRedis, Speed};
use galley_worker::Stop;
use serde_json::{Value, json};
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::fleet::{Place, registry, specs, worker};

/// Only a hang reaches it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Makes names unique in this process.
static COUNTER: AtomicU32 = AtomicU32::new(0);

fn unique_name() -> String {
    format!("crash_{}_{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

/// Polls until the condition holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Asks until Postgres and Redis answer: a machine that runs six fleets at once
/// may be too busy to connect in time.
pub(crate) async fn sure<T>(mut call: impl AsyncFnMut() -> Result<T, EngineError>) -> T {
    let begun = Instant::now();
    loop {
        match call().await {
            Err(error) if error.is_transient() && begun.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            done => return done.unwrap(),
        }
    }
}

/// The Postgres and the Redis that all cases share.
pub(crate) struct Servers {
    database_url: String,
    redis_url: String,
    /// A migrated database to copy.
    template: String,
    copying: tokio::sync::Mutex<()>,
    _private: Option<(PrivatePostgres, PrivateRedis)>,
}

impl Servers {
    /// Those that `bin/test` started, or private ones.
    pub(crate) async fn start() -> Self {
        let given = |name: &str| std::env::var(name).ok().filter(|url| !url.is_empty());
        let (database_url, redis_url, private) =
            match (given("GALLEY_TEST_DATABASE_URL"), given("GALLEY_TEST_REDIS_URL")) {
                (Some(database_url), Some(redis_url)) => (database_url, redis_url, None),
                _ => {
                    let postgres = PrivatePostgres::start_temporary(Speed::Throwaway).await.unwrap();
                    let redis = PrivateRedis::start_temporary().await.unwrap();
                    (postgres.url(), redis.url(), Some((postgres, redis)))
                }
            };
        let template = format!("{}_template", unique_name());
        let copying = tokio::sync::Mutex::default();
        let servers = Self { database_url, redis_url, template, copying, _private: private };
        servers.admin(&format!("CREATE DATABASE {}", servers.template)).await;
        let store = Store::connect(&servers.url_of(&servers.template), 1).unwrap();
        store.migrate().await.unwrap();
        store.close().await;
        servers
    }

    fn url_of(&self, database: &str) -> String {
        let (server, _) = self.database_url.rsplit_once('/').unwrap();
        format!("{server}/{database}")
    }

    async fn admin(&self, statement: &str) {
        let mut connection = PgConnection::connect(&self.database_url).await.unwrap();
        // A name made above: nothing foreign is pasted in.
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    /// Leaves shared servers as they were.
    pub(crate) async fn stop(&self) {
        self.admin(&format!("DROP DATABASE {} WITH (FORCE)", self.template)).await;
    }
}

/// One case's world.
pub(crate) struct Bed {
    pub(crate) place: Place,
    /// The test's own engine: it prepares, asks and looks.
    pub(crate) engine: Engine,
    pub(crate) sql: PgPool,
    pub(crate) workspace: WorkspaceId,
    pub(crate) network: PreviewNetwork,
    /// How each workflow has to end.
    pub(crate) workflows: Vec<(WorkflowKey, WorkflowState)>,
    /// What has to be on the platform, once each.
    pub(crate) texts: Vec<String>,
    /// How often the audit has to tell of what.
    pub(crate) audited: Vec<(&'static str, i64)>,
    /// Whether people answer questions while the case settles.
    pub(crate) people: bool,
    worker: Option<(Stop, JoinHandle<()>)>,
    duties: Option<(CancellationToken, JoinHandle<()>)>,
    database: String,
}

impl Bed {
    pub(crate) async fn new(servers: &Servers) -> Self {
        let (database, prefix) = (unique_name(), unique_name());
        // Copying is all disk and locks: one at a time is as fast.
        let turn = servers.copying.lock().await;
        servers.admin(&format!("CREATE DATABASE {database} TEMPLATE {}", servers.template)).await;
        drop(turn);
        let (database_url, redis_url) = (servers.url_of(&database), servers.redis_url.clone());
        let place = Place { database_url, redis_url, prefix };
        let engine = place.engine(4);
        let sql = PgPoolOptions::new()
            .max_connections(2)
            .acquire_timeout(PATIENCE)
            .connect_lazy(&place.database_url)
            .unwrap();
        sure(async || Ok(engine.store().register_agents(&specs()).await?)).await;
        let workspace = sure(async || engine.create_workspace("acme", 1, "test").await).await.id;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let network = PreviewNetwork::start(listener, PreviewOptions::default()).unwrap();
        Self {
            place,
            engine,
            sql,
            workspace,
            network,
            workflows: Vec::new(),
            texts: Vec::new(),
            audited: Vec::new(),
            people: true,
            worker: None,
            duties: None,
            database,
        }
    }

    /// Fills the queues, so that nobody needs to rebuild them.
    pub(crate) async fn build_queues(&self) {
        sure(async || rebuild(&self.engine).await).await;
    }

    pub(crate) fn start_worker(&mut self) {
        if self.worker.is_some() {
            return;
        }
        let (engine, stop) = (self.place.engine(5), Stop::default());
        let told = stop.clone();
        let task = tokio::spawn(async move {
            galley_worker::run(engine, registry(), worker("clean"), told).await.unwrap();
        });
        self.worker = Some((stop, task));
    }

    pub(crate) fn start_duties(&mut self) {
        if self.duties.is_some() {
            return;
        }
        let (engine, stop) = (self.place.engine(5), CancellationToken::new());
        let told = stop.clone();
        let task = tokio::spawn(async move { run_duties(&engine, &told).await });
        self.duties = Some((stop, task));
    }

    pub(crate) async fn stop_worker(&mut self) {
        if let Some((stop, task)) = self.worker.take() {
            stop.soft.cancel();
            tokio::time::timeout(PATIENCE, task).await.expect("the worker does not stop").unwrap();
        }
    }

    pub(crate) async fn stop_duties(&mut self) {
        if let Some((stop, task)) = self.duties.take() {
            stop.cancel();
            tokio::time::timeout(PATIENCE, task).await.expect("the duties do not stop").unwrap();
        }
    }

    // -- what scenes are made of

    /// Accepts a workflow, expected to end like that.
    pub(crate) async fn submit(&mut self, steps: Value, input: Value, ends: WorkflowState) -> WorkflowKey {
        let engine = self.engine.clone();
        self.submit_by(&engine, steps, input, ends).await
    }

    pub(crate) async fn submit_by(
        &mut self,
        engine: &Engine,
        steps: Value,
        input: Value,
        ends: WorkflowState,
    ) -> WorkflowKey {
        let context = SubmitContext {
            workspace: self.workspace,
            actor: "producer".into(),
            idempotency_key: unique_name(),
            traceparent: None,
        };
        let submit = definition(steps, input);
        let submitted = sure(async || engine.submit(&context, &submit).await).await;
        let key = WorkflowKey { workspace: self.workspace, workflow: submitted.workflow };
        self.workflows.push((key, ends));
        key
    }

    /// An account per kind of platform, named by it.
    pub(crate) async fn add_accounts(&self) {
        for endpoint in ["idempotent", "verifiable", "blind"] {
            let there = self.network.add_account(endpoint, endpoint).unwrap();
            let settings = json!({ "url": self.network.url(), "endpoint": endpoint });
            let new = json!({
                "name": endpoint, "platform": "preview", "settings": settings, "credential": there.token,
            });
            let new: NewAccount = serde_json::from_value(new).unwrap();
            sure(async || self.engine.add_account(self.workspace, new.clone(), "admin").await).await;
        }
    }

    /// Posts need an approval, or go out by themselves; there are limits, so
    /// that every post gets a slot and a place.
    pub(crate) async fn set_policy(&self, approval: bool) {
        self.change_policy(|config| {
            config.mode = Mode::FullAutonomous;
            config.content_approval_required = approval;
            config.max_daily_posts = Some(50);
        })
        .await;
    }

    pub(crate) async fn change_policy(&self, change: impl FnOnce(&mut AutomationConfig)) {
        let mut config = sure(async || self.engine.policy(self.workspace).await).await.config;
        change(&mut config);
        sure(async || self.engine.set_policy(self.workspace, &config, None, "admin").await).await;
    }

    /// A post for an account.
    pub(crate) async fn submit_post(&mut self, account: &str, text: &str) -> WorkflowKey {
        let retry = json!({ "backoffMs": 50, "maxBackoffMs": 200 });
        let steps = json!([
            { "name": "write", "agent": "writer" },
            { "name": "publish", "agent": "publisher", "input": { "account": account }, "retry": retry },
        ]);
        self.submit(steps, json!({ "text": text }), WorkflowState::Succeeded).await
    }

    pub(crate) async fn posts(&self) -> Vec<PostRow> {
        let all = PostFilter::default();
        sure(async || Ok(self.engine.store().list_posts(self.workspace, &all, None, 100).await?)).await
    }

    pub(crate) async fn questions(&self) -> Vec<ApprovalRow> {
        let open = ApprovalFilter { status: Some("pending".into()), ..ApprovalFilter::default() };
        sure(async || Ok(self.engine.store().list_approvals(self.workspace, &open, None, 100).await?)).await
    }

    /// Waits until this many questions are open.
    pub(crate) async fn asked(&self, count: usize) -> Vec<ApprovalRow> {
        until("people are asked", async || self.questions().await.len() == count).await;
        self.questions().await
    }

    /// A session that lives until it is dropped.
    pub(crate) async fn session(&self) -> Session {
        let open = SessionOpen {
            worker: "by hand".into(),
            host: "test".into(),
            pid: 0,
            release: "test".into(),
            agents: vec!["echo".into()],
            concurrency: 1,
        };
        sure(async || self.engine.open_session(open.clone()).await).await
    }

    /// Claims one step by hand.
    pub(crate) async fn claim(&self, session: &Session, agent: &str) -> Claimed {
        let agent = AgentType::new(agent).unwrap();
        let mut claimed = None;
        until("there is something to claim", async || {
            let popped = sure(async || self.engine.pop(&agent, 1).await).await;
            let tickets: Vec<_> = popped.tickets.into_iter().map(|ticket| (agent.clone(), ticket)).collect();
            claimed = sure(async || self.engine.claim(session, tickets.clone()).await).await.pop();
            claimed.is_some()
        })
        .await;
        claimed.unwrap()
    }

    /// One number from a query.
    pub(crate) async fn count(&self, query: &str) -> i64 {
        let row = sqlx::query(AssertSqlSafe(query.to_owned())).fetch_one(&self.sql).await;
        row.unwrap().try_get(0).unwrap()
    }

    /// Runs statements.
    pub(crate) async fn execute(&self, statements: &str) {
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&self.sql).await.unwrap();
    }

    /// The queue of this case loses everything.
    pub(crate) async fn empty_queue(&self) {
        let address = self.place.redis_url.trim_start_matches("redis://").trim_end_matches('/');
        let mut redis = TcpStream::connect(address).await.unwrap();
        let script = "for _, k in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('DEL', k) end return 1";
        let command = format!("EVAL \"{script}\" 0 {}*\r\n", self.place.prefix);
        redis.write_all(command.as_bytes()).await.unwrap();
        let mut answer = [0; 64];
        let length = redis.read(&mut answer).await.unwrap();
        assert_eq!(&answer[..length], b":1\r\n");
    }

    /// Removes what the case has on the servers.
    pub(crate) async fn close(&self, servers: &Servers) {
        self.empty_queue().await;
        self.engine.store().close().await;
        self.sql.close().await;
        servers.admin(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.database)).await;
    }
}

/// A case that failed must not go on while others run.
impl Drop for Bed {
    fn drop(&mut self) {
        if let Some((stop, task)) = self.worker.take() {
            stop.hard.cancel();
            task.abort();
        }
        if let Some((stop, task)) = self.duties.take() {
            stop.cancel();
            task.abort();
        }
    }
}

/// A submit of a definition given as its list of steps.
pub(crate) fn definition(steps: Value, input: Value) -> Submit {
    let definition = json!({ "name": "test", "steps": steps });
    serde_json::from_value(json!({ "definition": definition, "input": input })).unwrap()
}
