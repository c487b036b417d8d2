//! Dead letters: opened and closed in the transaction that moves their step.

use galley_core::ids::{StepIndex, WorkflowId, WorkflowKey, WorkspaceId};
use sqlx::{PgConnection, Row};

use crate::error::StoreError;
use crate::pool::{Store, execute};
use crate::runs::{key_of, split_keys};
use crate::scope::Scope;

/// A step that died.
#[derive(Clone, Debug)]
pub struct LetterOpen {
    /// The workflow.
    pub key: WorkflowKey,
    /// The step.
    pub step: StepIndex,
    /// Its name.
    pub step_name: String,
    /// Its agent type.
    pub agent: String,
    /// `attempts`, `crashes`, `permanent` or `condition`.
    pub reason: &'static str,
    /// The last error's class.
    pub class: String,
    /// The last error's message.
    pub message: String,
    /// What groups it with its like.
    pub fingerprint: String,
    /// Attempts that counted.
    pub attempts: u16,
    /// Workers that died holding it.
    pub crashes: u16,
}

/// A dead letter that was repaired or given up.
#[derive(Clone, Debug)]
pub struct LetterClose {
    /// The workflow.
    pub key: WorkflowKey,
    /// The step.
    pub step: StepIndex,
    /// `replayed`, `discarded` or `cancelled`.
    pub status: &'static str,
    /// Who.
    pub actor: String,
}

/// A dead letter as stored.
#[derive(Clone, Debug)]
pub struct LetterRow {
    /// The workflow.
    pub key: WorkflowKey,
    /// The step.
    pub step: StepIndex,
    /// Its name.
    pub step_name: String,
    /// Its agent type.
    pub agent: String,
    /// Why it died.
    pub reason: String,
    /// The last error's class.
    pub class: String,
    /// The last error's message.
    pub message: String,
    /// What groups it with its like.
    pub fingerprint: String,
    /// Attempts that counted.
    pub attempts: i32,
    /// Workers that died holding it.
    pub crashes: i32,
    /// `open`, `replayed`, `discarded` or `cancelled`.
    pub status: String,
    /// When it died, RFC 3339.
    pub died_at: String,
    /// When it was closed, RFC 3339.
    pub closed_at: Option<String>,
    /// Who closed it.
    pub closed_by: Option<String>,
}

/// Dead letters of one kind.
#[derive(Clone, Debug)]
pub struct LetterGroup {
    /// The fingerprint they share.
    pub fingerprint: String,
    /// Their agent type.
    pub agent: String,
    /// Why they died.
    pub reason: String,
    /// The error's class.
    pub class: String,
    /// One message of the group.
    pub message: String,
    /// How many are open.
    pub count: i64,
    /// When the first died, RFC 3339.
    pub first_at: String,
    /// When the last died, RFC 3339.
    pub last_at: String,
}

/// Which dead letters; absent fields match all.
#[derive(Clone, Debug, Default)]
pub struct LetterFilter {
    /// Only these (open ones when absent).
    pub status: Option<String>,
    /// Only of this agent type.
    pub agent: Option<String>,
    /// Only of this group.
    pub fingerprint: Option<String>,
    /// Only of this workflow.
    pub workflow: Option<WorkflowId>,
}

pub(crate) async fn open<'a>(
    connection: &mut PgConnection,
    letters: impl Iterator<Item = &'a LetterOpen>,
) -> Result<(), StoreError> {
    let letters: Vec<_> = letters.collect();
    if letters.is_empty() {
        return Ok(());
    }
    let (workspaces, workflows) = split_keys(letters.iter().map(|letter| &letter.key));
    // A step that was replayed and died again opens its letter again.
    let insert = sqlx::query(
        "INSERT INTO dead_letters (workspace_id, workflow_id, step, step_name, agent, reason, class, message,
                                   fingerprint, attempts, crashes)
         SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::int2[], $4::text[], $5::text[], $6::text[], $7::text[],
                              $8::text[], $9::text[], $10::int4[], $11::int4[])
         ON CONFLICT (workspace_id, workflow_id, step) DO UPDATE
            SET reason = excluded.reason, class = excluded.class, message = excluded.message,
                fingerprint = excluded.fingerprint, attempts = excluded.attempts, crashes = excluded.crashes,
                status = 'open', died_at = galley_now(), closed_at = NULL, closed_by = NULL",
    )
    .bind(workspaces)
    .bind(workflows)
    .bind(letters.iter().map(|letter| letter.step as i16).collect::<Vec<_>>())
    .bind(letters.iter().map(|letter| letter.step_name.as_str()).collect::<Vec<_>>())
    .bind(letters.iter().map(|letter| letter.agent.as_str()).collect::<Vec<_>>())
    .bind(letters.iter().map(|letter| letter.reason).collect::<Vec<_>>())
    .bind(letters.iter().map(|letter| letter.class.as_str()).collect::<Vec<_>>())
    .bind(letters.iter().map(|letter| letter.message.as_str()).collect::<Vec<_>>())
    .bind(letters.iter().map(|letter| letter.fingerprint.as_str()).collect::<Vec<_>>())
    .bind(letters.iter().map(|letter| i32::from(letter.attempts)).collect::<Vec<_>>())
    .bind(letters.iter().map(|letter| i32::from(letter.crashes)).collect::<Vec<_>>());
    execute(connection, insert).await?;
    Ok(())
}

