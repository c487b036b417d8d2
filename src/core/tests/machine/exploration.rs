//! Small worlds, explored to the last state: tickets, reports and timers late
//! and twice, sessions that die, operators at any moment.

use galley_core::run::WorkflowState::{self, Cancelled, Failed, Running, Stalled, Succeeded, Waiting};

use crate::explorer::{Seen, explore};
use crate::shapes::{ONE_TRY, TWO_TRIES, plan_with};
use crate::world::Budget;
use galley_core::retry::RetryPolicy;

const NOTHING: Budget = Budget::NOTHING;
const FAILING: Budget = Budget { transients: 1, permanents: 1, ..NOTHING };
const REPAIRED: Budget = Budget { permanents: 1, replays: 1, ..NOTHING };

/// Explores a world. `least` states guard against a world that shrank to
/// nothing unseen; `states` are all the workflow was ever seen in.
pub(crate) fn world(
    shape: &str,
    retry: &RetryPolicy,
    budget: Budget,
    least: usize,
    states: &[WorkflowState],
) {
    let seen = explore(&plan_with(shape, retry), budget, |_| {});
    told(shape, &seen, least, states);
}

/// Holds what was seen to what should be: see [`world`].
#[expect(clippy::print_stdout, reason = "how much was looked at is what an exploration is worth")]
pub(crate) fn told(shape: &str, seen: &Seen, least: usize, states: &[WorkflowState]) {
    println!("{shape}: {} states, {} moves, {} events offered", seen.states, seen.moves, seen.offered);
    for state in WorkflowState::ALL {
        let ends = seen.ends.contains_key(&state);
        assert_eq!(ends, states.contains(&state), "{shape}: ever {}", state.word());
    }
    assert!(seen.states >= least, "{shape}: only {} states", seen.states);
}

/// Every state but `waiting`, which is for steps that wait for a person or a
/// post's slot: see posts.rs.
const ALL: [WorkflowState; 5] = [Running, Stalled, Succeeded, Failed, Cancelled];

#[test]
fn a_chain_of_two_meets_everything() {
    let most =
        Budget { mortals: 1, give_backs: 1, throttles: 1, overdues: 1, replays: 1, cancels: 1, ..FAILING };
    world("a b<a", &TWO_TRIES, most, 20_000, &ALL);
}

#[test]
fn tries_and_crashes_are_used_up() {
    let often = Budget { mortals: 2, transients: 2, overdues: 1, replays: 1, ..NOTHING };
    world("a", &TWO_TRIES, Budget { cancels: 1, give_backs: 1, throttles: 1, ..often }, 5_000, &ALL);
    world("a b<a", &ONE_TRY, often, 200, &[Running, Stalled, Failed, Succeeded]);
}

/// It waits for money as it would for a person: nothing but money, a cancel or
/// its own end gets it going.
#[test]
fn a_step_without_money_waits_for_it() {
    const WITH_WAITING: [WorkflowState; 6] = [Running, Waiting, Stalled, Succeeded, Failed, Cancelled];
    let poor = Budget { unfundeds: 2, mortals: 1, cancels: 1, replays: 1, ..FAILING };
    world("a b<a", &TWO_TRIES, poor, 5_000, &WITH_WAITING);
    world(
        "a b<a c<a d<b,c",
        &TWO_TRIES,
        Budget { unfundeds: 2, ..NOTHING },
        100,
        &[Running, Waiting, Succeeded],
    );
    world(
        "a",
        &TWO_TRIES,
        Budget { unfundeds: 1, restores: 1, ..NOTHING },
        50,
        &[Running, Waiting, Succeeded],
    );
}

#[test]
fn longer_chains() {
    world("a b<a c<b", &TWO_TRIES, Budget { mortals: 1, cancels: 1, replays: 1, ..FAILING }, 1_000, &ALL);
    world("a b<a c<b d<c", &TWO_TRIES, Budget { give_backs: 1, cancels: 1, ..FAILING }, 500, &ALL);
}

