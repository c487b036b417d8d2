//! Whatever the order in which the database steps of two or three operations
//! meet, one of them wins and nothing is half done.
//!
//! The operations are the engine's own, each in a process of its own as far as
//! Postgres can tell; a gate before Postgres holds their statements and lets
//! them pass one at a time, in every order that differs (see
//! [`explore`]). After each run the rows must agree with each other, and be
//! what some order one after the other leaves (see [`verdict`]).

mod explore;
mod footprint;
mod gate;
mod operation;
mod scenes;
mod stage;
mod verdict;

use explore::Orders;
use operation::Operation::{self, *};
use stage::Stage;
use verdict::InTurn;

/// More orders than any pair has.
const ALL: usize = 1_000;

/// Orders of three, for each that begins.
const SOME: usize = 10;

/// The orders of some operations, at most so many.
async fn meet(stage: &mut Stage, operations: &[Operation], most: usize) -> usize {
    let names: Vec<String> = operations.iter().map(|operation| operation.name()).collect();
    let what = names.join(" × ");
    let begun = std::time::Instant::now();
    let mut in_turn = InTurn::new(operations);
    let mut orders = Orders::default();
    let mut more = true;
    while more && orders.runs < most {
        let ended = stage.at_once(operations, &mut orders).await;
        if let Err(law) = in_turn.contains(stage, &ended).await {
            panic!("{what}: {law}\nin the order\n{}", orders.told(&names));
        }
        more = orders.next();
    }
    let Orders { runs, repeated, lost, .. } = orders;
    let left = if more { ", and there are more" } else { "" };
    tell(&format!("{what}: {runs} orders ({repeated} repeated, {lost} lost) in {:?}{left}", begun.elapsed()));
    // Of two that wait for one lock only the third's end lets Postgres choose.
    assert!(operations.len() > 2 || lost == 0, "{what}: the same beginning came to other points");
    orders.runs
}

#[expect(clippy::print_stdout, reason = "how much was run is what the exploration is worth")]
fn tell(line: &str) {
    println!("{line}");
}

/// All pairs of subjects, each with itself too, and of subjects and rivals.
/// `orders` is how many there were when the scene was last looked at: with
/// fewer, something is no longer explored.
async fn pairs(stage: &mut Stage, subjects: &[Operation], rivals: &[Operation], orders: usize) {
    let mut runs = 0;
    for (n, one) in subjects.iter().enumerate() {
        let others = [&subjects[n..], rivals].concat();
        runs += pairs_of(stage, *one, &others).await;
    }
    at_least(orders, runs);
}

/// One with each of the others.
async fn pairs_of(stage: &mut Stage, one: Operation, others: &[Operation]) -> usize {
    let mut runs = 0;
    for other in others {
        runs += meet(stage, &[one, *other], ALL).await;
    }
    runs
}

fn at_least(orders: usize, runs: usize) {
    tell(&format!("{runs} orders in all"));
    assert!(runs >= orders, "only {runs} orders, there were {orders}");
}

/// Three at once: some of the orders that begin with each.
async fn three(stage: &mut Stage, mut operations: [Operation; 3]) {
    for _ in 0..3 {
        let runs = meet(stage, &operations, SOME).await;
        assert!(runs > 6, "only {runs} orders: three that never meet have one, three steps that do have six");
        operations.rotate_left(1);
    }
}

/// Every operation, in one workflow in which all of them have something to do.
const EVERYTHING: [Operation; 12] = [
    Claim("ready"),
    Complete("runs"),
    Fail("runs"),
    Reap,
    Cancel,
    Approve("asked"),
    Edit("cleared"),
    Reject("cleared"),
    Intent("cleared"),
    Published("out"),
    Replay("broken"),
    Forbid,
];

/// Each of those between `from` and `to` meets all behind it.
async fn everything(from: usize, to: usize, orders: usize) {
    let mut stage = scenes::everything().await;
    let mut runs = 0;
    for n in from..to {
        runs += pairs_of(&mut stage, EVERYTHING[n], &EVERYTHING[n..]).await;
    }
    at_least(orders, runs);
    stage.strike().await;
}

// In two, so that two cores have something to do.
#[tokio::test]
async fn everything_meets_what_happens_to_a_step() {
    everything(0, 4, 265).await;
}

#[tokio::test]
async fn everything_meets_what_happens_to_a_post() {
    everything(4, EVERYTHING.len(), 298).await;
}

