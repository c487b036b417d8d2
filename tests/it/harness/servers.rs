//! The servers that tests share, and the databases they get on them.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use galley_engine::store::Store;
use galley_servers::{PrivatePostgres, PrivateRedis, Speed};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::sync::{Mutex, OnceCell};

/// The servers of this process, while a test uses them. Not owned by the
/// static, which is never dropped: the last test stops private ones.
static SHARED: Mutex<Weak<Servers>> = Mutex::const_new(Weak::new());

/// Makes names unique in this process.
static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A Postgres and a Redis that many tests use at once.
pub(crate) struct Servers {
    database_url: String,
    redis_url: String,
    /// A migrated database to copy: a copy takes a fraction of a migration.
    template: OnceCell<String>,
    _private: Option<(PrivatePostgres, PrivateRedis)>,
}

/// A name nobody else uses on a shared server.
pub(crate) fn unique_name() -> String {
    format!("it_{}_{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

impl Servers {
    /// Those that `bin/test` started, or private ones of this process.
    pub(crate) async fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().await;
        if let Some(servers) = shared.upgrade() {
            return servers;
        }
        let given = |name: &str| std::env::var(name).ok().filter(|url| !url.is_empty());
        let servers = match (given("GALLEY_TEST_DATABASE_URL"), given("GALLEY_TEST_REDIS_URL")) {
            (Some(database_url), Some(redis_url)) => {
                Self { database_url, redis_url, template: OnceCell::new(), _private: None }
            }
            _ => {
                let postgres = PrivatePostgres::start_temporary(Speed::Throwaway).await.unwrap();
                let redis = PrivateRedis::start_temporary().await.unwrap();
                Self {
                    database_url: postgres.url(),
                    redis_url: redis.url(),
                    template: OnceCell::new(),
                    _private: Some((postgres, redis)),
                }
            }
        };
        let servers = Arc::new(servers);
        *shared = Arc::downgrade(&servers);
        servers
    }

    pub(crate) fn redis_url(&self) -> &str {
        &self.redis_url
    }

    /// The URL of another database on the server.
    pub(crate) fn url_of(&self, database: &str) -> String {
        on_database(&self.database_url, database)
    }

    /// A fresh database with the schema.
    pub(crate) async fn create_database(&self) -> String {
        let template = self.template.get_or_init(|| async {
            let name = format!("{}_template", unique_name());
            self.admin(&format!("CREATE DATABASE {name}")).await;
            migrate(&self.url_of(&name)).await;
            name
        });
        let (name, template) = (unique_name(), template.await);
        self.admin(&format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
        name
    }

    pub(crate) async fn drop_database(&self, name: &str) {
        self.admin(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
    }

    async fn admin(&self, statement: &str) {
        let mut connection = PgConnection::connect(&self.database_url).await.unwrap();
        // A name made above: nothing foreign is pasted in.
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }
}

/// The same server's URL for another database.
pub(crate) fn on_database(url: &str, database: &str) -> String {
    let (server, _) = url.rsplit_once('/').unwrap();
    format!("{server}/{database}")
}

/// Brings an empty database of a test's own to today's schema.
pub(crate) async fn migrate(url: &str) {
    let store = Store::connect(url, 1).unwrap();
    store.migrate().await.unwrap();
    store.close().await;
}
