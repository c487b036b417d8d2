//! One call to a provider: its bound is reserved before, its bill settled
//! after, whatever happens in between.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use galley_core::money::{Price, Tokens};
use galley_core::report::StepError;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::agent::StepContext;
use crate::definition::Sampling;
use crate::desk::{Desk, PaidCall};
use crate::progress::{Heard, Progress};
use crate::provider::{Answer, Bill, CallError, Configured, Message, Request};

/// Tokens that a provider adds to every message of its own.
const PER_MESSAGE: usize = 32;

/// A step that gives a provider less time than this says nothing about the
/// provider when that is over: it is shared with workspaces that are patient.
const FAIR: Duration = Duration::from_secs(10);

/// What a call came to.
#[derive(Debug)]
pub(crate) struct Called {
    /// The answer, or why there is none.
    pub(crate) answer: Result<Answer, StepError>,
    /// Its tokens, as far as they are known.
    pub(crate) tokens: Tokens,
    /// What it cost, an estimate included.
    pub(crate) cost_micros: u64,
    /// How long it took.
    pub(crate) took: Duration,
}

/// How an answer is sampled, with a cap wherever tokens cost something.
pub(crate) fn capped(sampling: &Sampling, to: &Configured) -> Sampling {
    let most = to.price.filter(|price| !price.is_free()).map(|price| price.max_output);
    let max_tokens = match (sampling.max_tokens, most) {
        (Some(wanted), Some(most)) => Some(wanted.min(most)),
        (wanted, most) => wanted.or(most),
    };
    Sampling { max_tokens, ..sampling.clone() }
}

/// The most that asking this can cost; `None`: no price is known.
pub(crate) fn bound(to: &Configured, messages: &[Message], sampling: &Sampling) -> Option<u64> {
    let bytes: usize = messages.iter().map(|message| message.text.len() + PER_MESSAGE).sum();
    to.price.map(|price| price.bound(bytes, sampling.max_tokens))
}

/// Reserves, asks, settles.
///
/// # Errors
/// The call was not made: there is no money, or the step is somebody else's.
pub(crate) async fn call(
    step: &StepContext,
    to: &Configured,
    request: &Request<'_>,
    number: u16,
    deadline: Instant,
) -> Result<Called, StepError> {
    let bound = bound(to, request.messages, request.sampling).filter(|bound| *bound > 0);
    // Whoever waits for a free place holds no money meanwhile.
    let place = async {
        match &to.room {
            Some(room) => Ok(room.acquire().await.ok()),
            None => Ok(None),
        }
    };
    let _place = within(deadline, &step.cancelled, place).await?;
    let open = match bound {
        Some(bound_micros) => {
            let call = PaidCall {
                call: number,
                provider: to.provider.name().to_owned(),
                model: to.model.clone(),
                bound_micros,
            };
            let mut asked = Asked::new(Arc::clone(&step.desk), call);
            within(deadline, &step.cancelled, async { Ok(asked.heard().await) }).await??;
            Some(Open {
                desk: Some(Arc::clone(&step.desk)),
                call: number,
                price: to.price,
                progress: Arc::clone(request.progress),
            })
        }
        None => None,
    };
    let begun = Instant::now();
    to.breaker.begin(begun.into_std());
    let answered = within(deadline, &step.cancelled, async { Ok(to.provider.complete(request).await) }).await;
    let took = begun.elapsed();
    // Cancelled, or hung up on before anybody could expect an answer.
    let was_cut = answered.as_ref().is_err_and(|ended| ended.class == "cancelled" || took < FAIR);
    let answered = answered.unwrap_or_else(|ended| Err(CallError::unknown(ended)));
    let (answer, bill) = match answered {
        Ok(answer) => {
            let Answer { tokens_in, tokens_out, tokens_cached, .. } = answer;
            let tokens = Tokens { input: tokens_in, cached: tokens_cached, output: tokens_out };
            // A service that does not count is charged at the bound.
            let bill = if tokens == Tokens::default() { Bill::Unknown } else { Bill::Tokens(tokens) };
            (Ok(answer), bill)
        }
        Err(CallError { error, bill }) => (Err(error), bill),
    };
    match &answer {
        Err(_) if was_cut => {}
        Err(error) if is_the_providers(error) => to.breaker.failed(Instant::now().into_std()),
        _ => to.breaker.answered(),
    }
    let (cost, tokens) = match bill {
        Bill::Nothing => (Some(0), Tokens::default()),
        Bill::Unknown => as_far_as_known(&request.progress.heard(), to.price),
        Bill::Tokens(tokens) => (Some(to.price.map_or(0, |price| price.of(tokens))), tokens),
    };
    if let Some(open) = open {
        open.settle(cost, tokens).await;
    }
    Ok(Called { answer, tokens, cost_micros: cost.or(bound).unwrap_or(0), took })
}

