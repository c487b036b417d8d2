//! The folder `galley dev` lives in: `./.galley` with the private servers'
//! data, the secret, the log and what the other commands look for. One
//! `galley dev` per folder, guarded by a lock that ends with the process.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use galley_servers::{PrivatePostgres, PrivateRedis, ServerError, Speed};
use secrecy::{ExposeSecret, SecretString};

use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::found::{self, write_private};
use crate::print;

/// The folder, locked.
#[derive(Debug)]
pub(crate) struct Home {
    folder: PathBuf,
    _lock: File,
}

/// The servers this `galley dev` started; those that URLs name are not among
/// them.
#[derive(Debug, Default)]
pub(crate) struct Servers {
    postgres: Option<PrivatePostgres>,
    redis: Option<PrivateRedis>,
}

impl Home {
    /// Opens the folder of the current directory, and makes it if needed.
    ///
    /// # Errors
    /// Another `galley dev` runs here, or the folder cannot be written.
    pub(crate) fn open() -> Result<Self, Failure> {
        let folder = std::env::current_dir()
            .map_err(|error| Failure::unexpected("the current folder cannot be found").detail(error))?
            .join(found::FOLDER);
        let told = |error| {
            Failure::unexpected(format!("could not write {}", folder.display()))
                .detail(error)
                .hint("run `galley dev` in a folder you may write to")
        };
        fs::create_dir_all(&folder).map_err(told)?;
        let lock = File::create(folder.join("lock")).map_err(told)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { folder, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(Failure::new(
                Exit::Conflict,
                "`galley dev` runs in this folder already",
            )
            .detail(folder.display())
            .hint(
                "use that one (`galley top` shows it), stop it with Ctrl-C, or run this in another folder",
            )),
            Err(TryLockError::Error(error)) => Err(told(error)),
        }
    }

    /// A file in it.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The log, opened at its end.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(crate) fn log(&self) -> Result<File, Failure> {
        let path = self.join("galley.log");
        File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(|error| Failure::unexpected(format!("could not write {}", path.display())).detail(error))
    }

    /// What tokens are signed with: configured, kept, or drawn now.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(crate) fn secret(&self, config: &Config) -> Result<SecretString, Failure> {
        if config.auth.jwt_secret.is_some() {
            return crate::deployment::jwt_secret(config);
        }
        self.kept_secret("jwt-secret")
    }

    /// A secret of this folder: kept, or drawn now. 64 hexadecimal digits.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(crate) fn kept_secret(&self, name: &str) -> Result<SecretString, Failure> {
        let path = self.join(name);
        if let Ok(kept) = fs::read_to_string(&path)
            && !kept.trim().is_empty()
        {
            return Ok(kept.trim().into());
        }
        let drawn = SecretString::from(hex::encode(rand::random::<[u8; 32]>()));
        write_private(&path, &format!("{}\n", drawn.expose_secret()))?;
        Ok(drawn)
    }

    /// Forgets everything but the log and this lock.
    ///
    /// # Errors
    /// Something cannot be deleted.
    pub(crate) async fn wipe(&self) -> Result<(), Failure> {
        let postgres = self.join("postgres");
        if postgres.exists() {
            // The data may be elsewhere, where the server's account can reach
            // it; only the server knows.
            match PrivatePostgres::start(&postgres, Speed::Durable).await {
                Ok(mut server) => {
                    let data = server.home().to_path_buf();
                    server.stop_immediate().await;
                    drop(server);
                    delete(&data)?;
                }
                Err(error @ ServerError::InUse { .. }) => return Err(error.into()),
                // Data that cannot be started can still be deleted.
                Err(error) => tracing::warn!(%error, "deleting a database that does not start"),
            }
        }
        for name in
            ["postgres", "redis", "jwt-secret", "secret-key", "preview-token", "preview.jsonl", "dev.json"]
        {
            delete(&self.join(name))?;
        }
        Ok(())
    }
}

fn delete(path: &Path) -> Result<(), Failure> {
    let gone = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match gone {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::unexpected(format!("could not delete {}", path.display())).detail(error))
        }
        _ => Ok(()),
    }
}

impl Servers {
    /// Starts what no URL names, and writes the URLs into the configuration.
    ///
    /// # Errors
    /// A server that is not installed or does not start.
    pub(crate) async fn start(home: &Home, config: &mut Config) -> Result<Self, Failure> {
        let (postgres_folder, redis_folder) = (home.join("postgres"), home.join("redis"));
        let postgres = async {
            match &config.database.url {
                Some(_) => Ok(None),
                None => PrivatePostgres::start(&postgres_folder, Speed::Durable).await.map(Some),
            }
        };
        let redis = async {
            match &config.redis.url {
                Some(_) => Ok(None),
                None => PrivateRedis::start(&redis_folder).await.map(Some),
            }
        };
        let (postgres, redis) = tokio::try_join!(postgres, redis)?;
        if let Some(server) = &postgres {
            config.database.url = Some(server.url().into());
        }
        if let Some(server) = &redis {
            config.redis.url = Some(server.url().into());
        }
        Ok(Self { postgres, redis })
    }

    /// Which servers are in use, in words.
    pub(crate) fn in_words(&self) -> String {
        let postgres = match &self.postgres {
            Some(server) => format!("PostgreSQL on port {}", server.port()),
            None => "PostgreSQL of DATABASE_URL".into(),
        };
        let redis = match &self.redis {
            Some(server) => format!("Redis on port {}", server.port()),
            None => "Redis of REDIS_URL".into(),
        };
        format!("{postgres}, {redis}")
    }

    /// Waits until one of them died under us, and says how.
    pub(crate) async fn died(&self) -> Failure {
        let postgres = async {
            match &self.postgres {
                Some(server) => (server.ended().await, server.log_path()),
                None => std::future::pending().await,
            }
        };
        let redis = async {
            match &self.redis {
                Some(server) => (server.ended().await, server.log_path()),
                None => std::future::pending().await,
            }
        };
        let (what, (how, log)) = tokio::select! {
            ended = postgres => ("PostgreSQL", ended),
            ended = redis => ("Redis", ended),
        };
        let how = how.unwrap_or_else(|error| error.to_string());
        Failure::new(Exit::Unavailable, format!("the private {what} ended by itself"))
            .detail(how)
            .hint(format!("its log is {}; start `galley dev` again, it goes on where it was", log.display()))
    }

    /// Stops them in good order.
    pub(crate) async fn stop(mut self) {
        if let Some(redis) = &mut self.redis {
            redis.stop().await;
        }
        if let Some(postgres) = &mut self.postgres {
            postgres.stop().await;
        }
        if self.postgres.is_some() || self.redis.is_some() {
            print::say("servers stopped");
        }
    }
}
