//! Dead letters: list, group, show, retry, discard.

use axum::Json;
use axum::extract::{Path, State};
use galley_core::ids::{StepIndex, WorkflowId};
use galley_engine::store::LetterFilter;
use galley_engine::{LARGEST_LETTER_BATCH, Repair, Repaired};
use serde::Deserialize;
use serde_json::Value;

use crate::authorize::{Grant, May, Read, RepairDeadLetter};
use crate::compile;
use crate::config::ApiState;
use crate::cursor::Binding;
use crate::error::ApiError;
use crate::extract::{Body, MaybeBody, QueryString, page_limit, task_id, to_the_end};
use crate::views::{
    DeadLetter, DeadLetterDetail, DeadLetterGroup, LetterStatus, Page, RefusedRepair, RepairFilter,
    RepairOutcome, RetryDeadLetter,
};

/// Which dead letters.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListDeadLetters {
    /// Only in this status; open ones when absent.
    status: Option<LetterStatus>,
    /// Only of this agent type.
    agent: Option<String>,
    /// Only of this group.
    fingerprint: Option<String>,
    /// Only of this workflow.
    #[param(value_type = Option<Uuid>)]
    workflow: Option<WorkflowId>,
    /// Items per page, 1 to 200; 50 when absent.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
    /// The `nextCursor` of the page before.
    cursor: Option<String>,
}

/// Lists dead letters, oldest workflow first.
#[utoipa::path(
    get, path = "/v1/dead-letters", operation_id = "listDeadLetters", tag = "dead-letters",
    params(ListDeadLetters),
    responses((status = 200, description = "One page", body = Page<DeadLetter>)),
)]
pub(crate) async fn list(
    State(state): State<ApiState>,
    grant: May<Read>,
    QueryString(query): QueryString<ListDeadLetters>,
) -> Result<Json<Page<DeadLetter>>, ApiError> {
    let limit = page_limit(query.limit)?;
    let filter = LetterFilter {
        status: query.status.map(|status| status.word().to_owned()),
        agent: query.agent,
        fingerprint: query.fingerprint,
        workflow: query.workflow,
    };
    let bound_to = (&filter.status, &filter.agent, &filter.fingerprint, &filter.workflow);
    let binding = Binding::new("dead-letters", grant.workspace, &bound_to);
    let after = binding.open::<(WorkflowId, StepIndex)>(query.cursor.as_deref())?;
    // One more than asked for tells whether there is more.
    let mut letters =
        state.engine.store().list_letters(grant.workspace, &filter, after, limit as i64 + 1).await?;
    let more = letters.len() > limit;
    letters.truncate(limit);
    let last = letters.last().filter(|_| more).map(|letter| (letter.key.workflow, letter.step));
    let next_cursor = last.map(|last| binding.seal(last)).transpose()?;
    Ok(Json(Page { items: letters.into_iter().map(Into::into).collect(), next_cursor }))
}

/// Groups the open dead letters by what they died of, largest group first.
#[utoipa::path(
    get, path = "/v1/dead-letters/groups", operation_id = "groupDeadLetters", tag = "dead-letters",
    responses((status = 200, description = "At most 500 groups", body = Page<DeadLetterGroup>)),
)]
pub(crate) async fn groups(
    State(state): State<ApiState>,
    grant: May<Read>,
) -> Result<Json<Page<DeadLetterGroup>>, ApiError> {
    let groups = state.engine.store().letter_groups(grant.workspace).await?;
    Ok(Json(Page { items: groups.into_iter().map(Into::into).collect(), next_cursor: None }))
}

/// Shows a dead letter with its input and its attempts.
#[utoipa::path(
    get, path = "/v1/dead-letters/{taskId}", operation_id = "showDeadLetter", tag = "dead-letters",
    params(("taskId" = String, Path, description = "`<workflow id>.<step name>`")),
    responses((status = 200, description = "The dead letter", body = DeadLetterDetail)),
)]
pub(crate) async fn show(
    State(state): State<ApiState>,
    grant: May<Read>,
    Path(id): Path<String>,
) -> Result<Json<DeadLetterDetail>, ApiError> {
    let (workflow, step_name) = task_id(&id)?;
    let key = grant.key(workflow);
    let history = state.engine.history(key).await?;
    let view = &history.workflow;
    let not_found = || ApiError::not_found("dead letter", &id);
    let step = view.run.find_step(&view.plan, step_name).ok_or_else(not_found)?;
    let letter = state.engine.store().letter(key, step).await?.ok_or_else(not_found)?;
    Ok(Json(DeadLetterDetail {
        letter: letter.into(),
        input: history.step_input(step),
        attempt_log: compile::attempts(&history, step),
    }))
}

