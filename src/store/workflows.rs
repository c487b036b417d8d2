//! What was submitted: accepting in batches, and reading it back.

use std::collections::{HashMap, HashSet};

use galley_core::ids::{WorkflowId, WorkflowKey, WorkspaceId};
use galley_core::ticket::Priority;
use galley_probe::{Point, Rescue, point, seen};
use sqlx::{PgConnection, Row};

use crate::content::{Content, in_the_clear};
use crate::error::StoreError;
use crate::pool::{Store, execute};
use crate::runs::{key_of, split_keys};
use crate::scope::Scope;

/// A workflow to accept.
#[derive(Clone, Debug)]
pub struct AcceptWrite {
    /// Its key, drawn by the caller.
    pub key: WorkflowKey,
    /// Its definition, stored before.
    pub definition: i64,
    /// The definition's name.
    pub name: String,
    /// `name@version` of the template it came from.
    pub template: Option<String>,
    /// Order within the workspace.
    pub priority: Priority,
    /// What makes a repeated submit the same workflow.
    pub idempotency_key: String,
    /// Hash of the request, to tell a repetition from a mistake.
    pub request_hash: [u8; 32],
    /// The input as JSON text.
    pub input: String,
    /// The input, sealed for this row: then this is stored and the text is not.
    pub sealed: Option<Vec<u8>>,
    /// The W3C trace the submit belongs to.
    pub traceparent: Option<String>,
    /// Who.
    pub actor: String,
    /// The version of its first run.
    pub version: i64,
    /// Its first run, already started.
    pub run: Vec<u8>,
}

/// What became of one accepted workflow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It is new and stored.
    New,
    /// The same key and the same request were accepted before, as this.
    Known(WorkflowId),
    /// The key was used for another request, as this.
    Mismatch(WorkflowId),
    /// There is no such workspace, or it was erased: nothing was stored.
    NoWorkspace,
}

/// A submitted workflow as stored.
#[derive(Clone, Debug)]
pub struct WorkflowRow {
    /// Its key.
    pub key: WorkflowKey,
    /// Its definition.
    pub definition: i64,
    /// The definition's name.
    pub name: String,
    /// `name@version` of its template.
    pub template: Option<String>,
    /// Order within the workspace.
    pub priority: i16,
    /// Who submitted it.
    pub created_by: String,
    /// When, RFC 3339.
    pub created_at: String,
    /// The W3C trace the submit belongs to.
    pub traceparent: Option<String>,
    /// The current version of its run.
    pub version: i64,
    /// The run's bytes, live or final.
    pub run: Vec<u8>,
    /// When it finished, RFC 3339.
    pub finished_at: Option<String>,
    /// Microseconds from accept to finish, or to now.
    pub age_us: i64,
}

impl Store {
    /// Accepts a batch of workflows in one transaction. Within the batch, and
    /// against everything stored, one idempotency key makes one workflow.
    ///
    /// # Errors
    /// On [`StoreError::Unavailable`] the outcome is unknown: repeat it, the
    /// idempotency keys make that harmless.
    pub async fn accept(&self, batch: Vec<AcceptWrite>) -> Result<Vec<Accepted>, StoreError> {
        self.unit(Scope::of(batch.iter().map(|workflow| workflow.key.workspace)), move |pool| async move {
            let mut transaction = pool.begin().await?;
            let new = insert(&mut transaction, &batch).await?;
            transaction.commit().await?;
            if new.len() == batch.len() {
                return Ok(vec![Accepted::New; batch.len()]);
            }
            outcomes(&mut *pool.link().await?, &batch, &new).await
        })
        .await
    }

