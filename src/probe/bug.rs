//! The known short cuts, each as a bug that a test build can have.

crate::names::names! {
    /// A planted bug: what it leaves out, and what follows. A fault run that
    /// does not notice one of them proves nothing.
    pub enum Bug {
        /// The fence asks only whether the step runs, for neither epoch nor
        /// nonce: a superseded attempt completes, and its result stands.
        DropEpoch = "drop_epoch",
        /// The fence does not compare the nonce: after a restore of the
        /// database an epoch comes back, and its old holder completes.
        DropNonce = "drop_nonce",
        /// The fence asks for nothing but the step's id: an attempt completes
        /// what was taken from it and waits, or is over.
        IdOnlyGuard = "id_only_guard",
        /// A reaped step's epoch starts again at 0: its old tickets and
        /// attempts match once more.
        EpochReset = "epoch_reset",
        /// The compare-and-set does not compare the version: of two branches
        /// that finish at once, one is lost.
        DropVersion = "drop_version",
        /// A step counts as pushed once it is committed, and nobody pushes it
        /// again: neither reconciler nor rebuild.
        MarkBeforePush = "mark_before_push",
        /// There is no reconciler: a push that failed stays undone.
        NoReconciler = "no_reconciler",
        /// A client is told "accepted" before the commit.
        AckBeforeCommit = "ack_before_commit",
        /// A COMMIT without a reply counts as failed: what was mine is taken
        /// for somebody else's, and a post whose outcome could not be recorded
        /// is sent again.
        UnknownCommitFailed = "unknown_commit_failed",
        /// A refused report counts as recorded: the worker hands the output of
        /// an overtaken attempt to the next steps, and its bill is lost.
        StaleIsMine = "stale_is_mine",
        /// Audit lines are written after the commit, in a transaction of their
        /// own: a crash in between loses them.
        AuditOutside = "audit_outside",
        /// The sealer's mark goes by the numbers of rows, which are drawn before
        /// the rows commit: one that commits late is never sealed.
        SealSkips = "seal_skips",
        /// Reads of posts do not ask for their workspace: only row-level
        /// security keeps one tenant from another's. A run stays clean: it
        /// shows that the second wall stands alone.
        NoWhere = "no_where",
        /// The same, and the policies of those tables let everybody through
        /// (the harness opens them): one tenant reads another's posts.
        OpenPolicy = "open_policy",
        /// A cancel does not care about an open intent: it ends a step whose
        /// post is going out.
        CancelIgnoresIntent = "cancel_ignores_intent",
        /// The daily limit is a `count(*)` before the insert: two intents at
        /// once both find the last place free.
        LimitByCount = "limit_by_count",
        /// The daily limit is counted in each process' memory.
        LimitInMemory = "limit_in_memory",
        /// The day is UTC's, not the workspace's.
        UtcDay = "utc_day",
        /// A post of unknown outcome gives its place in the day back.
        SlotFreedOnUnknown = "slot_freed_on_unknown",
        /// A post of unknown outcome is sent again, whatever the platform can
        /// tell.
        BlindRepeat = "blind_repeat",
        /// The intent is written after the call, not before.
        IntentAfterSend = "intent_after_send",
        /// An unknown post is looked for at once: what is still on its way
        /// counts as absent and is sent twice.
        ResolverTooEarly = "resolver_too_early",
        /// A call that got no answer counts as not sent.
        TimeoutIsNotSent = "timeout_is_not_sent",
        /// Nobody looks at the time between the intent and the call: a worker
        /// that was stopped sends when others have looked already.
        LateSend = "late_send",
        /// An approval is bound to the post, not to its bytes: an edit after
        /// it goes out unseen.
        ApprovalNotBound = "approval_not_bound",
        /// Time does not end a question: a late yes counts.
        ExpiredApprovalCounts = "expired_approval_counts",
        /// What there is room for is read without a lock: of two calls at once
        /// both find the last cent.
        ReserveUnlocked = "reserve_unlocked",
        /// A bill is not booked: its reservation stays.
        SettleForgotten = "settle_forgotten",
        /// The reservation of a lost call is dropped: what it cost is on no
        /// ledger.
        LostCallDropped = "lost_call_dropped",
        /// A post of unknown outcome gives its money back.
        PostUnpaid = "post_unpaid",
        /// An event stream goes on behind the next number, as if numbers were
        /// rows: what changed right behind the last one told is never told.
        EventsById = "events_by_id",
    }
}
