//! The rescue paths of money. A search in which none of them was taken proved
//! nothing, so each theme names those it must have seen.

use super::Money;
use super::state::{Phase, Row, State, StepState};
use crate::named::witnesses;

witnesses! { Money:
    /// Every step has its result.
    Succeeded, "every step succeeds", |p, s| p.steps().all(|step| s.step(step).state == StepState::Succeeded);
    /// The limit is used to its last.
    LastOne, "the last of a limit is spent", |_, s| s.counters.iter().any(|counter| counter.spent == s.limit);
    /// There is no room while another call may still cost its bound.
    RefusedByReservation, "a reservation keeps another call waiting", |p, s| {
        refused(s) && s.counters.iter().any(|counter| counter.spent + p.bound <= s.limit && counter.reserved > 0)
    };
    /// A step that waits is about to go on.
    RoomForWaiting, "there is room for a step that waits", |p, s| {
        s.room() >= p.bound && p.steps().any(|step| s.step(step).state == StepState::WaitingBudget)
    };
    /// There is room before the refused worker has written that its step waits.
    RoomBeforeWait, "there is room before the wait is written", |p, s| refused(s) && s.room() >= p.bound;
    /// A step waits for ever: nobody raises anything.
    WaitsForEver, "a step waits for money that does not come", |p, s| {
        p.is_settled(s) && p.steps().any(|step| s.step(step).state == StepState::WaitingBudget)
    };
    /// A reservation of an attempt that is over.
    Lost, "an attempt that is over leaves its reservation", |_, s| {
        s.calls().any(|(call, row)| matches!(row.row, Row::Reserved(_)) && !s.holds(call))
    };
    /// A call of a lost attempt is charged at its bound, and was billed.
    LostAndBilled, "a lost call that was billed is charged at its bound", |_, s| {
        s.calls().any(|(call, row)| matches!(row.row, Row::Estimated(_)) && row.billed > 0 && !s.holds(call))
    };
    /// The bill of a call that was charged at its bound is about to be booked.
    LateBill, "a bill comes after its call was charged", |_, s| {
        s.workers.iter().any(|phase| match *phase {
            Phase::Answered(call, Some(_)) => matches!(s.call(call).row, Row::Estimated(_)),
            _ => false,
        })
    };
    /// A call is billed that nobody waits for any more.
    LateAnswer, "a call that was given up is billed", |_, s| {
        s.calls().any(|(_, call)| matches!(call.row, Row::Estimated(_)) && call.billed > 0)
    };
    /// A worker finds its own reservation.
    ReservationRecognised, "an unknown reservation turns out to be one's own", |_, s| {
        s.workers.iter().any(|phase| match *phase {
            Phase::Asks(call) => matches!(s.call(call).row, Row::Reserved(_)),
            _ => false,
        })
    };
    /// A worker finds its own settlement.
    SettlementRecognised, "an unknown settlement turns out to be booked", |_, s| {
        s.workers.iter().any(|phase| match *phase {
            Phase::Answered(call, _) => matches!(s.call(call).row, Row::Settled(_)),
            _ => false,
        })
    };
    /// A settlement of yesterday's reservation.
    SettledNextDay, "a call of yesterday is settled today", |_, s| {
        s.day == 1 && s.workers.iter().any(|phase| match *phase {
            Phase::Answered(call, Some(_)) => s.call(call).day == 0,
            _ => false,
        })
    };
    /// A cancelled step whose call was under way.
    CancelledInCall, "a step is cancelled while its call is under way", |_, s| {
        s.workers.iter().any(|phase| match *phase {
            Phase::Funded(call) => s.step(call.step).cancelled,
            _ => false,
        })
    };
    /// The second call of an attempt is refused.
    RepairRefused, "there is no money for a repair", |_, s| {
        s.workers.iter().any(|phase| matches!(phase, Phase::Refused(call) if call.call == 1))
    };
}

fn refused(s: &State) -> bool {
    s.workers.iter().any(|phase| matches!(phase, Phase::Refused(_)))
}
