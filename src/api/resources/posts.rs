//! Posts: list, show with the receipt, edit, reschedule, reject, resolve.

use axum::Json;
use axum::extract::{Path, State};
use galley_core::ids::{PostId, WorkflowId};
use galley_core::publish::PostContent;
use galley_engine::Resolution;
use galley_engine::store::PostFilter;
use jiff::Timestamp;
use serde::Deserialize;

use crate::authorize::{Action, ApprovePost, EditPost as MayEdit, May, Read, ResolvePost as MayResolve};
use crate::config::ApiState;
use crate::cursor::Binding;
use crate::error::ApiError;
use crate::extract::{Body, MaybeBody, QueryString, page_limit, post_id, to_the_end};
use crate::views::{
    EditPost, EditedPost, Page, Post, PostDetail, PostState, Reject, ReschedulePost, Resolution as Found,
    ResolvePost,
};

/// Which posts.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListPosts {
    /// Only in this state.
    state: Option<PostState>,
    /// Only of this workflow.
    #[param(value_type = Option<Uuid>)]
    workflow: Option<WorkflowId>,
    /// Only for the account of this name.
    account: Option<String>,
    /// Items per page, 1 to 200; 50 when absent.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
    /// The `nextCursor` of the page before.
    cursor: Option<String>,
}

/// Lists posts, newest first.
#[utoipa::path(
    get, path = "/v1/posts", operation_id = "listPosts", tag = "posts",
    params(ListPosts),
    responses((status = 200, description = "One page", body = Page<Post>)),
)]
pub(crate) async fn list(
    State(state): State<ApiState>,
    grant: May<Read>,
    QueryString(query): QueryString<ListPosts>,
) -> Result<Json<Page<Post>>, ApiError> {
    let limit = page_limit(query.limit)?;
    let filter = PostFilter {
        state: query.state.map(|state| state.word().to_owned()),
        workflow: query.workflow,
        account: query.account,
    };
    let bound_to = (&filter.state, &filter.workflow, &filter.account);
    let binding = Binding::new("posts", grant.workspace, &bound_to);
    let before = binding.open::<(Timestamp, PostId)>(query.cursor.as_deref())?;
    let before = before.map(|(at, id)| (at.to_string(), id));
    // One more than asked for tells whether there is more.
    let mut posts =
        state.engine.store().list_posts(grant.workspace, &filter, before, limit as i64 + 1).await?;
    let more = posts.len() > limit;
    posts.truncate(limit);
    let last = posts.last().filter(|_| more).map(|post| (&post.created_at, post.id));
    let next_cursor = last.map(|last| binding.seal(last)).transpose()?;
    let items = posts.into_iter().map(Post::try_from).collect::<Result<_, _>>()?;
    Ok(Json(Page { items, next_cursor }))
}

/// Shows a post with its receipt.
///
/// Its revisions, who approved which, and the one record of its publication
/// with everything that happened to that.
#[utoipa::path(
    get, path = "/v1/posts/{id}", operation_id = "showPost", tag = "posts",
    params(("id" = Uuid, Path, description = "The post")),
    responses((status = 200, description = "The post", body = PostDetail)),
)]
pub(crate) async fn show(
    State(state): State<ApiState>,
    grant: May<Read>,
    Path(id): Path<String>,
) -> Result<Json<PostDetail>, ApiError> {
    let view = state.engine.post_view(grant.workspace, post_id(&id)?).await?;
    Ok(Json(view.try_into()?))
}

