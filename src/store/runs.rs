//! Live state: loading runs, and writing a decided batch by compare-and-set.
//!
//! Nothing here decides. A batch is written in one transaction; only the runs
//! whose version was still the expected one are written, and only their side
//! rows (results, timers, dead letters) with them.

use std::collections::HashSet;
use std::sync::Arc;

use galley_core::ids::{SessionId, StepIndex, WorkflowId, WorkflowKey, WorkspaceId};
use galley_core::report::Usage;
use galley_probe::{Bug, Point, planted, point};
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use crate::audit::{AuditWrite, write_audit};
use crate::budgets;
use crate::content::in_the_clear;
use crate::error::StoreError;
use crate::experience;
use crate::letters::{self, LetterClose, LetterOpen};
use crate::messages::{self, ContextWrite, MessageWrite};
use crate::planted::guarded;
use crate::pool::{Store, execute};
use crate::publishing::{self, PostOp};
use crate::scope::Scope;

/// A run as stored.
#[derive(Clone, Debug)]
pub struct RunRow {
    /// The workflow.
    pub key: WorkflowKey,
    /// The definition it runs.
    pub definition: i64,
    /// What compare-and-set compares.
    pub version: i64,
    /// The serialized run.
    pub run: Vec<u8>,
}

/// A run to write.
#[derive(Clone, Debug)]
pub struct RunWrite {
    /// The workflow.
    pub key: WorkflowKey,
    /// The version it was decided on.
    pub expected: i64,
    /// The version it gets.
    pub next: i64,
    /// How many of its steps are running.
    pub running: u16,
    /// The serialized run.
    pub run: Vec<u8>,
    /// The final state's word, for a run that moves to history.
    pub finished: Option<&'static str>,
}

/// One attempt's identity in rows.
#[derive(Clone, Copy, Debug)]
pub struct AttemptKey {
    /// The workflow.
    pub key: WorkflowKey,
    /// The step.
    pub step: StepIndex,
    /// The epoch of the claim.
    pub epoch: u32,
    /// The nonce of the claim.
    pub nonce: u64,
    /// The session that ran it.
    pub session: SessionId,
}

/// A succeeded step's result.
#[derive(Clone, Debug)]
pub struct ResultWrite {
    /// Whose.
    pub attempt: AttemptKey,
    /// Monotonic run time, milliseconds.
    pub duration_ms: u32,
    /// The bill.
    pub usage: Usage,
    /// The output as JSON text.
    pub output: Arc<str>,
    /// The output, sealed for its row: then this is stored and the text is not.
    pub sealed: Option<Vec<u8>>,
}

/// An attempt that did not succeed.
#[derive(Clone, Debug)]
pub struct AttemptWrite {
    /// Whose.
    pub attempt: AttemptKey,
    /// `failed`, `throttled`, `crashed`, `overdue`.
    pub outcome: &'static str,
    /// The error's class.
    pub class: String,
    /// The error's message.
    pub message: String,
    /// Monotonic run time, milliseconds, where somebody measured it.
    pub duration_ms: Option<u32>,
    /// The bill.
    pub usage: Usage,
}

/// A timer to set.
#[derive(Clone, Copy, Debug)]
pub struct TimerWrite {
    /// The workflow.
    pub key: WorkflowKey,
    /// The step.
    pub step: StepIndex,
    /// The epoch it is for.
    pub epoch: u32,
    /// Milliseconds from now.
    pub delay_ms: u64,
}

/// A step that waits for money.
#[derive(Clone, Copy, Debug)]
pub struct MoneyWait {
    /// The workflow.
    pub key: WorkflowKey,
    /// The step.
    pub step: StepIndex,
    /// The epoch it waits at.
    pub epoch: u32,
    /// What its next call may cost at most, millionths of a US dollar.
    pub needed_micros: u64,
}

/// An input that a person replaced.
#[derive(Clone, Debug)]
pub struct InputWrite {
    /// The workflow.
    pub key: WorkflowKey,
    /// The step.
    pub step: StepIndex,
    /// The epoch it is for.
    pub epoch: u32,
    /// The input as JSON text.
    pub input: String,
    /// The input, sealed for its row: then this is stored and the text is not.
    pub sealed: Option<Vec<u8>>,
    /// Who.
    pub actor: String,
}