#[test]
fn a_diamond_joins_once() {
    world(
        "a b<a c<a d<b,c",
        &TWO_TRIES,
        Budget { mortals: 1, replays: 1, ..FAILING },
        3_000,
        &[Running, Stalled, Failed, Succeeded],
    );
    world(
        "a b<a c<a d<b,c",
        &TWO_TRIES,
        Budget { cancels: 1, overdues: 1, give_backs: 1, ..NOTHING },
        500,
        &[Running, Cancelled, Succeeded],
    );
}

#[test]
fn an_expansion_joins_once_whatever_its_size() {
    let most = Budget { mortals: 1, replays: 1, cancels: 1, ..FAILING };
    world("a b*0<a c<b", &TWO_TRIES, most, 400, &ALL);
    world("a b*1<a c<b", &TWO_TRIES, most, 1_000, &ALL);
    world("a b*2<a c<b", &TWO_TRIES, most, 1_000, &ALL);
    world(
        "b*3 c<b",
        &TWO_TRIES,
        Budget { mortals: 1, replays: 1, ..FAILING },
        1_000,
        &[Running, Stalled, Failed, Succeeded],
    );
    world("a b*2<a c*1<a d<b,c", &TWO_TRIES, REPAIRED, 200, &[Running, Stalled, Failed, Succeeded]);
}

#[test]
fn a_condition_about_elements_leaves_some_out() {
    let most = Budget { mortals: 1, replays: 1, cancels: 1, ..FAILING };
    world("a b*3%<a c<b", &TWO_TRIES, most, 1_000, &ALL);
    world("a b*1%<a c~<b d<c", &TWO_TRIES, Budget { cancels: 1, ..REPAIRED }, 25, &ALL);
    world("b*2% c<b", &TWO_TRIES, REPAIRED, 15, &[Running, Stalled, Failed, Succeeded]);
    world("a b*2&<a c<b", &TWO_TRIES, Budget { replays: 2, cancels: 1, ..REPAIRED }, 50, &ALL);
}

#[test]
fn an_optional_step_lets_the_others_go_on() {
    world(
        "a b?<a c<b",
        &TWO_TRIES,
        Budget { transients: 2, mortals: 1, ..REPAIRED },
        1_500,
        &[Running, Stalled, Failed, Succeeded],
    );
    world("a? b?<a", &ONE_TRY, Budget { transients: 2, permanents: 2, ..NOTHING }, 10, &[Running, Succeeded]);
    world(
        "b?*2 c<b",
        &ONE_TRY,
        Budget { transients: 2, ..NOTHING },
        25,
        &[Running, Stalled, Failed, Succeeded],
    );
}

#[test]
fn a_false_condition_skips_and_may_cascade() {
    world("a b!<a c~<b d<c", &TWO_TRIES, Budget { cancels: 1, ..REPAIRED }, 25, &ALL);
    world("a! b~<a", &TWO_TRIES, Budget { cancels: 1, ..REPAIRED }, 1, &[Succeeded]);
    world("a b?<a c~<b d<c", &ONE_TRY, REPAIRED, 30, &[Running, Stalled, Failed, Succeeded]);
}

#[test]
fn what_cannot_be_evaluated_dies_and_is_repaired() {
    world("a b#<a c<b", &TWO_TRIES, Budget { replays: 2, cancels: 1, ..REPAIRED }, 50, &ALL);
    world("a b*4<a c<b", &TWO_TRIES, Budget { replays: 2, ..NOTHING }, 5, &[Running, Stalled, Failed]);
    world("a b?*x<a c<b", &TWO_TRIES, NOTHING, 5, &[Running, Succeeded]);
}

#[test]
fn two_letters_are_repaired_each_by_itself() {
    world(
        "a b<a c<a d<b,c",
        &ONE_TRY,
        Budget { permanents: 2, replays: 2, cancels: 1, ..NOTHING },
        300,
        &ALL,
    );
    world("a*2 b<a", &ONE_TRY, Budget { permanents: 2, replays: 1, cancels: 1, ..NOTHING }, 100, &ALL);
}

/// After a restore an epoch comes back, and the worker that held it before is
/// still there: only the nonce tells them apart.
#[test]
fn a_database_restored_to_an_older_point_takes_no_report_from_the_future() {
    world(
        "a b<a",
        &TWO_TRIES,
        Budget { restores: 1, mortals: 1, transients: 1, ..NOTHING },
        1_000,
        &[Running, Succeeded],
    );
}
