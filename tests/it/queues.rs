//! The queue's promises as the engine keeps them: nothing is lost with Redis'
//! memory, what operators set binds, and no workspace starves another.

use std::collections::HashMap;
use std::sync::Arc;

use galley_core::ids::{AgentType, WorkspaceId};
use galley_engine::queue::flush_all;
use galley_engine::store::ControlChange;
use galley_engine::{forget_lost, rebuild};
use galley_servers::PrivateRedis;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::harness::{Agents, Bed, Latch, Setup, answer, request, retry, until};

fn echo() -> AgentType {
    AgentType::new("echo").unwrap()
}

/// A bed whose Redis may be emptied.
async fn own_redis() -> (PrivateRedis, Bed) {
    let redis = PrivateRedis::start_temporary().await.unwrap();
    let bed = Bed::with(Setup { redis_url: Some(redis.url()), ..Setup::default() }).await;
    (redis, bed)
}

async fn ready(bed: &Bed) -> u64 {
    bed.engine.queue().depths(&[echo()]).await.unwrap()[0].ready
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_queued_steps_survive_flushall() {
    let (redis, bed) = own_redis().await;
    bed.register(&Agents::echo()).await;
    bed.submit_many(bed.workspace, "echo", 10_000).await;
    assert_eq!(ready(&bed).await, 10_000);
    flush_all(&redis.url()).await.unwrap();
    assert_eq!(ready(&bed).await, 0);
    assert_eq!(rebuild(&bed.engine).await.unwrap(), 10_000);
    assert_eq!(ready(&bed).await, 10_000);
    assert_eq!(rebuild(&bed.engine).await.unwrap(), 0, "built is built");
    // Each can be dispatched, once.
    let mut popped = std::collections::HashSet::new();
    loop {
        let tickets = bed.engine.pop(&echo(), 1_000).await.unwrap().tickets;
        if tickets.is_empty() {
            break;
        }
        for ticket in tickets {
            assert!(popped.insert(ticket));
        }
    }
    assert_eq!(popped.len(), 10_000);
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_fleet_survives_flushall_again_and_again() {
    let (redis, mut bed) = own_redis().await;
    let agents = Agents::echo();
    bed.serve(&agents).await;
    bed.start_worker(&agents, 16).await;
    let steps = json!([{ "name": "a", "agent": "echo" }, { "name": "b", "agent": "echo" },
                       { "name": "c", "agent": "echo" }]);
    let mut flushes = 0;
    for _ in 0..10 {
        for _ in 0..20 {
            bed.submit(steps.clone(), Value::Null).await;
        }
        flush_all(&redis.url()).await.unwrap();
        flushes += 1;
    }
    bed.finish_all().await;
    assert_eq!(flushes, 10);
    assert_eq!(bed.count("SELECT count(*) FROM results").await, 600);
    assert_eq!(bed.count("SELECT count(*) FROM finished_runs WHERE state = 'succeeded'").await, 200);
    assert_eq!(agents.calls().len(), 600, "nobody died, so nothing ran twice");
    bed.end().await;
}

#[tokio::test]
async fn a_pause_survives_flushall_and_restarts() {
    let (mut redis, mut bed) = own_redis().await;
    let agents = Agents::echo();
    bed.serve(&agents).await;
    let pause = |paused| ControlChange {
        paused: Some((paused, "ada".into(), Some("maintenance".into()))),
        ..ControlChange::default()
    };
    bed.engine.control_agent(bed.workspace, &echo(), pause(true), "ada").await.unwrap();
    let key = bed.submit(json!([{ "name": "a", "agent": "echo" }]), Value::Null).await;
    flush_all(&redis.url()).await.unwrap();
    // Other engines read controls every two seconds; a new worker starts from
    // what Postgres says.
    redis.restart_empty().await.unwrap();
    bed.start_worker(&agents, 4).await;
    until("the queue is rebuilt and holds the pause", || async {
        let depths = bed.engine.queue().depths(&[echo()]).await;
        depths.is_ok_and(|depths| depths[0].paused && depths[0].built && depths[0].ready == 1)
    })
    .await;
    assert!(bed.engine.pop(&echo(), 10).await.unwrap().tickets.is_empty());
    assert!(agents.calls().is_empty());
    bed.engine.control_agent(bed.workspace, &echo(), pause(false), "ada").await.unwrap();
    bed.finish(key, galley_core::run::WorkflowState::Succeeded).await;
    assert_eq!(bed.audited().await, ["workspace.create", "queue.pause", "queue.resume"]);
    bed.end().await;
}

/// Two workers, two workspaces, limits, and Redis losing its memory while all
/// places are taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_hold_under_concurrency_and_after_flushall() {
    let (redis, mut bed) = own_redis().await;
    let permits = Arc::new(Semaphore::new(0));
    let leave = Arc::clone(&permits);
    let agents = Agents::default().with("busy", retry(3), move |_| {
        let leave = Arc::clone(&leave);
        async move {
            leave.acquire().await.unwrap().forget();
            answer(&Value::Null)
        }
    });
    bed.register(&agents).await;
    let busy = AgentType::new("busy").unwrap();
    let limit = ControlChange {
        max_running: Some(Some(5)),
        max_running_per_workspace: Some(Some(3)),
        ..ControlChange::default()
    };
    bed.engine.control_agent(bed.workspace, &busy, limit, "ada").await.unwrap();
    let other = bed.engine.create_workspace("other", 1, "test").await.unwrap().id;
    bed.submit_many(bed.workspace, "busy", 100).await;
    bed.submit_many(other, "busy", 100).await;
    bed.start_duties();
    bed.start_worker(&agents, 32).await;
    bed.start_worker(&agents, 32).await;
    for _ in 0..4 {
        until("every place is taken, to stay", async || {
            permits.available_permits() == 0 && agents.running("busy") == 5
        })
        .await;
        let over = bed.count("SELECT count(*) FROM finished_runs").await.unsigned_abs();
        flush_all(&redis.url()).await.unwrap();
        until("the queue is rebuilt with the places taken", async || {
            let depths = bed.engine.queue().depths(std::slice::from_ref(&busy)).await.unwrap();
            depths[0].built && (depths[0].in_flight, depths[0].ready) == (5, 195 - over)
        })
        .await;
        permits.add_permits(20);
    }
    permits.add_permits(120);
    bed.finish_all().await;
    let most = |workspace| agents.most_at_once("busy", workspace);
    assert!(most(None) <= 5, "{} at once, in all", most(None));
    assert!(most(Some(bed.workspace)) <= 3, "{} at once, of one", most(Some(bed.workspace)));
    assert!(most(Some(other)) <= 3, "{} at once, of the other", most(Some(other)));
    assert_eq!(agents.calls().len(), 200);
    bed.end().await;
}

/// A ticket can be popped twice: its deadline passed, or Redis was emptied. The
/// claim that comes too late must not free the place of the one in force.
#[tokio::test]
async fn a_late_claim_does_not_free_the_place_of_the_one_in_force() {
    let (redis, bed) = own_redis().await;
    bed.register(&Agents::echo()).await;
    let limit = ControlChange { max_running: Some(Some(1)), ..ControlChange::default() };
    bed.engine.control_agent(bed.workspace, &echo(), limit, "ada").await.unwrap();
    bed.submit_many(bed.workspace, "echo", 2).await;
    let session = bed.session().await;
    let first = bed.engine.pop(&echo(), 1).await.unwrap().tickets;
    assert_eq!(first.len(), 1);
    flush_all(&redis.url()).await.unwrap();
    rebuild(&bed.engine).await.unwrap();
    // Another worker takes the same step; then the first one's claim commits.
    let mut again = bed.engine.pop(&echo(), 1).await.unwrap().tickets;
    assert_eq!(again, first);
    let tickets = |tickets: &[_]| tickets.iter().map(|ticket| (echo(), *ticket)).collect::<Vec<_>>();
    let claimed = bed.engine.claim(&session, tickets(&first)).await.unwrap();
    assert_eq!(claimed.len(), 1);
    let other_process = bed.another_engine();
    let late = other_process.claim(&session, tickets(&again)).await.unwrap();
    assert!(late.is_empty());
    again = bed.engine.pop(&echo(), 1).await.unwrap().tickets;
    assert!(again.is_empty(), "one runs, and one is the limit");
    let report = galley_engine::Report::of(&claimed[0], 1, galley_engine::Outcome::GivenBack);
    bed.engine.complete(&[report]).await.unwrap();
    bed.engine.close_session(&session, "test").await.unwrap();
    bed.end().await;
}

/// A claim slower than its ticket's deadline, whose place another step took
/// meanwhile.
#[tokio::test]
async fn a_claim_that_comes_too_late_does_not_exceed_a_limit() {
    let bed = Bed::new().await;
    bed.register(&Agents::echo()).await;
    let limit = ControlChange { max_running: Some(Some(1)), ..ControlChange::default() };
    bed.engine.control_agent(bed.workspace, &echo(), limit, "ada").await.unwrap();
    bed.submit_many(bed.workspace, "echo", 1).await;
    let slow = bed.engine.pop(&echo(), 1).await.unwrap().tickets.remove(0);
    let mut urgent = request(json!([{ "name": "a", "agent": "echo" }]), Value::Null);
    urgent.priority = Some(0);
    bed.api.submit(&bed.context(), &urgent).await.unwrap();
    until("the slow one's ticket goes back", async || {
        bed.engine.queue().expire(&echo(), 10).await.unwrap() == 1
    })
    .await;
    let session = bed.session().await;
    let popped = bed.engine.pop(&echo(), 1).await.unwrap().tickets.remove(0);
    assert_ne!(popped, slow);
    let quick = bed.engine.claim(&session, vec![(echo(), popped)]).await.unwrap();
    assert_eq!(quick.len(), 1);
    let late = bed.engine.claim(&session, vec![(echo(), slow)]).await.unwrap();
    assert!(late.is_empty(), "one runs, and one is the limit");
    let depth = bed.engine.queue().depths(&[echo()]).await.unwrap().remove(0);
    assert_eq!((depth.in_flight, depth.ready), (1, 1));
    let report = galley_engine::Report::of(&quick[0], 1, galley_engine::Outcome::GivenBack);
    bed.engine.complete(&[report]).await.unwrap();
    let again = bed.claim_one(&session, "echo").await;
    assert_eq!(again.attempt, 1, "what did not start does not count");
    let report = galley_engine::Report::of(&again, 1, galley_engine::Outcome::GivenBack);
    bed.engine.complete(&[report]).await.unwrap();
    bed.engine.close_session(&session, "test").await.unwrap();
    bed.end().await;
}

#[tokio::test]
async fn one_step_does_not_wait_behind_a_busy_workspace() {
    let bed = Bed::new().await;
    bed.register(&Agents::echo()).await;
    let quiet = bed.engine.create_workspace("quiet", 1, "test").await.unwrap().id;
    bed.submit_many(bed.workspace, "echo", 2_000).await;
    // The busy one is being served when the quiet one's step comes.
    let mut place = 0;
    bed.engine.pop(&echo(), 500).await.unwrap();
    bed.submit_many(quiet, "echo", 1).await;
    'pops: loop {
        for ticket in bed.engine.pop(&echo(), 1).await.unwrap().tickets {
            place += 1;
            if ticket.workspace == quiet {
                break 'pops;
            }
        }
    }
    assert!(place <= 10, "it came {place}th");
    bed.end().await;
}