/// Everything one decided batch writes.
#[derive(Clone, Debug, Default)]
pub struct SaveBatch {
    /// The runs, at most one entry per workflow.
    pub runs: Vec<RunWrite>,
    /// Results of the runs above.
    pub results: Vec<ResultWrite>,
    /// Attempt log lines.
    pub attempts: Vec<AttemptWrite>,
    /// Timers to set.
    pub timers: Vec<TimerWrite>,
    /// Timers to remove.
    pub stopped: Vec<(WorkflowKey, StepIndex)>,
    /// Steps that wait for money.
    pub unfunded: Vec<MoneyWait>,
    /// Steps that do not wait for money any more.
    pub funded: Vec<(WorkflowKey, StepIndex)>,
    /// Dead letters to open.
    pub letters: Vec<LetterOpen>,
    /// Dead letters to close.
    pub closed: Vec<LetterClose>,
    /// Replaced inputs.
    pub inputs: Vec<InputWrite>,
    /// Audit lines.
    pub audit: Vec<AuditWrite>,
    /// Where posts stand now, by their publish steps.
    pub post_states: Vec<(WorkflowKey, StepIndex, &'static str)>,
    /// Writes about posts, in order.
    pub posts: Vec<(WorkflowKey, StepIndex, Vec<PostOp>)>,
    /// Workflows that were cancelled: nobody is asked about them any more.
    pub cancelled: Vec<WorkflowKey>,
    /// What steps say to others.
    pub messages: Vec<MessageWrite>,
    /// What steps add to the shared context.
    pub context: Vec<ContextWrite>,
    /// Workflows that are over and in which something was said.
    pub fallen_silent: Vec<WorkflowKey>,
}

impl SaveBatch {
    /// Whose rows it touches: everything in it belongs to a run of it, but for
    /// audit lines.
    fn scope(&self) -> Scope {
        let runs = self.runs.iter().map(|run| run.key.workspace);
        Scope::of(runs.chain(self.audit.iter().map(|line| line.workspace)))
    }

    /// Whether only live runs change: one statement, no transaction needed.
    fn is_plain(&self) -> bool {
        self.runs.iter().all(|run| run.finished.is_none())
            && self.results.is_empty()
            && self.attempts.is_empty()
            && self.timers.is_empty()
            && self.stopped.is_empty()
            && self.unfunded.is_empty()
            && self.funded.is_empty()
            && self.letters.is_empty()
            && self.closed.is_empty()
            && self.inputs.is_empty()
            && self.audit.is_empty()
            && self.post_states.is_empty()
            && self.posts.is_empty()
            && self.cancelled.is_empty()
            && self.messages.is_empty()
            && self.context.is_empty()
            && self.fallen_silent.is_empty()
    }
}

pub(crate) fn split_keys<'a>(keys: impl IntoIterator<Item = &'a WorkflowKey>) -> (Vec<Uuid>, Vec<Uuid>) {
    keys.into_iter().map(|key| (key.workspace.0, key.workflow.0)).unzip()
}

pub(crate) fn key_of(row: &sqlx::postgres::PgRow) -> Result<WorkflowKey, sqlx::Error> {
    Ok(WorkflowKey { workspace: WorkspaceId(row.try_get(0)?), workflow: WorkflowId(row.try_get(1)?) })
}

fn run_of(row: &sqlx::postgres::PgRow) -> Result<RunRow, StoreError> {
    Ok(RunRow {
        key: key_of(row)?,
        definition: row.try_get(2)?,
        version: row.try_get(3)?,
        run: row.try_get(4)?,
    })
}

