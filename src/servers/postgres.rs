//! A private PostgreSQL server.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::signal::Signal;

use crate::{
    account::Account,
    error::{ServerError, io},
    folder::Folder,
    port::{self, Moving},
    process::{Launch, Running, Start},
    programs::PostgresPrograms,
};

/// What people call it in messages.
const NAME: &str = "PostgreSQL";
/// The superuser and its database.
const USER: &str = "galley";
/// How long a start may take: recovery after a crash replays up to 4 GB.
const START: Duration = Duration::from_secs(120);
/// How long a stop in good order may take: it writes a checkpoint.
const STOP: Duration = Duration::from_secs(60);
/// How long an immediate stop may take.
const CRASH: Duration = Duration::from_secs(10);
/// What the server does about a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speed {
    /// Every commit is flushed to disk, as in production.
    Durable,
    /// Nothing is flushed. Survives a crash of the server, not of the machine.
    Throwaway,
}

/// A private PostgreSQL server on 127.0.0.1, stopped when dropped (which
/// blocks the thread for the moment that takes).
#[derive(Debug)]
pub struct PrivatePostgres {
    // Fields are dropped in this order: the server before its folder.
    running: Option<Running>,
    programs: PostgresPrograms,
    account: Account,
    password: String,
    port: u16,
    speed: Speed,
    folder: Folder,
}

impl PrivatePostgres {
    /// Starts a server whose data stays in `dir` between runs, on the same
    /// port as before if that is free. `dir` is created if needed, belongs to
    /// this server alone, and is handed to the account that runs it.
    ///
    /// # Errors
    /// When PostgreSQL is not installed, the folder is in use or unusable, or
    /// the server does not get ready within two minutes.
    pub async fn start(dir: &Path, speed: Speed) -> Result<Self, ServerError> {
        let account = Account::for_postgres()?;
        let folder = Folder::open(dir, account).await?;
        Self::open(folder, account, speed).await
    }

    /// Starts an empty server in a temporary folder that is deleted when the
    /// server is dropped.
    ///
    /// # Errors
    /// As [`PrivatePostgres::start`].
    pub async fn start_temporary(speed: Speed) -> Result<Self, ServerError> {
        let account = Account::for_postgres()?;
        let folder = Folder::temporary(account).await?;
        Self::open(folder, account, speed).await
    }

    async fn open(folder: Folder, account: Account, speed: Speed) -> Result<Self, ServerError> {
        let programs = PostgresPrograms::find(data_version(&folder), folder.home())?;
        let password = if data_version(&folder).is_some() {
            let file = folder.join("password");
            fs::read_to_string(&file).map_err(io(format!("read {}", file.display())))?
        } else {
            hex::encode(rand::random::<[u8; 16]>())
        };
        let port = port::remembered(&folder.join("port"))?;
        let mut server = Self { running: None, programs, account, password, port, speed, folder };
        if data_version(&server.folder).is_none() {
            server.create_data().await?;
        }
        server.launch(Moving::Allowed).await?;
        Ok(server)
    }

