//! What became of attempts. Every report may be repeated: it recognises itself,
//! and the first one stands.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use futures::future::try_join_all;
use galley_core::report::{Failure, StepError, StepOutput, Usage};
use galley_edge::ApiError;
use galley_edge::body::Body;
use galley_edge::error::Kind;
use galley_engine::{self as engine, Claimed, Lease, Outcome, Report};

use crate::config::GatewayState;
use crate::door::Pass;
use crate::pay::{amount, name, tokens};
use crate::views::{AfterFailure, Bill, Complete, Done, Fail, GiveBack, Recorded};

pub(crate) const OVERTAKEN: Kind =
    Kind::of_its_own("overtaken", "The step is not this attempt's any more", StatusCode::CONFLICT);

/// Most leases given back in one call.
const MOST_BACK: usize = 1_000;

/// Longest class of an error, in bytes.
const MAX_CLASS_BYTES: usize = 48;

/// Reports that an attempt succeeded.
///
/// An output that does not fit the agent's schema is recorded as a failed
/// attempt, `bad_output`, and the answer says so.
#[utoipa::path(
    post, path = "/v1/complete", operation_id = "complete", tag = "steps",
    request_body = Complete,
    responses((status = 200, description = "Recorded, now or by an earlier call", body = Recorded)),
)]
pub(crate) async fn complete(
    State(state): State<GatewayState>,
    pass: Pass,
    Body(done): Body<Complete>,
) -> Result<Json<Recorded>, ApiError> {
    let lease = state.seal.read_lease(&pass, "lease", &done.lease)?;
    let output = StepOutput { output: done.output, usage: usage(done.usage)?, says: done.says };
    let outcome = state.schemas.of(&lease.agent).await?.judge(output);
    record(&state, &lease, done.duration_ms, outcome).await.map(Json)
}

/// Reports that an attempt failed.
#[utoipa::path(
    post, path = "/v1/fail", operation_id = "fail", tag = "steps",
    request_body = Fail,
    responses((status = 200, description = "Recorded, now or by an earlier call", body = Recorded)),
)]
pub(crate) async fn fail(
    State(state): State<GatewayState>,
    pass: Pass,
    Body(failed): Body<Fail>,
) -> Result<Json<Recorded>, ApiError> {
    let lease = state.seal.read_lease(&pass, "lease", &failed.lease)?;
    if !(1..=MAX_CLASS_BYTES).contains(&failed.class.len())
        || !failed.class.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    {
        return Err(ApiError::invalid("class", format!("1-{MAX_CLASS_BYTES} of a-z, 0-9 and _")));
    }
    let failure = match (failed.retry, failed.retry_after_ms, failed.needed_micros) {
        (AfterFailure::Transient, None, None) => Failure::Transient,
        (AfterFailure::Permanent, None, None) => Failure::Permanent,
        (AfterFailure::Throttled, Some(retry_after_ms), None) => Failure::Throttled { retry_after_ms },
        (AfterFailure::Throttled, None, None) => {
            return Err(ApiError::invalid("retryAfterMs", "`throttled` says for how long"));
        }
        (AfterFailure::Unfunded, None, Some(0)) => {
            return Err(ApiError::invalid(
                "neededMicros",
                "more than 0: a call that costs nothing waits for no money",
            ));
        }
        (AfterFailure::Unfunded, None, Some(needed)) => {
            Failure::Unfunded { needed_micros: amount("neededMicros", needed)? }
        }
        (AfterFailure::Unfunded, None, None) => {
            return Err(ApiError::invalid("neededMicros", "`unfunded` says what the next call may cost"));
        }
        (_, Some(_), _) => return Err(ApiError::invalid("retryAfterMs", "only `throttled` has one")),
        (_, None, Some(_)) => return Err(ApiError::invalid("neededMicros", "only `unfunded` has one")),
    };
    let usage = usage(failed.usage)?;
    let error = StepError { class: failed.class, message: failed.message, failure, usage };
    record(&state, &lease, failed.duration_ms, Outcome::Failed(error)).await.map(Json)
}

