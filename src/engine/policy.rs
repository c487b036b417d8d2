//! The policy of a workspace: read, replaced, and turned into what a day is.

use std::sync::Arc;

use galley_core::automation::{AutomationConfig, time_zone};
use galley_core::hash;
use galley_core::ids::WorkspaceId;
use galley_core::slot::DayZone;
use galley_probe::{Bug, Point, planted, point};
use galley_store::{AutomationRow, DayRule, Hashes, StoreError};

use crate::cache::fresh;
use crate::engine::Engine;
use crate::error::EngineError;

/// A workspace's policy and what it was read at.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The config.
    pub config: AutomationConfig,
    /// Rises with every change.
    pub version: i64,
    /// The row.
    pub row: AutomationRow,
}

impl Policy {
    fn of(row: AutomationRow) -> Result<Self, EngineError> {
        let config = match &row.config {
            None => AutomationConfig::default(),
            Some(json) => serde_json::from_str(json)
                .map_err(|error| EngineError::Internal(format!("a stored policy cannot be read: {error}")))?,
        };
        Ok(Self { config, version: row.version, row })
    }

    /// The database's time.
    pub(crate) fn now(&self) -> Result<jiff::Timestamp, EngineError> {
        instant(&self.row.now)
    }

    /// Whose days the limits count in, for Postgres.
    pub(crate) fn day_rule(&self) -> DayRule {
        if planted(Bug::UtcDay) {
            return DayRule { zone: "UTC".into(), previous: None };
        }
        self.row.day_rule(&self.config.time_zone)
    }

    /// An instant (RFC 3339) as people of the workspace read it.
    pub(crate) fn told(&self, at: &str) -> String {
        let zone = &self.config.time_zone;
        match (at.parse::<jiff::Timestamp>(), time_zone(zone)) {
            (Ok(at), Ok(known)) => format!("{} {zone}", at.to_zoned(known).strftime("%a %-d %b %Y %H:%M:%S")),
            _ => at.to_owned(),
        }
    }

    /// Whose days the limits count in, for choosing slots.
    pub(crate) fn days(&self) -> Result<DayZone, EngineError> {
        let zone = |name: &str| {
            let name = if planted(Bug::UtcDay) { "UTC" } else { name };
            time_zone(name).map_err(EngineError::Internal)
        };
        let previous = match &self.row.previous {
            Some((name, since)) => Some((zone(name)?, instant(since)?)),
            None => None,
        };
        Ok(DayZone { zone: zone(&self.config.time_zone)?, previous })
    }
}

/// An instant as Postgres writes it.
pub(crate) fn instant(text: &str) -> Result<jiff::Timestamp, EngineError> {
    text.parse().map_err(|error| EngineError::Internal(format!("`{text}` is no instant: {error}")))
}

impl Engine {
    /// A workspace's policy as it was at most [`EngineConfig::policy_memory`] ago.
    ///
    /// [`EngineConfig::policy_memory`]: crate::EngineConfig::policy_memory
    pub(crate) async fn recent_policy(&self, workspace: WorkspaceId) -> Result<Arc<Policy>, EngineError> {
        let read = async { Ok(Arc::new(self.policy(workspace).await?)) };
        fresh(&self.caches().policies, &workspace, self.config().policy_memory, read).await
    }

    /// A workspace's policy; the careful default when nobody set one.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn policy(&self, workspace: WorkspaceId) -> Result<Policy, EngineError> {
        let row = self.store().automation(workspace).await?;
        self.note_sealing(workspace, row.sealed);
        Policy::of(row)
    }

    /// Replaces a workspace's policy. What waits for an approval goes on
    /// waiting, however loose the new policy is; a new time zone is in force
    /// from its next full day. Where it leaves more room, posts that wait for a
    /// slot which no person chose move forward.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] with every problem; [`EngineError::Conflict`]
    /// when it is not at the version that was seen any more.
    pub async fn set_policy(
        &self,
        workspace: WorkspaceId,
        config: &AutomationConfig,
        seen: Option<i64>,
        actor: &str,
    ) -> Result<Policy, EngineError> {
        let mut problems = config.problems();
        let known = self.fleet().fresh().await?;
        for agent in config.enabled_agents.iter().flatten() {
            if !known.agents.contains_key(agent) {
                problems.push(galley_core::plan::Problem::new(
                    "enabledAgents",
                    format!("no agent type `{agent}` is registered; see `galley agent list`"),
                ));
            }
        }
        if !problems.is_empty() {
            return Err(EngineError::Invalid(problems));
        }
        let old = self.policy(workspace).await?;
        if seen.is_some_and(|seen| seen != old.version) {
            return Err(EngineError::Conflict(format!(
                "the policy was changed meanwhile: it is at version {}; look at it and try again",
                old.version
            )));
        }
        let previous = if config.time_zone == old.config.time_zone {
            old.row.previous.clone()
        } else {
            let zone =
                time_zone(&config.time_zone).map_err(|problem| EngineError::invalid("timeZone", problem))?;
            let now = old.now()?;
            let days = old.days()?;
            // A second change before the first is in force: the zone that
            // counts now goes on counting.
            let counting = match &old.row.previous {
                Some((name, since)) if now < instant(since)? => name.clone(),
                _ => old.config.time_zone.clone(),
            };
            Some((counting, days.change(&zone, now).to_string()))
        };
        let json = serde_json::to_string(config)
            .map_err(|error| EngineError::Internal(format!("a policy does not serialize: {error}")))?;
        let before = old.row.config.as_ref().map(|json| hash::of_text(json));
        let hashes = Hashes { before, after: Some(hash::of_text(&json)) };
        let put =
            self.store().put_automation(workspace, old.version, json, previous, actor.to_owned(), hashes);
        match put.await {
            Ok(()) => {
                point(Point::PolicyCommitted);
                self.caches().policies.remove(&workspace);
                if config.leaves_more_room_than(&old.config) {
                    self.fill_the_room(workspace, actor).await;
                }
                self.policy(workspace).await
            }
            Err(StoreError::Overtaken(_)) => Err(EngineError::Conflict(
                "the policy was changed by somebody else at the same moment; look at it and try again".into(),
            )),
            Err(error) => Err(error.into()),
        }
    }

    /// Moves posts forward, to its end even when the caller hangs up. The
    /// policy stands whatever becomes of it: a post that was not moved goes out
    /// at the slot it has.
    async fn fill_the_room(&self, workspace: WorkspaceId, actor: &str) {
        let (engine, actor) = (self.clone(), actor.to_owned());
        let moving = tokio::spawn(async move { engine.move_forward(workspace, &actor).await });
        match moving.await {
            Ok(Ok(0)) => {}
            Ok(Ok(moved)) => tracing::info!(%workspace, moved, "posts moved to earlier slots"),
            Ok(Err(error)) => tracing::warn!(%workspace, %error, "could not move posts to earlier slots"),
            Err(error) => tracing::error!(%workspace, %error, "moving posts to earlier slots ended early"),
        }
    }
}
