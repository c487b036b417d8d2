//! Providers of a workspace's own: set, listed, removed, and opened by whoever
//! runs its agents. A key goes in with its address and is bound to it: moved
//! to another address it does not open.

use std::collections::BTreeMap;
use std::sync::Arc;

use galley_core::hash;
use galley_core::ids::{AccountId, WorkspaceId};
use galley_core::money::Price;
use galley_core::plan::Problem;
use galley_store::{Hashes, KeyedProvider, ProviderRow, ProviderWrite};
use secrecy::SecretString;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::cache::fresh;
use crate::engine::Engine;
use crate::error::EngineError;

/// What a provider can speak; its name says which.
pub const PROVIDERS: [&str; 4] = ["openai", "anthropic", "gemini", "ollama"];

/// Most models with a price of their own at one provider.
const MOST_PRICES: usize = 200;

/// A million dollars for a million tokens, in millionths: more is a slip of the
/// pen.
const DEAREST: u64 = 1_000_000_000_000;

/// A provider to set.
#[derive(Clone, Debug)]
pub struct NewProvider {
    /// Its address; `None`: the provider's public one.
    pub base_url: Option<String>,
    /// The model that answers when an agent names none.
    pub model: String,
    /// The key; `None`: it asks for none.
    pub api_key: Option<SecretString>,
    /// Calls at once from one worker process; `None`: any number.
    pub max_concurrency: Option<u32>,
    /// What its models cost, by name.
    pub prices: BTreeMap<String, Price>,
}

/// A workspace's own provider, ready to be asked.
#[derive(Clone, Debug)]
pub struct OwnProvider {
    /// What it speaks, and what agents call it.
    pub name: String,
    /// Rises with every change.
    pub version: i64,
    /// Its address; `None`: the public one.
    pub base_url: Option<String>,
    /// The model that answers when an agent names none.
    pub model: String,
    /// Calls at once from one worker process; `None`: any number.
    pub max_concurrency: Option<usize>,
    /// What its models cost, by name.
    pub prices: BTreeMap<String, Price>,
    /// Its key; `Err`: it has one that cannot be opened, and why.
    pub api_key: Result<Option<SecretString>, String>,
}

/// What a key is bound to besides its workspace. No account's name has a colon.
fn bound_to(name: &str, base_url: Option<&str>) -> String {
    format!("provider:{name}:{}", base_url.unwrap_or_default())
}

/// Providers have no account.
const NO_ACCOUNT: AccountId = AccountId(Uuid::nil());

impl Engine {
    /// Sets a provider in place of the workspace's own of the same name, and of
    /// the deployment's. What is not given is not there any more, the key
    /// included: it never goes to an address it was not given for.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] with every problem; [`EngineError::Conflict`]
    /// when no key to seal with is configured.
    pub async fn set_provider(
        &self,
        workspace: WorkspaceId,
        name: &str,
        new: NewProvider,
        actor: &str,
    ) -> Result<ProviderRow, EngineError> {
        let problems = self.check_provider(name, &new);
        if !problems.is_empty() {
            return Err(EngineError::Invalid(problems));
        }
        let key = match &new.api_key {
            None => None,
            Some(key) => {
                let bound = bound_to(name, new.base_url.as_deref());
                let sealed = self.seal_credential(workspace, NO_ACCOUNT, &bound, key).await?;
                Some((sealed.data_key, sealed.bytes))
            }
        };
        let unwritable = |error| EngineError::Internal(format!("prices do not serialize: {error}"));
        let prices = serde_json::to_string(&new.prices).map_err(unwritable)?;
        let old = self.own_row(workspace, name).await?;
        let max_concurrency = new.max_concurrency.map(|most| i32::try_from(most).unwrap_or(i32::MAX));
        let told = told(new.base_url.as_deref(), &new.model, max_concurrency, &prices, key.is_some());
        let before = old.as_ref().map(hash_of);
        let write = ProviderWrite {
            name: name.to_owned(),
            base_url: new.base_url,
            model: new.model,
            max_concurrency,
            prices,
            key,
            actor: actor.to_owned(),
            hashes: Hashes { before, after: Some(hash::of_text(&told)) },
            told,
        };
        self.store().set_provider(workspace, write).await?;
        self.provider(workspace, name).await
    }

    /// A workspace's own provider.
    ///
    /// # Errors
    /// [`EngineError::NotFound`].
    pub async fn provider(&self, workspace: WorkspaceId, name: &str) -> Result<ProviderRow, EngineError> {
        let found = self.own_row(workspace, name).await?;
        found.ok_or_else(|| EngineError::NotFound { kind: "provider", id: name.to_owned() })
    }

