//! Our webhooks, received by the published Python package of Standard
//! Webhooks: it verifies the signatures, and an id is the same when a lost
//! reply makes us send again.
//!
//! It needs `python3` with `venv` and a package index that `pip` can reach
//! (`bin/test` installs the former). `GALLEY_SKIP_PYTHON=1` does without.
#![allow(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use galley_core::publish::{PostContent, Receipt, Sent};
use galley_publishers::{Account, Options, Outgoing, Publisher, Webhook};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// The package, in the version it was tried with.
const PACKAGE: &str = "standardwebhooks==1.1.0";

/// Longest wait for Python: an index may be slow.
const PATIENCE: Duration = Duration::from_secs(180);

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const ANOTHER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

#[tokio::test]
async fn the_published_receiver_verifies_and_knows_a_repetition() {
    if std::env::var("GALLEY_SKIP_PYTHON").is_ok_and(|skip| skip == "1") {
        eprintln!("left out: GALLEY_SKIP_PYTHON=1");
        return;
    }
    let mut receiver = Receiver::start(&environment().await).await;
    let options = Options { allow_private_targets: true, ..Options::default() };
    let publisher = Webhook::new(options).unwrap();
    let account = |secret: &str| Account {
        name: "site".into(),
        settings: json!({ "url": receiver.url }),
        credential: secret.into(),
    };
    let out = Outgoing {
        key: "0f1e2d3c4b5a69788796a5b4c3d2e1f0".into(),
        payload: PostContent {
            text: "Ümläute, \"quotes\"\nand 🚢".into(),
            link: Some("https://example.com/?a=b&c".into()),
        },
        intended_at: "2026-11-24T12:00:00Z".into(),
        post: "019ab3c4-0000-7000-8000-000000000001".into(),
        workspace: "019ab3c4-0000-7000-8000-000000000002".into(),
    };
    let (right, wrong) = (account(SECRET), account(ANOTHER));

    // The receiver does verify: it turns away what is signed with another secret.
    let sent = publisher.publish(&wrong, &out).await;
    assert!(matches!(sent, Sent::Refused(_)), "{sent:?}");
    assert_eq!(receiver.told().await["verified"], false);

    let lost = publisher.publish(&right, &out).await;
    assert!(matches!(lost, Sent::Unknown(_)), "{lost:?}");
    let first = receiver.told().await;
    let sent = publisher.publish(&right, &out).await;
    let second = receiver.told().await;

    let id = format!("msg_{}", out.key);
    assert_eq!(
        sent,
        Sent::Published(Receipt { remote_id: format!("received-{id}"), link: None, cost_micros: None })
    );
    assert_eq!(first["verified"], true);
    assert_eq!(first["id"], id);
    assert_eq!(first, second, "the same id and the same bytes: the receiver can drop the second");
    assert_eq!(
        first["message"],
        json!({
            "type": "post.publish",
            "timestamp": out.intended_at,
            "data": {
                "id": out.post, "account": "site", "text": out.payload.text, "link": out.payload.link,
            },
        })
    );
}

/// A Python with the package, in a folder of the build. Kept for the next time.
async fn environment() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("standard-webhooks-python");
    // Two runs of this test must not fill it at once.
    let lock = File::create(folder.with_extension("lock")).unwrap();
    let _lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await.unwrap().unwrap();
    let python = folder.join("bin/python3");
    let installed = folder.join(PACKAGE);
    // Run, not looked for: its Python may have been removed since.
    if installed.exists() && run(&python, &["-c", "import standardwebhooks"]).await.is_ok() {
        return python;
    }
    let text = folder.to_str().unwrap();
    let made = run(Path::new("python3"), &["-m", "venv", "--clear", text]).await;
    made.unwrap_or_else(|why| panic!("python3 cannot make an environment: {}", hint(&why)));
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", PACKAGE];
    let filled = run(&python, &pip).await;
    filled.unwrap_or_else(|why| panic!("pip cannot install {PACKAGE}: {}", hint(&why)));
    File::create(installed).unwrap();
    python
}

fn hint(why: &str) -> String {
    format!(
        "{why}\nbin/install-servers python installs Python; the package index is the one pip is configured \
         for; GALLEY_SKIP_PYTHON=1 leaves this test out."
    )
}

async fn run(program: &Path, arguments: &[&str]) -> Result<(), String> {
    let ran = Command::new(program).args(arguments).stdin(Stdio::null()).kill_on_drop(true).output();
    let done = match tokio::time::timeout(PATIENCE, ran).await {
        Ok(done) => done.map_err(|error| format!("{}: {error}", program.display()))?,
        Err(_) => return Err(format!("not done within {PATIENCE:?}")),
    };
    if done.status.success() {
        return Ok(());
    }
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    Err(format!("{}\n{out}{err}", done.status))
}

/// The receiver's process. It ends with its value.
struct Receiver {
    url: String,
    lines: Lines<BufReader<ChildStdout>>,
    _process: Child,
}

impl Receiver {
    async fn start(python: &Path) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/receiver.py");
        let mut process = Command::new(python)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stdin = process.stdin.take().unwrap();
        stdin.write_all(format!("{SECRET}\n").as_bytes()).await.unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let port = line(&mut lines).await;
        Self { url: format!("http://127.0.0.1:{port}/posts"), lines, _process: process }
    }

    /// What it says of the next request.
    async fn told(&mut self) -> Value {
        serde_json::from_str(&line(&mut self.lines).await).unwrap()
    }
}

async fn line(lines: &mut Lines<BufReader<ChildStdout>>) -> String {
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await;
    line.expect("the receiver says nothing").unwrap().expect("the receiver ended, its message is above")
}
