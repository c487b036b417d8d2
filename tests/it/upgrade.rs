//! Schemas that are newer or older than the code, and a clock that was moved.

use galley_core::run::WorkflowState;
use galley_engine::store::{Store, StoreError};
use serde_json::{Value, json};

use crate::harness::{Agents, Bed};

/// What the next release's expanding migration may do.
const EXPAND: &str = "
    ALTER TABLE workflows ADD COLUMN later text;
    ALTER TABLE runs ADD COLUMN later integer NOT NULL DEFAULT 0;
    ALTER TABLE finished_runs ADD COLUMN later text;
    ALTER TABLE results ADD COLUMN later jsonb;
    ALTER TABLE attempts ADD COLUMN later text;
    ALTER TABLE timers ADD COLUMN later text;
    ALTER TABLE dead_letters ADD COLUMN later text;
    ALTER TABLE sessions ADD COLUMN later text;
    ALTER TABLE agents ADD COLUMN later text;
    ALTER TABLE workspaces ADD COLUMN later text;
    ALTER TABLE definitions ADD COLUMN later text;
    ALTER TABLE step_inputs ADD COLUMN later text;
    ALTER TABLE audit ADD COLUMN later text;
    CREATE TABLE later_things (id bigint PRIMARY KEY);
    INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'later', true, 'x', 1);";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_one_release_older_works_on_while_the_schema_grows() {
    let mut bed = Bed::new().await;
    let agents = Agents::echo();
    bed.serve(&agents).await;
    let steps = json!([
        { "name": "a", "agent": "echo" },
        { "name": "b", "agent": "echo", "when": "brief.n >= 0" },
        { "name": "c", "agent": "echo", "forEach": { "path": "/list", "max": 3 } }
    ]);
    for n in 0..30 {
        // In the middle of it, with every statement prepared and used.
        if n == 15 {
            bed.finish_all().await;
            bed.submit(steps.clone(), json!({ "n": n, "list": [1, 2, 3] })).await;
            bed.execute(EXPAND).await;
        }
        bed.submit(steps.clone(), json!({ "n": n, "list": [1, 2, 3] })).await;
    }
    bed.finish_all().await;
    assert_eq!(bed.count("SELECT count(*) FROM finished_runs WHERE state = 'succeeded'").await, 31);
    let key = bed.submit(steps, json!({ "n": 1, "list": [] })).await;
    bed.finish(key, WorkflowState::Succeeded).await;

    // An old process that starts now: it neither refuses nor migrates back.
    let store = Store::connect(&bed.database_url, 1).unwrap();
    store.check_schema(false).await.unwrap();
    store.migrate().await.unwrap();
    store.close().await;
    bed.end().await;
}

fn told(refused: Result<(), StoreError>) -> String {
    match refused.unwrap_err() {
        StoreError::Schema(told) => told,
        other => panic!("not about the schema: {other}"),
    }
}

#[tokio::test]
async fn an_older_schema_is_refused_with_what_to_do() {
    let bed = Bed::new().await;
    let store = Store::connect(&bed.database_url, 1).unwrap();
    store.check_schema(false).await.unwrap();
    bed.execute("DELETE FROM _sqlx_migrations").await;
    let refused = told(store.check_schema(false).await);
    assert!(refused.starts_with("the schema is at version 0, this release needs "), "{refused}");
    assert!(refused.contains("galley migrate"), "{refused}");
    bed.execute("DROP TABLE _sqlx_migrations").await;
    let refused = told(store.check_schema(false).await);
    assert!(refused.contains("galley migrate"), "{refused}");
    store.close().await;
    bed.end().await;
}

#[tokio::test]
async fn a_production_start_refuses_a_moved_clock() {
    let mut bed = Bed::new().await;
    let agents = Agents::echo();
    bed.execute(
        "CREATE OR REPLACE FUNCTION galley_now() RETURNS timestamptz LANGUAGE sql STABLE
             AS 'SELECT now() + interval ''40 days'''",
    )
    .await;
    let refused = told(bed.engine.store().check_schema(false).await);
    assert!(refused.contains("clock was moved"), "{refused}");
    bed.engine.store().check_schema(true).await.unwrap();
    // Nobody is reaped for it, and work goes on.
    bed.serve(&agents).await;
    let key = bed.submit(json!([{ "name": "a", "agent": "echo" }]), Value::Null).await;
    let history = bed.finish(key, WorkflowState::Succeeded).await;
    bed.execute(
        "CREATE OR REPLACE FUNCTION galley_now() RETURNS timestamptz LANGUAGE sql STABLE
             AS 'SELECT now() - interval ''40 days'''",
    )
    .await;
    let key = bed.submit(json!([{ "name": "a", "agent": "echo" }]), Value::Null).await;
    let later = bed.finish(key, WorkflowState::Succeeded).await;
    assert!(later.workflow.row.created_at < history.workflow.row.created_at, "time went back");
    assert_eq!(bed.count("SELECT count(*) FROM sessions WHERE closed_at IS NOT NULL").await, 0);
    bed.end().await;
}