#[tokio::test]
async fn weights_share_out_the_pops() {
    let bed = Bed::new().await;
    bed.register(&Agents::echo()).await;
    let heavy = bed.engine.create_workspace("heavy", 3, "test").await.unwrap().id;
    // What operators set reaches Redis with the next mirror: here, at once.
    let nothing = ControlChange::default();
    bed.engine.control_agent(bed.workspace, &echo(), nothing, "ada").await.unwrap();
    bed.submit_many(bed.workspace, "echo", 200).await;
    bed.submit_many(heavy, "echo", 200).await;
    let mut shares: HashMap<WorkspaceId, i32> = HashMap::new();
    for ticket in bed.engine.pop(&echo(), 80).await.unwrap().tickets {
        *shares.entry(ticket.workspace).or_default() += 1;
    }
    assert!((58..=62).contains(&shares[&heavy]), "{shares:?}");
    assert_eq!(shares.values().sum::<i32>(), 80);
    bed.end().await;
}

/// Suspects run with fewer neighbours; the last try runs alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_are_claimed_only_when_they_can_start() {
    let mut bed = Bed::new().await;
    let release = Latch::closed();
    let latch = release.clone();
    let agents = Agents::default().with("slow", retry(3), move |_| {
        let latch = latch.clone();
        async move {
            latch.passed().await;
            answer(&Value::Null)
        }
    });
    bed.register(&agents).await;
    bed.submit_many(bed.workspace, "slow", 20).await;
    bed.start_duties();
    bed.start_worker(&agents, 3).await;
    until("it is full", || async { agents.running("slow") == 3 }).await;
    // A second worker finds the rest: nothing is prefetched.
    bed.start_worker(&agents, 17).await;
    until("all run", || async { agents.running("slow") == 20 }).await;
    release.open();
    bed.finish_all().await;
    assert_eq!(agents.calls().len(), 20);
    bed.end().await;
}

