//! Accepting a workflow: validate everything, then one transaction, then push.
//!
//! Needs Postgres only: with Redis down a workflow is accepted all the same,
//! and the reconciler pushes it later. Concurrent submits share a transaction.

use std::sync::Arc;

use galley_core::decide::{Effect, Event, Facts, decide};
use galley_core::definition::{Definition, MAX_PAYLOAD_BYTES};
use galley_core::hash;
use galley_core::ids::{WorkflowId, WorkflowKey, WorkspaceId};
use galley_core::plan::{Plan, Problem};
use galley_core::run::Run;
use galley_core::ticket::{DEFAULT_PRIORITY, LAST_PRIORITY, Ticket};
use galley_probe::{Bug, Point, Rescue, planted, point, seen};
use galley_store::{AcceptWrite, Accepted, ScheduleTurn, Store, StoreError};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::cache::KnownRun;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::transition::{Command, Record, version_at};
use crate::vault::Row;

/// A request to run a workflow: a template or a definition, and its input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Submit {
    /// `name` (the newest version) or `name@version` of a template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// A definition of its own instead of a template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<Definition>,
    /// The workflow's input: the brief.
    #[serde(default)]
    pub input: Value,
    /// 0 (first) to 9 (last) within the workspace; 5 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
}

/// Who submits, and under which names.
#[derive(Clone, Debug)]
pub struct SubmitContext {
    /// The tenant.
    pub workspace: WorkspaceId,
    /// Who.
    pub actor: String,
    /// What makes a repeated submit the same workflow.
    pub idempotency_key: String,
    /// The W3C trace the request belongs to.
    pub traceparent: Option<String>,
}

/// An accepted workflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// Its id.
    pub workflow: WorkflowId,
    /// Whether this call made it, or an earlier one with the same key.
    pub new: bool,
}

/// Longest idempotency key, in bytes.
pub const MAX_IDEMPOTENCY_KEY_BYTES: usize = 200;

/// Most submits written by one transaction.
const BATCH: usize = 256;

/// A checked definition, stored and compiled.
#[derive(Clone, Debug)]
pub struct Ready {
    pub(crate) plan: Arc<Plan>,
    pub(crate) definition: i64,
    pub(crate) template: Option<String>,
    /// Hash of what was asked to run: the template's name or the definition.
    pub(crate) request: [u8; 32],
}

impl Ready {
    /// The stored definition's number.
    pub fn definition_id(&self) -> i64 {
        self.definition
    }
}

/// Where a waiting submit hears of its transaction; the error is shared.
type Answer = oneshot::Sender<Result<Accepted, Arc<StoreError>>>;

/// A submit that waits for its transaction.
pub(crate) struct Waiting {
    write: AcceptWrite,
    answer: Answer,
}

impl Engine {
    /// Accepts a workflow.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] with every problem and its place;
    /// [`EngineError::IdempotencyMismatch`]; [`EngineError::StoreUnavailable`].
    pub async fn submit(&self, context: &SubmitContext, submit: &Submit) -> Result<Submitted, EngineError> {
        let ready = self.checked(context, submit).await?;
        self.submit_ready(context, submit, &ready).await
    }

    /// Everything that is checked before a workflow is accepted.
    ///
    /// # Errors
    /// As [`Engine::submit`].
    pub(crate) async fn checked(
        &self,
        context: &SubmitContext,
        submit: &Submit,
    ) -> Result<Ready, EngineError> {
        check_request(context, submit)?;
        let ready = self.ready(context.workspace, submit).await?;
        let mut problems = ready.plan.check_input(&submit.input);
        problems.extend(self.check_policy(context.workspace, &ready.plan, &submit.input).await?);
        if problems.is_empty() { Ok(ready) } else { Err(EngineError::Invalid(problems)) }
    }

