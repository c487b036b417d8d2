//! Before anything is broken: faults that need the whole fleet to themselves,
//! because what they take back must not have been promised to anybody, or
//! because they move the clock.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rand::RngExt as _;
use serde_json::json;
use sqlx::Row as _;

use crate::agents::SCRIBE;
use crate::history::Ask;
use crate::servers::Servers;
use crate::workload::publish_of;
use crate::world::{Answer, Late, Request, World, post_id};

/// How long each step of a prelude may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The tenant without approvals, and the one that begins with them.
const FREE: usize = 0;
const ASKING: usize = 1;
/// How many steps are under way when the database is restored, and how many
/// questions are answered late.
const COUNT: u64 = 6;
/// How long such a step takes: long enough that its first claim reports while
/// its second one works.
const STEP_MS: u64 = 3_000;
/// When the time of the late questions is over, counted from when the clock is
/// right again.
const OVER_IN: i64 = 18;

/// The database is restored to a point before claims that are under way: their
/// epochs come back, and only their nonces tell them from their successors.
///
/// # Errors
/// The fleet does not do as it is told.
pub async fn restore(world: &World, servers: &Servers) -> Result<()> {
    let tenant = &world.tenants[FREE];
    let pause = format!("/v1/queues/{SCRIBE}/pause");
    let resume = Request::post(format!("/v1/queues/{SCRIBE}/resume"), json!({}));
    let other = |action: &str| Ask::Other { action: action.into(), object: SCRIBE.into() };
    let why = json!({ "reason": "the database is about to be restored" });
    surely(world, tenant, other("queue.pause"), Request::post(pause, why)).await?;
    for number in 0..COUNT {
        let key = format!("restored-{number}");
        let steps = json!([
            { "name": "one", "agent": SCRIBE, "needs": [], "input": { "slowMs": STEP_MS } },
            { "name": "two", "agent": SCRIBE, "needs": ["one"], "input": { "slowMs": 10 } },
        ]);
        let body = json!({
            "definition": { "name": "restored", "steps": steps },
            "input": { "brief": format!("restored {number} {}", tenant.canary) },
        });
        let ask = Ask::Submit { key: key.clone(), shape: "restored".into(), body: 900_000_000 + number };
        surely(world, tenant, ask, Request { key: Some(key), ..Request::post("/v1/workflows", body) })
            .await?;
    }
    servers.keep_copy().await?;
    // Not written down: what is answered now will not have happened.
    until("the queue is resumed", async || {
        Ok(matches!(world.ask(tenant, resume.clone()).await, Answer::Done(_)))
    })
    .await?;
    until("all steps run", async || {
        let mut connection = servers.connect().await?;
        let running =
            sqlx::query("SELECT coalesce(sum(running), 0)::int8 FROM runs").fetch_one(&mut connection);
        Ok(running.await?.try_get::<i64, _>(0)? >= COUNT as i64)
    })
    .await?;
    servers.restore_copy().await?;
    world.fault("restore");
    // What Redis knows is of another time, too.
    servers.redis(&["FLUSHALL"]).await?;
    world.fault("flush");
    surely(world, tenant, other("queue.resume"), resume).await
}

/// Questions whose time will be over while everything breaks: they are asked
/// when the clock is almost an hour behind.
///
/// # Errors
/// The fleet does not do as it is told.
pub async fn late_questions(world: &World, servers: &Servers) -> Result<()> {
    let tenant = &world.tenants[ASKING];
    let mut random = world.random(3_000);
    servers.move_clock(OVER_IN - 3_600).await?;
    for number in 0..COUNT {
        let key = format!("late-{number}");
        let salt: u32 = random.random();
        let text = format!("late {number} {salt:08x} {}", tenant.canary);
        let account = &tenant.accounts[number as usize % tenant.accounts.len()].name;
        let steps = json!([
            { "name": "write", "agent": SCRIBE, "needs": [], "input": { "text": text } },
            publish_of("write", account),
        ]);
        let body = json!({ "definition": { "name": "late", "steps": steps }, "input": { "brief": text } });
        let ask = Ask::Submit { key: key.clone(), shape: "late".into(), body: 910_000_000 + number };
        surely(world, tenant, ask, Request { key: Some(key), ..Request::post("/v1/workflows", body) })
            .await?;
    }
    let mut asked = Vec::new();
    until("all questions are asked", async || {
        let Some(listed) = world.ask(tenant, Request::get("/v1/approvals?limit=50")).await.done() else {
            return Ok(false);
        };
        asked = listed["items"].as_array().cloned().unwrap_or_default();
        Ok(asked.len() as u64 >= COUNT)
    })
    .await?;
    servers.move_clock(0).await?;
    for (number, question) in (0..).zip(&asked) {
        let text = |field: &str| question[field].as_str().unwrap_or_default();
        world.keep(Late {
            number,
            place: ASKING,
            approval: text("id").parse().context("a question's id")?,
            post: post_id(&question["postId"]).context("a question about no post")?,
            hash: text("contentHash").to_owned(),
            expires_at: text("expiresAt").parse()?,
        });
    }
    world.fault("clock jump");
    Ok(())
}

/// Asks until it is done.
async fn surely(world: &World, tenant: &crate::world::Tenant, ask: Ask, request: Request) -> Result<()> {
    until("a request is done", async || {
        Ok(matches!(world.op(tenant, ask.clone(), request.clone()).await, Answer::Done(_)))
    })
    .await
}

async fn until(what: &str, mut done: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let patience = Instant::now() + PATIENCE;
    while !done().await? {
        anyhow::ensure!(Instant::now() < patience, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