pub(crate) async fn close<'a>(
    connection: &mut PgConnection,
    letters: impl Iterator<Item = &'a LetterClose>,
) -> Result<(), StoreError> {
    let letters: Vec<_> = letters.collect();
    if letters.is_empty() {
        return Ok(());
    }
    let (workspaces, workflows) = split_keys(letters.iter().map(|letter| &letter.key));
    let update = sqlx::query(
        "UPDATE dead_letters l
            SET status = d.status, closed_at = galley_now(), closed_by = d.actor
           FROM unnest($1::uuid[], $2::uuid[], $3::int2[], $4::text[], $5::text[])
                AS d(workspace_id, workflow_id, step, status, actor)
          WHERE l.workspace_id = d.workspace_id AND l.workflow_id = d.workflow_id AND l.step = d.step",
    )
    .bind(workspaces)
    .bind(workflows)
    .bind(letters.iter().map(|letter| letter.step as i16).collect::<Vec<_>>())
    .bind(letters.iter().map(|letter| letter.status).collect::<Vec<_>>())
    .bind(letters.iter().map(|letter| letter.actor.as_str()).collect::<Vec<_>>());
    execute(connection, update).await?;
    Ok(())
}

const COLUMNS: &str =
    "workspace_id, workflow_id, step, step_name, agent, reason, class, message, fingerprint,
    attempts, crashes, status, to_json(died_at)#>>'{}', to_json(closed_at)#>>'{}', closed_by";

fn letter_of(row: &sqlx::postgres::PgRow) -> Result<LetterRow, StoreError> {
    Ok(LetterRow {
        key: key_of(row)?,
        step: row.try_get::<i16, _>(2)? as StepIndex,
        step_name: row.try_get(3)?,
        agent: row.try_get(4)?,
        reason: row.try_get(5)?,
        class: row.try_get(6)?,
        message: row.try_get(7)?,
        fingerprint: row.try_get(8)?,
        attempts: row.try_get(9)?,
        crashes: row.try_get(10)?,
        status: row.try_get(11)?,
        died_at: row.try_get(12)?,
        closed_at: row.try_get(13)?,
        closed_by: row.try_get(14)?,
    })
}

impl Store {
    /// One page of dead letters in key order, behind `after`.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn list_letters(
        &self,
        workspace: WorkspaceId,
        filter: &LetterFilter,
        after: Option<(WorkflowId, StepIndex)>,
        limit: i64,
    ) -> Result<Vec<LetterRow>, StoreError> {
        let (workflow, step) = match after {
            Some((workflow, step)) => (workflow.0, i32::from(step)),
            None => (uuid::Uuid::nil(), -1),
        };
        let statement = format!(
            "SELECT {COLUMNS} FROM dead_letters
              WHERE workspace_id = $1 AND (workflow_id, step) > ($2, $3)
                AND status = coalesce($4, 'open')
                AND ($5::text IS NULL OR agent = $5)
                AND ($6::text IS NULL OR fingerprint = $6)
                AND ($7::uuid IS NULL OR workflow_id = $7)
              ORDER BY workflow_id, step LIMIT $8"
        );
        // Only the constant column list is pasted in.
        let rows = sqlx::query(sqlx::AssertSqlSafe(statement))
            .bind(workspace.0)
            .bind(workflow)
            .bind(step)
            .bind(&filter.status)
            .bind(&filter.agent)
            .bind(&filter.fingerprint)
            .bind(filter.workflow.map(|id| id.0))
            .bind(limit)
            .fetch_all(&mut *self.reader(workspace).await?)
            .await?;
        rows.iter().map(letter_of).collect()
    }

    /// One dead letter, whatever its status.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn letter(&self, key: WorkflowKey, step: StepIndex) -> Result<Option<LetterRow>, StoreError> {
        let statement = format!(
            "SELECT {COLUMNS} FROM dead_letters WHERE workspace_id = $1 AND workflow_id = $2 AND step = $3"
        );
        let row = sqlx::query(sqlx::AssertSqlSafe(statement))
            .bind(key.workspace.0)
            .bind(key.workflow.0)
            .bind(step as i16)
            .fetch_optional(&mut *self.reader(key.workspace).await?)
            .await?;
        row.as_ref().map(letter_of).transpose()
    }

    /// The open dead letters of a workspace, grouped by fingerprint, most
    /// first; at most 500 groups.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn letter_groups(&self, workspace: WorkspaceId) -> Result<Vec<LetterGroup>, StoreError> {
        let rows = sqlx::query(
            "SELECT fingerprint, min(agent), min(reason), min(class), min(message), count(*),
                    to_json(min(died_at))#>>'{}', to_json(max(died_at))#>>'{}'
               FROM dead_letters
              WHERE workspace_id = $1 AND status = 'open'
              GROUP BY fingerprint
              ORDER BY count(*) DESC, fingerprint
              LIMIT 500",
        )
        .bind(workspace.0)
        .fetch_all(&mut *self.reader(workspace).await?)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(LetterGroup {
                    fingerprint: row.try_get(0)?,
                    agent: row.try_get(1)?,
                    reason: row.try_get(2)?,
                    class: row.try_get(3)?,
                    message: row.try_get(4)?,
                    count: row.try_get(5)?,
                    first_at: row.try_get(6)?,
                    last_at: row.try_get(7)?,
                })
            })
            .collect()
    }

    /// Open dead letters of all workspaces: for metrics.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn count_open_letters(&self) -> Result<i64, StoreError> {
        let row = sqlx::query("SELECT count(*) FROM dead_letters WHERE status = 'open'")
            .fetch_one(&mut *self.reader(Scope::Fleet).await?)
            .await?;
        Ok(row.try_get(0)?)
    }
}
