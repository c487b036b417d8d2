//! Child processes that do not outlive us.
//!
//! Each server has a **keeper**: a thread that starts it, waits for it and does
//! nothing else. Three things follow from that.
//! - The kernel signals a child with a "parent death signal" when the *thread*
//!   that started it ends. Tokio's threads come and go (a test's runtime ends
//!   with the test, `block_in_place` retires threads); the keeper lives exactly
//!   as long as its child, so the signal means "the whole process is gone".
//! - The child is reaped at once whatever our runtime does: no zombies.
//! - The process id cannot be reused while somebody sends it a signal: the
//!   keeper reaps under the same lock that senders take.
//!
//! The signal is set by `setpriv`, because setting it ourselves would need
//! unsafe code. Without `setpriv` a killed Galley leaves its servers running
//! until the next start in the same folder stops them (see `folder`).

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Seek, SeekFrom},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill},
        wait::{Id, WaitPidFlag, waitid},
    },
    unistd::Pid,
};
use tokio::sync::{Notify, oneshot};

use crate::{
    account::Account,
    error::{ServerError, io},
    programs,
};

/// How long a killed process may take to vanish.
const AFTER_KILL: Duration = Duration::from_secs(5);
/// How long a dropped process may take to stop by itself.
const AFTER_DROP: Duration = Duration::from_secs(10);
/// A log longer than this is begun anew, in bytes.
const LOG_LIMIT: u64 = 8 << 20;
/// How much of a log's end an error shows, in bytes.
const TAIL: u64 = 2_000;

/// What to run, and how.
pub(crate) struct Launch<'a> {
    /// What people call the program.
    pub(crate) name: &'static str,
    /// The program's file.
    pub(crate) program: &'a Path,
    /// Its arguments.
    pub(crate) args: Vec<String>,
    /// Its standard input; empty if none.
    pub(crate) input: Option<File>,
    /// The folder it runs in.
    pub(crate) folder: &'a Path,
    /// Where its output goes, appended.
    pub(crate) log: PathBuf,
    /// Who it runs as.
    pub(crate) account: Account,
    /// The signal that stops it in good order.
    pub(crate) stop: Signal,
}

/// A child process; stopped when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    pid: Pid,
    stop: Signal,
    fate: Arc<Fate>,
}

/// How the start of a server went.
#[derive(Debug)]
pub(crate) enum Start {
    /// It is ready.
    Ready(Running),
    /// Its port is taken. The error to give when trying again does not help.
    PortTaken(ServerError),
    /// Processes of the crashed server before it have not all left yet. The
    /// error to give when waiting does not help.
    OthersLeaving(ServerError),
}

/// How a child ended, once it did.
#[derive(Debug, Default)]
struct Fate {
    how: Mutex<Option<Ending>>,
    bell: Condvar,
    told: Notify,
}

/// How a child ended.
#[derive(Debug, Clone)]
pub(crate) struct Ending {
    /// In words, as in "ended with exit status: 1".
    pub(crate) words: String,
    /// Whether it ended with status 0.
    pub(crate) success: bool,
}

impl Launch<'_> {
    /// Starts the program in a process group of its own, so that a terminal's
    /// Ctrl-C does not reach it.
    pub(crate) async fn start(self) -> Result<Running, ServerError> {
        let log = open_log(&self.log)?;
        let log_too = log.try_clone().map_err(io(format!("write {}", self.log.display())))?;
        let mut command = match programs::setpriv() {
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                let signal = self.stop.as_str().trim_start_matches("SIG");
                command.args(["--pdeathsig", signal, "--"]);
                command.arg(self.program);
                command
            }
            None => Command::new(self.program),
        };
        // A clean environment: a person's PGDATA or PGPORT must not lead the
        // private server astray, and its messages are matched in English.
        command
            .args(&self.args)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("LC_ALL", "C")
            .current_dir(self.folder)
            .stdin(self.input.map_or_else(Stdio::null, Stdio::from))
            .stdout(log)
            .stderr(log_too)
            .process_group(0);
        self.account.apply(&mut command);

        let fate = Arc::new(Fate::default());
        let (started, start) = oneshot::channel();
        let doing = format!("start {}", self.program.display());
        let keeper = fate.clone();
        thread::Builder::new()
            .name(format!("keeps {}", self.name))
            .spawn(move || keep(command, started, &keeper))
            .map_err(io(doing.clone()))?;
        let pid = start
            .await
            .unwrap_or_else(|_| Err(std::io::Error::other("its keeper ended")))
            .map_err(io(doing))?;
        Ok(Running { pid, stop: self.stop, fate })
    }

    /// Starts the program and waits until `ready` (given the process id) is.
    /// What passes by itself is not an error.
    pub(crate) async fn start_ready(
        self,
        patience: Duration,
        ready: impl AsyncFnOnce(u32),
    ) -> Result<Start, ServerError> {
        let (name, log) = (self.name, self.log.clone());
        let before = log_length(&log);
        let running = self.start().await?;
        tokio::select! {
            ready = tokio::time::timeout(patience, ready(running.pid())) => match ready {
                Ok(()) => Ok(Start::Ready(running)),
                Err(_) => {
                    let how = format!("was not ready within {} s", patience.as_secs());
                    Err(refused(name, how, &log))
                }
            },
            ending = running.ended() => {
                let said = logged_since(&log, before);
                if said.contains("Address already in use") {
                    Ok(Start::PortTaken(refused(name, ending.words, &log)))
                } else if said.contains("shared memory block") {
                    Ok(Start::OthersLeaving(refused(name, ending.words, &log)))
                } else {
                    Err(refused(name, ending.words, &log))
                }
            }
        }
    }

    /// Runs the program to its end.
    pub(crate) async fn finish(self) -> Result<(), ServerError> {
        let (name, log) = (self.name, self.log.clone());
        let ending = self.start().await?.ended().await;
        if ending.success { Ok(()) } else { Err(refused(name, ending.words, &log)) }
    }
}

