//! Connections, and the one way to run a unit of database work.

use std::future::Future;
use std::time::Duration;

use galley_probe::{Rescue, seen};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{Executor, PgConnection, Row};

use crate::audit::carried;
use crate::error::StoreError;
use crate::role::Role;
use crate::scope::{Link, Scope, ScopedPool};

/// A pool of connections to Galley's database.
#[derive(Clone)]
pub struct Store {
    pool: PgPool,
    role: Role,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

/// How long an operation waits for a connection unless told. Longer than a
/// restart of Postgres would make every caller hang; they repeat on their own
/// terms.
pub const PATIENCE: Duration = Duration::from_secs(3);

impl Store {
    /// Whether a text is a Postgres URL.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_url(url: &str) -> Result<(), StoreError> {
        url.parse::<PgConnectOptions>()?;
        Ok(())
    }

    /// Makes a pool of at most `connections`; connects when first used. An
    /// operation waits three seconds for a connection.
    ///
    /// # Errors
    /// A URL that is not one.
    pub fn connect(url: &str, connections: u32) -> Result<Self, StoreError> {
        Self::connect_with_patience(url, connections, PATIENCE)
    }

    /// [`connect`](Self::connect) with another patience: how long an operation
    /// waits for a connection before it fails as unavailable.
    ///
    /// # Errors
    /// A URL that is not one.
    pub fn connect_with_patience(
        url: &str,
        connections: u32,
        patience: Duration,
    ) -> Result<Self, StoreError> {
        Self::connect_as(Role::Login, url, connections, patience)
    }

    /// [`connect_with_patience`](Self::connect_with_patience) as one of
    /// Galley's roles, which the URL's login takes on when it connects.
    ///
    /// # Errors
    /// A URL that is not one.
    pub fn connect_as(
        role: Role,
        url: &str,
        connections: u32,
        patience: Duration,
    ) -> Result<Self, StoreError> {
        let options: PgConnectOptions = url.parse()?;
        let options = options
            .application_name("galley")
            .statement_cache_capacity(256)
            // A worker or API that hangs in a transaction must not hold its
            // row locks for ever.
            .options([
                ("idle_in_transaction_session_timeout", "30s"),
                ("statement_timeout", "60s"),
                ("jit", "off"),
            ]);
        let options = match role.name() {
            Some(name) => options.options([("role", name)]),
            None => options,
        };
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(patience)
            .idle_timeout(Duration::from_secs(300))
            // A cancelled `begin()` can hand a connection back inside an open
            // transaction (sqlx 0.8.6 and 0.9.0); what the next borrower
            // wrote would never be committed. Inside a transaction the two
            // timestamps differ; such a connection is closed. Asked with the
            // simple protocol: in the extended one they always differ.
            .after_release(|connection, _| {
                Box::pin(async move {
                    let row = connection
                        .fetch_one(sqlx::raw_sql("SELECT transaction_timestamp() = statement_timestamp()"))
                        .await?;
                    let clean: bool = row.try_get(0)?;
                    if !clean {
                        seen(Rescue::TransactionLeftOpen);
                        tracing::error!("a connection came back inside an open transaction; closed it");
                    }
                    Ok(clean)
                })
            })
            .connect_lazy_with(options);
        Ok(Self { pool, role })
    }

    /// Who it is to Postgres.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Runs a unit of database work to its end in a task of its own: a caller
    /// that is cancelled (a client hung up, a `select!` lost) cannot leave it
    /// half done. Every write of this crate goes through here, and says whose
    /// rows it touches.
    pub(crate) async fn unit<T, F, Fut>(&self, scope: impl Into<Scope>, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(ScopedPool) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        to_the_end(work(self.scoped(scope))).await
    }

    /// A connection for reads that may be cancelled, of the rows in a scope.
    pub(crate) async fn reader(&self, scope: impl Into<Scope>) -> Result<Link, StoreError> {
        // On the heap: waiting for a connection is most of a read's future.
        let scoped = self.scoped(scope);
        Box::pin(async move { scoped.link().await }).await
    }

    fn scoped(&self, scope: impl Into<Scope>) -> ScopedPool {
        ScopedPool::new(self.pool.clone(), self.role.is_bounded(), scope.into())
    }

    /// The pool itself, for what is nobody's: the schema.
    pub(crate) fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Whether Postgres answers.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.pool).await?;
        Ok(())
    }

    /// The server's version, as it says it: `15.18 (Debian …)`.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn server_version(&self) -> Result<String, StoreError> {
        let row = sqlx::query("SHOW server_version").fetch_one(&self.pool).await?;
        Ok(row.try_get(0)?)
    }

    /// Connections open and idle: for the pool metrics.
    pub fn pool_size(&self) -> (u32, usize) {
        (self.pool.size(), self.pool.num_idle())
    }

    /// Closes every connection.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// Runs work to its end in a task of its own.
pub(crate) async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::spawn(carried(work)).await {
        Ok(done) => done,
        // The runtime is going down, or the work panicked (a bug that the
        // panic hook has logged): either way nobody knows the outcome.
        Err(_) => Err(StoreError::Unavailable(sqlx::Error::WorkerCrashed)),
    }
}

/// How many rows a statement touched, checked: a lost update becomes an error
/// with a name at the moment it happens.
pub(crate) async fn execute(
    connection: &mut PgConnection,
    query: sqlx::query::Query<'_, sqlx::Postgres, sqlx::postgres::PgArguments>,
) -> Result<u64, StoreError> {
    Ok(query.execute(connection).await?.rows_affected())
}
