//! Schedules: add, list, show, change, pause, resume, run now, remove.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use galley_engine::EngineError;
use serde::Deserialize;

use super::workflows::{accepted, idempotency_key};
use crate::authorize::{ManageSchedules, May, Read};
use crate::config::ApiState;
use crate::cursor::Binding;
use crate::error::ApiError;
use crate::extract::{Body, QueryString, page_limit, schedule_name, to_the_end};
use crate::trace::traceparent;
use crate::views::{AddSchedule, Page, Schedule, ScheduleDetail, SetSchedule, SubmittedWorkflow};

/// Which schedules.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListSchedules {
    /// Items per page, 1 to 200; 50 when absent.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
    /// The `nextCursor` of the page before.
    cursor: Option<String>,
}

/// Lists the schedules, by name.
#[utoipa::path(
    get, path = "/v1/schedules", operation_id = "listSchedules", tag = "schedules",
    params(ListSchedules),
    responses((status = 200, description = "One page", body = Page<Schedule>)),
)]
pub(crate) async fn list(
    State(state): State<ApiState>,
    grant: May<Read>,
    QueryString(query): QueryString<ListSchedules>,
) -> Result<Json<Page<Schedule>>, ApiError> {
    let limit = page_limit(query.limit)?;
    let binding = Binding::new("schedules", grant.workspace, &());
    let after = binding.open::<String>(query.cursor.as_deref())?;
    let (views, last) = state.engine.schedules(grant.workspace, after.as_deref(), limit).await?;
    let next_cursor = last.map(|last| binding.seal(last)).transpose()?;
    Ok(Json(Page { items: views.into_iter().map(Into::into).collect(), next_cursor }))
}

/// Adds a schedule.
///
/// What it submits is checked now as a submit is. It runs while the workspace's
/// `scheduleAutomation` is true.
#[utoipa::path(
    post, path = "/v1/schedules", operation_id = "addSchedule", tag = "schedules",
    request_body = AddSchedule,
    responses(
        (status = 201, description = "Added", body = ScheduleDetail),
        (status = 409, description = "The name is taken",
            body = crate::views::Problem, content_type = "application/problem+json"),
        (status = 422, description = "Not valid: every problem is named",
            body = crate::views::Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn add(
    State(state): State<ApiState>,
    grant: May<ManageSchedules>,
    Body(add): Body<AddSchedule>,
) -> Result<impl IntoResponse, ApiError> {
    let (engine, workspace, actor) = (state.engine.clone(), grant.workspace, grant.actor.clone());
    let added = to_the_end(async move { engine.add_schedule(workspace, add.into(), &actor).await }).await?;
    Ok((StatusCode::CREATED, Json(ScheduleDetail::from(added))))
}

/// Shows a schedule with its next times.
#[utoipa::path(
    get, path = "/v1/schedules/{name}", operation_id = "showSchedule", tag = "schedules",
    params(("name" = String, Path, description = "The schedule's name")),
    responses((status = 200, description = "The schedule", body = ScheduleDetail)),
)]
pub(crate) async fn show(
    State(state): State<ApiState>,
    grant: May<Read>,
    Path(name): Path<String>,
) -> Result<Json<ScheduleDetail>, ApiError> {
    schedule_name(&name)?;
    Ok(Json(state.engine.schedule(grant.workspace, &name).await?.into()))
}

/// Replaces what a schedule submits and when.
///
/// Where its times change it goes on with the next one to come.
#[utoipa::path(
    put, path = "/v1/schedules/{name}", operation_id = "setSchedule", tag = "schedules",
    params(("name" = String, Path, description = "The schedule's name")),
    request_body = SetSchedule,
    responses(
        (status = 200, description = "The schedule as it is now", body = ScheduleDetail),
        (status = 409, description = "It was changed since it was looked at",
            body = crate::views::Problem, content_type = "application/problem+json"),
        (status = 422, description = "Not valid: every problem is named",
            body = crate::views::Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn set(
    State(state): State<ApiState>,
    grant: May<ManageSchedules>,
    Path(name): Path<String>,
    Body(set): Body<SetSchedule>,
) -> Result<Json<ScheduleDetail>, ApiError> {
    schedule_name(&name)?;
    let (engine, workspace, actor) = (state.engine.clone(), grant.workspace, grant.actor.clone());
    // A version that cannot be is one that nobody saw.
    let seen = set.version.map(|version| i64::try_from(version).unwrap_or(i64::MAX));
    let changed =
        to_the_end(async move { engine.set_schedule(workspace, &name, set.into(), seen, &actor).await });
    Ok(Json(changed.await?.into()))
}

/// Removes a schedule. The workflows it made stay.
#[utoipa::path(
    delete, path = "/v1/schedules/{name}", operation_id = "removeSchedule", tag = "schedules",
    params(("name" = String, Path, description = "The schedule's name")),
    responses((status = 200, description = "The schedule as it was", body = Schedule)),
)]
pub(crate) async fn remove(
    State(state): State<ApiState>,
    grant: May<ManageSchedules>,
    Path(name): Path<String>,
) -> Result<Json<Schedule>, ApiError> {
    schedule_name(&name)?;
    let (engine, workspace, actor) = (state.engine.clone(), grant.workspace, grant.actor.clone());
    let removed = to_the_end(async move {
        let schedule = engine.schedule(workspace, &name).await?;
        engine.remove_schedule(workspace, &name, &actor).await?;
        Ok::<_, EngineError>(schedule)
    })
    .await?;
    Ok(Json(removed.into()))
}

