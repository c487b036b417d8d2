//! One case's world: a database, a queue prefix and a platform of its own, and
//! the clean fleet that takes over.

use std::fmt::Write as _;
use std::time::Instant;

use galley_chaos::history::{Account, Ask, Subject, Told};
use galley_chaos::workload::POST_MICROS;
use galley_core::automation::{AutomationConfig, Mode};
use galley_core::ids::{AgentType, WorkflowId, WorkflowKey, WorkspaceId};
use galley_core::publish::Capability;
use galley_core::run::WorkflowState;
use galley_engine::store::{ApprovalFilter, ApprovalRow, PostFilter, PostRow, SessionOpen};
use galley_engine::{Claimed, Engine, NewAccount, Session, Submit, SubmitContext, rebuild, run_duties};
use galley_preview::{PreviewNetwork, PreviewOptions, Price};
use galley_worker::Stop;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Row};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::fleet::{Place, registry, worker};
use crate::log::Log;
use crate::servers::{Database, PATIENCE, Servers, sure, unique_name, until};

/// Who sets a case up.
const ADMIN: &str = "admin";

/// One case's world.
pub(crate) struct Bed {
    pub(crate) place: Place,
    /// The test's own engine: it prepares, asks and looks.
    pub(crate) engine: Engine,
    pub(crate) database: Database,
    pub(crate) workspace: WorkspaceId,
    pub(crate) network: PreviewNetwork,
    /// What clients asked for.
    pub(crate) log: Log,
    /// The accounts on the platform.
    pub(crate) accounts: Vec<Account>,
    /// What must show up nowhere.
    pub(crate) secrets: Vec<String>,
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
}

impl Bed {
    pub(crate) async fn new(servers: &Servers) -> Self {
        let database = servers.database().await;
        let place = Place {
            database_url: database.url.clone(),
            redis_url: servers.redis_url.clone(),
            prefix: unique_name(),
        };
        let engine = place.engine(database.store.clone());
        let workspace = sure(async || engine.create_workspace("acme", 1, "test").await).await.id;
        let began = Instant::now();
        let now = sure(async || engine.policy(workspace).await).await.row.now.parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let network = PreviewNetwork::start(listener, PreviewOptions::default()).unwrap();
        Self {
            place,
            engine,
            database,
            workspace,
            network,
            log: Log::new(workspace, began, now),
            accounts: Vec::new(),
            secrets: Vec::new(),
            workflows: Vec::new(),
            texts: Vec::new(),
            audited: Vec::new(),
            people: true,
            worker: None,
            duties: None,
        }
    }

    /// An engine as in a process of its own, but for the connections.
    fn another_engine(&self) -> Engine {
        self.place.engine(self.database.store.clone())
    }

    /// One whose pushes reach nobody.
    pub(crate) fn unheard_engine(&self) -> Engine {
        let prefix = format!("{}_lost", self.place.prefix);
        Place { prefix, ..self.place.clone() }.engine(self.database.store.clone())
    }

    /// Fills the queues, so that nobody needs to rebuild them.
    pub(crate) async fn build_queues(&self) {
        sure(async || rebuild(&self.engine).await).await;
    }

    pub(crate) fn start_worker(&mut self) {
        if self.worker.is_some() {
            return;
        }
        let (engine, stop) = (self.another_engine(), Stop::default());
        let told = stop.clone();
        let task = tokio::spawn(async move {
            let ended = galley_worker::run(engine, registry(), worker("clean"), told.clone()).await;
            // Told to stop before Postgres had let it begin.
            assert!(ended.is_ok() || told.soft.is_cancelled(), "the clean worker ended: {ended:?}");
        });
        self.worker = Some((stop, task));
    }

    pub(crate) fn start_duties(&mut self) {
        if self.duties.is_some() {
            return;
        }
        let (engine, stop) = (self.another_engine(), CancellationToken::new());
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
        let key = unique_name();
        let context = SubmitContext {
            workspace: self.workspace,
            actor: "producer".into(),
            idempotency_key: key.clone(),
            traceparent: None,
        };
        let submit = definition(steps, input);
        let ask = submitting(key);
        let call = async || engine.submit(&context, &submit).await.map(|submitted| submitted.workflow);
        let workflow = self.log.ask("producer", &ask, call, |id| told(*id)).await.unwrap();
        let key = WorkflowKey { workspace: self.workspace, workflow };
        self.workflows.push((key, ends));
        key
    }