#[tokio::test]
async fn around_a_running_step() {
    let mut stage = scenes::running().await;
    pairs(&mut stage, &[Complete("runs"), Fail("runs"), Claim("runs")], &[Reap, Cancel], 57).await;
    three(&mut stage, [Complete("runs"), Reap, Cancel]).await;
    stage.strike().await;
}

#[tokio::test]
async fn around_a_step_that_was_taken_from_its_worker() {
    let mut stage = scenes::taken_back().await;
    pairs(&mut stage, &[Claim("runs"), Complete("runs"), Fail("runs")], &[Reap, Cancel], 24).await;
    three(&mut stage, [Claim("runs"), Complete("runs"), Reap]).await;
    stage.strike().await;
}

#[tokio::test]
async fn around_two_branches() {
    let mut stage = scenes::branches().await;
    pairs(&mut stage, &[Complete("left"), Complete("right"), Fail("right")], &[Reap, Cancel], 75).await;
    three(&mut stage, [Complete("left"), Complete("right"), Reap]).await;
    stage.strike().await;
}

#[tokio::test]
async fn around_a_dead_letter() {
    let mut stage = scenes::dead().await;
    pairs(&mut stage, &[Replay("broken"), Discard("broken"), Complete("broken")], &[Cancel], 53).await;
    three(&mut stage, [Replay("broken"), Discard("broken"), Cancel]).await;
    stage.strike().await;
}

#[tokio::test]
async fn around_a_question() {
    let mut stage = scenes::asked().await;
    let people = [Approve("post"), Refuse("post"), Edit("post"), EditAndApprove("post"), Reject("post")];
    pairs(&mut stage, &people, &[Cancel, Forbid], 191).await;
    three(&mut stage, [Approve("post"), Edit("post"), Cancel]).await;
    stage.strike().await;
}

#[tokio::test]
async fn around_a_post_that_is_about_to_be_sent() {
    let mut stage = scenes::cleared().await;
    let all = [Intent("post"), Edit("post"), EditAndApprove("post"), Reject("post")];
    pairs(&mut stage, &all, &[Cancel, Reap, Forbid, Claim("post")], 200).await;
    three(&mut stage, [Intent("post"), Edit("post"), Cancel]).await;
    three(&mut stage, [Intent("post"), Reject("post"), Reap]).await;
    stage.strike().await;
}

#[tokio::test]
async fn around_a_post_that_may_be_out() {
    let mut stage = scenes::out().await;
    let all = [Published("post"), NotSent("post"), Unsure("post")];
    pairs(&mut stage, &all, &[Reap, Cancel, Edit("post"), Reject("post"), Forbid], 93).await;
    three(&mut stage, [Published("post"), Reap, Cancel]).await;
    three(&mut stage, [NotSent("post"), Cancel, Edit("post")]).await;
    stage.strike().await;
}

/// A policy that begins to ask must not meet an edit that need not ask and a
/// publisher that has to, so that nobody is asked at all.
#[tokio::test]
async fn around_a_post_that_goes_out_by_itself() {
    let mut stage = scenes::free().await;
    pairs(&mut stage, &[Edit("post"), Intent("post"), Reject("post")], &[Tighten], 69).await;
    at_least(80, meet(&mut stage, &[Edit("post"), Tighten, Intent("post")], ALL).await);
    stage.strike().await;
}

#[tokio::test]
async fn around_a_post_of_which_nobody_knows() {
    let mut stage = scenes::unknown().await;
    let rivals = [Reap, Cancel, Reject("post")];
    pairs(&mut stage, &[Published("first")], &rivals, 6).await;
    // A claim is one worker's: it does not look twice at once.
    let others = [Published("first"), Reap, Cancel, Reject("post")];
    at_least(18, pairs_of(&mut stage, Intent("post"), &others).await);
    three(&mut stage, [Intent("post"), Published("first"), Reap]).await;
    stage.strike().await;
}

#[tokio::test]
async fn around_a_post_in_doubt() {
    let mut stage = scenes::in_doubt().await;
    pairs(&mut stage, &[FoundOut("post"), NotThere("post")], &[Cancel, Edit("post"), Published("post")], 54)
        .await;
    three(&mut stage, [FoundOut("post"), NotThere("post"), Cancel]).await;
    stage.strike().await;
}

#[tokio::test]
async fn around_the_last_place_of_a_day() {
    let mut stage = scenes::one_place().await;
    at_least(34, meet(&mut stage, &[Intent("post"), Intent("other")], ALL).await);
    at_least(10, meet(&mut stage, &[Intent("other"), Tighten], ALL).await);
    stage.strike().await;
}
