//! Every shortcut through the publish path is caught: by the promise it breaks,
//! along the actions that make it a mistake. The same bounds without the
//! shortcut hold, or the counterexample would say nothing about it.

use galley_model::publishing::{Action, Bounds, Change, Duty, Publishing, Shortcut, theme};
use galley_model::{Counterexample, Reply};

use crate::page::{self, has, shows_all, without_fields};

const EFFECTS: &str = "at most one effect per effect key";
const OWNED: &str = "a post that is out is known to be, or that it may be";
const UNAPPROVED: &str = "nothing goes out unapproved";
const WITHDRAWN: &str = "nothing goes out that was withdrawn or edited away";
const AFTER_CANCEL: &str = "nothing is begun after a cancel";
const POLICY: &str = "nothing is begun against the policy";
const LIMIT: &str = "no place is taken beyond the limit";
const DAY: &str = "a post goes out on the day of its place";
const PLACES: &str = "every place is accounted for";
const BUDGET: &str = "what posts cost stays within the budget";
const PAID: &str = "what is out is paid for, and what may be is reserved";
const STUCK: &str = "nothing is stuck";
const FINAL_ANSWER: &str = "an answer stays as it was given";

type Found = Counterexample<Publishing>;

/// How many requests reached the platform while somebody waited for the answer.
fn posts(found: &Found) -> usize {
    found.actions.iter().filter(|action| matches!(action, Action::Post { .. })).count()
}

fn caught(base: &Publishing, shortcuts: &'static [Shortcut], promise: &'static str) -> Found {
    let fields = ["publisher", "post", "desk", "duty", "reply", "to", "there"];
    let broken = Publishing { shortcuts, ..*base };
    page::caught((base, &broken), shortcuts, promise, |action| without_fields(action, &fields))
}

fn small(name: &str, bounds: Bounds) -> Publishing {
    Publishing { bounds, ..theme(name) }
}

#[test]
fn every_shortcut_is_on_the_page() {
    shows_all(Shortcut::ALL);
}

#[test]
fn an_approval_of_a_post_whatever_it_says() {
    let base = small("approvals", Bounds { approvals: 1, edits: 1, ..Bounds::default() });
    let found = caught(&base, &[Shortcut::ApprovalNotBound], UNAPPROVED);
    assert!(has(&found, |action| matches!(action, Action::Decide { duty: Duty::Edit(_), .. })));
    assert!(has(&found, |action| matches!(action, Action::Decide { duty: Duty::Approve(_), .. })));
    assert!(matches!(found.actions.last(), Some(Action::Post { .. })));
}

#[test]
fn an_edit_that_ignores_an_open_intent() {
    let base = small("edits", Bounds { edits: 1, ..Bounds::default() });
    let found = caught(&base, &[Shortcut::EditIgnoresIntent], WITHDRAWN);
    assert!(has(&found, |action| matches!(action, Action::Decide { duty: Duty::Edit(_), .. })
        || matches!(action, Action::Decide { duty: Duty::EditAndApprove(_), .. })));
    assert!(matches!(found.actions.last(), Some(Action::Post { .. })));
}

#[test]
fn a_cancel_that_ignores_an_open_intent() {
    let base = small("cancelled, verifiable", Bounds { cancels: 1, ..Bounds::default() });
    let found = caught(&base, &[Shortcut::CancelIgnoresIntent], OWNED);
    assert!(has(&found, |action| matches!(action, Action::Cancel { .. })));
    assert!(has(&found, |action| matches!(action, Action::Post { .. })));
}

/// Approved at the last moment and on its way; then its question expires.
#[test]
fn an_expiry_that_compares_nothing() {
    let base = small("approvals", Bounds { approvals: 1, expiries: 1, ..Bounds::default() });
    let found = caught(&base, &[Shortcut::ExpiryWithoutCompare], FINAL_ANSWER);
    assert!(matches!(found.actions.last(), Some(Action::Decide { duty: Duty::Expire(_), .. })));
    let found = caught(&base, &[Shortcut::ExpiryWithoutCompare], WITHDRAWN);
    assert!(has(&found, |action| matches!(action, Action::Decide { duty: Duty::Expire(_), .. })));
    assert!(matches!(found.actions.last(), Some(Action::Post { .. })));
}

