//! The shell around `core`: accept, claim, complete, reap, reconcile, operate.
//!
//! One function moves state ([`transition`](self)): take a batch of (workflow,
//! event), load, decide, save, commit, and only then push. No transaction is
//! held open across a call to Redis, a provider or a platform. This room knows
//! nothing of HTTP and runs no agent.

mod accept;
mod accounts;
mod answer;
mod audit;
mod backoff;
mod batches;
mod budgets;
mod cache;
mod claim;
mod complete;
mod conclude;
mod coordinate;
mod due;
mod duties;
mod engine;
mod error;
mod facts;
mod figures;
mod fleet;
mod forget;
mod forward;
mod gauges;
mod go;
mod messages;
mod operate;
mod outside;
mod paid;
mod planted;
mod platforms;
mod policy;
mod posts;
mod providers;
mod publish;
mod read;
mod reap;
mod reconcile;
mod recurring;
mod schedules;
mod session;
mod slotting;
mod sweep;
mod targets;
mod templates;
mod transition;
mod vault;
mod why;

pub use accept::{MAX_IDEMPOTENCY_KEY_BYTES, Ready, Submit, SubmitContext, Submitted, check_idempotency_key};
pub use accounts::NewAccount;
pub use answer::expire_questions;
pub use audit::{CheckpointError, CheckpointKey, check_signature, seal_audit};
pub use backoff::Backoff;
pub use budgets::{BudgetView, Funding, NewCall, charge_lost, fund_waiting};
pub use claim::Claimed;
pub use complete::{Outcome, Recorded, Report};
pub use coordinate::forget_responses;
pub use due::queue_due_steps;
pub use duties::run_duties;
pub use engine::{Engine, EngineConfig, PublishingTimes};
pub use error::EngineError;
pub use forget::forget_finished;
pub use galley_queue as queue;
pub use galley_reach::Targets;
pub use galley_store as store;
pub use messages::time_out_requests;
pub use operate::{LARGEST_LETTER_BATCH, Repair, Repaired};
pub use outside::{Heard, Lease, Leased, Room};
pub use platforms::Platforms;
pub use policy::Policy;
pub use posts::{Changed, PostView, Resolution};
pub use providers::{NewProvider, OwnProvider, PROVIDERS};
pub use publish::{Begin, Sending};
pub use read::{WorkflowFilter, WorkflowHistory, WorkflowView};
pub use reap::{Reaped, Reaper};
pub use reconcile::{Reconciled, Reconciler, rebuild};
pub use recurring::submit_due_schedules;
pub use schedules::{NewSchedule, ScheduleView, SetSchedule};
pub use session::Session;
pub use sweep::forget_lost;
pub use templates::TemplateView;
pub use vault::{Keyring, KeyringError, Opener, Rotated, rotate_secrets, seal_workspace};
pub use why::{QueueView, Why};
