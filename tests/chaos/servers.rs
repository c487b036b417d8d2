//! The two servers under the fleet, durable as in production, and what a
//! person with all rights can do to them.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use galley_servers::{PrivatePostgres, PrivateRedis, Speed};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _};
use tokio::sync::Mutex;

/// PostgreSQL and Redis of one run. Dropping them stops them.
#[derive(Debug)]
pub struct Servers {
    postgres: Mutex<PrivatePostgres>,
    redis: Mutex<PrivateRedis>,
    /// The superuser's URL; restarts keep it.
    pub database_url: String,
    /// Restarts keep it.
    pub redis_url: String,
    database: SocketAddr,
    queue: SocketAddr,
}

impl Servers {
    /// Starts both in folders of their own.
    ///
    /// # Errors
    /// One of them is not installed, or does not start.
    pub async fn start(folder: &Path) -> Result<Self> {
        let postgres = PrivatePostgres::start(&folder.join("postgres"), Speed::Durable).await?;
        let redis = PrivateRedis::start(&folder.join("redis")).await?;
        Ok(Self {
            database_url: postgres.url(),
            redis_url: redis.url(),
            database: SocketAddr::from(([127, 0, 0, 1], postgres.port())),
            queue: SocketAddr::from(([127, 0, 0, 1], redis.port())),
            postgres: Mutex::new(postgres),
            redis: Mutex::new(redis),
        })
    }

    /// Where PostgreSQL listens.
    pub fn database(&self) -> SocketAddr {
        self.database
    }

    /// Where Redis listens.
    pub fn queue(&self) -> SocketAddr {
        self.queue
    }

    /// A connection of the superuser, past every proxy.
    ///
    /// # Errors
    /// PostgreSQL is away.
    pub async fn connect(&self) -> Result<PgConnection> {
        let url = format!("{}?application_name=chaos", self.database_url);
        Ok(tokio::time::timeout(Duration::from_secs(5), PgConnection::connect(&url)).await??)
    }

    /// A connection to Redis, past every proxy.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn connect_redis(&self) -> Result<redis::aio::MultiplexedConnection> {
        let client = redis::Client::open(self.redis_url.as_str())?;
        let connecting = client.get_multiplexed_async_connection();
        Ok(tokio::time::timeout(Duration::from_secs(5), connecting).await??)
    }

    /// Stops PostgreSQL as a crash would, and starts it again after `down`.
    ///
    /// # Errors
    /// It does not start again.
    pub async fn crash_postgres(&self, down: Duration) -> Result<()> {
        let mut postgres = self.postgres.lock().await;
        postgres.stop_immediate().await;
        tokio::time::sleep(down).await;
        postgres.restart().await.context("PostgreSQL did not come back")
    }

    /// Kills Redis, and starts it again, empty, after `down`.
    ///
    /// # Errors
    /// It does not start again.
    pub async fn restart_redis(&self, down: Duration) -> Result<()> {
        let mut redis = self.redis.lock().await;
        redis.kill().await;
        tokio::time::sleep(down).await;
        redis.restart_empty().await.context("Redis did not come back")
    }

    /// Stops Redis' process for a while: it hangs.
    ///
    /// # Errors
    /// It is down.
    pub async fn hang_redis(&self, time: Duration) -> Result<()> {
        // Held, so that nobody restarts it meanwhile.
        let redis = self.redis.lock().await;
        let pid = pid(redis.pid().context("Redis is down")?)?;
        kill(pid, Signal::SIGSTOP)?;
        tokio::time::sleep(time).await;
        kill(pid, Signal::SIGCONT)?;
        Ok(())
    }

    /// One command to Redis.
    ///
    /// # Errors
    /// Redis is away, or refuses.
    pub async fn redis(&self, command: &[&str]) -> Result<()> {
        let mut connection = self.connect_redis().await?;
        let (name, arguments) = command.split_first().context("a command has a name")?;
        redis::cmd(name).arg(arguments).query_async::<redis::Value>(&mut connection).await?;
        Ok(())
    }

    /// Ends up to `most` of the fleet's connections inside PostgreSQL; says how
    /// many.
    ///
    /// # Errors
    /// PostgreSQL is away.
    pub async fn terminate_backends(&self, most: i64) -> Result<u64> {
        let mut connection = self.connect().await?;
        let ended = sqlx::query(
            "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity \
             WHERE application_name = 'galley' ORDER BY random() LIMIT $1) AS chosen",
        )
        .bind(most)
        .fetch_all(&mut connection)
        .await?;
        Ok(ended.len() as u64)
    }

    /// Stops one of the fleet's backends for a while, in the middle of
    /// whatever it does; false: there was none.
    ///
    /// # Errors
    /// PostgreSQL is away.
    pub async fn hang_backend(&self, time: Duration) -> Result<bool> {
        let mut connection = self.connect().await?;
        let found = sqlx::query(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'galley' \
             ORDER BY state = 'idle', random() LIMIT 1",
        )
        .fetch_optional(&mut connection)
        .await?;
        let Some(row) = found else { return Ok(false) };
        let backend = Pid::from_raw(row.try_get(0)?);
        kill(backend, Signal::SIGSTOP)?;
        tokio::time::sleep(time).await;
        // It may have died with its server.
        let _ = kill(backend, Signal::SIGCONT);
        Ok(true)
    }

    /// Holds a lock on a table that lets nobody write, as a careless person
    /// would.
    ///
    /// # Errors
    /// PostgreSQL is away, or does not give the lock.
    pub async fn rogue_lock(&self, table: &str, time: Duration) -> Result<()> {
        let mut connection = self.connect().await?;
        let mut transaction = connection.begin().await?;
        transaction.execute("SET LOCAL lock_timeout = '3s'").await?;
        let lock = format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE");
        transaction.execute(AssertSqlSafe(lock)).await?;
        tokio::time::sleep(time).await;
        transaction.rollback().await?;
        Ok(())
    }
}

fn pid(pid: u32) -> Result<Pid> {
    Ok(Pid::from_raw(i32::try_from(pid)?))
}
