//! Accounts: added, listed, removed, tried. A credential goes in and never
//! comes out of here but sealed.

use galley_core::automation::time_zone;
use galley_core::ids::{AccountId, WorkspaceId, is_name};
use galley_core::plan::Problem;
use galley_store::{AccountRow, AccountWrite, StoreError};
use jiff::civil::Time;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::engine::Engine;
use crate::error::EngineError;
use crate::publish::settings;

/// An account to add.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewAccount {
    /// What workflows call it (`a-z0-9_`).
    pub name: String,
    /// The platform: one this deployment has an adapter for.
    pub platform: String,
    /// Whose content it publishes; absent: the platform's own.
    #[serde(default)]
    pub content_platform: Option<String>,
    /// What the adapter needs to know.
    #[serde(default)]
    pub settings: Value,
    /// The secret; write-only.
    pub credential: SecretString,
    /// Its IANA time zone; absent: the workspace's.
    #[serde(default)]
    pub time_zone: Option<String>,
    /// Times of day at which posts go out, `HH:MM`; empty: any time.
    #[serde(default)]
    pub slots: Vec<String>,
    /// Most posts per day.
    #[serde(default)]
    pub max_daily_posts: Option<u32>,
}

impl Engine {
    /// Adds an account.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] with every problem; [`EngineError::Conflict`]
    /// when the name is taken or no key is configured.
    pub async fn add_account(
        &self,
        workspace: WorkspaceId,
        new: NewAccount,
        actor: &str,
    ) -> Result<AccountRow, EngineError> {
        let slots = self.check_account(&new)?;
        let Some(seal) = &self.config().seal else {
            return Err(EngineError::Conflict(
                "this process has no GALLEY_SECRET_KEY to seal credentials with; set it for the API and the workers"
                    .into(),
            ));
        };
        let id = AccountId(Uuid::now_v7());
        let credential = seal
            .seal(workspace, id, &new.credential)
            .map_err(|error| EngineError::Internal(error.to_string()))?;
        let write = AccountWrite {
            id,
            name: new.name.clone(),
            content_platform: new.content_platform.unwrap_or_else(|| new.platform.clone()),
            platform: new.platform,
            settings: new.settings.to_string(),
            credential,
            time_zone: new.time_zone,
            slots,
            max_daily_posts: new.max_daily_posts.map(|limit| i32::try_from(limit).unwrap_or(i32::MAX)),
        };
        match self.store().add_account(workspace, write, actor.to_owned()).await {
            Ok(()) => self.account(workspace, &new.name).await,
            Err(StoreError::Constraint { constraint }) if constraint == "accounts_name_unique" => {
                Err(EngineError::Conflict(format!(
                    "there is an account `{}` already; remove it first, or choose another name",
                    new.name
                )))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// An account by name.
    ///
    /// # Errors
    /// [`EngineError::NotFound`].
    pub async fn account(&self, workspace: WorkspaceId, name: &str) -> Result<AccountRow, EngineError> {
        let account = self.store().account(workspace, name).await?;
        account.ok_or_else(|| EngineError::NotFound { kind: "account", id: name.to_owned() })
    }

    /// Removes an account and its credential. Its posts that are not out become
    /// dead letters when their time comes.
    ///
    /// # Errors
    /// [`EngineError::NotFound`].
    pub async fn remove_account(
        &self,
        workspace: WorkspaceId,
        name: &str,
        actor: &str,
    ) -> Result<(), EngineError> {
        if self.store().remove_account(workspace, name.to_owned(), actor.to_owned()).await? {
            Ok(())
        } else {
            Err(EngineError::NotFound { kind: "account", id: name.to_owned() })
        }
    }

    /// Tries an account without any effect: a sentence either way.
    ///
    /// # Errors
    /// [`EngineError::NotFound`]; [`EngineError::Conflict`] when this process
    /// cannot try it.
    pub async fn test_account(
        &self,
        workspace: WorkspaceId,
        name: &str,
    ) -> Result<Result<String, String>, EngineError> {
        let account = self.account(workspace, name).await?;
        let (Some(seal), Some(platforms)) = (&self.config().seal, &self.config().platforms) else {
            return Err(EngineError::Conflict(
                "this process has no GALLEY_SECRET_KEY or no adapters; accounts cannot be tried here".into(),
            ));
        };
        match seal.open(workspace, account.id, &account.credential) {
            Ok(credential) => {
                Ok(platforms.test(&account.platform, &account.name, &settings(&account), &credential).await)
            }
            Err(error) => Ok(Err(error.to_string())),
        }
    }

    /// Checks everything about an account; answers with its slots, sorted.
    fn check_account(&self, new: &NewAccount) -> Result<Vec<String>, EngineError> {
        let mut problems = Vec::new();
        if !is_name(&new.name) {
            problems.push(Problem::new("name", "use 1-48 of a-z, 0-9 and _, beginning with a letter"));
        }
        if let Some(Err(problem)) = new.time_zone.as_deref().map(time_zone) {
            problems.push(Problem::new("timeZone", problem));
        }
        if new.max_daily_posts == Some(0) {
            problems.push(Problem::new("maxDailyPosts", "at least 1"));
        }
        let mut slots = Vec::with_capacity(new.slots.len());
        for (index, slot) in new.slots.iter().enumerate() {
            match slot.parse::<Time>() {
                Ok(time) if slot.len() == 5 => slots.push(time.strftime("%H:%M").to_string()),
                _ => problems.push(Problem::new(
                    format!("slots[{index}]"),
                    format!("`{slot}` is no time of day: 09:30, 18:00"),
                )),
            }
        }
        slots.sort();
        slots.dedup();
        match &self.config().platforms {
            Some(platforms) if platforms.names().contains(&new.platform) => {
                problems.extend(platforms.check_account(&new.platform, &new.settings, &new.credential));
            }
            Some(platforms) => problems.push(Problem::new(
                "platform",
                format!("no adapter for `{}`; there is: {}", new.platform, platforms.names().join(", ")),
            )),
            None => problems.push(Problem::new("platform", "this process has no adapters for platforms")),
        }
        if problems.is_empty() { Ok(slots) } else { Err(EngineError::Invalid(problems)) }
    }
}