    /// Resolves, checks and stores the definition of a submit, so that many
    /// submits of it need not.
    ///
    /// # Errors
    /// As [`Engine::submit`].
    pub async fn ready(&self, workspace: WorkspaceId, submit: &Submit) -> Result<Ready, EngineError> {
        let request = hash::of_json(&(&submit.template, &submit.definition));
        let (definition, template) = match (&submit.template, &submit.definition) {
            (Some(name), None) => {
                let (definition, version) = self.template_definition(workspace, name).await?;
                let label = format!("{}@{version}", definition.name);
                (definition, Some(label))
            }
            (None, Some(definition)) => (definition.clone(), None),
            (Some(_), Some(_)) => {
                return Err(EngineError::invalid(
                    "definition",
                    "give either a template or a definition, not both",
                ));
            }
            (None, None) => {
                return Err(EngineError::invalid(
                    "template",
                    "give a `template` (see `galley template list`) or a `definition`",
                ));
            }
        };
        let mut reading = self.fleet().reading().await?;
        if definition.steps.iter().any(|step| reading.retry(&step.agent).is_none()) {
            // Perhaps a worker registered it a moment ago.
            reading = self.fleet().fresh().await?;
        }
        let cache_key = (workspace, hash::of_json(&(&definition, hex::encode(reading.specs_hash))));
        // One compiles and stores, whoever else asks meanwhile waits for it: a
        // cold process must not spend its connections on a thousand times the
        // same.
        let make = async {
            let plan = Plan::compile(definition, |agent| reading.retry(agent));
            let plan = Arc::new(plan.map_err(EngineError::Invalid)?);
            let body = serde_json::to_string(&plan.definition).map_err(|error| {
                EngineError::Internal(format!("a definition does not serialize: {error}"))
            })?;
            let digest = hash::of_json(&plan.definition);
            let definition = self.store().intern_definition(workspace, digest, body).await?;
            self.caches().remember_plan(definition, Arc::clone(&plan));
            Ok::<_, EngineError>((plan, definition))
        };
        let (plan, definition) = self.caches().compiled.get_or_insert_async(&cache_key, make).await?;
        Ok(Ready { plan, definition, template, request })
    }

    /// Accepts a workflow whose definition is ready and whose input was checked.
    ///
    /// # Errors
    /// As [`Engine::submit`].
    pub async fn submit_ready(
        &self,
        context: &SubmitContext,
        submit: &Submit,
        ready: &Ready,
    ) -> Result<Submitted, EngineError> {
        let Prepared { mut write, first } = prepare(context, submit, ready)?;
        write.sealed = self.seal(Row::Input(write.key), &write.input).await?;
        let (answer, answered) = oneshot::channel();
        let gone = |_| EngineError::Internal("the accept task has stopped".into());
        self.accepts().send(Waiting { write, answer }).await.map_err(|_| gone(()))?;
        let accepted = answered.await.map_err(|_| gone(()))?.map_err(|error| EngineError::shared(&error))?;
        self.start(&accepted, first).await
    }