impl Store {
    /// Loads live runs. Keys without a live run are simply absent.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn load_runs(&self, keys: &[WorkflowKey]) -> Result<Vec<RunRow>, StoreError> {
        let (workspaces, workflows) = split_keys(keys);
        let rows = sqlx::query(
            "SELECT r.workspace_id, r.id, r.definition_id, r.version, r.run
               FROM unnest($1::uuid[], $2::uuid[]) AS k(workspace_id, id)
               JOIN runs r USING (workspace_id, id)",
        )
        .bind(workspaces)
        .bind(workflows)
        .fetch_all(&mut *self.reader(Scope::of(keys.iter().map(|key| key.workspace))).await?)
        .await?;
        rows.iter().map(run_of).collect()
    }

    /// One page of all live runs in key order, behind `after`.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn page_runs(&self, after: Option<WorkflowKey>, limit: i64) -> Result<Vec<RunRow>, StoreError> {
        let after = after.unwrap_or(WorkflowKey {
            workspace: WorkspaceId(Uuid::nil()),
            workflow: WorkflowId(Uuid::nil()),
        });
        let rows = sqlx::query(
            "SELECT workspace_id, id, definition_id, version, run
               FROM runs
              WHERE (workspace_id, id) > ($1, $2)
              ORDER BY workspace_id, id
              LIMIT $3",
        )
        .bind(after.workspace.0)
        .bind(after.workflow.0)
        .bind(limit)
        .fetch_all(&mut *self.reader(Scope::Fleet).await?)
        .await?;
        rows.iter().map(run_of).collect()
    }

    /// Every live run with a running step. Bounded by the fleet's concurrency.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn running_runs(&self) -> Result<Vec<RunRow>, StoreError> {
        let rows =
            sqlx::query("SELECT workspace_id, id, definition_id, version, run FROM runs WHERE running > 0")
                .fetch_all(&mut *self.reader(Scope::Fleet).await?)
                .await?;
        rows.iter().map(run_of).collect()
    }

    /// Writes a decided batch in one transaction and answers with the
    /// workflows whose run was written. The others lost the compare-and-set:
    /// load them again and decide again.
    ///
    /// # Errors
    /// On [`StoreError::Unavailable`] the outcome is unknown: repeat the
    /// events, they are fenced. On [`StoreError::Data`] nothing was written.
    pub async fn save(&self, mut batch: SaveBatch) -> Result<HashSet<WorkflowKey>, StoreError> {
        // Two batches that write the same rows take their locks in one order.
        batch.runs.sort_unstable_by_key(|run| run.key);
        // Boxed: it would make every future that writes a run large.
        self.unit(batch.scope(), move |pool| {
            Box::pin(async move {
                if batch.is_plain() {
                    let mut connection = pool.link().await?;
                    let won = update_runs(&mut connection, batch.runs.iter()).await?;
                    connection.done().await?;
                    return Ok(won);
                }
                let mut transaction = pool.begin().await?;
                let connection = &mut *transaction;
                let live = batch.runs.iter().filter(|run| run.finished.is_none());
                let mut won = update_runs(connection, live).await?;
                let finished = batch.runs.iter().filter(|run| run.finished.is_some());
                won.extend(finish_runs(connection, finished).await?);
                let late =
                    if planted(Bug::AuditOutside) { std::mem::take(&mut batch.audit) } else { Vec::new() };
                save_side_rows(connection, &batch, &won).await?;
                point(Point::SaveWritten);
                transaction.commit().await?;
                for line in late {
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    let mut connection = pool.link().await?;
                    write_audit(&mut connection, &line).await?;
                    connection.done().await?;
                }
                Ok(won)
            })
        })
        .await
    }
}

async fn update_runs(
    connection: &mut PgConnection,
    runs: impl Iterator<Item = &RunWrite> + Clone,
) -> Result<HashSet<WorkflowKey>, StoreError> {
    let (workspaces, workflows) = split_keys(runs.clone().map(|run| &run.key));
    if workflows.is_empty() {
        return Ok(HashSet::new());
    }
    let expected: Vec<i64> = runs.clone().map(|run| run.expected).collect();
    let next: Vec<i64> = runs.clone().map(|run| run.next).collect();
    let bytes: Vec<&[u8]> = runs.clone().map(|run| run.run.as_slice()).collect();
    let running: Vec<i16> = runs.map(|run| run.running as i16).collect();
    // The version in the WHERE clause is the whole concurrency control: of two
    // writers that decided on the same run, one updates and one finds nothing.
    let rows = guarded(
        "UPDATE runs r
            SET version = d.next, run = d.run, running = d.running, changed_at = galley_now()
           FROM unnest($1::uuid[], $2::uuid[], $3::int8[], $4::int8[], $5::bytea[], $6::int2[])
                AS d(workspace_id, id, expected, next, run, running)
          WHERE r.workspace_id = d.workspace_id AND r.id = d.id AND r.version = d.expected
      RETURNING r.workspace_id, r.id",
        Bug::DropVersion,
        "AND r.version = d.expected",
        "",
    )
    .bind(workspaces)
    .bind(workflows)
    .bind(expected)
    .bind(next)
    .bind(bytes)
    .bind(running)
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| key_of(row).map_err(StoreError::from)).collect()
}

