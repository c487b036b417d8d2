//! The automation config: get, put.

use axum::Json;
use axum::extract::State;
use galley_engine::EngineError;

use crate::authorize::{May, Read, SetAutomation as MaySet};
use crate::config::ApiState;
use crate::error::ApiError;
use crate::extract::{Body, to_the_end};
use crate::views::{Automation, SetAutomation};

/// Shows the workspace's policy.
#[utoipa::path(
    get, path = "/v1/automation", operation_id = "getAutomation", tag = "automation",
    responses((status = 200, description = "The policy; the careful default when nobody set one",
        body = Automation)),
)]
pub(crate) async fn get(
    State(state): State<ApiState>,
    grant: May<Read>,
) -> Result<Json<Automation>, ApiError> {
    let policy = state.engine.policy(grant.workspace).await?;
    Ok(Json(Automation::of(grant.workspace, policy)))
}

/// Replaces the workspace's policy.
///
/// What waits for an approval goes on waiting, however loose the new policy is;
/// a new time zone is in force from its next full day.
#[utoipa::path(
    put, path = "/v1/automation", operation_id = "setAutomation", tag = "automation",
    request_body = SetAutomation,
    responses(
        (status = 200, description = "The policy as it holds now", body = Automation),
        (status = 409, description = "It was changed since it was looked at",
            body = crate::views::Problem, content_type = "application/problem+json"),
        (status = 422, description = "Not valid",
            body = crate::views::Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn set(
    State(state): State<ApiState>,
    grant: May<MaySet>,
    Body(set): Body<SetAutomation>,
) -> Result<Json<Automation>, ApiError> {
    if !set.rules.is_empty() {
        let told = "rules come in a later release; send `[]`: until then every post in the mode `hybrid` \
                    waits for an approval";
        return Err(ApiError::invalid("rules", told));
    }
    let (engine, workspace, actor) = (state.engine.clone(), grant.workspace, grant.actor.clone());
    let policy = to_the_end(async move {
        let current = engine.policy(workspace).await?;
        // A version that cannot be is one that nobody saw.
        let seen = set.version.map(|version| i64::try_from(version).unwrap_or(i64::MAX));
        let seen = seen.or(Some(current.version));
        engine.set_policy(workspace, &set.over(current.config), seen, &actor).await
    });
    let policy = policy.await.map_err(|error: EngineError| ApiError::from(error))?;
    Ok(Json(Automation::of(grant.workspace, policy)))
}