    /// Accepts a workflow for a schedule, and moves the schedule on with it.
    /// `None`: the schedule is not as it was any more, and nothing was accepted.
    ///
    /// # Errors
    /// As [`Engine::submit`].
    pub(crate) async fn submit_scheduled(
        &self,
        context: &SubmitContext,
        submit: &Submit,
        turn: ScheduleTurn,
    ) -> Result<Option<Submitted>, EngineError> {
        let ready = self.checked(context, submit).await?;
        let Prepared { mut write, first } = prepare(context, submit, &ready)?;
        write.sealed = self.seal(Row::Input(write.key), &write.input).await?;
        match self.store().accept_scheduled(write, turn).await {
            Ok(accepted) => self.start(&accepted, first).await.map(Some),
            Err(StoreError::Overtaken(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// After the commit: the first tickets of a new workflow.
    async fn start(&self, accepted: &Accepted, first: First) -> Result<Submitted, EngineError> {
        match accepted {
            Accepted::Known(workflow) => return Ok(Submitted { workflow: *workflow, new: false }),
            Accepted::Mismatch(workflow) => return Err(EngineError::IdempotencyMismatch(*workflow)),
            Accepted::NoWorkspace => return Err(EngineError::NoWorkspace),
            Accepted::New => {}
        }
        point(Point::AcceptStored);
        let First { key, priority, known, start } = first;
        metrics::counter!("galley_workflows_accepted_total").increment(1);
        match start {
            Start::Tickets(steps) => {
                self.caches().runs.insert(key, Arc::new(known));
                let tickets: Vec<_> = steps
                    .into_iter()
                    .map(|(agent, step, epoch)| {
                        let WorkflowKey { workspace, workflow } = key;
                        (agent, Ticket { workspace, workflow, step, epoch, crashes: 0, priority })
                    })
                    .collect();
                if let Err(error) = self.queue().push(&tickets).await {
                    metrics::counter!("galley_push_failures_total").increment(1);
                    tracing::warn!(%error, workflow.id = %key.workflow, "accepted workflow {} but could not push it; the reconciler will", key.workflow);
                }
            }
            Start::ByTransition => {
                let start = Command { key, event: Event::Accepted, record: Record::Nothing };
                match self.apply(&[start]).await {
                    Ok(applied) => self.push(&[], &applied).await,
                    // It is stored; the reconciler starts what stands still.
                    Err(error) => {
                        tracing::warn!(%error, workflow.id = %key.workflow, "workflow {} will be started by the reconciler", key.workflow);
                    }
                }
            }
        }
        point(Point::AcceptPushed);
        Ok(Submitted { workflow: key.workflow, new: true })
    }
}

/// A checked workflow, ready to be written.
struct Prepared {
    write: AcceptWrite,
    first: First,
}

/// What follows once it is written.
struct First {
    key: WorkflowKey,
    priority: u8,
    known: KnownRun,
    start: Start,
}

fn prepare(context: &SubmitContext, submit: &Submit, ready: &Ready) -> Result<Prepared, EngineError> {
    let priority = submit.priority.unwrap_or(DEFAULT_PRIORITY);
    let key = WorkflowKey { workspace: context.workspace, workflow: WorkflowId(Uuid::now_v7()) };
    let (run, start) = start(ready, priority, &submit.input)?;
    let version = version_at(1);
    let write = AcceptWrite {
        key,
        definition: ready.definition,
        name: ready.plan.definition.name.clone(),
        template: ready.template.clone(),
        priority,
        idempotency_key: context.idempotency_key.clone(),
        request_hash: hash::of_parts(&[&ready.request, &hash::of_value(&submit.input), &[priority]]),
        input: submit.input.to_string(),
        sealed: None,
        traceparent: context.traceparent.clone(),
        actor: context.actor.clone(),
        version,
        run: run.encode(),
    };
    let known = KnownRun { definition: ready.definition, version, run };
    Ok(Prepared { write, first: First { key, priority, known, start } })
}

/// How a workflow gets going once it is stored.
enum Start {
    /// Its first steps are queued in the stored run: push these.
    Tickets(Vec<(galley_core::ids::AgentType, u16, u32)>),
    /// Its start has effects beyond tickets (it may even be over at once): the
    /// stored run is untouched and a transition starts it.
    ByTransition,
}

fn start(ready: &Ready, priority: u8, input: &Value) -> Result<(Run, Start), EngineError> {
    let mut run = Run::new(&ready.plan, priority);
    let facts = Facts { seq: 1, jitter: 0.0, rest_ms: 0, brief: input, result: &|_| None, unreadable: None };
    let effects = decide(&ready.plan, &mut run, Event::Accepted, &facts)
        .map_err(|refusal| EngineError::Internal(format!("a new workflow refused to start: {refusal}")))?;
    let mut tickets = Vec::with_capacity(effects.len());
    for effect in effects {
        match effect {
            Effect::Enqueue { step, epoch, .. } => {
                let agent = ready.plan.steps[usize::from(run.steps[usize::from(step)].plan)].agent.clone();
                tickets.push((agent, step, epoch));
            }
            // A condition or expansion over the input that cannot be evaluated
            // is a mistake in the request.
            Effect::Died { step, why: galley_core::decide::Death::Condition(problem) } => {
                return Err(EngineError::invalid(&format!("steps[{step}]"), problem));
            }
            _ => return Ok((Run::new(&ready.plan, priority), Start::ByTransition)),
        }
    }
    Ok((run, Start::Tickets(tickets)))
}

/// Whether a text can name a submit: 1 to [`MAX_IDEMPOTENCY_KEY_BYTES`] bytes
/// without control characters.
pub fn check_idempotency_key(key: &str) -> bool {
    !key.is_empty() && key.len() <= MAX_IDEMPOTENCY_KEY_BYTES && !key.chars().any(char::is_control)
}

fn check_request(context: &SubmitContext, submit: &Submit) -> Result<(), EngineError> {
    let mut problems = Vec::new();
    if !check_idempotency_key(&context.idempotency_key) {
        problems.push(Problem::new(
            "Idempotency-Key",
            format!("required: 1-{MAX_IDEMPOTENCY_KEY_BYTES} bytes without control characters"),
        ));
    }
    let size = submit.input.to_string().len();
    if size > MAX_PAYLOAD_BYTES {
        problems.push(Problem::new(
            "input",
            format!("{size} bytes; at most {MAX_PAYLOAD_BYTES} are allowed, pass large data by reference"),
        ));
    }
    if submit.priority.is_some_and(|priority| priority > LAST_PRIORITY) {
        problems.push(Problem::new("priority", format!("0 (first) to {LAST_PRIORITY} (last)")));
    }
    if problems.is_empty() { Ok(()) } else { Err(EngineError::Invalid(problems)) }
}

/// Group commit of accepted workflows: the next batch is whatever arrived while
/// the last one was committing.
pub(crate) async fn write_batches(store: Store, mut waiting: mpsc::Receiver<Waiting>) {
    let mut batch = Vec::with_capacity(BATCH);
    while waiting.recv_many(&mut batch, BATCH).await > 0 {
        let (writes, answers): (Vec<_>, Vec<_>) =
            batch.drain(..).map(|waiting| (waiting.write, waiting.answer)).unzip();
        metrics::histogram!("galley_accept_batch_size").record(writes.len() as f64);
        point(Point::AcceptCollected);
        let answers = if planted(Bug::AckBeforeCommit) { answer_all(answers) } else { answers };
        accept_part(&store, writes, answers).await;
    }
}

/// Says yes to everybody, and leaves nobody to tell the truth to.
fn answer_all(answers: Vec<Answer>) -> Vec<Answer> {
    let tell = |answer: Answer| {
        let _ = answer.send(Ok(Accepted::New));
        oneshot::channel().0
    };
    answers.into_iter().map(tell).collect()
}

/// Writes a batch; a value that Postgres refuses is found by halving, so that
/// its neighbours are accepted.
fn accept_part(
    store: &Store,
    mut writes: Vec<AcceptWrite>,
    mut answers: Vec<Answer>,
) -> futures::future::BoxFuture<'_, ()> {
    Box::pin(async move {
        let mut outcome = store.accept(writes.clone()).await;
        // A deadlock between two processes' batches: nothing happened.
        for _ in 0..5 {
            if !matches!(outcome, Err(StoreError::TryAgain(_))) {
                break;
            }
            seen(Rescue::DeadlockRetried);
            outcome = store.accept(writes.clone()).await;
        }
        match outcome {
            Ok(accepted) => {
                point(Point::AcceptCommitted);
                for (answer, accepted) in answers.into_iter().zip(accepted) {
                    // Nobody waits any more when the client hung up: the
                    // workflow is accepted, and its key finds it again.
                    let _ = answer.send(Ok(accepted));
                }
            }
            Err(StoreError::Data(_)) if writes.len() > 1 => {
                seen(Rescue::BatchBisected);
                let half = writes.len() / 2;
                let (more_writes, more_answers) = (writes.split_off(half), answers.split_off(half));
                accept_part(store, writes, answers).await;
                accept_part(store, more_writes, more_answers).await;
            }
            Err(error) => {
                let error = Arc::new(error);
                for answer in answers {
                    let _ = answer.send(Err(Arc::clone(&error)));
                }
            }
        }
    })
}
