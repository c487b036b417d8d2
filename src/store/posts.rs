//! Posts, their revisions and publications, as they are made and read.

use galley_core::ids::{AccountId, ApprovalId, PostId, StepIndex, WorkflowId, WorkflowKey, WorkspaceId};
use sqlx::Row;
use sqlx::postgres::PgRow;

use crate::budgets::unsigned;
use crate::error::StoreError;
use crate::planted::anywhere;
use crate::pool::Store;

/// A post to make, with its first revision.
#[derive(Clone, Debug)]
pub struct PostWrite {
    /// Its id: the same however often its step makes it.
    pub id: PostId,
    /// The workflow.
    pub key: WorkflowKey,
    /// Its publish step.
    pub step: StepIndex,
    /// The step's name.
    pub step_name: String,
    /// Its account.
    pub account: AccountId,
    /// The content as JSON text.
    pub content: String,
    /// Its hash.
    pub content_hash: String,
    /// The version of the run in which its step was found to make it.
    pub run_version: i64,
}

/// A post as stored, with its newest revision.
#[derive(Clone, Debug)]
pub struct PostRow {
    /// Its id.
    pub id: PostId,
    /// The workflow.
    pub workflow: WorkflowId,
    /// Its publish step.
    pub step: StepIndex,
    /// The step's name.
    pub step_name: String,
    /// Its account.
    pub account: AccountId,
    /// The account's name.
    pub account_name: String,
    /// The account's platform.
    pub platform: String,
    /// Where it stands.
    pub state: String,
    /// The newest revision.
    pub revision: i32,
    /// Its hash.
    pub content_hash: String,
    /// Its content, JSON text.
    pub content: String,
    /// What changes compare.
    pub version: i32,
    /// Whether it waited for an approval once.
    pub held: bool,
    /// When it goes out, RFC 3339.
    pub slot_at: Option<String>,
    /// Who set that, when it was a person.
    pub slot_by: Option<String>,
    /// What it waits for, or what ended it.
    pub reason: Option<String>,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// When it last changed, RFC 3339.
    pub updated_at: String,
}

/// One revision of a post.
#[derive(Clone, Debug)]
pub struct RevisionRow {
    /// Its number, from 1.
    pub revision: i32,
    /// The content, JSON text.
    pub content: String,
    /// Its hash.
    pub content_hash: String,
    /// Who wrote it: an agent's step or a person.
    pub author: String,
    /// When, RFC 3339.
    pub created_at: String,
}

/// A publication as stored.
#[derive(Clone, Debug)]
pub struct PublicationRow {
    /// The key every attempt carried.
    pub effect_key: String,
    /// `intent`, `unknown`, `in_doubt`, `published`, `not_sent`, `failed`.
    pub state: String,
    /// The revision that goes out or went out.
    pub revision: i32,
    /// Its hash.
    pub content_hash: String,
    /// Its frozen bytes, JSON text.
    pub payload: String,
    /// Who said yes.
    pub approval: Option<ApprovalId>,
    /// The claim that may send it, or sent it.
    pub nonce: u64,
    /// Calls to the platform.
    pub sends: i32,
    /// When it was first meant to go out, RFC 3339.
    pub intended_at: String,
    /// Seconds since the first call of which nobody knew the outcome.
    pub since_s: i64,
    /// Milliseconds in which it may still be sent; below zero when that is over.
    pub left_ms: i64,
    /// The day whose limits it counts in, if it holds a place.
    pub quota_day: Option<String>,
    /// Whether it holds a place.
    pub quota_held: bool,
    /// What the account said it costs, millionths of a US dollar; 0: nothing.
    pub price_micros: u64,
    /// The platform's id.
    pub remote_id: Option<String>,
    /// Where people see it.
    pub link: Option<String>,
    /// What was last told about it.
    pub told: Option<String>,
    /// Which person settled it, if one did.
    pub settled_by: Option<String>,
    /// When it was settled, RFC 3339.
    pub settled_at: Option<String>,
}

/// What happened to a publication.
#[derive(Clone, Debug)]
pub struct PublicationEventRow {
    /// When, RFC 3339.
    pub at: String,
    /// `intent`, `repeated`, or a state of the publication.
    pub event: String,
    /// More.
    pub detail: Option<String>,
}

/// Which posts to list.
#[derive(Clone, Debug, Default)]
pub struct PostFilter {
    /// Only in this state.
    pub state: Option<String>,
    /// Only of this workflow.
    pub workflow: Option<WorkflowId>,
    /// Only for the account of this name.
    pub account: Option<String>,
}

const COLUMNS: &str =
    "p.id, p.workflow_id, p.step, p.step_name, p.account_id, a.name, a.platform, p.state, p.revision,
    p.content_hash, r.content::text, p.version, p.held, to_json(p.slot_at)#>>'{}', p.slot_by, p.reason,
    to_json(p.created_at)#>>'{}', to_json(p.updated_at)#>>'{}'";

