//! What attempts of workers outside say they cost, beside what their calls
//! were settled at.
//!
//! What such a worker says is the whole of its attempt. What that is beyond
//! what the ledger has of the attempt was never reserved; it is real all the
//! same, and becomes one more row, once.

use std::collections::{HashMap, HashSet};

use galley_core::money::Tokens;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use crate::budgets::{CounterRow, signed, unsigned};
use crate::error::StoreError;
use crate::pool::{Store, execute};
use crate::publishing::DayRule;
use crate::reserving::{Counters, add, day, days, names, warn};
use crate::runs::AttemptKey;
use crate::scope::Scope;

/// The call of the row that holds what was never reserved.
const NEVER_RESERVED: i16 = -1;

/// What an attempt says it cost.
#[derive(Clone, Debug)]
pub struct ReportedWrite {
    /// Which attempt.
    pub attempt: AttemptKey,
    /// The step's name.
    pub step_name: String,
    /// The agent type.
    pub agent: String,
    /// Who was asked.
    pub provider: String,
    /// For which model.
    pub model: String,
    /// All that it cost, millionths of a US dollar; 0: it does not say.
    pub micros: u64,
    /// All its tokens.
    pub tokens: Tokens,
    /// What a day is.
    pub day: DayRule,
}

/// What the ledger has of an attempt.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OnLedger {
    /// What its calls cost, estimates included, millionths of a US dollar.
    pub micros: u64,
    /// Their tokens.
    pub tokens: Tokens,
    /// Who answered the last of them, and as which model.
    pub asked: Option<(String, String)>,
    /// What was booked just now because it was never reserved.
    pub beyond_micros: u64,
    /// Counters of which so much is used that somebody should be told, for the
    /// first time.
    pub warnings: Vec<CounterRow>,
}

/// An attempt, in the ledger's columns.
type Attempt = (Uuid, Uuid, i16, i32, i64);

fn attempt_of(write: &ReportedWrite) -> Attempt {
    let AttemptKey { key, step, epoch, nonce, .. } = &write.attempt;
    (key.workspace.0, key.workflow.0, *step as i16, *epoch as i32, *nonce as i64)
}

/// An attempt's rows, summed up.
#[derive(Default)]
struct Rows {
    sum: OnLedger,
    /// What its open calls may cost at most.
    open: u64,
    /// Whether what was never reserved is there already.
    booked: bool,
}

impl Store {
    /// Books what attempts cost beyond what the ledger has of them; answers
    /// what it has then. Not fenced, for a bill is real; repeatable, for there
    /// is one such row per attempt.
    ///
    /// # Errors
    /// Postgres is away: nobody knows what was committed; repeat.
    pub async fn book_reported(&self, writes: Vec<ReportedWrite>) -> Result<Vec<OnLedger>, StoreError> {
        let scope = Scope::of(writes.iter().map(|write| write.attempt.key.workspace));
        self.unit(scope, move |pool| async move {
            let mut transaction = pool.begin().await?;
            let answers = book(&mut transaction, &writes).await?;
            if answers.iter().any(|answer| answer.beyond_micros > 0) {
                transaction.commit().await?;
            }
            Ok(answers)
        })
        .await
    }
}

