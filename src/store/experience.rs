//! What was seen of models, and how attempts came to theirs.

use galley_core::choice::{DECAY, Experience, Observed};
use galley_core::ids::{StepIndex, WorkflowKey, WorkspaceId};
use galley_core::report::{Deliberation, Usage};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row};

use crate::error::StoreError;
use crate::pool::{Store, execute};
use crate::runs::{AttemptKey, split_keys};
use crate::scope::Scope;

/// One run on a model, to be learned from.
#[derive(Clone, Debug)]
pub struct Lesson {
    /// Whose.
    pub workspace: WorkspaceId,
    /// The agent type.
    pub agent: String,
    /// `provider:model`.
    pub model: String,
    /// Whether its provider is the workspace's own: then nobody else learns
    /// from it, for others ask somebody else by that name.
    pub own: bool,
    /// What became of it.
    pub seen: Observed,
}

/// What is known of a model of an agent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KnownModel {
    /// `provider:model`.
    pub model: String,
    /// By the workspace.
    pub own: Experience,
    /// By all of them, of the deployment's provider.
    pub global: Experience,
}

/// How an attempt came to its model.
#[derive(Clone, Debug, PartialEq)]
pub struct DeliberationRow {
    /// The step.
    pub step: StepIndex,
    /// The epoch of its claim.
    pub epoch: u32,
    /// What was thought.
    pub deliberation: Deliberation,
}

const SUMS: [&str; 6] = ["weight", "successes", "rating_weight", "rating_sum", "cost_sum", "latency_sum"];

fn sums_of(row: &PgRow, from: usize) -> Result<Experience, sqlx::Error> {
    let sum = |at| Ok::<_, sqlx::Error>(row.try_get::<Option<f64>, _>(from + at)?.unwrap_or(0.0));
    Ok(Experience {
        weight: sum(0)?,
        successes: sum(1)?,
        rating_weight: sum(2)?,
        rating_sum: sum(3)?,
        cost_sum: sum(4)?,
        latency_sum: sum(5)?,
    })
}

/// Adds runs to a row of sums: everything known fades first.
fn upsert(table: &str, keys: &str, places: &str, first: usize) -> String {
    let values: Vec<String> = (0..SUMS.len()).map(|n| format!("${}", first + n)).collect();
    let sets: Vec<String> = SUMS
        .iter()
        .map(|sum| format!("{sum} = e.{sum} * ${} + excluded.{sum}", first + SUMS.len()))
        .collect();
    format!(
        "INSERT INTO {table} AS e ({keys}, {}) VALUES ({places}, {}) ON CONFLICT ({keys}) DO UPDATE SET {}",
        SUMS.join(", "),
        values.join(", "),
        sets.join(", ")
    )
}

/// What [`upsert`] is bound to, after its keys. Runs of one model after each
/// other are one change: sums fade by the power of their number.
fn added<'a>(runs: impl ExactSizeIterator<Item = &'a Lesson>) -> [f64; SUMS.len() + 1] {
    let fades = DECAY.powi(i32::try_from(runs.len()).unwrap_or(i32::MAX));
    let mut sums = Experience::default();
    runs.for_each(|run| sums.observe(&run.seen));
    let Experience { weight, successes, rating_weight, rating_sum, cost_sum, latency_sum } = sums;
    [weight, successes, rating_weight, rating_sum, cost_sum, latency_sum, fades]
}

