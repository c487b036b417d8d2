//! Messages between agents of a workflow, and its shared context. Written in
//! the transaction of the result of the step that says it, under the lock of
//! its run: so order, versions and "who answered first" need no lock of their
//! own.

use std::collections::HashMap;

use galley_core::ids::{MessageId, StepIndex, WorkflowKey, WorkspaceId};
use galley_core::message::{MOST_CONTEXT_BYTES, Standing};
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use crate::content::{Content, in_the_clear};
use crate::error::{Overtaken, StoreError};
use crate::pool::{Store, execute};
use crate::runs::{key_of, split_keys};
use crate::scope::Scope;

/// A message to write.
#[derive(Clone, Debug)]
pub struct MessageWrite {
    /// The workflow.
    pub key: WorkflowKey,
    /// The step that sends it.
    pub step: StepIndex,
    /// Which of the step's messages.
    pub n: u16,
    /// The run's change in which it is sent.
    pub seq: u64,
    /// Its id.
    pub id: MessageId,
    /// The step's name.
    pub step_name: String,
    /// The agent that sends it.
    pub from_agent: String,
    /// The agent it is for; `None`: all. Of a response it is looked up.
    pub to_agent: Option<String>,
    /// `request`, `response`, `notification`, `feedback`.
    pub kind: &'static str,
    /// 0 (most urgent) to 9.
    pub priority: u8,
    /// What it says, JSON text.
    pub content: String,
    /// The content, sealed for its row: then this is stored and the text is not.
    pub sealed: Option<Vec<u8>>,
    /// The request that a response answers.
    pub in_reply_to: Option<MessageId>,
    /// How a request stands to begin with.
    pub state: Option<Standing>,
    /// How long a request is open, seconds.
    pub timeout_s: Option<u32>,
}

/// An entry of the shared context to write.
#[derive(Clone, Debug)]
pub struct ContextWrite {
    /// The workflow.
    pub key: WorkflowKey,
    /// The step that writes it.
    pub step: StepIndex,
    /// Which of the step's entries.
    pub n: u16,
    /// The run's change in which it is written.
    pub seq: u64,
    /// The step's name.
    pub step_name: String,
    /// The agent that writes it.
    pub agent: String,
    /// The entry's key.
    pub entry: String,
    /// The value, JSON text.
    pub value: String,
    /// The value, sealed for its row: then this is stored and the text is not.
    pub sealed: Option<Vec<u8>>,
    /// The version it replaces; `None`: whichever is there.
    pub if_version: Option<u32>,
}

/// A message as stored.
#[derive(Clone, Debug)]
pub struct MessageRow {
    /// The workflow.
    pub key: WorkflowKey,
    /// The step that sent it.
    pub step: StepIndex,
    /// Which of the step's messages.
    pub n: u16,
    /// The run's change in which it was sent.
    pub seq: u64,
    /// Its id.
    pub id: MessageId,
    /// The step's name.
    pub step_name: String,
    /// The agent that sent it.
    pub from_agent: String,
    /// The agent it is for; `None`: all.
    pub to_agent: Option<String>,
    /// `request`, `response`, `notification`, `feedback`.
    pub kind: String,
    /// 0 (most urgent) to 9.
    pub priority: u8,
    /// What it says.
    pub content: Content,
    /// The request that a response answers.
    pub in_reply_to: Option<MessageId>,
    /// How a request or a response stands, see `core::message::Standing`.
    pub state: Option<String>,
    /// Until when a request is open, RFC 3339.
    pub expires_at: Option<String>,
    /// When it was sent, RFC 3339.
    pub sent_at: String,
}

/// An entry of the shared context as stored.
#[derive(Clone, Debug)]
pub struct ContextRow {
    /// The workflow.
    pub key: WorkflowKey,
    /// The entry's key.
    pub entry: String,
    /// How often it was written.
    pub version: u32,
    /// The value.
    pub value: Content,
    /// The step that wrote it last.
    pub step: StepIndex,
    /// Which of the step's entries.
    pub n: u16,
    /// The run's change in which it was written.
    pub seq: u64,
    /// The step's name.
    pub step_name: String,
    /// The agent that wrote it last.
    pub agent: String,
    /// When, RFC 3339.
    pub updated_at: String,
}

/// When an attempt ended.
#[derive(Clone, Debug)]
pub struct EndRow {
    /// The step.
    pub step: StepIndex,
    /// The epoch of the claim.
    pub epoch: u32,
    /// `succeeded`, or how it failed.
    pub outcome: String,
    /// When it began, RFC 3339, as far as anybody measured its run time.
    pub began_at: String,
    /// When it ended, RFC 3339.
    pub ended_at: String,
}