/// Gives a post a new revision.
///
/// It voids every approval of earlier ones. With `approve` it is approved by
/// the caller at once, which takes the right to approve.
#[utoipa::path(
    put, path = "/v1/posts/{id}", operation_id = "editPost", tag = "posts",
    params(("id" = Uuid, Path, description = "The post")),
    request_body = EditPost,
    responses(
        (status = 200, description = "The post, and the question that is open now", body = EditedPost),
        (status = 409, description = "It was changed since, is over, or may be out already",
            body = crate::views::Problem, content_type = "application/problem+json"),
        (status = 422, description = "Its platform would not take it",
            body = crate::views::Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn edit(
    State(state): State<ApiState>,
    grant: May<MayEdit>,
    Path(id): Path<String>,
    Body(edit): Body<EditPost>,
) -> Result<Json<EditedPost>, ApiError> {
    let EditPost { text, link, revision, approve } = edit;
    if approve {
        grant.also(Action::ApprovePost)?;
    }
    let (id, workspace, actor) = (post_id(&id)?, grant.workspace, grant.actor.clone());
    // A revision that cannot be is one that nobody saw.
    let seen = revision.map(|revision| i32::try_from(revision).unwrap_or(i32::MAX));
    let content = PostContent { text, link };
    let engine = state.engine.clone();
    let changed =
        to_the_end(async move { engine.edit_post(workspace, id, &content, seen, approve, &actor).await })
            .await?;
    Ok(Json(changed.try_into()?))
}

/// Gives a post another slot.
///
/// `null` gives the choice back to the account's slots and the limits. The
/// limits hold for a chosen time, too: over them the post moves on.
#[utoipa::path(
    post, path = "/v1/posts/{id}/reschedule", operation_id = "reschedulePost", tag = "posts",
    params(("id" = Uuid, Path, description = "The post")),
    request_body = ReschedulePost,
    responses(
        (status = 200, description = "The post as it stands now", body = Post),
        (status = 409, description = "It is over, or may be out already",
            body = crate::views::Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn reschedule(
    State(state): State<ApiState>,
    grant: May<MayEdit>,
    Path(id): Path<String>,
    Body(when): Body<ReschedulePost>,
) -> Result<Json<Post>, ApiError> {
    let at = when.at.map(|text| {
        text.parse::<Timestamp>().map_err(|_| {
            let told = format!("`{text}` is no time with an offset: 2026-03-01T09:30:00+01:00");
            ApiError::invalid("at", told)
        })
    });
    let at = at.transpose()?;
    let (id, workspace, actor) = (post_id(&id)?, grant.workspace, grant.actor.clone());
    let engine = state.engine.clone();
    let post = to_the_end(async move { engine.reschedule_post(workspace, id, at, &actor).await }).await?;
    Ok(Json(post.try_into()?))
}

/// Says no to a post, whatever it waits for.
#[utoipa::path(
    post, path = "/v1/posts/{id}/reject", operation_id = "rejectPost", tag = "posts",
    params(("id" = Uuid, Path, description = "The post")),
    request_body = Option<Reject>,
    responses(
        (status = 200, description = "The post as it stands now", body = Post),
        (status = 409, description = "It is over, or may be out already",
            body = crate::views::Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn reject(
    State(state): State<ApiState>,
    grant: May<ApprovePost>,
    Path(id): Path<String>,
    MaybeBody(reject): MaybeBody<Reject>,
) -> Result<Json<Post>, ApiError> {
    let (id, workspace, actor) = (post_id(&id)?, grant.workspace, grant.actor.clone());
    let engine = state.engine.clone();
    let post =
        to_the_end(async move { engine.reject_post(workspace, id, reject.note, &actor).await }).await?;
    Ok(Json(post.try_into()?))
}

/// Says what a person found out about a post in doubt.
///
/// `published`: it is there; `not_there`: it is not, send it; `given_up`: it is
/// not, and shall not be.
#[utoipa::path(
    post, path = "/v1/posts/{id}/resolve", operation_id = "resolvePost", tag = "posts",
    params(("id" = Uuid, Path, description = "The post")),
    request_body = ResolvePost,
    responses(
        (status = 200, description = "The post as it stands now", body = Post),
        (status = 409, description = "It is not in doubt, or was sent again since",
            body = crate::views::Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn resolve(
    State(state): State<ApiState>,
    grant: May<MayResolve>,
    Path(id): Path<String>,
    Body(resolve): Body<ResolvePost>,
) -> Result<Json<Post>, ApiError> {
    let ResolvePost { resolution, sends, remote_id, link } = resolve;
    if resolution != Found::Published {
        let only = "goes with the resolution `published` only";
        if remote_id.is_some() {
            return Err(ApiError::invalid("remoteId", only));
        }
        if link.is_some() {
            return Err(ApiError::invalid("link", only));
        }
    }
    let resolution = match resolution {
        Found::Published => Resolution::Published { remote_id, link },
        Found::NotThere => Resolution::NotThere,
        Found::GivenUp => Resolution::GivenUp,
    };
    let (id, workspace, actor) = (post_id(&id)?, grant.workspace, grant.actor.clone());
    let engine = state.engine.clone();
    let post = to_the_end(async move { engine.resolve_post(workspace, id, sends, resolution, &actor).await })
        .await?;
    Ok(Json(post.try_into()?))
}
