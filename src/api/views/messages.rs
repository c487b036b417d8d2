//! What agents said to each other, and what they remember together.

use galley_core::ids::{MessageId, WorkflowId};
use galley_core::message;
use galley_engine::store::PatternRow;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::compile::task_id;

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MessageType {
    /// A later step of the addressed agent is to answer.
    Request,
    /// An answer to a request.
    Response,
    /// Something to know.
    Notification,
    /// A judgement of somebody's work.
    Feedback,
}

impl From<message::MessageType> for MessageType {
    fn from(kind: message::MessageType) -> Self {
        match kind {
            message::MessageType::Request => Self::Request,
            message::MessageType::Response => Self::Response,
            message::MessageType::Notification => Self::Notification,
            message::MessageType::Feedback => Self::Feedback,
        }
    }
}

impl From<MessageType> for message::MessageType {
    fn from(kind: MessageType) -> Self {
        match kind {
            MessageType::Request => Self::Request,
            MessageType::Response => Self::Response,
            MessageType::Notification => Self::Notification,
            MessageType::Feedback => Self::Feedback,
        }
    }
}

/// What became of a request, or of an answer to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MessageState {
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

impl From<message::Standing> for MessageState {
    fn from(standing: message::Standing) -> Self {
        use message::Standing;
        match standing {
            Standing::Open => Self::Open,
            Standing::Answered => Self::Answered,
            Standing::TimedOut => Self::TimedOut,
            Standing::Undeliverable => Self::Undeliverable,
            Standing::Unanswered => Self::Unanswered,
            Standing::Accepted => Self::Accepted,
            Standing::Late => Self::Late,
        }
    }
}

/// A message between agents of a workflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentMessage {
    /// Its id; the same however often it is read.
    #[schema(value_type = Uuid)]
    pub id: MessageId,
    /// The agent that sent it; `coordinator` for what the engine tells of every
    /// step: that it begins, and that it succeeded.
    pub from_agent: String,
    /// The agent it is for; `null`: all.
    pub to_agent: Option<String>,
    /// What it is for.
    pub message_type: MessageType,
    /// What it says.
    pub content: Value,
    /// Where it belongs.
    pub metadata: MessageMetadata,
    /// When it was sent.
    #[schema(format = DateTime)]
    pub timestamp: String,
    /// The request that a response answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>)]
    pub in_reply_to: Option<MessageId>,
    /// What became of a request or a response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<MessageState>,
    /// Until when a request is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub expires_at: Option<String>,
    /// The workflow's change in which it was sent.
    pub seq: u64,
}

/// Where a message belongs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MessageMetadata {
    /// The workflow.
    #[schema(value_type = Uuid)]
    pub workflow_id: WorkflowId,
    /// The task that sent it, or that it is about.
    pub task_id: String,
    /// 0 (most urgent) to 9.
    pub priority: u8,
}

impl AgentMessage {
    pub(crate) fn of(workflow: WorkflowId, message: message::Message) -> Self {
        Self {
            id: message.id,
            from_agent: message.from_agent.to_string(),
            to_agent: message.to_agent.map(|agent| agent.to_string()),
            message_type: message.message_type.into(),
            content: serde_json::from_str(message.content.get()).unwrap_or_default(),
            metadata: MessageMetadata {
                workflow_id: workflow,
                task_id: task_id(workflow, &message.from_step),
                priority: message.priority,
            },
            timestamp: message.timestamp,
            in_reply_to: message.in_reply_to,
            state: message.state.map(Into::into),
            expires_at: message.expires_at,
            seq: message.seq,
        }
    }
}

/// An entry of a workflow's shared context.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SharedEntry {
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: Value,
    /// 1 for the first value, one more with every write.
    pub version: u32,
    /// The agent that wrote it last.
    pub by_agent: String,
    /// The task that wrote it last.
    pub by_task: String,
    /// When.
    #[schema(format = DateTime)]
    pub updated_at: String,
}

impl SharedEntry {
    pub(crate) fn of(workflow: WorkflowId, entry: message::ContextEntry) -> Self {
        Self {
            key: entry.key,
            value: serde_json::from_str(entry.value.get()).unwrap_or_default(),
            version: entry.version,
            by_agent: entry.by_agent.to_string(),
            by_task: task_id(workflow, &entry.by_step),
            updated_at: entry.updated_at,
        }
    }
}

/// How one agent talks to another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CommunicationPattern {
    /// Who sends.
    pub from_agent: String,
    /// Who is addressed; `null`: all.
    pub to_agent: Option<String>,
    /// Requests sent.
    pub requests: u64,
    /// Responses sent.
    pub responses: u64,
    /// Notifications sent.
    pub notifications: u64,
    /// Feedback sent.
    pub feedback: u64,
    /// Of the requests, those that were answered.
    pub answered: u64,
    /// Of the requests, those that nobody answered and nobody will.
    pub unanswered: u64,
    /// Half of the answers came within so many milliseconds.
    pub median_response_ms: Option<u64>,
    /// The slowest answer, milliseconds.
    pub slowest_response_ms: Option<u64>,
}

impl From<PatternRow> for CommunicationPattern {
    fn from(row: PatternRow) -> Self {
        let count = |n: i64| u64::try_from(n).unwrap_or(0);
        let ms = |ms: Option<f64>| ms.map(|ms| ms.max(0.0).round() as u64);
        Self {
            from_agent: row.from_agent,
            to_agent: row.to_agent,
            requests: count(row.requests),
            responses: count(row.responses),
            notifications: count(row.notifications),
            feedback: count(row.feedback),
            answered: count(row.answered),
            unanswered: count(row.unanswered),
            median_response_ms: ms(row.median_response_ms),
            slowest_response_ms: ms(row.slowest_response_ms),
        }
    }
}
