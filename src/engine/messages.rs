//! The communication service: what steps say goes out with their results, and
//! reaches later steps with their claims.
//!
//! Nothing here waits and nothing is delivered by a process: a message is a row
//! beside the result of the step that sent it, and whoever is claimed later
//! reads what is there. What the engine itself tells of every step (this task
//! is yours; this came of it) is not stored twice: it is read from the run and
//! its results.

use std::collections::HashMap;
use std::sync::Arc;

use galley_core::ids::{AgentType, StepIndex, WorkflowKey, WorkspaceId};
use galley_core::message::{
    COORDINATOR, ContextEntry, Inbox, Message, MessageType, REQUEST_TIMEOUT_S, Says, Standing, Told,
    can_be_answered, message_id, told_id,
};
use galley_core::plan::Plan;
use galley_core::run::StepState;
use galley_store::{
    AttemptKey, ContextRow, ContextWrite, EndRow, MessageRow, MessageWrite, PatternRow, SaveBatch, StoreError,
};
use serde_json::json;
use serde_json::value::RawValue;

use crate::cache::KnownRun;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::read::WorkflowView;
use crate::transition::{Draft, seq_of};
use crate::vault::Row;

/// Requests whose time is written down as over, per round.
const TIME_OUT_BATCH: i64 = 1_000;

/// Adds what a step says to the batch of its result.
pub(crate) fn write_says(batch: &mut SaveBatch, draft: &Draft, seq: u64, attempt: &AttemptKey, says: &Says) {
    if says.is_silent() {
        return;
    }
    let (key, step) = (attempt.key, attempt.step);
    let step_name = draft.run.step_name(&draft.plan, step);
    let Some(agent) = draft.run.step(step).and_then(|step| draft.plan.steps.get(usize::from(step.plan)))
    else {
        return;
    };
    let agent = agent.agent.to_string();
    for (n, message) in says.messages.iter().enumerate() {
        let n = n as u16;
        let is_request = message.message_type == MessageType::Request;
        let state = is_request.then(|| {
            let later = can_be_answered(&draft.plan, &draft.run, step, message.to_agent.as_ref());
            if later { Standing::Open } else { Standing::Undeliverable }
        });
        batch.messages.push(MessageWrite {
            key,
            step,
            n,
            seq,
            id: message_id(key, step, n),
            step_name: step_name.clone(),
            from_agent: agent.clone(),
            to_agent: message.to_agent.as_ref().map(ToString::to_string),
            kind: message.message_type.word(),
            priority: message.priority.unwrap_or(draft.run.priority),
            content: message.content.get().to_owned(),
            sealed: None,
            in_reply_to: message.in_reply_to,
            state,
            timeout_s: is_request.then(|| message.timeout_s.unwrap_or(REQUEST_TIMEOUT_S)),
        });
    }
    for (n, entry) in says.context.iter().enumerate() {
        batch.context.push(ContextWrite {
            key,
            step,
            n: n as u16,
            seq,
            step_name: step_name.clone(),
            agent: agent.clone(),
            entry: entry.key.clone(),
            value: entry.value.get().to_owned(),
            sealed: None,
            if_version: entry.if_version,
        });
    }
}

/// Counts what was said.
pub(crate) fn count_said(agent: &AgentType, says: &Says) {
    for message in &says.messages {
        let to = message.to_agent.as_ref().map_or_else(|| "all".to_owned(), ToString::to_string);
        metrics::counter!(
            "galley_messages_total",
            "from" => agent.to_string(), "to" => to, "type" => message.message_type.word()
        )
        .increment(1);
    }
    if !says.context.is_empty() {
        metrics::counter!("galley_context_writes_total", "agent" => agent.to_string())
            .increment(says.context.len() as u64);
    }
}

/// Everything that was said in a workflow, or what of it cannot be opened.
pub(crate) struct Said(Result<(Vec<Message>, Vec<ContextEntry>), String>);