async fn book(connection: &mut PgConnection, writes: &[ReportedWrite]) -> Result<Vec<OnLedger>, StoreError> {
    let there = live(connection, writes).await?;
    // A lease may be older than the erasure of its workspace: nothing of that
    // comes back.
    let is_paid = |write: &ReportedWrite| write.micros > 0 && there.contains(&write.attempt.key.workspace.0);
    let paid = || writes.iter().filter(|write| is_paid(write));
    if paid().next().is_none() {
        let rows = read(connection, writes).await?;
        return Ok(writes.iter().map(|write| rows.of(write)).collect());
    }
    let days = days(connection, paid().map(|write| (write.attempt.key.workspace.0, &write.day))).await?;
    let names_of = |write: &ReportedWrite| {
        let key = &write.attempt.key;
        names(key.workspace.0, day(&days, key), Some(key.workflow.0))
    };
    let mut counters = Counters::read(connection, paid().flat_map(names_of).collect(), true).await?;
    // After the lock, which whoever books the same has, too.
    let mut rows = read(connection, writes).await?;
    let mut new: Vec<(&ReportedWrite, u64, Tokens)> = Vec::new();
    for write in writes {
        let found = rows.0.entry(attempt_of(write)).or_default();
        let beyond = write.micros.saturating_sub(found.sum.micros.saturating_add(found.open));
        if beyond == 0 || found.booked || !is_paid(write) {
            continue;
        }
        let Tokens { input, output, .. } = found.sum.tokens;
        let tokens = Tokens {
            input: write.tokens.input.saturating_sub(input),
            cached: 0,
            output: write.tokens.output.saturating_sub(output),
        };
        counters.spend(&names_of(write), beyond);
        found.booked = true;
        found.add(beyond, tokens);
        found.sum.beyond_micros = beyond;
        new.push((write, beyond, tokens));
    }
    if !new.is_empty() {
        enter(connection, &new, &days).await?;
        add(connection, counters.added().map(|(name, micros)| (name, (0, signed(micros))))).await?;
        for (workspace, warnings) in warn(connection, &counters).await? {
            let told = new.iter().find(|(write, ..)| write.attempt.key.workspace.0 == workspace);
            if let Some(found) = told.and_then(|(write, ..)| rows.0.get_mut(&attempt_of(write))) {
                found.sum.warnings = warnings;
            }
        }
    }
    Ok(writes.iter().map(|write| rows.of(write)).collect())
}

