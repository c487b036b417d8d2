//! Providers of a workspace's own. A key goes in and never comes out.

use std::collections::BTreeMap;

use galley_core::money::Price;
use galley_engine::NewProvider;
use galley_engine::store::ProviderRow;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize, Serializer};
use utoipa::ToSchema;

/// What a model costs, in millionths of a US dollar per million tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModelPrice {
    /// Prompt tokens.
    pub input: u64,
    /// Prompt tokens that the provider had cached; absent: as `input`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached: Option<u64>,
    /// Completion tokens.
    pub output: u64,
    /// Most completion tokens of one call.
    #[schema(minimum = 1)]
    pub max_output: u32,
}

impl From<ModelPrice> for Price {
    fn from(price: ModelPrice) -> Self {
        let ModelPrice { input, cached, output, max_output } = price;
        Self { input, cached, output, max_output }
    }
}

impl From<Price> for ModelPrice {
    fn from(price: Price) -> Self {
        let Price { input, cached, output, max_output } = price;
        Self { input, cached, output, max_output }
    }
}

/// A provider of the workspace's own, without its key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Provider {
    /// What it speaks, and what agents call it.
    pub name: String,
    /// Its address; null: the provider's public one.
    pub base_url: Option<String>,
    /// The model that answers when an agent names none.
    pub model: String,
    /// Whether it has a key.
    pub has_key: bool,
    /// Calls at once from one worker process; null: any number.
    pub max_concurrency: Option<u32>,
    /// What its models cost here, by name; of others the deployment's list tells.
    pub prices: BTreeMap<String, ModelPrice>,
    /// When it was set.
    #[schema(format = DateTime)]
    pub set_at: String,
    /// Who set it.
    pub set_by: String,
}

impl From<ProviderRow> for Provider {
    fn from(row: ProviderRow) -> Self {
        let prices: BTreeMap<String, Price> = serde_json::from_str(&row.prices).unwrap_or_default();
        Self {
            name: row.name,
            base_url: row.base_url,
            model: row.model,
            has_key: row.has_key,
            max_concurrency: row.max_concurrency.map(i32::unsigned_abs),
            prices: prices.into_iter().map(|(model, price)| (model, price.into())).collect(),
            set_at: row.set_at,
            set_by: row.set_by,
        }
    }
}

/// A request to set a provider.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SetProvider {
    /// Its address, before the operation (`https://api.example.com/v1`); absent:
    /// the provider's public one. One of the public internet, unless the
    /// deployment allows others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// The model that answers when an agent names none.
    pub model: String,
    /// The key; absent: it asks for none. It is sealed before it is stored and
    /// never shown.
    #[serde(default, serialize_with = "expose", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, write_only)]
    pub api_key: Option<SecretString>,
    /// Calls at once from one worker process; absent: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 100_000)]
    pub max_concurrency: Option<u32>,
    /// What its models cost, by name; `*` for all that are not named.
    #[serde(default)]
    pub prices: BTreeMap<String, ModelPrice>,
}

/// Only a request is ever written with it.
fn expose<S: Serializer>(secret: &Option<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    match secret {
        Some(secret) => serializer.serialize_some(secret.expose_secret()),
        None => serializer.serialize_none(),
    }
}

impl From<SetProvider> for NewProvider {
    fn from(set: SetProvider) -> Self {
        Self {
            base_url: set.base_url,
            model: set.model,
            api_key: set.api_key,
            max_concurrency: set.max_concurrency,
            prices: set.prices.into_iter().map(|(model, price)| (model, price.into())).collect(),
        }
    }
}