/// What a call that was not heard to its end costs: what the provider counted,
/// if it had counted to the end; otherwise nobody can know, and the tokens it
/// had told of are only noted.
fn as_far_as_known(heard: &Heard, price: Option<Price>) -> (Option<u64>, Tokens) {
    let cost = heard.is_whole.then(|| price.map_or(0, |price| price.of(heard.tokens)));
    (cost, heard.tokens)
}

/// Whether the provider is to blame, so that another may do better.
pub(crate) fn is_the_providers(error: &StepError) -> bool {
    matches!(error.class.as_str(), "provider_5xx" | "provider_timeout" | "provider_unreachable")
}

/// A reservation that is under way. Whoever stops waiting for it makes no call:
/// what may be reserved all the same is given back.
struct Asked {
    desk: Arc<dyn Desk>,
    call: u16,
    reserving: Option<JoinHandle<Result<(), StepError>>>,
}

impl Asked {
    fn new(desk: Arc<dyn Desk>, call: PaidCall) -> Self {
        let number = call.call;
        let reserve = {
            let desk = Arc::clone(&desk);
            async move { desk.reserve(call).await }
        };
        Self { desk, call: number, reserving: Some(tokio::spawn(reserve)) }
    }

    async fn heard(&mut self) -> Result<(), StepError> {
        let Some(reserving) = &mut self.reserving else { return Ok(()) };
        let heard = reserving.await;
        self.reserving = None;
        heard.unwrap_or_else(|error| {
            Err(StepError::transient(
                "engine",
                format!("nobody knows whether the call was reserved: {error}"),
            ))
        })
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let (Some(reserving), Ok(runtime)) = (self.reserving.take(), tokio::runtime::Handle::try_current())
        {
            let (desk, call) = (Arc::clone(&self.desk), self.call);
            runtime.spawn(async move {
                let _ = reserving.await;
                desk.settle(call, Some(0), Tokens::default()).await;
            });
        }
    }
}

/// A reservation that is not settled yet. Whoever drops it knows what the call
/// cost only if the provider had told; otherwise it is charged at its bound.
struct Open {
    desk: Option<Arc<dyn Desk>>,
    call: u16,
    price: Option<Price>,
    progress: Arc<Progress>,
}

impl Open {
    async fn settle(mut self, cost: Option<u64>, tokens: Tokens) {
        if let Some(desk) = self.desk.take() {
            desk.settle(self.call, cost, tokens).await;
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let (Some(desk), Ok(runtime)) = (self.desk.take(), tokio::runtime::Handle::try_current()) {
            let call = self.call;
            let (cost, tokens) = as_far_as_known(&self.progress.heard(), self.price);
            runtime.spawn(async move { desk.settle(call, cost, tokens).await });
        }
    }
}

/// Awaits something until it is done, the attempt is cancelled, or time is up.
/// A call is dropped in the last two cases, which closes its connection.
pub(crate) async fn within<T>(
    deadline: Instant,
    cancelled: &CancellationToken,
    work: impl Future<Output = Result<T, StepError>>,
) -> Result<T, StepError> {
    tokio::select! {
        biased;
        () = cancelled.cancelled() => Err(StepError::transient("cancelled", "the attempt was cancelled during the call")),
        done = work => done,
        () = tokio::time::sleep_until(deadline) => {
            Err(StepError::transient("provider_timeout", "the provider did not answer within the step's timeout"))
        }
    }
}

#[cfg(test)]
#[path = "call_tests.rs"]
mod tests;