/// How two agents of a workspace talk.
#[derive(Clone, Debug, PartialEq)]
pub struct PatternRow {
    /// Who sends.
    pub from_agent: String,
    /// Who is addressed; `None`: all.
    pub to_agent: Option<String>,
    /// Requests sent.
    pub requests: i64,
    /// Responses sent.
    pub responses: i64,
    /// Notifications sent.
    pub notifications: i64,
    /// Feedback sent.
    pub feedback: i64,
    /// Requests that were answered.
    pub answered: i64,
    /// Requests that nobody answered and nobody will.
    pub unanswered: i64,
    /// The half of the answers that came sooner came within so many milliseconds.
    pub median_response_ms: Option<f64>,
    /// The slowest answer, milliseconds.
    pub slowest_response_ms: Option<f64>,
}

/// Writes what steps say, and closes the requests they answer.
pub(crate) async fn send(connection: &mut PgConnection, rows: &[&MessageWrite]) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut requests = answer(connection, rows).await?;
    let mut addressed = Vec::with_capacity(rows.len());
    for row in rows {
        addressed.push(match row.in_reply_to {
            None => (row.to_agent.clone(), row.state),
            Some(request) => match requests.get_mut(&(row.key, request)) {
                // The first of several answers by whom it was for is the one.
                Some(request) => {
                    let may = request.to_agent.as_ref().is_none_or(|to| *to == row.from_agent);
                    let standing = if may && std::mem::take(&mut request.open) {
                        Standing::Accepted
                    } else {
                        Standing::Late
                    };
                    (Some(request.asker.clone()), Some(standing))
                }
                // Nobody of this workflow asked that: nobody hears it.
                None => (Some(row.from_agent.clone()), Some(Standing::Late)),
            },
        });
    }
    let (workspaces, workflows) = split_keys(rows.iter().map(|row| &row.key));
    let insert = sqlx::query(
        "INSERT INTO messages (workspace_id, workflow_id, step, n, seq, id, step_name, from_agent, to_agent, kind,
                               priority, content, sealed, in_reply_to, state, expires_at)
         SELECT m.workspace_id, m.workflow_id, m.step, m.n, m.seq, m.id, m.step_name, m.from_agent, m.to_agent, m.kind,
                m.priority, m.content, m.sealed, m.in_reply_to, m.state, galley_now() + m.timeout_s * interval '1 s'
           FROM unnest($1::uuid[], $2::uuid[], $3::int2[], $4::int2[], $5::int8[], $6::uuid[], $7::text[], $8::text[],
                       $9::text[], $10::text[], $11::int2[], $12::json[], $13::bytea[], $14::uuid[], $15::text[],
                       $16::int8[])
                AS m(workspace_id, workflow_id, step, n, seq, id, step_name, from_agent, to_agent, kind,
                     priority, content, sealed, in_reply_to, state, timeout_s)",
    )
    .bind(workspaces)
    .bind(workflows)
    .bind(rows.iter().map(|row| row.step as i16).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.n as i16).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.seq as i64).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.id.0).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.step_name.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.from_agent.as_str()).collect::<Vec<_>>())
    .bind(addressed.iter().map(|(to, _)| to.as_deref()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.kind).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| i16::from(row.priority)).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| in_the_clear(&row.content, row.sealed.as_deref())).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.sealed.as_deref()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.in_reply_to.map(|id| id.0)).collect::<Vec<_>>())
    .bind(addressed.iter().map(|(_, state)| state.map(Standing::word)).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.timeout_s.map(i64::from)).collect::<Vec<_>>());
    execute(connection, insert).await?;
    Ok(())
}

/// A request that is answered.
struct Asked {
    asker: String,
    /// Who may answer; `None`: anyone.
    to_agent: Option<String>,
    /// It was open, and one who may answers it here.
    open: bool,
}

