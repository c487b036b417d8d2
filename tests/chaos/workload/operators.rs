//! Operators and admins: dead letters, queues, policies.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use serde_json::{Value, json};

use super::shapes::Policy;
use crate::agents::SCRIBE;
use crate::history::{Ask, Repair};
use crate::world::{Answer, Request, Tenant, World};

/// Replays and gives up dead letters, one by one and by filter.
pub(super) async fn repair(world: Arc<World>, place: usize) {
    let mut random = world.random(600 + place as u64);
    while world.pause(Duration::from_millis(random.random_range(600..2_000))).await {
        let tenant = &world.tenants[place];
        let Some(listed) = world.ask(tenant, Request::get("/v1/dead-letters?limit=20")).await.done() else {
            continue;
        };
        let letters = listed["items"].as_array().cloned().unwrap_or_default();
        if letters.is_empty() {
            continue;
        }
        if random.random_ratio(1, 8) {
            let how = if random.random() { Repair::Retry } else { Repair::Discard };
            let path =
                if how == Repair::Retry { "/v1/dead-letters/retry" } else { "/v1/dead-letters/discard" };
            let body = json!({ "agent": SCRIBE });
            world.op(tenant, Ask::Repair { how, tasks: Vec::new() }, Request::post(path, body)).await;
            continue;
        }
        let letter = &letters[random.random_range(0..letters.len())];
        let Some(task) = letter["taskId"].as_str() else { continue };
        let how = match random.random_range(0..4) {
            0 => Repair::Retry,
            1 if letter["agent"] != "publisher" => Repair::EditAndRetry,
            _ => Repair::Discard,
        };
        fix(&world, tenant, task, how).await;
    }
}

async fn fix(world: &World, tenant: &Tenant, task: &str, how: Repair) -> Answer {
    let path = format!("/v1/dead-letters/{task}");
    let request = match how {
        Repair::Retry => Request::post(format!("{path}/retry"), json!({})),
        Repair::EditAndRetry => {
            // The input it died with, but for what it was told to do.
            let detail = world.ask(tenant, Request::get(path.clone())).await;
            let Some(detail) = detail.done() else { return Answer::Unknown("no look".into()) };
            let mut input = detail["input"].clone();
            input["params"] = json!({ "slowMs": 1 });
            Request::post(format!("{path}/retry"), json!({ "input": input }))
        }
        Repair::Discard => Request::post(format!("{path}/discard"), json!({})),
    };
    world.op(tenant, Ask::Repair { how, tasks: vec![task.to_owned()] }, request).await
}

/// Changes a tenant's policy now and then.
pub(super) async fn govern(world: Arc<World>, place: usize) {
    let mut random = world.random(700 + place as u64);
    let policy = Policy::of(place);
    for changes in 1.. {
        if !world.pause(Duration::from_millis(random.random_range(2_500..6_000))).await {
            return;
        }
        let config = policy.config(changes, random.random_ratio(1, 3));
        set_policy(&world, &world.tenants[place], config).await;
    }
}

/// Sets a policy.
pub async fn set_policy(world: &World, tenant: &Tenant, config: Value) -> Answer {
    let request = Request::put("/v1/automation", config.clone());
    world.op(tenant, Ask::SetPolicy { config }, request).await
}

/// Pauses and resumes queues and changes their limits.
pub(super) async fn run_queues(world: Arc<World>) {
    let mut random = world.random(800);
    while world.pause(Duration::from_millis(random.random_range(6_000..14_000))).await {
        let tenant = &world.tenants[0];
        let agent = if random.random_ratio(1, 3) { "publisher" } else { SCRIBE };
        let queue = format!("/v1/queues/{agent}");
        if random.random() {
            let limit = json!({ "maxRunning": 8, "maxRunningPerWorkspace": 4 });
            other(&world, tenant, "queue.limit", agent, Request::post(format!("{queue}/limit"), limit)).await;
        } else {
            let why = json!({ "reason": "the harness pauses it" });
            other(&world, tenant, "queue.pause", agent, Request::post(format!("{queue}/pause"), why)).await;
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(300..1_500))).await;
        // Until it is heard: nothing may stay paused.
        for (action, body) in
            [("resume", json!({})), ("limit", json!({ "maxRunning": null, "maxRunningPerWorkspace": null }))]
        {
            for _ in 0..40 {
                let request = Request::post(format!("{queue}/{action}"), body.clone());
                let heard = other(&world, tenant, &format!("queue.{action}"), agent, request).await;
                if matches!(heard, Answer::Done(_)) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        }
    }
}

pub(super) async fn other(
    world: &World,
    tenant: &Tenant,
    action: &str,
    object: &str,
    request: Request,
) -> Answer {
    world.op(tenant, Ask::Other { action: action.into(), object: object.into() }, request).await
}
