//! Providers: who answers a prompt, and which of them this process has.
//!
//! Configuration arrives as values ([`ProviderConfig`]); nothing here reads
//! the environment.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use galley_core::agent::AgentSpec;
use galley_core::ids::WorkspaceId;
use galley_core::money::{Price, Tokens};
use galley_core::report::StepError;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::breaker::Breaker;
use crate::definition::{Candidate, Sampling};
use crate::desk::OwnProvider;
use crate::offline::{Offline, OfflineConfig};
use crate::own::{OwnEntries, OwnRules};
use crate::prices::Prices;
use crate::progress::Progress;
use crate::remote::{Dialect, Remote, RemoteConfig};
use crate::schema::Schema;

/// Who says something in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The rules.
    System,
    /// The task.
    User,
    /// An earlier answer.
    Assistant,
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What; shared by whoever repeats it.
    pub text: Arc<str>,
}

impl Message {
    /// One turn.
    pub fn new(role: Role, text: impl Into<Arc<str>>) -> Self {
        Self { role, text: text.into() }
    }
}

/// One call to a provider.
#[derive(Debug)]
pub struct Request<'a> {
    /// The agent that asks.
    pub spec: &'a AgentSpec,
    /// The model, at this provider.
    pub model: &'a str,
    /// The agent's output schema, compiled.
    pub output: &'a Schema,
    /// The conversation, ending with a user's turn.
    pub messages: &'a [Message],
    /// How to sample.
    pub sampling: &'a Sampling,
    /// The step input the prompt was made from.
    pub input: &'a Value,
    /// Which attempt of the step this is, from 1.
    pub attempt: u16,
    /// Which call of the attempt this is: 0 first, 1 the repair.
    pub call: u8,
    /// The step's effect key: the same for every attempt.
    pub effect_key: &'a str,
    /// What the call has told so far, for whoever stops waiting for it.
    pub progress: &'a Arc<Progress>,
}

/// What a provider answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The text, not yet read.
    pub text: String,
    /// The model that answered, as the provider names it.
    pub model: String,
    /// Prompt tokens, 0 if the provider does not say.
    pub tokens_in: u32,
    /// Completion tokens, 0 if the provider does not say.
    pub tokens_out: u32,
    /// Prompt tokens that the provider had cached.
    pub tokens_cached: u32,
    /// Whether the answer was cut at `max_tokens`.
    pub cut: bool,
}

/// What a call that failed costs all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bill {
    /// Nothing: it was refused, or never arrived.
    Nothing,
    /// Nobody can know: it may have been answered.
    Unknown,
    /// These tokens.
    Tokens(Tokens),
}

/// A call that failed, and what it costs.
#[derive(Clone, Debug)]
pub struct CallError {
    /// By class, and what should follow.
    pub error: StepError,
    /// What it costs.
    pub bill: Bill,
}

impl CallError {
    /// A failure that costs nothing.
    pub fn free(error: StepError) -> Self {
        Self { error, bill: Bill::Nothing }
    }

    /// A failure of which nobody knows what it costs.
    pub fn unknown(error: StepError) -> Self {
        Self { error, bill: Bill::Unknown }
    }
}

/// Somebody who answers prompts.
///
/// Dropping the future of [`Provider::complete`] must stop the call: that is
/// how a step is cancelled and how its timeout works.
#[async_trait]
pub trait Provider: Send + Sync {
    /// The name candidates refer to.
    fn name(&self) -> &str;

    /// The model used when a candidate names none.
    fn default_model(&self) -> &str;

    /// Asks once.
    ///
    /// # Errors
    /// By class: `provider_throttled`, `provider_5xx`, `provider_timeout`,
    /// `provider_unreachable`, `provider_auth`, `bad_output`, …
    async fn complete(&self, request: &Request<'_>) -> Result<Answer, CallError>;

    /// Whether it only stands in while no other provider is configured.
    fn is_stand_in(&self) -> bool {
        false
    }

    /// Most calls at once from this process; `None`: any number.
    fn concurrency(&self) -> Option<usize> {
        None
    }
}

/// Which providers a process has. Secrets in it do not print.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProviderConfig {
    /// The built-in provider of sample copy.
    pub offline: OfflineConfig,
    /// OpenAI, or a service that speaks as it does; absent without one.
    pub openai: Option<RemoteConfig>,
    /// Anthropic.
    pub anthropic: Option<RemoteConfig>,
    /// Google Gemini.
    pub gemini: Option<RemoteConfig>,
    /// A local Ollama.
    pub ollama: Option<RemoteConfig>,
    /// What workspaces may name for themselves.
    pub own: OwnRules,
}

/// A provider with what this process knows about calling it.
#[derive(Clone)]
pub(crate) struct Entry {
    provider: Arc<dyn Provider>,
    breaker: Arc<Breaker>,
    room: Option<Arc<Semaphore>>,
}

