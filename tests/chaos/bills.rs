//! What agents of the harness pay for: a provider whose ledger is a file that
//! nobody kills. A call is charged in the moment it is written there, whether
//! or not anybody lives to hear of it.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use galley_agents::{PaidCall, StepContext};
use galley_core::ids::WorkspaceId;
use galley_core::money::Tokens;
use galley_core::report::StepError;

use crate::agents::EXECUTIONS;
use crate::history::Bill;

/// The most a call costs, millionths of a US dollar.
pub const BOUND: u64 = 900;

/// One of so many answers is lost.
const LOST: u32 = 8;

/// The ledger beside a file of executions.
pub fn ledger(executions: &Path) -> PathBuf {
    executions.with_file_name("bills.jsonl")
}

/// The ledger where executions are not kept: a workspace's own.
pub fn ledger_of(workspace: WorkspaceId) -> PathBuf {
    std::env::temp_dir().join(format!("galley-bills-{workspace}.jsonl"))
}

/// What is on the ledger.
pub fn read(ledger: &Path) -> Vec<Bill> {
    let text = std::fs::read_to_string(ledger).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Pays for one call, as an agent does: its bound is reserved, it is made, and
/// what it came to is settled. Some answers are lost.
///
/// # Errors
/// There is no money, the step was taken from this attempt, or the answer was
/// lost.
pub async fn pay(step: &StepContext, call: u16) -> Result<(), StepError> {
    let paid = PaidCall { call, provider: "bank".into(), model: "m".into(), bound_micros: BOUND };
    step.desk.reserve(paid).await?;
    pause().await;
    let micros = rand::random_range(0..=BOUND);
    charge(step, micros);
    pause().await;
    if rand::random_ratio(1, LOST) {
        step.desk.settle(call, None, Tokens::default()).await;
        return Err(StepError::transient("lost_answer", "the provider's answer was lost"));
    }
    step.desk.settle(call, Some(micros), Tokens::default()).await;
    Ok(())
}

/// On the way to the provider, and back.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(rand::random_range(0..120))).await;
}

fn charge(step: &StepContext, micros: u64) {
    let kept = std::env::var_os(EXECUTIONS);
    let path = kept.map_or_else(|| ledger_of(step.workspace), |path| ledger(Path::new(&path)));
    let bill =
        Bill { workspace: step.workspace, workflow: step.workflow, step: step.step_name.clone(), micros };
    let Ok(bill) = serde_json::to_vec(&bill) else { return };
    let line = [b"\n", bill.as_slice(), b"\n"].concat();
    if let Ok(mut file) = OpenOptions::new().create(true).append(true).open(path) {
        // One write: a kill does not cut it.
        let _ = file.write_all(&line);
    }
}
