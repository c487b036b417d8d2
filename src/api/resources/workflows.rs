//! Workflows: submit, list, show with the compiled result, cancel.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use galley_core::ids::WorkflowId;
use galley_engine::{MAX_IDEMPOTENCY_KEY_BYTES, SubmitContext, Submitted, WorkflowFilter};
use serde::Deserialize;

use crate::authorize::{CancelWorkflow, May, Read, SubmitWorkflow as MaySubmit};
use crate::compile;
use crate::config::ApiState;
use crate::cursor::Binding;
use crate::error::ApiError;
use crate::extract::{Body, QueryString, header, page_limit, to_the_end, workflow_id};
use crate::trace::traceparent;
use crate::views::{Page, SubmitWorkflow, SubmittedWorkflow, WorkflowDetail, WorkflowState, WorkflowSummary};

/// What makes a repeated submit the same workflow.
const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// Submits a workflow.
///
/// Once it is answered with 202 it is stored and will run, whatever crashes.
/// The same key with the same body finds the same workflow again (200).
#[utoipa::path(
    post, path = "/v1/workflows", operation_id = "submitWorkflow", tag = "workflows",
    params(
        ("Idempotency-Key" = String, Header,
            description = "Names this submit within the workspace, 1-200 bytes: repeat it with the same key"),
        ("traceparent" = Option<String>, Header, description = "The W3C trace the workflow belongs to"),
    ),
    request_body = SubmitWorkflow,
    responses(
        (status = 202, description = "Accepted: it is stored and will run", body = SubmittedWorkflow),
        (status = 200, description = "Known: an earlier request with this key made it", body = SubmittedWorkflow),
        (status = 422, description = "Not valid, or the key was used for another request",
            body = crate::views::Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn submit(
    State(state): State<ApiState>,
    grant: May<MaySubmit>,
    headers: HeaderMap,
    Body(submit): Body<SubmitWorkflow>,
) -> Result<impl IntoResponse, ApiError> {
    let idempotency_key = idempotency_key(&headers)?;
    state.backlog.has_room(state.engine.store(), grant.workspace).await?;
    let context = SubmitContext {
        workspace: grant.workspace,
        actor: grant.actor.to_string(),
        idempotency_key: idempotency_key.to_owned(),
        traceparent: Some(traceparent(&headers)),
    };
    let submitted = to_the_end(async move { state.engine.submit(&context, &submit.into()).await }).await?;
    Ok(accepted(submitted))
}

/// The idempotency key that a submit must have.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<&str, ApiError> {
    header(headers, IDEMPOTENCY_KEY)?.ok_or_else(|| {
        let told = format!(
            "required: 1-{MAX_IDEMPOTENCY_KEY_BYTES} bytes that name this submit, so that repeating it is harmless"
        );
        ApiError::malformed(IDEMPOTENCY_KEY, told)
    })
}

/// An accepted workflow: 202 when this request made it, 200 when an earlier one
/// did.
pub(super) fn accepted(submitted: Submitted) -> impl IntoResponse {
    let status = if submitted.new { StatusCode::ACCEPTED } else { StatusCode::OK };
    let place = format!("/v1/workflows/{}", submitted.workflow);
    let view = SubmittedWorkflow { workflow_id: submitted.workflow, new: submitted.new };
    (status, [(LOCATION, place)], Json(view))
}

/// Which workflows.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListWorkflows {
    /// Only in this state.
    state: Option<WorkflowState>,
    /// Items per page, 1 to 200; 50 when absent.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
    /// The `nextCursor` of the page before.
    cursor: Option<String>,
}

/// Lists workflows, newest first.
///
/// A page may be shorter than its limit, or empty, although more follow: go on
/// until `nextCursor` is absent.
#[utoipa::path(
    get, path = "/v1/workflows", operation_id = "listWorkflows", tag = "workflows",
    params(ListWorkflows),
    responses((status = 200, description = "One page", body = Page<WorkflowSummary>)),
)]
pub(crate) async fn list(
    State(state): State<ApiState>,
    grant: May<Read>,
    QueryString(query): QueryString<ListWorkflows>,
) -> Result<Json<Page<WorkflowSummary>>, ApiError> {
    let limit = page_limit(query.limit)?;
    let binding = Binding::new("workflows", grant.workspace, &query.state);
    let before = binding.open::<WorkflowId>(query.cursor.as_deref())?;
    let filter = WorkflowFilter { state: query.state.map(Into::into), before };
    let (views, next) = state.engine.workflows(grant.workspace, &filter, limit).await?;
    let next_cursor = next.map(|last| binding.seal(last)).transpose()?;
    Ok(Json(Page { items: views.iter().map(compile::summary).collect(), next_cursor }))
}

/// Shows a workflow with its compiled result.
#[utoipa::path(
    get, path = "/v1/workflows/{id}", operation_id = "showWorkflow", tag = "workflows",
    params(("id" = Uuid, Path, description = "The workflow")),
    responses((status = 200, description = "The workflow", body = WorkflowDetail)),
)]
pub(crate) async fn show(
    State(state): State<ApiState>,
    grant: May<Read>,
    Path(id): Path<String>,
) -> Result<Json<WorkflowDetail>, ApiError> {
    let key = grant.key(workflow_id(&id)?);
    let history = state.engine.history(key).await?;
    let waits = state.engine.waits(key).await?;
    Ok(Json(compile::detail(&history, &waits)))
}

/// Cancels a workflow.
///
/// Nothing of it starts any more; running attempts are told to stop and their
/// results are refused.
#[utoipa::path(
    post, path = "/v1/workflows/{id}/cancel", operation_id = "cancelWorkflow", tag = "workflows",
    params(("id" = Uuid, Path, description = "The workflow")),
    responses(
        (status = 200, description = "The workflow as it stands now", body = WorkflowSummary),
        (status = 409, description = "It is over already",
            body = crate::views::Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn cancel(
    State(state): State<ApiState>,
    grant: May<CancelWorkflow>,
    Path(id): Path<String>,
) -> Result<Json<WorkflowSummary>, ApiError> {
    let key = grant.key(workflow_id(&id)?);
    let (engine, actor) = (state.engine.clone(), grant.actor.clone());
    to_the_end(async move { engine.cancel(key, &actor).await }).await?;
    Ok(Json(compile::summary(&state.engine.workflow(key).await?)))
}
