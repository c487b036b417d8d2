//! Programs that submit workflows, and people who cancel some.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use rand::RngExt as _;
use serde_json::json;

use super::shapes;
use crate::history::Ask;
use crate::world::{Answer, Known, PATIENCE, Request, World};

/// Submits one workflow after the other; each until it is known what became of
/// it, as a careful client does.
pub(super) async fn produce(world: Arc<World>, producer: u64) {
    let mut random = world.random(100 + producer);
    for number in 0.. {
        if !world.pause(Duration::from_millis(random.random_range(100..900))).await {
            return;
        }
        let place = random.random_range(0..world.tenants.len());
        let tenant = &world.tenants[place];
        let serial = producer * 1_000_000 + number;
        let shape = shapes::draw(&mut random, tenant, serial);
        let key = format!("key-{serial}");
        let ask = |body| Ask::Submit { key: key.clone(), shape: shape.name.to_owned(), body };
        let request = |patience| Request {
            key: Some(key.clone()),
            patience,
            ..Request::post("/v1/workflows", shape.body.clone())
        };
        let told = match random.random_range(0..20) {
            // The same at once, many times.
            0 => {
                let all = (0..12).map(|_| world.op(tenant, ask(serial), request(PATIENCE)));
                join_all(all).await.into_iter().find(|answer| matches!(answer, Answer::Done(_)))
            }
            // A client that hangs up before it can know.
            1 | 2 => {
                world.fault("client gone");
                let patience = Duration::from_millis(random.random_range(1..25));
                Some(world.op(tenant, ask(serial), request(patience)).await)
            }
            _ => None,
        };
        let mut answer = told;
        let mut tries = 0;
        while !matches!(answer, Some(Answer::Done(_) | Answer::Refused(..))) {
            if tries > 0 && world.stop.is_cancelled() && tries > 60 {
                tracing::error!(key, "a submit stayed unknown");
                break;
            }
            if tries > 0 {
                tokio::time::sleep(Duration::from_millis(random.random_range(50..400))).await;
            }
            tries += 1;
            answer = Some(world.op(tenant, ask(serial), request(PATIENCE)).await);
        }
        let id = answer
            .and_then(Answer::done)
            .and_then(|told| told["workflowId"].as_str().and_then(|id| id.parse().ok()));
        if let Some(id) = id {
            world.known().push(Known { id, tenant: place, shape: shape.name });
        }
        // The same key for something else must be refused, whenever it comes.
        if random.random_ratio(1, 25) {
            let other =
                json!({ "definition": shape.body["definition"], "input": { "brief": tenant.canary } });
            let request = Request { key: Some(key.clone()), ..Request::post("/v1/workflows", other) };
            world.op(tenant, ask(serial + 500_000_000), request).await;
        }
    }
}

/// Cancels a workflow now and then, most of them young.
pub(super) async fn cancel(world: Arc<World>) {
    let mut random = world.random(200);
    while world.pause(Duration::from_millis(random.random_range(500..2_500))).await {
        let known = {
            let known = world.known();
            let from = known.len().saturating_sub(6);
            known.get(random.random_range(from..known.len().max(from + 1))).cloned()
        };
        let Some(known) = known else { continue };
        let tenant = &world.tenants[known.tenant];
        let path = format!("/v1/workflows/{}/cancel", known.id);
        for _ in 0..3 {
            let request = Request::post(path.clone(), json!({}));
            let answer = world.op(tenant, Ask::Cancel { workflow: known.id }, request).await;
            if !matches!(answer, Answer::Unknown(_)) {
                break;
            }
        }
    }
}