impl Entry {
    pub(crate) fn of(provider: impl Provider + 'static) -> Self {
        let room = provider.concurrency().map(|most| Arc::new(Semaphore::new(most)));
        Self { provider: Arc::new(provider), breaker: Arc::default(), room }
    }

    fn configured(
        &self,
        named: &Candidate,
        own: bool,
        prices: impl FnOnce(&str) -> Option<Price>,
    ) -> Configured {
        let Self { provider, breaker, room } = self.clone();
        let model = named.model.as_deref().unwrap_or_else(|| provider.default_model()).to_owned();
        let name = format!("{}:{model}", named.provider);
        Configured { name, own, price: prices(&model), provider, model, breaker, room }
    }
}

/// The configured providers, and what their models cost.
#[derive(Default)]
pub struct Providers {
    entries: BTreeMap<String, Entry>,
    prices: Prices,
    own: OwnEntries,
}

/// A candidate whose provider is configured.
#[derive(Clone)]
pub struct Configured {
    /// `provider:model`.
    pub name: String,
    /// Whether the provider is the workspace's own: what it does says nothing
    /// about the deployment's of that name.
    pub own: bool,
    /// Who is asked.
    pub provider: Arc<dyn Provider>,
    /// For which model.
    pub model: String,
    /// What it costs; `None`: nobody has said.
    pub price: Option<Price>,
    pub(crate) breaker: Arc<Breaker>,
    pub(crate) room: Option<Arc<Semaphore>>,
}

impl Providers {
    /// The providers of a configuration.
    ///
    /// # Errors
    /// What is wrong with the configuration and what to do.
    pub fn new(config: ProviderConfig, prices: Prices) -> Result<Self, String> {
        let ProviderConfig { offline, openai, anthropic, gemini, ollama, own } = config;
        let mut providers = Self { prices, own: OwnEntries::new(own), ..Self::default() };
        if offline.enabled {
            providers.add(Offline::new(offline));
        }
        let named = [
            ("openai", Dialect::OpenAi, openai),
            ("anthropic", Dialect::Anthropic, anthropic),
            ("gemini", Dialect::Gemini, gemini),
            ("ollama", Dialect::Ollama, ollama),
        ];
        for (name, dialect, config) in named {
            if let Some(config) = config {
                providers.add(Remote::new(name, dialect, config)?);
            }
        }
        Ok(providers)
    }

    /// Adds a provider, in place of one of the same name.
    pub fn add(&mut self, provider: impl Provider + 'static) {
        self.entries.insert(provider.name().to_owned(), Entry::of(provider));
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Whether somebody may answer one of these: a provider of the deployment,
    /// or, where those suffice, one that a workspace can bring.
    pub(crate) fn may_answer(&self, candidates: &[Candidate]) -> bool {
        let brought =
            |candidate: &Candidate| self.own.suffice() && Dialect::of(&candidate.provider).is_some();
        candidates
            .iter()
            .any(|candidate| self.entries.contains_key(&candidate.provider) || brought(candidate))
    }

    /// The candidates whose provider is configured, in their order. A stand-in
    /// is one only where there is no other. A workspace's own providers stand in
    /// place of the deployment's of their name, and what it says they cost comes
    /// first.
    ///
    /// # Errors
    /// One of its own that is a candidate cannot be used.
    pub fn configured_for(
        &self,
        workspace: WorkspaceId,
        candidates: &[Candidate],
        own: &[OwnProvider],
    ) -> Result<Vec<Configured>, StepError> {
        let mut all = Vec::with_capacity(candidates.len());
        for candidate in candidates {
            let Some(own) = own.iter().find(|own| own.name == candidate.provider) else {
                all.extend(self.of_the_deployment(candidate));
                continue;
            };
            let price = |model: &str| {
                let own = own.prices.get(model).or_else(|| own.prices.get("*")).copied();
                own.or_else(|| self.prices.of(&candidate.provider, model))
            };
            all.push(self.own.entry(workspace, own)?.configured(candidate, true, price));
        }
        Ok(without_stand_ins(all))
    }

    fn of_the_deployment(&self, candidate: &Candidate) -> Option<Configured> {
        let entry = self.entries.get(&candidate.provider)?;
        Some(entry.configured(candidate, false, |model| self.prices.of(&candidate.provider, model)))
    }
}

/// A stand-in answers only where there is nobody else.
fn without_stand_ins(all: Vec<Configured>) -> Vec<Configured> {
    let (stand_ins, real): (Vec<_>, Vec<_>) = all.into_iter().partition(|one| one.provider.is_stand_in());
    if real.is_empty() { stand_ins } else { real }
}

impl fmt::Debug for Configured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Configured")
            .field("name", &self.name)
            .field("price", &self.price)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Providers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.entries.keys()).finish()
    }
}
