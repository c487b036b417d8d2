//! Whether the process lives, and whether it can work. The same routes of every
//! server, whose state knows an engine. Open to everybody, so
//! they say nothing a stranger should not know.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use galley_engine::Engine;
use galley_engine::store::StoreError;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The process answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// Always `ok`: who is not, does not answer.
    pub status: String,
    /// The release it runs.
    pub release: String,
}

/// Whether requests can be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Readiness {
    /// All is well.
    Ready,
    /// Requests are served and workflows accepted, but something is away.
    Degraded,
    /// Requests will fail: send them elsewhere.
    NotReady,
}

/// What a request would need, and whether it is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ready {
    /// The sum of the checks.
    pub status: Readiness,
    /// Postgres answers and its schema is this release's. Essential.
    pub postgres: Check,
    /// Redis answers. Without it workflows are accepted and start later.
    pub redis: Check,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// Whether it passed.
    pub ok: bool,
    /// What it means and what to do, if not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// How long a store may take to answer before it counts as away.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether the process lives.
#[utoipa::path(
    get, path = "/health", operation_id = "health", tag = "health", security(()),
    responses((status = 200, description = "It lives", body = Health)),
)]
pub async fn health() -> Json<Health> {
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
pub async fn ready(State(engine): State<Engine>) -> (StatusCode, Json<Ready>) {
    let (postgres, redis) = tokio::join!(postgres(&engine), redis(&engine));
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

async fn postgres(engine: &Engine) -> Check {
    // A process checks the clock when it starts; here it may be a test's.
    match tokio::time::timeout(PATIENCE, engine.store().check_schema(true)).await {
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

async fn redis(engine: &Engine) -> Check {
    let told = "Redis does not answer: workflows are accepted, new steps start when it is back";
    match tokio::time::timeout(PATIENCE, engine.queue().ping()).await {
        Ok(Ok(())) => passed(),
        Ok(Err(error)) => {
            tracing::warn!(%error, "degraded");
            away(told)
        }
        Err(_) => away(told),
    }
}