/// Closes the requests that are answered here, and says who asked what is named.
async fn answer(
    connection: &mut PgConnection,
    rows: &[&MessageWrite],
) -> Result<HashMap<(WorkflowKey, MessageId), Asked>, StoreError> {
    let answers: Vec<_> = rows.iter().filter_map(|row| Some((row, row.in_reply_to?))).collect();
    if answers.is_empty() {
        return Ok(HashMap::new());
    }
    let (workspaces, workflows) = split_keys(answers.iter().map(|(row, _)| &row.key));
    let found = sqlx::query(
        "WITH a AS (
             SELECT DISTINCT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[])
                                 AS a(workspace_id, workflow_id, id, agent)
         ), hit AS (
             UPDATE messages q SET state = 'answered', answered_at = galley_now()
               FROM a
              WHERE q.workspace_id = a.workspace_id AND q.workflow_id = a.workflow_id AND q.id = a.id
                AND q.kind = 'request' AND q.state = 'open' AND q.expires_at > galley_now()
                AND (q.to_agent IS NULL OR q.to_agent = a.agent)
          RETURNING q.workflow_id, q.id
         )
         SELECT DISTINCT q.workspace_id, q.workflow_id, q.id, q.from_agent, q.to_agent, hit.id IS NOT NULL
           FROM a JOIN messages q USING (workspace_id, workflow_id, id)
                LEFT JOIN hit ON hit.workflow_id = q.workflow_id AND hit.id = q.id
          WHERE q.kind = 'request'",
    )
    .bind(workspaces)
    .bind(workflows)
    .bind(answers.iter().map(|(_, id)| id.0).collect::<Vec<_>>())
    .bind(answers.iter().map(|(row, _)| row.from_agent.as_str()).collect::<Vec<_>>())
    .fetch_all(&mut *connection)
    .await?;
    found
        .iter()
        .map(|row| {
            let asked = Asked { asker: row.try_get(3)?, to_agent: row.try_get(4)?, open: row.try_get(5)? };
            Ok(((key_of(row)?, MessageId(row.try_get(2)?)), asked))
        })
        .collect()
}

/// Writes entries of shared contexts; the last of several for one key stays.
pub(crate) async fn remember(
    connection: &mut PgConnection,
    rows: &[&ContextWrite],
) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let (workspaces, workflows) = split_keys(rows.iter().map(|row| &row.key));
    let known = sqlx::query(
        "SELECT workspace_id, workflow_id, key, version
           FROM shared_context JOIN unnest($1::uuid[], $2::uuid[], $3::text[]) AS k(workspace_id, workflow_id, key)
                USING (workspace_id, workflow_id, key)",
    )
    .bind(workspaces)
    .bind(workflows)
    .bind(rows.iter().map(|row| row.entry.as_str()).collect::<Vec<_>>())
    .fetch_all(&mut *connection)
    .await?;
    let mut versions: HashMap<(WorkflowKey, String), u32> = HashMap::new();
    for row in &known {
        versions.insert((key_of(row)?, row.try_get(2)?), row.try_get::<i32, _>(3)? as u32);
    }
    let mut last: HashMap<(WorkflowKey, &str), (&ContextWrite, u32)> = HashMap::new();
    for row in rows {
        let version = versions.entry((row.key, row.entry.clone())).or_insert(0);
        if row.if_version.is_some_and(|expected| expected != *version) {
            return Err(StoreError::Overtaken(Overtaken::Context));
        }
        *version += 1;
        last.insert((row.key, row.entry.as_str()), (row, *version));
    }
    let rows: Vec<_> = last.into_values().collect();
    let (workspaces, workflows) = split_keys(rows.iter().map(|(row, _)| &row.key));
    let upsert = sqlx::query(
        "INSERT INTO shared_context (workspace_id, workflow_id, key, version, value, sealed, step, n, seq, step_name, agent)
         SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::int4[], $5::json[], $6::bytea[], $7::int2[],
                              $8::int2[], $9::int8[], $10::text[], $11::text[])
         ON CONFLICT (workspace_id, workflow_id, key) DO UPDATE
            SET version = excluded.version, value = excluded.value, sealed = excluded.sealed, step = excluded.step,
                n = excluded.n, seq = excluded.seq, step_name = excluded.step_name, agent = excluded.agent,
                updated_at = galley_now()",
    )
    .bind(workspaces)
    .bind(workflows)
    .bind(rows.iter().map(|(row, _)| row.entry.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, version)| *version as i32).collect::<Vec<_>>())
    .bind(rows.iter().map(|(row, _)| in_the_clear(&row.value, row.sealed.as_deref())).collect::<Vec<_>>())
    .bind(rows.iter().map(|(row, _)| row.sealed.as_deref()).collect::<Vec<_>>())
    .bind(rows.iter().map(|(row, _)| row.step as i16).collect::<Vec<_>>())
    .bind(rows.iter().map(|(row, _)| row.n as i16).collect::<Vec<_>>())
    .bind(rows.iter().map(|(row, _)| row.seq as i64).collect::<Vec<_>>())
    .bind(rows.iter().map(|(row, _)| row.step_name.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|(row, _)| row.agent.as_str()).collect::<Vec<_>>());
    execute(connection, upsert).await?;
    let (workspaces, workflows) = split_keys(rows.iter().map(|(row, _)| &row.key));
    let full = sqlx::query(
        "SELECT 1 FROM shared_context
           JOIN (SELECT DISTINCT * FROM unnest($1::uuid[], $2::uuid[]) AS k(workspace_id, workflow_id)) k
                USING (workspace_id, workflow_id)
          GROUP BY workspace_id, workflow_id
         HAVING sum(coalesce(octet_length(sealed), octet_length(value::text))) > $3 LIMIT 1",
    )
    .bind(workspaces)
    .bind(workflows)
    .bind(MOST_CONTEXT_BYTES as i64)
    .fetch_optional(&mut *connection)
    .await?;
    // Nothing of this is kept: an error takes the transaction back.
    if full.is_some() { Err(StoreError::Overtaken(Overtaken::ContextFull)) } else { Ok(()) }
}