    async fn own_row(&self, workspace: WorkspaceId, name: &str) -> Result<Option<ProviderRow>, EngineError> {
        let rows = self.store().providers(workspace).await?;
        Ok(rows.into_iter().find(|row| row.name == name))
    }

    /// Removes a workspace's own provider and its key: the deployment's of that
    /// name, if there is one, answers again.
    ///
    /// # Errors
    /// [`EngineError::NotFound`].
    pub async fn remove_provider(
        &self,
        workspace: WorkspaceId,
        name: &str,
        actor: &str,
    ) -> Result<ProviderRow, EngineError> {
        let old = self.provider(workspace, name).await?;
        let hashes = Hashes { before: Some(hash_of(&old)), after: None };
        if self.store().remove_provider(workspace, name.to_owned(), actor.to_owned(), hashes).await? {
            Ok(old)
        } else {
            Err(EngineError::NotFound { kind: "provider", id: name.to_owned() })
        }
    }

    /// A workspace's own providers with their keys opened, as they were at most
    /// [`EngineConfig::policy_memory`](crate::EngineConfig) ago. For whoever runs
    /// its agents.
    ///
    /// # Errors
    /// Postgres is away, or this process' role may not read keys.
    pub async fn own_providers(&self, workspace: WorkspaceId) -> Result<Arc<Vec<OwnProvider>>, EngineError> {
        let read = async {
            let rows = self.store().keyed_providers(workspace).await?;
            let opened: Result<Vec<_>, _> = rows.into_iter().map(|row| self.usable(workspace, row)).collect();
            opened.map(Arc::new)
        };
        fresh(&self.caches().providers, &workspace, self.config().policy_memory, read).await
    }

    fn usable(&self, workspace: WorkspaceId, keyed: KeyedProvider) -> Result<OwnProvider, EngineError> {
        let KeyedProvider { row, key } = keyed;
        let api_key = match key {
            Some((sealed, data_key)) => {
                let bound = bound_to(&row.name, row.base_url.as_deref());
                self.open_for(workspace, NO_ACCOUNT, &bound, &sealed, &data_key).map(Some)
            }
            // Its data key is gone: somebody removed it by hand.
            None if row.has_key => Err("what it was sealed with is gone".to_owned()),
            None => Ok(None),
        };
        let prices = serde_json::from_str(&row.prices).map_err(|error| {
            EngineError::Internal(format!("the prices of provider {} cannot be read: {error}", row.name))
        })?;
        Ok(OwnProvider {
            name: row.name,
            version: row.version,
            base_url: row.base_url,
            model: row.model,
            max_concurrency: row.max_concurrency.and_then(|most| usize::try_from(most).ok()),
            prices,
            api_key,
        })
    }

    fn check_provider(&self, name: &str, new: &NewProvider) -> Vec<Problem> {
        let mut problems = Vec::new();
        if !PROVIDERS.contains(&name) {
            problems.push(Problem::new("name", format!("one of {}", PROVIDERS.join(", "))));
        }
        if let Some(url) = &new.base_url
            && let Err(problem) = self.config().targets.check_text(url)
        {
            problems.push(Problem::new("baseUrl", problem));
        }
        let fits =
            |text: &str| !text.trim().is_empty() && text.len() <= 200 && !text.chars().any(char::is_control);
        if !fits(&new.model) {
            problems.push(Problem::new("model", "name the model that answers when an agent names none"));
        }
        if new.max_concurrency.is_some_and(|most| !(1..=100_000).contains(&most)) {
            problems.push(Problem::new("maxConcurrency", "1 to 100000"));
        }
        if new.prices.len() > MOST_PRICES {
            problems.push(Problem::new("prices", format!("at most {MOST_PRICES} models")));
        }
        for (model, price) in &new.prices {
            let dearest = [price.input, price.output, price.cached.unwrap_or(0)].into_iter().max();
            if !fits(model) || dearest > Some(DEAREST) || price.max_output == 0 {
                let told = "micro-dollars per million tokens, at most 1000000000000; maxOutput at least 1";
                problems.push(Problem::new(format!("prices.{model}"), told));
            }
        }
        problems
    }
}

/// What of a provider may be told.
fn told(base_url: Option<&str>, model: &str, most: Option<i32>, prices: &str, has_key: bool) -> String {
    let prices: Value = serde_json::from_str(prices).unwrap_or_default();
    json!({ "baseUrl": base_url, "model": model, "maxConcurrency": most, "prices": prices, "hasKey": has_key })
        .to_string()
}

fn hash_of(row: &ProviderRow) -> String {
    let ProviderRow { base_url, model, max_concurrency, prices, has_key, .. } = row;
    hash::of_text(&told(base_url.as_deref(), model, *max_concurrency, prices, *has_key))
}
