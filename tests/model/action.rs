//! What can happen, by name: counterexamples read as a list of these.
//!
//! An action never carries what it decides on: that is in the state.

use crate::state::Ticket;

/// How an attempt ended, as its worker knows it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    /// It worked (for a publish: the platform said so).
    Ok,
    /// Worth another attempt.
    Transient,
    /// The same input will fail again.
    Permanent,
    /// The publish definitely did not go out.
    NotSent,
    /// The publish may have gone out.
    Unknown,
}

/// How a COMMIT ended, as the committing worker sees it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Reply {
    /// Committed, and the worker knows.
    Ok,
    /// Committed, but the connection was lost before the reply.
    LostCommitted,
    /// Rolled back by the lost connection; the worker cannot tell it from the other.
    LostRolledBack,
}

/// A write of the background: reaper, timer, operator, resolver, a person.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Duty {
    /// The step's session is closed, or it is past its maximum run time.
    Reap(u8),
    /// An operator cancels the workflow.
    Cancel,
    /// The resolver looks at the platform and decides an unknown publish.
    Resolve(u8),
}

/// One atomic event. Numbers are workers (0, 1) and steps (0, 1, 2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs, reason = "the fields are workers, steps, tickets and what they are called")]
pub enum Action {
    /// A worker takes a ticket from Redis; Redis keeps it as in flight.
    Pop { worker: u8, ticket: Ticket },
    /// The worker loads the run to claim.
    LoadToClaim { worker: u8 },
    /// Compare-and-set: queued → running.
    Claim { worker: u8, reply: Reply },
    /// The loaded row says the ticket is not good: acknowledged and forgotten.
    Forget { worker: u8 },
    /// The loaded row says that the claim, whose reply was lost, is this worker's.
    RecogniseClaim { worker: u8 },
    /// The compare-and-set would touch 0 rows: load and decide again.
    Reload { worker: u8 },
    /// The attempt ends.
    Finish { worker: u8, outcome: Outcome },
    /// The worker loads the run to write its intent.
    LoadToArm { worker: u8 },
    /// TX1: compare-and-set intent false → true, and the publication row.
    Arm { worker: u8, reply: Reply },
    /// The request reaches the platform, which acts and answers.
    Post { worker: u8 },
    /// The platform refuses: nothing went out.
    PostRefused { worker: u8 },
    /// The worker gives up waiting for the answer; the request is on the wire.
    PostTimesOut { worker: u8 },
    /// `not_after` has passed on the worker's monotonic clock: it does not send.
    TooLate { worker: u8 },
    /// A request whose sender gave up takes effect after all.
    LateEffect { worker: u8 },
    /// A request whose sender gave up never arrives.
    RequestVanishes { worker: u8 },
    /// `not_after` plus the timeout pass.
    WindowPasses { worker: u8 },
    /// The worker loads the run to complete.
    LoadToComplete { worker: u8 },
    /// Compare-and-set: the outcome, the result row, the children.
    Complete { worker: u8, reply: Reply },
    /// The fence refuses and no result row is this claim's: dropped.
    DropStale { worker: u8 },
    /// The fence refuses, but the result row is this claim's own: success.
    RecogniseResult { worker: u8 },
    /// Ack the ticket and push the children.
    AfterCommit { worker: u8, push_lost: bool },
    /// The process dies, with all it knew.
    Crash { worker: u8 },
    /// A new process in its place, with a session of its own.
    Restart { worker: u8 },
    /// A renewal touched 0 rows: the worker drops everything and begins anew.
    NoticeLostSession { worker: u8 },
    /// The reaper closes a session. Of a live worker: it was stopped too long.
    CloseSession { session: u8 },
    /// The background loads the run.
    DeskLoad { duty: Duty },
    /// Compare-and-set of what it decides on what it loaded.
    DeskWrite { duty: Duty, push_lost: bool },
    /// The resolver can neither find the effect nor exclude it.
    DeskInDoubt { step: u8 },
    /// The compare-and-set touched 0 rows: the duty starts over.
    DeskReload,
    /// A scheduled step is due.
    Due { step: u8 },
    /// An operator replays a dead step.
    Replay { step: u8 },
    /// An operator discards a dead step.
    Discard { step: u8 },
    /// A person looked at the platform and says what happened.
    PersonResolves { step: u8 },
    /// The reconciler pushes a queued step that Redis does not know.
    Reconcile { step: u8 },
    /// A ticket in flight passes its deadline and is ready again.
    TicketReturns { ticket: Ticket },
    /// Redis is emptied.
    Flush,
    /// A ticket appears once more: a late push, or Redis with old data.
    Duplicate { ticket: Ticket },
    /// What a later restore will bring back.
    Backup,
    /// Postgres is restored, or fails over, to the backup.
    Restore,
    /// Only with [`crate::Shortcut::MarkBeforePush`]: the outbox calls it pushed.
    RelayMark { step: u8 },
    /// Only with [`crate::Shortcut::MarkBeforePush`]: the push.
    RelayPush,
    /// Only with [`crate::Shortcut::MarkBeforePush`]: the relay dies in between.
    RelayCrash,
}
