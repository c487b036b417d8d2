//! What the agents of one workflow say to each other, and what they remember
//! together.
//!
//! An attempt says everything at its end: what it says is written in the
//! transaction of its result, or not at all. So a step that runs again after a
//! crash says nothing twice. Messages have the run's sequence number, which only
//! one writer gets: their order is the order of results.
//!
//! Who hears what is decided here and nowhere else: see [`hears`].

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::ids::{AgentType, MessageId, StepIndex, WorkflowKey};
use crate::plan::Plan;
use crate::run::{Run, StepState};
use crate::ticket::{LAST_PRIORITY, Priority};

/// Most messages one step may send.
pub const MOST_MESSAGES: usize = 32;
/// Most entries one step may write into the shared context.
pub const MOST_ENTRIES: usize = 32;
/// Most messages and context entries that the steps of one workflow may write.
/// Whoever claims a step of it reads them.
pub const MOST_SAID: u32 = 4_096;
/// Longest content of a message, and longest value of an entry, in bytes of JSON.
pub const MOST_BYTES: usize = 16 << 10;
/// What of a workflow's messages is put to one attempt, in bytes: the newest.
pub const MOST_INBOX_BYTES: usize = 256 << 10;
/// Most that the shared context of one workflow may hold, in bytes of its values
/// as they are stored: what one step may write at most. Whoever claims a step of
/// it gets all of it.
pub const MOST_CONTEXT_BYTES: usize = MOST_ENTRIES * MOST_BYTES;
/// How long a request is open unless it says so itself, in seconds.
pub const REQUEST_TIMEOUT_S: u32 = 3_600;
/// The longest a request may be open, in seconds: 30 days.
pub const LONGEST_TIMEOUT_S: u32 = 30 * 24 * 3_600;

/// What a message is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageType {
    /// A later step of the addressed agent is to answer.
    Request,
    /// An answer to a request; goes to the agent that asked.
    Response,
    /// Something to know.
    Notification,
    /// A judgement of somebody's work.
    Feedback,
}

impl MessageType {
    /// Every type.
    pub const ALL: [Self; 4] = [Self::Request, Self::Response, Self::Notification, Self::Feedback];

    /// The word used in the API, the CLI and in rows.
    pub fn word(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Response => "response",
            Self::Notification => "notification",
            Self::Feedback => "feedback",
        }
    }

    /// The type of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

/// What became of a request, or of an answer to one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// A request that nobody answered yet.
    Open,
    /// A request that was answered.
    Answered,
    /// A request whose time passed without an answer.
    TimedOut,
    /// A request to an agent of which no later step is in the workflow.
    Undeliverable,
    /// A request that was open when the workflow ended.
    Unanswered,
    /// A response that answered its request.
    Accepted,
    /// A response to what was not open to this agent any more.
    Late,
}

impl Standing {
    /// Every standing.
    pub const ALL: [Self; 7] = [
        Self::Open,
        Self::Answered,
        Self::TimedOut,
        Self::Undeliverable,
        Self::Unanswered,
        Self::Accepted,
        Self::Late,
    ];

    /// The word used in the API, the CLI and in rows.
    pub fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Answered => "answered",
            Self::TimedOut => "timed_out",
            Self::Undeliverable => "undeliverable",
            Self::Unanswered => "unanswered",
            Self::Accepted => "accepted",
            Self::Late => "late",
        }
    }

    /// The standing of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|standing| standing.word() == word)
    }
}

/// A message as its sender writes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Saying {
    /// The agent it is for; absent: all. A response goes to whoever asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_agent: Option<AgentType>,
    /// What it is for.
    pub message_type: MessageType,
    /// What it says, any JSON.
    pub content: Box<RawValue>,
    /// 0 (most urgent) to 9; absent: the workflow's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// The request that a response answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_reply_to: Option<MessageId>,
    /// How long a request is open, in seconds; absent: [`REQUEST_TIMEOUT_S`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<u32>,
}

/// An entry of the shared context as its writer writes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Remembering {
    /// 1–100 characters of `a-z`, `A-Z`, `0-9`, `_`, `.` and `-`.
    pub key: String,
    /// Any JSON.
    pub value: Box<RawValue>,
    /// The version this replaces (0: there is none yet). Where another stands
    /// there, the attempt fails and the step runs again. Absent: whatever is
    /// there is replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_version: Option<u32>,
}

/// Everything an attempt says besides its output.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Says {
    /// Messages, in order.
    pub messages: Vec<Saying>,
    /// What it adds to the shared context, in order.
    pub context: Vec<Remembering>,
}

impl Says {
    /// Whether it says nothing.
    pub fn is_silent(&self) -> bool {
        self.messages.is_empty() && self.context.is_empty()
    }

