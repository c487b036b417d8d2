//! Clients that follow workflows by their event streams, through every cut,
//! and clients that only look.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use rand::RngExt as _;
use rand::rngs::StdRng;
use serde_json::Value;

use crate::history::{Ask, Line, StreamEvent};
use crate::world::{Known, Request, World, post_id};

/// Follows one young workflow after the other.
pub(super) async fn watch(world: Arc<World>, watcher: u64) {
    let mut random = world.random(900 + watcher);
    for number in 0.. {
        if !world.pause(Duration::from_millis(random.random_range(20..300))).await {
            return;
        }
        let Some(known) = world.known().last().cloned() else { continue };
        follow(&world, &known, watcher * 1_000_000 + number, &mut random).await;
    }
}

/// Follows a workflow to its end, or for a while; resumes after every cut.
async fn follow(world: &World, known: &Known, stream: u64, random: &mut StdRng) {
    let mut behind = 0;
    for connection in 0..6 {
        // Some clients hang up by themselves, in the middle.
        let patience = Duration::from_millis(random.random_range(300..5_000));
        let reading = read(world, known, Place { stream, connection, behind }, patience).await;
        behind = reading.behind;
        if reading.over || world.stop.is_cancelled() {
            return;
        }
    }
}

struct Place {
    stream: u64,
    connection: u32,
    behind: u64,
}

struct Reading {
    behind: u64,
    over: bool,
}

async fn read(world: &World, known: &Known, place: Place, patience: Duration) -> Reading {
    let tenant = &world.tenants[known.tenant];
    let mut reading = Reading { behind: place.behind, over: false };
    let url =
        format!("{}/v1/workflows/{}/events", world.api(place.stream + u64::from(place.connection)), known.id);
    let mut request = world.http().get(url).bearer_auth(world.token(tenant, "watcher"));
    if place.behind > 0 {
        request = request.header("Last-Event-ID", place.behind);
    }
    let following = async {
        let Ok(response) = request.send().await else { return };
        if !response.status().is_success() {
            return;
        }
        let mut pieces = response.bytes_stream();
        let mut text = Vec::new();
        while let Some(Ok(piece)) = pieces.next().await {
            text.extend_from_slice(&piece);
            // Only whole events count: what is cut in the middle was not told.
            while let Some(end) = text.windows(2).position(|two| two == b"\n\n") {
                let event: Vec<u8> = text.drain(..end + 2).collect();
                if let Some(told) = parse(&String::from_utf8_lossy(&event)) {
                    note(world, known, &place, &told);
                    reading.behind = told.id.unwrap_or(reading.behind);
                    reading.over |= told.over;
                }
            }
            if reading.over {
                return;
            }
        }
    };
    tokio::select! {
        () = following => {}
        () = tokio::time::sleep(patience) => {}
        () = world.stop.cancelled() => {}
    }
    reading
}

struct Told {
    id: Option<u64>,
    step: Option<String>,
    state: String,
    seq: u64,
    over: bool,
}

fn parse(event: &str) -> Option<Told> {
    let (mut id, mut kind, mut data) = (None, "", String::new());
    for line in event.lines().filter(|line| !line.is_empty()) {
        let (field, value) = line.split_once(':')?;
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => id = value.parse().ok(),
            "event" => kind = value,
            "data" => data.push_str(value),
            _ => {}
        }
    }
    let value: Value = serde_json::from_str(&data).ok()?;
    let state = value["state"].as_str()?.to_owned();
    let step = value["step"].as_str().map(str::to_owned);
    let over = kind == "workflow" && matches!(state.as_str(), "succeeded" | "failed" | "cancelled");
    Some(Told { id, step, state, seq: value["seq"].as_u64()?, over })
}

fn note(world: &World, known: &Known, place: &Place, told: &Told) {
    world.record(&Line::Event(StreamEvent {
        stream: place.stream,
        connection: place.connection,
        behind: place.behind,
        workspace: world.tenants[known.tenant].id,
        workflow: known.id,
        at_ms: world.ms(),
        id: told.id,
        step: told.step.clone(),
        state: told.state.clone(),
        seq: told.seq,
    }));
}

/// Looks at workflows and posts of all ages.
pub(super) async fn look(world: Arc<World>) {
    let mut random = world.random(1_000);
    while world.pause(Duration::from_millis(random.random_range(50..300))).await {
        let known = {
            let known = world.known();
            if known.is_empty() {
                continue;
            }
            known[random.random_range(0..known.len())].clone()
        };
        let tenant = &world.tenants[known.tenant];
        let look = Ask::Look { workflow: known.id };
        let shown = world.op(tenant, look, Request::get(format!("/v1/workflows/{}", known.id))).await;
        let Some(shown) = shown.done() else { continue };
        if let Some(post) = shown["posts"].get(0).and_then(|post| post_id(&post["id"])) {
            world.op(tenant, Ask::LookPost { post }, Request::get(format!("/v1/posts/{post}"))).await;
        }
    }
}

/// Keeps an eye on how much waits in all queues.
pub(super) async fn measure(world: Arc<World>) {
    while world.pause(Duration::from_millis(400)).await {
        let listed = world.ask(&world.tenants[0], Request::get("/v1/queues")).await.done();
        let Some(listed) = listed else { continue };
        let queues = listed["items"].as_array().map_or(&[][..], Vec::as_slice);
        world.set_backlog(queues.iter().filter_map(|queue| queue["ready"].as_u64()).sum());
    }
}
