//! Accounts: a workspace's connections to platforms. A credential goes in and
//! never comes out.

use galley_engine::NewAccount;
use galley_engine::store::AccountRow;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// A connection to a platform, without its credential.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    /// What workflows call it; unique in the workspace.
    pub name: String,
    /// The platform.
    pub platform: String,
    /// Whose content it publishes.
    pub content_platform: String,
    /// What the platform's adapter needs to know.
    pub settings: Value,
    /// Its IANA time zone; null: the workspace's.
    pub time_zone: Option<String>,
    /// Times of day at which posts go out; empty: any time.
    pub slots: Vec<String>,
    /// Most posts per day; null: no limit of its own.
    pub max_daily_posts: Option<u32>,
    /// When it was added.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// Who added it.
    pub created_by: String,
}

impl From<AccountRow> for Account {
    fn from(row: AccountRow) -> Self {
        Self {
            name: row.name,
            platform: row.platform,
            content_platform: row.content_platform,
            settings: serde_json::from_str(&row.settings).unwrap_or_default(),
            time_zone: row.time_zone,
            slots: row.slots,
            max_daily_posts: row.max_daily_posts.map(i32::unsigned_abs),
            created_at: row.created_at,
            created_by: row.created_by,
        }
    }
}

/// A request to add an account.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AddAccount {
    /// What workflows call it: 1-48 of `a-z`, `0-9` and `_`.
    pub name: String,
    /// The platform: one this deployment has an adapter for.
    pub platform: String,
    /// Whose content it publishes; absent: the platform's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_platform: Option<String>,
    /// What the platform's adapter needs to know.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub settings: Map<String, Value>,
    /// The secret. It is sealed before it is stored and never shown.
    #[serde(serialize_with = "expose")]
    #[schema(value_type = String, write_only)]
    pub credential: SecretString,
    /// Its IANA time zone; absent: the workspace's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// Times of day at which posts go out (`09:30`); empty: any time.
    #[serde(default)]
    pub slots: Vec<String>,
    /// Most posts per day of the workspace's time zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub max_daily_posts: Option<u32>,
}

/// Only a request is ever written with it.
fn expose<S: Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose_secret())
}

impl From<AddAccount> for NewAccount {
    fn from(add: AddAccount) -> Self {
        Self {
            name: add.name,
            platform: add.platform,
            content_platform: add.content_platform,
            settings: Value::Object(add.settings),
            credential: add.credential,
            time_zone: add.time_zone,
            slots: add.slots,
            max_daily_posts: add.max_daily_posts,
        }
    }
}

/// How trying an account went. Nothing was published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccountTest {
    /// Whether the platform took the credential.
    pub ok: bool,
    /// What it said, or what is wrong.
    pub told: String,
}

impl From<Result<String, String>> for AccountTest {
    fn from(tried: Result<String, String>) -> Self {
        let ok = tried.is_ok();
        Self { ok, told: tried.unwrap_or_else(|told| told) }
    }
}