/// Those of the workspaces that something was paid in and that are not erased.
async fn live(connection: &mut PgConnection, writes: &[ReportedWrite]) -> Result<HashSet<Uuid>, StoreError> {
    let paid = writes.iter().filter(|write| write.micros > 0);
    let workspaces: Vec<Uuid> = paid.map(|write| write.attempt.key.workspace.0).collect();
    if workspaces.is_empty() {
        return Ok(HashSet::new());
    }
    let rows = sqlx::query("SELECT id FROM workspaces WHERE id = ANY($1) AND erased_at IS NULL")
        .bind(workspaces)
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// The ledger's rows of attempts.
struct Found(HashMap<Attempt, Rows>);

impl Found {
    fn of(&self, write: &ReportedWrite) -> OnLedger {
        self.0.get(&attempt_of(write)).map(|rows| rows.sum.clone()).unwrap_or_default()
    }
}

impl Rows {
    fn add(&mut self, micros: u64, tokens: Tokens) {
        let sum = &mut self.sum;
        sum.micros = sum.micros.saturating_add(micros);
        sum.tokens.input = sum.tokens.input.saturating_add(tokens.input);
        sum.tokens.output = sum.tokens.output.saturating_add(tokens.output);
    }
}

async fn read(connection: &mut PgConnection, writes: &[ReportedWrite]) -> Result<Found, StoreError> {
    let mut keys: Vec<Attempt> = writes.iter().map(attempt_of).collect();
    keys.sort_unstable();
    keys.dedup();
    let rows = sqlx::query(
        "SELECT s.workspace_id, s.workflow_id, s.step, s.epoch, s.nonce, s.call, s.state, s.reserved_micros,
                s.cost_micros, s.tokens_in, s.tokens_out, s.provider, s.model
           FROM unnest($1::uuid[], $2::uuid[], $3::int2[], $4::int4[], $5::int8[])
                AS w(workspace_id, workflow_id, step, epoch, nonce)
           JOIN spend s USING (workspace_id, workflow_id, step, epoch, nonce)
          ORDER BY 1, 2, 3, 4, 5, s.call",
    )
    .bind(keys.iter().map(|key| key.0).collect::<Vec<_>>())
    .bind(keys.iter().map(|key| key.1).collect::<Vec<_>>())
    .bind(keys.iter().map(|key| key.2).collect::<Vec<_>>())
    .bind(keys.iter().map(|key| key.3).collect::<Vec<_>>())
    .bind(keys.iter().map(|key| key.4).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    let mut found: HashMap<Attempt, Rows> = HashMap::with_capacity(rows.len());
    for row in &rows {
        let key = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?, row.try_get(4)?);
        let rows = found.entry(key).or_default();
        rows.booked |= row.try_get::<i16, _>(5)? == NEVER_RESERVED;
        if row.try_get::<&str, _>(6)? == "reserved" {
            rows.open = rows.open.saturating_add(unsigned(row, 7)?.unwrap_or(0));
            continue;
        }
        let tokens =
            |at: usize| Ok::<u32, StoreError>(u32::try_from(row.try_get::<i32, _>(at)?).unwrap_or(0));
        rows.add(
            unsigned(row, 8)?.unwrap_or(0),
            Tokens { input: tokens(9)?, cached: 0, output: tokens(10)? },
        );
        rows.sum.asked = Some((row.try_get(11)?, row.try_get(12)?));
    }
    Ok(Found(found))
}

/// Writes what was never reserved into the ledger.
async fn enter(
    connection: &mut PgConnection,
    new: &[(&ReportedWrite, u64, Tokens)],
    days: &HashMap<Uuid, String>,
) -> Result<(), StoreError> {
    let keys: Vec<Attempt> = new.iter().map(|(write, ..)| attempt_of(write)).collect();
    let insert = sqlx::query(
        "INSERT INTO spend (workspace_id, workflow_id, step, epoch, nonce, call, session, step_name, agent, provider,
                            model, day, state, reserved_micros, cost_micros, tokens_in, tokens_out, settled_at)
         SELECT w.workspace_id, w.workflow_id, w.step, w.epoch, w.nonce, $6, w.session, w.step_name, w.agent,
                w.provider, w.model, w.day::date, 'settled', 0, w.cost, w.tokens_in, w.tokens_out, galley_now()
           FROM unnest($1::uuid[], $2::uuid[], $3::int2[], $4::int4[], $5::int8[], $7::int8[], $8::text[], $9::text[],
                       $10::text[], $11::text[], $12::text[], $13::int8[], $14::int4[], $15::int4[])
                AS w(workspace_id, workflow_id, step, epoch, nonce, session, step_name, agent, provider, model, day,
                     cost, tokens_in, tokens_out)",
    )
    .bind(keys.iter().map(|key| key.0).collect::<Vec<_>>())
    .bind(keys.iter().map(|key| key.1).collect::<Vec<_>>())
    .bind(keys.iter().map(|key| key.2).collect::<Vec<_>>())
    .bind(keys.iter().map(|key| key.3).collect::<Vec<_>>())
    .bind(keys.iter().map(|key| key.4).collect::<Vec<_>>())
    .bind(NEVER_RESERVED)
    .bind(new.iter().map(|(write, ..)| write.attempt.session.0).collect::<Vec<_>>())
    .bind(new.iter().map(|(write, ..)| write.step_name.as_str()).collect::<Vec<_>>())
    .bind(new.iter().map(|(write, ..)| write.agent.as_str()).collect::<Vec<_>>())
    .bind(new.iter().map(|(write, ..)| write.provider.as_str()).collect::<Vec<_>>())
    .bind(new.iter().map(|(write, ..)| write.model.as_str()).collect::<Vec<_>>())
    .bind(new.iter().map(|(write, ..)| day(days, &write.attempt.key)).collect::<Vec<_>>())
    .bind(new.iter().map(|(_, micros, _)| signed(*micros)).collect::<Vec<_>>())
    .bind(new.iter().map(|(.., tokens)| tokens.input as i32).collect::<Vec<_>>())
    .bind(new.iter().map(|(.., tokens)| tokens.output as i32).collect::<Vec<_>>());
    execute(connection, insert).await?;
    Ok(())
}
