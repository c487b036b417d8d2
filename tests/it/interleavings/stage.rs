//! Where scenes are played: the rows of a scene are kept aside and put back
//! before every run, and each operation has an engine and a way to Postgres of
//! its own.

use std::sync::Arc;

use galley_engine::Engine;
use galley_engine::queue::MemoryQueue;
use galley_engine::store::Store;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};

use super::explore::Orders;
use super::gate::Gate;
use super::operation::{Operation, Props};
use crate::harness::Bed;

/// Most operations that meet.
const ACTORS: usize = 3;

/// Tables whose rows a run may change.
const CHANGING: &str = "'sessions', 'runs', 'finished_runs', 'results', 'attempts', 'step_inputs', 'timers',
    'dead_letters', 'audit', 'automation', 'posts', 'post_revisions', 'approvals', 'publications',
    'publication_events', 'day_quota'";

/// What a run ended with: what each operation was told, and the rows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ended {
    pub(crate) told: Vec<String>,
    pub(crate) rows: serde_json::Value,
    /// Whose transactions ended, in order; nothing of those in turn.
    pub(crate) commits: Vec<usize>,
}

impl Ended {
    /// Whether somebody was allowed to send in another turn than this order
    /// has: a policy that is acknowledged does not come before a send that it
    /// forbids. What has several transactions has no turn.
    pub(crate) fn sends_out_of(&self, order: &[usize]) -> bool {
        let turn = |actor: usize| match self.commits.iter().filter(|of| **of == actor).count() {
            1 => self.commits.iter().position(|of| *of == actor),
            _ => None,
        };
        let sends = |actor: usize| self.told[actor] == "send";
        let swapped = |one: usize, next: usize| match (turn(one), turn(next)) {
            (Some(first), Some(second)) => first > second && (sends(one) || sends(next)),
            _ => false,
        };
        order.iter().enumerate().any(|(n, one)| order[n + 1..].iter().any(|next| swapped(*one, *next)))
    }
}

/// A bed whose rows can be put back.
pub(crate) struct Stage {
    bed: Bed,
    gate: Gate,
    stores: Vec<Store>,
    sql: PgConnection,
    props: Props,
    /// The rows before every run.
    pub(crate) before: serde_json::Value,
}

