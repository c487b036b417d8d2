//! What a step costs Redis on its way through the queue (push, pop, claimed,
//! done), by batch and by number of workspaces, and what a ready ticket weighs.
//!
//! `cargo run --release -p galley-queue --example queue_cost -- redis://…`
//! The CPU figure is Redis' own (`INFO cpu`), so an otherwise idle server is
//! needed. It uses keys of a prefix of its own and leaves them behind empty.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program for the terminal that may just stop")]

use std::time::{Duration, Instant};

use galley_core::ids::{AgentType, WorkflowId, WorkspaceId};
use galley_core::ticket::{DEFAULT_PRIORITY, Ticket};
use galley_queue::{AgentControl, Controls, DispatchQueue, RedisConfig, RedisQueue, Unbuilt};
use uuid::Uuid;

const STEPS: usize = 50_000;
const LATER: Duration = Duration::from_secs(3600);

#[tokio::main]
async fn main() {
    let url = std::env::args().nth(1).expect("the address of a Redis as the first argument");
    let queue = RedisQueue::new(RedisConfig::new(&url).with_prefix("galley-cost")).unwrap();
    let agent = AgentType::new("cost").unwrap();
    println!(
        "{:>6} {:>11} {:>8} {:>13} {:>13}",
        "batch", "workspaces", "limits", "Redis us/step", "wall us/step"
    );
    for limited in [false, true] {
        let limit = limited.then_some(1_000_000);
        let control =
            AgentControl { max_running: limit, max_running_per_workspace: limit, ..AgentControl::default() };
        let build = queue.begin_build(std::slice::from_ref(&agent)).await.unwrap();
        queue.mirror(&Controls { agents: vec![(agent.clone(), control)], weights: vec![] }).await.unwrap();
        queue.mark_built(&build).await.unwrap();
        let unbuilt = if limited { Unbuilt::Refuse } else { Unbuilt::Serve };
        for batch in [1, 10, 100, 500] {
            for workspaces in [1, 10, 100] {
                let steps = if batch == 1 { STEPS / 10 } else { STEPS };
                let all: Vec<_> = (0..steps).map(|n| (agent.clone(), ticket(n % workspaces))).collect();
                let (cpu, wall) = (cpu(&url).await, Instant::now());
                for some in all.chunks(batch) {
                    queue.push(some).await.unwrap();
                    let popped = queue.pop(&agent, batch, LATER, unbuilt).await.unwrap().tickets;
                    assert_eq!(popped.len(), some.len());
                    let popped: Vec<_> = popped.into_iter().map(|ticket| (agent.clone(), ticket)).collect();
                    queue.claimed(&popped, LATER).await.unwrap();
                    queue.settle(&popped, &[]).await.unwrap();
                }
                let each = |seconds: f64| seconds * 1e6 / steps as f64;
                println!(
                    "{batch:>6} {workspaces:>11} {limited:>8} {:>13.2} {:>13.2}",
                    each(self::cpu(&url).await - cpu),
                    each(wall.elapsed().as_secs_f64())
                );
            }
        }
    }

    let before = memory(&url).await;
    let all: Vec<_> = (0..STEPS).map(|n| (agent.clone(), ticket(n % 10))).collect();
    let (cpu, wall) = (cpu(&url).await, Instant::now());
    queue.push(&all).await.unwrap();
    println!(
        "\n{STEPS} pushed at once over 10 workspaces: {:.2} us of Redis and {:.2} us of wall time each, {:.0} bytes per ready ticket",
        (self::cpu(&url).await - cpu) * 1e6 / STEPS as f64,
        wall.elapsed().as_secs_f64() * 1e6 / STEPS as f64,
        (memory(&url).await - before) / STEPS as f64
    );
    let (cpu, mut left) = (self::cpu(&url).await, all.len());
    while left > 0 {
        let popped = queue.pop(&agent, 100, LATER, Unbuilt::Serve).await.unwrap().tickets;
        left -= popped.len();
        let popped: Vec<_> = popped.into_iter().map(|ticket| (agent.clone(), ticket)).collect();
        queue.settle(&popped, &[]).await.unwrap();
    }
    println!(
        "drained by batches of 100: {:.2} us of Redis each",
        (self::cpu(&url).await - cpu) * 1e6 / STEPS as f64
    );
}

fn ticket(workspace: usize) -> Ticket {
    Ticket {
        workspace: WorkspaceId(Uuid::from_u128((workspace as u128 + 1) << 90)),
        workflow: WorkflowId(Uuid::now_v7()),
        step: 3,
        epoch: 5,
        crashes: 0,
        priority: DEFAULT_PRIORITY,
    }
}

/// A number from `INFO`.
async fn info(url: &str, section: &str, field: &str) -> f64 {
    let client = redis::Client::open(url).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let text: String = redis::cmd("INFO").arg(section).query_async(&mut connection).await.unwrap();
    text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap().trim().parse().unwrap()
}

async fn cpu(url: &str) -> f64 {
    info(url, "cpu", "used_cpu_user").await + info(url, "cpu", "used_cpu_sys").await
}

async fn memory(url: &str) -> f64 {
    info(url, "memory", "used_memory").await
}
