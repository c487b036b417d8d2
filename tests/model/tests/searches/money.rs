//! Money, as designed, holds in every theme, and every search saw the rescues it
//! is about; every shortcut is caught by the promise it breaks.

use galley_model::money::{Action, Bounds, Money, Shortcut, THEMES, Witness, theme};
use galley_model::{Counterexample, assert_every_path_ends, explore};

use crate::page::{self, has, shows_all, themes, without_fields};

const LIMIT: &str = "what is spent and reserved stays within the limit";
const TRUE_SPEND: &str = "what is truly billed stays within the limit";
const COVERED: &str = "every bill is covered";
const SUMS: &str = "the counters are the sum of the ledger";
const HOLDER: &str = "money goes to whoever holds the step";
const STUCK: &str = "nothing is stuck";

themes! {
    the_last_cent: "the last cent",
    lost_workers: "lost workers",
    lost_bills: "lost bills",
    midnight: "midnight",
    a_cancel_and_a_repair: "a cancel and a repair",
}

/// "Nothing is stuck" and "everything settles" mean what they say only if the
/// system cannot go round for ever.
#[test]
fn every_path_ends() {
    for (name, model) in THEMES {
        assert_eq!(assert_every_path_ends(model), explore(model).states, "{name}");
    }
}

#[test]
fn every_shortcut_is_on_the_page() {
    shows_all(Shortcut::ALL);
}

fn caught(base: &Money, shortcuts: &'static [Shortcut], promise: &'static str) -> Counterexample<Money> {
    let told = |action: &Action| without_fields(action, &["worker", "step", "call", "cost", "reply"]);
    page::caught((base, &Money { shortcuts, ..*base }), shortcuts, promise, told)
}

fn small(name: &str, bounds: Bounds) -> Money {
    Money { bounds, ..theme(name) }
}

#[test]
fn a_check_without_a_lock() {
    let found = caught(&small("the last cent", Bounds::default()), &[Shortcut::CheckWithoutLock], LIMIT);
    assert_eq!(found.actions.iter().filter(|action| matches!(action, Action::Check { .. })).count(), 2);
}

#[test]
fn a_reservation_after_the_call() {
    let base = small("the last cent", Bounds::default());
    caught(&base, &[Shortcut::ReserveAfterCall], COVERED);
    caught(&base, &[Shortcut::ReserveAfterCall], TRUE_SPEND);
}

#[test]
fn a_bound_that_is_a_guess() {
    caught(&small("the last cent", Bounds::default()), &[Shortcut::BoundIsAGuess], TRUE_SPEND);
}

/// Overtaken before it reserves, a worker spends on a step that is another's.
#[test]
fn a_reservation_without_a_fence() {
    let base = small("lost workers", Bounds { stops: 1, ..Bounds::default() });
    let found = caught(&base, &[Shortcut::UnfencedReserve], HOLDER);
    assert!(has(&found, |action| matches!(action, Action::Reap { .. })));
}

/// The second attempt takes the first one's row for its own.
#[test]
fn a_row_that_claims_share() {
    let base = small("lost bills", Bounds { lost_answers: 1, ..Bounds::default() });
    let found = caught(&base, &[Shortcut::KeyWithoutClaim], COVERED);
    assert_eq!(found.actions.iter().filter(|action| matches!(action, Action::Claim { .. })).count(), 2);
}

#[test]
fn a_settlement_that_is_booked_twice() {
    let base = small("lost bills", Bounds { lost_replies: 1, ..Bounds::default() });
    caught(&base, &[Shortcut::SettledTwice], SUMS);
}

#[test]
fn a_settlement_of_today() {
    let base = small("midnight", Bounds { days: 1, ..Bounds::default() });
    let found = caught(&base, &[Shortcut::SettledToday], SUMS);
    assert!(has(&found, |action| *action == Action::DayTurns));
}

#[test]
fn a_call_without_an_answer_for_nothing() {
    let base = small("lost bills", Bounds { lost_answers: 1, ..Bounds::default() });
    caught(&base, &[Shortcut::UnknownIsFree], COVERED);
}

#[test]
fn a_lost_workers_call() {
    let base = small("lost workers", Bounds { crashes: 1, ..Bounds::default() });
    let found = caught(&base, &[Shortcut::LostIsDropped], COVERED);
    assert!(has(&found, |action| matches!(action, Action::Crash { .. })));
    caught(&base, &[Shortcut::LostIsForgotten], STUCK);
}

#[test]
fn a_late_bill_that_adds() {
    let base = small("lost workers", Bounds { stops: 1, ..Bounds::default() });
    caught(&base, &[Shortcut::LateBillAdds], SUMS);
}

/// There is room before the wait is written: nobody is woken, and nobody looks.
#[test]
fn a_wake_up_that_is_lost() {
    caught(&small("the last cent", Bounds::default()), &[Shortcut::WokenByRoom], STUCK);
}
