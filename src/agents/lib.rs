//! What runs a step: the [`Agent`] trait, the [`Registry`], agents defined as
//! data ([`Definitions`]), and the LLM providers behind them.
//!
//! This room sees `galley-core` and what it shares with the engine. It never touches SQL or Redis, never
//! reads the environment (configuration comes in as [`ProviderConfig`]), and
//! never decides what follows a failure: it reports one of core's closed set.
//!
//! The way of one LLM step: [`Registered::run`] checks the input, [`LlmAgent`]
//! renders the prompt, chooses among the models that the money allows, looks for
//! a kept answer, reserves what a call may cost, calls the [`Provider`], settles,
//! reads the answer, asks once for a repair if it does not fit, and goes on to the
//! next model where a provider fails. What it needs of the engine it asks its
//! [`Desk`]. The output is checked again on the way out, as for every agent.

#![allow(
    clippy::result_large_err,
    reason = "a StepError ends an attempt of many milliseconds: moving its 136 bytes once is not worth a box in every signature"
)]

mod agent;
mod analytics;
mod breaker;
mod call;
mod definition;
mod definitions;
mod desk;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod golden;
mod lanes;
mod llm;
mod offline;
mod own;
mod prices;
mod progress;
mod provider;
mod registry;
mod remote;
mod says;
mod schema;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod testing;

pub use agent::{Agent, FnAgent, StepContext, output};
pub use analytics::Analytics;
pub use definition::{Candidate, Definition, LoadError, Sampling};
pub use definitions::Definitions;
pub use desk::{Desk, Kept, Known, LookUp, NoDesk, OwnPrompt, OwnProvider, PaidCall};
pub use llm::LlmAgent;
pub use offline::{Fault, Offline, OfflineConfig, OfflineOrders, Rubbish};
pub use own::OwnRules;
pub use prices::Prices;
pub use progress::{Heard, Progress};
pub use provider::{
    Answer, Bill, CallError, Configured, Message, Provider, ProviderConfig, Providers, Request, Role,
};
pub use registry::{RegisterError, Registered, Registry};
pub use remote::{Dialect, Remote, RemoteConfig};
pub use schema::{Mismatch, Problem, Schema};
