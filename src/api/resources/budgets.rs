//! Money: the limits of a workspace and of a workflow, and what was spent.

use axum::Json;
use axum::extract::{Path, State};
use galley_core::ids::WorkflowId;
use galley_engine::{EngineError, store};
use serde::Deserialize;

use crate::authorize::{Grant, May, Read, SetBudget as MaySet};
use crate::config::ApiState;
use crate::error::ApiError;
use crate::extract::{Body, QueryString, to_the_end, workflow_id};
use crate::views::{Budget, SetBudget, SetWorkflowBudget, Spend, SpendBy};

/// Whose budget.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ShowBudget {
    /// With what this workflow spent.
    #[param(value_type = Option<Uuid>)]
    workflow: Option<WorkflowId>,
}

/// Shows what the workspace may spend and what it spent.
#[utoipa::path(
    get, path = "/v1/budget", operation_id = "getBudget", tag = "budget",
    params(ShowBudget),
    responses((status = 200, description = "The limits; none where nobody set any", body = Budget)),
)]
pub(crate) async fn get(
    State(state): State<ApiState>,
    grant: May<Read>,
    QueryString(query): QueryString<ShowBudget>,
) -> Result<Json<Budget>, ApiError> {
    shown(&state, &grant, query.workflow).await
}

async fn shown(
    state: &ApiState,
    grant: &Grant,
    workflow: Option<WorkflowId>,
) -> Result<Json<Budget>, ApiError> {
    let view = state.engine.budget(grant.workspace, workflow.map(|workflow| grant.key(workflow))).await?;
    let savings = state.engine.savings(grant.workspace).await?;
    Ok(Json(Budget::of(grant.workspace, view, savings)))
}

/// Replaces the workspace's limits.
///
/// Steps that wait for money go on by themselves where there is room now. What
/// was spent stays spent: a lower limit stops further calls at once.
#[utoipa::path(
    put, path = "/v1/budget", operation_id = "setBudget", tag = "budget",
    request_body = SetBudget,
    responses(
        (status = 200, description = "The budget as it holds now", body = Budget),
        (status = 409, description = "It was changed since it was looked at",
            body = crate::views::Problem, content_type = "application/problem+json"),
        (status = 422, description = "Not valid",
            body = crate::views::Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn set(
    State(state): State<ApiState>,
    grant: May<MaySet>,
    Body(set): Body<SetBudget>,
) -> Result<Json<Budget>, ApiError> {
    let (engine, workspace, actor) = (state.engine.clone(), grant.workspace, grant.actor.clone());
    let done = to_the_end(async move {
        let current = engine.budget(workspace, None).await?.row;
        // A version that cannot be is one that nobody saw.
        let seen = set.version.map(|version| i64::try_from(version).unwrap_or(i64::MAX));
        let seen = seen.or(Some(current.version));
        engine.set_budget(workspace, set.over(current.budget), seen, &actor).await
    });
    done.await.map_err(|error: EngineError| ApiError::from(error))?;
    shown(&state, &grant, None).await
}

/// Gives a workflow a limit of its own.
#[utoipa::path(
    put, path = "/v1/workflows/{id}/budget", operation_id = "setWorkflowBudget", tag = "budget",
    params(("id" = Uuid, Path, description = "The workflow's id")),
    request_body = SetWorkflowBudget,
    responses(
        (status = 200, description = "The budget as it holds now, with this workflow's", body = Budget),
        (status = 422, description = "Not valid",
            body = crate::views::Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn set_workflow(
    State(state): State<ApiState>,
    grant: May<MaySet>,
    Path(id): Path<String>,
    Body(set): Body<SetWorkflowBudget>,
) -> Result<Json<Budget>, ApiError> {
    let workflow = workflow_id(&id)?;
    let (engine, key, actor) = (state.engine.clone(), grant.key(workflow), grant.actor.clone());
    let done = to_the_end(async move { engine.set_workflow_budget(key, set.limit_micros, &actor).await });
    done.await.map_err(|error: EngineError| ApiError::from(error))?;
    shown(&state, &grant, Some(workflow)).await
}

/// Which spend.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListSpend {
    /// What to sum up by; days when absent.
    #[serde(default)]
    by: SpendBy,
    /// The first day, `2026-11-01`; the first of this month when absent.
    since: Option<String>,
    /// The last day; today when absent.
    until: Option<String>,
}

/// Sums up what was spent between two days of the workspace.
#[utoipa::path(
    get, path = "/v1/spend", operation_id = "listSpend", tag = "budget",
    params(ListSpend),
    responses(
        (status = 200, description = "The sums", body = Spend),
        (status = 422, description = "A day is none",
            body = crate::views::Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn spend(
    State(state): State<ApiState>,
    grant: May<Read>,
    QueryString(query): QueryString<ListSpend>,
) -> Result<Json<Spend>, ApiError> {
    let by = match query.by {
        SpendBy::Day => store::SpendBy::Day,
        SpendBy::Agent => store::SpendBy::Agent,
        SpendBy::Model => store::SpendBy::Model,
        SpendBy::Workflow => store::SpendBy::Workflow,
        SpendBy::Account => store::SpendBy::Account,
    };
    let spend = state.engine.spend(grant.workspace, by, query.since.as_deref(), query.until.as_deref());
    let (since, until, total_micros, rows) = spend.await?;
    Ok(Json(Spend {
        by: query.by,
        since: since.to_string(),
        until: until.to_string(),
        total_micros,
        items: rows.into_iter().map(Into::into).collect(),
    }))
}