    /// An account per kind of platform, named by it.
    pub(crate) async fn add_accounts(&mut self) {
        self.network.set_price(Price { post_micros: POST_MICROS, link_micros: None }).unwrap();
        for (endpoint, capability) in [
            ("idempotent", Capability::Idempotent { window_s: 24 * 60 * 60 }),
            ("verifiable", Capability::Verifiable { settle_s: 5 }),
            ("blind", Capability::Blind),
        ] {
            let there = self.network.add_account(endpoint, endpoint).unwrap();
            let settings =
                json!({ "url": self.network.url(), "endpoint": endpoint, "postMicros": POST_MICROS });
            let new = json!({
                "name": endpoint, "platform": "preview", "settings": settings, "credential": there.token,
            });
            let new: NewAccount = serde_json::from_value(new).unwrap();
            let row = sure(async || self.engine.add_account(self.workspace, new.clone(), ADMIN).await).await;
            let (name, handle) = (endpoint.to_owned(), endpoint.to_owned());
            let workspace = self.workspace;
            self.accounts.push(Account { id: row.id, workspace, name, handle, capability });
            self.secrets.push(there.token);
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
        let ask = Ask::SetPolicy { config: serde_json::to_value(&config).unwrap() };
        let call = async || self.engine.set_policy(self.workspace, &config, None, ADMIN).await;
        self.log.ask(ADMIN, &ask, call, |_| Told::default()).await.unwrap();
    }

    /// A post for an account.
    pub(crate) async fn submit_post(&mut self, account: &str, text: &str) -> WorkflowKey {
        // A busy machine adds calls that came too late.
        let retry = json!({ "maxAttempts": 100, "backoffMs": 50, "maxBackoffMs": 200 });
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

    /// Claims this many steps by hand, and holds them.
    pub(crate) async fn claim(&self, session: &Session, agents: &[&str], steps: usize) -> Vec<Claimed> {
        let mut claimed = Vec::new();
        until("there is enough to claim", async || {
            for agent in agents {
                let agent = AgentType::new(agent).unwrap();
                let popped = sure(async || self.engine.pop(&agent, steps - claimed.len()).await).await;
                let tickets: Vec<_> =
                    popped.tickets.into_iter().map(|ticket| (agent.clone(), ticket)).collect();
                claimed.extend(sure(async || self.engine.claim(session, tickets.clone()).await).await);
                if claimed.len() == steps {
                    return true;
                }
            }
            false
        })
        .await;
        claimed
    }

    /// One number from a query.
    pub(crate) async fn count(&self, query: &str) -> i64 {
        let row = sqlx::query(AssertSqlSafe(query.to_owned())).fetch_one(&self.database.sql).await;
        row.unwrap().try_get(0).unwrap()
    }

    /// Runs statements.
    pub(crate) async fn execute(&self, statements: &str) {
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&self.database.sql).await.unwrap();
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

    /// Where everything stands, for whoever wants to know why a case failed.
    pub(crate) async fn story(&self) -> String {
        let mut story = String::new();
        for (key, wanted) in &self.workflows {
            let Ok(seen) = self.engine.history(*key).await else { continue };
            let view = &seen.workflow;
            let _ = write!(story, "\n  {}: {}, wanted {}:", key.workflow, view.state.word(), wanted.word());
            for (index, name, step) in view.steps() {
                let _ = write!(story, " {name} is {} (epoch {})", step.state.word(), step.epoch);
                if let Some(post) = seen.posts.get(&index) {
                    let _ = write!(story, ", its post {}", post.state);
                }
                story.push(';');
            }
            for attempt in &seen.attempts {
                let _ = write!(story, "\n    {attempt:?}");
            }
        }
        story
    }

    /// The end of the case: what it used is free for the next.
    pub(crate) async fn close(self, servers: &Servers) {
        self.empty_queue().await;
        servers.give_back(self.leave());
    }

    /// What the case used.
    pub(crate) fn leave(mut self) -> Database {
        self.abort();
        self.database.clone()
    }

    fn abort(&mut self) {
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

/// A submit, as a client's log has it.
pub(crate) fn submitting(key: String) -> Ask {
    Ask::Submit { key, shape: "crash".into(), body: 0 }
}

/// What a submit tells.
pub(crate) fn told(workflow: WorkflowId) -> Told {
    Told { workflow: Some(workflow), ..Told::default() }
}

/// A yes to what a question showed.
pub(crate) fn approving(question: &ApprovalRow) -> Ask {
    let about = match question.post {
        Some((post, _)) => Subject::Post(post),
        None => Subject::Task(format!("{}.{}", question.workflow, question.step_name)),
    };
    Ask::Approve { approval: question.id, about, hash: question.content_hash.clone() }
}