/// The workflow is over: what is open now stays unanswered.
pub(crate) async fn close_requests(
    connection: &mut PgConnection,
    keys: &[&WorkflowKey],
) -> Result<(), StoreError> {
    if keys.is_empty() {
        return Ok(());
    }
    let (workspaces, workflows) = split_keys(keys.iter().copied());
    let close = sqlx::query(
        "UPDATE messages m
            SET state = CASE WHEN m.expires_at > galley_now() THEN 'unanswered' ELSE 'timed_out' END
           FROM unnest($1::uuid[], $2::uuid[]) AS k(workspace_id, workflow_id)
          WHERE m.workspace_id = k.workspace_id AND m.workflow_id = k.workflow_id AND m.state = 'open'",
    );
    execute(connection, close.bind(workspaces).bind(workflows)).await?;
    Ok(())
}

impl Store {
    /// The messages of workflows, each workflow's in the order they were sent.
    /// A request whose time has passed is told as timed out, whoever has
    /// written that down yet.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn load_messages(&self, keys: &[WorkflowKey]) -> Result<Vec<MessageRow>, StoreError> {
        let (workspaces, workflows) = split_keys(keys);
        let rows = sqlx::query(
            "SELECT m.workspace_id, m.workflow_id, m.step, m.n, m.seq, m.id, m.step_name, m.from_agent, m.to_agent,
                    m.kind, m.priority, m.content::text, m.sealed, m.in_reply_to,
                    CASE WHEN m.state = 'open' AND m.expires_at <= galley_now() THEN 'timed_out' ELSE m.state END,
                    to_json(m.expires_at)#>>'{}', to_json(m.sent_at)#>>'{}'
               FROM unnest($1::uuid[], $2::uuid[]) AS k(workspace_id, workflow_id)
               JOIN messages m USING (workspace_id, workflow_id)
              ORDER BY m.workspace_id, m.workflow_id, m.seq, m.step, m.n",
        )
        .bind(workspaces)
        .bind(workflows)
        .fetch_all(&mut *self.reader(Scope::of(keys.iter().map(|key| key.workspace))).await?)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(MessageRow {
                    key: key_of(row)?,
                    step: row.try_get::<i16, _>(2)? as StepIndex,
                    n: row.try_get::<i16, _>(3)? as u16,
                    seq: row.try_get::<i64, _>(4)? as u64,
                    id: MessageId(row.try_get(5)?),
                    step_name: row.try_get(6)?,
                    from_agent: row.try_get(7)?,
                    to_agent: row.try_get(8)?,
                    kind: row.try_get(9)?,
                    priority: row.try_get::<i16, _>(10)? as u8,
                    content: Content::of(row, 11, 12)?,
                    in_reply_to: row.try_get::<Option<Uuid>, _>(13)?.map(MessageId),
                    state: row.try_get(14)?,
                    expires_at: row.try_get(15)?,
                    sent_at: row.try_get(16)?,
                })
            })
            .collect()
    }

    /// The shared contexts of workflows, by key.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn load_context(&self, keys: &[WorkflowKey]) -> Result<Vec<ContextRow>, StoreError> {
        let (workspaces, workflows) = split_keys(keys);
        let rows = sqlx::query(
            "SELECT c.workspace_id, c.workflow_id, c.key, c.version, c.value::text, c.sealed, c.step, c.n, c.seq,
                    c.step_name, c.agent, to_json(c.updated_at)#>>'{}'
               FROM unnest($1::uuid[], $2::uuid[]) AS k(workspace_id, workflow_id)
               JOIN shared_context c USING (workspace_id, workflow_id)
              ORDER BY c.workspace_id, c.workflow_id, c.key",
        )
        .bind(workspaces)
        .bind(workflows)
        .fetch_all(&mut *self.reader(Scope::of(keys.iter().map(|key| key.workspace))).await?)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(ContextRow {
                    key: key_of(row)?,
                    entry: row.try_get(2)?,
                    version: row.try_get::<i32, _>(3)? as u32,
                    value: Content::of(row, 4, 5)?,
                    step: row.try_get::<i16, _>(6)? as StepIndex,
                    n: row.try_get::<i16, _>(7)? as u16,
                    seq: row.try_get::<i64, _>(8)? as u64,
                    step_name: row.try_get(9)?,
                    agent: row.try_get(10)?,
                    updated_at: row.try_get(11)?,
                })
            })
            .collect()
    }

    /// When the attempts of a workflow began and ended, without what they made.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn attempt_ends(&self, key: WorkflowKey) -> Result<Vec<EndRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT step, epoch, outcome, to_json(ended_at - coalesce(duration_ms, 0) * interval '1 ms')#>>'{}',
                    to_json(ended_at)#>>'{}'
               FROM (SELECT step, epoch, 'succeeded' AS outcome, duration_ms, finished_at AS ended_at
                       FROM results WHERE workspace_id = $1 AND workflow_id = $2
                      UNION ALL
                     SELECT step, epoch, outcome, duration_ms, ended_at
                       FROM attempts WHERE workspace_id = $1 AND workflow_id = $2) e
              ORDER BY ended_at, step, epoch",
        )
        .bind(key.workspace.0)
        .bind(key.workflow.0)
        .fetch_all(&mut *self.reader(key.workspace).await?)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(EndRow {
                    step: row.try_get::<i16, _>(0)? as StepIndex,
                    epoch: row.try_get::<i32, _>(1)? as u32,
                    outcome: row.try_get(2)?,
                    began_at: row.try_get(3)?,
                    ended_at: row.try_get(4)?,
                })
            })
            .collect()
    }

    /// Writes down which requests' time has passed; answers with their
    /// workflows, one entry per request.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn time_out_requests(&self, limit: i64) -> Result<Vec<WorkflowKey>, StoreError> {
        self.unit(Scope::Fleet, move |pool| async move {
            let mut connection = pool.link().await?;
            let rows = sqlx::query(
                "UPDATE messages SET state = 'timed_out'
                  WHERE (workspace_id, workflow_id, step, n) IN (
                        SELECT workspace_id, workflow_id, step, n FROM messages
                         WHERE state = 'open' AND expires_at <= galley_now()
                         ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED)
              RETURNING workspace_id, workflow_id",
            )
            .bind(limit)
            .fetch_all(&mut *connection)
            .await?;
            connection.done().await?;
            let key = |row| -> Result<WorkflowKey, StoreError> { Ok(key_of(row)?) };
            rows.iter().map(key).collect()
        })
        .await
    }

    /// Who talks to whom in a workspace, in messages sent from `from` up to
    /// `until` (RFC 3339; open where absent), the busiest pair first.
    ///
    /// # Errors
    /// Postgres is away, or cannot read a time.
    pub async fn communication_patterns(
        &self,
        workspace: WorkspaceId,
        from: Option<&str>,
        until: Option<&str>,
    ) -> Result<Vec<PatternRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT from_agent, to_agent,
                    count(*) FILTER (WHERE kind = 'request'), count(*) FILTER (WHERE kind = 'response'),
                    count(*) FILTER (WHERE kind = 'notification'), count(*) FILTER (WHERE kind = 'feedback'),
                    count(*) FILTER (WHERE state = 'answered'),
                    count(*) FILTER (WHERE state IN ('timed_out', 'undeliverable', 'unanswered')
                                        OR (state = 'open' AND expires_at <= galley_now())),
                    percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM answered_at - sent_at)::float8 * 1000),
                    max(extract(epoch FROM answered_at - sent_at)::float8 * 1000)
               FROM messages
              WHERE workspace_id = $1
                AND sent_at >= coalesce($2::timestamptz, '-infinity') AND sent_at < coalesce($3::timestamptz, 'infinity')
              GROUP BY from_agent, to_agent
              ORDER BY count(*) DESC, from_agent, to_agent",
        )
        .bind(workspace.0)
        .bind(from)
        .bind(until)
        .fetch_all(&mut *self.reader(workspace).await?)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(PatternRow {
                    from_agent: row.try_get(0)?,
                    to_agent: row.try_get(1)?,
                    requests: row.try_get(2)?,
                    responses: row.try_get(3)?,
                    notifications: row.try_get(4)?,
                    feedback: row.try_get(5)?,
                    answered: row.try_get(6)?,
                    unanswered: row.try_get(7)?,
                    median_response_ms: row.try_get(8)?,
                    slowest_response_ms: row.try_get(9)?,
                })
            })
            .collect()
    }
}