impl Store {
    /// Learns from runs. What is lost of it costs a little knowledge.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn learn(&self, mut lessons: Vec<Lesson>) -> Result<(), StoreError> {
        // Two processes that learn the same take their locks in one order: those
        // of what all share first.
        lessons.sort_by(|a, b| (&a.agent, &a.model, a.workspace.0).cmp(&(&b.agent, &b.model, b.workspace.0)));
        let scope = Scope::of(lessons.iter().map(|lesson| lesson.workspace));
        self.unit(scope, move |pool| async move {
            let mut transaction = pool.begin().await?;
            let all = upsert("fleet_experience", "agent, model", "$1, $2", 3);
            let own = upsert("experience", "workspace_id, agent, model", "$1, $2, $3", 4);
            let shared: Vec<&Lesson> = lessons.iter().filter(|lesson| !lesson.own).collect();
            for runs in shared.chunk_by(|a, b| (&a.agent, &a.model) == (&b.agent, &b.model)) {
                let Some(Lesson { agent, model, .. }) = runs.first() else { continue };
                let mut query = sqlx::query(AssertSqlSafe(all.clone())).bind(agent).bind(model);
                for value in added(runs.iter().copied()) {
                    query = query.bind(value);
                }
                execute(&mut transaction, query).await?;
            }
            let same = |a: &Lesson, b: &Lesson| {
                (a.workspace, &a.agent, &a.model) == (b.workspace, &b.agent, &b.model)
            };
            for runs in lessons.chunk_by(same) {
                let Some(Lesson { workspace, agent, model, .. }) = runs.first() else { continue };
                let mut query =
                    sqlx::query(AssertSqlSafe(own.clone())).bind(workspace.0).bind(agent).bind(model);
                for value in added(runs.iter()) {
                    query = query.bind(value);
                }
                execute(&mut transaction, query).await?;
            }
            transaction.commit().await?;
            Ok(())
        })
        .await
    }

    /// What is known of an agent's models, by the workspace or by all.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn known_models(
        &self,
        workspace: WorkspaceId,
        agent: &str,
    ) -> Result<Vec<KnownModel>, StoreError> {
        let list = |table: &str| SUMS.map(|sum| format!("{table}.{sum}")).join(", ");
        let query = format!(
            "SELECT model, {}, {} FROM (SELECT * FROM experience WHERE workspace_id = $1 AND agent = $2) o
               FULL JOIN (SELECT * FROM fleet_experience WHERE agent = $2) a USING (model)
              ORDER BY model",
            list("o"),
            list("a")
        );
        let rows = sqlx::query(AssertSqlSafe(query))
            .bind(workspace.0)
            .bind(agent)
            .fetch_all(&mut *self.reader(workspace).await?)
            .await?;
        rows.iter()
            .map(|row| {
                Ok(KnownModel { model: row.try_get(0)?, own: sums_of(row, 1)?, global: sums_of(row, 7)? })
            })
            .collect()
    }

    /// How the attempts of a workflow came to their models.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn deliberations_of(&self, key: WorkflowKey) -> Result<Vec<DeliberationRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT step, epoch, prompt, model, reason, scores::text, calls, saved_micros FROM deliberations
              WHERE workspace_id = $1 AND workflow_id = $2 ORDER BY step, epoch",
        )
        .bind(key.workspace.0)
        .bind(key.workflow.0)
        .fetch_all(&mut *self.reader(key.workspace).await?)
        .await?;
        rows.iter()
            .map(|row| {
                let scores: String = row.try_get(5)?;
                Ok(DeliberationRow {
                    step: row.try_get::<i16, _>(0)? as StepIndex,
                    epoch: row.try_get::<i32, _>(1)? as u32,
                    deliberation: Deliberation {
                        prompt: row.try_get(2)?,
                        model: row.try_get(3)?,
                        reason: row.try_get(4)?,
                        scores: serde_json::from_str(&scores).map_err(|error| {
                            StoreError::Schema(format!("deliberations: scores cannot be read: {error}"))
                        })?,
                        calls: row.try_get::<i16, _>(6)? as u16,
                        saved_micros: u64::try_from(row.try_get::<i64, _>(7)?).unwrap_or(0),
                    },
                })
            })
            .collect()
    }
}

/// Notes how attempts came to their models, beside their results.
pub(crate) async fn note(
    connection: &mut PgConnection,
    attempts: impl Iterator<Item = (&AttemptKey, &Usage)>,
) -> Result<(), StoreError> {
    let rows: Vec<(&AttemptKey, &Deliberation)> =
        attempts.filter_map(|(key, usage)| Some((key, usage.deliberation.as_deref()?))).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let (workspaces, workflows) = split_keys(rows.iter().map(|(attempt, _)| &attempt.key));
    let scores: Vec<String> = rows
        .iter()
        .map(|(_, note)| serde_json::to_string(&note.scores).unwrap_or_else(|_| "[]".into()))
        .collect();
    let insert = sqlx::query(
        "INSERT INTO deliberations (workspace_id, workflow_id, step, epoch, nonce, prompt, model, reason, calls,
                                    saved_micros, scores)
         SELECT a, b, c, d, e, f, g, h, i, s, j::json
           FROM unnest($1::uuid[], $2::uuid[], $3::int2[], $4::int4[], $5::int8[], $6::text[], $7::text[],
                       $8::text[], $9::int2[], $10::text[], $11::int8[]) AS t(a, b, c, d, e, f, g, h, i, j, s)
         ON CONFLICT DO NOTHING",
    )
    .bind(workspaces)
    .bind(workflows)
    .bind(rows.iter().map(|(attempt, _)| attempt.step as i16).collect::<Vec<_>>())
    .bind(rows.iter().map(|(attempt, _)| attempt.epoch as i32).collect::<Vec<_>>())
    .bind(rows.iter().map(|(attempt, _)| attempt.nonce as i64).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, note)| note.prompt.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, note)| note.model.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, note)| note.reason.replace('\0', "")).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, note)| note.calls as i16).collect::<Vec<_>>())
    .bind(scores)
    .bind(rows.iter().map(|(_, note)| i64::try_from(note.saved_micros).unwrap_or(i64::MAX)).collect::<Vec<_>>());
    execute(connection, insert).await?;
    Ok(())
}