    /// One workflow with its run.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn workflow(&self, key: WorkflowKey) -> Result<Option<WorkflowRow>, StoreError> {
        let row = sqlx::query(sqlx::AssertSqlSafe(format!(
            "{SELECT_WORKFLOW} WHERE w.workspace_id = $1 AND w.id = $2"
        )))
        .bind(key.workspace.0)
        .bind(key.workflow.0)
        .fetch_optional(&mut *self.reader(key.workspace).await?)
        .await?;
        row.as_ref().map(workflow_of).transpose()
    }

    /// One page of workflows, newest first, older than `before`. `state` is a
    /// final state's word, `"live"` for those not finished, or `None` for all.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn list_workflows(
        &self,
        workspace: WorkspaceId,
        state: Option<&str>,
        before: Option<WorkflowId>,
        limit: i64,
    ) -> Result<Vec<WorkflowRow>, StoreError> {
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "{SELECT_WORKFLOW}
              WHERE w.workspace_id = $1 AND ($2::uuid IS NULL OR w.id < $2)
                AND ($3::text IS NULL OR ($3 = 'live' AND r.id IS NOT NULL) OR f.state = $3)
              ORDER BY w.id DESC LIMIT $4"
        )))
        .bind(workspace.0)
        .bind(before.map(|id| id.0))
        .bind(state)
        .bind(limit)
        .fetch_all(&mut *self.reader(workspace).await?)
        .await?;
        rows.iter().map(workflow_of).collect()
    }

    /// The inputs of workflows, each with the trace it was submitted with.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn load_inputs(
        &self,
        keys: &[WorkflowKey],
    ) -> Result<Vec<(WorkflowKey, Content, Option<String>)>, StoreError> {
        let (workspaces, ids) = split_keys(keys);
        let rows = sqlx::query(
            "SELECT w.workspace_id, w.id, w.input::text, w.traceparent, w.sealed
               FROM unnest($1::uuid[], $2::uuid[]) AS k(workspace_id, id)
               JOIN workflows w USING (workspace_id, id)",
        )
        .bind(workspaces)
        .bind(ids)
        .fetch_all(&mut *self.reader(Scope::of(keys.iter().map(|key| key.workspace))).await?)
        .await?;
        rows.iter().map(|row| Ok((key_of(row)?, Content::of(row, 2, 4)?, row.try_get(3)?))).collect()
    }

    /// The current versions of workflows, live or finished: what event streams
    /// watch.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn run_versions(&self, keys: &[WorkflowKey]) -> Result<Vec<(WorkflowKey, i64)>, StoreError> {
        let (workspaces, ids) = split_keys(keys);
        let rows = sqlx::query(
            "SELECT k.workspace_id, k.id, coalesce(r.version, f.version)
               FROM unnest($1::uuid[], $2::uuid[]) AS k(workspace_id, id)
               LEFT JOIN runs r USING (workspace_id, id)
               LEFT JOIN finished_runs f USING (workspace_id, id)
              WHERE coalesce(r.version, f.version) IS NOT NULL",
        )
        .bind(workspaces)
        .bind(ids)
        .fetch_all(&mut *self.reader(Scope::of(keys.iter().map(|key| key.workspace))).await?)
        .await?;
        rows.iter().map(|row| Ok((key_of(row)?, row.try_get(2)?))).collect()
    }

    /// How many workflows are live.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn count_live_runs(&self) -> Result<i64, StoreError> {
        Ok(sqlx::query("SELECT count(*) FROM runs")
            .fetch_one(&mut *self.reader(Scope::Fleet).await?)
            .await?
            .try_get(0)?)
    }
}

/// Inserts workflows with their first runs, unless their idempotency keys are
/// taken; answers which were inserted.
pub(crate) async fn insert(
    connection: &mut PgConnection,
    batch: &[AcceptWrite],
) -> Result<HashSet<WorkflowKey>, StoreError> {
    // Every array of an insert costs: the sealed bytes have a statement of their
    // own.
    let (sealed, clear): (Vec<_>, Vec<_>) = batch.iter().partition(|workflow| workflow.sealed.is_some());
    let mut new = insert_workflows(connection, &clear, false).await?;
    new.extend(insert_workflows(connection, &sealed, true).await?);

    let fresh: Vec<_> = batch.iter().filter(|w| new.contains(&w.key)).collect();
    let (workspaces, ids) = split_keys(fresh.iter().map(|workflow| &workflow.key));
    let insert = sqlx::query(
        "INSERT INTO runs (workspace_id, id, definition_id, version, run)
         SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::int8[], $4::int8[], $5::bytea[])",
    )
    .bind(workspaces)
    .bind(ids)
    .bind(fresh.iter().map(|w| w.definition).collect::<Vec<_>>())
    .bind(fresh.iter().map(|w| w.version).collect::<Vec<_>>())
    .bind(fresh.iter().map(|w| w.run.as_slice()).collect::<Vec<_>>());
    execute(connection, insert).await?;
    point(Point::AcceptWritten);
    Ok(new)
}

