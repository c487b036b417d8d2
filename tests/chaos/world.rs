//! What everybody in a run shares: the clock, the history being written, the
//! tenants, the way to ask the API.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use galley_api::views::Role;
use galley_api::{NewToken, Signer, TokenRules};
use galley_core::ids::{AccountId, ApprovalId, PostId, WorkflowId, WorkspaceId};
use galley_preview::PreviewNetwork;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use reqwest::Method;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::agents::canaries;
use crate::history::{Ask, Line, Op, Recorder, Reply, Told, ToldPost};

/// How long a client waits for an answer.
pub const PATIENCE: Duration = Duration::from_secs(6);

/// A tenant and what its people know.
#[derive(Clone, Debug)]
pub struct Tenant {
    /// Its id.
    pub id: WorkspaceId,
    /// Its name.
    pub name: String,
    /// Part of everything that is submitted in it.
    pub canary: String,
    /// Its accounts.
    pub accounts: Vec<Target>,
}

/// An account that posts go to.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its id in Galley.
    pub id: AccountId,
    /// Its name in Galley.
    pub name: String,
    /// Its name on the platform.
    pub handle: String,
    /// By which endpoint it publishes.
    pub endpoint: &'static str,
}

/// A workflow that a client was told of.
#[derive(Clone, Debug)]
pub struct Known {
    /// Its id.
    pub id: WorkflowId,
    /// Whose: the tenant's place.
    pub tenant: usize,
    /// What kind.
    pub shape: &'static str,
}

/// A question that somebody answers when its time is over, or almost.
#[derive(Clone, Debug)]
pub struct Late {
    /// Which of them it is.
    pub number: u64,
    /// Whose: the tenant's place.
    pub place: usize,
    /// The question.
    pub approval: ApprovalId,
    /// What it is about.
    pub post: PostId,
    /// The hash that was shown.
    pub hash: String,
    /// When its time is over.
    pub expires_at: jiff::Timestamp,
}

/// What everybody shares.
pub struct World {
    /// What everything random comes from.
    pub seed: u64,
    /// The tenants.
    pub tenants: Vec<Tenant>,
    /// The platform; never killed.
    pub platform: PreviewNetwork,
    /// The history.
    pub recorder: Recorder,
    /// Workload stops when this fires; what was begun is ended.
    pub stop: CancellationToken,
    http: reqwest::Client,
    apis: Vec<String>,
    keys: Signer,
    began: Instant,
    next_op: AtomicU64,
    known: Mutex<Vec<Known>>,
    kept: Mutex<Vec<Late>>,
    backlog: AtomicU64,
    tally: Mutex<Tally>,
}

/// Outcomes and faults, counted for people.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Operations by kind: done, refused, unknown.
    pub ops: BTreeMap<&'static str, [u64; 3]>,
    /// Faults that were injected, by kind.
    pub faults: BTreeMap<String, u64>,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("seed", &self.seed).finish_non_exhaustive()
    }
}

/// What a world is made of.
pub struct Parts {
    /// See [`World::seed`].
    pub seed: u64,
    /// See [`World::platform`].
    pub platform: PreviewNetwork,
    /// See [`World::recorder`].
    pub recorder: Recorder,
    /// Where the APIs are.
    pub apis: Vec<String>,
    /// What tokens are signed with.
    pub jwt_secret: String,
    /// The moment that is millisecond 0.
    pub began: Instant,
}

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    /// GET, POST, PUT.
    pub method: Method,
    /// From `/v1` on.
    pub path: String,
    /// The body.
    pub body: Option<Value>,
    /// The `Idempotency-Key`.
    pub key: Option<String>,
    /// How long the client waits.
    pub patience: Duration,
}

impl Request {
    /// Reads.
    pub fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), body: None, key: None, patience: PATIENCE }
    }

    /// Removes.
    pub fn delete(path: impl Into<String>) -> Self {
        Self { method: Method::DELETE, ..Self::get(path) }
    }

    /// Changes.
    pub fn post(path: impl Into<String>, body: Value) -> Self {
        Self { method: Method::POST, body: Some(body), ..Self::get(path) }
    }

    /// Replaces.
    pub fn put(path: impl Into<String>, body: Value) -> Self {
        Self { method: Method::PUT, ..Self::post(path, body) }
    }
}

/// An answer as it came.
#[derive(Clone, Debug)]
pub enum Answer {
    /// 2xx, read to its end.
    Done(Value),
    /// 4xx, read to its end.
    Refused(u16, Value),
    /// Anything else.
    Unknown(String),
}