impl Said {
    /// What a step is told that was claimed in this state of its run.
    pub(crate) fn inbox(&self, plan: &Plan, known: &KnownRun, step: StepIndex) -> Result<Arc<Inbox>, String> {
        let (messages, context) = self.0.as_ref().map_err(Clone::clone)?;
        let Some(agent) = known.run.step(step).and_then(|step| plan.steps.get(usize::from(step.plan))) else {
            return Ok(Arc::default());
        };
        let seq = seq_of(known.version);
        let context = context.iter().filter(|entry| entry.seq <= seq).cloned().collect();
        Ok(Arc::new(Inbox::of(messages, context, &agent.agent, step, seq)))
    }
}

fn raw(json: String) -> Result<Box<RawValue>, StoreError> {
    RawValue::from_string(json)
        .map_err(|error| StoreError::Schema(format!("stored JSON does not parse: {error}")))
}

fn agent(name: &str) -> Result<AgentType, StoreError> {
    AgentType::new(name).map_err(|error| StoreError::Schema(format!("table messages: {error}")))
}

fn message_of(row: MessageRow, content: String) -> Result<Message, StoreError> {
    let MessageRow { key, id, kind, .. } = &row;
    let message_type = MessageType::from_word(kind).ok_or_else(|| {
        StoreError::Schema(format!("message {id} of workflow {}: type {kind}", key.workflow))
    })?;
    Ok(Message {
        id: row.id,
        from_agent: agent(&row.from_agent)?,
        from_step: row.step_name,
        to_agent: row.to_agent.as_deref().map(agent).transpose()?,
        message_type,
        content: raw(content)?,
        priority: row.priority,
        timestamp: row.sent_at,
        in_reply_to: row.in_reply_to,
        state: row.state.as_deref().and_then(Standing::from_word),
        expires_at: row.expires_at,
        seq: row.seq,
        step: row.step,
    })
}

fn entry_of(row: ContextRow, value: String) -> Result<ContextEntry, StoreError> {
    Ok(ContextEntry {
        key: row.entry,
        value: raw(value)?,
        version: row.version,
        by_agent: agent(&row.agent)?,
        by_step: row.step_name,
        updated_at: row.updated_at,
        seq: row.seq,
    })
}

impl Engine {
    /// What was said in workflows.
    ///
    /// # Errors
    /// Postgres is away.
    pub(crate) async fn said(&self, keys: &[WorkflowKey]) -> Result<HashMap<WorkflowKey, Said>, StoreError> {
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let mut said: HashMap<_, _> =
            keys.iter().map(|key| (*key, Said(Ok((Vec::new(), Vec::new()))))).collect();
        for row in self.store().load_messages(keys).await? {
            let opened = self.open(Row::Message(row.key, row.step, row.n), row.content.clone()).await?;
            let Some(Said(all)) = said.get_mut(&row.key) else { continue };
            match (all.as_mut(), opened) {
                (Ok((messages, _)), Ok(content)) => messages.push(message_of(row, content)?),
                (Ok(_), Err(why)) => *all = Err(why),
                (Err(_), _) => {}
            }
        }
        for row in self.store().load_context(keys).await? {
            let opened = self.open(Row::Context(row.key, row.step, row.n), row.value.clone()).await?;
            let Some(Said(all)) = said.get_mut(&row.key) else { continue };
            match (all.as_mut(), opened) {
                (Ok((_, context)), Ok(value)) => context.push(entry_of(row, value)?),
                (Ok(_), Err(why)) => *all = Err(why),
                (Err(_), _) => {}
            }
        }
        Ok(said)
    }

    /// Everything that was said in a workflow, in order: what its steps sent,
    /// and what the engine told of each step.
    ///
    /// # Errors
    /// [`EngineError::NotFound`]; Postgres is away; sealed content that cannot
    /// be opened.
    pub async fn messages(&self, key: WorkflowKey) -> Result<Vec<Message>, EngineError> {
        let view = self.workflow(key).await?;
        self.messages_of(&view).await
    }

