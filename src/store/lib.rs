//! Postgres: the only room with SQL. One file per aggregate, batch statements,
//! read models and the one migrator.
//!
//! This room never decides: it writes what `core` decided and answers what was
//! asked. Every write runs to its end in a task of its own (see
//! [`Store`]): a cancelled caller loses nothing.

mod accounts;
mod agents;
mod approvals;
mod audit;
mod automation;
mod backlog;
mod budgets;
mod checks;
mod content;
mod data_keys;
mod definitions;
mod error;
mod experience;
mod figures;
mod floor;
mod history;
mod identity;
mod ledger;
mod letters;
mod messages;
mod migrations;
mod paying;
mod planted;
mod pool;
mod posts;
mod prompts;
mod providers;
mod publishing;
mod reported;
mod reserving;
mod responses;
mod retention;
mod role;
mod runs;
mod schedules;
mod scope;
mod sessions;
mod settling;
mod slots;
mod tenancy;
mod timers;
mod waits;
mod workflows;
mod workspaces;

pub use accounts::{AccountRow, AccountWrite};
pub use agents::{AgentControl, AgentRow, ControlChange};
pub use approvals::{ApprovalFilter, ApprovalRow};
pub use audit::{AuditRow, AuditWrite, ChainEnd, Hashes, carried, on_behalf};
pub use automation::AutomationRow;
pub use budgets::{BudgetRow, CounterRow, MoneyWaitRow};
pub use checks::CheckRow;
pub use content::Content;
pub use data_keys::{CredentialRow, DataKeyRow, SealedRow};
pub use definitions::TemplateRow;
pub use error::{Overtaken, StoreError};
pub use experience::{DeliberationRow, KnownModel, Lesson};
pub use figures::{FinishedRow, PostCounts, Stretch};
pub use floor::Floor;
pub use history::{AttemptRow, ResultRow};
pub use identity::{KeyHash, KeyRow, KeyWrite, MOST_REVOKED, Revocations, Revoke};
pub use ledger::{
    Booked, CallKey, OpenCall, ReserveWrite, Reserved, SettleWrite, Settled, SpendBy, SpendRow,
};
pub use letters::{LetterClose, LetterFilter, LetterGroup, LetterOpen, LetterRow};
pub use messages::{ContextRow, ContextWrite, EndRow, MessageRow, MessageWrite, PatternRow};
pub use pool::{PATIENCE, Store};
pub use posts::{PostFilter, PostRow, PostWrite, PublicationEventRow, PublicationRow, RevisionRow};
pub use prompts::{PromptRow, PromptWrite};
pub use providers::{KeyedProvider, ProviderRow, ProviderWrite};
pub use publishing::{DayRule, IntentWrite, PostOp, QuotaTake};
pub use reported::{OnLedger, ReportedWrite};
pub use responses::{KeptRow, Response, Savings};
pub use retention::Forgotten;
pub use role::Role;
pub use runs::{
    AttemptKey, AttemptWrite, InputWrite, MoneyWait, ResultWrite, RunRow, RunWrite, SaveBatch, TimerWrite,
};
pub use schedules::{DueSchedule, ScheduleChange, ScheduleRow, ScheduleTurn, ScheduleWrite};
pub use sessions::{HandedRow, SessionOpen, SessionRow};
pub use slots::BookedRows;
pub use tenancy::Erasure;
pub use timers::TimerRow;
pub use waits::WaitRow;
pub use workflows::{AcceptWrite, Accepted, WorkflowRow};
pub use workspaces::WorkspaceRow;
