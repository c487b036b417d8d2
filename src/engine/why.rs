//! One sentence that says what a workflow, a step, a post, an approval, a
//! schedule or a queue waits for, and what to do about it.

use galley_core::ids::{
    AgentType, ApprovalId, PostId, ScheduleId, StepIndex, WorkflowId, WorkflowKey, WorkspaceId,
};
use galley_core::publish::PostState;
use galley_core::run::{StepState, WorkflowState};
use galley_queue::QueueDepth;
use galley_store::{ApprovalRow, PostRow, PublicationRow, SessionRow};
use uuid::Uuid;

use crate::engine::Engine;
use crate::error::EngineError;
use crate::policy::Policy;
use crate::read::WorkflowHistory;

/// The answer to "why".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// What it waits for, and what to do: one sentence.
    pub sentence: String,
    /// Whether somebody has to do something.
    pub needs_action: bool,
}

impl Why {
    pub(crate) fn fine(sentence: String) -> Self {
        Self { sentence, needs_action: false }
    }

    pub(crate) fn act(sentence: String) -> Self {
        Self { sentence, needs_action: true }
    }
}

/// An agent's queue with all that explains it.
#[derive(Clone, Debug)]
pub struct QueueView {
    /// What Redis holds, when it answers.
    pub depth: Option<QueueDepth>,
    /// What operators set.
    pub control: galley_store::AgentControl,
    /// The agent type.
    pub agent: AgentType,
    /// What the agent is for.
    pub description: String,
    /// Open sessions that serve it.
    pub workers: usize,
    /// Steps those sessions may run at once, all agents together.
    pub capacity: u64,
}

impl Engine {
    /// The queues of all agent types. Answers without Redis, too: then the
    /// depths are unknown.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn queues(&self) -> Result<Vec<QueueView>, EngineError> {
        let reading = self.fleet().fresh().await?;
        let sessions = self.store().unswept_sessions().await?;
        let types = reading.agent_types();
        let depths = self.queue().depths(&types).await.ok();
        Ok(types
            .iter()
            .enumerate()
            .map(|(index, agent)| {
                let row = &reading.agents[agent];
                let serving: Vec<_> = sessions.iter().filter(|session| serves(session, agent)).collect();
                QueueView {
                    depth: depths.as_ref().map(|depths| depths[index].clone()),
                    control: row.control.clone(),
                    agent: agent.clone(),
                    description: row.spec.description.clone(),
                    workers: serving.len(),
                    capacity: serving.iter().map(|session| u64::from(session.opened.concurrency)).sum(),
                }
            })
            .collect())
    }

    /// Why an agent's queue does or does not move.
    ///
    /// # Errors
    /// [`EngineError::NotFound`].
    pub async fn why_queue(&self, agent: &AgentType) -> Result<Why, EngineError> {
        let queues = self.queues().await?;
        let queue = queues.iter().find(|queue| queue.agent == *agent);
        let queue =
            queue.ok_or_else(|| EngineError::NotFound { kind: "agent type", id: agent.to_string() })?;
        Ok(why_queue(queue))
    }

    /// Why a workflow, or one of its steps, stands where it stands.
    ///
    /// # Errors
    /// [`EngineError::NotFound`].
    pub async fn why(&self, key: WorkflowKey, step_name: Option<&str>) -> Result<Why, EngineError> {
        let history = self.history(key).await?;
        let queues = self.queues().await?;
        let policy = self.recent_policy(key.workspace).await?;
        let Some(name) = step_name else { return Ok(why_workflow(&history, &queues, &policy)) };
        let workflow = &history.workflow;
        let step = workflow.run.find_step(&workflow.plan, name);
        let step = step
            .ok_or_else(|| EngineError::NotFound { kind: "step", id: format!("{}.{name}", key.workflow) })?;
        Ok(why_step(&history, &queues, &policy, step))
    }

    /// Why whatever has this id stands where it stands: a workflow, a post, an
    /// approval or a schedule.
    ///
    /// # Errors
    /// [`EngineError::NotFound`].
    pub async fn why_id(&self, workspace: WorkspaceId, id: Uuid) -> Result<Why, EngineError> {
        match self.why(WorkflowKey { workspace, workflow: WorkflowId(id) }, None).await {
            Err(EngineError::NotFound { .. }) => {}
            known => return known,
        }
        if let Some(post) = self.store().post(workspace, PostId(id)).await? {
            return self.why_post(workspace, &post).await;
        }
        if let Some(asked) = self.store().approval(workspace, ApprovalId(id)).await? {
            return match asked.status.as_str() {
                "pending" => self.why(asked.key(), Some(&asked.step_name)).await,
                _ => Ok(why_answered(&asked)),
            };
        }
        if let Some(row) = self.store().schedule_by_id(workspace, ScheduleId(id)).await? {
            let policy = self.policy(workspace).await?;
            return Ok(self.schedule_view(&policy, workspace, row).await?.why);
        }
        Err(EngineError::NotFound { kind: "workflow, post, approval or schedule", id: id.to_string() })
    }

    /// A post that moves, or could, stands where its step stands; what ended it
    /// only the post knows.
    async fn why_post(&self, workspace: WorkspaceId, post: &PostRow) -> Result<Why, EngineError> {
        let publication = self.store().publication(workspace, post.id).await?;
        if PostState::from_word(&post.state).is_some_and(PostState::is_final) {
            return Ok(why_ended(post, publication.as_ref()));
        }
        let given_up = publication.filter(|_| post.state == PostState::Failed.word());
        if let Some(by) = given_up.and_then(|publication| publication.settled_by) {
            return Ok(Why::fine(format!(
                "post {} was given up by {by}: it is not out and will not be",
                post.id
            )));
        }
        let key = WorkflowKey { workspace, workflow: post.workflow };
        self.why(key, Some(&post.step_name)).await
    }
}