impl Answer {
    /// The answer, if it was a success.
    pub fn done(self) -> Option<Value> {
        match self {
            Self::Done(value) => Some(value),
            Self::Refused(..) | Self::Unknown(_) => None,
        }
    }
}

impl World {
    /// A world without tenants.
    ///
    /// # Errors
    /// No HTTP client, or a bad secret.
    pub fn new(parts: Parts) -> Result<Self> {
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(2))
            .pool_max_idle_per_host(4)
            .build()
            .context("no HTTP client")?;
        Ok(Self {
            seed: parts.seed,
            tenants: Vec::new(),
            platform: parts.platform,
            recorder: parts.recorder,
            stop: CancellationToken::new(),
            http,
            apis: parts.apis,
            keys: Signer::new(&parts.jwt_secret.into(), TokenRules::default())?,
            began: parts.began,
            next_op: AtomicU64::new(1),
            known: Mutex::default(),
            kept: Mutex::default(),
            backlog: AtomicU64::new(0),
            tally: Mutex::default(),
        })
    }

    /// Milliseconds since the beginning.
    pub fn ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Random numbers of somebody's own, the same for every run of a seed.
    pub fn random(&self, who: u64) -> StdRng {
        StdRng::seed_from_u64(self.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ who)
    }

    /// Writes a line of the history. A full disk ends the run: a history with
    /// holes decides nothing.
    pub fn record(&self, line: &Line) {
        if let Err(error) = self.recorder.write(line) {
            tracing::error!(%error, "the history cannot be written");
            std::process::abort();
        }
    }

    /// The workflows that clients were told of.
    pub fn known(&self) -> MutexGuard<'_, Vec<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The questions that are left to those who answer late.
    pub fn kept(&self) -> Vec<Late> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Leaves a question to somebody who answers late.
    pub fn keep(&self, late: Late) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).push(late);
    }

    /// Whether a question, as it is listed, is left to them.
    pub fn is_kept(&self, question: &Value) -> bool {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().any(|late| question["id"] == late.approval.to_string())
    }

    /// Tickets that wait in all queues, as somebody saw them last.
    pub fn backlog(&self) -> u64 {
        self.backlog.load(Ordering::Relaxed)
    }

    /// Somebody saw so many.
    pub fn set_backlog(&self, tickets: u64) {
        self.backlog.store(tickets, Ordering::Relaxed);
    }

    /// The counts.
    pub fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A fault was injected.
    pub fn fault(&self, kind: &str) {
        *self.tally().faults.entry(kind.to_owned()).or_default() += 1;
    }

    /// Waits, or returns false when the workload shall stop.
    pub async fn pause(&self, time: Duration) -> bool {
        tokio::select! {
            () = tokio::time::sleep(time) => !self.stop.is_cancelled(),
            () = self.stop.cancelled() => false,
        }
    }

    /// A token for somebody of a tenant who may do everything.
    pub fn token(&self, tenant: &Tenant, subject: &str) -> String {
        let new = NewToken {
            workspace: tenant.id,
            subject: subject.to_owned(),
            roles: vec![Role::Admin],
            ttl: Duration::from_secs(3_600),
            // Its people pause and limit the queues that all tenants share.
            deployment: true,
        };
        // A valid subject and a valid secret: signing cannot fail.
        self.keys.issue(&new).map(|issued| issued.token).unwrap_or_default()
    }

    /// The URL of one of the APIs, in turn.
    pub fn api(&self, turn: u64) -> &str {
        let place = usize::try_from(turn).unwrap_or_default() % self.apis.len();
        &self.apis[place]
    }

    /// The HTTP client.
    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Asks without writing it down: for what people look up before they act.
    pub async fn ask(&self, tenant: &Tenant, request: Request) -> Answer {
        let turn = self.next_op.load(Ordering::Relaxed) + self.ms();
        self.send(tenant, "looker", turn, request).await.0
    }

    /// One operation, in the history with its outcome.
    pub async fn op(&self, tenant: &Tenant, ask: Ask, request: Request) -> Answer {
        let id = self.next_op.fetch_add(1, Ordering::Relaxed);
        // A subject of its own, so that its audit row can be told from all
        // others.
        let actor = format!("op-{id}");
        let began_ms = self.ms();
        let (answer, text) = self.send(tenant, &actor, id, request).await;
        let reply = match &answer {
            Answer::Done(value) => Reply::Done(told(&ask, value)),
            Answer::Refused(status, problem) => Reply::Refused {
                status: *status,
                problem: problem["type"].as_str().unwrap_or_default().to_owned(),
            },
            Answer::Unknown(why) => Reply::Unknown { why: why.clone() },
        };
        let outcome = match &answer {
            Answer::Done(_) => 0,
            Answer::Refused(..) => 1,
            Answer::Unknown(_) => 2,
        };
        self.tally().ops.entry(name(&ask)).or_default()[outcome] += 1;
        self.record(&Line::Op(Op {
            id,
            workspace: tenant.id,
            actor,
            began_ms,
            ended_ms: self.ms(),
            ask,
            reply,
            canaries: canaries(&text),
        }));
        answer
    }

    async fn send(&self, tenant: &Tenant, subject: &str, turn: u64, request: Request) -> (Answer, String) {
        let url = format!("{}{}", self.api(turn), request.path);
        let mut building = self.http.request(request.method, url).bearer_auth(self.token(tenant, subject));
        if let Some(key) = &request.key {
            building = building.header("Idempotency-Key", key);
        }
        if let Some(body) = &request.body {
            building = building.json(body);
        }
        let asking = async {
            let response = building.send().await?;
            let status = response.status();
            Ok::<_, reqwest::Error>((status, response.text().await?))
        };
        let (status, text) = match tokio::time::timeout(request.patience, asking).await {
            Err(_) => return (Answer::Unknown("the client hung up".into()), String::new()),
            Ok(Err(error)) => return (Answer::Unknown(error.without_url().to_string()), String::new()),
            Ok(Ok(answered)) => answered,
        };
        let value = serde_json::from_str(&text).unwrap_or_default();
        let answer = match status.as_u16() {
            200..=299 => Answer::Done(value),
            400..=499 => Answer::Refused(status.as_u16(), value),
            other => Answer::Unknown(format!("{other} {}", value["detail"].as_str().unwrap_or_default())),
        };
        (answer, text)
    }
}

