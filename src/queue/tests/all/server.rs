//! A Redis of the test's own, in a folder of its own, gone when it is dropped.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use galley_queue::{RedisConfig, RedisQueue};
use tempfile::TempDir;

use crate::tickets::Queue;

/// See the module.
pub(crate) struct Server {
    folder: TempDir,
    process: Option<Child>,
}

impl Server {
    pub(crate) fn start() -> Self {
        let mut server = Self { folder: tempfile::tempdir().unwrap(), process: None };
        server.run();
        server
    }

    /// Starts the process on the same socket and folder, and waits until it
    /// says that it is ready.
    pub(crate) fn run(&mut self) {
        let mut process = Command::new("redis-server")
            // Scripts sort texts by the server's locale.
            .env("LC_ALL", "C")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--dir"])
            .arg(self.folder.path())
            .arg("--unixsocket")
            .arg(self.socket())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("redis-server can be started");
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let ready = lines.map_while(Result::ok).any(|line| line.contains("ready to accept connections"));
        self.process = Some(process);
        assert!(ready, "redis-server ended before it was ready");
    }

    /// Ends the process as a crash would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }

    pub(crate) fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    pub(crate) fn queue(&self) -> Queue {
        Arc::new(RedisQueue::new(RedisConfig::new(self.url())).unwrap())
    }

    /// One raw command, past the queue.
    pub(crate) async fn raw<T: redis::FromRedisValue>(&self, words: &[&[u8]]) -> T {
        let client = redis::Client::open(self.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut cmd = redis::cmd(std::str::from_utf8(words[0]).unwrap());
        for word in &words[1..] {
            cmd.arg(*word);
        }
        cmd.query_async(&mut connection).await.unwrap()
    }

    /// The same, for commands made of text.
    pub(crate) async fn say<T: redis::FromRedisValue>(&self, line: &str) -> T {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        self.raw(&words).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A queue on the Redis named by `GALLEY_TEST_REDIS_URL`, under a prefix of
/// its own, or else on a private one that lives as long as the first value.
pub(crate) fn some_redis() -> (Option<Server>, Queue) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    match std::env::var("GALLEY_TEST_REDIS_URL") {
        Ok(url) => {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let prefix = format!("galley-test-{}-{number}", uuid::Uuid::now_v7());
            (None, Arc::new(RedisQueue::new(RedisConfig::new(url).with_prefix(prefix)).unwrap()))
        }
        Err(_) => {
            let server = Server::start();
            let queue = server.queue();
            (Some(server), queue)
        }
    }
}
