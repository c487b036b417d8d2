//! The two servers under the fleet, and what a person with all rights can do to
//! them. PostgreSQL flushes nothing to the disk: what it handed to the operating
//! system survives its own crash, and nobody cuts the power here.

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
        let mut postgres = PrivatePostgres::start(&folder.join("postgres"), Speed::Throwaway).await?;
        trust_everybody(&mut postgres).await?;
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

    /// Copies the database as it is now, to go back to later. Everybody's
    /// connection ends; new ones are served a moment later.
    ///
    /// # Errors
    /// PostgreSQL is away, or somebody does not leave.
    pub async fn keep_copy(&self) -> Result<()> {
        let mut connection = self.beside().await?;
        leave(&mut connection).await?;
        connection.execute("CREATE DATABASE older TEMPLATE galley").await?;
        connection.execute("ALTER DATABASE galley ALLOW_CONNECTIONS true").await?;
        Ok(())
    }

    /// Puts the copy in the database's place: what was committed after it was
    /// taken has never happened.
    ///
    /// # Errors
    /// As [`Servers::keep_copy`]; there is no copy.
    pub async fn restore_copy(&self) -> Result<()> {
        let mut connection = self.beside().await?;
        leave(&mut connection).await?;
        connection.execute("ALTER DATABASE galley RENAME TO lost").await?;
        connection.execute("ALTER DATABASE older RENAME TO galley").await?;
        connection.execute("DROP DATABASE lost").await?;
        Ok(())
    }

    /// The database's clock, moved by so many seconds; 0 puts it right, as the
    /// next process to start demands.
    ///
    /// # Errors
    /// PostgreSQL is away.
    pub async fn move_clock(&self, seconds: i64) -> Result<()> {
        let by = if seconds == 0 { String::new() } else { format!(" + interval ''{seconds} s''") };
        let moved = format!(
            "CREATE OR REPLACE FUNCTION galley_now() RETURNS timestamptz LANGUAGE sql STABLE AS \
             'SELECT now(){by}'"
        );
        self.connect().await?.execute(AssertSqlSafe(moved)).await?;
        Ok(())
    }

    /// A connection to another database than the fleet's.
    async fn beside(&self) -> Result<PgConnection> {
        let (server, _) = self.database_url.rsplit_once('/').context("a database's URL")?;
        Ok(PgConnection::connect(&format!("{server}/postgres?application_name=chaos")).await?)
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

/// Everybody leaves the fleet's database, and nobody comes back.
async fn leave(connection: &mut PgConnection) -> Result<()> {
    connection.execute("ALTER DATABASE galley ALLOW_CONNECTIONS false").await?;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'galley'";
    for _ in 0..500 {
        if sqlx::query(end).fetch_all(&mut *connection).await?.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    anyhow::bail!("somebody does not leave the database")
}

/// Lets the fleet in without a password. It connects again hundreds of times,
/// and in an unoptimized build its side of a password's proof takes so long
/// that on a busy machine no connection is ready within the pool's patience:
/// the fleet then does nothing but prove who it is.
async fn trust_everybody(postgres: &mut PrivatePostgres) -> Result<()> {
    let file = postgres.home().join("data").join("trusting_hba.conf");
    std::fs::write(&file, "host all all 127.0.0.1/32 trust\n")?;
    let mut connection = PgConnection::connect(&postgres.url()).await?;
    let place = format!("ALTER SYSTEM SET hba_file = '{}'", file.display());
    connection.execute(AssertSqlSafe(place)).await?;
    connection.close().await?;
    postgres.restart().await.context("PostgreSQL did not come back")
}

fn pid(pid: u32) -> Result<Pid> {
    Ok(Pid::from_raw(i32::try_from(pid)?))
}
