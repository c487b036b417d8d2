//! Recurring workflows: what people set, what is due, and the one transaction
//! in which a due time becomes a workflow.

use galley_core::ids::{ScheduleId, WorkflowId, WorkspaceId};
use galley_probe::{Point, point};
use serde_json::{Value, json};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use crate::audit::{AuditWrite, Hashes, write_audit};
use crate::content::{Content, in_the_clear};
use crate::error::{Overtaken, StoreError};
use crate::pool::Store;
use crate::scope::Scope;
use crate::workflows::{AcceptWrite, Accepted, insert, outcomes};

/// A schedule as stored. Times are RFC 3339.
#[derive(Clone, Debug)]
pub struct ScheduleRow {
    /// Its id.
    pub id: ScheduleId,
    /// Its name, unique in the workspace.
    pub name: String,
    /// Its cron pattern.
    pub cron: String,
    /// The IANA zone the pattern is meant in.
    pub time_zone: String,
    /// The word of its rule about missed times.
    pub missed: String,
    /// What it submits, JSON.
    pub submit: Content,
    /// Rises with every change by a person.
    pub version: i64,
    /// Who paused it, if it is paused.
    pub paused_by: Option<String>,
    /// The time it waits for; may have passed.
    pub next_at: Option<String>,
    /// The last time that became a workflow.
    pub last_at: Option<String>,
    /// That workflow.
    pub last_workflow: Option<WorkflowId>,
    /// Why a later time became none.
    pub last_problem: Option<String>,
    /// That time.
    pub last_problem_at: Option<String>,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: String,
    /// Who changed it last.
    pub updated_by: String,
    /// When.
    pub updated_at: String,
}

/// A schedule to add.
#[derive(Clone, Debug)]
pub struct ScheduleWrite {
    /// Its id.
    pub id: ScheduleId,
    /// Its name.
    pub name: String,
    /// Its cron pattern.
    pub cron: String,
    /// The IANA zone the pattern is meant in.
    pub time_zone: String,
    /// The word of its rule about missed times.
    pub missed: &'static str,
    /// What it submits, JSON text.
    pub submit: String,
    /// The same, sealed for its row: then this is stored and the text is not.
    pub sealed: Option<Vec<u8>>,
    /// The first time, RFC 3339.
    pub next_at: Option<String>,
}

/// What a person changes about a schedule; what is absent stays.
#[derive(Clone, Debug, Default)]
pub struct ScheduleChange {
    /// Its cron pattern.
    pub cron: Option<String>,
    /// The IANA zone the pattern is meant in.
    pub time_zone: Option<String>,
    /// The word of its rule about missed times.
    pub missed: Option<&'static str>,
    /// What it submits, JSON text.
    pub submit: Option<String>,
    /// The same, sealed for its row: then this is stored and the text is not.
    pub sealed: Option<Vec<u8>>,
    /// Who paused it now, or that nobody does any more.
    pub paused_by: Option<Option<String>>,
    /// The time it waits for now, RFC 3339.
    pub next_at: Option<Option<String>>,
}

/// A schedule whose time has come.
#[derive(Clone, Debug)]
pub struct DueSchedule {
    /// The tenant.
    pub workspace: WorkspaceId,
    /// The schedule.
    pub row: ScheduleRow,
    /// The database's time, RFC 3339.
    pub now: String,
}

/// One time of a schedule that becomes a workflow, or does not.
#[derive(Clone, Debug)]
pub struct ScheduleTurn {
    /// The tenant.
    pub workspace: WorkspaceId,
    /// The schedule.
    pub id: ScheduleId,
    /// Its name, for the audit line.
    pub name: String,
    /// Who: a scheduler, or the person who wants it now.
    pub actor: String,
    /// The version and the waited-for time this was decided on. `None`: a
    /// person wants it now, whatever it waits for; then it goes on waiting.
    pub fence: Option<(i64, String)>,
    /// The time it is about, RFC 3339.
    pub at: String,
    /// The time it waits for from now on.
    pub next_at: Option<String>,
}

/// The columns of [`schedule_of`], of `schedules s`.
const COLUMNS: &str = "s.id, s.name, s.cron, s.time_zone, s.missed, s.submit::text, s.version, s.paused_by,
    to_json(s.next_at)#>>'{}', to_json(s.last_at)#>>'{}', s.last_workflow, s.last_problem,
    to_json(s.last_problem_at)#>>'{}', s.created_by, to_json(s.created_at)#>>'{}', s.updated_by,
    to_json(s.updated_at)#>>'{}', s.sealed";