/// What an operation is called in counts.
fn name(ask: &Ask) -> &'static str {
    match ask {
        Ask::Submit { .. } => "submit",
        Ask::Look { .. } => "look",
        Ask::LookPost { .. } => "look at post",
        Ask::Cancel { .. } => "cancel",
        Ask::Approve { .. } => "approve",
        Ask::Reject { .. } => "reject",
        Ask::RejectPost { .. } => "reject post",
        Ask::Edit { .. } => "edit",
        Ask::Reschedule { .. } => "reschedule",
        Ask::Resolve { .. } => "resolve",
        Ask::Repair { .. } => "repair",
        Ask::SetPolicy { .. } => "set policy",
        Ask::Other { .. } => "other",
    }
}

/// What a success tells the checker.
fn told(ask: &Ask, value: &Value) -> Told {
    let text = |field: &str| value[field].as_str().map(str::to_owned);
    let mut told = Told::default();
    match ask {
        Ask::Submit { .. } => told.workflow = value["workflowId"].as_str().and_then(|id| id.parse().ok()),
        Ask::Look { workflow } | Ask::Cancel { workflow } => {
            told.workflow = Some(*workflow);
            told.state = text("state");
            told.seq = value["seq"].as_u64();
            for part in value["result"]["contributions"].as_array().into_iter().flatten() {
                if let (Some(step), Some(state)) = (part["step"].as_str(), part["state"].as_str()) {
                    told.steps.insert(step.to_owned(), state.to_owned());
                }
            }
        }
        Ask::LookPost { .. }
        | Ask::Edit { .. }
        | Ask::Reschedule { .. }
        | Ask::Resolve { .. }
        | Ask::RejectPost { .. } => told.post = told_post(value),
        Ask::Repair { .. } => {
            let tasks = value["tasks"].as_array().into_iter().flatten();
            told.repaired = tasks.filter_map(|task| task.as_str().map(str::to_owned)).collect();
        }
        Ask::Approve { .. } | Ask::Reject { .. } | Ask::SetPolicy { .. } | Ask::Other { .. } => {}
    }
    told
}

fn told_post(value: &Value) -> Option<ToldPost> {
    Some(ToldPost {
        id: post_id(&value["id"])?,
        state: value["state"].as_str()?.to_owned(),
        revision: i32::try_from(value["revision"].as_i64()?).ok()?,
        hash: value["contentHash"].as_str()?.to_owned(),
    })
}

/// A post's id in an answer.
pub fn post_id(value: &Value) -> Option<PostId> {
    value.as_str()?.parse().ok()
}