/// Pauses a schedule: its times pass by until it is resumed.
#[utoipa::path(
    post, path = "/v1/schedules/{name}/pause", operation_id = "pauseSchedule", tag = "schedules",
    params(("name" = String, Path, description = "The schedule's name")),
    responses(
        (status = 200, description = "The schedule as it is now", body = ScheduleDetail),
        (status = 409, description = "It is paused already",
            body = crate::views::Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn pause(
    State(state): State<ApiState>,
    grant: May<ManageSchedules>,
    Path(name): Path<String>,
) -> Result<Json<ScheduleDetail>, ApiError> {
    schedule_name(&name)?;
    let (engine, workspace, actor) = (state.engine.clone(), grant.workspace, grant.actor.clone());
    let paused = to_the_end(async move { engine.pause_schedule(workspace, &name, &actor).await }).await?;
    Ok(Json(paused.into()))
}

/// Lets a paused schedule go on with its next time to come.
#[utoipa::path(
    post, path = "/v1/schedules/{name}/resume", operation_id = "resumeSchedule", tag = "schedules",
    params(("name" = String, Path, description = "The schedule's name")),
    responses(
        (status = 200, description = "The schedule as it is now", body = ScheduleDetail),
        (status = 409, description = "It is not paused",
            body = crate::views::Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn resume(
    State(state): State<ApiState>,
    grant: May<ManageSchedules>,
    Path(name): Path<String>,
) -> Result<Json<ScheduleDetail>, ApiError> {
    schedule_name(&name)?;
    let (engine, workspace, actor) = (state.engine.clone(), grant.workspace, grant.actor.clone());
    let resumed = to_the_end(async move { engine.resume_schedule(workspace, &name, &actor).await }).await?;
    Ok(Json(resumed.into()))
}

/// Submits now what a schedule submits.
///
/// Paused or not, and whatever `scheduleAutomation` says: a person wants it. It
/// goes on waiting for its next time.
#[utoipa::path(
    post, path = "/v1/schedules/{name}/run", operation_id = "runSchedule", tag = "schedules",
    params(
        ("name" = String, Path, description = "The schedule's name"),
        ("Idempotency-Key" = String, Header,
            description = "Names this submit within the workspace, 1-200 bytes: repeat it with the same key"),
        ("traceparent" = Option<String>, Header, description = "The W3C trace the workflow belongs to"),
    ),
    responses(
        (status = 202, description = "Accepted: it is stored and will run", body = SubmittedWorkflow),
        (status = 200, description = "Known: an earlier request with this key made it", body = SubmittedWorkflow),
        (status = 422, description = "What it submits is not valid any more, or the key was used for another request",
            body = crate::views::Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn run(
    State(state): State<ApiState>,
    grant: May<ManageSchedules>,
    headers: HeaderMap,
    Path(name): Path<String>,
) -> Result<impl IntoResponse, ApiError> {
    schedule_name(&name)?;
    let key = idempotency_key(&headers)?.to_owned();
    state.backlog.has_room(state.engine.store(), grant.workspace).await?;
    let trace = Some(traceparent(&headers));
    let (engine, workspace, actor) = (state.engine.clone(), grant.workspace, grant.actor.clone());
    let submitted =
        to_the_end(async move { engine.run_schedule(workspace, &name, &key, trace, &actor).await }).await?;
    Ok(accepted(submitted))
}
