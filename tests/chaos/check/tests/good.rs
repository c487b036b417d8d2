//! A run in which everything was kept, with one of everything in it.

use galley_core::decide::Event;
use galley_core::publish::Capability;
use serde_json::{Value, json};

use super::bad_money;
use super::story::{Key, Story};
use crate::history::{Ask, History, Reply};

/// What the tests look for, in the order it was made.
pub(super) struct Good {
    pub(super) history: History,
    pub(super) published: Key,
    pub(super) cancelled: Key,
    pub(super) dead: Key,
    pub(super) expanded: Key,
    pub(super) asked: Key,
    pub(super) rejected: Key,
    pub(super) scheduled: Key,
    pub(super) recurring: Key,
}

fn write_and_publish(account: &str) -> Value {
    json!([
        { "name": "write", "agent": "writer" },
        { "name": "publish", "agent": "publisher", "input": { "account": account } },
    ])
}

pub(super) fn good() -> Good {
    let mut story = Story::new();
    let (one, two) = (story.workspace("one"), story.workspace("two"));
    let blind = story.account(one, "blind", Capability::Blind);
    let keyed = story.account(two, "keyed", Capability::Idempotent { window_s: 3_600 });
    story.policy(one, config("assisted", true, None, "Europe/Berlin"));
    story.policy(two, config("full_autonomous", false, Some(2), "Asia/Tokyo"));
    let brief = || json!({ "product": "canary-one" });

    let published = story.submit(one, "k-published", write_and_publish("blind"), brief());
    story.stream(published, 1, 0, 0, 0);
    let told = story.seq(published);
    story.agent(published, 0);
    let token = story.claim(published, 1);
    let post = story.post(published, 1, blind, "canary-one goes out");
    let asked = story.hold(published, token, post);
    story.look(published);
    story.stream(published, 1, 0, 0, told);
    let cut = story.seq(published);
    story.approve(published, asked);
    let token = story.claim(published, 1);
    story.intend(published, token, post, Some(asked));
    story.published(published, token, post);
    story.stream(published, 1, 1, cut, cut);
    story.look(published);

    let cancelled = story.submit(one, "k-cancelled", write_and_publish("blind"), brief());
    story.fail(cancelled, 0);
    story.cancel(cancelled);
    story.look(cancelled);

    let dead = story.submit(one, "k-dead", write_and_publish("blind"), brief());
    story.fail(dead, 0);

    let steps = json!([
        { "name": "each", "agent": "writer", "forEach": { "path": "/list", "max": 5 } },
        { "name": "join", "agent": "writer", "needs": ["each"] },
    ]);
    let input = json!({ "product": "canary-one", "list": [1, 2] });
    let expanded = story.submit(one, "k-expanded", steps, input);
    story.agent(expanded, 3);
    story.agent(expanded, 2);
    story.agent(expanded, 1);
    story.stream(expanded, 2, 0, 0, 0);

    let doubted = story.submit(one, "k-doubted", write_and_publish("blind"), brief());
    story.agent(doubted, 0);
    let token = story.claim(doubted, 1);
    let post = story.post(doubted, 1, blind, "canary-one perhaps");
    let question = story.hold(doubted, token, post);
    story.approve(doubted, question);
    let token = story.claim(doubted, 1);
    story.intend(doubted, token, post, Some(question));
    story.show(post);
    story.doubt(doubted, token, post);

    let asked = story.submit(one, "k-asked", write_and_publish("blind"), brief());
    story.agent(asked, 0);
    let token = story.claim(asked, 1);
    let post = story.post(asked, 1, blind, "canary-one first");
    let question = story.hold(asked, token, post);
    story.edit(asked, question, "canary-one second");

    let rejected = story.submit(one, "k-rejected", write_and_publish("blind"), brief());
    story.agent(rejected, 0);
    let token = story.claim(rejected, 1);
    let post = story.post(rejected, 1, blind, "canary-one never");
    let question = story.hold(rejected, token, post);
    story.reject(rejected, question);

    for n in 0..2 {
        let free = story.submit(two, &format!("k-free-{n}"), write_and_publish("keyed"), json!({}));
        story.agent(free, 0);
        let token = story.claim(free, 1);
        let post = story.post(free, 1, keyed, &format!("canary-two {n}"));
        story.intend(free, token, post, None);
        story.published(free, token, post);
    }
    let scheduled = story.submit(two, "k-scheduled", write_and_publish("keyed"), json!({}));
    story.agent(scheduled, 0);
    let token = story.claim(scheduled, 1);
    story.post(scheduled, 1, keyed, "canary-two tomorrow");
    story.event(scheduled, Event::Postponed { token, delay_ms: 3_600_000 });

    let recurring = story.scheduled(two, json!([{ "name": "write", "agent": "writer" }]));
    story.agent(recurring, 0);

    let submit = || Ask::Submit { key: "k-refused".into(), shape: "story".into(), body: 9 };
    story.op(one, submit(), Reply::Refused { status: 422, problem: "invalid".into() });
    story.op(one, submit(), Reply::Unknown { why: "the connection was cut".into() });
    let mut history = story.end();
    bad_money::pay(&mut history, published);
    Good { history, published, cancelled, dead, expanded, asked, rejected, scheduled, recurring }
}

fn config(mode: &str, approval: bool, limit: Option<u32>, zone: &str) -> Value {
    let mut config = json!({
        "mode": mode, "contentApprovalRequired": approval, "scheduleAutomation": false, "timeZone": zone,
        "minSpacingMinutes": 0, "approvalExpiryHours": 72,
    });
    if let Some(limit) = limit {
        config["maxDailyPosts"] = limit.into();
    }
    config
}