#[test]
fn a_policy_that_is_not_compared() {
    let base = small("policy", Bounds { policies: 1, ..Bounds::default() });
    let found = caught(&base, &[Shortcut::PolicyNotCompared], POLICY);
    assert!(has(&found, |action| *action == Action::SetPolicy { to: Change::Forbids }));
    let found = caught(&base, &[Shortcut::PolicyNotCompared], UNAPPROVED);
    assert!(has(&found, |action| *action == Action::SetPolicy { to: Change::Asks }));
    let base = small("limit changed", Bounds { limits: 1, ..Bounds::default() });
    let found = caught(&base, &[Shortcut::PolicyNotCompared], LIMIT);
    assert!(has(&found, |action| *action == Action::SetPolicy { to: Change::Lower }));
}

#[test]
fn a_loose_policy_that_lets_out_what_waits() {
    let base = small("policy", Bounds { policies: 1, ..Bounds::default() });
    let base = Publishing { asks: true, ..base };
    let found = caught(&base, &[Shortcut::LooseningReleases], UNAPPROVED);
    assert!(has(&found, |action| *action == Action::SetPolicy { to: Change::Loose }));
}

/// Both count none of one, both insert.
#[test]
fn a_limit_that_is_counted() {
    let base = small("day", Bounds::default());
    let found = caught(&base, &[Shortcut::QuotaCounted], LIMIT);
    let end: Vec<_> = found.actions.iter().rev().take(2).collect();
    assert!(matches!(end[..], [Action::Intend { .. }, Action::Intend { .. }]));
}

#[test]
fn a_place_taken_before_the_intent() {
    let base = small("day", Bounds { crashes: 1, ..Bounds::default() });
    let found = caught(&base, &[Shortcut::QuotaOutsideIntent], PLACES);
    let end: Vec<_> = found.actions.iter().rev().take(2).collect();
    assert!(matches!(end[..], [Action::Crash { .. }, Action::Take { .. }]));
}

#[test]
fn places_taken_in_parts() {
    let base = small("account's limit", Bounds::default());
    let found = caught(&base, &[Shortcut::QuotaInParts], PLACES);
    assert!(matches!(found.actions.last(), Some(Action::NextDay { .. })));
}

#[test]
fn an_unknown_outcome_that_frees_its_place() {
    let base = small("limit changed", Bounds { lost_answers: 1, ..Bounds::default() });
    let found = caught(&base, &[Shortcut::UnknownFreesPlace], LIMIT);
    assert!(has(&found, |action| matches!(action, Action::ReplyLost { .. } | Action::GivesUp { .. })));
    assert!(matches!(found.actions.last(), Some(Action::Intend { .. })));
}

#[test]
fn a_place_that_is_never_given_back() {
    let base = small("day", Bounds { failures: 1, ..Bounds::default() });
    let found = caught(&base, &[Shortcut::NotSentKeepsPlace], PLACES);
    assert!(has(&found, |action| matches!(action, Action::NotSent { .. })));
    assert!(matches!(found.actions.last(), Some(Action::Conclude { .. })));
}

/// The first call put it there; the second is refused, and the post with it.
#[test]
fn a_refused_repetition_that_counts() {
    let base = small("idempotent", Bounds { lost_answers: 1, failures: 1, ..Bounds::default() });
    let found = caught(&base, &[Shortcut::RefusalOfRepeatCounts], OWNED);
    assert!(has(&found, |action| matches!(action, Action::Repeat { .. })));
    assert!(has(&found, |action| matches!(action, Action::NotSent { .. } | Action::Refused { .. })));
}

#[test]
fn a_blind_platform_that_is_told_again() {
    let base = small("blind", Bounds { lost_answers: 1, ..Bounds::default() });
    let found = caught(&base, &[Shortcut::BlindRepeated], EFFECTS);
    assert!(has(&found, |action| matches!(action, Action::Repeat { .. })));
}

#[test]
fn a_key_that_the_platform_forgot() {
    let base = small("idempotent", Bounds { lost_answers: 1, forgets: 1, ..Bounds::default() });
    let found = caught(&base, &[Shortcut::KeyWindowIgnored], EFFECTS);
    assert!(has(&found, |action| matches!(action, Action::KeyForgotten { .. })));
    let found = caught(&base, &[Shortcut::KeyWindowReadBefore], EFFECTS);
    let at = |what: fn(&Action) -> bool| found.actions.iter().rposition(what);
    let judged = at(|action| matches!(action, Action::Judge { .. }));
    assert!(judged < at(|action| matches!(action, Action::KeyForgotten { .. })));
    let found = caught(&base, &[Shortcut::KeyWindowToItsEnd], EFFECTS);
    let at = |what: fn(&Action) -> bool| found.actions.iter().rposition(what);
    let repeated = at(|action| matches!(action, Action::Repeat { .. }));
    assert!(repeated < at(|action| matches!(action, Action::KeyForgotten { .. })));
}

