//! Where a process can be told to die or to stop.

crate::names::names! {
    /// A place between two pieces of I/O. Named `room.moment`: what was just
    /// done, or is about to be.
    pub enum Point {
        /// Submits were collected; nothing is written.
        AcceptCollected = "accept.collected",
        /// Their rows are written, the transaction is open.
        AcceptWritten = "accept.written",
        /// They are committed; nobody was answered.
        AcceptCommitted = "accept.committed",
        /// This submit knows that it is stored; nothing is pushed.
        AcceptStored = "accept.stored",
        /// Its first tickets are pushed; the client was not answered.
        AcceptPushed = "accept.pushed",
        /// A session row is there; the worker does not know its number.
        SessionOpened = "session.opened",
        /// Tickets were popped; nothing was looked at.
        ClaimPopped = "claim.popped",
        /// A step that needs a person's go is held; its ticket is in flight.
        ClaimHeld = "claim.held",
        /// The leases are committed; their inputs were not read.
        ClaimCommitted = "claim.committed",
        /// The inputs are read; the tickets still count as unclaimed.
        ClaimReady = "claim.ready",
        /// The claim is whole; no attempt has begun.
        ClaimInFlight = "claim.in_flight",
        /// Attempts reported; nothing is written.
        CompleteReported = "complete.reported",
        /// Rows of any decided batch are written, the transaction is open.
        SaveWritten = "save.written",
        /// Results are committed; no ticket was freed or pushed.
        CompleteCommitted = "complete.committed",
        /// The next tickets are pushed; refused reports are not settled.
        CompletePushed = "complete.pushed",
        /// A publish step is claimed; nothing was looked at.
        PublishBegun = "publish.begun",
        /// Its post is made; it was not judged.
        PublishMade = "publish.made",
        /// It has a slot; the step does not wait for it yet.
        PublishSlotted = "publish.slotted",
        /// Held, postponed, concluded or in doubt: committed, not pushed.
        PublishMoved = "publish.moved",
        /// The intent is committed; nothing was sent.
        PublishIntended = "publish.intended",
        /// The last check before the call is passed.
        PublishSending = "publish.sending",
        /// The platform has answered; nothing is recorded.
        PublishSent = "publish.sent",
        /// A look has an answer; nothing is recorded.
        PublishLooked = "publish.looked",
        /// A dead session is closed; its steps are not returned.
        ReapClosed = "reap.closed",
        /// Lost steps are returned; their tickets are not pushed.
        ReapReturned = "reap.returned",
        /// Overdue steps are taken back; their tickets are not pushed.
        ReapOverdue = "reap.overdue",
        /// A closed session has no steps; it is not marked as swept.
        ReapEmpty = "reap.empty",
        /// A page of runs is read; nothing is pushed.
        ReconcileRead = "reconcile.read",
        /// The page is pushed; workflows that stand still are not started.
        ReconcilePushed = "reconcile.pushed",
        /// Workflows that stood still are started; nothing is pushed.
        ReconcileStarted = "reconcile.started",
        /// A rebuild has begun; controls are not back.
        RebuildBegun = "rebuild.begun",
        /// Controls are back; no ticket is.
        RebuildMirrored = "rebuild.mirrored",
        /// All tickets are back; the queue does not count as built.
        RebuildPushed = "rebuild.pushed",
        /// Due timers are read; nothing is queued.
        DueRead = "due.read",
        /// Due steps are queued; nothing is pushed.
        DueQueued = "due.queued",
        /// Timers that wait for nobody are known; they are still there.
        DueOrphaned = "due.orphaned",
        /// Due schedules are read; nothing is accepted.
        ScheduleRead = "schedule.read",
        /// A schedule's workflow and its next time are written, the
        /// transaction is open.
        ScheduleWritten = "schedule.written",
        /// They are committed; nothing is pushed.
        ScheduleCommitted = "schedule.committed",
        /// A time that becomes no workflow is passed; nobody was told.
        SchedulePassed = "schedule.passed",
        /// What a call may cost is reserved; nothing was asked.
        CallReserved = "call.reserved",
        /// What a call came to is known; it is not booked.
        CallSettling = "call.settling",
        /// Calls of lost attempts are known; none is charged.
        CallsLost = "calls.lost",
        /// Places that nobody holds are known; they are not freed.
        PlacesRead = "places.read",
        /// Late questions are read; none is ended.
        ExpireRead = "expire.read",
        /// A question was looked at; the answer is not written.
        AnswerRead = "answer.read",
        /// An answer is committed; nothing is pushed.
        AnswerCommitted = "answer.committed",
        /// A change of a post is decided; nothing is written.
        EditDecided = "edit.decided",
        /// A change of a post is committed; nothing is pushed.
        EditCommitted = "edit.committed",
        /// A cancel is committed; no worker was told.
        CancelCommitted = "cancel.committed",
        /// Dead letters are replayed or discarded; nothing is pushed.
        RepairCommitted = "repair.committed",
        /// A policy is committed; nobody was answered.
        PolicyCommitted = "policy.committed",
    }
}
