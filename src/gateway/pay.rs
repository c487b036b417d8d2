//! Calls that cost something: reserved before they are made, settled after.
//! What the desk of a worker of ours does in its own process.
//!
//! A reservation is fenced by the lease's epoch and nonce; a bill is not, for
//! it is real whoever holds the step by then. Both may be repeated: the call's
//! number says which it is.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use galley_core::money::{LARGEST_LIMIT, Tokens};
use galley_edge::ApiError;
use galley_edge::body::Body;
use galley_edge::error::Kind;
use galley_engine::store::Booked;
use galley_engine::{Funding, NewCall};

use crate::config::GatewayState;
use crate::door::Pass;
use crate::report::{OVERTAKEN, claim_of};
use crate::views::{CallReserved, CallSettled, ReserveCall, SettleCall};

const NO_MONEY: Kind =
    Kind::of_its_own("no-money", "A budget has no room for this call", StatusCode::PAYMENT_REQUIRED);

const NUMBER_TAKEN: Kind =
    Kind::of_its_own("number-taken", "Another call of the attempt has this number", StatusCode::CONFLICT);

const NOT_RESERVED: Kind = Kind::of_its_own("not-reserved", "No such call is reserved", StatusCode::CONFLICT);

/// Most calls of one attempt.
const MOST_CALLS: u16 = 10_000;

/// Longest name of a provider or a model, in bytes.
const MAX_NAME_BYTES: usize = 100;

/// Reserves what a call may cost at most. Make the call only after a yes.
///
/// Where a budget has no room the answer is a 402 that says which: report the
/// step with `POST /v1/fail`, `retry` `unfunded` and `neededMicros`. It waits
/// for money, and goes on by itself.
#[utoipa::path(
    post, path = "/v1/reserve", operation_id = "reserve", tag = "money",
    request_body = ReserveCall,
    responses((status = 200, description = "The call may be made", body = CallReserved)),
)]
pub(crate) async fn reserve(
    State(state): State<GatewayState>,
    pass: Pass,
    Body(wish): Body<ReserveCall>,
) -> Result<Json<CallReserved>, ApiError> {
    let claim = claim_of(&state.seal.read_lease(&pass, "lease", &wish.lease)?)?;
    let call = number(wish.call)?;
    let (provider, model) = (name("provider", wish.provider)?, name("model", wish.model)?);
    let bound_micros = amount("boundMicros", wish.bound_micros)?;
    let new = NewCall { call, provider, model, bound_micros };
    match state.engine.reserve_call(&claim, new).await? {
        Funding::Reserved => Ok(Json(CallReserved { reserved: true })),
        Funding::Overtaken => Err(ApiError::new(
            OVERTAKEN,
            "the step was taken from this attempt: cancelled, reaped, or run elsewhere; do not make the call",
        )),
        Funding::Taken => Err(ApiError::new(
            NUMBER_TAKEN,
            format!(
                "call {call} of this attempt is settled, or was reserved with another bound; do not make the call, or \
                 reserve it by the next number"
            ),
        )),
        Funding::Refused(why) => Err(ApiError::new(
            NO_MONEY,
            format!(
                "{why}; do not make the call, and report the step with `POST /v1/fail`: `class` `waiting_budget`, \
                 `retry` `unfunded`, `neededMicros` {bound_micros}; it goes on by itself when there is money"
            ),
        )),
    }
}

/// Books what a reserved call came to, whoever holds the step by now.
///
/// A call that is not settled is charged at its bound, once its worker's
/// session is over; a bill that comes later replaces the estimate.
#[utoipa::path(
    post, path = "/v1/settle", operation_id = "settle", tag = "money",
    request_body = SettleCall,
    responses((status = 200, description = "Booked, now or by an earlier call", body = CallSettled)),
)]
pub(crate) async fn settle(
    State(state): State<GatewayState>,
    pass: Pass,
    Body(bill): Body<SettleCall>,
) -> Result<Json<CallSettled>, ApiError> {
    let claim = claim_of(&state.seal.read_lease(&pass, "lease", &bill.lease)?)?;
    let call = number(bill.call)?;
    let cost = bill.cost_micros.map(|cost| amount("costMicros", cost)).transpose()?;
    let input = tokens("tokensIn", bill.tokens_in)?;
    let output = tokens("tokensOut", bill.tokens_out)?;
    let booked = state.engine.settle_call(&claim, call, cost, Tokens { input, cached: 0, output });
    let word = match booked.await? {
        Booked::Now => "now",
        Booked::Before => "before",
        Booked::Late => "late",
        Booked::OverBound { .. } => "over_bound",
        Booked::NotThere => {
            return Err(ApiError::new(
                NOT_RESERVED,
                format!(
                    "call {call} of this attempt was never reserved, or its workspace is erased; what was paid without \
                     a reservation is booked when it is reported: `usage.costMicros` of `complete` or `fail`"
                ),
            ));
        }
    };
    Ok(Json(CallSettled { booked: word.into() }))
}

fn number(call: u16) -> Result<u16, ApiError> {
    if call < MOST_CALLS {
        Ok(call)
    } else {
        Err(ApiError::invalid("call", format!("0 to {}", MOST_CALLS - 1)))
    }
}

/// The name of a provider or a model.
pub(crate) fn name(at: &str, name: String) -> Result<String, ApiError> {
    if (1..=MAX_NAME_BYTES).contains(&name.len()) && !name.chars().any(char::is_control) {
        return Ok(name);
    }
    Err(ApiError::invalid(at, format!("1-{MAX_NAME_BYTES} bytes without control characters")))
}

/// An amount that a ledger can hold.
pub(crate) fn amount(at: &str, micros: u64) -> Result<u64, ApiError> {
    if micros <= LARGEST_LIMIT {
        return Ok(micros);
    }
    Err(ApiError::invalid(at, format!("at most {LARGEST_LIMIT} (ten million dollars)")))
}

/// A number of tokens that a ledger can hold.
pub(crate) fn tokens(at: &str, tokens: u32) -> Result<u32, ApiError> {
    if i32::try_from(tokens).is_ok() { Ok(tokens) } else { Err(ApiError::invalid(at, "at most 2147483647")) }
}
