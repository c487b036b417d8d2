//! Those who let workflows recur: schedules that run each minute and whenever a
//! person wants it, are paused, changed, and removed.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use serde_json::{Value, json};

use super::operators::other;
use super::shapes;
use crate::agents::SCRIBE;
use crate::history::Ask;
use crate::world::{Answer, Known, Request, World};

/// What the one schedule of each tenant is called.
const NAME: &str = "often";

/// Keeps a tenant's schedule.
pub(super) async fn keep(world: Arc<World>, place: usize) {
    let mut random = world.random(1_400 + place as u64);
    let tenant = &world.tenants[place];
    let one = format!("/v1/schedules/{NAME}");
    for number in 0_u64.. {
        // The first is there before the first minute is over.
        let wait = if number == 0 { 0 } else { random.random_range(1_500..4_500) };
        if !world.pause(Duration::from_millis(wait)).await {
            return;
        }
        // Whether it is there is found out by asking.
        match random.random_range(0..if number == 0 { 1 } else { 12 }) {
            0 => {
                let body =
                    json!({ "name": NAME, "cron": "* * * * *", "submit": what(&world, place, number) });
                other(&world, tenant, "schedule.add", NAME, Request::post("/v1/schedules", body)).await;
            }
            1 => {
                let body = json!({ "cron": "* * * * *", "submit": what(&world, place, number) });
                other(&world, tenant, "schedule.set", NAME, Request::put(one.clone(), body)).await;
            }
            2 => {
                let remove = Request::delete(one.clone());
                other(&world, tenant, "schedule.remove", NAME, remove).await;
                let body =
                    json!({ "name": NAME, "cron": "* * * * *", "submit": what(&world, place, number) });
                other(&world, tenant, "schedule.add", NAME, Request::post("/v1/schedules", body)).await;
            }
            3 | 4 => {
                let pause = Request::post(format!("{one}/pause"), json!({}));
                other(&world, tenant, "schedule.pause", NAME, pause).await;
                tokio::time::sleep(Duration::from_millis(random.random_range(0..2_500))).await;
                let resume = Request::post(format!("{one}/resume"), json!({}));
                other(&world, tenant, "schedule.resume", NAME, resume).await;
            }
            _ => run_now(&world, place, number).await,
        }
    }
}

/// Runs it now; again, with the same key, when nobody knows whether it was heard.
async fn run_now(world: &World, place: usize, number: u64) {
    let tenant = &world.tenants[place];
    let key = format!("now-{place}-{number}");
    for _ in 0..4 {
        let ask = Ask::Submit { key: key.clone(), shape: "schedule".into(), body: number };
        let run = Request::post(format!("/v1/schedules/{NAME}/run"), json!({}));
        match world.op(tenant, ask, Request { key: Some(key.clone()), ..run }).await {
            Answer::Done(told) => {
                if let Some(id) = told["workflowId"].as_str().and_then(|id| id.parse().ok()) {
                    world.known().push(Known { id, tenant: place, shape: "schedule" });
                }
                return;
            }
            Answer::Refused(..) => return,
            Answer::Unknown(_) => tokio::time::sleep(Duration::from_millis(150)).await,
        }
    }
}

/// What it submits.
fn what(world: &World, place: usize, number: u64) -> Value {
    let brief = format!("often {number} {}", world.tenants[place].canary);
    let steps = json!([
        { "name": "one", "agent": SCRIBE, "needs": [], "input": { "slowMs": 50, "text": brief } },
        { "name": "two", "agent": SCRIBE, "needs": ["one"] },
        shapes::publish_of("one", "idempotent"),
    ]);
    json!({ "definition": { "name": "often", "steps": steps }, "input": { "brief": brief } })
}