async fn finish_runs(
    connection: &mut PgConnection,
    runs: impl Iterator<Item = &RunWrite> + Clone,
) -> Result<HashSet<WorkflowKey>, StoreError> {
    let (workspaces, workflows) = split_keys(runs.clone().map(|run| &run.key));
    if workflows.is_empty() {
        return Ok(HashSet::new());
    }
    let expected: Vec<i64> = runs.clone().map(|run| run.expected).collect();
    let next: Vec<i64> = runs.clone().map(|run| run.next).collect();
    let states: Vec<&str> = runs.clone().filter_map(|run| run.finished).collect();
    let bytes: Vec<&[u8]> = runs.map(|run| run.run.as_slice()).collect();
    // The live row goes and the history row comes in one statement: there is
    // no moment at which a workflow is in neither or in both.
    let rows = guarded(
        "WITH d AS (
             SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::int8[], $4::int8[], $5::text[], $6::bytea[])
                        AS d(workspace_id, id, expected, next, state, run)
         ), gone AS (
             DELETE FROM runs r USING d
              WHERE r.workspace_id = d.workspace_id AND r.id = d.id AND r.version = d.expected
          RETURNING r.workspace_id, r.id, r.definition_id, d.next, d.state, d.run
         )
         INSERT INTO finished_runs (workspace_id, id, definition_id, version, state, run)
         SELECT workspace_id, id, definition_id, next, state, run FROM gone
      RETURNING workspace_id, id",
        Bug::DropVersion,
        "AND r.version = d.expected",
        "",
    )
    .bind(workspaces)
    .bind(workflows)
    .bind(expected)
    .bind(next)
    .bind(states)
    .bind(bytes)
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| key_of(row).map_err(StoreError::from)).collect()
}

async fn save_side_rows(
    connection: &mut PgConnection,
    batch: &SaveBatch,
    won: &HashSet<WorkflowKey>,
) -> Result<(), StoreError> {
    let results: Vec<_> = batch.results.iter().filter(|row| won.contains(&row.attempt.key)).collect();
    insert_results(connection, &results).await?;
    let attempts: Vec<_> = batch.attempts.iter().filter(|row| won.contains(&row.attempt.key)).collect();
    insert_attempts(connection, &attempts).await?;
    let stopped: Vec<_> = batch.stopped.iter().filter(|(key, _)| won.contains(key)).collect();
    delete_timers(connection, &stopped).await?;
    let timers: Vec<_> = batch.timers.iter().filter(|row| won.contains(&row.key)).collect();
    insert_timers(connection, &timers).await?;
    let funded: Vec<_> = batch.funded.iter().filter(|(key, _)| won.contains(key)).collect();
    budgets::money_wait_over(connection, &funded).await?;
    let unfunded: Vec<_> = batch.unfunded.iter().filter(|row| won.contains(&row.key)).collect();
    budgets::wait_for_money(connection, &unfunded).await?;
    letters::close(connection, batch.closed.iter().filter(|row| won.contains(&row.key))).await?;
    letters::open(connection, batch.letters.iter().filter(|row| won.contains(&row.key))).await?;
    for input in batch.inputs.iter().filter(|row| won.contains(&row.key)) {
        let insert = sqlx::query(
            "INSERT INTO step_inputs (workspace_id, workflow_id, step, epoch, input, edited_by, sealed)
             VALUES ($1, $2, $3, $4, $5::json, $6, $7)",
        )
        .bind(input.key.workspace.0)
        .bind(input.key.workflow.0)
        .bind(input.step as i16)
        .bind(input.epoch as i32)
        .bind(in_the_clear(&input.input, input.sealed.as_deref()))
        .bind(&input.actor)
        .bind(&input.sealed);
        execute(connection, insert).await?;
    }
    let states: Vec<_> = batch.post_states.iter().filter(|(key, ..)| won.contains(key)).collect();
    publishing::follow(connection, &states).await?;
    let cancelled: Vec<_> = batch.cancelled.iter().filter(|key| won.contains(key)).collect();
    publishing::void_questions(connection, &cancelled).await?;
    let context: Vec<_> = batch.context.iter().filter(|row| won.contains(&row.key)).collect();
    messages::remember(connection, &context).await?;
    let said: Vec<_> = batch.messages.iter().filter(|row| won.contains(&row.key)).collect();
    messages::send(connection, &said).await?;
    let silent: Vec<_> = batch.fallen_silent.iter().filter(|key| won.contains(key)).collect();
    messages::close_requests(connection, &silent).await?;
    for (key, step, ops) in batch.posts.iter().filter(|(key, ..)| won.contains(key)) {
        publishing::write(connection, *key, *step, ops).await?;
    }
    for line in batch.audit.iter().filter(|line| line.key.is_none_or(|key| won.contains(&key))) {
        write_audit(connection, line).await?;
    }
    Ok(())
}

