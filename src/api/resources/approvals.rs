//! Approvals: list, show, approve, reject, edit and approve.

use axum::Json;
use axum::extract::{Path, State};
use galley_core::ids::{ApprovalId, WorkflowId};
use galley_core::publish;
use galley_engine::store::{ApprovalFilter, ApprovalRow};
use galley_engine::{Engine, EngineError};
use serde::Deserialize;

use crate::authorize::{ApprovePost, May, Read};
use crate::config::ApiState;
use crate::cursor::Binding;
use crate::error::ApiError;
use crate::extract::{Body, MaybeBody, QueryString, approval_id, page_limit, to_the_end};
use crate::views::{
    Approval, ApprovalDetail, ApprovalStatus, Approve, EditedPost, Page, PostContent, Reject,
};

/// Which questions.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListApprovals {
    /// Only with this status; pending ones when absent.
    status: Option<ApprovalStatus>,
    /// Only about this workflow.
    #[param(value_type = Option<Uuid>)]
    workflow: Option<WorkflowId>,
    /// Items per page, 1 to 200; 50 when absent.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
    /// The `nextCursor` of the page before.
    cursor: Option<String>,
}

/// Lists questions to people, oldest first.
#[utoipa::path(
    get, path = "/v1/approvals", operation_id = "listApprovals", tag = "approvals",
    params(ListApprovals),
    responses((status = 200, description = "One page", body = Page<Approval>)),
)]
pub(crate) async fn list(
    State(state): State<ApiState>,
    grant: May<Read>,
    QueryString(query): QueryString<ListApprovals>,
) -> Result<Json<Page<Approval>>, ApiError> {
    let limit = page_limit(query.limit)?;
    let status = query.status.unwrap_or(ApprovalStatus::Pending);
    let filter = ApprovalFilter {
        status: Some(status.word().to_owned()),
        workflow: query.workflow,
        ..ApprovalFilter::default()
    };
    let binding = Binding::new("approvals", grant.workspace, &(&filter.status, &filter.workflow));
    let after = binding.open::<ApprovalId>(query.cursor.as_deref())?;
    // One more than asked for tells whether there is more.
    let mut approvals =
        state.engine.store().list_approvals(grant.workspace, &filter, after, limit as i64 + 1).await?;
    let more = approvals.len() > limit;
    approvals.truncate(limit);
    let last = approvals.last().filter(|_| more).map(|approval| approval.id);
    let next_cursor = last.map(|last| binding.seal(last)).transpose()?;
    Ok(Json(Page { items: approvals.into_iter().map(Into::into).collect(), next_cursor }))
}

/// Shows a question with exactly what it is about.
///
/// The content is that of the revision it was asked for, not of the newest:
/// `contentHash` is the hash of what is shown.
#[utoipa::path(
    get, path = "/v1/approvals/{id}", operation_id = "showApproval", tag = "approvals",
    params(("id" = Uuid, Path, description = "The question")),
    responses((status = 200, description = "The question", body = ApprovalDetail)),
)]
pub(crate) async fn show(
    State(state): State<ApiState>,
    grant: May<Read>,
    Path(id): Path<String>,
) -> Result<Json<ApprovalDetail>, ApiError> {
    let asked = state.engine.approval(grant.workspace, approval_id(&id)?).await?;
    Ok(Json(detail(&state.engine, asked).await?))
}

async fn detail(engine: &Engine, asked: ApprovalRow) -> Result<ApprovalDetail, EngineError> {
    let Some((post, revision)) = asked.post else {
        let history = engine.history(asked.key()).await?;
        let input = Some(history.step_input(asked.step));
        return Ok(ApprovalDetail {
            approval: asked.into(),
            account: None,
            platform: None,
            content: None,
            input,
        });
    };
    let row = engine.post(asked.workspace, post).await?;
    let revisions = engine.store().revisions(asked.workspace, post).await?;
    let shown = revisions.iter().find(|row| row.revision == revision);
    let content = shown.map(|row| PostContent::stored(&row.content)).transpose()?;
    Ok(ApprovalDetail {
        approval: asked.into(),
        account: Some(row.account_name),
        platform: Some(row.platform),
        content,
        input: None,
    })
}

