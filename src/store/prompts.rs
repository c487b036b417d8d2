//! Prompts of a workspace's own: one row per version, the highest of an agent in
//! force. None is ever rewritten, so two who set at once cannot both.

use galley_core::ids::{AgentType, WorkspaceId};
use serde_json::json;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row};

use crate::audit::{AuditWrite, Hashes, write_audit};
use crate::content::{Content, in_the_clear};
use crate::error::{Overtaken, StoreError};
use crate::pool::{Store, execute};

/// How many versions of an agent's prompt are kept.
const KEPT: i64 = 100;

/// A version of a prompt, or that there was none of the workspace's own then.
#[derive(Clone, Debug)]
pub struct PromptRow {
    /// Whose prompt.
    pub agent: String,
    /// 1, 2, … of this agent.
    pub version: i64,
    /// What results know it by; `None`: from here on the deployment's again.
    pub prompt: Option<String>,
    /// The templates, JSON.
    pub content: Content,
    /// SHA-256 of them.
    pub hash: Option<String>,
    /// Who set it.
    pub set_by: String,
    /// When, RFC 3339.
    pub set_at: String,
}

/// The next version of a prompt.
#[derive(Clone, Debug)]
pub struct PromptWrite {
    /// Whose prompt.
    pub agent: AgentType,
    /// The version that was looked at; 0: there was none.
    pub seen: i64,
    /// What results know it by, and SHA-256 of the content; `None`: the
    /// deployment's again.
    pub known_by: Option<(String, String)>,
    /// The templates, JSON text.
    pub content: String,
    /// The same, sealed for its row: then this is stored and the text is not.
    pub sealed: Option<Vec<u8>>,
    /// Who sets it.
    pub actor: String,
    /// What was in force before, SHA-256.
    pub before: Option<String>,
}

const COLUMNS: &str = "agent, version, prompt, content::text, sealed, hash, set_by, to_json(set_at)#>>'{}'";

fn prompt_of(row: &PgRow) -> Result<PromptRow, StoreError> {
    Ok(PromptRow {
        agent: row.try_get(0)?,
        version: row.try_get(1)?,
        prompt: row.try_get(2)?,
        content: Content::of(row, 3, 4)?,
        hash: row.try_get(5)?,
        set_by: row.try_get(6)?,
        set_at: row.try_get(7)?,
    })
}

impl Store {
    /// The newest version of each agent's prompt, by agent.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn prompts(&self, workspace: WorkspaceId) -> Result<Vec<PromptRow>, StoreError> {
        let query = format!(
            "SELECT DISTINCT ON (agent) {COLUMNS} FROM prompts
              WHERE workspace_id = $1 ORDER BY agent, version DESC"
        );
        let rows = sqlx::query(AssertSqlSafe(query))
            .bind(workspace.0)
            .fetch_all(&mut *self.reader(workspace).await?)
            .await?;
        rows.iter().map(prompt_of).collect()
    }

    /// A version of an agent's prompt; the newest when none is named.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn prompt(
        &self,
        workspace: WorkspaceId,
        agent: &AgentType,
        version: Option<i64>,
    ) -> Result<Option<PromptRow>, StoreError> {
        let query = format!(
            "SELECT {COLUMNS} FROM prompts
              WHERE workspace_id = $1 AND agent = $2 AND version = coalesce($3, version)
              ORDER BY version DESC LIMIT 1"
        );
        let row = sqlx::query(AssertSqlSafe(query))
            .bind(workspace.0)
            .bind(agent.as_str())
            .bind(version)
            .fetch_optional(&mut *self.reader(workspace).await?)
            .await?;
        row.as_ref().map(prompt_of).transpose()
    }

    /// Writes the next version, if the newest is still the one that was seen.
    ///
    /// # Errors
    /// [`StoreError::Overtaken`] when somebody else wrote one meanwhile.
    pub async fn set_prompt(&self, workspace: WorkspaceId, write: PromptWrite) -> Result<(), StoreError> {
        self.unit(workspace, move |pool| async move {
            let mut transaction = pool.begin().await?;
            let (prompt, hash) = write.known_by.unzip();
            let insert = sqlx::query(
                "INSERT INTO prompts (workspace_id, agent, version, prompt, content, sealed, hash, set_by)
                 SELECT $1, $2, $3 + 1, $4, $5::json, $6, $7, $8
                  WHERE $3 = (SELECT coalesce(max(version), 0) FROM prompts
                               WHERE workspace_id = $1 AND agent = $2)
                 ON CONFLICT DO NOTHING",
            )
            .bind(workspace.0)
            .bind(write.agent.as_str())
            .bind(write.seen)
            .bind(&prompt)
            .bind(in_the_clear(&write.content, write.sealed.as_deref()))
            .bind(&write.sealed)
            .bind(&hash)
            .bind(&write.actor);
            if execute(&mut transaction, insert).await? == 0 {
                return Err(StoreError::Overtaken(Overtaken::Config));
            }
            let old =
                sqlx::query("DELETE FROM prompts WHERE workspace_id = $1 AND agent = $2 AND version <= $3");
            let old = old.bind(workspace.0).bind(write.agent.as_str()).bind(write.seen + 1 - KEPT);
            execute(&mut transaction, old).await?;
            let detail = json!({ "version": write.seen + 1, "prompt": prompt });
            let line = AuditWrite {
                workspace,
                key: None,
                actor: write.actor,
                action: if prompt.is_some() { "prompt.set" } else { "prompt.reset" },
                object: write.agent.to_string(),
                detail: Some(detail.to_string()),
                hashes: Hashes { before: write.before, after: hash },
            };
            write_audit(&mut transaction, &line).await?;
            transaction.commit().await?;
            Ok(())
        })
        .await
    }
}