impl Stage {
    /// The stage of a bed as it stands. Its clock stands, too: what an
    /// operation does must not depend on how long the others took.
    pub(crate) async fn set(bed: Bed, props: Props) -> Self {
        let now = bed.text("SELECT galley_now()::text").await;
        bed.execute(&format!(
            "CREATE OR REPLACE FUNCTION galley_now() RETURNS timestamptz LANGUAGE sql STABLE
             AS $$SELECT timestamptz '{now}'$$"
        ))
        .await;
        let gate = Gate::before(&bed.database_url, ACTORS, props.names()).await;
        let stores = (0..ACTORS).map(|actor| Store::connect(&gate.url(actor), 2).unwrap()).collect();
        let mut sql = PgConnection::connect(&bed.database_url).await.unwrap();
        sql.execute(sqlx::raw_sql(AssertSqlSafe(format!(
            "CREATE SCHEMA kept;
             DO $$ DECLARE t text; cols text; body text := ''; BEGIN
                 FOREACH t IN ARRAY ARRAY[{CHANGING}] LOOP
                     EXECUTE format('CREATE TABLE kept.%I AS TABLE public.%I', t, t);
                     body := body || format('DELETE FROM public.%1$I;
                         INSERT INTO public.%1$I OVERRIDING SYSTEM VALUE SELECT * FROM kept.%1$I;', t);
                 END LOOP;
                 EXECUTE 'CREATE FUNCTION kept.put_back() RETURNS void LANGUAGE plpgsql AS '
                     || quote_literal('BEGIN ' || body || ' END');
             END $$"
        ))))
        .await
        .unwrap();
        let mut stage = Self { bed, gate, stores, sql, props, before: serde_json::Value::Null };
        stage.before = stage.rows().await;
        stage
    }

    async fn put_back(&mut self) {
        self.sql.execute("SELECT kept.put_back()").await.unwrap();
    }

    /// Engines as of processes that just started.
    fn engines(&self, operations: &[Operation]) -> Vec<Engine> {
        let queue = Arc::new(MemoryQueue::new());
        let usual = self.bed.engine.config();
        let engine = |(store, operation): (&Store, &Operation)| {
            Engine::new(store.clone(), queue.clone(), operation.config(usual))
        };
        self.stores.iter().zip(operations).map(engine).collect()
    }

    /// One after the other: those of `order`, by their numbers.
    pub(crate) async fn in_turn(&mut self, operations: &[Operation], order: &[usize]) -> Ended {
        self.put_back().await;
        let engines = self.engines(operations);
        let mut told = Vec::new();
        for &actor in order {
            let run =
                operations[actor].run(engines[actor].clone(), self.props.clone(), name_of(operations, actor));
            told.push(run.await);
        }
        Ended { told, rows: self.rows().await, commits: Vec::new() }
    }

    /// At once, in the next order.
    pub(crate) async fn at_once(&mut self, operations: &[Operation], orders: &mut Orders) -> Ended {
        self.put_back().await;
        self.gate.close(operations.len());
        let mut tasks = Vec::new();
        for (actor, engine) in self.engines(operations).into_iter().enumerate() {
            let run = operations[actor].run(engine, self.props.clone(), name_of(operations, actor));
            tasks.push(run);
        }
        let gate = &self.gate;
        let play = async {
            loop {
                gate.rest(async |pids| waiting_for_locks(&mut self.sql, pids).await).await;
                if gate.all_done() {
                    return;
                }
                gate.pass(orders.choose(gate.waiting()));
            }
        };
        let run = tasks.into_iter().enumerate().map(|(actor, run)| async move {
            let told = run.await;
            gate.done(actor);
            told
        });
        let (told, ()) = tokio::join!(futures::future::join_all(run), play);
        let commits = self.gate.commits();
        self.gate.open();
        Ended { told, rows: self.rows().await, commits }
    }

    /// The rows as they are now, without what differs from run to run.
    async fn rows(&mut self) -> serde_json::Value {
        let rows = "SELECT json_build_object(
            'runs', (SELECT json_agg(json_build_object('id', id, 'running', running, 'version', version,
                        'run', encode(run, 'hex')) ORDER BY id) FROM runs),
            'finished', (SELECT json_agg(json_build_object('id', id, 'state', state,
                        'run', encode(run, 'hex')) ORDER BY id) FROM finished_runs),
            'results', (SELECT json_agg(json_build_object('workflow', workflow_id, 'step', step, 'epoch', epoch)
                        ORDER BY workflow_id, step) FROM results),
            'attempts', (SELECT json_agg(json_build_object('workflow', workflow_id, 'step', step,
                        'epoch', epoch, 'outcome', outcome) ORDER BY workflow_id, step, epoch, outcome)
                        FROM attempts),
            'timers', (SELECT json_agg(json_build_object('workflow', workflow_id, 'step', step, 'epoch', epoch)
                        ORDER BY workflow_id, step) FROM timers),
            'letters', (SELECT json_agg(json_build_object('workflow', workflow_id, 'step', step,
                        'status', status, 'reason', reason) ORDER BY workflow_id, step) FROM dead_letters),
            'posts', (SELECT json_agg(json_build_object('id', id, 'workflow', workflow_id, 'step', step,
                        'state', state, 'revision', revision, 'hash', content_hash, 'version', version,
                        'held', held, 'slot', slot_at IS NOT NULL) ORDER BY id) FROM posts),
            'revisions', (SELECT json_agg(json_build_object('post', post_id, 'revision', revision,
                        'hash', content_hash, 'author', author) ORDER BY post_id, revision)
                        FROM post_revisions),
            'approvals', (SELECT json_agg(json_build_object('workflow', workflow_id, 'step', step,
                        'hash', content_hash, 'status', status, 'by', decided_by)
                        ORDER BY workflow_id, step, content_hash, status) FROM approvals),
            'publications', (SELECT json_agg(json_build_object('post', post_id, 'state', state,
                        'revision', p.revision, 'hash', p.content_hash, 'sends', sends, 'held', quota_held,
                        'day', quota_day, 'account', account_id,
                        'approved', (SELECT a.content_hash FROM approvals a WHERE a.id = approval_id))
                        ORDER BY post_id) FROM publications p),
            'quota', (SELECT json_agg(json_build_object('account', account_id, 'day', day, 'used', used)
                        ORDER BY account_id, day) FROM day_quota WHERE used > 0),
            'audit', (SELECT json_agg(json_build_object('actor', actor, 'action', action)
                        ORDER BY actor, action) FROM audit),
            'policy', (SELECT json_agg(json_build_object('version', version, 'config', config)) FROM automation)
        )::text";
        let row = self.sql.fetch_one(rows).await.unwrap();
        serde_json::from_str(row.get(0)).unwrap()
    }

    /// The end of all runs.
    ///
    /// # Panics
    /// When two transactions ever waited for each other: there is one order of
    /// locks.
    pub(crate) async fn strike(mut self) {
        let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
        let deadlocks: i64 = self.sql.fetch_one(deadlocks).await.unwrap().get(0);
        assert_eq!(deadlocks, 0, "two operations waited for each other");
        for store in &self.stores {
            store.close().await;
        }
        self.sql.execute("DELETE FROM runs; DELETE FROM timers").await.unwrap();
        self.sql.close().await.unwrap();
        self.bed.end().await;
    }
}

/// Each actor of a run signs with a name of its own.
pub(crate) fn name_of(operations: &[Operation], actor: usize) -> String {
    format!("{} {}", ["ada", "bea", "cem"][actor], operations[actor].name())
}

/// Which of these backends wait for a lock that another of them holds.
async fn waiting_for_locks(sql: &mut PgConnection, pids: Vec<i32>) -> Vec<i32> {
    let blocked = "SELECT pid FROM unnest($1::int4[]) AS pid WHERE pg_blocking_pids(pid) && $1";
    let rows = sqlx::query(blocked).bind(pids).fetch_all(sql).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}
