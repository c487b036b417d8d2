//! Reading what only the API has: ids and names in paths, the sizes of pages.

use galley_core::ids::{AgentType, ApprovalId, PostId, WorkflowId, is_name};

use crate::error::ApiError;

pub(crate) use galley_edge::body::{Body, MaybeBody, QueryString, header, to_the_end};

/// How many items a page has unless the request says so.
const DEFAULT_LIMIT: usize = 50;

/// How many it may have.
const LARGEST_LIMIT: usize = 200;

/// The size of a page.
pub(crate) fn page_limit(limit: Option<usize>) -> Result<usize, ApiError> {
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if (1..=LARGEST_LIMIT).contains(&limit) {
        Ok(limit)
    } else {
        Err(ApiError::malformed("limit", format!("1 to {LARGEST_LIMIT}; {DEFAULT_LIMIT} when absent")))
    }
}

/// A workflow's id in a path or query.
pub(crate) fn workflow_id(text: &str) -> Result<WorkflowId, ApiError> {
    text.parse().map_err(|_| ApiError::malformed("id", format!("`{text}` is not a workflow id (a UUID)")))
}

/// A post's id in a path.
pub(crate) fn post_id(text: &str) -> Result<PostId, ApiError> {
    text.parse().map_err(|_| ApiError::malformed("id", format!("`{text}` is not a post id (a UUID)")))
}

/// An approval's id in a path.
pub(crate) fn approval_id(text: &str) -> Result<ApprovalId, ApiError> {
    text.parse().map_err(|_| ApiError::malformed("id", format!("`{text}` is not an approval id (a UUID)")))
}

/// Checks an account's name in a path.
pub(crate) fn account_name(text: &str) -> Result<(), ApiError> {
    let told =
        || format!("`{text}` is not an account's name: 1-48 of a-z, 0-9 and _, beginning with a letter");
    if is_name(text) { Ok(()) } else { Err(ApiError::malformed("name", told())) }
}

/// Checks a provider's name in a path.
pub(crate) fn provider_name(text: &str) -> Result<(), ApiError> {
    let known = galley_engine::PROVIDERS;
    let told = || format!("`{text}` is not a provider: {}", known.join(", "));
    if known.contains(&text) { Ok(()) } else { Err(ApiError::malformed("name", told())) }
}

/// Checks a schedule's name in a path.
pub(crate) fn schedule_name(text: &str) -> Result<(), ApiError> {
    let told =
        || format!("`{text}` is not a schedule's name: 1-48 of a-z, 0-9 and _, beginning with a letter");
    if is_name(text) { Ok(()) } else { Err(ApiError::malformed("name", told())) }
}

/// A task's id: its workflow and the name of its step, which may have a dot
/// itself.
pub(crate) fn task_id(text: &str) -> Result<(WorkflowId, &str), ApiError> {
    let parts = text.split_once('.').and_then(|(workflow, step)| Some((workflow.parse().ok()?, step)));
    parts.filter(|(_, step)| !step.is_empty()).ok_or_else(|| {
        ApiError::malformed("taskId", format!("`{text}` is not a task id: <workflow id>.<step name>"))
    })
}

/// An agent type in a path or query.
pub(crate) fn agent_type(text: &str) -> Result<AgentType, ApiError> {
    AgentType::new(text).map_err(|error| ApiError::malformed("agent", error.to_string()))
}