fn schedule_of(row: &PgRow) -> Result<ScheduleRow, StoreError> {
    Ok(ScheduleRow {
        id: ScheduleId(row.try_get(0)?),
        name: row.try_get(1)?,
        cron: row.try_get(2)?,
        time_zone: row.try_get(3)?,
        missed: row.try_get(4)?,
        submit: Content::of(row, 5, 17)?,
        version: row.try_get(6)?,
        paused_by: row.try_get(7)?,
        next_at: row.try_get(8)?,
        last_at: row.try_get(9)?,
        last_workflow: row.try_get::<Option<_>, _>(10)?.map(WorkflowId),
        last_problem: row.try_get(11)?,
        last_problem_at: row.try_get(12)?,
        created_by: row.try_get(13)?,
        created_at: row.try_get(14)?,
        updated_by: row.try_get(15)?,
        updated_at: row.try_get(16)?,
    })
}

impl Store {
    /// Adds a schedule.
    ///
    /// # Errors
    /// [`StoreError::Constraint`] `schedules_name_unique` when the name is taken.
    pub async fn add_schedule(
        &self,
        workspace: WorkspaceId,
        write: ScheduleWrite,
        actor: String,
    ) -> Result<(), StoreError> {
        self.unit(workspace, move |pool| async move {
            let mut transaction = pool.begin().await?;
            sqlx::query(
                "INSERT INTO schedules (workspace_id, id, name, cron, time_zone, missed, submit, next_at,
                                        created_by, updated_by, sealed)
                 VALUES ($1, $2, $3, $4, $5, $6, $7::json, $8::timestamptz, $9, $9, $10)",
            )
            .bind(workspace.0)
            .bind(write.id.0)
            .bind(&write.name)
            .bind(&write.cron)
            .bind(&write.time_zone)
            .bind(write.missed)
            .bind(in_the_clear(&write.submit, write.sealed.as_deref()))
            .bind(&write.next_at)
            .bind(&actor)
            .bind(&write.sealed)
            .execute(&mut *transaction)
            .await?;
            let detail = json!({ "cron": write.cron, "timeZone": write.time_zone, "missed": write.missed });
            let line = AuditWrite {
                workspace,
                key: None,
                actor,
                action: "schedule.add",
                object: write.name,
                detail: Some(detail.to_string()),
                hashes: Hashes::default(),
            };
            write_audit(&mut transaction, &line).await?;
            transaction.commit().await?;
            Ok(())
        })
        .await
    }

    /// Changes a schedule, if it is still at the version that was seen.
    ///
    /// # Errors
    /// [`StoreError::Overtaken`] when somebody else changed or removed it.
    pub async fn change_schedule(
        &self,
        id: ScheduleId,
        seen: i64,
        change: ScheduleChange,
        line: AuditWrite,
    ) -> Result<(), StoreError> {
        self.unit(line.workspace, move |pool| async move {
            let mut transaction = pool.begin().await?;
            let done = sqlx::query(
                "UPDATE schedules
                    SET cron = coalesce($4, cron), time_zone = coalesce($5, time_zone),
                        missed = coalesce($6, missed), submit = coalesce($7::json, submit),
                        sealed = CASE WHEN $7 IS NULL THEN sealed ELSE $13 END,
                        paused_by = CASE WHEN $8 THEN $9 ELSE paused_by END,
                        next_at = CASE WHEN $10 THEN $11::timestamptz ELSE next_at END,
                        version = version + 1, updated_by = $12, updated_at = galley_now()
                  WHERE workspace_id = $1 AND id = $2 AND version = $3",
            )
            .bind(line.workspace.0)
            .bind(id.0)
            .bind(seen)
            .bind(&change.cron)
            .bind(&change.time_zone)
            .bind(change.missed)
            .bind(change.submit.as_deref().map(|submit| in_the_clear(submit, change.sealed.as_deref())))
            .bind(change.paused_by.is_some())
            .bind(change.paused_by.flatten())
            .bind(change.next_at.is_some())
            .bind(change.next_at.flatten())
            .bind(&line.actor)
            .bind(&change.sealed)
            .execute(&mut *transaction)
            .await?;
            if done.rows_affected() == 0 {
                return Err(StoreError::Overtaken(Overtaken::Schedule));
            }
            write_audit(&mut transaction, &line).await?;
            transaction.commit().await?;
            Ok(())
        })
        .await
    }

    /// Removes a schedule; answers whether there was one. Its workflows stay.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn remove_schedule(
        &self,
        workspace: WorkspaceId,
        name: String,
        actor: String,
    ) -> Result<bool, StoreError> {
        self.unit(workspace, move |pool| async move {
            let mut transaction = pool.begin().await?;
            let done = sqlx::query("DELETE FROM schedules WHERE workspace_id = $1 AND name = $2")
                .bind(workspace.0)
                .bind(&name)
                .execute(&mut *transaction)
                .await?;
            if done.rows_affected() == 0 {
                return Ok(false);
            }
            let line = AuditWrite {
                workspace,
                key: None,
                actor,
                action: "schedule.remove",
                object: name,
                detail: None,
                hashes: Hashes::default(),
            };
            write_audit(&mut transaction, &line).await?;
            transaction.commit().await?;
            Ok(true)
        })
        .await
    }

    /// One page of a workspace's schedules, by name, behind `after`.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn schedules(
        &self,
        workspace: WorkspaceId,
        after: Option<&str>,
        limit: i64,
    ) -> Result<Vec<ScheduleRow>, StoreError> {
        let query = format!(
            "SELECT {COLUMNS} FROM schedules s WHERE s.workspace_id = $1 AND ($2::text IS NULL OR s.name > $2)
              ORDER BY s.name LIMIT $3"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(query))
            .bind(workspace.0)
            .bind(after)
            .bind(limit)
            .fetch_all(&mut *self.reader(workspace).await?)
            .await?;
        rows.iter().map(schedule_of).collect()
    }

    /// One schedule by name.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn schedule(
        &self,
        workspace: WorkspaceId,
        name: &str,
    ) -> Result<Option<ScheduleRow>, StoreError> {
        let query = format!("SELECT {COLUMNS} FROM schedules s WHERE s.workspace_id = $1 AND s.name = $2");
        let row = sqlx::query(sqlx::AssertSqlSafe(query))
            .bind(workspace.0)
            .bind(name)
            .fetch_optional(&mut *self.reader(workspace).await?)
            .await?;
        row.as_ref().map(schedule_of).transpose()
    }

    /// One schedule by id.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn schedule_by_id(
        &self,
        workspace: WorkspaceId,
        id: ScheduleId,
    ) -> Result<Option<ScheduleRow>, StoreError> {
        let query = format!("SELECT {COLUMNS} FROM schedules s WHERE s.workspace_id = $1 AND s.id = $2");
        let row = sqlx::query(sqlx::AssertSqlSafe(query))
            .bind(workspace.0)
            .bind(id.0)
            .fetch_optional(&mut *self.reader(workspace).await?)
            .await?;
        row.as_ref().map(schedule_of).transpose()
    }

    /// Schedules whose time has come, where the policy lets schedules run:
    /// others may wait here for years and are not read again and again. Several
    /// schedulers may read the same ones.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn due_schedules(&self, limit: i64) -> Result<Vec<DueSchedule>, StoreError> {
        let query = format!(
            "SELECT {COLUMNS}, s.workspace_id, to_json(galley_now())#>>'{{}}'
               FROM schedules s JOIN automation a USING (workspace_id)
              WHERE s.paused_by IS NULL AND s.next_at <= galley_now()
                AND a.config->>'scheduleAutomation' = 'true'
              ORDER BY s.next_at LIMIT $1"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(query))
            .bind(limit)
            .fetch_all(&mut *self.reader(Scope::Fleet).await?)
            .await?;
        rows.iter()
            .map(|row| {
                Ok(DueSchedule {
                    workspace: WorkspaceId(row.try_get(18)?),
                    row: schedule_of(row)?,
                    now: row.try_get(19)?,
                })
            })
            .collect()
    }

    /// Accepts a schedule's workflow and moves the schedule on, in one
    /// transaction: no crash lies between the two, and a change by a person and
    /// a run have one winner.
    ///
    /// # Errors
    /// [`StoreError::Overtaken`] when it was decided on what does not hold any
    /// more; then nothing was accepted. On [`StoreError::Unavailable`] the
    /// outcome is unknown: the idempotency key makes a repetition harmless.
    pub async fn accept_scheduled(
        &self,
        workflow: AcceptWrite,
        turn: ScheduleTurn,
    ) -> Result<Accepted, StoreError> {
        self.unit(turn.workspace, move |pool| async move {
            let mut transaction = pool.begin().await?;
            let batch = [workflow];
            let new = insert(&mut transaction, &batch).await?;
            let accepted = outcomes(&mut transaction, &batch, &new).await?.pop();
            let accepted = accepted.ok_or(sqlx::Error::RowNotFound)?;
            let id = match accepted {
                Accepted::New => batch[0].key.workflow,
                // A person's request that is repeated changes nothing more.
                Accepted::Known(_) if turn.fence.is_none() => return Ok(accepted),
                Accepted::Known(id) => id,
                Accepted::Mismatch(_) | Accepted::NoWorkspace => return Ok(accepted),
            };
            let query = sqlx::query(
                "UPDATE schedules
                    SET last_at = $3::timestamptz, last_workflow = $4, last_problem = NULL, last_problem_at = NULL,
                        next_at = CASE WHEN $5::int8 IS NULL THEN next_at ELSE $7::timestamptz END
                  WHERE workspace_id = $1 AND id = $2
                    AND ($5 IS NULL OR (version = $5 AND next_at = $6::timestamptz AND paused_by IS NULL))",
            )
            .bind(turn.workspace.0)
            .bind(turn.id.0)
            .bind(&turn.at)
            .bind(id.0);
            move_on(&mut transaction, query, &turn).await?;
            let detail = json!({ "at": turn.at, "workflowId": id });
            audit_turn(&mut transaction, &turn, "schedule.run", &detail).await?;
            point(Point::ScheduleWritten);
            transaction.commit().await?;
            point(Point::ScheduleCommitted);
            Ok(accepted)
        })
        .await
    }

    /// Moves a schedule on past a time that becomes no workflow, with the
    /// reason.
    ///
    /// # Errors
    /// [`StoreError::Overtaken`] when it was decided on what does not hold any
    /// more.
    pub async fn pass_scheduled(
        &self,
        turn: ScheduleTurn,
        action: &'static str,
        problem: String,
    ) -> Result<(), StoreError> {
        self.unit(turn.workspace, move |pool| async move {
            let mut transaction = pool.begin().await?;
            let query = sqlx::query(
                "UPDATE schedules
                    SET last_problem_at = $3::timestamptz, last_problem = $4, next_at = $7::timestamptz
                  WHERE workspace_id = $1 AND id = $2 AND version = $5 AND next_at = $6::timestamptz
                    AND paused_by IS NULL",
            )
            .bind(turn.workspace.0)
            .bind(turn.id.0)
            .bind(&turn.at)
            .bind(&problem);
            move_on(&mut transaction, query, &turn).await?;
            let detail = json!({ "at": turn.at, "problem": problem });
            audit_turn(&mut transaction, &turn, action, &detail).await?;
            transaction.commit().await?;
            Ok(())
        })
        .await
    }
}

/// Binds the fence and the next time; nothing touched means overtaken.
async fn move_on<'q>(
    connection: &mut PgConnection,
    query: sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>,
    turn: &'q ScheduleTurn,
) -> Result<(), StoreError> {
    let (version, due) = turn.fence.as_ref().map(|(version, due)| (*version, due.as_str())).unzip();
    let query = query.bind(version).bind(due).bind(turn.next_at.as_deref());
    match crate::pool::execute(connection, query).await? {
        0 => Err(StoreError::Overtaken(Overtaken::Schedule)),
        _ => Ok(()),
    }
}

async fn audit_turn(
    connection: &mut PgConnection,
    turn: &ScheduleTurn,
    action: &'static str,
    detail: &Value,
) -> Result<(), StoreError> {
    let line = AuditWrite {
        workspace: turn.workspace,
        key: None,
        actor: turn.actor.clone(),
        action,
        object: turn.name.clone(),
        detail: Some(detail.to_string()),
        hashes: Hashes::default(),
    };
    write_audit(connection, &line).await
}
