//! The private servers, run for real: they start, crash, come back, and leave
//! nothing behind.
#![allow(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use galley_servers::{PrivatePostgres, PrivateRedis, ServerError, Speed};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, User, geteuid},
};

/// Runs a statement with `psql`; panics with what it said if that fails.
fn sql(server: &PrivatePostgres, statement: &str) -> String {
    let output = Command::new("psql")
        .args([&server.url(), "-XAtqc", statement])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{statement}: {said}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Sends inline commands to Redis and returns all it answers.
fn redis(port: u16, commands: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "{commands}\r\nQUIT\r\n").unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    said
}

/// Whether the process exists in any form, zombies included.
fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// The processes whose parent is `pid`.
fn children(pid: u32) -> Vec<u32> {
    let output =
        Command::new("ps").args(["--no-headers", "-o", "pid", "--ppid", &pid.to_string()]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    said.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// Waits until a process that is not our child runs no more. (It may stay a
/// zombie where a container's first process does not reap orphans.)
fn wait_until_gone(pid: u32) {
    let patience = Instant::now() + Duration::from_secs(60);
    while fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(Instant::now() < patience, "process {pid} still runs");
        thread::yield_now();
    }
}

/// Runs this test binary's `helper_*` test in a process of its own.
fn helper(name: &str, folder: &Path) -> (Child, Vec<u32>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--ignored", "--nocapture"])
        .env("HELPER_FOLDER", folder)
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let line = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap)
        .find_map(|line| Some(line.split_once("pids ")?.1.to_owned()))
        .unwrap();
    let pids = line.split(' ').map(|pid| pid.parse().unwrap()).collect();
    (child, pids)
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_keeps_what_was_committed_when_it_crashes() {
    let mut server = PrivatePostgres::start_temporary(Speed::Throwaway).await.unwrap();
    sql(&server, "CREATE TABLE t AS SELECT 41 AS n");
    let (first, url) = (server.pid().unwrap(), server.url());
    let backends = children(first);
    assert!(!backends.is_empty());

    server.stop_immediate().await;
    assert_eq!(server.pid(), None);
    assert!(!exists(first), "neither running nor a zombie");
    assert!(matches!(server.ended().await, Err(ServerError::Stopped { .. })));

    server.restart().await.unwrap();
    assert_eq!(server.url(), url, "clients keep their URL");
    assert_eq!(sql(&server, "UPDATE t SET n = n + 1 RETURNING n"), "42");
    let log = fs::read_to_string(server.log_path()).unwrap();
    assert!(log.contains("was not properly shut down"), "{log}");

    server.restart().await.unwrap();
    assert_eq!(sql(&server, "SELECT n FROM t"), "42");

    let (last, home) = (server.pid().unwrap(), server.home().to_path_buf());
    let backends = children(last);
    drop(server);
    for pid in backends.into_iter().chain([last]) {
        wait_until_gone(pid);
    }
    assert!(!home.exists(), "a temporary folder is deleted");
}

#[tokio::test]
async fn postgres_lets_nobody_in_without_the_password() {
    let server = PrivatePostgres::start_temporary(Speed::Throwaway).await.unwrap();
    let url = format!("postgres://galley:wrong@127.0.0.1:{}/galley", server.port());
    let output =
        Command::new("psql").args([&url, "-XAtqc", "SELECT 1"]).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("password authentication failed"), "{said}");
    let mode = fs::metadata(server.home().join("password")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(sql(&server, "SHOW listen_addresses"), "127.0.0.1");
    assert_eq!(sql(&server, "SHOW unix_socket_directories"), "");
}

#[tokio::test]
async fn durable_means_flushed() {
    let server = PrivatePostgres::start_temporary(Speed::Durable).await.unwrap();
    for setting in ["fsync", "synchronous_commit", "full_page_writes"] {
        assert_eq!(sql(&server, &format!("SHOW {setting}")), "on", "{setting}");
    }
}

#[tokio::test]
async fn postgres_keeps_data_and_port_between_runs_and_its_folder_to_itself() {
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let folder = place.path().join("postgres");

    let mut first = PrivatePostgres::start(&folder, Speed::Throwaway).await.unwrap();
    let url = first.url();
    sql(&first, "CREATE TABLE t AS SELECT 7 AS n");
    let second = PrivatePostgres::start(&folder, Speed::Throwaway).await;
    assert!(matches!(second, Err(ServerError::InUse { .. })), "{second:?}");
    first.stop().await;
    drop(first);

    let again = PrivatePostgres::start(&folder, Speed::Throwaway).await.unwrap();
    assert_eq!(again.url(), url);
    assert_eq!(sql(&again, "SELECT n FROM t"), "7");
}

#[tokio::test]
async fn a_taken_port_is_replaced_at_the_first_start() {
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let folder = place.path().join("redis");
    let first = PrivateRedis::start(&folder).await.unwrap();
    let port = first.port();
    drop(first);
    let taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let second = PrivateRedis::start(&folder).await.unwrap();
    assert_ne!(second.port(), port);
    assert!(redis(second.port(), "PING").starts_with("+PONG"));
    drop(taken);
}

#[tokio::test]
async fn a_folder_with_other_files_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let precious = place.path().join("thesis.txt");
    fs::write(&precious, "words").unwrap();
    let refused = PrivatePostgres::start(place.path(), Speed::Throwaway).await;
    assert!(matches!(refused, Err(ServerError::NotOurs { .. })), "{refused:?}");
    let refused = PrivateRedis::start(place.path()).await;
    assert!(matches!(refused, Err(ServerError::NotOurs { .. })), "{refused:?}");
    assert_eq!(fs::read_to_string(precious).unwrap(), "words");
}