/// The keeper's life: start, wait, tell.
fn keep(mut command: Command, started: oneshot::Sender<Result<Pid, std::io::Error>>, fate: &Fate) {
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            // Nobody left to tell means nobody waits for this child.
            let _ = started.send(Err(error));
            return;
        }
    };
    let pid = Pid::from_raw(child.id().cast_signed());
    if started.send(Ok(pid)).is_err() {
        // The starter was cancelled: nobody would ever stop this child.
        let _ = child.kill();
    }
    // Wait without reaping, so that the id stays ours until the lock is held.
    while waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) == Err(Errno::EINTR) {}
    let mut how = fate.lock();
    *how = Some(match child.wait() {
        Ok(status) => Ending { words: format!("ended with {status}"), success: status.success() },
        Err(error) => Ending { words: format!("is lost: {error}"), success: false },
    });
    drop(how);
    fate.bell.notify_all();
    fate.told.notify_waiters();
}

impl Fate {
    fn lock(&self) -> MutexGuard<'_, Option<Ending>> {
        self.how.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw().cast_unsigned()
    }

    /// How it ended, if it did.
    pub(crate) fn ending(&self) -> Option<Ending> {
        self.fate.lock().clone()
    }

    /// Waits until it ended.
    pub(crate) async fn ended(&self) -> Ending {
        loop {
            let told = self.fate.told.notified();
            tokio::pin!(told);
            // Listen before looking, or an end in between is missed.
            told.as_mut().enable();
            if let Some(ending) = self.ending() {
                return ending;
            }
            told.await;
        }
    }

    /// Sends the signal and waits for the end; kills it when `patience` is over.
    pub(crate) async fn end(&self, signal: Signal, patience: Duration) {
        self.signal(signal);
        if tokio::time::timeout(patience, self.ended()).await.is_err() {
            self.signal(Signal::SIGKILL);
            self.ended().await;
        }
    }

    /// Sends a signal, unless the process is gone.
    fn signal(&self, signal: Signal) {
        let how = self.fate.lock();
        if how.is_none() {
            // It is our unreaped child, so the only error is a lost privilege,
            // which the wait that follows every signal shows.
            let _ = kill(self.pid, signal);
        }
        drop(how);
    }

    /// [`Running::ended`] for where nothing can be awaited.
    fn block_until_ended(&self, patience: Duration) -> bool {
        let (_how, waited) = self
            .fate
            .bell
            .wait_timeout_while(self.fate.lock(), patience, |how| how.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        !waited.timed_out()
    }
}

impl Drop for Running {
    /// Stops the process and waits for it, so that its folder can be deleted
    /// afterwards. This blocks the thread for the moment a stop takes.
    fn drop(&mut self) {
        self.signal(self.stop);
        if !self.block_until_ended(AFTER_DROP) {
            self.signal(Signal::SIGKILL);
            self.block_until_ended(AFTER_KILL);
        }
    }
}

/// The error of a program that ended or hung, with the end of its log.
fn refused(program: &'static str, how: String, log: &Path) -> ServerError {
    ServerError::Refused { program, how, log: log.to_path_buf(), tail: tail(log) }
}

/// How long the log is now, in bytes: where the next run's lines begin.
fn log_length(log: &Path) -> u64 {
    fs::metadata(log).map_or(0, |meta| meta.len())
}

/// What was logged from `start` on.
fn logged_since(log: &Path, start: u64) -> String {
    let read = || {
        let mut file = File::open(log)?;
        let start = start.min(file.metadata()?.len());
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(bytes)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

fn tail(log: &Path) -> String {
    let start = log_length(log).saturating_sub(TAIL);
    let text = logged_since(log, start);
    text.trim_end().to_owned()
}

fn open_log(log: &Path) -> Result<File, ServerError> {
    if log_length(log) > LOG_LIMIT {
        // It may be gone already; opening it is what counts.
        let _ = fs::remove_file(log);
    }
    OpenOptions::new().create(true).append(true).open(log).map_err(io(format!("write {}", log.display())))
}

/// Stops a process that is not our child and runs in `folder`: a server that a
/// killed run of ours left behind. A process that runs anywhere else is not
/// touched, whatever a pid file says: ids are reused.
pub(crate) async fn stop_orphan(pid: i32, folder: &Path, signals: &[(Signal, Duration)]) {
    for (signal, patience) in signals {
        if !is_running_in(pid, folder) {
            return;
        }
        tracing::info!(pid, %signal, folder = %folder.display(), "stopping a server that an earlier run left");
        // Gone in between is what we want; the loop looks again.
        let _ = kill(Pid::from_raw(pid), *signal);
        let _ = tokio::time::timeout(*patience, async {
            while is_running_in(pid, folder) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }
}

/// Whether this process runs in this folder; servers enter their data folder.
pub(crate) fn is_running_in(pid: i32, folder: &Path) -> bool {
    fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == folder)
}
