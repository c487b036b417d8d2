//! Programs that submit workflows, and people who cancel some.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;

use super::shapes::{self, Desk, Shape};
use crate::history::Ask;
use crate::world::{Answer, Known, PATIENCE, Request, World};

/// Numbers of one producer's workflows; the next producer's begin behind them.
const NUMBERS: u64 = 1_000_000;

/// Queued steps that are enough to be getting on with.
const ENOUGH: u64 = 25;

/// Submits one workflow after the other, of all kinds.
pub(super) async fn produce(world: Arc<World>, producer: u64) {
    let mut random = world.random(100 + producer);
    for number in 0.. {
        if !world.pause(Duration::from_millis(random.random_range(100..900))).await {
            return;
        }
        // A fleet that is behind is not buried: what is submitted last shall
        // meet faults, too, and the rest come to an end.
        if world.backlog() > ENOUGH {
            continue;
        }
        let place = random.random_range(0..world.tenants.len());
        let serial = producer * NUMBERS + number;
        let shape = shapes::draw(&mut random, &world.tenants[place], serial);
        submit(&world, place, serial, &shape, &mut random).await;
    }
}

/// Submits one kind of workflow at a steady rate, so many at once: what a run
/// must have seen does not wait for the dice.
pub(super) async fn repeat(world: Arc<World>, producer: u64, desk: &'static Desk) {
    let mut random = world.random(100 + producer);
    let mut first = true;
    for number in 0.. {
        let wait = if first { random.random_range(0..1_500) } else { desk.every_ms };
        first = false;
        if !world.pause(Duration::from_millis(wait)).await {
            return;
        }
        if world.backlog() > 2 * ENOUGH {
            continue;
        }
        let place = desk.places[random.random_range(0..desk.places.len())];
        let mut dice: Vec<StdRng> = (0..desk.at_once).map(|_| StdRng::from_rng(&mut random)).collect();
        let all = dice.iter_mut().zip(0..).map(|(random, part)| {
            let serial = producer * NUMBERS + number * 100 + part;
            let shape = shapes::make(desk.shape, random, &world.tenants[place], serial);
            let world = &world;
            async move { submit(world, place, serial, &shape, random).await }
        });
        join_all(all).await;
    }
}

/// Submits a workflow until it is known what became of it, as a careful client
/// does.
async fn submit(world: &World, place: usize, serial: u64, shape: &Shape, random: &mut StdRng) {
    let tenant = &world.tenants[place];
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
        if tries > 60 && world.stop.is_cancelled() {
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
        let other = json!({ "definition": shape.body["definition"], "input": { "brief": tenant.canary } });
        let request = Request { key: Some(key.clone()), ..Request::post("/v1/workflows", other) };
        world.op(tenant, ask(serial + 500_000_000), request).await;
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

/// Cancels workflows whose posts are on their way: such a post is left to its
/// outcome.
pub(super) async fn cancel_what_goes_out(world: Arc<World>, place: usize) {
    let mut random = world.random(1_100 + place as u64);
    while world.pause(Duration::from_millis(random.random_range(300..900))).await {
        let tenant = &world.tenants[place];
        let state = if random.random() { "publishing" } else { "unknown" };
        let listed = world.ask(tenant, Request::get(format!("/v1/posts?state={state}&limit=10"))).await;
        let Some(listed) = listed.done() else { continue };
        let posts = listed["items"].as_array().map_or(&[][..], Vec::as_slice);
        // Most of them shall end as they would.
        if posts.is_empty() || !random.random_ratio(1, 6) {
            continue;
        }
        let post = &posts[random.random_range(0..posts.len())];
        let Some(workflow) = post["workflowId"].as_str().and_then(|id| id.parse().ok()) else { continue };
        let request = Request::post(format!("/v1/workflows/{workflow}/cancel"), json!({}));
        world.op(tenant, Ask::Cancel { workflow }, request).await;
    }
}
