//! Every shortcut through the protocol is caught: by the promise it breaks,
//! along the actions that make it a mistake. The same bounds without the
//! shortcut hold, or the counterexample would say nothing about it.

use galley_model::{
    Action, Bounds, Counterexample, Outcome, Protocol, Reply, Shortcut, counterexample, theme,
};

use crate::page::{self, has, shows_all, without_fields};

const WINNERS: &str = "exactly one result per succeeded step, the winner's";
const FINAL: &str = "a final state never changes";
const EPOCHS: &str = "an epoch never decreases";
const STALE: &str = "no stale write lands";
const EFFECTS: &str = "at most one effect per effect key";
const OWNED: &str = "an effect belongs to a step that knows it may have happened";
const DURABLE: &str = "what was acknowledged is durable";
const BOUNDED: &str = "attempts are bounded";
const STUCK: &str = "nothing is stuck";

fn caught(base: &Protocol, shortcuts: &[Shortcut], promise: &'static str) -> Counterexample<Protocol> {
    let told = |action: &Action| {
        let fields = ["worker", "ticket", "reply", "outcome", "session", "duty", "step"];
        let text = without_fields(action, &fields);
        text.replace("push_lost: true", "push lost").replace(", push_lost: false", "")
    };
    let broken = Protocol { shortcuts: shortcuts.to_vec(), ..base.clone() };
    page::caught((base, &broken), shortcuts, promise, told)
}

fn small(name: &str, bounds: Bounds) -> Protocol {
    Protocol { bounds, ..theme(name) }
}

#[test]
fn every_shortcut_is_on_the_page() {
    shows_all(Shortcut::ALL);
}

fn closes_a_session(action: &Action) -> bool {
    matches!(action, Action::CloseSession { .. })
}

#[test]
fn completing_on_running_alone() {
    let base = small("crashes", Bounds { expiries: 1, ..Bounds::default() });
    let found = caught(&base, &[Shortcut::CompleteOnState], STALE);
    // The step runs again, elsewhere, when the zombie completes it.
    let claims = found.actions.iter().filter(|action| matches!(action, Action::Claim { .. })).count();
    assert_eq!(claims, 2);
    assert!(matches!(found.actions.last(), Some(Action::Complete { .. })));
}

#[test]
fn completing_on_the_id_alone() {
    let base = small("crashes", Bounds { expiries: 1, ..Bounds::default() });
    let found = caught(&base, &[Shortcut::CompleteOnId], WINNERS);
    assert!(matches!(found.actions.last(), Some(Action::Complete { .. })));
}

#[test]
fn starting_the_epoch_over() {
    let base = small("crashes", Bounds { expiries: 1, ..Bounds::default() });
    let found = caught(&base, &[Shortcut::ResetEpochOnReap], EPOCHS);
    assert!(matches!(found.actions.last(), Some(Action::DeskWrite { .. })));
}

/// With the epoch alone as the fence, starting it over lets a zombie in, without
/// any restore.
#[test]
fn starting_the_epoch_over_without_a_nonce() {
    let base = small("crashes", Bounds { expiries: 1, early_returns: 1, ..Bounds::default() });
    assert!(
        counterexample(&Protocol { shortcuts: vec![Shortcut::DropNonce], ..base.clone() }, STALE).is_none(),
        "without a restore an epoch that never starts over is fence enough"
    );
    let found = caught(&base, &[Shortcut::ResetEpochOnReap, Shortcut::DropNonce], STALE);
    assert!(has(&found, |action| matches!(action, Action::DeskWrite { .. })));
    assert!(matches!(found.actions.last(), Some(Action::Complete { .. })));
}

#[test]
fn dropping_the_nonce() {
    let found = caught(&theme("restore"), &[Shortcut::DropNonce], STALE);
    assert!(has(&found, |action| *action == Action::Restore));
    assert!(matches!(found.actions.last(), Some(Action::Complete { .. })));
}

#[test]
fn a_load_that_outlives_a_restore() {
    let found = caught(&theme("restore"), &[Shortcut::LoadOutlivesRestore], STALE);
    assert!(has(&found, |action| *action == Action::Restore));
    assert!(matches!(found.actions.last(), Some(Action::Complete { .. })));
}

