//! The dispatch protocol as a model, searched exhaustively; and, in
//! [`publishing`] and [`money`], the publish path and the budgets as others.
//!
//! Why this room exists: the promise "nothing lost, nothing twice" rests on how
//! a handful of small writes interleave with crashes. No amount of running the
//! real thing visits every interleaving; this model does, within its bounds.
//! **Change the protocol here first**: see the model hold, see the shortcuts
//! fail, then change `galley-core` and the shells.
//!
//! It must never depend on another package of the workspace: it states what the
//! code has to do, so it may not be derived from what the code does.
//!
//! # Protocol rule → where it is in the model
//!
//! | rule | here |
//! |---|---|
//! | the run is one row, written by compare-and-set on `version` | [`Action::Claim`], [`Action::Arm`], [`Action::Complete`], [`Action::DeskWrite`] write what a `Load…` before them read; [`Action::Reload`] when the row moved on |
//! | epoch +1 on queue, claim, reap, cancel; a nonce per claim | `decide.rs`, every function |
//! | a worker's write is fenced by (running, epoch, nonce) | `Protocol::fence`; [`Action::DropStale`] is the refusal |
//! | an unknown commit is repeated | [`Reply`] on every worker write; [`Action::RecogniseClaim`], [`Action::RecogniseResult`] |
//! | no row lock outlives its connection: load and write are one transaction | [`Action::Restore`] sends every loaded worker back before its load |
//! | Redis hints | [`Action::Flush`], [`Action::Duplicate`], [`Action::TicketReturns`], `push_lost`, [`Action::Reconcile`] |
//! | a ticket that does not match is forgotten | [`Action::Forget`] |
//! | sessions are closed by the reaper, steps of closed sessions are swept | [`Action::CloseSession`], [`Duty::Reap`] |
//! | a zombie: stopped, expired, woken | a worker that is not scheduled *is* stopped; [`Action::CloseSession`] may hit it and it goes on afterwards, until [`Action::NoticeLostSession`] |
//! | a step past its maximum run time is reaped though its session lives | [`Duty::Reap`] of a step nobody works on |
//! | ack and push the children after the commit | [`Action::AfterCommit`] |
//! | intent before POST, in the run | [`Action::Arm`], then [`Action::Post`] |
//! | `not_after`, and the resolver waits for it | [`Action::WindowPasses`], [`Action::TooLate`], [`Duty::Resolve`] |
//! | retry, dead letter, replay, discard, cancel | [`Outcome`], [`Duty`] |
//!
//! A shortcut through the protocol is a [`Shortcut`]; `tests/searches`
//! requires that each is caught, by which property and through which actions.

mod action;
mod check;
mod decide;
pub mod money;
mod named;
mod next;
mod possible;
mod property;
mod protocol;
pub mod publishing;
mod shortcut;
mod state;
mod theme;
mod witness;

pub use action::{Action, Duty, Outcome, Reply};
pub use check::{Counterexample, Explored, Searched, assert_every_path_ends, counterexample, explore};
pub use protocol::{Bounds, Effect, Protocol};
pub use shortcut::Shortcut;
pub use state::State;
pub use theme::THEMES;
pub use theme::theme;
pub use witness::Witness;