fn why_ended(post: &PostRow, publication: Option<&PublicationRow>) -> Why {
    let PostRow { id, account_name, state, .. } = post;
    let reason = post.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    if *state != PostState::Published.word() {
        return Why::fine(format!("post {id} for {account_name} is {state}{reason}"));
    }
    let place =
        publication.and_then(|publication| publication.link.as_ref().or(publication.remote_id.as_ref()));
    let place = place.map(|place| format!(": {place}")).unwrap_or_default();
    let by = publication.and_then(|publication| publication.settled_by.as_ref());
    let by = by.map(|by| format!(" (says {by})")).unwrap_or_default();
    Why::fine(format!(
        "post {id} is published on {account_name}{place}{by}; `galley post show {id}` is its receipt"
    ))
}

fn why_answered(asked: &ApprovalRow) -> Why {
    let ApprovalRow { id, status, .. } = asked;
    let what = match asked.post {
        Some((post, revision)) => format!("revision {revision} of post {post}"),
        None => format!("the go of task {}.{}", asked.workflow, asked.step_name),
    };
    let then = match asked.post {
        Some((post, _)) => format!("`galley why {post}`"),
        None => format!("`galley why {}.{}`", asked.workflow, asked.step_name),
    };
    let note = asked.note.as_ref().map(|note| format!(" ({note})")).unwrap_or_default();
    let by = asked.decided_by.as_deref().unwrap_or("somebody");
    Why::fine(match status.as_str() {
        "void" => {
            format!("approval {id} is void: {what} was changed or is over; {then} says what it waits for now")
        }
        "expired" => format!("approval {id} expired: nobody answered about {what} in time"),
        _ => format!("approval {id}: {what} was {status} by {by}{note}; {then} says what became of it"),
    })
}

fn serves(session: &SessionRow, agent: &AgentType) -> bool {
    session.closed_at.is_none() && session.opened.agents.iter().any(|served| served == agent.as_str())
}