#[test]
fn an_absence_that_is_believed_too_early() {
    let base = small("verifiable", Bounds { lost_answers: 1, ..Bounds::default() });
    let found = caught(&base, &[Shortcut::AbsentTooEarly], EFFECTS);
    assert!(has(&found, |action| matches!(action, Action::LateEffect { .. })));
    assert!(has(&found, |action| matches!(action, Action::Look { .. })));
}

/// Not there, so it begins anew: by the policy and the limits of today, and not
/// at all after a cancel.
#[test]
fn an_absence_after_which_it_is_sent_at_once() {
    let base = small("verifiable", Bounds { lost_answers: 1, days: 1, ..Bounds::default() });
    let found = caught(&base, &[Shortcut::AbsentSentAtOnce], DAY);
    assert!(has(&found, |action| *action == Action::DayTurns));
    assert_eq!(posts(&found), 1);
    let base = small("cancelled, verifiable", Bounds { lost_answers: 1, cancels: 1, ..Bounds::default() });
    let found = caught(&base, &[Shortcut::AbsentSentAtOnce], AFTER_CANCEL);
    assert!(has(&found, |action| matches!(action, Action::Cancel { .. })));
}

#[test]
fn a_repetition_after_a_cancel() {
    let base = small("cancelled, idempotent", Bounds { lost_answers: 1, cancels: 1, ..Bounds::default() });
    let found = caught(&base, &[Shortcut::RepeatAfterCancel], AFTER_CANCEL);
    assert!(matches!(found.actions.last(), Some(Action::Repeat { .. })));
}

#[test]
fn sending_after_the_window() {
    let base = small("verifiable", Bounds { stops: 1, sleeps: 1, ..Bounds::default() });
    let found = caught(&base, &[Shortcut::SendsAfterNotAfter], EFFECTS);
    assert!(has(&found, |action| matches!(action, Action::WindowPasses { .. })));
    assert_eq!(posts(&found), 2);
}

/// The reply of the intent's COMMIT is lost, the publisher sleeps; it wakes up
/// while another one has found that nothing is there.
#[test]
fn a_recognised_intent_with_a_new_window() {
    let bounds = Bounds { stops: 1, sleeps: 1, lost_replies: 1, ..Bounds::default() };
    let base = small("verifiable", bounds);
    let found = caught(&base, &[Shortcut::RecognisedStartsOver], EFFECTS);
    assert!(has(&found, |action| matches!(action, Action::Intend { reply: Reply::LostCommitted, .. })));
    assert!(has(&found, |action| matches!(action, Action::Recognise { .. })));
    assert_eq!(posts(&found), 2);
}

#[test]
fn a_room_that_was_read_before() {
    let base = small("paid", Bounds::default());
    let found = caught(&base, &[Shortcut::RoomReadBefore], BUDGET);
    assert_eq!(found.actions.iter().filter(|action| matches!(action, Action::Intend { .. })).count(), 2);
}

/// Stopped between intent and call, then taken for dead: the post may still go
/// out, or be out.
#[test]
fn a_lost_worker_that_frees_a_posts_money() {
    let base = small("paid", Bounds { stops: 1, sleeps: 1, ..Bounds::default() });
    let found = caught(&base, &[Shortcut::LostWorkerFreesMoney], PAID);
    assert!(has(&found, |action| matches!(action, Action::Reap { .. })));
    let found = caught(&base, &[Shortcut::LostWorkerFreesMoney], BUDGET);
    assert_eq!(posts(&found), 2);
}

#[test]
fn a_doubt_that_costs_nothing() {
    let base = small("paid, in doubt", Bounds { lost_answers: 1, ..Bounds::default() });
    let found = caught(&base, &[Shortcut::DoubtIsFree], BUDGET);
    assert!(has(&found, |action| matches!(action, Action::Doubt { .. })));
}

#[test]
fn money_that_is_kept_for_what_was_not_sent() {
    let base = small("paid", Bounds { failures: 1, ..Bounds::default() });
    caught(&base, &[Shortcut::NotSentKeepsMoney], PAID);
}

/// It waits for what its first revision cost, and nobody looks again.
#[test]
fn an_edit_that_leaves_a_post_waiting() {
    let base = small("paid", Bounds { edits: 1, ..Bounds::default() });
    let found = caught(&base, &[Shortcut::EditLeavesWait], STUCK);
    assert!(has(&found, |action| matches!(action, Action::Unfunded { .. })));
}
