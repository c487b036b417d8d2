//! What the agents of a workflow say to each other and remember together, and
//! who talks to whom.

use std::collections::HashSet;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use galley_core::ids::MessageId;
use galley_core::message::Message;
use galley_engine::{Engine, EngineError, WorkflowView};
use serde::Deserialize;

use crate::authorize::{May, Read};
use crate::config::ApiState;
use crate::error::ApiError;
use crate::extract::{QueryString, workflow_id};
use crate::follow::{Follower, Tell, Teller, resume_behind};
use crate::views::{AgentMessage, CommunicationPattern, MessageType, Page, SharedEntry};

/// Which messages.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(crate) struct ListMessages {
    /// Only of this type.
    message_type: Option<MessageType>,
    /// Only from this agent; `coordinator` is the engine.
    from_agent: Option<String>,
    /// Only to this agent, or to all.
    to_agent: Option<String>,
}

impl ListMessages {
    fn wants(&self, message: &Message) -> bool {
        let to_me = |to: &String| message.to_agent.as_ref().is_none_or(|agent| agent.as_str() == to);
        self.message_type.is_none_or(|kind| message.message_type == kind.into())
            && self.from_agent.as_ref().is_none_or(|from| message.from_agent.as_str() == from)
            && self.to_agent.as_ref().is_none_or(to_me)
    }
}

/// Lists what was said in a workflow, in order.
///
/// What its steps said to each other, and what the engine told of each step:
/// that it begins (to its agent), and that it succeeded (to all).
#[utoipa::path(
    get, path = "/v1/workflows/{id}/messages", operation_id = "listMessages", tag = "workflows",
    params(("id" = Uuid, Path, description = "The workflow"), ListMessages),
    responses((status = 200, description = "All of them", body = Page<AgentMessage>)),
)]
pub(crate) async fn list(
    State(state): State<ApiState>,
    grant: May<Read>,
    Path(id): Path<String>,
    QueryString(query): QueryString<ListMessages>,
) -> Result<Json<Page<AgentMessage>>, ApiError> {
    let key = grant.key(workflow_id(&id)?);
    let messages = state.engine.messages(key).await?;
    let wanted = messages.into_iter().filter(|message| query.wants(message));
    let items = wanted.map(|message| AgentMessage::of(key.workflow, message)).collect();
    Ok(Json(Page { items, next_cursor: None }))
}

/// Streams what is said in a workflow, as it is said.
///
/// Server-sent events: `event: message` (an AgentMessage). `id` is the number
/// of the workflow's change; send it back as `Last-Event-ID` to resume behind
/// it. After a resumption the notice that a step began may come once more, with
/// the same id; every other message comes once. The stream ends with the
/// workflow.
#[utoipa::path(
    get, path = "/v1/workflows/{id}/messages/live", operation_id = "followMessages", tag = "workflows",
    params(
        ("id" = Uuid, Path, description = "The workflow"),
        ("Last-Event-ID" = Option<u64>, Header, description = "Resume behind this change"),
    ),
    responses((status = 200, description = "`message` events", body = String,
        content_type = "text/event-stream")),
)]
pub(crate) async fn follow(
    State(state): State<ApiState>,
    grant: May<Read>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, ApiError> {
    let key = grant.key(workflow_id(&id)?);
    let last = resume_behind(&headers)?;
    Follower::start(&state, key, last, Messages::default()).await
}

/// Tells messages; each once per connection.
#[derive(Default)]
struct Messages {
    told: HashSet<MessageId>,
}

impl Teller for Messages {
    async fn tell(
        &mut self,
        engine: &Engine,
        view: &WorkflowView,
        since: u64,
    ) -> Result<Vec<Tell>, EngineError> {
        let key = view.row.key;
        let mut messages = engine.messages_of(view).await?;
        // What came after this look is told at the next.
        messages.retain(|message| message.seq > since && message.seq <= view.seq);
        messages.retain(|message| self.told.insert(message.id));
        let mut tells = Vec::with_capacity(messages.len());
        let mut messages = messages.into_iter().peekable();
        while let Some(message) = messages.next() {
            // On the last of a change alone: resuming behind it skips nothing.
            let ends = messages.peek().is_none_or(|next| next.seq != message.seq);
            let id = ends.then_some(message.seq);
            tells.push(Tell::new("message", id, &AgentMessage::of(key.workflow, message)));
        }
        Ok(tells)
    }
}

/// Shows a workflow's shared context, by key.
#[utoipa::path(
    get, path = "/v1/workflows/{id}/context", operation_id = "showContext", tag = "workflows",
    params(("id" = Uuid, Path, description = "The workflow")),
    responses((status = 200, description = "All entries", body = Page<SharedEntry>)),
)]
pub(crate) async fn context(
    State(state): State<ApiState>,
    grant: May<Read>,
    Path(id): Path<String>,
) -> Result<Json<Page<SharedEntry>>, ApiError> {
    let key = grant.key(workflow_id(&id)?);
    let entries = state.engine.shared_context(key).await?;
    let items = entries.into_iter().map(|entry| SharedEntry::of(key.workflow, entry)).collect();
    Ok(Json(Page { items, next_cursor: None }))
}

/// Which time.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct During {
    /// Messages sent from then on, RFC 3339; from the beginning when absent.
    since: Option<String>,
    /// Messages sent before then, RFC 3339; up to now when absent.
    until: Option<String>,
}

/// Sums up who talks to whom, the busiest pair first.
#[utoipa::path(
    get, path = "/v1/communication", operation_id = "showCommunication", tag = "agents",
    params(During),
    responses(
        (status = 200, description = "One item per pair", body = Page<CommunicationPattern>),
        (status = 400, description = "A time is none",
            body = crate::views::Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn patterns(
    State(state): State<ApiState>,
    grant: May<Read>,
    QueryString(during): QueryString<During>,
) -> Result<Json<Page<CommunicationPattern>>, ApiError> {
    for (name, time) in [("since", &during.since), ("until", &during.until)] {
        if time.as_ref().is_some_and(|time| time.parse::<jiff::Timestamp>().is_err()) {
            return Err(ApiError::malformed(name, "a time such as 2026-11-26T12:00:00Z"));
        }
    }
    let (since, until) = (during.since.as_deref(), during.until.as_deref());
    let rows = state.engine.communication(grant.workspace, since, until).await?;
    Ok(Json(Page { items: rows.into_iter().map(Into::into).collect(), next_cursor: None }))
}