/// Gives attempts back that will not run here. They do not count.
#[utoipa::path(
    post, path = "/v1/give-back", operation_id = "giveBack", tag = "steps",
    request_body = GiveBack,
    responses((status = 200, description = "Those that were still held are back", body = Done)),
)]
pub(crate) async fn give_back(
    State(state): State<GatewayState>,
    pass: Pass,
    Body(back): Body<GiveBack>,
) -> Result<Json<Done>, ApiError> {
    if back.leases.len() > MOST_BACK {
        return Err(ApiError::invalid("leases", format!("at most {MOST_BACK}")));
    }
    let leases = state.seal.read_leases(&pass, "leases", &back.leases)?;
    Ok(Json(Done { given_back: give_back_all(&state, &leases).await? }))
}

/// Gives leases back; how many were still in force.
pub(crate) async fn give_back_all(state: &GatewayState, leases: &[Lease]) -> Result<usize, ApiError> {
    let claims: Vec<Claimed> = leases.iter().filter_map(Lease::claim).collect();
    give_claims_back(state, &claims).await
}

/// Gives claims back; how many were still in force.
pub(crate) async fn give_claims_back(state: &GatewayState, claims: &[Claimed]) -> Result<usize, ApiError> {
    let each = claims.iter().map(|claim| state.committer.record(Report::of(claim, 0, Outcome::GivenBack)));
    let recorded = try_join_all(each).await?;
    Ok(recorded.iter().filter(|recorded| **recorded == engine::Recorded::Yes).count())
}

async fn record(
    state: &GatewayState,
    lease: &Lease,
    duration_ms: u32,
    mut outcome: Outcome,
) -> Result<Recorded, ApiError> {
    let claim = claim_of(lease)?;
    // Before the outcome: what it cost is real, whatever becomes of that.
    let bill = match &mut outcome {
        Outcome::Succeeded(output) => Some(&mut output.usage),
        Outcome::Failed(error) => Some(&mut error.usage),
        Outcome::GivenBack => None,
    };
    if let Some(bill) = bill {
        *bill = state.engine.book_reported(&claim, std::mem::take(bill)).await?;
    }
    if let Outcome::Failed(error) = &mut outcome {
        doubt_the_need(state, &claim, error).await?;
    }
    let told = match &outcome {
        Outcome::Succeeded(_) => Recorded { outcome: "succeeded".into(), class: None, message: None },
        Outcome::Failed(error) => Recorded {
            outcome: "failed".into(),
            class: Some(error.class.clone()),
            message: Some(error.message.clone()),
        },
        Outcome::GivenBack => Recorded { outcome: "given_back".into(), class: None, message: None },
    };
    match state.committer.record(Report::of(&claim, duration_ms, outcome)).await? {
        engine::Recorded::Yes => {
            let took = std::time::Duration::from_millis(duration_ms.into());
            metrics::histogram!("galley_step_seconds", "agent" => lease.agent.to_string())
                .record(took.as_secs_f64());
            Ok(told)
        }
        engine::Recorded::Stale => Err(ApiError::new(
            OVERTAKEN,
            "the step was taken from this attempt: cancelled, reaped, or run elsewhere; its outcome was dropped, its bill kept",
        )),
    }
}

/// A step that says it waits for money although every budget has room for it
/// would be let on at once, and come back for ever: that is an attempt like any
/// other.
async fn doubt_the_need(
    state: &GatewayState,
    claim: &Claimed,
    error: &mut StepError,
) -> Result<(), ApiError> {
    let Failure::Unfunded { needed_micros } = error.failure else { return Ok(()) };
    if state.engine.money_left(claim.key()).await?.is_some_and(|room| room < needed_micros) {
        return Ok(());
    }
    error.failure = Failure::Transient;
    error.message.push_str(
        " (`unfunded`, but every budget had room for `neededMicros` when this was reported: counted as an attempt)",
    );
    Ok(())
}

/// The claim of a lease.
pub(crate) fn claim_of(lease: &Lease) -> Result<Claimed, ApiError> {
    lease.claim().ok_or_else(|| ApiError::invalid("lease", "not a lease of this release"))
}

fn usage(bill: Bill) -> Result<Usage, ApiError> {
    let Bill { provider, model, tokens_in, tokens_out, cost_micros, cache_hit } = bill;
    amount("usage.costMicros", cost_micros)?;
    tokens("usage.tokensIn", tokens_in)?;
    tokens("usage.tokensOut", tokens_out)?;
    let provider = provider.map(|provider| name("usage.provider", provider)).transpose()?;
    let model = model.map(|model| name("usage.model", model)).transpose()?;
    Ok(Usage { provider, model, tokens_in, tokens_out, cost_micros, cache_hit, ..Usage::default() })
}
