use serde_json::json;

use super::*;
use crate::ids::{WorkflowId, WorkspaceId};
use crate::retry::RetryPolicy;

fn agent(name: &str) -> AgentType {
    AgentType::new(name).unwrap()
}

fn raw(value: &serde_json::Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).unwrap()
}

/// What `from` said in its step `step` at `seq`.
fn said(from: &str, step: StepIndex, seq: u64, to: Option<&str>, kind: MessageType) -> Message {
    let key = WorkflowKey { workspace: WorkspaceId(Uuid::nil()), workflow: WorkflowId(Uuid::nil()) };
    Message {
        id: message_id(key, step, 0),
        from_agent: agent(from),
        from_step: format!("s{step}"),
        to_agent: to.map(agent),
        message_type: kind,
        content: raw(&json!(format!("{from} at {seq}"))),
        priority: 5,
        timestamp: String::new(),
        in_reply_to: None,
        state: (kind == MessageType::Request).then_some(Standing::Open),
        expires_at: None,
        seq,
        step,
    }
}

#[test]
fn who_hears_what() {
    use MessageType::{Feedback, Notification, Request, Response};
    // (from, its step, to, type, standing), then whether step 5 of `writer`,
    // claimed at 7, hears it when it was said at 7, and at 8.
    let table = [
        ("boss", 1, None, Notification, None, true),
        ("boss", 1, Some("writer"), Notification, None, true),
        ("boss", 1, Some("reviewer"), Notification, None, false),
        ("reviewer", 2, Some("writer"), Feedback, None, true),
        ("writer", 3, None, Notification, None, true),
        ("writer", 5, None, Notification, None, false),
        ("boss", 1, Some("writer"), Request, Some(Standing::Open), true),
        ("boss", 1, None, Request, Some(Standing::Open), true),
        ("boss", 1, Some("writer"), Request, Some(Standing::Answered), false),
        ("boss", 1, Some("writer"), Request, Some(Standing::TimedOut), false),
        ("writer", 3, Some("boss"), Request, Some(Standing::TimedOut), true),
        ("writer", 3, Some("boss"), Request, Some(Standing::Undeliverable), true),
        ("writer", 3, Some("boss"), Request, Some(Standing::Open), false),
        ("writer", 3, Some("boss"), Request, Some(Standing::Answered), false),
        ("boss", 1, Some("writer"), Response, Some(Standing::Accepted), true),
        ("boss", 1, Some("reviewer"), Response, Some(Standing::Accepted), false),
    ];
    for (from, step, to, kind, standing, heard) in table {
        let message = Message { state: standing, ..said(from, step, 7, to, kind) };
        assert_eq!(hears(&message, &agent("writer"), 5, 7), heard, "{message:?}");
        let later = Message { seq: 8, ..message };
        assert!(!hears(&later, &agent("writer"), 5, 7), "said after the claim: {later:?}");
    }
}

#[test]
fn an_inbox_keeps_the_newest_in_order() {
    let long = "x".repeat(MOST_BYTES - 2);
    let all: Vec<Message> = (0..40)
        .map(|n| Message {
            content: raw(&json!(long)),
            ..said("boss", n, u64::from(n), None, MessageType::Notification)
        })
        .collect();
    let inbox = Inbox::of(&all, Vec::new(), &agent("writer"), 100, 100);
    let heard: Vec<u64> = inbox.messages.iter().map(|message| message.seq).collect();
    assert_eq!(heard, (24..40).collect::<Vec<_>>());
    assert_eq!(inbox.dropped, 24);
}

#[test]
fn what_may_be_said() {
    let check = |value: serde_json::Value| serde_json::from_value::<Says>(value).unwrap().check();
    assert_eq!(check(json!({})), Ok(()));
    let id = Uuid::nil();
    for good in [
        json!({ "messages": [{ "messageType": "notification", "content": { "a": 1 } }] }),
        json!({ "messages": [{ "messageType": "request", "toAgent": "boss", "content": "?", "timeoutS": 60, "priority": 9 }] }),
        json!({ "messages": [{ "messageType": "response", "inReplyTo": id, "content": null }] }),
        json!({ "context": [{ "key": "brand.voice-2", "value": [1], "ifVersion": 0 }] }),
    ] {
        assert_eq!(check(good.clone()), Ok(()), "{good}");
    }
    let too_long = "x".repeat(MOST_BYTES);
    let many: Vec<_> =
        (0..=MOST_MESSAGES).map(|_| json!({ "messageType": "feedback", "content": 1 })).collect();
    for (bad, why) in [
        (json!({ "messages": [{ "messageType": "response", "content": 1 }] }), "inReplyTo"),
        (
            json!({ "messages": [{ "messageType": "feedback", "inReplyTo": id, "content": 1 }] }),
            "only a response",
        ),
        (
            json!({ "messages": [{ "messageType": "feedback", "timeoutS": 5, "content": 1 }] }),
            "only a request",
        ),
        (json!({ "messages": [{ "messageType": "request", "timeoutS": 0, "content": 1 }] }), "timeoutS is"),
        (json!({ "messages": [{ "messageType": "request", "priority": 10, "content": 1 }] }), "priority is"),
        (json!({ "messages": [{ "messageType": "feedback", "content": too_long }] }), "bytes of content"),
        (json!({ "messages": many }), "may send 32"),
        (json!({ "context": [{ "key": "a b", "value": 1 }] }), "is no key"),
        (json!({ "context": [{ "key": "", "value": 1 }] }), "is no key"),
        (json!({ "context": [{ "key": "a", "value": 1 }, { "key": "a", "value": 2 }] }), "written twice"),
    ] {
        let error = check(bad.clone()).unwrap_err();
        assert!(error.contains(why), "{bad}: {error}");
    }
}

#[test]
fn ids_differ_wherever_messages_do_and_stay_what_they_are() {
    let key =
        |n| WorkflowKey { workspace: WorkspaceId(Uuid::nil()), workflow: WorkflowId(Uuid::from_u128(n)) };
    let mut ids = vec![
        message_id(key(1), 0, 0),
        message_id(key(1), 0, 1),
        message_id(key(1), 1, 0),
        message_id(key(2), 0, 0),
        told_id(key(1), 0, 0, Told::Task),
        told_id(key(1), 0, 0, Told::Result),
        told_id(key(1), 0, 1, Told::Task),
    ];
    assert_eq!(ids[0], message_id(key(1), 0, 0));
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 7);
}

#[test]
fn a_request_needs_a_later_step_of_its_agent() {
    let definition = json!({ "name": "w", "steps": [
        { "name": "a", "agent": "asker" }, { "name": "b", "agent": "writer" }, { "name": "c", "agent": "reviewer" },
    ] });
    let plan =
        Plan::compile(serde_json::from_value(definition).unwrap(), |_| Some(RetryPolicy::default())).unwrap();
    let mut run = Run::new(&plan, 5);
    let can = |run: &Run, to: Option<&str>| can_be_answered(&plan, run, 0, to.map(agent).as_ref());
    run.steps[0].state = StepState::Succeeded;
    assert!(can(&run, Some("writer")) && can(&run, Some("reviewer")) && can(&run, None));
    assert!(!can(&run, Some("asker")), "only the asking step is of that agent");
    assert!(!can(&run, Some("stranger")));
    run.steps[1].state = StepState::Succeeded;
    assert!(!can(&run, Some("writer")) && can(&run, None));
    run.steps[2].state = StepState::Cancelled;
    assert!(!can(&run, None));
}
