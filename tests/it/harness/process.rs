//! A worker as a process of its own, so that a test may kill or stop it.

use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use super::bed::{Bed, until};
use super::servers::unique_name;

/// A running `it_worker`; killed when dropped.
pub(crate) struct WorkerProcess {
    name: String,
    child: Child,
}

impl WorkerProcess {
    /// Starts one that serves all its agents; returns when it has a session.
    pub(crate) async fn start(bed: &Bed, concurrency: usize) -> Self {
        Self::start_on(bed, concurrency, &bed.database_url, &bed.redis_url, &[]).await
    }

    /// One that reaches the bed's servers some other way.
    pub(crate) async fn start_on(
        bed: &Bed,
        concurrency: usize,
        database_url: &str,
        redis_url: &str,
        environment: &[(&str, &str)],
    ) -> Self {
        let name = unique_name();
        let config = bed.engine.config();
        let child = Command::new(env!("CARGO_BIN_EXE_it_worker"))
            .env("IT_NAME", &name)
            .env("IT_DATABASE_URL", database_url)
            .env("IT_REDIS_URL", redis_url)
            .envs(environment.iter().copied())
            .env("IT_PREFIX", &bed.prefix)
            .env("IT_CONCURRENCY", concurrency.to_string())
            .env("IT_SESSION_TTL_MS", config.session_ttl.as_millis().to_string())
            .env("IT_RENEW_EVERY_MS", config.renew_every.as_millis().to_string())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        until("the worker process has a session", || async {
            let sessions = bed.engine.store().unswept_sessions().await.unwrap();
            sessions.iter().any(|session| session.opened.worker == name)
        })
        .await;
        Self { name, child }
    }

    /// Its name among workers.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self.child.id().expect("the process is running");
        kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
    }

    /// Waits for its end; whether it ended by itself, with status 0.
    pub(crate) async fn ended(&mut self) -> bool {
        self.child.wait().await.unwrap().success()
    }

    /// Whether it is gone.
    pub(crate) fn is_gone(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }
}
