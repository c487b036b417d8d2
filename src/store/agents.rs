//! Agent types as workers registered them, and what operators set about them.

use galley_core::agent::AgentSpec;
use sqlx::Row;

use crate::audit::{AuditWrite, write_audit};
use crate::error::StoreError;
use crate::pool::{Store, execute};
use crate::scope::Scope;

/// An agent type as stored.
#[derive(Clone, Debug)]
pub struct AgentRow {
    /// What workers registered.
    pub spec: AgentSpec,
    /// What operators set.
    pub control: AgentControl,
}

/// What operators set about an agent type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentControl {
    /// Nothing of it starts.
    pub paused: bool,
    /// Who paused it.
    pub paused_by: Option<String>,
    /// Why.
    pub paused_reason: Option<String>,
    /// Most steps running at once in the whole fleet.
    pub max_running: Option<i32>,
    /// Most steps running at once for one workspace.
    pub max_running_per_workspace: Option<i32>,
    /// How often it was changed.
    pub version: i64,
}

/// A change of an agent's controls; absent fields stay as they are.
#[derive(Clone, Debug, Default)]
pub struct ControlChange {
    /// Pause or resume, with who and why.
    pub paused: Option<(bool, String, Option<String>)>,
    /// New fleet limit; `Some(None)` lifts it.
    pub max_running: Option<Option<i32>>,
    /// New limit per workspace; `Some(None)` lifts it.
    pub max_running_per_workspace: Option<Option<i32>>,
}

fn agent_of(row: &sqlx::postgres::PgRow) -> Result<AgentRow, StoreError> {
    let spec: String = row.try_get(0)?;
    let spec = serde_json::from_str(&spec)
        .map_err(|error| StoreError::Schema(format!("table agents: a spec does not read: {error}")))?;
    Ok(AgentRow {
        spec,
        control: AgentControl {
            paused: row.try_get(1)?,
            paused_by: row.try_get(2)?,
            paused_reason: row.try_get(3)?,
            max_running: row.try_get(4)?,
            max_running_per_workspace: row.try_get(5)?,
            version: row.try_get(6)?,
        },
    })
}

impl Store {
    /// Registers agent types; what operators set about them stays.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn register_agents(&self, specs: &[AgentSpec]) -> Result<(), StoreError> {
        // Sorted, so that two workers starting at once take row locks in one order.
        let mut specs: Vec<(String, String)> = specs
            .iter()
            .map(|spec| Ok((spec.agent.to_string(), serde_json::to_string(spec)?)))
            .collect::<Result<_, serde_json::Error>>()
            .map_err(|error| StoreError::Schema(format!("an agent spec does not serialize: {error}")))?;
        specs.sort();
        let (agents, specs): (Vec<_>, Vec<_>) = specs.into_iter().unzip();
        self.unit(Scope::Fleet, move |pool| async move {
            let mut connection = pool.link().await?;
            let upsert = sqlx::query(
                "INSERT INTO agents (agent, spec) SELECT * FROM unnest($1::text[], $2::json[])
                 ON CONFLICT (agent) DO UPDATE SET spec = excluded.spec, updated_at = galley_now()
                  WHERE agents.spec::text IS DISTINCT FROM excluded.spec::text",
            )
            .bind(agents)
            .bind(specs);
            execute(&mut connection, upsert).await?;
            connection.done().await
        })
        .await
    }

    /// Every known agent type, by name.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn list_agents(&self) -> Result<Vec<AgentRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT spec::text, paused, paused_by, paused_reason, max_running, max_running_per_workspace, control_version
               FROM agents ORDER BY agent",
        )
        .fetch_all(&mut *self.reader(Scope::Fleet).await?)
        .await?;
        rows.iter().map(agent_of).collect()
    }

    /// Changes what operators set; `None` when no such agent is registered.
    ///
    /// # Errors
    /// Postgres is away, or a limit is out of its range.
    pub async fn change_control(
        &self,
        agent: &str,
        change: ControlChange,
        audit: AuditWrite,
    ) -> Result<Option<AgentRow>, StoreError> {
        let agent = agent.to_owned();
        self.unit(audit.workspace, move |pool| async move {
            let mut transaction = pool.begin().await?;
            let (set_paused, by, reason) = match change.paused {
                Some((paused, by, reason)) => (Some(paused), Some(by), reason),
                None => (None, None, None),
            };
            let row = sqlx::query(
                "UPDATE agents SET
                    paused = coalesce($2, paused),
                    paused_by = CASE WHEN $2 IS NULL THEN paused_by WHEN $2 THEN $3 END,
                    paused_reason = CASE WHEN $2 IS NULL THEN paused_reason WHEN $2 THEN $4 END,
                    max_running = CASE WHEN $5 THEN $6 ELSE max_running END,
                    max_running_per_workspace = CASE WHEN $7 THEN $8 ELSE max_running_per_workspace END,
                    control_version = control_version + 1, updated_at = galley_now()
                  WHERE agent = $1
              RETURNING spec::text, paused, paused_by, paused_reason, max_running, max_running_per_workspace, control_version",
            )
            .bind(&agent)
            .bind(set_paused)
            .bind(by)
            .bind(reason)
            .bind(change.max_running.is_some())
            .bind(change.max_running.flatten())
            .bind(change.max_running_per_workspace.is_some())
            .bind(change.max_running_per_workspace.flatten())
            .fetch_optional(&mut *transaction)
            .await?;
            let Some(row) = row else { return Ok(None) };
            write_audit(&mut transaction, &audit).await?;
            transaction.commit().await?;
            Ok(Some(agent_of(&row)?))
        })
        .await
    }
}
