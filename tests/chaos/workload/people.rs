//! Approvers and editors: they answer questions, change posts, and say what
//! became of posts in doubt, after a look at the platform.

use std::sync::Arc;
use std::time::Duration;

use galley_core::ids::PostId;
use galley_core::publish::PostContent;
use jiff::SignedDuration;
use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use serde_json::{Value, json};

use super::operators::set_policy;
use super::shapes::Policy;
use crate::history::{Ask, Resolution, Subject};
use crate::world::{Answer, Late, Request, Tenant, World, post_id};

/// Answers questions as they come: yes, no, yes to an edit, yes twice, yes to
/// bytes that nobody asks about any more.
pub(super) async fn approve(world: Arc<World>, place: usize) {
    let mut random = world.random(300 + place as u64);
    while world.pause(Duration::from_millis(random.random_range(200..1_200))).await {
        let tenant = &world.tenants[place];
        let Some(listed) = world.ask(tenant, Request::get("/v1/approvals?limit=20")).await.done() else {
            continue;
        };
        for question in items(&listed).iter().filter(|question| !world.is_kept(question)).take(8) {
            // Some are left for others, and for later.
            if random.random_ratio(1, 4) {
                continue;
            }
            let choice = random.random_range(0..25);
            answer(&world, tenant, question, choice, &mut random).await;
        }
    }
}

/// Answers all open questions and settles all doubts, once each: what is left
/// over when the workload has ended. Says how many there were.
pub async fn answer_everything(world: &World, random: &mut StdRng) -> usize {
    let mut open = 0;
    for tenant in &world.tenants {
        if let Some(listed) = world.ask(tenant, Request::get("/v1/approvals?limit=200")).await.done() {
            for question in items(&listed).iter().filter(|question| !world.is_kept(question)) {
                open += 1;
                let no = if random.random_ratio(1, 6) { REJECT } else { 0 };
                answer(world, tenant, question, no, random).await;
            }
        }
        open += resolve_all(world, tenant, random).await;
    }
    open
}

fn items(listed: &Value) -> &[Value] {
    listed["items"].as_array().map_or(&[], Vec::as_slice)
}

/// The choice that is a no.
const REJECT: u32 = 9;

async fn answer(world: &World, tenant: &Tenant, question: &Value, choice: u32, random: &mut StdRng) {
    let Some(approval) = question["id"].as_str().and_then(|id| id.parse().ok()) else { return };
    let task = question["taskId"].as_str().unwrap_or_default().to_owned();
    let post = post_id(&question["postId"]);
    let about = post.map_or(Subject::Task(task), Subject::Post);
    let hash = question["contentHash"].as_str().unwrap_or_default().to_owned();
    let path = format!("/v1/approvals/{approval}");
    let note = format!("said {}", tenant.canary);
    let yes = || {
        let request = Request::post(format!("{path}/approve"), json!({ "contentHash": hash, "note": note }));
        world.op(tenant, Ask::Approve { approval, about: about.clone(), hash: hash.clone() }, request)
    };
    match choice {
        0..=8 => drop(yes().await),
        REJECT => {
            let request = Request::post(format!("{path}/reject"), json!({ "note": note }));
            world.op(tenant, Ask::Reject { approval, about: about.clone() }, request).await;
        }
        // Edit and approve in one.
        10 | 11 if post.is_some() => {
            let Some(post) = post else { return };
            let content = content(tenant, random);
            let ask = Ask::Edit { post, hash: content.hash(), approve: true };
            world
                .op(tenant, ask, Request::post(format!("{path}/edit"), json!({ "text": content.text })))
                .await;
        }
        // Twice at once: one of them wins, or both say the same.
        12 => drop(futures::future::join(yes(), yes()).await),
        // An edit and a yes to the old bytes at once; or the edit comes when
        // the yes was given and the post waits for its time.
        13..=23 if post.is_some() => {
            let Some(post) = post else { return };
            let content = content(tenant, random);
            let ask = Ask::Edit { post, hash: content.hash(), approve: false };
            let edit = Request::put(format!("/v1/posts/{post}"), json!({ "text": content.text }));
            match choice {
                13 | 14 => drop(futures::future::join(yes(), world.op(tenant, ask, edit)).await),
                // While it is about to go out.
                15..=17 => {
                    yes().await;
                    world.op(tenant, ask, edit).await;
                }
                _ => {
                    let at = jiff::Timestamp::now() + Duration::from_secs(2);
                    let later = Request::post(format!("/v1/posts/{post}/reschedule"), json!({ "at": at }));
                    world.op(tenant, Ask::Reschedule { post }, later).await;
                    yes().await;
                    world.op(tenant, ask, edit).await;
                }
            }
        }
        _ => {
            // Nobody can say yes to what was not shown.
            let wrong = "0".repeat(64);
            let request = Request::post(format!("{path}/approve"), json!({ "contentHash": wrong }));
            world.op(tenant, Ask::Approve { approval, about: about.clone(), hash: wrong }, request).await;
        }
    }
}