    /// The same of a workflow as it was read.
    ///
    /// # Errors
    /// As [`Engine::messages`].
    pub async fn messages_of(&self, view: &WorkflowView) -> Result<Vec<Message>, EngineError> {
        let key = view.row.key;
        let ends = self.store().attempt_ends(key).await?;
        let mut messages = told(view, &ends)?;
        if view.run.said > 0
            && let Some(Said(said)) = self.said(&[key]).await?.remove(&key)
        {
            messages.extend(said.map_err(StoreError::Sealed)?.0);
        }
        // What a step was told comes before what it said, and that before what
        // the engine tells of its result.
        let place = |message: &Message| match (message.from_agent.as_str(), &message.to_agent) {
            (COORDINATOR, Some(_)) => 0,
            (COORDINATOR, None) => 2,
            _ => 1,
        };
        messages.sort_by_key(|message| (message.seq, place(message), message.step));
        Ok(messages)
    }

    /// A workflow's shared context, by key.
    ///
    /// # Errors
    /// As [`Engine::messages`].
    pub async fn shared_context(&self, key: WorkflowKey) -> Result<Vec<ContextEntry>, EngineError> {
        let view = self.workflow(key).await?;
        if view.run.said == 0 {
            return Ok(Vec::new());
        }
        match self.said(&[key]).await?.remove(&key) {
            None => Ok(Vec::new()),
            Some(Said(said)) => Ok(said.map_err(StoreError::Sealed)?.1),
        }
    }

    /// Who talks to whom in a workspace, in a time given as RFC 3339.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn communication(
        &self,
        workspace: WorkspaceId,
        from: Option<&str>,
        until: Option<&str>,
    ) -> Result<Vec<PatternRow>, EngineError> {
        Ok(self.store().communication_patterns(workspace, from, until).await?)
    }
}

/// What the engine tells of a workflow's steps. Every step knows its last change
/// alone, so all that is told of it has that place.
fn told(view: &WorkflowView, ends: &[EndRow]) -> Result<Vec<Message>, EngineError> {
    let coordinator =
        AgentType::new(COORDINATOR).map_err(|error| EngineError::Internal(error.to_string()))?;
    let mut messages = Vec::new();
    for (step, name, run) in view.steps() {
        let mut tell = |epoch: u32, what: Told, at: &str, outcome: Option<&str>| {
            let content = json!({ "event": what.word(), "step": name, "outcome": outcome });
            messages.push(Message {
                id: told_id(view.row.key, step, epoch, what),
                from_agent: coordinator.clone(),
                from_step: name.clone(),
                to_agent: (what == Told::Task).then(|| view.agent(step).clone()),
                message_type: MessageType::Notification,
                content: serde_json::value::to_raw_value(&content)
                    .map_err(|error| EngineError::Internal(error.to_string()))?,
                priority: view.run.priority,
                timestamp: at.to_owned(),
                in_reply_to: None,
                state: None,
                expires_at: None,
                seq: run.changed,
                step,
            });
            Ok::<_, EngineError>(())
        };
        for end in ends.iter().filter(|end| end.step == step) {
            tell(end.epoch, Told::Task, &end.began_at, None)?;
            if end.outcome == "succeeded" {
                tell(end.epoch, Told::Result, &end.ended_at, Some(&end.outcome))?;
            }
        }
        if run.state == StepState::Running {
            // When it began is on nobody's record until it ends.
            let now = after(&view.row.created_at, view.row.age_us);
            tell(run.epoch, Told::Task, &now, None)?;
        }
    }
    Ok(messages)
}

/// A time so many microseconds later, RFC 3339.
fn after(at: &str, us: i64) -> String {
    let later = |at: jiff::Timestamp| at + jiff::SignedDuration::from_micros(us);
    at.parse().map(later).map_or_else(|_| at.to_owned(), |at| at.to_string())
}

/// One round: requests whose time has passed are written down as timed out.
/// Answers how many.
///
/// # Errors
/// Postgres is away.
pub async fn time_out_requests(engine: &Engine) -> Result<usize, EngineError> {
    let over = engine.store().time_out_requests(TIME_OUT_BATCH).await?;
    if !over.is_empty() {
        metrics::counter!("galley_requests_timed_out_total").increment(over.len() as u64);
        for key in &over {
            tracing::info!(workflow.id = %key.workflow, "a request of workflow {} was not answered in time", key.workflow);
        }
    }
    Ok(over.len())
}
