//! Broken logs: what clients, streams and operators must not see.

use crate::history::{Ask, Op, Reply, Told, ToldPost};

use super::good::Good;
use super::{Break, PUBLISH, edit_run, row_of};

pub(super) const BREAKS: &[Break] = &[
    ("told", "a client was told an end that did not last", |good| {
        let workflow = good.dead.1;
        let told = Told { workflow: Some(workflow), state: Some("succeeded".into()), ..Told::default() };
        say(good, Ask::Look { workflow }, told);
    }),
    ("told", "a client was told of a step that succeeded, and did not", |good| {
        let workflow = good.dead.1;
        let mut told = Told { workflow: Some(workflow), ..Told::default() };
        told.steps.insert("write".into(), "succeeded".into());
        say(good, Ask::Look { workflow }, told);
    }),
    ("told", "a client was told of a change that is gone", |good| {
        let workflow = good.dead.1;
        let (state, seq) = (Some("running".into()), Some(1_000));
        let told = Told { workflow: Some(workflow), state, seq, ..Told::default() };
        say(good, Ask::Look { workflow }, told);
    }),
    ("told", "an acknowledged cancel was undone", |good| {
        edit_run(good, good.cancelled, |run| run.cancelled = false);
    }),
    ("told", "a discarded letter came back", |good| {
        let tasks = vec![format!("{}.write", good.dead.1)];
        say(good, Ask::Repair { how: crate::history::Repair::Discard, tasks }, Told::default());
    }),
    ("told", "a published post is published no more", |good| {
        let post = row_of!(good.history.dump.posts, good.asked, PUBLISH).clone();
        let state = "published".into();
        let told = ToldPost { id: post.id, state, revision: post.revision, hash: post.content_hash };
        say(good, Ask::LookPost { post: post.id }, Told { post: Some(told), ..Told::default() });
    }),
    ("told", "a revision that was shown is gone", |good| {
        let post = row_of!(good.history.dump.posts, good.asked, PUBLISH).clone();
        let revision = post.revision + 1;
        let told = ToldPost { id: post.id, state: post.state, revision, hash: post.content_hash };
        say(good, Ask::LookPost { post: post.id }, Told { post: Some(told), ..Told::default() });
    }),
    ("events", "a change was told twice", |good| {
        let twin = good.history.events[0].clone();
        good.history.events.insert(1, twin);
    }),
    ("events", "what was told before the cut was told again", |good| {
        let mut again = good.history.events[0].clone();
        let resumed = good.history.events.iter().position(|event| event.connection == 1).unwrap();
        (again.connection, again.behind) = (1, good.history.events[resumed].behind);
        good.history.events.insert(resumed, again);
    }),
    ("events", "a change was never told", |good| {
        let events = &mut good.history.events;
        let last = events.iter().rposition(|event| event.stream == 1 && event.step.is_some()).unwrap();
        events.remove(last);
    }),
    ("events", "changes came out of order", |good| {
        let last = good.history.events.len() - 1;
        good.history.events.swap(last, last - 1);
        good.history.events[last].seq -= 1;
    }),
    ("events", "the workflow's change cannot be resumed behind", |good| {
        good.history.events.last_mut().unwrap().id = None;
    }),
    ("events", "a follower resumed elsewhere", |good| {
        good.history.events.iter_mut().filter(|e| e.connection == 1).for_each(|event| event.behind -= 1);
    }),
    ("audited", "an acknowledged change left no row", |good| {
        good.history.dump.audit.retain(|row| row.action != "workflow.cancel");
    }),
    ("audited", "a change left two rows", |good| {
        let cancel = good.history.dump.audit.iter().find(|row| row.action == "workflow.cancel");
        let twin = cancel.unwrap().clone();
        good.history.dump.audit.push(twin);
    }),
    ("audited", "a refused change left a row", |good| {
        let refused = Reply::Refused { status: 409, problem: "conflict".into() };
        let op = good.history.ops.iter_mut().find(|op| matches!(op.ask, Ask::Approve { .. }));
        op.unwrap().reply = refused;
    }),
    ("audited", "a row of a change that nobody asked for", |good| {
        let row = good.history.dump.audit.iter_mut().find(|row| row.action == "post.edit").unwrap();
        row.actor = "nobody".into();
    }),
    ("audited", "a post was moved along with a policy that nobody set", |good| {
        let row = good.history.dump.audit.iter_mut().find(|row| row.action == "workflow.cancel").unwrap();
        row.action = "post.reschedule".into();
        row.detail = Some(serde_json::json!({ "because": "the policy leaves more room" }));
    }),
    ("audited", "a policy was changed without a row", |good| {
        good.history.dump.automation[0].version += 1;
    }),
    ("audited", "another change that an operator was told of left no row", |good| {
        let ask = Ask::Other { action: "queue.pause".into(), object: "writer".into() };
        say(good, ask, Told::default());
    }),
    ("tenants", "a reply holds another workspace's canary", |good| {
        good.history.ops[0].canaries.push("canary-two".into());
    }),
    ("tenants", "a provider was given another workspace's canary", |good| {
        good.history.calls[0].canaries.push("canary-two".into());
    }),
    ("tenants", "a stream told of another workspace's workflow", |good| {
        good.history.events[0].workspace = good.scheduled.0;
    }),
    ("tenants", "a log line crossed", |good| good.history.leftovers.crossed.push("a log line".into())),
    ("chain", "an audit row was never sealed", |good| {
        good.history.leftovers.chains.push("1 audit rows were never sealed".into());
    }),
    ("secrets", "a log holds a credential", |good| good.history.leftovers.secrets.push("w.log".into())),
    ("secrets", "a reply holds a credential", |good| {
        good.history.ops[0].reply = Reply::Unknown { why: "tok-4711-secret".into() };
    }),
    ("leaks", "a transaction stayed open", |good| good.history.leftovers.idle_in_transaction = 1),
    ("leaks", "a ticket stayed in flight", |good| {
        good.history.leftovers.in_flight.insert("writer".into(), 1);
    }),
    ("leaks", "a ticket of no step is ready", |good| {
        good.history.leftovers.ready.insert("writer".into(), 1);
    }),
    ("sometimes", "a fault never happened", |good| good.history.seen.faults.clear()),
    ("sometimes", "too few of a fault", |good| {
        good.history.seen.faults.insert("kill".into(), 2);
    }),
    ("sometimes", "a rescue path was never walked", |good| {
        good.history.seen.paths.insert("reaped".into(), 0);
    }),
];

fn say(good: &mut Good, ask: Ask, told: Told) {
    let workspace = good.dead.0;
    let id = good.history.ops.len() as u64;
    let ended_ms = good.history.ops.last().map_or(0, |op| op.ended_ms + 10);
    good.history.ops.push(Op {
        id,
        workspace,
        actor: format!("op-{id}"),
        began_ms: ended_ms,
        ended_ms,
        ask,
        reply: Reply::Done(told),
        canaries: Vec::new(),
    });
}
