//! What really ran: one line per execution, written by the benched agent to a
//! file of its process, outside Postgres and its unique keys.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::Mutex;

use anyhow::Context as _;
use galley_core::ids::WorkflowId;
use uuid::Uuid;

/// What a line tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// The agent ran the step.
    Ran = 1,
    /// The engine said that the attempt's result is recorded.
    Recorded = 2,
}

/// Bytes per line: entry, workflow id, step.
const LINE: usize = 1 + 16 + 2;

/// An open ledger of one process.
#[derive(Debug)]
pub(crate) struct Ledger {
    file: Mutex<File>,
}

impl Ledger {
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        Ok(Self { file: Mutex::new(file.with_context(|| format!("cannot open ledger {}", path.display()))?) })
    }

    /// Writes lines at once: a killed process loses none of them.
    pub(crate) fn write(&self, lines: impl Iterator<Item = (Entry, WorkflowId, u16)>) {
        let mut bytes = Vec::with_capacity(LINE);
        for (entry, workflow, step) in lines {
            bytes.push(entry as u8);
            bytes.extend_from_slice(workflow.0.as_bytes());
            bytes.extend_from_slice(&step.to_le_bytes());
        }
        let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Err(error) = file.write_all(&bytes) {
            tracing::error!(%error, "cannot write the ledger; the bench will report lost steps");
        }
    }
}

/// All ledgers of a run together.
#[derive(Debug, Default)]
pub(crate) struct Ran {
    /// Per step: how often it ran, how often a result was recorded.
    pub(crate) steps: HashMap<(WorkflowId, u16), (u32, u32)>,
}

impl Ran {
    /// Reads every ledger in a folder.
    pub(crate) fn read(folder: &Path) -> anyhow::Result<Self> {
        let mut ran = Self::default();
        for file in std::fs::read_dir(folder)? {
            let bytes = std::fs::read(file?.path())?;
            // A killed process may leave half a line at the end.
            for line in bytes.chunks_exact(LINE) {
                let workflow = WorkflowId(Uuid::from_slice(&line[1..17])?);
                let step = u16::from_le_bytes([line[17], line[18]]);
                let (runs, recorded) = ran.steps.entry((workflow, step)).or_default();
                match line[0] {
                    1 => *runs += 1,
                    _ => *recorded += 1,
                }
            }
        }
        Ok(ran)
    }
}