    /// How many things it says.
    pub fn count(&self) -> u32 {
        (self.messages.len() + self.context.len()) as u32
    }

    /// Whether it may be said.
    ///
    /// # Errors
    /// The first thing that may not, for a person.
    pub fn check(&self) -> Result<(), String> {
        if self.messages.len() > MOST_MESSAGES {
            return Err(format!("{} messages; a step may send {MOST_MESSAGES}", self.messages.len()));
        }
        if self.context.len() > MOST_ENTRIES {
            return Err(format!("{} context entries; a step may write {MOST_ENTRIES}", self.context.len()));
        }
        for (n, message) in self.messages.iter().enumerate() {
            message.check().map_err(|why| format!("message {n}: {why}"))?;
        }
        for (n, entry) in self.context.iter().enumerate() {
            entry.check().map_err(|why| format!("context entry {n}: {why}"))?;
            if self.context[..n].iter().any(|other| other.key == entry.key) {
                return Err(format!("context entry {n}: `{}` is written twice", entry.key));
            }
        }
        Ok(())
    }
}

impl Saying {
    /// A message to all.
    pub fn new(message_type: MessageType, content: Box<RawValue>) -> Self {
        Self { to_agent: None, message_type, content, priority: None, in_reply_to: None, timeout_s: None }
    }

    /// The same to one agent.
    #[must_use]
    pub fn to(mut self, agent: AgentType) -> Self {
        self.to_agent = Some(agent);
        self
    }

    /// An answer to a request.
    pub fn answer(request: MessageId, content: Box<RawValue>) -> Self {
        Self { in_reply_to: Some(request), ..Self::new(MessageType::Response, content) }
    }

    fn check(&self) -> Result<(), String> {
        let bytes = self.content.get().len();
        if bytes > MOST_BYTES {
            return Err(format!("{bytes} bytes of content; at most {MOST_BYTES}"));
        }
        if self.priority.is_some_and(|priority| priority > LAST_PRIORITY) {
            return Err(format!("the priority is 0 to {LAST_PRIORITY}"));
        }
        let is = |kind| self.message_type == kind;
        match self.in_reply_to {
            None if is(MessageType::Response) => return Err("a response names its request: inReplyTo".into()),
            Some(_) if !is(MessageType::Response) => return Err("only a response has inReplyTo".into()),
            _ => {}
        }
        match self.timeout_s {
            Some(_) if !is(MessageType::Request) => Err("only a request has timeoutS".into()),
            Some(seconds) if seconds == 0 || seconds > LONGEST_TIMEOUT_S => {
                Err(format!("timeoutS is 1 to {LONGEST_TIMEOUT_S}"))
            }
            _ => Ok(()),
        }
    }
}

impl Remembering {
    /// An entry that replaces whatever is there.
    pub fn new(key: impl Into<String>, value: Box<RawValue>) -> Self {
        Self { key: key.into(), value, if_version: None }
    }

    fn check(&self) -> Result<(), String> {
        check_key(&self.key)?;
        let bytes = self.value.get().len();
        if bytes > MOST_BYTES {
            return Err(format!("`{}` has {bytes} bytes; at most {MOST_BYTES}", self.key));
        }
        Ok(())
    }
}

/// Whether a text may be a key of the shared context.
///
/// # Errors
/// Why not, for a person.
pub fn check_key(key: &str) -> Result<(), String> {
    let fits = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.' | b'-');
    if (1..=100).contains(&key.len()) && key.bytes().all(fits) {
        return Ok(());
    }
    let shown: String = key.chars().take(60).collect();
    Err(format!("`{shown}` is no key: use 1-100 of a-z, A-Z, 0-9, _, . and -"))
}

/// The id of the n-th message a step sent. A step succeeds once, so the id is
/// the same however often the write is repeated. UUIDv8.
pub fn message_id(key: WorkflowKey, step: StepIndex, n: u16) -> MessageId {
    named_id(key, "said", &[&step.to_be_bytes(), &n.to_be_bytes()])
}

/// The id of what the engine itself tells about a step: see [`Told`].
pub fn told_id(key: WorkflowKey, step: StepIndex, epoch: u32, told: Told) -> MessageId {
    named_id(key, told.word(), &[&step.to_be_bytes(), &epoch.to_be_bytes()])
}

fn named_id(key: WorkflowKey, what: &str, parts: &[&[u8]]) -> MessageId {
    let mut hash = Sha256::new();
    hash.update(key.workspace.0.as_bytes());
    hash.update(key.workflow.0.as_bytes());
    hash.update((what.len() as u64).to_be_bytes());
    hash.update(what);
    parts.iter().for_each(|part| hash.update(part));
    let mut id = [0; 16];
    id.copy_from_slice(&hash.finalize()[..16]);
    MessageId(Uuid::new_v8(id))
}