const TABLES: &str = "posts p
    JOIN accounts a ON a.workspace_id = p.workspace_id AND a.id = p.account_id
    JOIN post_revisions r ON r.workspace_id = p.workspace_id AND r.post_id = p.id AND r.revision = p.revision";

fn post_of(row: &PgRow) -> Result<PostRow, StoreError> {
    Ok(PostRow {
        id: PostId(row.try_get(0)?),
        workflow: WorkflowId(row.try_get(1)?),
        step: row.try_get::<i16, _>(2)? as StepIndex,
        step_name: row.try_get(3)?,
        account: AccountId(row.try_get(4)?),
        account_name: row.try_get(5)?,
        platform: row.try_get(6)?,
        state: row.try_get(7)?,
        revision: row.try_get(8)?,
        content_hash: row.try_get(9)?,
        content: row.try_get(10)?,
        version: row.try_get(11)?,
        held: row.try_get(12)?,
        slot_at: row.try_get(13)?,
        slot_by: row.try_get(14)?,
        reason: row.try_get(15)?,
        created_at: row.try_get(16)?,
        updated_at: row.try_get(17)?,
    })
}

impl Store {
    /// Makes a post; finds it again when its step made it before.
    ///
    /// # Errors
    /// Postgres is away; [`StoreError::Data`] for text it cannot store.
    pub async fn make_post(&self, post: PostWrite) -> Result<(), StoreError> {
        self.unit(post.key.workspace, move |pool| async move {
            let mut transaction = pool.begin().await?;
            // Whoever moves the step moves its post in the same transaction,
            // and cannot move one that is not there yet.
            let still = sqlx::query(
                "SELECT 1 FROM runs WHERE workspace_id = $1 AND id = $2 AND version = $3 FOR UPDATE",
            )
            .bind(post.key.workspace.0)
            .bind(post.key.workflow.0)
            .bind(post.run_version)
            .fetch_optional(&mut *transaction)
            .await?;
            if still.is_none() {
                return Ok(());
            }
            let made = sqlx::query(
                "INSERT INTO posts (workspace_id, id, workflow_id, step, step_name, account_id, state, revision,
                                    content_hash)
                 VALUES ($1, $2, $3, $4, $5, $6, 'draft', 1, $7) ON CONFLICT DO NOTHING",
            )
            .bind(post.key.workspace.0)
            .bind(post.id.0)
            .bind(post.key.workflow.0)
            .bind(post.step as i16)
            .bind(&post.step_name)
            .bind(post.account.0)
            .bind(&post.content_hash)
            .execute(&mut *transaction)
            .await?;
            if made.rows_affected() == 1 {
                sqlx::query(
                    "INSERT INTO post_revisions (workspace_id, post_id, revision, content, content_hash, author)
                     VALUES ($1, $2, 1, $3::json, $4, $5)",
                )
                .bind(post.key.workspace.0)
                .bind(post.id.0)
                .bind(&post.content)
                .bind(&post.content_hash)
                .bind(format!("workflow {}", post.key.workflow))
                .execute(&mut *transaction)
                .await?;
            }
            transaction.commit().await?;
            Ok(())
        })
        .await
    }

    /// The post of a publish step.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn post_of_step(
        &self,
        key: WorkflowKey,
        step: StepIndex,
    ) -> Result<Option<PostRow>, StoreError> {
        let query = format!(
            "SELECT {COLUMNS} FROM {TABLES} WHERE p.workspace_id = $1 AND p.workflow_id = $2 AND p.step = $3"
        );
        let row = sqlx::query(sqlx::AssertSqlSafe(query))
            .bind(key.workspace.0)
            .bind(key.workflow.0)
            .bind(step as i16)
            .fetch_optional(&mut *self.reader(key.workspace).await?)
            .await?;
        row.as_ref().map(post_of).transpose()
    }

    /// One post.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn post(&self, workspace: WorkspaceId, id: PostId) -> Result<Option<PostRow>, StoreError> {
        let query = format!("SELECT {COLUMNS} FROM {TABLES} WHERE p.workspace_id = $1 AND p.id = $2");
        let query = anywhere(query);
        let row = sqlx::query(sqlx::AssertSqlSafe(query))
            .bind(workspace.0)
            .bind(id.0)
            .fetch_optional(&mut *self.reader(workspace).await?)
            .await?;
        row.as_ref().map(post_of).transpose()
    }

    /// Posts, newest first, before `before`.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn list_posts(
        &self,
        workspace: WorkspaceId,
        filter: &PostFilter,
        before: Option<(String, PostId)>,
        limit: i64,
    ) -> Result<Vec<PostRow>, StoreError> {
        let (at, id) = before.unzip();
        let query = format!(
            "SELECT {COLUMNS} FROM {TABLES}
              WHERE p.workspace_id = $1 AND ($2::text IS NULL OR p.state = $2)
                AND ($3::uuid IS NULL OR p.workflow_id = $3) AND ($4::text IS NULL OR a.name = $4)
                AND ($5::timestamptz IS NULL OR (p.created_at, p.id) < ($5::timestamptz, $6::uuid))
              ORDER BY p.created_at DESC, p.id DESC LIMIT $7"
        );
        let query = anywhere(query);
        let rows = sqlx::query(sqlx::AssertSqlSafe(query))
            .bind(workspace.0)
            .bind(&filter.state)
            .bind(filter.workflow.map(|workflow| workflow.0))
            .bind(&filter.account)
            .bind(at)
            .bind(id.map(|id: PostId| id.0))
            .bind(limit)
            .fetch_all(&mut *self.reader(workspace).await?)
            .await?;
        rows.iter().map(post_of).collect()
    }

    /// Posts that wait for a slot that nobody but Galley chose, the earliest
    /// first.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn posts_with_chosen_slots(&self, workspace: WorkspaceId) -> Result<Vec<PostRow>, StoreError> {
        let query = format!(
            "SELECT {COLUMNS} FROM {TABLES}
              WHERE p.workspace_id = $1 AND p.slot_at > galley_now() AND p.slot_by IS NULL
                AND p.state IN ('scheduled', 'waiting_approval')
              ORDER BY p.slot_at, p.created_at, p.id"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(query))
            .bind(workspace.0)
            .fetch_all(&mut *self.reader(workspace).await?)
            .await?;
        rows.iter().map(post_of).collect()
    }

    /// The revisions of a post, oldest first.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn revisions(
        &self,
        workspace: WorkspaceId,
        post: PostId,
    ) -> Result<Vec<RevisionRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT revision, content::text, content_hash, author, to_json(created_at)#>>'{}'
               FROM post_revisions WHERE workspace_id = $1 AND post_id = $2 ORDER BY revision",
        )
        .bind(workspace.0)
        .bind(post.0)
        .fetch_all(&mut *self.reader(workspace).await?)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(RevisionRow {
                    revision: row.try_get(0)?,
                    content: row.try_get(1)?,
                    content_hash: row.try_get(2)?,
                    author: row.try_get(3)?,
                    created_at: row.try_get(4)?,
                })
            })
            .collect()
    }

    /// The publication of a post.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn publication(
        &self,
        workspace: WorkspaceId,
        post: PostId,
    ) -> Result<Option<PublicationRow>, StoreError> {
        let row = sqlx::query(
            "SELECT effect_key, state, revision, content_hash, payload::text, approval_id, sends,
                    to_json(intended_at)#>>'{}',
                    coalesce(extract(epoch FROM galley_now() - first_sent_at), 0)::int8,
                    (extract(epoch FROM not_after - galley_now()) * 1000)::int8,
                    quota_day::text, quota_held, remote_id, link, told, settled_by, to_json(settled_at)#>>'{}', nonce,
                    price_micros
               FROM publications WHERE workspace_id = $1 AND post_id = $2",
        )
        .bind(workspace.0)
        .bind(post.0)
        .fetch_optional(&mut *self.reader(workspace).await?)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let approval: Option<uuid::Uuid> = row.try_get(5)?;
        Ok(Some(PublicationRow {
            effect_key: row.try_get(0)?,
            state: row.try_get(1)?,
            revision: row.try_get(2)?,
            content_hash: row.try_get(3)?,
            payload: row.try_get(4)?,
            approval: approval.map(ApprovalId),
            sends: row.try_get(6)?,
            intended_at: row.try_get(7)?,
            since_s: row.try_get(8)?,
            left_ms: row.try_get(9)?,
            quota_day: row.try_get(10)?,
            quota_held: row.try_get(11)?,
            remote_id: row.try_get(12)?,
            link: row.try_get(13)?,
            told: row.try_get(14)?,
            settled_by: row.try_get(15)?,
            settled_at: row.try_get(16)?,
            nonce: row.try_get::<i64, _>(17)? as u64,
            price_micros: unsigned(&row, 18)?.unwrap_or(0),
        }))
    }

    /// What happened to a publication, oldest first.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn publication_events(
        &self,
        workspace: WorkspaceId,
        effect_key: &str,
    ) -> Result<Vec<PublicationEventRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT to_json(at)#>>'{}', event, detail FROM publication_events
              WHERE workspace_id = $1 AND effect_key = $2 ORDER BY id",
        )
        .bind(workspace.0)
        .bind(effect_key)
        .fetch_all(&mut *self.reader(workspace).await?)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(PublicationEventRow {
                    at: row.try_get(0)?,
                    event: row.try_get(1)?,
                    detail: row.try_get(2)?,
                })
            })
            .collect()
    }
}
