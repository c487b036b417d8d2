//! The configurations: each explores one theme of publishing exhaustively.
//! Several small ones, because bounds multiply.

use super::state::Bounds;
use super::witness::Witness;
use super::{Capability, Publishing};

const NOTHING: Bounds = Bounds {
    crashes: 0,
    stops: 0,
    sleeps: 0,
    lost_replies: 0,
    failures: 0,
    lost_answers: 0,
    forgets: 0,
    days: 0,
    approvals: 0,
    edits: 0,
    rejections: 0,
    expiries: 0,
    cancels: 0,
    policies: 0,
    limits: 0,
    raises: 0,
};

/// One post that goes out by itself, on a platform that can tell nothing.
const ONE: Publishing = Publishing {
    capability: Capability::Blind,
    posts: 1,
    one_account: true,
    asks: false,
    limit: 2,
    budget: 0,
    account_limit: 2,
    max_attempts: 2,
    bounds: NOTHING,
    witnesses: &[],
    shortcuts: &[],
};

/// Two posts that compete for one place of the day.
const TWO: Publishing = Publishing { posts: 2, limit: 1, ..ONE };

/// Two posts that cost two each, of a budget that has room for one.
const PAID: Publishing = Publishing { posts: 2, budget: 3, ..ONE };

/// Every theme with its name.
pub const THEMES: &[(&str, Publishing)] = &[
    (
        "approvals",
        Publishing {
            asks: true,
            bounds: Bounds {
                approvals: 2,
                edits: 1,
                rejections: 1,
                expiries: 1,
                stops: 1,
                sleeps: 1,
                ..NOTHING
            },
            witnesses: &[
                Witness::Published,
                Witness::ApprovedAndOut,
                Witness::EditedAndOut,
                Witness::EditRefused,
                Witness::AnswerRefused,
                Witness::IntentStale,
                Witness::Rejected,
                Witness::Expired,
            ],
            ..ONE
        },
    ),
    (
        "edits",
        Publishing {
            bounds: Bounds { edits: 2, failures: 1, lost_answers: 1, stops: 1, sleeps: 1, ..NOTHING },
            witnesses: &[Witness::EditedAndOut, Witness::EditRefused, Witness::NotSentRetried],
            ..ONE
        },
    ),
    (
        "policy",
        Publishing {
            bounds: Bounds {
                policies: 2,
                approvals: 1,
                edits: 1,
                stops: 1,
                sleeps: 1,
                failures: 1,
                ..NOTHING
            },
            witnesses: &[
                Witness::ApprovedAndOut,
                Witness::ForbiddenMeanwhile,
                Witness::WaitsThoughLoose,
                Witness::IntentOvertaken,
            ],
            ..ONE
        },
    ),
    (
        "day",
        Publishing {
            bounds: Bounds { days: 1, failures: 1, crashes: 1, lost_answers: 1, ..NOTHING },
            witnesses: &[
                Witness::DayFull,
                Witness::OutNextDay,
                Witness::PlaceTakenAgain,
                Witness::NotSentRetried,
                Witness::OpenAcrossMidnight,
            ],
            ..TWO
        },
    ),
    (
        "limit changed",
        Publishing {
            bounds: Bounds { limits: 2, lost_answers: 1, failures: 1, days: 1, ..NOTHING },
            witnesses: &[Witness::DayFull, Witness::IntentOvertaken, Witness::Published, Witness::DoubtThere],
            ..TWO
        },
    ),
    (
        "account's limit",
        Publishing {
            limit: 2,
            account_limit: 1,
            bounds: Bounds { days: 1, failures: 1, stops: 1, sleeps: 1, ..NOTHING },
            witnesses: &[Witness::DayFull, Witness::OutNextDay],
            ..TWO
        },
    ),
    (
        "two accounts",
        Publishing {
            one_account: false,
            account_limit: 1,
            bounds: Bounds { days: 1, lost_replies: 1, lost_answers: 1, ..NOTHING },
            witnesses: &[Witness::DayFull, Witness::OutNextDay, Witness::IntentRecognised],
            ..TWO
        },
    ),
    (
        "idempotent",
        Publishing {
            capability: Capability::Idempotent,
            bounds: Bounds {
                lost_answers: 2,
                failures: 1,
                crashes: 1,
                stops: 1,
                sleeps: 1,
                forgets: 1,
                days: 1,
                ..NOTHING
            },
            witnesses: &[
                Witness::RepeatedAndKnown,
                Witness::KeyTooOld,
                Witness::LateEffect,
                Witness::ZombieMaySend,
                Witness::TooLate,
                Witness::OpenAcrossMidnight,
            ],
            ..ONE
        },
    ),
    (
        "verifiable",
        Publishing {
            max_attempts: 3,
            capability: Capability::Verifiable,
            bounds: Bounds {
                lost_answers: 2,
                failures: 1,
                crashes: 1,
                stops: 1,
                sleeps: 1,
                days: 1,
                ..NOTHING
            },
            witnesses: &[
                Witness::UnknownThenFound,
                Witness::UnknownThenAbsent,
                Witness::LateEffect,
                Witness::ZombieMaySend,
                Witness::TooLate,
                Witness::OpenAcrossMidnight,
            ],
            ..ONE
        },
    ),
    (
        "blind",
        Publishing {
            bounds: Bounds {
                lost_answers: 2,
                failures: 1,
                crashes: 1,
                stops: 1,
                sleeps: 1,
                days: 1,
                ..NOTHING
            },
            witnesses: &[
                Witness::DoubtThere,
                Witness::DoubtNotThere,
                Witness::DoubtGivenUp,
                Witness::LateEffect,
                Witness::ZombieMaySend,
                Witness::TooLate,
                Witness::OpenAcrossMidnight,
            ],
            ..ONE
        },
    ),
    (
        "lost replies, idempotent",
        Publishing {
            capability: Capability::Idempotent,
            bounds: Bounds {
                lost_replies: 2,
                lost_answers: 1,
                crashes: 1,
                stops: 1,
                sleeps: 1,
                forgets: 1,
                ..NOTHING
            },
            witnesses: &[
                Witness::IntentRecognised,
                Witness::ConclusionRecorded,
                Witness::RepeatedAndKnown,
                Witness::TooLate,
            ],
            ..ONE
        },
    ),
    (
        "lost replies, verifiable",
        Publishing {
            max_attempts: 3,
            capability: Capability::Verifiable,
            bounds: Bounds { lost_replies: 2, lost_answers: 1, crashes: 1, stops: 1, sleeps: 1, ..NOTHING },
            witnesses: &[
                Witness::IntentRecognised,
                Witness::ConclusionRecorded,
                Witness::UnknownThenAbsent,
                Witness::TooLate,
            ],
            ..ONE
        },
    ),
    (
        "lost replies, blind",
        Publishing {
            bounds: Bounds { lost_replies: 2, lost_answers: 1, crashes: 1, stops: 1, sleeps: 1, ..NOTHING },
            witnesses: &[Witness::IntentRecognised, Witness::ConclusionRecorded, Witness::DoubtGivenUp],
            ..ONE
        },
    ),
    (
        "cancelled, idempotent",
        Publishing {
            capability: Capability::Idempotent,
            bounds: Bounds {
                cancels: 1,
                lost_answers: 1,
                failures: 1,
                stops: 1,
                sleeps: 1,
                crashes: 1,
                ..NOTHING
            },
            witnesses: &[Witness::CancelWaits, Witness::CancelledButOut, Witness::CancelledInTime],
            ..ONE
        },
    ),
    (
        "cancelled, verifiable",
        Publishing {
            max_attempts: 3,
            capability: Capability::Verifiable,
            bounds: Bounds {
                cancels: 1,
                lost_answers: 1,
                failures: 1,
                stops: 1,
                sleeps: 1,
                crashes: 1,
                ..NOTHING
            },
            witnesses: &[Witness::CancelWaits, Witness::CancelledButOut, Witness::CancelledInTime],
            ..ONE
        },
    ),
    (
        "cancelled while asked",
        Publishing {
            asks: true,
            bounds: Bounds { cancels: 1, approvals: 1, expiries: 1, edits: 1, stops: 1, ..NOTHING },
            witnesses: &[Witness::CancelWaits, Witness::CancelledButOut, Witness::AnswerRefused],
            ..ONE
        },
    ),
    (
        "two in doubt",
        Publishing {
            bounds: Bounds { lost_answers: 2, crashes: 1, days: 1, ..NOTHING },
            witnesses: &[Witness::DayFull, Witness::DoubtThere, Witness::OutNextDay, Witness::DoubtGivenUp],
            ..TWO
        },
    ),
    (
        "paid",
        Publishing {
            bounds: Bounds { edits: 1, failures: 1, raises: 1, ..NOTHING },
            witnesses: &[
                Witness::Published,
                Witness::Unfunded,
                Witness::RoomForWaiting,
                Witness::CheaperAndOut,
                Witness::WaitsForEver,
            ],
            ..PAID
        },
    ),
    (
        "paid, in doubt",
        Publishing {
            bounds: Bounds { lost_answers: 2, crashes: 1, days: 1, ..NOTHING },
            witnesses: &[
                Witness::Unfunded,
                Witness::RoomForWaiting,
                Witness::ChargedInDoubt,
                Witness::DoubtGivenUp,
                Witness::OutNextDay,
            ],
            ..PAID
        },
    ),
    (
        "paid, idempotent",
        Publishing {
            capability: Capability::Idempotent,
            bounds: Bounds { lost_answers: 1, lost_replies: 1, cancels: 1, stops: 1, sleeps: 1, ..NOTHING },
            witnesses: &[Witness::Unfunded, Witness::RepeatedAndKnown, Witness::CancelledButOut],
            ..PAID
        },
    ),
];

/// The theme of that name.
///
/// # Panics
/// If there is none.
pub fn theme(name: &str) -> Publishing {
    let found = THEMES.iter().find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("no theme is called {name}")).1
}
