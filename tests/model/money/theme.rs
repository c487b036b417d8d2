//! The configurations: each explores one theme of money exhaustively. Several
//! small ones, because bounds multiply.

use super::Money;
use super::state::Bounds;
use super::witness::Witness;

const NOTHING: Bounds =
    Bounds { crashes: 0, stops: 0, lost_replies: 0, lost_answers: 0, raises: 0, days: 0, cancels: 0 };

/// Two steps whose calls cost one or two, of a limit of three.
const TWO: Money = Money {
    steps: 2,
    calls: 1,
    limit: 3,
    bound: 2,
    max_attempts: 2,
    bounds: NOTHING,
    witnesses: &[],
    shortcuts: &[],
};

/// One step alone.
const ONE: Money = Money { steps: 1, max_attempts: 3, ..TWO };

/// Every theme with its name.
pub const THEMES: &[(&str, Money)] = &[
    (
        "the last cent",
        Money {
            bounds: Bounds { raises: 1, lost_answers: 1, ..NOTHING },
            witnesses: &[
                Witness::Succeeded,
                Witness::LastOne,
                Witness::RefusedByReservation,
                Witness::RoomForWaiting,
                Witness::RoomBeforeWait,
                Witness::WaitsForEver,
                Witness::LateAnswer,
            ],
            ..TWO
        },
    ),
    (
        "lost workers",
        Money {
            bounds: Bounds { crashes: 1, stops: 1, ..NOTHING },
            witnesses: &[Witness::Succeeded, Witness::Lost, Witness::LostAndBilled, Witness::LateBill],
            ..TWO
        },
    ),
    (
        "lost bills",
        Money {
            limit: 4,
            bounds: Bounds { lost_replies: 2, lost_answers: 1, stops: 1, ..NOTHING },
            witnesses: &[
                Witness::ReservationRecognised,
                Witness::SettlementRecognised,
                Witness::LateAnswer,
                Witness::LateBill,
            ],
            ..ONE
        },
    ),
    (
        "midnight",
        Money {
            bounds: Bounds { days: 1, crashes: 1, ..NOTHING },
            witnesses: &[Witness::SettledNextDay, Witness::RoomForWaiting, Witness::Lost],
            ..TWO
        },
    ),
    (
        "a cancel and a repair",
        Money {
            calls: 2,
            limit: 4,
            max_attempts: 2,
            bounds: Bounds { cancels: 1, crashes: 1, raises: 1, lost_replies: 1, ..NOTHING },
            witnesses: &[Witness::CancelledInCall, Witness::RepairRefused, Witness::Lost],
            ..ONE
        },
    ),
];

/// The theme of that name.
///
/// # Panics
/// If there is none.
pub fn theme(name: &str) -> Money {
    let found = THEMES.iter().find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("no theme is called {name}")).1
}
