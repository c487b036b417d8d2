//! The Postgres and the Redis that all cases share, and the databases that they
//! use one after another: to copy one costs more than most of a case.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use galley_chaos::history::Dump;
use galley_engine::EngineError;
use galley_engine::store::Store;
use galley_servers::{PrivatePostgres, PrivateRedis, Speed};
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::fleet::{LONG, specs};

/// Only a hang reaches it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Connections of a case's clean fleet and its people, all together.
const CONNECTIONS: u32 = 6;

/// A case begins with what a migrated database holds, and with the agents.
const CLEAN: &str = "
    DO $$ DECLARE name text; BEGIN
        FOR name IN SELECT tablename FROM pg_tables
                     WHERE schemaname = 'public' AND tablename NOT IN ('_sqlx_migrations', 'agents')
        LOOP EXECUTE format('DELETE FROM %I', name); END LOOP;
    END $$";

/// Makes names unique in this process.
static COUNTER: AtomicU32 = AtomicU32::new(0);

pub(crate) fn unique_name() -> String {
    format!("crash_{}_{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

/// Polls until the condition holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain until {what}");
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
}

/// Asks until Postgres and Redis answer: a machine that runs many fleets at once
/// may be too busy to do so in time.
pub(crate) async fn sure<T>(mut call: impl AsyncFnMut() -> Result<T, EngineError>) -> T {
    let begun = Instant::now();
    loop {
        match call().await {
            Err(error) if error.is_transient() && begun.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            done => return done.unwrap(),
        }
    }
}

/// The servers, and the databases that no case uses at the moment.
pub(crate) struct Servers {
    server_url: String,
    pub(crate) redis_url: String,
    /// A migrated database to copy.
    template: String,
    copying: tokio::sync::Mutex<()>,
    spare: Mutex<Vec<Database>>,
    made: Mutex<Vec<String>>,
    private: Option<(PrivatePostgres, PrivateRedis)>,
}

/// A database for one case at a time.
#[derive(Clone)]
pub(crate) struct Database {
    pub(crate) url: String,
    /// What the clean fleet works with.
    pub(crate) store: Store,
    /// What the test looks with.
    pub(crate) sql: PgPool,
}

impl Servers {
    /// Those that `bin/test` started, or private ones.
    pub(crate) async fn start() -> Self {
        let given = |name: &str| std::env::var(name).ok().filter(|url| !url.is_empty());
        let (database_url, redis_url, private) =
            match (given("GALLEY_TEST_DATABASE_URL"), given("GALLEY_TEST_REDIS_URL")) {
                (Some(database_url), Some(redis_url)) => (database_url, redis_url, None),
                _ => {
                    let postgres = PrivatePostgres::start_temporary(Speed::Throwaway).await.unwrap();
                    let redis = PrivateRedis::start_temporary().await.unwrap();
                    (postgres.url(), redis.url(), Some((postgres, redis)))
                }
            };
        let servers = Self {
            server_url: database_url.rsplit_once('/').unwrap().0.to_owned(),
            redis_url,
            template: unique_name(),
            copying: tokio::sync::Mutex::default(),
            spare: Mutex::default(),
            made: Mutex::default(),
            private,
        };
        servers.make_template().await;
        servers
    }

    async fn make_template(&self) {
        self.admin(&format!("CREATE DATABASE {}", self.template)).await;
        self.made.lock().unwrap().push(self.template.clone());
        let url = self.url_of(&self.template);
        let store = Store::connect_with_patience(&url, 1, LONG).unwrap();
        store.migrate().await.unwrap();
        store.register_agents(&specs()).await.unwrap();
        store.close().await;
        // The witness of every version of every run.
        let mut connection = PgConnection::connect(&url).await.unwrap();
        sqlx::raw_sql(Dump::JOURNAL).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    /// A clean database.
    pub(crate) async fn database(&self) -> Database {
        let spare = self.spare.lock().unwrap().pop();
        if let Some(database) = spare {
            sqlx::raw_sql(CLEAN).execute(&database.sql).await.unwrap();
            return database;
        }
        let name = unique_name();
        // Copying is all disk and locks: one at a time is as fast.
        let turn = self.copying.lock().await;
        self.admin(&format!("CREATE DATABASE {name} TEMPLATE {}", self.template)).await;
        drop(turn);
        let url = self.url_of(&name);
        self.made.lock().unwrap().push(name);
        let store = Store::connect_with_patience(&url, CONNECTIONS, LONG).unwrap();
        let sql = PgPoolOptions::new().max_connections(1).acquire_timeout(PATIENCE);
        let sql = sql.connect_lazy(&url).unwrap();
        Database { url, store, sql }
    }

    /// For the next case.
    pub(crate) fn give_back(&self, database: Database) {
        self.spare.lock().unwrap().push(database);
    }

    /// After a case that failed: something may still move.
    pub(crate) async fn throw_away(&self, database: Database) {
        let name = database.url.rsplit_once('/').unwrap().1.to_owned();
        self.admin(&format!("DROP DATABASE {name} WITH (FORCE)")).await;
        self.made.lock().unwrap().retain(|made| *made != name);
    }

    fn url_of(&self, database: &str) -> String {
        format!("{}/{database}", self.server_url)
    }

    async fn admin(&self, statement: &str) {
        let mut connection = PgConnection::connect(&self.url_of("postgres")).await.unwrap();
        // A name made above: nothing foreign is pasted in.
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    /// Leaves shared servers as they were.
    pub(crate) async fn stop(&mut self) {
        if let Some((postgres, redis)) = &mut self.private {
            redis.stop().await;
            postgres.stop_immediate().await;
            return;
        }
        let made = std::mem::take(&mut *self.made.lock().unwrap());
        for name in made {
            self.admin(&format!("DROP DATABASE {name} WITH (FORCE)")).await;
        }
    }
}
