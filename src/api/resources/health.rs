//! Whether the process lives, and whether it can work. Open to everybody, so
//! they say nothing a stranger should not know.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use galley_engine::store::StoreError;

use crate::config::ApiState;
use crate::views::{Check, Health, Readiness, Ready};

/// How long a store may take to answer before it counts as away.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether the process lives.
#[utoipa::path(
    get, path = "/health", operation_id = "health", tag = "health", security(()),
    responses((status = 200, description = "It lives", body = Health)),
)]
pub(crate) async fn health() -> Json<Health> {
    Json(Health { status: "ok".into(), release: env!("CARGO_PKG_VERSION").into() })
}

/// Whether the process can work.
#[utoipa::path(
    get, path = "/ready", operation_id = "ready", tag = "health", security(()),
    responses(
        (status = 200, description = "It can; perhaps degraded, see `status`", body = Ready),
        (status = 503, description = "It cannot: send requests elsewhere", body = Ready),
    ),
)]
pub(crate) async fn ready(State(state): State<ApiState>) -> (StatusCode, Json<Ready>) {
    let (postgres, redis) = tokio::join!(postgres(&state), redis(&state));
    let status = match (postgres.ok, redis.ok) {
        (true, true) => Readiness::Ready,
        (true, false) => Readiness::Degraded,
        (false, _) => Readiness::NotReady,
    };
    let code = if postgres.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(Ready { status, postgres, redis }))
}

fn passed() -> Check {
    Check { ok: true, detail: None }
}

fn away(detail: &str) -> Check {
    Check { ok: false, detail: Some(detail.into()) }
}

async fn postgres(state: &ApiState) -> Check {
    // A process checks the clock when it starts; here it may be a test's.
    match tokio::time::timeout(PATIENCE, state.engine.store().check_schema(true)).await {
        Ok(Ok(())) => passed(),
        // Our own words: which version there is and what to do.
        Ok(Err(StoreError::Schema(problem))) => away(&problem),
        Ok(Err(error)) => {
            tracing::warn!(%error, "not ready");
            away("Postgres does not answer")
        }
        Err(_) => away("Postgres does not answer in time"),
    }
}

async fn redis(state: &ApiState) -> Check {
    let told = "Redis does not answer: workflows are accepted, new steps start when it is back";
    match tokio::time::timeout(PATIENCE, state.engine.queue().ping()).await {
        Ok(Ok(())) => passed(),
        Ok(Err(error)) => {
            tracing::warn!(%error, "degraded");
            away(told)
        }
        Err(_) => away(told),
    }
}
