//! The names of events, as the page about the states and the tallies of the
//! explorer say them.

use galley_core::decide::{Event, Settlement};
use galley_core::report::Failure;

/// Every name [`word`] can give.
pub(crate) const WORDS: [&str; 30] = [
    "accepted",
    "claim",
    "success",
    "transient failure",
    "throttled",
    "permanent failure",
    "given back",
    "lease lost",
    "overdue",
    "due",
    "no money",
    "money",
    "cancel",
    "replay",
    "discard",
    "needs a go",
    "needs an approval",
    "not yet",
    "approve",
    "reject or expire",
    "no go",
    "edit or reschedule",
    "edit, to be approved",
    "intent",
    "sent once more",
    "unknown outcome",
    "cannot be found out",
    "a person found it",
    "a person wants it sent again",
    "a person gave it up",
];

/// What an event is called.
pub(crate) fn word(event: &Event) -> &'static str {
    match event {
        Event::Accepted => "accepted",
        Event::Claim { .. } => "claim",
        Event::Succeeded { .. } => "success",
        Event::Failed { failure: Failure::Transient, .. } => "transient failure",
        Event::Failed { failure: Failure::Throttled { .. }, .. } => "throttled",
        Event::Failed { failure: Failure::Unfunded { .. }, .. } => "no money",
        Event::Failed { failure: Failure::Permanent, .. } => "permanent failure",
        Event::GivenBack { .. } => "given back",
        Event::LeaseLost { .. } => "lease lost",
        Event::Overdue { .. } => "overdue",
        Event::Due { .. } => "due",
        Event::Funded { .. } => "money",
        Event::Cancel => "cancel",
        Event::Replay { .. } => "replay",
        Event::Discard { .. } => "discard",
        Event::NeedsGo { .. } => "needs a go",
        Event::Held { .. } => "needs an approval",
        Event::Postponed { .. } => "not yet",
        Event::Approved { .. } => "approve",
        Event::Withdrawn { .. } => "reject or expire",
        Event::Refused { .. } => "no go",
        Event::Amended { hold: false, .. } => "edit or reschedule",
        Event::Amended { hold: true, .. } => "edit, to be approved",
        Event::Intent { .. } => "intent",
        Event::Repeated { .. } => "sent once more",
        Event::Unsure { .. } => "unknown outcome",
        Event::Doubted { .. } => "cannot be found out",
        Event::Settled { how: Settlement::Published, .. } => "a person found it",
        Event::Settled { how: Settlement::NotThere, .. } => "a person wants it sent again",
        Event::Settled { how: Settlement::GivenUp, .. } => "a person gave it up",
    }
}
