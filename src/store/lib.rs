//! Postgres: the only room with SQL. One file per aggregate, batch statements,
//! read models and the one migrator.
//!
//! This room never decides: it writes what `core` decided and answers what was
//! asked. Every write runs to its end in a task of its own (see
//! [`Store`]): a cancelled caller loses nothing.

mod agents;
mod definitions;
mod error;
mod floor;
mod history;
mod letters;
mod migrations;
mod pool;
mod runs;
mod sessions;
mod timers;
mod workflows;
mod workspaces;

pub use agents::{AgentControl, AgentRow, ControlChange};
pub use definitions::TemplateRow;
pub use error::StoreError;
pub use floor::Floor;
pub use history::{AttemptRow, AuditRow, ResultRow};
pub use letters::{LetterClose, LetterFilter, LetterGroup, LetterOpen, LetterRow};
pub use pool::Store;
pub use runs::{
    AttemptKey, AttemptWrite, AuditWrite, InputWrite, ResultWrite, RunRow, RunWrite, SaveBatch, TimerWrite,
};
pub use sessions::{SessionOpen, SessionRow};
pub use timers::TimerRow;
pub use workflows::{AcceptWrite, Accepted, WorkflowRow};
pub use workspaces::WorkspaceRow;