    /// The superuser's URL, with its password, for the database `galley`.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_for(USER)
    }

    /// The superuser's URL, with its password, for another database.
    #[must_use]
    pub fn url_for(&self, database: &str) -> String {
        let Self { password, port, .. } = self;
        format!("postgres://{USER}:{password}@127.0.0.1:{port}/{database}")
    }

    /// The port on 127.0.0.1; restarts keep it.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's main process, if it is running.
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

    /// Where the server's files are: the folder given to
    /// [`PrivatePostgres::start`], unless the server's account cannot reach it.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.folder.home()
    }

    /// Waits until the server ended, and says how. For those who must notice
    /// that it died under them.
    ///
    /// # Errors
    /// When it is stopped already.
    pub async fn ended(&self) -> Result<String, ServerError> {
        let running = self.running.as_ref().ok_or(ServerError::Stopped { program: NAME })?;
        Ok(running.ended().await.words)
    }

    /// Stops the server in good order: connections are cut, a checkpoint is
    /// written. Does nothing if it is stopped.
    pub async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.end(Signal::SIGINT, STOP).await;
        }
    }

    /// Stops the server as a crash would: at once, without a checkpoint; the
    /// next start recovers from the log. Does nothing if it is stopped.
    pub async fn stop_immediate(&mut self) {
        if let Some(running) = self.running.take() {
            running.end(Signal::SIGQUIT, CRASH).await;
        }
    }

    /// Starts the server again on the same port and data, after stopping it
    /// in good order if it is still running.
    ///
    /// # Errors
    /// When the port was taken by somebody else, or as
    /// [`PrivatePostgres::start`].
    pub async fn restart(&mut self) -> Result<(), ServerError> {
        self.stop().await;
        self.launch(Moving::Refused).await
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Makes a new data folder. It gets its name last, so that an interrupted
    /// attempt is not taken for data.
    async fn create_data(&self) -> Result<(), ServerError> {
        let half_made = self.folder.join("data.new");
        if half_made.exists() {
            fs::remove_dir_all(&half_made).map_err(io(format!("delete {}", half_made.display())))?;
        }
        let password = self.folder.join("password");
        let written = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&password)
            .and_then(|mut file| file.write_all(self.password.as_bytes()));
        written.map_err(io(format!("write {}", password.display())))?;
        self.account.give(&password)?;

        let mut args = vec![
            format!("--pgdata={}", half_made.display()),
            format!("--username={USER}"),
            format!("--pwfile={}", password.display()),
            "--auth=scram-sha-256".into(),
            "--encoding=UTF8".into(),
            // One sort order on every machine, and the fastest one.
            "--locale=C".into(),
            "--no-instructions".into(),
        ];
        if self.speed == Speed::Throwaway {
            args.push("--no-sync".into());
        }
        let initdb = self.programs.initdb();
        self.run("initdb", &initdb, args, None).finish().await?;

        // Without a network, as nobody could connect yet.
        let mut statement = tempfile::tempfile().map_err(io("create a temporary file".to_owned()))?;
        statement
            .write_all(format!("CREATE DATABASE {USER}\n").as_bytes())
            .and_then(|()| std::io::Seek::rewind(&mut statement))
            .map_err(io("write a temporary file".to_owned()))?;
        let server = self.programs.server();
        let args = vec!["--single".into(), "-D".into(), half_made.display().to_string(), "template1".into()];
        self.run("postgres --single", &server, args, Some(statement)).finish().await?;

        fs::rename(&half_made, self.data()).map_err(io(format!("rename {}", half_made.display())))
    }

    /// Starts the server and waits until it takes connections.
    async fn launch(&mut self, moving: Moving) -> Result<(), ServerError> {
        let data = self.data();
        let server = self.programs.server();
        for attempt in 1.. {
            self.write_settings()?;
            let args = vec!["-D".into(), data.display().to_string()];
            let launch = self.run(NAME, &server, args, None);
            let start = launch.start_ready(START, async |pid| ready(&data, pid).await);
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

    fn run<'a>(
        &'a self,
        name: &'static str,
        program: &'a Path,
        args: Vec<String>,
        input: Option<fs::File>,
    ) -> Launch<'a> {
        Launch {
            name,
            program,
            args,
            input,
            folder: self.folder.home(),
            log: self.log_path(),
            account: self.account,
            // To the server: stop fast, without waiting for clients.
            stop: Signal::SIGINT,
        }
    }

    /// Writes the server's settings anew at every start, so that an older
    /// data folder follows the program. `ALTER SYSTEM` still has the last word.
    fn write_settings(&self) -> Result<(), ServerError> {
        let Self { port, speed, .. } = self;
        let flush = match speed {
            Speed::Durable => "",
            // synchronous_commit stays on: a commit that was answered must
            // survive `stop_immediate`, or fault tests would prove nothing.
            Speed::Throwaway => "fsync = off\nfull_page_writes = off\n",
        };
        let settings = format!(
            "# Written by Galley at every start; use ALTER SYSTEM for your own.\n\
             listen_addresses = '127.0.0.1'\n\
             port = {port}\n\
             unix_socket_directories = ''\n\
             max_connections = 200\n\
             timezone = 'UTC'\n\
             lc_messages = 'C'\n\
             # A small machine with one busy writer and no replica.\n\
             shared_buffers = '256MB'\n\
             wal_level = minimal\n\
             max_wal_senders = 0\n\
             max_wal_size = '4GB'\n\
             checkpoint_timeout = '15min'\n\
             random_page_cost = 1.1\n\
             # Statements are short: compiling them costs more than it saves.\n\
             jit = off\n\
             autovacuum = on\n\
             {flush}"
        );
        let access = "# Written by Galley at every start.\n\
                      host all all 127.0.0.1/32 scram-sha-256\n";
        for (name, text) in [("postgresql.conf", settings.as_str()), ("pg_hba.conf", access)] {
            let file = self.data().join(name);
            fs::write(&file, text).map_err(io(format!("write {}", file.display())))?;
        }
        Ok(())
    }
}

/// The major version that wrote the data, if there is data.
fn data_version(folder: &Folder) -> Option<u32> {
    fs::read_to_string(folder.join("data/PG_VERSION")).ok()?.trim().parse().ok()
}

/// Waits until the server's own pid file says that it is ready. That file is
/// what `pg_ctl` goes by; unlike a connection it cannot be somebody else's.
async fn ready(data: &Path, pid: u32) {
    let file = data.join("postmaster.pid");
    loop {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let mut lines = text.lines().map(str::trim);
        let ours = lines.next() == Some(pid.to_string().as_str());
        // Line 8 is the state.
        if ours && lines.nth(6) == Some("ready") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