#[tokio::test]
async fn redis_comes_back_empty_on_the_same_port() {
    let mut server = PrivateRedis::start_temporary().await.unwrap();
    let (pid, url) = (server.pid().unwrap(), server.url());
    assert!(redis(server.port(), "SET k v\r\nGET k").contains("$1\r\nv"));

    server.restart_empty().await.unwrap();
    assert_eq!(server.url(), url);
    assert!(!exists(pid));
    assert!(redis(server.port(), "GET k").starts_with("$-1"));

    let pid = server.pid().unwrap();
    server.kill().await;
    assert_eq!(server.pid(), None);
    assert!(!exists(pid), "neither running nor a zombie");
    server.restart_empty().await.unwrap();
    assert!(redis(server.port(), "PING").starts_with("+PONG"));

    let (pid, log) = (server.pid().unwrap(), server.log_path());
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).unwrap();
    assert!(server.ended().await.unwrap().contains("signal: 9"));
    assert_eq!(server.pid(), None);
    drop(server);
    assert!(!log.exists(), "a temporary folder is deleted");
}

/// A test's runtime ends with the test; a server that outlives it (one shared
/// by many tests) must not be taken along by the parent death signal.
#[test]
fn a_server_outlives_the_runtime_and_thread_that_started_it() {
    let server = thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(PrivateRedis::start_temporary()).unwrap()
    })
    .join()
    .unwrap();
    for _ in 0..3 {
        assert!(redis(server.port(), "PING").starts_with("+PONG"));
    }
}

#[test]
fn servers_end_with_a_killed_process() {
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (mut process, pids) = helper("helper_runs_both", place.path());
    process.kill().unwrap();
    process.wait().unwrap();
    for pid in pids {
        wait_until_gone(pid);
    }
}

/// Starts both servers in `HELPER_FOLDER`, prints their process ids, hangs.
#[tokio::test]
#[ignore = "the other process of `servers_end_with_a_killed_process`"]
async fn helper_runs_both() {
    let folder = PathBuf::from(std::env::var_os("HELPER_FOLDER").unwrap());
    let postgres = PrivatePostgres::start(&folder.join("postgres"), Speed::Throwaway).await.unwrap();
    let redis = PrivateRedis::start(&folder.join("redis")).await.unwrap();
    let line = format!("pids {} {}\n", postgres.pid().unwrap(), redis.pid().unwrap());
    std::io::stdout().write_all(line.as_bytes()).unwrap();
    std::future::pending::<()>().await;
}

/// A Redis that nobody keeps, as a killed run would leave it.
struct Orphan(Child);

impl Orphan {
    fn start(folder: &Path) -> Self {
        let mut command = Command::new("redis-server");
        command.arg(folder.join("redis.conf")).stdout(Stdio::null()).stderr(Stdio::null());
        let orphan = Self(command.spawn().unwrap());
        while !folder.join("redis.pid").exists() {
            thread::yield_now();
        }
        orphan
    }

    fn ending(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().unwrap()
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where the kernel does not end the servers with us, the next start does.
#[tokio::test]
async fn an_orphan_is_stopped_by_the_next_start_in_its_folder_only() {
    let place = tempfile::tempdir().unwrap();
    let (ours, other) = (place.path().join("ours"), place.path().join("other"));
    drop(PrivateRedis::start(&ours).await.unwrap());
    drop(PrivateRedis::start(&other).await.unwrap());
    let (mut orphan, mut stranger) = (Orphan::start(&ours), Orphan::start(&other));

    let server = PrivateRedis::start(&ours).await.unwrap();
    assert!(redis(server.port(), "PING").starts_with("+PONG"));
    let end = orphan.ending().expect("the orphan is stopped");
    assert!(end.success(), "stopped in good order");
    drop(server);

    // A pid file whose number belongs to another process by now.
    fs::write(ours.join("redis.pid"), stranger.0.id().to_string()).unwrap();
    drop(PrivateRedis::start(&ours).await.unwrap());
    assert_eq!(stranger.ending(), None, "not ours to stop");
}

/// Under root, PostgreSQL runs as another account, which cannot reach a
/// checkout below root's home.
#[tokio::test]
async fn data_moves_where_the_servers_account_can_reach_it() {
    if !geteuid().is_root() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let folder = place.path().join("postgres");
    let server = PrivatePostgres::start(&folder, Speed::Throwaway).await.unwrap();
    let home = server.home().to_path_buf();
    assert!(home.starts_with("/var/tmp"), "{}", home.display());
    sql(&server, "CREATE TABLE t AS SELECT 7 AS n");
    let pid = server.pid().unwrap();
    let account = User::from_name("postgres").unwrap().unwrap();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let uid = format!("Uid:\t{}", account.uid);
    assert!(status.contains(&uid), "{status}");
    assert!(status.contains("Groups:\t \n"), "no group of root's: {status}");
    drop(server);

    // Remembered even when the folder can be reached meanwhile.
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let again = PrivatePostgres::start(&folder, Speed::Throwaway).await.unwrap();
    assert_eq!(again.home(), home);
    assert_eq!(sql(&again, "SELECT n FROM t"), "7");
    drop(again);
    fs::remove_dir_all(home).unwrap();
}
