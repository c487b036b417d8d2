//! A gateway on a port of its own, its callers, and workers in Python.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use galley_api::views::IssuedToken;
use galley_api::{NewWorkerToken, Signer, TokenRules};
use galley_core::ids::AgentType;
use galley_engine::store::Role;
use galley_gateway::{GatewayConfig, GatewayLimits, GatewayState, serve};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::api::{Answer, SECRET};
use super::bed::Bed;

/// A served gateway; it ends when this is dropped.
pub(crate) struct Gateway {
    pub(crate) address: String,
    signer: Signer,
    home: galley_core::ids::WorkspaceId,
    client: reqwest::Client,
    _stop: DropGuard,
}

impl Gateway {
    /// One in the engine's role, as in a process of its own.
    pub(crate) async fn of(bed: &Bed) -> Self {
        Self::with(bed, GatewayLimits::default()).await
    }

    pub(crate) async fn with(bed: &Bed, limits: GatewayLimits) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let secret = SecretString::from(SECRET);
        let config = GatewayConfig { limits, ..GatewayConfig::new(secret.clone()) };
        let state = GatewayState::new(bed.engine_as(Role::Engine), &config);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        tokio::spawn(serve(listener, state, stop.clone()));
        let signer = Signer::new(&secret, TokenRules::default()).unwrap();
        let (home, client) = (bed.workspace, reqwest::Client::new());
        Self { address, signer, home, client, _stop: stop.drop_guard() }
    }

    /// A worker's token for these agents.
    pub(crate) fn token(&self, subject: &str, agents: &[&str]) -> String {
        self.issue(subject, agents).token
    }

    /// The same, with its id.
    pub(crate) fn issue(&self, subject: &str, agents: &[&str]) -> IssuedToken {
        let agents = agents.iter().map(|agent| AgentType::new(agent).unwrap()).collect();
        let ttl = Duration::from_secs(3_600);
        let new = NewWorkerToken { workspace: self.home, subject: subject.into(), agents, ttl };
        self.signer.issue_for_worker(&new).unwrap()
    }

    /// A call, with or without a token.
    pub(crate) async fn ask(&self, path: &str, token: Option<&str>, body: &Value) -> Answer {
        let mut request = self.client.post(format!("{}/v1/{path}", self.address)).json(body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Answer { status, text, body }
    }

    /// A call that has to succeed.
    pub(crate) async fn call(&self, path: &str, token: &str, body: &Value) -> Value {
        let answer = self.ask(path, Some(token), body).await;
        assert!((200..300).contains(&answer.status), "{path}: {} {}", answer.status, answer.text);
        answer.body
    }

    /// Opens a session that serves one agent; its text.
    pub(crate) async fn connect(&self, token: &str, agent: &str, concurrency: u32) -> String {
        let offer = json!({ "agent": agent, "retry": { "backoffMs": 10, "maxBackoffMs": 20 } });
        let body = json!({ "worker": "by hand", "agents": [offer], "concurrency": concurrency });
        self.call("connect", token, &body).await["session"].as_str().unwrap().to_owned()
    }

    /// Leases one step.
    pub(crate) async fn lease_one(&self, token: &str, session: &str) -> Value {
        let leased = self.call("lease", token, &json!({ "session": session, "max": 1 })).await;
        assert_eq!(leased["steps"].as_array().unwrap().len(), 1, "{leased}");
        leased["steps"][0].clone()
    }
}

/// A worker in Python, with the system's python3; killed when dropped.
pub(crate) struct Python {
    child: Child,
}

impl Python {
    /// The example, as it is.
    pub(crate) fn example(gateway: &Gateway, token: &str) -> Self {
        Self::start(gateway, token, &[examples().join("worker.py").to_str().unwrap()])
    }

    /// A worker on what the example has, with an agent `slow`: it says in the
    /// folder that it began, and goes on when there is a file `go`.
    pub(crate) fn slow(gateway: &Gateway, token: &str, folder: &Path) -> Self {
        let examples = examples();
        let (examples, folder) = (examples.to_str().unwrap(), folder.to_str().unwrap());
        Self::start(gateway, token, &["-c", SLOW, examples, folder])
    }

    /// A worker on what the example has, with an agent `payer`: one call that
    /// may cost 600 millionths and costs 250.
    pub(crate) fn payer(gateway: &Gateway, token: &str) -> Self {
        Self::start(gateway, token, &["-c", PAYER, examples().to_str().unwrap()])
    }

    fn start(gateway: &Gateway, token: &str, arguments: &[&str]) -> Self {
        let child = Command::new("python3")
            .arg("-B")
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("GALLEY_GATEWAY_URL", &gateway.address)
            .env("GALLEY_WORKER_TOKEN", token)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("python3 is installed (`bin/install-servers`)");
        Self { child }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid().cast_signed()), signal).unwrap();
    }

    /// Waits for its end; whether it ended by itself, with status 0.
    pub(crate) async fn ended(&mut self) -> bool {
        self.child.wait().await.unwrap().success()
    }
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").canonicalize().unwrap()
}

const PAYER: &str = r#"
import sys
sys.path.insert(0, sys.argv[1])
import worker

def payer(step, cancelled):
    return worker.pay(step, 0, "bank", "m", 600, lambda: ({"attempt": step["attempt"]}, 250))

worker.serve("payer", [{"agent": "payer"}], {"payer": payer})
"#;

const SLOW: &str = r#"
import os, sys, time
sys.path.insert(0, sys.argv[1])
import worker

def note(what):
    open(os.path.join(sys.argv[2], "%s-%d" % (what, os.getpid())), "w").close()

def slow(step, cancelled):
    note("began")
    while not os.path.exists(os.path.join(sys.argv[2], "go")):
        if cancelled():
            note("cancelled")
            raise RuntimeError("told to stop")
        time.sleep(0.02)
    return {"by": os.getpid(), "attempt": step["attempt"], "key": step["effectKey"]}

worker.serve("slow", [{"agent": "slow"}], {"slow": slow})
"#;