fn why_queue(queue: &QueueView) -> Why {
    let agent = &queue.agent;
    let Some(depth) = &queue.depth else {
        return Why::act(format!(
            "queue `{agent}` cannot be seen: Redis does not answer; workflows are still accepted, nothing new starts until it is back"
        ));
    };
    let (ready, in_flight) = (depth.ready, depth.in_flight);
    if queue.control.paused {
        let by = queue.control.paused_by.as_deref().unwrap_or("somebody");
        let why = queue.control.paused_reason.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        return Why::act(format!(
            "queue `{agent}` is paused by {by}{why} with {} ready; `galley queue resume {agent}` lets them go on",
            steps(ready)
        ));
    }
    if ready == 0 {
        return Why::fine(format!("queue `{agent}` has nothing waiting; {} in flight", steps(in_flight)));
    }
    if queue.workers == 0 {
        return Why::act(format!(
            "{} waiting: no live worker serves `{agent}`; start one with `galley worker --agents {agent}`",
            steps(ready)
        ));
    }
    if let Some(limit) = queue.control.max_running.filter(|limit| in_flight >= limit.unsigned_abs().into()) {
        return Why::fine(format!(
            "{} waiting: `{agent}` runs at its limit of {limit}; `galley queue limit {agent}` changes it",
            steps(ready)
        ));
    }
    Why::fine(format!(
        "{} ready and {in_flight} in flight, on {}; they are taken in turn",
        steps(ready),
        if queue.workers == 1 { "1 worker".into() } else { format!("{} workers", queue.workers) }
    ))
}

/// A number of steps, in words.
fn steps(n: u64) -> String {
    if n == 1 { "1 step".into() } else { format!("{n} steps") }
}

fn why_workflow(history: &WorkflowHistory, queues: &[QueueView], policy: &Policy) -> Why {
    let workflow = &history.workflow;
    let id = workflow.row.key.workflow;
    match workflow.state {
        WorkflowState::Succeeded => {
            Why::fine(format!("workflow {id} succeeded; `galley workflow show {id}` prints its result"))
        }
        WorkflowState::Cancelled => Why::fine(format!("workflow {id} was cancelled")),
        WorkflowState::Failed => Why::fine(format!(
            "workflow {id} failed because a step was discarded; submit it again with another idempotency key"
        )),
        WorkflowState::Running | WorkflowState::Waiting | WorkflowState::Stalled => {
            // The most telling step: what a person has to do first, then
            // whatever moves.
            let order = [
                StepState::InDoubt,
                StepState::Dead,
                StepState::WaitingApproval,
                StepState::WaitingBudget,
                StepState::Running,
                StepState::Unknown,
                StepState::Queued,
                StepState::Scheduled,
            ];
            let telling = order
                .iter()
                .find_map(|state| workflow.run.steps.iter().position(|step| step.state == *state));
            match telling {
                Some(step) => why_step(history, queues, policy, step as StepIndex),
                None => Why::fine(format!(
                    "workflow {id} is about to start; the reconciler starts it within seconds"
                )),
            }
        }
    }
}

