//! Providers: who answers a prompt, and which of them this process has.
//!
//! Configuration arrives as values ([`ProviderConfig`]); nothing here reads
//! the environment.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use galley_core::agent::AgentSpec;
use galley_core::report::StepError;
use serde::Deserialize;
use serde_json::Value;

use crate::definition::{Candidate, Sampling};
use crate::offline::{Offline, OfflineConfig};
use crate::openai::{OpenAi, OpenAiConfig};
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
    /// What.
    pub text: String,
}

impl Message {
    /// One turn.
    pub fn new(role: Role, text: impl Into<String>) -> Self {
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
    /// Whether the answer was cut at `max_tokens`.
    pub cut: bool,
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
    async fn complete(&self, request: &Request<'_>) -> Result<Answer, StepError>;
}

/// Which providers a process has. Secrets in it do not print.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProviderConfig {
    /// The built-in provider of sample copy.
    pub offline: OfflineConfig,
    /// An OpenAI-compatible service; absent without one.
    pub openai: Option<OpenAiConfig>,
}

/// The configured providers.
#[derive(Default)]
pub struct Providers(BTreeMap<String, Arc<dyn Provider>>);

/// What was picked for one step.
pub struct Choice<'a> {
    /// Who is asked.
    pub provider: &'a dyn Provider,
    /// For which model.
    pub model: &'a str,
}

impl Providers {
    /// The providers of a configuration.
    ///
    /// # Errors
    /// What is wrong with the configuration and what to do.
    pub fn new(config: ProviderConfig) -> Result<Self, String> {
        let mut providers = Self::default();
        if config.offline.enabled {
            providers.add(Offline::new(config.offline));
        }
        if let Some(openai) = config.openai {
            providers.add(OpenAi::new(openai)?);
        }
        Ok(providers)
    }

    /// Adds a provider, in place of one of the same name.
    pub fn add(&mut self, provider: impl Provider + 'static) {
        self.0.insert(provider.name().to_owned(), Arc::new(provider));
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Picks the first candidate whose provider is configured. `None`: there
    /// is none. Everything about choosing a model happens here.
    pub fn choose<'a>(&'a self, candidates: &'a [Candidate]) -> Option<Choice<'a>> {
        candidates.iter().find_map(|candidate| {
            let provider = self.0.get(&candidate.provider)?;
            let model = candidate.model.as_deref().unwrap_or_else(|| provider.default_model());
            Some(Choice { provider: provider.as_ref(), model })
        })
    }
}

impl fmt::Debug for Providers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