fn content(tenant: &Tenant, random: &mut StdRng) -> PostContent {
    let salt: u32 = random.random();
    PostContent { text: format!("edited {salt:08x} {}", tenant.canary), link: None }
}

/// Edits, reschedules and rejects posts, whatever state they are in.
pub(super) async fn meddle(world: Arc<World>, place: usize) {
    let mut random = world.random(400 + place as u64);
    while world.pause(Duration::from_millis(random.random_range(600..2_500))).await {
        let tenant = &world.tenants[place];
        let Some(listed) = world.ask(tenant, Request::get("/v1/posts?limit=15")).await.done() else {
            continue;
        };
        let all = items(&listed);
        if all.is_empty() {
            continue;
        }
        let shown = &all[random.random_range(0..all.len())];
        let Some(post) = post_id(&shown["id"]) else { continue };
        let path = format!("/v1/posts/{post}");
        match random.random_range(0..10) {
            0..=3 => {
                let content = content(tenant, &mut random);
                // Half of them say which revision they saw.
                let revision = if random.random() { shown["revision"].clone() } else { Value::Null };
                let approve = random.random_ratio(1, 3);
                let mut body = json!({ "text": content.text, "approve": approve });
                if !revision.is_null() {
                    body["revision"] = revision;
                }
                world
                    .op(tenant, Ask::Edit { post, hash: content.hash(), approve }, Request::put(path, body))
                    .await;
            }
            4..=6 => {
                let at = jiff::Timestamp::now() + Duration::from_secs(random.random_range(1..6));
                let body =
                    if random.random_ratio(1, 3) { json!({ "at": null }) } else { json!({ "at": at }) };
                world
                    .op(tenant, Ask::Reschedule { post }, Request::post(format!("{path}/reschedule"), body))
                    .await;
            }
            7 => {
                let body = json!({ "note": format!("no {}", tenant.canary) });
                world
                    .op(tenant, Ask::RejectPost { post }, Request::post(format!("{path}/reject"), body))
                    .await;
            }
            _ => {
                world.op(tenant, Ask::LookPost { post }, Request::get(path)).await;
            }
        }
    }
}

/// Wants several posts out at the same moment, and lets the day have room for
/// hardly one more of them in that very moment.
pub(super) async fn rush(world: Arc<World>, place: usize) {
    let mut random = world.random(1_200 + place as u64);
    let policy = Policy::of(place);
    for changes in 1.. {
        if !world.pause(Duration::from_millis(random.random_range(600..2_000))).await {
            return;
        }
        let tenant = &world.tenants[place];
        let listed = world.ask(tenant, Request::get("/v1/posts?state=scheduled&limit=50")).await.done();
        let listed = listed.unwrap_or_default();
        let mut waiting: Vec<PostId> =
            items(&listed).iter().filter_map(|post| post_id(&post["id"])).collect();
        waiting.shuffle(&mut random);
        let moment = Duration::from_millis(1_200);
        let at = jiff::Timestamp::now() + moment;
        let sooner = waiting.into_iter().take(6).map(|post| {
            let request = Request::post(format!("/v1/posts/{post}/reschedule"), json!({ "at": at }));
            world.op(tenant, Ask::Reschedule { post }, request)
        });
        let room = async {
            tokio::time::sleep(moment.saturating_sub(Duration::from_millis(150))).await;
            set_policy(&world, tenant, policy.config(changes, random.random_ratio(1, 4))).await
        };
        futures::future::join(futures::future::join_all(sooner), room).await;
    }
}

