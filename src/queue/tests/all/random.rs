//! Random sequences of calls, given to the twin and to Redis: every answer
//! must be the same. This is what keeps the twin honest.

use std::sync::atomic::{AtomicU64, Ordering};

use galley_core::ticket::Ticket;
use galley_queue::{AgentControl, Controls, DispatchQueue, MemoryQueue, Popped, QueueDepth, Unbuilt};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::server::Server;
use crate::tickets::*;

#[derive(Debug, Clone)]
enum Op {
    Push(Vec<Ticket>),
    Pop { max: usize, late: bool, strict: bool },
    Claimed(Vec<Ticket>),
    Settle(Vec<Ticket>, Vec<Ticket>),
    GiveBack(Vec<Ticket>),
    Expire,
    Mirror(AgentControl, Vec<(u128, u32)>),
    Rebuild,
}

#[derive(Debug, PartialEq)]
enum Answer {
    Count(u64),
    Popped(Popped),
    Tickets(Vec<Ticket>),
    Nothing,
}

/// Few names, so that calls meet each other's tickets.
fn some_tickets() -> impl Strategy<Value = Vec<Ticket>> {
    vec((0u128..5, 0u128..12, 0u8..3).prop_map(|(of, n, priority)| urgent(of, n, priority * 4)), 0..12)
}

fn op() -> impl Strategy<Value = Op> {
    let control = (any::<bool>(), option::of(0u32..8), option::of(0u32..4), 0u64..3).prop_map(
        |(paused, all, each, version)| AgentControl {
            paused: paused && all.is_none(),
            max_running: all,
            max_running_per_workspace: each,
            version,
        },
    );
    prop_oneof![
        6 => some_tickets().prop_map(Op::Push),
        8 => (0usize..10, any::<bool>(), any::<bool>()).prop_map(|(max, late, strict)| Op::Pop { max, late, strict }),
        2 => some_tickets().prop_map(Op::Claimed),
        4 => (some_tickets(), some_tickets()).prop_map(|(done, next)| Op::Settle(done, next)),
        2 => some_tickets().prop_map(Op::GiveBack),
        2 => Just(Op::Expire),
        1 => (control, vec((0u128..5, 0u32..120), 0..4)).prop_map(|(control, weights)| Op::Mirror(control, weights)),
        1 => Just(Op::Rebuild),
    ]
}

async fn apply(queue: &dyn DispatchQueue, op: &Op, era: u64) -> (Answer, QueueDepth) {
    let answer = match op {
        Op::Push(tickets) => Answer::Count(queue.push(&for_writer(tickets)).await.unwrap()),
        Op::Pop { max, late, strict } => {
            let deadline = if *late { NOW } else { LATER };
            let unbuilt = if *strict { Unbuilt::Refuse } else { Unbuilt::Serve };
            Answer::Popped(queue.pop(&writer(), *max, deadline, unbuilt).await.unwrap())
        }
        Op::Claimed(tickets) => {
            let mut fresh = queue.claimed(&for_writer(tickets), LATER).await.unwrap();
            fresh.sort_unstable_by_key(|ticket| (ticket.workspace, ticket.member()));
            // Asked twice in one call, it may be answered twice.
            fresh.dedup();
            Answer::Tickets(fresh)
        }
        Op::Settle(done, next) => {
            Answer::Count(queue.settle(&for_writer(done), &for_writer(next)).await.unwrap())
        }
        Op::GiveBack(tickets) => {
            // Each once: a ticket cannot be given back twice in one call.
            let mut once = tickets.clone();
            once.sort_unstable_by_key(Ticket::member);
            once.dedup();
            queue.give_back(&writer(), &once).await.unwrap();
            Answer::Nothing
        }
        Op::Expire => Answer::Count(queue.expire(&writer(), 1_000).await.unwrap()),
        Op::Mirror(control, weights) => {
            let weights = weights.iter().map(|(of, weight)| (workspace(*of), *weight)).collect();
            let control = AgentControl { version: era + control.version, ..*control };
            queue.mirror(&Controls { agents: vec![(writer(), control)], weights }).await.unwrap();
            Answer::Nothing
        }
        Op::Rebuild => {
            let build = queue.begin_build(&[writer()]).await.unwrap();
            Answer::Count(queue.mark_built(&build).await.unwrap().len() as u64)
        }
    };
    (answer, queue.depths(&[writer()]).await.unwrap().remove(0))
}

#[test]
fn the_twin_and_redis_answer_alike() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    let server = Server::start();
    let redis = server.queue();
    let cases = std::env::var("GALLEY_RANDOM_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(100);
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    // Redis remembers the newest version of the case before.
    let eras = AtomicU64::new(0);
    proptest!(config, |(ops in vec(op(), 1..60))| {
        runtime.block_on(async {
            let era = eras.fetch_add(10, Ordering::Relaxed);
            reset(&*redis, era).await;
            let twin = MemoryQueue::new();
            // The two start alike: nothing built, nothing there. A rebuild
            // comes first, because Redis keeps it from the case before.
            for (step, op) in [Op::Rebuild].iter().chain(&ops).enumerate() {
                let (expected, found) = (apply(&twin, op, era).await, apply(&*redis, op, era).await);
                prop_assert_eq!(expected, found, "at call {}: {:?}", step, op);
            }
            Ok(())
        })?;
    });
}

/// Takes everything out of a queue that earlier cases have used.
async fn reset(queue: &dyn DispatchQueue, era: u64) {
    let control = AgentControl { version: era, ..AgentControl::default() };
    queue.mirror(&Controls { agents: vec![(writer(), control)], weights: vec![] }).await.unwrap();
    let every: Vec<Ticket> = (0..5)
        .flat_map(|of| (0..12).flat_map(move |n| (0..3).map(move |priority| urgent(of, n, priority * 4))))
        .collect();
    queue.settle(&for_writer(&every), &[]).await.unwrap();
}
