//! A private Redis server that keeps nothing on disk.
//!
//! Redis only hints (see the protocol), so a private one starts empty, always.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::signal::Signal;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    account::Account,
    error::{ServerError, io},
    folder::Folder,
    port::{self, Moving},
    process::{Launch, Running, Start},
    programs,
};

/// What people call it in messages.
const NAME: &str = "redis-server";
/// How long a start may take.
const START: Duration = Duration::from_secs(30);
/// How long a stop in good order may take.
const STOP: Duration = Duration::from_secs(10);
/// A private Redis server on 127.0.0.1, stopped when dropped (which blocks the
/// thread for the moment that takes).
#[derive(Debug)]
pub struct PrivateRedis {
    // Fields are dropped in this order: the server before its folder.
    running: Option<Running>,
    program: PathBuf,
    port: u16,
    folder: Folder,
}

impl PrivateRedis {
    /// Starts an empty server whose log and port are kept in `dir`, on the same
    /// port as before if that is free. `dir` is created if needed and belongs
    /// to this server alone.
    ///
    /// # Errors
    /// When Redis is not installed, the folder is in use or unusable, or the
    /// server does not get ready within half a minute.
    pub async fn start(dir: &Path) -> Result<Self, ServerError> {
        let program = programs::redis_server()?;
        Self::open(program, Folder::open(dir, Account::own()).await?).await
    }

    /// Starts a server in a temporary folder that is deleted when the server
    /// is dropped.
    ///
    /// # Errors
    /// As [`PrivateRedis::start`].
    pub async fn start_temporary() -> Result<Self, ServerError> {
        let program = programs::redis_server()?;
        Self::open(program, Folder::temporary(Account::own()).await?).await
    }

    async fn open(program: PathBuf, folder: Folder) -> Result<Self, ServerError> {
        let port = port::remembered(&folder.join("port"))?;
        let mut server = Self { running: None, program, port, folder };
        server.launch(Moving::Allowed).await?;
        Ok(server)
    }

    /// The server's URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// The port on 127.0.0.1; restarts keep it.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's process, if it is running.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        let running = self.running.as_ref()?;
        running.ending().is_none().then(|| running.pid())
    }

    /// The server's log.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.folder.join("server.log")
    }

    /// Waits until the server ended, and says how.
    ///
    /// # Errors
    /// When it is stopped already.
    pub async fn ended(&self) -> Result<String, ServerError> {
        let running = self.running.as_ref().ok_or(ServerError::Stopped { program: NAME })?;
        Ok(running.ended().await.words)
    }

    /// Stops the server in good order. Does nothing if it is stopped.
    pub async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.end(Signal::SIGINT, STOP).await;
        }
    }

    /// Kills the server, as a crash of it would. Does nothing if it is stopped.
    pub async fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            running.end(Signal::SIGKILL, STOP).await;
        }
    }

    /// Starts the server again on the same port, empty, after stopping it if
    /// it is still running.
    ///
    /// # Errors
    /// When the port was taken by somebody else, or as [`PrivateRedis::start`].
    pub async fn restart_empty(&mut self) -> Result<(), ServerError> {
        self.stop().await;
        self.launch(Moving::Refused).await
    }

    /// Starts the server and waits until it answers.
    async fn launch(&mut self, moving: Moving) -> Result<(), ServerError> {
        for attempt in 1.. {
            let port = self.port;
            let start = self.run()?.start_ready(START, async |pid| ready(port, pid).await);
            match start.await? {
                Start::Ready(running) => {
                    port::remember(&self.folder.join("port"), self.port)?;
                    self.running = Some(running);
                    break;
                }
                Start::PortTaken(error) | Start::OthersLeaving(error) if attempt == port::ATTEMPTS => {
                    return Err(error);
                }
                Start::PortTaken(_) if moving == Moving::Allowed => self.port = port::free()?,
                Start::PortTaken(_) | Start::OthersLeaving(_) => {}
            }
            tokio::time::sleep(port::BETWEEN).await;
        }
        Ok(())
    }

    fn run(&self) -> Result<Launch<'_>, ServerError> {
        let home = self.folder.home();
        let config = home.join("redis.conf");
        let text = format!(
            "# Written by Galley at every start.\n\
             bind 127.0.0.1\n\
             protected-mode yes\n\
             port {port}\n\
             dir \"{home}\"\n\
             pidfile \"{home}/redis.pid\"\n\
             daemonize no\n\
             save \"\"\n\
             appendonly no\n",
            port = self.port,
            home = home.display(),
        );
        fs::write(&config, text).map_err(io(format!("write {}", config.display())))?;
        Ok(Launch {
            name: NAME,
            program: &self.program,
            args: vec![config.display().to_string()],
            input: None,
            folder: home,
            log: self.log_path(),
            account: Account::own(),
            stop: Signal::SIGINT,
        })
    }
}

/// Waits until the server with this process id answers on the port; another
/// one that happens to listen there does not count.
async fn ready(port: u16, pid: u32) {
    loop {
        if process_id(port).await == Some(pid) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The process id that the server on this port reports.
async fn process_id(port: u16) -> Option<u32> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok()?;
    // QUIT makes the server close the connection, which ends the reading.
    stream.write_all(b"INFO server\r\nQUIT\r\n").await.ok()?;
    let mut said = String::new();
    let reading = stream.read_to_string(&mut said);
    tokio::time::timeout(Duration::from_secs(1), reading).await.ok()?.ok()?;
    said.lines().find_map(|line| line.strip_prefix("process_id:"))?.trim().parse().ok()
}
