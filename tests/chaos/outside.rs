//! The worker in Python that takes part in the fleet: how it is started, and
//! the token it has to have. Between it and the gateways are proxies, as there
//! are before everybody's stores: what breaks networks breaks its, too.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use galley_api::{NewWorkerToken, Signer, TokenRules};
use galley_core::ids::{AgentType, WorkspaceId};
use nix::sys::signal::Signal;
use rand::RngExt as _;
use rand::rngs::StdRng;
use tokio::process::Command;

use crate::fleet::{Member, Role};
use crate::nemesis::Nemesis;
use crate::proxy::Weather;

/// Does a little, in Python, and pays for some of it.
pub const SCHOLAR: &str = "scholar";

/// Where its token is, once there is a workspace to keep it in.
fn token_file(folder: &Path) -> PathBuf {
    folder.join("worker-token")
}

/// Issues its token.
///
/// # Errors
/// The folder is gone.
pub fn issue(folder: &Path, jwt_secret: &str, workspace: WorkspaceId) -> Result<()> {
    let agents = vec![AgentType::new(SCHOLAR)?];
    let ttl = Duration::from_secs(86_400);
    let new = NewWorkerToken { workspace, subject: "outside".into(), agents, ttl };
    let issued = Signer::new(&jwt_secret.to_owned().into(), TokenRules::default())?.issue_for_worker(&new)?;
    let (file, new) = (token_file(folder), folder.join("worker-token.new"));
    std::fs::write(&new, issued.token)?;
    Ok(std::fs::rename(new, file)?)
}

/// What starts it, to speak with the gateways behind these ports.
pub fn command(folder: &Path, executions: &Path, ports: [u16; 2]) -> Command {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new("python3");
    command
        .arg("-B")
        .arg(here.join("outside.py"))
        .arg(here.join("../../examples"))
        .arg(token_file(folder))
        .args(ports.map(|port| format!("http://127.0.0.1:{port}")))
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env(crate::agents::EXECUTIONS, executions)
        .current_dir(folder)
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true);
    command
}

/// Something happens to its network, or it is stopped for longer than its
/// session may be silent.
pub(crate) async fn disturb(nemesis: &Nemesis, member: &Member, seed: u64, random: &mut StdRng) {
    let proxies = [&member.database, &member.queue];
    let time = Duration::from_millis(random.random_range(1_000..4_000));
    match seed % 4 {
        0 => {
            nemesis.world.fault("outside cut");
            proxies.iter().for_each(|proxy| proxy.cut());
        }
        1 => {
            nemesis.world.fault("outside stop");
            member.signal(Signal::SIGSTOP);
            tokio::time::sleep(time).await;
            member.signal(Signal::SIGCONT);
        }
        way => {
            nemesis.world.fault("outside silent");
            // What it says arrives and it hears nothing of it, or nothing arrives.
            let heard = way == 2;
            let silent = Weather { swallow_to_server: !heard, swallow_to_client: true, ..Weather::default() };
            proxies.iter().for_each(|proxy| proxy.weather(silent));
            tokio::time::sleep(time).await;
            proxies.iter().for_each(|proxy| proxy.weather(Weather::default()));
        }
    }
}

/// Kills it, or a gateway.
pub(crate) fn kill(nemesis: &Nemesis, role: Role, seed: u64) {
    if nemesis.one_of(role, seed).signal(Signal::SIGKILL) {
        nemesis.world.fault(&format!("kill {}", role.word()));
    }
}