fn why_step(history: &WorkflowHistory, queues: &[QueueView], policy: &Policy, step: StepIndex) -> Why {
    let workflow = &history.workflow;
    let run = &workflow.run.steps[usize::from(step)];
    let name = workflow.run.step_name(&workflow.plan, step);
    let id = workflow.row.key.workflow;
    let agent = workflow.agent(step);
    let last = history.attempts.iter().rev().find(|attempt| attempt.step == step);
    match run.state {
        StepState::Blocked => Why::fine(format!("step `{name}` waits for {}", open_needs(history, step))),
        StepState::Expanded => {
            let children: Vec<_> = workflow.run.children(step).collect();
            let open = children
                .iter()
                .filter(|child| !workflow.run.steps[usize::from(**child)].state.is_final())
                .count();
            Why::fine(format!("step `{name}` waits for {open} of its {} parts", children.len()))
        }
        StepState::Queued => {
            let queue = queues.iter().find(|queue| queue.agent == *agent);
            let why = queue.map_or_else(
                || Why::act(format!("no agent type `{agent}` is registered; start a worker that offers it")),
                why_queue,
            );
            Why { sentence: format!("step `{name}` is queued: {}", why.sentence), ..why }
        }
        StepState::Running => {
            let session = run.lease.map(|lease| lease.session.to_string()).unwrap_or_default();
            Why::fine(format!(
                "step `{name}` is running (attempt {}) in session {session}; see `galley worker list`",
                run.attempts
            ))
        }
        StepState::WaitingApproval => Why::act(why_waiting(history, step, &name)),
        StepState::InDoubt => {
            let post = history.posts.get(&step).map(|post| post.id.to_string()).unwrap_or_default();
            Why::act(format!(
                "step `{name}`: nobody knows whether post {post} is out{}; look at the account, then `galley post resolve {post} --published`, `--not-there` (sends it) or `--give-up`",
                last.map(|last| format!(" ({})", last.message)).unwrap_or_default()
            ))
        }
        StepState::WaitingBudget => {
            let told = last.map_or("there is no money for its next call", |last| last.message.as_str());
            Why::act(format!(
                "step `{name}` waits for money: {told}; it goes on by itself when there is: after `galley budget set`, for this \
                 workflow's own limit `galley budget set --only {id} --workflow …`, or when the day or month turns"
            ))
        }
        StepState::Unknown => {
            let when = history.due.get(&step).map_or("soon".into(), |due| format!("on {}", policy.told(due)));
            Why::fine(format!(
                "step `{name}`: the platform did not say whether the post is out; Galley finds out {when}"
            ))
        }
        StepState::Scheduled if history.posts.contains_key(&step) && last.is_none() => {
            let post = &history.posts[&step];
            let reason = post.reason.as_deref().unwrap_or("it waits for its slot");
            Why::fine(format!("step `{name}`: post {} is not out yet: {reason}", post.id))
        }
        StepState::Scheduled => {
            let when = history.due.get(&step).map_or("soon".into(), |due| format!("on {}", policy.told(due)));
            let error =
                last.map(|last| format!(" after {}: {}", last.class, last.message)).unwrap_or_default();
            Why::fine(format!("step `{name}` is tried again {when}{error}"))
        }
        StepState::Dead => {
            let error = last.map(|last| format!("{}: {}", last.class, last.message)).unwrap_or_default();
            Why::act(format!(
                "step `{name}` is dead after {} attempts and {} crashes ({error}); `galley dead retry {id}.{name}` or `galley dead discard {id}.{name}`",
                run.attempts, run.crashes
            ))
        }
        StepState::Succeeded => Why::fine(format!("step `{name}` succeeded")),
        StepState::Skipped => Why::fine(match history.posts.get(&step) {
            Some(post) => {
                let reason = post.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
                format!("step `{name}` was skipped: post {} is {}{reason}", post.id, post.state)
            }
            None => format!("step `{name}` was skipped because its condition was false"),
        }),
        StepState::Failed => Why::fine(format!("step `{name}` failed for good")),
        StepState::Cancelled => Why::fine(format!("step `{name}` was cancelled")),
    }
}

fn why_waiting(history: &WorkflowHistory, step: StepIndex, name: &str) -> String {
    let question = history.questions.iter().find(|question| question.step == step);
    let Some(question) = question else { return format!("step `{name}` waits for a person") };
    let (id, reason) = (question.id, &question.reason);
    let what = match question.post {
        Some((post, revision)) => format!("post {post} (revision {revision}) waits for an approval"),
        None => "waits for a person's go".to_owned(),
    };
    format!(
        "step `{name}`: {what}: {reason}; `galley approval approve {id}` or `galley approval reject {id}`"
    )
}

fn open_needs(history: &WorkflowHistory, step: StepIndex) -> String {
    let workflow = &history.workflow;
    let plan_step = &workflow.plan.steps[usize::from(workflow.run.steps[usize::from(step)].plan)];
    let open: Vec<_> = plan_step
        .needs
        .iter()
        .filter(|need| !workflow.run.steps[usize::from(**need)].state.is_final())
        .map(|need| {
            let state = workflow.run.steps[usize::from(*need)].state.word();
            format!("`{}` ({state})", workflow.plan.steps[usize::from(*need)].name)
        })
        .collect();
    if open.is_empty() { "nothing".into() } else { open.join(", ") }
}