/// Approves: exactly the bytes that were shown may go out.
///
/// Send the `contentHash` that was seen; it is compared with what the question
/// is about.
#[utoipa::path(
    post, path = "/v1/approvals/{id}/approve", operation_id = "approve", tag = "approvals",
    params(("id" = Uuid, Path, description = "The question")),
    request_body = Option<Approve>,
    responses(
        (status = 200, description = "The question, answered", body = Approval),
        (status = 409, description = "It was answered, is void, or is about other content",
            body = crate::views::Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn approve(
    State(state): State<ApiState>,
    grant: May<ApprovePost>,
    Path(id): Path<String>,
    MaybeBody(approve): MaybeBody<Approve>,
) -> Result<Json<Approval>, ApiError> {
    let Approve { content_hash, note } = approve;
    let (id, workspace, actor) = (approval_id(&id)?, grant.workspace, grant.actor.clone());
    let engine = state.engine.clone();
    let answered =
        to_the_end(async move { engine.approve(workspace, id, content_hash.as_deref(), note, &actor).await })
            .await?;
    Ok(Json(answered.into()))
}

/// Rejects: a post does not go out, a step that waited for its go fails.
#[utoipa::path(
    post, path = "/v1/approvals/{id}/reject", operation_id = "reject", tag = "approvals",
    params(("id" = Uuid, Path, description = "The question")),
    request_body = Option<Reject>,
    responses(
        (status = 200, description = "The question, answered", body = Approval),
        (status = 409, description = "It was answered or is void",
            body = crate::views::Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn reject(
    State(state): State<ApiState>,
    grant: May<ApprovePost>,
    Path(id): Path<String>,
    MaybeBody(reject): MaybeBody<Reject>,
) -> Result<Json<Approval>, ApiError> {
    let (id, workspace, actor) = (approval_id(&id)?, grant.workspace, grant.actor.clone());
    let engine = state.engine.clone();
    let answered = to_the_end(async move { engine.reject(workspace, id, reject.note, &actor).await }).await?;
    Ok(Json(answered.into()))
}

/// Edits the post and approves the edit.
///
/// The question becomes void: the answer is to a new one, about the new bytes.
#[utoipa::path(
    post, path = "/v1/approvals/{id}/edit", operation_id = "editAndApprove", tag = "approvals",
    params(("id" = Uuid, Path, description = "The question")),
    request_body = PostContent,
    responses(
        (status = 200, description = "The post as it stands now", body = EditedPost),
        (status = 409, description = "It was answered, is void, or is not about a post",
            body = crate::views::Problem, content_type = "application/problem+json"),
        (status = 422, description = "Its platform would not take it",
            body = crate::views::Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn edit(
    State(state): State<ApiState>,
    grant: May<ApprovePost>,
    Path(id): Path<String>,
    Body(content): Body<PostContent>,
) -> Result<Json<EditedPost>, ApiError> {
    let (id, workspace, actor) = (approval_id(&id)?, grant.workspace, grant.actor.clone());
    let engine = state.engine.clone();
    let content = publish::PostContent::from(content);
    let changed = to_the_end(async move {
        let asked = engine.approval(workspace, id).await?;
        let (post, revision) = editable(&asked)?;
        engine.edit_post(workspace, post, &content, Some(revision), true, &actor).await
    })
    .await?;
    Ok(Json(changed.try_into()?))
}

/// The post and revision that an open question is about.
fn editable(asked: &ApprovalRow) -> Result<(galley_core::ids::PostId, i32), EngineError> {
    let id = asked.id;
    if asked.status != "pending" {
        let status = &asked.status;
        return Err(EngineError::Conflict(format!(
            "approval {id} is {status} already; `galley approval list` shows what is open"
        )));
    }
    asked.post.ok_or_else(|| {
        EngineError::Conflict(format!("approval {id} is about a step's input, not about a post's content"))
    })
}
