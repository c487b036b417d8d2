//! Accounts: added, listed, removed, tried. A credential goes in and never
//! comes out of here but sealed.

use std::time::{Duration, Instant};

use galley_core::automation::{MOST_DAILY_POSTS, time_zone};
use galley_core::ids::{AccountId, WorkspaceId, is_name};
use galley_core::plan::Problem;
use galley_store::{AccountRow, AccountWrite, AuditWrite, CheckRow, Hashes, StoreError};
use jiff::civil::Time;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::engine::Engine;
use crate::error::EngineError;
use crate::platforms::Platforms;
use crate::publish::settings;

/// How often whoever asked looks for the answer.
const CHECK_EVERY: Duration = Duration::from_millis(100);
/// Questions about accounts answered at once.
const CHECKS: i64 = 8;

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
        let id = AccountId(Uuid::now_v7());
        let sealed = self.seal_credential(workspace, id, &new.name, &new.credential).await?;
        let write = AccountWrite {
            id,
            name: new.name.clone(),
            content_platform: new.content_platform.unwrap_or_else(|| new.platform.clone()),
            platform: new.platform,
            settings: new.settings.to_string(),
            credential: (sealed.data_key, sealed.bytes),
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

    /// Tries an account without any effect: a sentence either way. This process
    /// may not open the credential; it asks, and a worker that publishes answers.
    ///
    /// # Errors
    /// [`EngineError::NotFound`]; [`EngineError::Conflict`] when no worker
    /// answered in time.
    pub async fn test_account(
        &self,
        workspace: WorkspaceId,
        name: &str,
        actor: &str,
    ) -> Result<Result<String, String>, EngineError> {
        let account = self.account(workspace, name).await?;
        let id = Uuid::now_v7();
        let check = CheckRow { workspace, id, account: account.id };
        let asked = Instant::now();
        self.store().ask_check(check, account.name, actor.to_owned()).await?;
        let mut late = false;
        loop {
            if let Some((ok, told)) = self.store().check_answer(workspace, id).await? {
                return Ok(if ok { Ok(told) } else { Err(told) });
            }
            if late {
                return Err(EngineError::Conflict(
                    "no worker answered: start one that serves `publisher` and has the deployment's secret key".into(),
                ));
            }
            late = asked.elapsed() > self.config().check_patience;
            if late {
                self.store().withdraw_check(workspace, id).await?;
            } else {
                tokio::time::sleep(CHECK_EVERY).await;
            }
        }
    }

    /// Answers the questions about accounts that are open; answers how many
    /// there were. For workers that publish.
    ///
    /// # Errors
    /// Postgres is away: whoever asked hears nothing in time.
    pub async fn answer_checks(&self) -> Result<usize, EngineError> {
        let Some(platforms) = self.config().platforms.clone() else { return Ok(0) };
        let checks = self.store().take_checks(CHECKS).await?;
        let count = checks.len();
        let answers = checks.into_iter().map(|check| self.answer_check(check, platforms.as_ref()));
        futures::future::try_join_all(answers).await?;
        Ok(count)
    }

    async fn answer_check(&self, check: CheckRow, platforms: &dyn Platforms) -> Result<(), EngineError> {
        let workspace = check.workspace;
        let account = self.store().account_by_id(workspace, check.account).await?;
        let Some(account) = account.filter(|account| account.removed_at.is_none()) else {
            let told = "the account was removed".to_owned();
            return Ok(self.store().answer_check(check, false, told, None).await?);
        };
        let credential = match self.open_credential(workspace, &account).await? {
            Ok(credential) => credential,
            Err(told) => return Ok(self.store().answer_check(check, false, told, None).await?),
        };
        let settings = settings(&account);
        let trying = platforms.test(&account.platform, &account.name, &settings, &credential);
        let timeout = self.config().publishing.timeout;
        let tried = tokio::time::timeout(timeout, trying).await;
        let tried = tried.unwrap_or_else(|_| Err(format!("the platform did not answer within {timeout:?}")));
        let used = AuditWrite {
            workspace,
            key: None,
            actor: "publisher".into(),
            action: "account.use",
            object: account.name,
            detail: Some(json!({ "for": "test" }).to_string()),
            hashes: Hashes::default(),
        };
        let ok = tried.is_ok();
        // Postgres stores no NUL, and nobody reads a page.
        let told = tried.unwrap_or_else(|told| told).chars().filter(|c| *c != '\0').take(2_000).collect();
        Ok(self.store().answer_check(check, ok, told, Some(used)).await?)
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
        if new.max_daily_posts.is_some_and(|limit| !(1..=MOST_DAILY_POSTS).contains(&limit)) {
            problems.push(Problem::new("maxDailyPosts", format!("1 to {MOST_DAILY_POSTS}")));
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
