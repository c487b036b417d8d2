//! The shortcuts people take with money. Each breaks a promise;
//! `tests/searches` demands the counterexample.

use crate::named::shortcuts;

shortcuts! {
    /// The room is read, then reserved without a look while it is locked.
    CheckWithoutLock,
    /// Calls are booked when their bill is known, not before.
    ReserveAfterCall,
    /// What is reserved is what a call usually costs.
    BoundIsAGuess,
    /// A reservation does not ask whether the attempt holds its step.
    UnfencedReserve,
    /// A ledger row belongs to the step, whichever claim makes the call.
    KeyWithoutClaim,
    /// A settlement whose reply was lost is booked again.
    SettledTwice,
    /// A settlement moves the counters of today, not of the reservation's day.
    SettledToday,
    /// A call without an answer costs nothing.
    UnknownIsFree,
    /// The reservation of a lost session is dropped.
    LostIsDropped,
    /// Nobody looks for calls of lost sessions.
    LostIsForgotten,
    /// A late bill is added to the estimate.
    LateBillAdds,
    /// Whoever makes room wakes those who wait at that moment; nobody looks
    /// again.
    WokenByRoom,
}
