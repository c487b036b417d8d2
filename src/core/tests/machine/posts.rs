//! Small worlds of steps that wait for a person or send a post, explored to
//! the last state: everything of `exploration.rs`, and people, slots and
//! outcomes nobody knows.

use std::collections::BTreeSet;

use galley_core::decide::{Event, Settlement};
use galley_core::run::WorkflowState::{self, Cancelled, Failed, Running, Stalled, Succeeded, Waiting};
use galley_core::run::{Run, StepState};

use crate::exploration::{told, world};
use crate::explorer::explore;
use crate::shapes::{LEASE, ONE_TRY, SLOT_MS, TWO_TRIES, accepted, claim, happen, plan, plan_with};
use crate::words::word;
use crate::world::Budget;

const NOTHING: Budget = Budget::NOTHING;
const ALL: [WorkflowState; 6] = [Running, Waiting, Stalled, Succeeded, Failed, Cancelled];

/// What a post can meet before it is sent, after it, and what nobody knows.
const PEOPLE: Budget = Budget { holds: 1, amends: 1, withdraws: 1, ..NOTHING };
const OUTCOMES: Budget = Budget { unsures: 1, doubts: 1, transients: 1, ..NOTHING };

/// (state, intent, event): where what is accepted for a post that may be out
/// or wait for a person, and is said of no other step.
type Table = BTreeSet<(StepState, bool, &'static str)>;

/// The whole table of what is accepted where; everything else is refused.
#[test]
fn a_post_meets_everything_at_any_moment() {
    use StepState::{Dead, InDoubt, Queued, Running as Runs, Scheduled, Unknown, WaitingApproval};
    let worlds = [
        // Before it is sent, while it is, and afterwards.
        Budget { mortals: 1, cancels: 1, postpones: 1, permanents: 1, replays: 1, ..PEOPLE },
        Budget { mortals: 1, cancels: 1, holds: 1, permanents: 1, ..OUTCOMES },
        Budget { give_backs: 1, throttles: 1, overdues: 1, cancels: 1, amends: 1, withdraws: 1, ..OUTCOMES },
    ];
    let plan = plan_with("a^", &TWO_TRIES);
    let mut table = Table::new();
    for budget in worlds {
        let seen = explore(&plan, budget, |step| {
            if step.event.step().is_some() {
                let post = &step.before.steps[0];
                table.insert((post.state, post.intent, word(step.event)));
            }
        });
        told("a^", &seen, 2_500, &ALL);
    }
    let whenever = ["edit or reschedule", "edit, to be approved", "reject or expire"];
    let unsent = ["intent", "needs an approval", "not yet"];
    let sent = ["sent once more", "unknown outcome", "cannot be found out"];
    let ends = ["transient failure", "throttled", "permanent failure", "given back", "lease lost", "overdue"];
    let people = ["a person found it", "a person wants it sent again", "a person gave it up"];
    let expected: Table = [
        (Queued, false, vec!["claim", "needs a go"]),
        (Queued, false, whenever.into()),
        (Queued, true, vec!["claim"]),
        (Runs, false, unsent.into()),
        (Runs, false, ends.into()),
        (Runs, false, whenever.into()),
        (Runs, true, vec!["success"]),
        (Runs, true, sent.into()),
        (Runs, true, ends.into()),
        (Scheduled, false, vec!["due"]),
        (Scheduled, false, whenever.into()),
        (WaitingApproval, false, vec!["approve"]),
        (WaitingApproval, false, whenever.into()),
        (Dead, false, vec!["replay", "discard"]),
        (Dead, false, whenever.into()),
        (Unknown, true, vec!["due"]),
        (InDoubt, true, people.into()),
    ]
    .into_iter()
    .flat_map(|(state, intent, words)| words.into_iter().map(move |word| (state, intent, word)))
    .collect();
    let more: Vec<_> = table.difference(&expected).collect();
    let less: Vec<_> = expected.difference(&table).collect();
    assert!(more.is_empty() && less.is_empty(), "accepted as well: {more:?}; never accepted: {less:?}");
}

#[test]
fn a_post_is_cancelled_only_before_it_may_be_out() {
    let lost = Budget { mortals: 2, cancels: 1, ..OUTCOMES };
    world("a^", &TWO_TRIES, lost, 500, &ALL);
}

#[test]
fn an_ordinary_step_waits_for_its_go() {
    let manual =
        Budget { holds: 2, withdraws: 1, cancels: 1, mortals: 1, permanents: 1, replays: 1, ..NOTHING };
    world("a b<a", &TWO_TRIES, manual, 2_000, &ALL);
}

#[test]
fn posts_among_other_steps() {
    world(
        "a b^<a",
        &TWO_TRIES,
        Budget { cancels: 1, mortals: 1, unsures: 1, permanents: 1, ..PEOPLE },
        1_000,
        &ALL,
    );
    world("a^ b<a", &TWO_TRIES, Budget { cancels: 1, permanents: 1, ..PEOPLE }, 500, &ALL);
    world(
        "a?^ b<a",
        &ONE_TRY,
        Budget { doubts: 1, permanents: 1, ..PEOPLE },
        500,
        &[Running, Waiting, Stalled, Succeeded, Failed],
    );
}

/// A post that is rejected, in doubt or dead leaves its siblings alone.
#[test]
fn siblings_go_each_its_own_way() {
    world(
        "a^ b^",
        &TWO_TRIES,
        Budget { holds: 2, withdraws: 1, doubts: 1, permanents: 1, cancels: 1, ..NOTHING },
        1_000,
        &ALL,
    );
    world(
        "a^*2",
        &TWO_TRIES,
        Budget { mortals: 1, unsures: 1, doubts: 1, permanents: 1, cancels: 1, ..NOTHING },
        1_000,
        &ALL,
    );
}

/// After a restore an epoch comes back together with its tickets, timers and
/// tokens of the future: the nonce tells them apart, before and after an intent.
#[test]
fn a_database_restored_to_an_older_point_takes_no_word_from_the_future() {
    let restored = Budget { restores: 1, mortals: 1, unsures: 1, holds: 1, ..NOTHING };
    world("a^", &TWO_TRIES, restored, 2_000, &[Running, Waiting, Succeeded]);
}

#[test]
fn a_waiting_workflow_waits_for_a_person_a_slot_or_the_truth() {
    let plan = plan("a^*2");
    let mut run = accepted(&plan);
    // One child waits for a person, the other for its slot.
    let token = claim(&plan, &mut run, 1);
    happen(&plan, &mut run, Event::Held { token }).unwrap();
    assert_eq!(run.state(&plan), Running);
    let token = claim(&plan, &mut run, 2);
    happen(&plan, &mut run, Event::Postponed { token, delay_ms: SLOT_MS }).unwrap();
    assert_eq!(run.state(&plan), Waiting);
    // A cancel leaves nothing but a post that may be out.
    let epoch = run.step(2).unwrap().epoch;
    happen(&plan, &mut run, Event::Due { step: 2, epoch }).unwrap();
    let token = claim(&plan, &mut run, 2);
    happen(&plan, &mut run, Event::Intent { token }).unwrap();
    happen(&plan, &mut run, Event::Cancel).unwrap();
    happen(&plan, &mut run, Event::LeaseLost { step: 2, session: LEASE.session }).unwrap();
    assert_eq!(run.step(1).unwrap().state, StepState::Cancelled);
    assert_eq!(run.step(2).unwrap().state, StepState::Unknown);
    assert_eq!(run.state(&plan), Running);
    let epoch = run.step(2).unwrap().epoch;
    happen(&plan, &mut run, Event::Due { step: 2, epoch }).unwrap();
    let token = claim(&plan, &mut run, 2);
    happen(&plan, &mut run, Event::Doubted { token }).unwrap();
    assert_eq!(run.state(&plan), Waiting);
    happen(&plan, &mut run, Event::Settled { step: 2, how: Settlement::NotThere }).unwrap();
    assert_eq!(run.step(2).unwrap().state, StepState::Cancelled);
    assert_eq!(run.state(&plan), Cancelled);
}

#[test]
fn only_marked_runs_are_stored_in_the_marked_format() {
    let plan = plan("a^");
    let mut run = accepted(&plan);
    assert_eq!(run.encode()[0], 1, "a worker one release older reads it");
    let token = claim(&plan, &mut run, 0);
    assert_eq!(run.encode()[0], 1);
    happen(&plan, &mut run, Event::Intent { token }).unwrap();
    let bytes = run.encode();
    assert_eq!(bytes[0], 2);
    for end in 0..bytes.len() {
        assert!(Run::decode(&bytes[..end]).is_err(), "{end} bytes of {}", bytes.len());
    }
}
