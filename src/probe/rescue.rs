//! The paths that only a fault makes anybody walk.

crate::names::names! {
    /// A rescue: something had gone wrong, and was put right here. A fault run
    /// that never saw one of them has not tested it.
    pub enum Rescue {
        /// The report of an overtaken attempt was refused.
        StaleCompletion = "stale_completion",
        /// A ticket matched no queued step and was forgotten.
        StaleClaim = "stale_claim",
        /// A ticket was popped although its step runs: it stays in flight.
        ClaimedElsewhere = "claimed_elsewhere",
        /// A claim came after its ticket's place was somebody else's.
        LateClaim = "late_claim",
        /// A paused agent's tickets were popped, and given back.
        PausedTicket = "paused_ticket",
        /// A dead worker's step was returned.
        Reap = "reap",
        /// A step was taken from a live session because it ran too long.
        Overdue = "overdue",
        /// A worker that could not renew stopped its own work.
        SessionFenced = "session_fenced",
        /// Unfinished work was given back by a worker that ends.
        GivenBack = "given_back",
        /// A lease whose reply a worker outside never got went back.
        LeaseNeverArrived = "lease_never_arrived",
        /// The reconciler found a ticket missing.
        ReconcilePush = "reconcile_push",
        /// A stored workflow stood still and was started.
        ReconcileStart = "reconcile_start",
        /// A queue that had lost its memory was filled again.
        Rebuild = "rebuild",
        /// A popped ticket that nobody claimed came back.
        TicketExpired = "ticket_expired",
        /// A place in flight that nobody held was freed.
        PlaceFreed = "place_freed",
        /// A schedule's time was missed and passed.
        ScheduleMissed = "schedule_missed",
        /// Another scheduler, or a person, had moved a schedule on.
        ScheduleOvertaken = "schedule_overtaken",
        /// A lease of an unknown commit was found to be mine.
        ClaimWasMine = "claim_was_mine",
        /// A result of an unknown commit was found to be mine.
        ResultWasMine = "result_was_mine",
        /// An intent of an unknown commit was found to be mine.
        IntentWasMine = "intent_was_mine",
        /// A repeated submit found the first.
        AcceptFoundFirst = "accept_found_first",
        /// A run had moved on: loaded and decided again.
        CompareAndSetLost = "compare_and_set_lost",
        /// A transaction met a deadlock and was repeated.
        DeadlockRetried = "deadlock_retried",
        /// A batch with a value Postgres cannot store was halved.
        BatchBisected = "batch_bisected",
        /// An output that Postgres cannot store became a failure.
        UnstorableOutput = "unstorable_output",
        /// A step died because its attempts were used up.
        DeadByAttempts = "dead_by_attempts",
        /// A step died because its crashes were used up.
        DeadByCrashes = "dead_by_crashes",
        /// A workflow was cancelled while a step of it ran.
        CancelWhileRunning = "cancel_while_running",
        /// A cancel left a post that may be out to its outcome.
        CancelWaitsForIntent = "cancel_waits_for_intent",
        /// A dead step was sent back to its queue.
        Replay = "replay",
        /// A dead step was given up.
        Discard = "discard",
        /// Nobody knew what became of a post.
        Unknown = "unknown",
        /// It was sent again with its key, and is out.
        PublishedByRepeat = "published_by_repeat",
        /// A look found it.
        PublishedByLook = "published_by_look",
        /// A look did not find it; it is sent again.
        AbsentThenSent = "absent_then_sent",
        /// Only a person can find out.
        DoubtAsked = "doubt_asked",
        /// A person found it.
        DoubtPublished = "doubt_published",
        /// A person did not find it; it is sent again.
        DoubtNotThere = "doubt_not_there",
        /// A person gave it up.
        DoubtGivenUp = "doubt_given_up",
        /// A post that was definitely not sent is tried again.
        NotSentRetried = "not_sent_retried",
        /// A worker came too late after its intent and did not send.
        SendTooLate = "send_too_late",
        /// The day had no place left.
        DayFull = "day_full",
        /// The day was about to end.
        DayEnds = "day_ends",
        /// An intent met a change of its post, or was overtaken.
        IntentMetEdit = "intent_met_edit",
        /// An intent met a change of the policy.
        IntentMetPolicy = "intent_met_policy",
        /// An edit or a rejection voided a question or its answer.
        ApprovalVoided = "approval_voided",
        /// Nobody answered a question in time.
        ApprovalExpired = "approval_expired",
        /// Two answers, edits or cancels met: one won.
        AnswerLost = "answer_lost",
        /// The policy was loosened while a post waited: it goes on waiting.
        HeldThoughLoosened = "held_though_loosened",
        /// A connection came back inside an open transaction and was closed.
        TransactionLeftOpen = "transaction_left_open",
        /// Redis had forgotten a script.
        ScriptReloaded = "script_reloaded",
        /// A queue key had a wrong type and was deleted.
        QueueHealed = "queue_healed",
        /// An undecodable queue member was dropped.
        QueueGarbage = "queue_garbage",
        /// A bill was larger than what was reserved for it, and was booked.
        BillOverBound = "bill_over_bound",
        /// A call of a lost attempt was charged at its bound.
        LostCallCharged = "lost_call_charged",
        /// A bill came after its call was charged at its bound.
        LateBill = "late_bill",
        /// A step that waited for money went on.
        Funded = "funded",
        /// A post waits for money.
        PostUnfunded = "post_unfunded",
    }
}
