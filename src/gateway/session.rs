//! Heartbeats, and the end of a session.

use axum::Json;
use axum::extract::State;
use galley_edge::ApiError;
use galley_edge::body::Body;
use galley_engine::{self as engine, Lease};

use crate::config::GatewayState;
use crate::door::Pass;
use crate::report::give_back_all;
use crate::seal::{Carried, session_over};
use crate::views::{Close, Done, Heard, Heartbeat};

/// Renews a session, and answers which of its steps nobody waits for any more.
///
/// What was leased to the worker and is not among `holding` for longer than a
/// session may be silent is taken as never arrived, and goes back.
#[utoipa::path(
    post, path = "/v1/heartbeat", operation_id = "heartbeat", tag = "sessions",
    request_body = Heartbeat,
    responses((status = 200, description = "It lives", body = Heard)),
)]
pub(crate) async fn heartbeat(
    State(state): State<GatewayState>,
    pass: Pass,
    Body(beat): Body<Heartbeat>,
) -> Result<Json<Heard>, ApiError> {
    let carried = state.seal.read_session(&pass, &beat.session)?;
    let holding = held(&state, &pass, &carried, &beat.holding)?;
    let stop = hear(&state, &carried, &beat.holding, &holding).await?;
    Ok(Json(Heard { stop }))
}

/// The leases that a worker says it holds: all of this session.
pub(crate) fn held(
    state: &GatewayState,
    pass: &Pass,
    carried: &Carried,
    texts: &[String],
) -> Result<Vec<Lease>, ApiError> {
    // Twice as many as it runs at once: what it reports just now is among them.
    if texts.len() > carried.concurrency * 2 {
        let told = format!("{} leases, of a worker that runs {} at once", texts.len(), carried.concurrency);
        return Err(ApiError::invalid("holding", told));
    }
    let leases = state.seal.read_leases(pass, "holding", texts)?;
    match leases.iter().position(|lease| lease.session != carried.session) {
        Some(place) => Err(ApiError::invalid(&format!("holding[{place}]"), "a lease of another session")),
        None => Ok(leases),
    }
}

/// A sign of life; what to stop.
pub(crate) async fn hear(
    state: &GatewayState,
    carried: &Carried,
    texts: &[String],
    holding: &[Lease],
) -> Result<Vec<String>, ApiError> {
    match state.engine.hear_outside(carried.session, holding).await? {
        engine::Heard::Over => Err(session_over()),
        engine::Heard::Stop(over) => {
            let each = holding.iter().zip(texts).filter(|(lease, _)| over.contains(lease));
            Ok(each.map(|(_, text)| text.clone()).collect())
        }
    }
}

/// Closes a session. What it still holds goes back, uncounted; so does what was
/// leased to it and never arrived.
#[utoipa::path(
    post, path = "/v1/close", operation_id = "close", tag = "sessions",
    request_body = Close,
    responses((status = 200, description = "Closed", body = Done)),
)]
pub(crate) async fn close(
    State(state): State<GatewayState>,
    pass: Pass,
    Body(wish): Body<Close>,
) -> Result<Json<Done>, ApiError> {
    let carried = state.seal.read_session(&pass, &wish.session)?;
    let holding = held(&state, &pass, &carried, &wish.holding)?;
    let held = give_back_all(&state, &holding).await?;
    let lost = state.engine.close_outside(carried.session).await?;
    Ok(Json(Done { given_back: held + lost }))
}
