//! The desk of one attempt: what an agent asks for while it runs, answered by
//! the engine. An outage of Postgres never loses money: a call is made only
//! after its reservation was heard to be committed, and a bill is booked until
//! it is.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use galley_agents::{Desk, Kept, Known, LookUp, OwnPrompt, OwnProvider, PaidCall};
use galley_core::choice::{Observed, Weights};
use galley_core::figures::Figures;
use galley_core::money::Tokens;
use galley_core::report::StepError;
use galley_engine::store::{KeptRow, Response};
use galley_engine::{Backoff, Claimed, Engine, EngineError, Funding, NewCall};
use tokio_util::sync::CancellationToken;

/// See the module.
#[derive(Clone)]
pub(crate) struct AttemptDesk {
    pub(crate) engine: Engine,
    pub(crate) claim: Arc<Claimed>,
    pub(crate) cancelled: CancellationToken,
}

impl std::fmt::Debug for AttemptDesk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AttemptDesk").field("claim", &self.claim).finish_non_exhaustive()
    }
}

fn internal(error: &EngineError) -> StepError {
    StepError::transient("engine", format!("the engine could not say: {error}"))
}

impl AttemptDesk {
    /// Repeats a question until Postgres answers or nobody waits any more.
    async fn patiently<T, F>(&self, ask: impl Fn() -> F) -> Result<T, StepError>
    where
        F: Future<Output = Result<T, EngineError>>,
    {
        let mut backoff = Backoff::quick();
        loop {
            match ask().await {
                Ok(answer) => return Ok(answer),
                Err(error) if error.is_transient() => {
                    tracing::debug!(%error, "an attempt waits for Postgres");
                    tokio::select! {
                        () = backoff.wait() => {}
                        () = self.cancelled.cancelled() => {
                            return Err(StepError::transient("cancelled", "the attempt was cancelled"));
                        }
                    }
                }
                Err(error) => return Err(internal(&error)),
            }
        }
    }
}

#[async_trait]
impl Desk for AttemptDesk {
    async fn room(&self) -> Result<Option<u64>, StepError> {
        self.patiently(|| self.engine.money_left(self.claim.key())).await
    }

    async fn reserve(&self, call: PaidCall) -> Result<(), StepError> {
        let PaidCall { call, provider, model, bound_micros } = call;
        let new = NewCall { call, provider, model, bound_micros };
        match self.patiently(|| self.engine.reserve_call(&self.claim, new.clone())).await? {
            Funding::Reserved => Ok(()),
            Funding::Overtaken => Err(StepError::transient(
                "cancelled",
                "the step was taken from this attempt: nothing was asked",
            )),
            Funding::Refused(why) => Err(StepError::unfunded(why, bound_micros)),
            Funding::Taken => Err(StepError::permanent(
                "call_number",
                format!("the agent made call {call} of this attempt before, or with another bound"),
            )),
        }
    }

    async fn settle(&self, call: u16, cost: Option<u64>, tokens: Tokens) {
        // In a task of its own: the bill is real, whoever stops waiting.
        let (engine, claim) = (self.engine.clone(), Arc::clone(&self.claim));
        let booked = tokio::spawn(async move {
            let mut backoff = Backoff::patient();
            while let Err(error) = engine.settle_call(&claim, call, cost, tokens).await {
                if !error.is_transient() {
                    tracing::error!(%error, "a bill cannot be booked; the call is charged at its bound");
                    return;
                }
                tracing::warn!(%error, "a bill cannot be booked yet; trying again");
                backoff.wait().await;
            }
        });
        if let Err(error) = booked.await {
            tracing::error!(%error, "booking a bill ended early; the call is charged at its bound");
        }
    }

    async fn known(&self, models: &[String]) -> Vec<Known> {
        let known = self.engine.known_models(self.claim.ticket.workspace, &self.claim.agent).await;
        let known = known.unwrap_or_else(|error| {
            tracing::debug!(%error, "what is known of models cannot be read; choosing without");
            Arc::default()
        });
        let of = |model: &String| {
            let found = known.iter().find(|known| known.model == *model);
            found.map_or(Known::default(), |found| Known { own: found.own, global: found.global })
        };
        models.iter().map(of).collect()
    }

    async fn weights(&self) -> Weights {
        self.engine.model_weights(self.claim.ticket.workspace).await.unwrap_or_default()
    }

    fn learn(&self, model: &str, own: bool, seen: Observed) {
        self.engine.learn(&self.claim, model, own, seen);
    }

    fn seed(&self) -> u64 {
        self.claim.token.nonce.0
    }

    async fn look_up(&self, key: &[u8; 32], lease: Duration) -> LookUp {
        match self.engine.look_up(&self.claim, *key, lease).await {
            Ok(Response::Kept(KeptRow { output, model, cost_micros })) => {
                LookUp::Kept(Kept { output, model, cost_micros })
            }
            Ok(Response::Yours) => LookUp::Yours,
            Ok(Response::Busy) => LookUp::Busy,
            Err(error) => {
                tracing::debug!(%error, "kept answers cannot be read; asking");
                LookUp::Yours
            }
        }
    }

    async fn keep(&self, key: &[u8; 32], answer: Kept, ttl: Duration) {
        let Kept { output, model, cost_micros } = answer;
        let kept = KeptRow { output, model, cost_micros };
        if let Err(error) = self.engine.keep(&self.claim, *key, kept, ttl).await {
            tracing::debug!(%error, "an answer cannot be kept");
        }
    }

    async fn own_providers(&self) -> Result<Vec<OwnProvider>, StepError> {
        let own = self.patiently(|| self.engine.own_providers(self.claim.ticket.workspace)).await?;
        let own = own.iter().cloned().map(|own| OwnProvider {
            name: own.name,
            version: own.version,
            base_url: own.base_url,
            model: own.model,
            max_concurrency: own.max_concurrency,
            prices: own.prices,
            api_key: own.api_key,
        });
        Ok(own.collect())
    }

    async fn own_prompt(&self) -> Result<Option<OwnPrompt>, StepError> {
        let workspace = self.claim.ticket.workspace;
        let own = self.patiently(|| self.engine.own_prompt(workspace, &self.claim.agent)).await?;
        Ok(own.map(|own| OwnPrompt {
            version: own.version,
            templates: own.templates.clone().map(|templates| (templates.system, templates.user)),
        }))
    }

    async fn let_go(&self, key: &[u8; 32]) {
        if let Err(error) = self.engine.let_go(&self.claim, *key).await {
            tracing::debug!(%error, "a question stays taken until its lease ends");
        }
    }

    async fn figures(&self, days: u16) -> Result<Figures, StepError> {
        self.patiently(|| self.engine.figures(self.claim.ticket.workspace, days)).await
    }
}