/// Answers a question with yes when its time is over, or almost.
pub(super) async fn answer_late(world: Arc<World>, late: Late) {
    let mut random = world.random(1_300 + late.number);
    let tenant = &world.tenants[late.place];
    // Before, in the moment, behind it: before and after it is swept.
    let around = [-1_500, -40, 0, 40, 150, 400, 800, 1_500];
    let at = late.expires_at + SignedDuration::from_millis(around[random.random_range(0..around.len())]);
    let wait = at.duration_since(jiff::Timestamp::now());
    if !world.pause(Duration::try_from(wait).unwrap_or_default()).await {
        return;
    }
    for _ in 0..6 {
        let Late { approval, post, hash, .. } = late.clone();
        let path = format!("/v1/approvals/{approval}/approve");
        let request = Request::post(path, json!({ "contentHash": hash }));
        let ask = Ask::Approve { approval, about: Subject::Post(post), hash };
        if !matches!(world.op(tenant, ask, request).await, Answer::Unknown(_)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Says what became of posts in doubt.
pub(super) async fn settle(world: Arc<World>, place: usize) {
    let mut random = world.random(500 + place as u64);
    while world.pause(Duration::from_millis(random.random_range(500..2_000))).await {
        resolve_all(&world, &world.tenants[place], &mut random).await;
    }
}

async fn resolve_all(world: &World, tenant: &Tenant, random: &mut StdRng) -> usize {
    let Some(listed) = world.ask(tenant, Request::get("/v1/posts?state=in_doubt&limit=50")).await.done()
    else {
        // Nobody knows whether there are any.
        return 1;
    };
    for shown in items(&listed) {
        if let Some(post) = post_id(&shown["id"]) {
            resolve(world, tenant, post, random).await;
        }
    }
    items(&listed).len()
}

/// One truthful person: looks at the platform, then says what is there. They
/// say it once: whether it was heard, they find out by looking again.
async fn resolve(world: &World, tenant: &Tenant, post: PostId, random: &mut StdRng) {
    let look = Request::get(format!("/v1/posts/{post}"));
    let Answer::Done(detail) = world.op(tenant, Ask::LookPost { post }, look).await else { return };
    let Some(key) = detail["publication"]["effectKey"].as_str() else { return };
    let sends = &detail["publication"]["sends"];
    let account = detail["account"].as_str().unwrap_or_default();
    let Some(handle) = tenant.accounts.iter().find(|known| known.name == account) else { return };
    let ledger = world.platform.ledger();
    let there: Vec<_> = ledger
        .posts
        .iter()
        .filter(|entry| entry.account == handle.handle && entry.key.as_deref() == Some(key))
        .collect();
    let (said, body) = match there.first() {
        Some(first) => (
            Resolution::Published,
            json!({ "resolution": "published", "sends": sends, "remoteId": first.id }),
        ),
        None if random.random_ratio(1, 4) => {
            (Resolution::GivenUp, json!({ "resolution": "given_up", "sends": sends }))
        }
        None => (Resolution::NotThere, json!({ "resolution": "not_there", "sends": sends })),
    };
    let ask = Ask::Resolve { post, said, ledger: u32::try_from(there.len()).unwrap_or(u32::MAX) };
    world.op(tenant, ask, Request::post(format!("/v1/posts/{post}/resolve"), body)).await;
}
