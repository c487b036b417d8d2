//! Runs a command with a private PostgreSQL and Redis, and leaves nothing
//! behind: `with_servers COMMAND [ARGUMENT…]`. `bin/test` runs the tests in it.
//!
//! The command finds the servers in `GALLEY_TEST_DATABASE_URL` and
//! `GALLEY_TEST_REDIS_URL`. Its exit status is ours. It runs in a process group
//! of its own, so that a signal to us ends it and all it started (test binaries
//! under `cargo test`, workers under test binaries), and servers go last.

use std::{
    env, io,
    os::unix::process::ExitStatusExt,
    process::{ExitCode, ExitStatus, Stdio},
    time::Duration,
};

use galley_servers::{PrivatePostgres, PrivateRedis, ServerError, Speed};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    process::Command,
    signal::unix::{SignalKind, signal},
};

/// How long the command may take to end after a signal.
const PATIENCE: Duration = Duration::from_secs(10);
/// The exit code for "could not run it", as shells have it.
const CANNOT_RUN: u8 = 126;

#[tokio::main]
async fn main() -> ExitCode {
    let mut args = env::args_os().skip(1);
    let Some(program) = args.next() else {
        eprintln!("usage: with_servers COMMAND [ARGUMENT…]");
        return ExitCode::from(2);
    };
    let mut command = Command::new(program);
    command.args(args);
    match run(command).await {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(CANNOT_RUN)
        }
    }
}

/// Why the command did not run.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error("could not run the command: {0}")]
    Command(#[from] io::Error),
}

async fn run(mut command: Command) -> Result<u8, RunError> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    // Listening begins before anything is started: a Ctrl-C during the start
    // drops the futures, and with them what they started.
    let stopped = async {
        tokio::select! {
            _ = interrupt.recv() => Signal::SIGINT,
            _ = terminate.recv() => Signal::SIGTERM,
            _ = hang_up.recv() => Signal::SIGHUP,
        }
    };
    tokio::pin!(stopped);

    let servers = async {
        tokio::try_join!(PrivatePostgres::start_temporary(Speed::Throwaway), PrivateRedis::start_temporary(),)
    };
    let (mut postgres, mut redis) = tokio::select! {
        servers = servers => servers?,
        signal = &mut stopped => return Ok(code_of(signal)),
    };

    let mut child = command
        .env("GALLEY_TEST_DATABASE_URL", postgres.url())
        .env("GALLEY_TEST_REDIS_URL", redis.url())
        // A group of its own may not read the terminal.
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()?;
    let group = child.id().map(|id| Pid::from_raw(id.cast_signed()));
    let tell = |signal| {
        // An empty group is what we want.
        group.is_some_and(|group| killpg(group, signal).is_ok())
    };
    let code = tokio::select! {
        status = child.wait() => status_code(status?),
        signal = &mut stopped => {
            tell(signal);
            // Its own status does not matter any more; only that it ends.
            let _ = tokio::time::timeout(PATIENCE, child.wait()).await;
            code_of(signal)
        }
    };
    if tell(Signal::SIGKILL) {
        eprintln!("warning: killed processes that the command had left running");
        let _ = child.wait().await;
    }
    redis.stop().await;
    // The data is thrown away: no checkpoint.
    postgres.stop_immediate().await;
    Ok(code)
}

/// What a shell reports for a program that a signal ended.
fn code_of(signal: Signal) -> u8 {
    128_u8.saturating_add(u8::try_from(signal as i32).unwrap_or(127))
}

fn status_code(status: ExitStatus) -> u8 {
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
