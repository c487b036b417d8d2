//! The process that dies: this program again, as a worker, a scheduler or a
//! client; and the test's hold on it.

use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Instant;

use galley_core::ids::{ApprovalId, PostId, WorkflowId, WorkflowKey, WorkspaceId};
use galley_core::publish::PostContent;
use galley_engine::{Engine, EngineError, Repair, Submit, SubmitContext, run_duties};
use galley_probe::{CRASH_POINT, Point};
use galley_worker::Stop;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::os::unix::process::ExitStatusExt;
use tokio::process::{Child as Process, Command};
use tokio::signal::unix::{SignalKind, signal};

use crate::Case;
use crate::fleet::{Place, registry, worker};
use crate::servers::{PATIENCE, sure, until};

/// What a child is told, as JSON.
const ROLE: &str = "GALLEY_CRASH_CHILD";

/// Connections of a child.
const CONNECTIONS: u32 = 3;

/// Who asks for requests.
pub(crate) const CLIENT: &str = "client";

/// How it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Kill,
    Stop,
}

impl How {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Stop => "stop",
        }
    }
}

/// What a child is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Role {
    pub(crate) place: Place,
    pub(crate) work: Work,
}

/// What it does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Work {
    /// Runs steps until told to end.
    Worker { name: String },
    /// Does the scheduler's duties until told to end.
    Scheduler,
    /// Asks for these, one after another.
    Client { workspace: WorkspaceId, requests: Vec<Request> },
}

/// What a client asks for. Asking again is harmless.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    Submit { key: String, submit: Box<Submit> },
    Approve(ApprovalId),
    Edit(PostId, String),
    Cancel(WorkflowId),
    Replay(WorkflowId, String),
    Limit(u32),
}

impl Request {
    /// Asks; a submit answers with its workflow.
    ///
    /// # Errors
    /// What the engine says.
    pub(crate) async fn ask(
        &self,
        engine: &Engine,
        workspace: WorkspaceId,
    ) -> Result<Option<WorkflowId>, EngineError> {
        let actor = CLIENT;
        let key = |workflow| WorkflowKey { workspace, workflow };
        match self {
            Self::Submit { key, submit } => {
                let context = SubmitContext {
                    workspace,
                    actor: actor.into(),
                    idempotency_key: key.clone(),
                    traceparent: None,
                };
                return Ok(Some(engine.submit(&context, submit).await?.workflow));
            }
            Self::Approve(id) => engine.approve(workspace, *id, None, None, actor).await.map(drop)?,
            Self::Edit(post, text) => {
                let content = PostContent { text: text.clone(), link: None };
                engine.edit_post(workspace, *post, &content, None, false, actor).await.map(drop)?;
            }
            Self::Cancel(workflow) => engine.cancel(key(*workflow), actor).await?,
            Self::Replay(workflow, step) => {
                let input = json!({ "brief": null, "params": { "mended": true }, "results": {} });
                engine.repair(key(*workflow), step, Repair::Retry, Some(input), actor).await?;
            }
            Self::Limit(posts) => {
                let mut config = engine.policy(workspace).await?.config;
                config.max_daily_posts = Some(*posts);
                engine.set_policy(workspace, &config, None, actor).await?;
            }
        }
        Ok(None)
    }
}

/// What this process was told to be, if it is a child.
pub(crate) fn role() -> Option<Role> {
    std::env::var(ROLE).ok().map(|json| serde_json::from_str(&json).unwrap())
}

/// The child's whole life, unless it ends before.
pub(crate) async fn run(role: Role) -> ExitCode {
    let engine = role.place.engine(role.place.store(CONNECTIONS));
    let stop = Stop::default();
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    let told = stop.clone();
    tokio::spawn(async move {
        terminate.recv().await;
        told.soft.cancel();
    });
    match role.work {
        Work::Worker { name } => {
            galley_worker::run(engine, registry(), worker(&name), stop).await.unwrap();
        }
        Work::Scheduler => run_duties(&engine, &stop.soft).await,
        Work::Client { workspace, requests } => {
            for request in requests {
                // What a zombie is refused was done for it meanwhile.
                sure(async || match request.ask(&engine, workspace).await {
                    Err(EngineError::Conflict(_)) => Ok(None),
                    answered => answered,
                })
                .await;
            }
        }
    }
    ExitCode::SUCCESS
}

/// A running child; killed when dropped.
pub(crate) struct Child {
    process: Process,
    case: Case,
}

impl Child {
    /// Starts one that ends where the case says.
    pub(crate) fn start(role: &Role, case: Case) -> Self {
        let process = Command::new(std::env::current_exe().unwrap())
            .env(ROLE, serde_json::to_string(role).unwrap())
            .env(CRASH_POINT, format!("{}:{}:{}", case.point, case.hit, case.how.word()))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { process, case }
    }

    fn pid(&self) -> Option<u32> {
        self.process.id()
    }

    /// `T` for a stopped one.
    fn state(&self) -> Option<char> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()?)).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    }

    /// Whether it has come to its point; panics when it ended in any other way.
    pub(crate) fn hit(&mut self) -> bool {
        let ended = self.process.try_wait().unwrap();
        match (self.case.how, ended) {
            (How::Kill, Some(status)) => {
                assert_eq!(status.signal(), Some(Signal::SIGKILL as i32), "it ended otherwise: {status}");
                true
            }
            (How::Stop, None) => self.state() == Some('T'),
            (How::Kill, None) => false,
            (How::Stop, Some(status)) => panic!("it ended instead of stopping: {status}"),
        }
    }

    /// Waits until it has come to its point.
    pub(crate) async fn came_to(&mut self, point: Point) {
        until(&format!("the child comes to {point}"), async || self.hit()).await;
    }

    /// A stopped child goes on, as a zombie.
    pub(crate) async fn wake(&mut self) {
        self.signal(Signal::SIGCONT);
        until("the child goes on", async || self.state() != Some('T')).await;
    }

    fn signal(&self, signal: Signal) {
        let pid = self.pid().expect("it runs");
        kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
    }

    /// Ends a woken child in good order.
    pub(crate) async fn end(&mut self, tell: bool) {
        if tell {
            self.signal(Signal::SIGTERM);
        }
        let begun = Instant::now();
        let status: ExitStatus = tokio::time::timeout(PATIENCE, self.process.wait())
            .await
            .unwrap_or_else(|_| panic!("the zombie does not end ({:?})", begun.elapsed()))
            .unwrap();
        assert!(status.success(), "the zombie ended badly: {status}");
    }
}