#[test]
fn writing_without_comparing_the_version() {
    let base = small("fan-in", Bounds::default());
    let found = caught(&base, &[Shortcut::NoVersionCompare], FINAL);
    // Both parents load, both write: the second write undoes the first.
    let ends: Vec<_> = found
        .actions
        .iter()
        .filter(|action| matches!(action, Action::LoadToComplete { .. } | Action::Complete { .. }))
        .collect();
    assert!(matches!(
        ends[..],
        [
            Action::LoadToComplete { .. },
            Action::LoadToComplete { .. },
            Action::Complete { .. },
            Action::Complete { .. }
        ]
    ));
}

#[test]
fn no_reconciler() {
    let base = small("redis", Bounds { flushes: 1, ..Bounds::default() });
    let found = caught(&base, &[Shortcut::NoReconciler], STUCK);
    assert!(has(&found, |action| *action == Action::Flush));
}

#[test]
fn marking_before_pushing() {
    let base = small("redis", Bounds { crashes: 1, ..Bounds::default() });
    let found = caught(&base, &[Shortcut::MarkBeforePush], STUCK);
    assert_eq!(found.actions, [Action::RelayMark { step: 0 }, Action::RelayCrash]);
}

#[test]
fn acknowledging_before_the_commit() {
    let base = small("crashes", Bounds { crashes: 1, ..Bounds::default() });
    let found = caught(&base, &[Shortcut::AckBeforeCommit], DURABLE);
    let end: Vec<_> = found.actions.iter().rev().take(2).collect();
    assert!(matches!(end[..], [Action::Crash { .. }, Action::Finish { outcome: Outcome::Ok, .. }]));
}

#[test]
fn taking_an_unknown_commit_for_a_failure() {
    let base = small("publish, crashes", Bounds { lost_replies: 1, ..Bounds::default() });
    let found = caught(&base, &[Shortcut::UnknownCommitIsFailure], EFFECTS);
    assert!(has(&found, |action| matches!(action, Action::Complete { reply: Reply::LostRolledBack, .. })));
    assert!(matches!(found.actions.last(), Some(Action::Post { .. })));
}

#[test]
fn posting_without_an_intent() {
    let base = small("publish, crashes", Bounds { crashes: 1, ..Bounds::default() });
    let found = caught(&base, &[Shortcut::PostWithoutIntent], EFFECTS);
    assert!(has(&found, |action| matches!(action, Action::Crash { .. })));
    assert_eq!(found.actions.iter().filter(|action| matches!(action, Action::Post { .. })).count(), 2);
}

#[test]
fn a_key_per_attempt() {
    let base = small("keyed effect", Bounds { slow_posts: 1, ..Bounds::default() });
    let found = caught(&base, &[Shortcut::KeyPerAttempt], EFFECTS);
    assert!(has(&found, |action| matches!(action, Action::PostTimesOut { .. })));
}

#[test]
fn reaping_over_an_open_intent() {
    let base = small("publish, zombies", Bounds { crashes: 1, ..Bounds::default() });
    let found = caught(&base, &[Shortcut::ReaperIgnoresIntent], OWNED);
    assert!(has(&found, |action| matches!(action, Action::Post { .. })));
    assert!(has(&found, |action| matches!(action, Action::DeskWrite { .. })));
}

#[test]
fn cancelling_over_an_open_intent() {
    let base = small("publish, cancelled", Bounds { cancels: 1, ..Bounds::default() });
    let found = caught(&base, &[Shortcut::CancelIgnoresIntent], OWNED);
    assert!(has(&found, |action| matches!(action, Action::Post { .. })));
    assert!(has(&found, |action| matches!(action, Action::DeskWrite { .. })));
}

#[test]
fn resolving_too_early() {
    let base = small("publish, zombies", Bounds { slow_posts: 1, ..Bounds::default() });
    let found = caught(&base, &[Shortcut::ResolveEarly], EFFECTS);
    assert!(has(&found, |action| matches!(action, Action::LateEffect { .. })));
    assert!(!has(&found, closes_a_session));
}

/// A zombie that claims, arms and never sends: each time reaped, each time found
/// to have sent nothing.
#[test]
fn resolving_without_limits() {
    let base = Protocol {
        max_attempts: 1,
        max_crashes: 1,
        ..small("publish, zombies", Bounds { expiries: 1, ..Bounds::default() })
    };
    let found = caught(&base, &[Shortcut::ResolverForgetsLimits], BOUNDED);
    let claims = found.actions.iter().filter(|action| matches!(action, Action::Claim { .. })).count();
    assert_eq!(claims, 2);
}