async fn insert_workflows(
    connection: &mut PgConnection,
    rows: &[&AcceptWrite],
    sealed: bool,
) -> Result<HashSet<WorkflowKey>, StoreError> {
    if rows.is_empty() {
        return Ok(HashSet::new());
    }
    let (column, array) = if sealed { (", sealed", ", $12::bytea[]") } else { ("", "") };
    let (workspaces, ids) = split_keys(rows.iter().map(|workflow| &workflow.key));
    // ON CONFLICT waits for a concurrent transaction with the same key
    // and then does nothing: exactly one of them inserts. What an erased
    // workspace's tokens still get as far as here is not stored; erasing waits
    // for those that were looked at before (`erase_the_rest`).
    let mut insert = sqlx::query(sqlx::AssertSqlSafe(format!(
        "INSERT INTO workflows (workspace_id, id, definition_id, name, template, priority,
                                idempotency_key, request_hash, input, traceparent, created_by{column})
         SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::int8[], $4::text[], $5::text[], $6::int2[],
                              $7::text[], $8::bytea[], $9::json[], $10::text[], $11::text[]{array})
                         AS new (workspace)
          WHERE EXISTS (SELECT 1 FROM workspaces w WHERE w.id = new.workspace AND w.erased_at IS NULL)
         ON CONFLICT ON CONSTRAINT workflows_idempotency_key DO NOTHING
      RETURNING workspace_id, id"
    )))
    .bind(workspaces)
    .bind(ids)
    .bind(rows.iter().map(|w| w.definition).collect::<Vec<_>>())
    .bind(rows.iter().map(|w| w.name.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|w| w.template.as_deref()).collect::<Vec<_>>())
    .bind(rows.iter().map(|w| i16::from(w.priority)).collect::<Vec<_>>())
    .bind(rows.iter().map(|w| w.idempotency_key.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|w| w.request_hash.as_slice()).collect::<Vec<_>>())
    .bind(rows.iter().map(|w| in_the_clear(&w.input, w.sealed.as_deref())).collect::<Vec<_>>())
    .bind(rows.iter().map(|w| w.traceparent.as_deref()).collect::<Vec<_>>())
    .bind(rows.iter().map(|w| w.actor.as_str()).collect::<Vec<_>>());
    if sealed {
        insert = insert.bind(rows.iter().map(|w| w.sealed.as_deref()).collect::<Vec<_>>());
    }
    let inserted = insert.fetch_all(connection).await?;
    Ok(inserted.iter().map(key_of).collect::<Result<_, _>>()?)
}

/// What became of each workflow of a batch, in its order.
pub(crate) async fn outcomes(
    connection: &mut PgConnection,
    batch: &[AcceptWrite],
    new: &HashSet<WorkflowKey>,
) -> Result<Vec<Accepted>, StoreError> {
    let known = with_keys(connection, batch.iter().filter(|w| !new.contains(&w.key))).await?;
    let mut outcomes = Vec::with_capacity(batch.len());
    for workflow in batch {
        if new.contains(&workflow.key) {
            outcomes.push(Accepted::New);
            continue;
        }
        let name = (workflow.key.workspace, workflow.idempotency_key.clone());
        let Some((id, hash)) = known.get(&name) else {
            outcomes.push(Accepted::NoWorkspace);
            continue;
        };
        outcomes.push(if *id == workflow.key.workflow {
            // An earlier try of this very batch committed unknown to us.
            Accepted::New
        } else if hash == workflow.request_hash.as_slice() {
            seen(Rescue::AcceptFoundFirst);
            Accepted::Known(*id)
        } else {
            Accepted::Mismatch(*id)
        });
    }
    Ok(outcomes)
}

/// The workflows that have the idempotency keys already, with the hashes of
/// their requests.
async fn with_keys<'a>(
    connection: &mut PgConnection,
    wanted: impl Iterator<Item = &'a AcceptWrite>,
) -> Result<HashMap<(WorkspaceId, String), (WorkflowId, Vec<u8>)>, StoreError> {
    let names: HashSet<_> = wanted.map(|w| (w.key.workspace, w.idempotency_key.as_str())).collect();
    let rows = sqlx::query(
        "SELECT workspace_id, idempotency_key, id, request_hash
           FROM unnest($1::uuid[], $2::text[]) AS k(workspace_id, idempotency_key)
           JOIN workflows USING (workspace_id, idempotency_key)",
    )
    .bind(names.iter().map(|(workspace, _)| workspace.0).collect::<Vec<_>>())
    .bind(names.iter().map(|(_, key)| *key).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            let name = (WorkspaceId(row.try_get(0)?), row.try_get(1)?);
            Ok((name, (WorkflowId(row.try_get(2)?), row.try_get(3)?)))
        })
        .collect()
}

const SELECT_WORKFLOW: &str = "
    SELECT w.workspace_id, w.id, w.definition_id, w.name, w.template, w.priority, w.created_by,
           to_json(w.created_at)#>>'{}', w.traceparent,
           coalesce(r.version, f.version), coalesce(r.run, f.run), to_json(f.finished_at)#>>'{}',
           (extract(epoch FROM coalesce(f.finished_at, galley_now()) - w.created_at) * 1000000)::int8
      FROM workflows w
      LEFT JOIN runs r ON r.workspace_id = w.workspace_id AND r.id = w.id
      LEFT JOIN finished_runs f ON f.workspace_id = w.workspace_id AND f.id = w.id";

fn workflow_of(row: &sqlx::postgres::PgRow) -> Result<WorkflowRow, StoreError> {
    Ok(WorkflowRow {
        key: key_of(row)?,
        definition: row.try_get(2)?,
        name: row.try_get(3)?,
        template: row.try_get(4)?,
        priority: row.try_get(5)?,
        created_by: row.try_get(6)?,
        created_at: row.try_get(7)?,
        traceparent: row.try_get(8)?,
        version: row.try_get(9)?,
        run: row.try_get(10)?,
        finished_at: row.try_get(11)?,
        age_us: row.try_get(12)?,
    })
}
