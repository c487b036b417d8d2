//! The shortcuts people take. Each breaks a promise; `tests/searches`
//! demands the counterexample.

use crate::named::shortcuts;

shortcuts! {
    /// A completion checks `state = 'running'` and nothing else.
    CompleteOnState,
    /// A completion checks the id and nothing else.
    CompleteOnId,
    /// Reaping starts the epoch over.
    ResetEpochOnReap,
    /// The fence compares the epoch, not the nonce.
    DropNonce,
    /// A completion writes the row without comparing its version.
    NoVersionCompare,
    /// A copy of the run read before a failover is written after it.
    LoadOutlivesRestore,
    /// No reconciler.
    NoReconciler,
    /// An outbox marks a step as pushed, then pushes it; no reconciler.
    MarkBeforePush,
    /// The ticket is acknowledged when the attempt ends, not after the commit.
    AckBeforeCommit,
    /// A lost reply of COMMIT is reported as a failed attempt.
    UnknownCommitIsFailure,
    /// POST without an intent row.
    PostWithoutIntent,
    /// The effect key differs from attempt to attempt.
    KeyPerAttempt,
    /// The reaper queues a step whose intent is open.
    ReaperIgnoresIntent,
    /// Cancel ends a step whose intent is open.
    CancelIgnoresIntent,
    /// The resolver queues what was not sent, whatever its attempts and crashes.
    ResolverForgetsLimits,
    /// The resolver does not wait for `not_after` and the timeout.
    ResolveEarly,
}