/// What the engine tells of every step, without a row for it: both are read
/// from the run and its results.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Told {
    /// To the agent: this attempt is yours.
    Task,
    /// To all: this came of it.
    Result,
}

impl Told {
    /// The word in its content.
    pub fn word(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Result => "result",
        }
    }
}

/// The sender of what the engine tells. No worker can register an agent type of
/// that name: what it says would be taken for the engine's word.
pub const COORDINATOR: &str = "coordinator";

/// A message as it was sent.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// Its id.
    pub id: MessageId,
    /// The agent that sent it.
    pub from_agent: AgentType,
    /// The step that sent it.
    pub from_step: String,
    /// The agent it is for; `None`: all.
    pub to_agent: Option<AgentType>,
    /// What it is for.
    pub message_type: MessageType,
    /// What it says.
    pub content: Box<RawValue>,
    /// 0 (most urgent) to 9.
    pub priority: Priority,
    /// When it was sent, RFC 3339.
    pub timestamp: String,
    /// The request that a response answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_reply_to: Option<MessageId>,
    /// What became of a request or a response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<Standing>,
    /// Until when a request is open, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// The workflow's change in which it was sent.
    pub seq: u64,
    /// The position of the step that sent it.
    #[serde(skip)]
    pub step: StepIndex,
}

/// An entry of the shared context, with who wrote it last.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContextEntry {
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: Box<RawValue>,
    /// 1 for the first value, one more with every write.
    pub version: u32,
    /// The agent that wrote it last.
    pub by_agent: AgentType,
    /// The step that wrote it last.
    pub by_step: String,
    /// When, RFC 3339.
    pub updated_at: String,
    /// The workflow's change in which it was written.
    pub seq: u64,
}

/// What one attempt is told when it begins.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inbox {
    /// Messages for its step, in the order in which they were sent.
    pub messages: Vec<Message>,
    /// The workflow's shared context, by key.
    pub context: Vec<ContextEntry>,
    /// Older messages that did not fit any more.
    pub dropped: u32,
}

impl Inbox {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.context.is_empty()
    }

    /// The requests that this step may answer.
    pub fn open_requests(&self) -> impl Iterator<Item = &Message> {
        let is_open = |message: &&Message| {
            message.message_type == MessageType::Request && message.state == Some(Standing::Open)
        };
        self.messages.iter().filter(is_open)
    }

    /// An entry of the shared context.
    pub fn entry(&self, key: &str) -> Option<&ContextEntry> {
        self.context.iter().find(|entry| entry.key == key)
    }

    /// What of a workflow's messages a step hears that was claimed at `seq`,
    /// with the newest kept where not all fit.
    pub fn of(
        all: &[Message],
        context: Vec<ContextEntry>,
        agent: &AgentType,
        step: StepIndex,
        seq: u64,
    ) -> Self {
        let mut messages = Vec::new();
        let (mut bytes, mut dropped) = (0_usize, 0);
        for message in all.iter().rev().filter(|message| hears(message, agent, step, seq)) {
            bytes = bytes.saturating_add(message.content.get().len());
            if bytes > MOST_INBOX_BYTES {
                dropped += 1;
            } else {
                messages.push(message.clone());
            }
        }
        messages.reverse();
        Self { messages, context, dropped }
    }
}

/// Whether a step that was claimed at `seq` hears a message: what was said
/// before, to its agent or to all, and not by itself. Of requests those that it
/// may answer, and its own agent's that nobody will answer.
pub fn hears(message: &Message, agent: &AgentType, step: StepIndex, seq: u64) -> bool {
    if message.seq > seq || message.step == step {
        return false;
    }
    let to_me = message.to_agent.as_ref().is_none_or(|to| to == agent);
    match (message.message_type, message.state) {
        (MessageType::Request, Some(Standing::Open)) => to_me,
        (MessageType::Request, Some(Standing::TimedOut | Standing::Undeliverable | Standing::Unanswered)) => {
            message.from_agent == *agent
        }
        (MessageType::Request, _) => false,
        (MessageType::Response | MessageType::Notification | MessageType::Feedback, _) => to_me,
    }
}

/// Whether a step of that agent may still begin after `from`, so that a request
/// to it can be answered.
pub fn can_be_answered(plan: &Plan, run: &Run, from: StepIndex, to: Option<&AgentType>) -> bool {
    run.steps.iter().enumerate().any(|(index, step)| {
        let agent = plan.steps.get(usize::from(step.plan)).map(|step| &step.agent);
        index != usize::from(from)
            && !step.state.is_final()
            && step.state != StepState::Expanded
            && to.is_none_or(|to| agent == Some(to))
    })
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