async fn insert_results(connection: &mut PgConnection, rows: &[&ResultWrite]) -> Result<(), StoreError> {
    experience::note(connection, rows.iter().map(|row| (&row.attempt, &row.usage))).await?;
    let (sealed, rows): (Vec<&ResultWrite>, Vec<&ResultWrite>) =
        rows.iter().partition(|row| row.sealed.is_some());
    insert_sealed_results(connection, &sealed).await?;
    let (free, billed): (Vec<&ResultWrite>, Vec<&ResultWrite>) =
        rows.iter().partition(|row| row.usage == Usage::default());
    insert_free_results(connection, &free).await?;
    insert_billed_results(connection, &billed).await
}

/// Results of steps that called no provider: their bill is the columns'
/// default. Every array of an insert costs, so these six are left out.
async fn insert_free_results(connection: &mut PgConnection, rows: &[&ResultWrite]) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let insert = sqlx::query(
        "INSERT INTO results (workspace_id, workflow_id, step, epoch, nonce, session, duration_ms, output)
         SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::int2[], $4::int4[], $5::int8[], $6::int8[], $7::int4[],
                              $8::json[])",
    );
    let insert = AttemptColumns::of(rows.iter().map(|row| &row.attempt))
        .bind(insert)
        .bind(rows.iter().map(|row| row.duration_ms as i32).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| &*row.output).collect::<Vec<_>>());
    execute(connection, insert).await?;
    Ok(())
}

async fn insert_billed_results(
    connection: &mut PgConnection,
    rows: &[&ResultWrite],
) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let insert = sqlx::query(
        "INSERT INTO results (workspace_id, workflow_id, step, epoch, nonce, session, duration_ms,
                              tokens_in, tokens_out, cost_micros, cache_hit, provider, model, output)
         SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::int2[], $4::int4[], $5::int8[], $6::int8[], $7::int4[],
                              $8::int4[], $9::int4[], $10::int8[], $11::bool[], $12::text[], $13::text[],
                              $14::json[])",
    );
    let insert = AttemptColumns::of(rows.iter().map(|row| &row.attempt))
        .bind(insert)
        .bind(rows.iter().map(|row| row.duration_ms as i32).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.usage.tokens_in as i32).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.usage.tokens_out as i32).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.usage.cost_micros as i64).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.usage.cache_hit).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.usage.provider.as_deref()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.usage.model.as_deref()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| &*row.output).collect::<Vec<_>>());
    execute(connection, insert).await?;
    Ok(())
}

/// Results of workspaces that have them sealed.
async fn insert_sealed_results(
    connection: &mut PgConnection,
    rows: &[&ResultWrite],
) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let insert = sqlx::query(
        "INSERT INTO results (workspace_id, workflow_id, step, epoch, nonce, session, duration_ms,
                              tokens_in, tokens_out, cost_micros, cache_hit, provider, model, sealed, output)
         SELECT r.*, 'null'::json
           FROM unnest($1::uuid[], $2::uuid[], $3::int2[], $4::int4[], $5::int8[], $6::int8[], $7::int4[],
                       $8::int4[], $9::int4[], $10::int8[], $11::bool[], $12::text[], $13::text[],
                       $14::bytea[]) r",
    );
    let insert = AttemptColumns::of(rows.iter().map(|row| &row.attempt))
        .bind(insert)
        .bind(rows.iter().map(|row| row.duration_ms as i32).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.usage.tokens_in as i32).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.usage.tokens_out as i32).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.usage.cost_micros as i64).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.usage.cache_hit).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.usage.provider.as_deref()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.usage.model.as_deref()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.sealed.as_deref()).collect::<Vec<_>>());
    execute(connection, insert).await?;
    Ok(())
}

