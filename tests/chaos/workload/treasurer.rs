//! Whoever has the money: a tenant's budget is small, and raised a little all
//! the time, so that its steps and posts race for the last cent of it.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use serde_json::{Value, json};

use crate::history::Ask;
use crate::world::{Answer, Request, World};

/// The tenant with a budget, by its place.
pub(super) const POOR: usize = 0;

/// What a post costs everybody, millionths of a US dollar.
pub const POST_MICROS: u64 = 300;

/// What the budget begins with.
const FIRST: u64 = 500;

/// How often the last raise is tried.
const TRIES: usize = 100;

/// Sets the first budget.
pub async fn set_first_budget(world: &World) -> Answer {
    set(world, json!(FIRST), 0).await
}

/// Raises it, again and again.
pub(super) async fn raise(world: Arc<World>) {
    let mut random = world.random(1_100);
    while world.pause(Duration::from_millis(random.random_range(400..1_400))).await {
        let Some((limit, version)) = look(&world).await else { continue };
        set(&world, json!(limit + random.random_range(200..1_600)), version).await;
    }
}

/// There is money for everything.
pub async fn lift_budget(world: &World) {
    for _ in 0..TRIES {
        if let Some((_, version)) = look(world).await
            && matches!(set(world, Value::Null, version).await, Answer::Done(_))
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn look(world: &World) -> Option<(u64, u64)> {
    let budget = world.ask(&world.tenants[POOR], Request::get("/v1/budget")).await.done()?;
    Some((budget["dayMicros"].as_u64().unwrap_or(0), budget["version"].as_u64()?))
}

/// Bound to the version that was looked at: a request that is heard late must
/// not take money back.
async fn set(world: &World, limit: Value, version: u64) -> Answer {
    let body = json!({ "dayMicros": limit, "monthMicros": null, "workflowMicros": null, "version": version });
    let ask = Ask::Other { action: "budget.set".into(), object: "budget".into() };
    world.op(&world.tenants[POOR], ask, Request::put("/v1/budget", body)).await
}