/// Retries a dead letter, with fresh attempts.
///
/// `input` replaces the step's whole input: take what `show` says and edit it.
#[utoipa::path(
    post, path = "/v1/dead-letters/{taskId}/retry", operation_id = "retryDeadLetter", tag = "dead-letters",
    params(("taskId" = String, Path, description = "`<workflow id>.<step name>`")),
    request_body = Option<RetryDeadLetter>,
    responses(
        (status = 200, description = "The dead letter as it was", body = DeadLetter),
        (status = 409, description = "The step is not dead any more",
            body = crate::views::Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn retry(
    State(state): State<ApiState>,
    grant: May<RepairDeadLetter>,
    Path(id): Path<String>,
    MaybeBody(retry): MaybeBody<RetryDeadLetter>,
) -> Result<Json<DeadLetter>, ApiError> {
    repair_one(&state, &grant, &id, Repair::Retry, retry.input).await
}

/// Discards a dead letter: the step fails for good.
#[utoipa::path(
    post, path = "/v1/dead-letters/{taskId}/discard", operation_id = "discardDeadLetter", tag = "dead-letters",
    params(("taskId" = String, Path, description = "`<workflow id>.<step name>`")),
    responses(
        (status = 200, description = "The dead letter as it was", body = DeadLetter),
        (status = 409, description = "The step is not dead any more",
            body = crate::views::Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn discard(
    State(state): State<ApiState>,
    grant: May<RepairDeadLetter>,
    Path(id): Path<String>,
) -> Result<Json<DeadLetter>, ApiError> {
    repair_one(&state, &grant, &id, Repair::Discard, None).await
}

async fn repair_one(
    state: &ApiState,
    grant: &Grant,
    id: &str,
    repair: Repair,
    input: Option<Value>,
) -> Result<Json<DeadLetter>, ApiError> {
    let (workflow, step_name) = task_id(id)?;
    let (key, step_name) = (grant.key(workflow), step_name.to_owned());
    let (engine, actor) = (state.engine.clone(), grant.actor.clone());
    let letter =
        to_the_end(async move { engine.repair(key, &step_name, repair, input, &actor).await }).await?;
    Ok(Json(letter.into()))
}

/// Retries the open dead letters that match, at most 1,000 at once.
#[utoipa::path(
    post, path = "/v1/dead-letters/retry", operation_id = "retryDeadLetters", tag = "dead-letters",
    request_body = RepairFilter,
    responses((status = 200, description = "What was, or would be, retried", body = RepairOutcome)),
)]
pub(crate) async fn retry_matching(
    State(state): State<ApiState>,
    grant: May<RepairDeadLetter>,
    Body(filter): Body<RepairFilter>,
) -> Result<Json<RepairOutcome>, ApiError> {
    repair_matching(&state, &grant, Repair::Retry, filter).await
}

/// Discards the open dead letters that match, at most 1,000 at once.
#[utoipa::path(
    post, path = "/v1/dead-letters/discard", operation_id = "discardDeadLetters", tag = "dead-letters",
    request_body = RepairFilter,
    responses((status = 200, description = "What was, or would be, discarded", body = RepairOutcome)),
)]
pub(crate) async fn discard_matching(
    State(state): State<ApiState>,
    grant: May<RepairDeadLetter>,
    Body(filter): Body<RepairFilter>,
) -> Result<Json<RepairOutcome>, ApiError> {
    repair_matching(&state, &grant, Repair::Discard, filter).await
}

async fn repair_matching(
    state: &ApiState,
    grant: &Grant,
    repair: Repair,
    filter: RepairFilter,
) -> Result<Json<RepairOutcome>, ApiError> {
    let RepairFilter { agent, fingerprint, workflow, all, dry_run } = filter;
    let filter = LetterFilter { status: None, agent, fingerprint, workflow };
    let named = filter.agent.is_some() || filter.fingerprint.is_some() || filter.workflow.is_some();
    if !named && !all {
        let told = "name an `agent`, `fingerprint` or `workflow`, or say `all`";
        return Err(ApiError::invalid("body", told));
    }
    if named && all {
        return Err(ApiError::invalid("all", "say `all`, or name a filter, not both"));
    }
    let (engine, workspace, actor) = (state.engine.clone(), grant.workspace, grant.actor.clone());
    let repaired =
        to_the_end(async move { engine.repair_matching(workspace, &filter, repair, dry_run, &actor).await })
            .await?;
    let more = repaired.len() >= LARGEST_LETTER_BATCH;
    let mut outcome = RepairOutcome { dry_run, tasks: Vec::new(), refused: Vec::new(), more };
    for Repaired { letter, refused } in repaired {
        let task_id = compile::task_id(letter.key.workflow, &letter.step_name);
        match refused {
            None => outcome.tasks.push(task_id),
            Some(reason) => outcome.refused.push(RefusedRepair { task_id, reason }),
        }
    }
    Ok(Json(outcome))
}
