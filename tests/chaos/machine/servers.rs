//! A Postgres and a Redis for all cases, and a clean database for each.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};

use galley_core::agent::AgentSpec;
use galley_engine::store::Store;
use galley_servers::{PrivatePostgres, PrivateRedis, Speed};
use serde_json::json;
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Row};

use galley_chaos::history::{Dump, Line};

/// Whoever runs a step: the even ones and the odd ones, so that two queues are
/// in play.
pub(crate) const AGENTS: [&str; 2] = ["even", "odd"];

/// The servers, and the one database on them.
pub(crate) struct Servers {
    pub(crate) database_url: String,
    pub(crate) redis_url: String,
    pub(crate) sql: PgPool,
    private: Option<(PrivatePostgres, PrivateRedis)>,
}

impl Servers {
    /// Those that `bin/test` started, or private ones.
    pub(crate) async fn start() -> Self {
        let given = |name: &str| std::env::var(name).ok().filter(|url| !url.is_empty());
        let (postgres, redis_url, private) =
            match (given("GALLEY_TEST_DATABASE_URL"), given("GALLEY_TEST_REDIS_URL")) {
                (Some(postgres), Some(redis)) => (postgres, redis, None),
                _ => {
                    let postgres = PrivatePostgres::start_temporary(Speed::Throwaway).await.unwrap();
                    let redis = PrivateRedis::start_temporary().await.unwrap();
                    (postgres.url(), redis.url(), Some((postgres, redis)))
                }
            };
        static DATABASES: AtomicU32 = AtomicU32::new(0);
        let name = format!("machine_{}_{}", std::process::id(), DATABASES.fetch_add(1, Ordering::Relaxed));
        let admin = pool(&postgres);
        run(&admin, &format!("CREATE DATABASE {name}")).await;
        admin.close().await;
        let (server, _) = postgres.rsplit_once('/').unwrap();
        let database_url = format!("{server}/{name}");
        let store = Store::connect(&database_url, 1).unwrap();
        store.migrate().await.unwrap();
        let specs =
            AGENTS.map(|agent| serde_json::from_value::<AgentSpec>(json!({ "agent": agent })).unwrap());
        store.register_agents(&specs).await.unwrap();
        store.close().await;
        let sql = pool(&database_url);
        run(&sql, Dump::JOURNAL).await;
        Self { database_url, redis_url, sql, private }
    }

    /// Empties the database: the agents stay.
    pub(crate) async fn clean(&self) {
        let kept = ["agents"];
        let tables = Dump::TABLES.iter().filter(|table| !kept.contains(table));
        let deletes: String = tables.map(|table| format!("DELETE FROM {table};")).collect();
        run(&self.sql, &format!("{deletes} DELETE FROM workspaces; DELETE FROM step_inputs;")).await;
    }

    /// The database as the checker reads it.
    pub(crate) async fn dump(&self) -> Vec<Line> {
        let mut transaction = self.sql.begin().await.unwrap();
        let begin = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SET LOCAL TimeZone = 'UTC'";
        sqlx::raw_sql(begin).execute(&mut *transaction).await.unwrap();
        let now =
            sqlx::query("SELECT to_json(galley_now())#>>'{}'").fetch_one(&mut *transaction).await.unwrap();
        let mut lines = vec![Line::Dumped(now.try_get::<String, _>(0).unwrap().parse().unwrap())];
        for table in Dump::TABLES {
            let rows = format!("SELECT row_to_json(t)::text FROM {table} t");
            for row in sqlx::query(AssertSqlSafe(rows)).fetch_all(&mut *transaction).await.unwrap() {
                let row = serde_json::from_str(row.try_get(0).unwrap()).unwrap();
                lines.push(Line::Row { table: (*table).to_owned(), row });
            }
        }
        lines
    }

    /// The columns that the dump reads and the schema does not have.
    pub(crate) async fn missing_columns(&self) -> Vec<String> {
        let query = "SELECT table_name || '.' || column_name FROM information_schema.columns WHERE table_schema = 'public'";
        let rows = sqlx::query(query).fetch_all(&self.sql).await.unwrap();
        let there: HashSet<String> = rows.iter().map(|row| row.try_get(0).unwrap()).collect();
        let read = Dump::COLUMNS
            .iter()
            .flat_map(|(table, columns)| columns.iter().map(move |column| format!("{table}.{column}")));
        read.filter(|column| !there.contains(column)).collect()
    }

    /// The end.
    pub(crate) async fn stop(self) {
        self.sql.close().await;
        match self.private {
            Some((mut postgres, mut redis)) => {
                redis.stop().await;
                postgres.stop_immediate().await;
            }
            None => {
                let (server, name) = self.database_url.rsplit_once('/').unwrap();
                let admin = pool(&format!("{server}/postgres"));
                run(&admin, &format!("DROP DATABASE {name} WITH (FORCE)")).await;
                admin.close().await;
            }
        }
    }
}

fn pool(url: &str) -> PgPool {
    PgPoolOptions::new().max_connections(1).connect_lazy(url).unwrap()
}

async fn run(pool: &PgPool, statements: &str) {
    // Names from lists above: nothing foreign is pasted in.
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(pool).await.unwrap();
}
