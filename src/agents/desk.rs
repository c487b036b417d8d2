//! The desk: what an agent that calls providers asks of the engine while it
//! runs an attempt. Money first: nothing that costs is called before its bound
//! is reserved. The worker wires it; this room knows no database.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use galley_core::choice::{Experience, Observed, Weights};
use galley_core::figures::{Figures, Period};
use galley_core::money::{Price, Tokens};
use galley_core::report::StepError;
use secrecy::SecretString;

/// A call that costs something, before it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaidCall {
    /// Which call of the attempt, from 0.
    pub call: u16,
    /// Who is asked.
    pub provider: String,
    /// For which model.
    pub model: String,
    /// The most it can cost, millionths of a US dollar.
    pub bound_micros: u64,
}

/// What is known of a model.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Known {
    /// By this workspace, with this agent.
    pub own: Experience,
    /// By all workspaces, of the deployment's provider.
    pub global: Experience,
}

/// An answer that was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The step's output, JSON text.
    pub output: String,
    /// The model that wrote it, as its provider names it.
    pub model: String,
    /// What it cost when it was written, millionths of a US dollar.
    pub cost_micros: u64,
}

/// What the response cache says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookUp {
    /// It is there.
    Kept(Kept),
    /// It is not, and it is yours to write: [`Desk::keep`] or [`Desk::let_go`].
    Yours,
    /// Somebody else is asking just now.
    Busy,
}

/// A provider of the workspace's own, in place of the deployment's of its name.
#[derive(Clone, Debug)]
pub struct OwnProvider {
    /// What it speaks, and what candidates call it.
    pub name: String,
    /// Rises with every change.
    pub version: i64,
    /// Its address; `None`: the public one.
    pub base_url: Option<String>,
    /// The model for candidates that name none.
    pub model: String,
    /// Most calls at once from this process; `None`: any number.
    pub max_concurrency: Option<usize>,
    /// What its models cost, by name; `*` for all others.
    pub prices: BTreeMap<String, Price>,
    /// Its key; `Err`: it has one that cannot be opened, and why.
    pub api_key: Result<Option<SecretString>, String>,
}

/// The workspace's own prompt of an agent, in place of the deployment's.
#[derive(Clone, Debug)]
pub struct OwnPrompt {
    /// Rises with every change.
    pub version: i64,
    /// The templates of the system and the user text; `Err`: they cannot be
    /// opened, and why.
    pub templates: Result<(String, String), String>,
}

/// What an attempt may ask for. Every method may wait for Postgres; dropping
/// its future is allowed at any moment.
#[async_trait]
pub trait Desk: Send + Sync + fmt::Debug {
    /// What the budgets have room for; `None`: anything.
    ///
    /// # Errors
    /// Nobody can say now: another attempt.
    async fn room(&self) -> Result<Option<u64>, StepError>;

    /// Reserves the most a call may cost.
    ///
    /// # Errors
    /// `waiting_budget`: there is no room. `cancelled`: the step was taken from
    /// this attempt; nothing may be called any more.
    async fn reserve(&self, call: PaidCall) -> Result<(), StepError>;

    /// Books what a call came to; `None`: nobody can know, it is charged at
    /// its bound. Goes on in the background if its future is dropped.
    async fn settle(&self, call: u16, cost: Option<u64>, tokens: Tokens);

    /// What is known of these models (`provider:model`), in their order.
    async fn known(&self, models: &[String]) -> Vec<Known>;

    /// What matters how much when a model is chosen.
    async fn weights(&self) -> Weights;

    /// Adds what was seen of a model. `own`: at a provider of the workspace's
    /// own, which is nothing that another workspace can learn from.
    fn learn(&self, model: &str, own: bool, seen: Observed);

    /// A number that is different for every attempt and on record: the seed of
    /// its chances.
    fn seed(&self) -> u64;

    /// Looks for an answer, or takes it on to write one within `lease`.
    async fn look_up(&self, key: &[u8; 32], lease: Duration) -> LookUp;

    /// Keeps an answer for so long.
    async fn keep(&self, key: &[u8; 32], answer: Kept, ttl: Duration);

    /// Gives up what was taken on: there is no answer to keep.
    async fn let_go(&self, key: &[u8; 32]);

    /// The workspace's own providers.
    ///
    /// # Errors
    /// Nobody can say now: another attempt. A call must not go to the
    /// deployment's because nobody knew of the workspace's.
    async fn own_providers(&self) -> Result<Vec<OwnProvider>, StepError> {
        Ok(Vec::new())
    }

    /// The workspace's own prompt of the agent that runs.
    ///
    /// # Errors
    /// Nobody can say now: another attempt. A model must not be asked with the
    /// deployment's because nobody knew of the workspace's.
    async fn own_prompt(&self) -> Result<Option<OwnPrompt>, StepError> {
        Ok(None)
    }

    /// The workspace's own figures over the days that end now.
    ///
    /// # Errors
    /// Nobody can say now: another attempt. `no_figures`: this desk keeps no
    /// records.
    async fn figures(&self, _days: u16) -> Result<Figures, StepError> {
        Err(StepError::permanent("no_figures", "there are no records to sum up here"))
    }
}

/// A desk that knows no limits and remembers nothing: for agents that run
/// outside of a worker.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoDesk;

#[async_trait]
impl Desk for NoDesk {
    async fn room(&self) -> Result<Option<u64>, StepError> {
        Ok(None)
    }

    async fn reserve(&self, _: PaidCall) -> Result<(), StepError> {
        Ok(())
    }

    async fn settle(&self, _: u16, _: Option<u64>, _: Tokens) {}

    async fn known(&self, models: &[String]) -> Vec<Known> {
        vec![Known::default(); models.len()]
    }

    async fn weights(&self) -> Weights {
        Weights::default()
    }

    fn learn(&self, _: &str, _: bool, _: Observed) {}

    fn seed(&self) -> u64 {
        0
    }

    async fn look_up(&self, _: &[u8; 32], _: Duration) -> LookUp {
        LookUp::Yours
    }

    async fn keep(&self, _: &[u8; 32], _: Kept, _: Duration) {}

    async fn let_go(&self, _: &[u8; 32]) {}

    async fn figures(&self, days: u16) -> Result<Figures, StepError> {
        Ok(Figures { period: Period { days, ..Period::default() }, ..Figures::default() })
    }
}