pub(crate) async fn insert_attempts(
    connection: &mut PgConnection,
    rows: &[&AttemptWrite],
) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let columns = AttemptColumns::of(rows.iter().map(|row| &row.attempt));
    // A repeated unit, or a zombie's late bill, finds its line already there.
    let insert = sqlx::query(
        "INSERT INTO attempts (workspace_id, workflow_id, step, epoch, nonce, session, duration_ms,
                               outcome, class, message, tokens_in, tokens_out, cost_micros, provider, model)
         SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::int2[], $4::int4[], $5::int8[], $6::int8[], $7::int4[],
                              $8::text[], $9::text[], $10::text[], $11::int4[], $12::int4[], $13::int8[],
                              $14::text[], $15::text[])
         ON CONFLICT DO NOTHING",
    );
    let insert = columns
        .bind(insert)
        .bind(rows.iter().map(|row| row.duration_ms.map(|ms| ms as i32)).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.outcome).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.class.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.message.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.usage.tokens_in as i32).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.usage.tokens_out as i32).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.usage.cost_micros as i64).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.usage.provider.as_deref()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.usage.model.as_deref()).collect::<Vec<_>>());
    execute(connection, insert).await?;
    experience::note(connection, rows.iter().map(|row| (&row.attempt, &row.usage))).await
}

async fn insert_timers(connection: &mut PgConnection, rows: &[&TimerWrite]) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let (workspaces, workflows) = split_keys(rows.iter().map(|row| &row.key));
    let insert = sqlx::query(
        "INSERT INTO timers (workspace_id, workflow_id, step, epoch, due_at)
         SELECT t.workspace_id, t.workflow_id, t.step, t.epoch, galley_now() + t.delay_ms * interval '1 ms'
           FROM unnest($1::uuid[], $2::uuid[], $3::int2[], $4::int4[], $5::int8[])
                AS t(workspace_id, workflow_id, step, epoch, delay_ms)
         ON CONFLICT (workspace_id, workflow_id, step) DO UPDATE SET epoch = excluded.epoch, due_at = excluded.due_at",
    )
    .bind(workspaces)
    .bind(workflows)
    .bind(rows.iter().map(|row| row.step as i16).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.epoch as i32).collect::<Vec<_>>())
    // A delay is at most a day plus a back-off: far below i64.
    .bind(rows.iter().map(|row| i64::try_from(row.delay_ms).unwrap_or(i64::MAX / 2)).collect::<Vec<_>>());
    execute(connection, insert).await?;
    Ok(())
}

async fn delete_timers(
    connection: &mut PgConnection,
    rows: &[&(WorkflowKey, StepIndex)],
) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let (workspaces, workflows) = split_keys(rows.iter().map(|(key, _)| key));
    let delete = sqlx::query(
        "DELETE FROM timers t
          USING unnest($1::uuid[], $2::uuid[], $3::int2[]) AS d(workspace_id, workflow_id, step)
          WHERE t.workspace_id = d.workspace_id AND t.workflow_id = d.workflow_id AND t.step = d.step",
    )
    .bind(workspaces)
    .bind(workflows)
    .bind(rows.iter().map(|(_, step)| *step as i16).collect::<Vec<_>>());
    execute(connection, delete).await?;
    Ok(())
}

/// The six columns every attempt's row begins with.
struct AttemptColumns {
    workspaces: Vec<Uuid>,
    workflows: Vec<Uuid>,
    steps: Vec<i16>,
    epochs: Vec<i32>,
    nonces: Vec<i64>,
    sessions: Vec<i64>,
}

impl AttemptColumns {
    fn of<'a>(attempts: impl Iterator<Item = &'a AttemptKey> + Clone) -> Self {
        let (workspaces, workflows) = split_keys(attempts.clone().map(|attempt| &attempt.key));
        Self {
            workspaces,
            workflows,
            steps: attempts.clone().map(|attempt| attempt.step as i16).collect(),
            epochs: attempts.clone().map(|attempt| attempt.epoch as i32).collect(),
            // Bits, not a number: the sign does not matter.
            nonces: attempts.clone().map(|attempt| attempt.nonce as i64).collect(),
            sessions: attempts.map(|attempt| attempt.session.0).collect(),
        }
    }

    fn bind<'q>(
        self,
        query: sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>,
    ) -> sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments> {
        query
            .bind(self.workspaces)
            .bind(self.workflows)
            .bind(self.steps)
            .bind(self.epochs)
            .bind(self.nonces)
            .bind(self.sessions)
    }
}