/// A worker that dies between its commit and its call to Redis leaves a ticket
/// in flight that nobody else would forget: under a limit, a place is gone.
#[tokio::test]
async fn a_place_whose_release_never_reached_redis_is_free_again() {
    let (_redis, bed) = own_redis().await;
    bed.register(&Agents::echo()).await;
    let over = bed.submit(json!([{ "name": "a", "agent": "echo" }]), Value::Null).await;
    let lost = bed.engine.pop(&echo(), 1).await.unwrap().tickets;
    bed.api.cancel(over, "ada").await.unwrap();
    // As if the cancel's own call had not been heard.
    let lost: Vec<_> = lost.into_iter().map(|ticket| (echo(), ticket)).collect();
    bed.engine.queue().claimed(&lost, std::time::Duration::from_secs(600)).await.unwrap();
    // One that was only popped, and one that runs, keep their places.
    bed.submit_many(bed.workspace, "echo", 2).await;
    let held = bed.engine.pop(&echo(), 2).await.unwrap().tickets;
    assert_eq!(held.len(), 2);
    let session = bed.session().await;
    let runs: Vec<_> = held[..1].iter().map(|ticket| (echo(), *ticket)).collect();
    let claimed = bed.engine.claim(&session, runs).await.unwrap();
    assert_eq!(claimed.len(), 1);
    let in_flight = async || bed.engine.queue().depths(&[echo()]).await.unwrap()[0].in_flight;
    assert_eq!(in_flight().await, 3);
    assert_eq!(forget_lost(&bed.engine).await.unwrap(), 1);
    assert_eq!(in_flight().await, 2);
    assert_eq!(forget_lost(&bed.engine).await.unwrap(), 0);
    let report = galley_engine::Report::of(&claimed[0], 1, galley_engine::Outcome::GivenBack);
    bed.engine.complete(&[report]).await.unwrap();
    bed.engine.close_session(&session, "test").await.unwrap();
    bed.end().await;
}
