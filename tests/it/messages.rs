//! The communication service: who hears what, when, how often; requests and
//! their ends; the shared context; and that a crash or a repetition says
//! nothing twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use galley_agents::StepContext;
use galley_api::views::Role;
use galley_core::ids::{AgentType, WorkflowKey};
use galley_core::message::{
    MOST_BYTES, MOST_CONTEXT_BYTES, MOST_ENTRIES, MOST_MESSAGES, MOST_SAID, Message, MessageType,
    Remembering, Saying, Standing,
};
use galley_core::report::{StepError, StepOutput};
use galley_core::run::WorkflowState;
use galley_engine::{Outcome, Recorded, Report, time_out_requests};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use crate::harness::{Agents, Api, Bed, Latch, answer, retry, until};

fn raw(value: &Value) -> Box<RawValue> {
    to_raw_value(value).unwrap()
}

fn agent(name: &str) -> AgentType {
    AgentType::new(name).unwrap()
}

fn tell(kind: MessageType, what: &str) -> Saying {
    Saying::new(kind, raw(&json!(what)))
}

/// `from step: content` of what a step heard.
fn heard(step: &StepContext) -> Vec<String> {
    step.inbox.messages.iter().map(short).collect()
}

fn short(message: &Message) -> String {
    format!("{}: {}", message.from_step, message.content.get().trim_matches('"'))
}

/// Says two things to all and one to the writer; remembers where it was.
fn talker(step: &StepContext) -> Result<StepOutput, StepError> {
    let name = &step.step_name;
    Ok(answer(&json!({}))?
        .saying(tell(MessageType::Notification, &format!("{name} one")))
        .saying(tell(MessageType::Notification, &format!("{name} two")))
        .saying(tell(MessageType::Feedback, &format!("{name} to you")).to(agent("writer")))
        .remembering(Remembering::new("last", raw(&json!(name)))))
}

fn chain(agents: &[(&str, &str)]) -> Value {
    agents.iter().map(|(name, agent)| json!({ "name": name, "agent": agent })).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_reaches_every_later_step_once_and_in_order() {
    let mut bed = Bed::new().await;
    let flaky = Arc::new(AtomicBool::new(true));
    let agents = Agents::default()
        .with("talker", retry(3), |step| async move { talker(&step) })
        .with("silent", retry(3), |_| async move { answer(&json!({})) })
        .with("writer", retry(3), move |_| {
            // What a failed attempt would have said is not said.
            let fails = flaky.swap(false, Ordering::SeqCst);
            async move {
                if fails { Err(StepError::transient("down", "the first time")) } else { answer(&json!({})) }
            }
        });
    bed.serve(&agents).await;
    let steps = chain(&[("a", "talker"), ("b", "silent"), ("c", "talker"), ("d", "writer"), ("e", "silent")]);
    let key = bed.submit(steps, json!({})).await;
    let quiet = bed.submit(chain(&[("a", "silent")]), json!({})).await;
    bed.finish(key, WorkflowState::Succeeded).await;
    bed.finish(quiet, WorkflowState::Succeeded).await;

    let of = |step: &str| {
        agents
            .calls_of(step)
            .iter()
            .filter(|call| call.workflow == key.workflow)
            .map(heard)
            .collect::<Vec<_>>()
    };
    let a = ["a: a one", "a: a two"];
    let both = ["a: a one", "a: a two", "c: c one", "c: c two"];
    assert_eq!(of("a"), [Vec::<String>::new()]);
    assert_eq!(of("b"), [a]);
    assert_eq!(of("c"), [a]);
    // Both attempts hear the same, with what is for the writer alone.
    let writer = ["a: a one", "a: a two", "a: a to you", "c: c one", "c: c two", "c: c to you"];
    assert_eq!(of("d"), [writer, writer]);
    assert_eq!(of("e"), [both]);
    let context = |step: &str| {
        let call = &agents.calls_of(step)[0];
        call.inbox
            .context
            .iter()
            .map(|entry| (entry.value.get().to_owned(), entry.version, entry.by_step.clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(context("b"), [("\"a\"".to_owned(), 1, "a".to_owned())]);
    assert_eq!(context("e"), [("\"c\"".to_owned(), 2, "c".to_owned())]);

    // The API tells all of it, with what the engine told of every step, and the
    // stream the same once each.
    let api = Api::of(&bed, Role::Producer).await;
    let path = format!("/v1/workflows/{}/messages", key.workflow);
    let (status, listed) = api.get(&path).await;
    assert_eq!(status, 200, "{listed}");
    let line = |message: &Value| {
        let what = match &message["content"] {
            Value::String(text) => text.clone(),
            told => format!("{} {}", told["event"].as_str().unwrap(), told["step"].as_str().unwrap()),
        };
        format!(
            "{} to {}: {what}",
            message["fromAgent"].as_str().unwrap(),
            message["toAgent"].as_str().unwrap_or("all")
        )
    };
    let all: Vec<String> = listed["items"].as_array().unwrap().iter().map(line).collect();
    assert_eq!(
        all,
        [
            "coordinator to talker: task a",
            "talker to all: a one",
            "talker to all: a two",
            "talker to writer: a to you",
            "coordinator to all: result a",
            "coordinator to silent: task b",
            "coordinator to all: result b",
            "coordinator to talker: task c",
            "talker to all: c one",
            "talker to all: c two",
            "talker to writer: c to you",
            "coordinator to all: result c",
            // Twice tried.
            "coordinator to writer: task d",
            "coordinator to writer: task d",
            "coordinator to all: result d",
            "coordinator to silent: task e",
            "coordinator to all: result e",
        ]
    );
    let (_, feedback) = api.get(&format!("{path}?messageType=feedback&toAgent=writer")).await;
    assert_eq!(feedback["items"].as_array().unwrap().len(), 2, "{feedback}");
    assert_eq!(feedback["items"][0]["metadata"]["taskId"], format!("{}.a", key.workflow));
    let token = api.token(bed.workspace, &[Role::Producer], false);
    let (_, stream) = api.events(&format!("{path}/live"), &token).await;
    let streamed: Vec<String> = stream
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|json| line(&serde_json::from_str(json).unwrap()))
        .collect();
    assert_eq!(streamed, all);
    let (_, context) = api.get(&format!("/v1/workflows/{}/context", key.workflow)).await;
    let entry = &context["items"][0];
    assert_eq!((&entry["key"], &entry["value"], &entry["version"]), (&json!("last"), &json!("c"), &json!(2)));
    assert_eq!(
        (&entry["byAgent"], &entry["byTask"]),
        (&json!("talker"), &json!(format!("{}.c", key.workflow)))
    );
    let (_, patterns) = api.get("/v1/communication").await;
    let pairs: Vec<_> = patterns["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            (
                row["fromAgent"].as_str().unwrap(),
                row["toAgent"].as_str(),
                &row["notifications"],
                &row["feedback"],
            )
        })
        .collect();
    assert_eq!(
        pairs,
        [("talker", None, &json!(4), &json!(0)), ("talker", Some("writer"), &json!(0), &json!(2))]
    );
    assert_eq!(api.get("/v1/communication?since=yesterday").await.0, 400);
    drop(api);
    bed.end().await;
}

/// The messages of a workflow that its steps sent.
async fn sent(bed: &Bed, key: WorkflowKey) -> Vec<Message> {
    let mut messages = bed.api.messages(key).await.unwrap();
    messages.retain(|message| message.from_agent.as_str() != "coordinator");
    messages
}

async fn standings(bed: &Bed, key: WorkflowKey) -> Vec<(String, Option<Standing>)> {
    sent(bed, key).await.iter().map(|message| (short(message), message.state)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_answered_once_or_ends_with_a_clear_state() {
    let mut bed = Bed::new().await;
    let hold = Latch::closed();
    let held = hold.clone();
    let engine = bed.engine.clone();
    let agents = Agents::default()
        // Answers what it was not asked.
        .with("meddler", retry(3), move |step| {
            let engine = engine.clone();
            async move {
                let key = WorkflowKey { workspace: step.workspace, workflow: step.workflow };
                let overheard = engine.messages(key).await.unwrap();
                let asked = overheard.iter().find(|message| short(message) == "ask: tone?").unwrap();
                assert!(step.inbox.open_requests().next().is_none());
                Ok(answer(&json!({}))?.saying(Saying::answer(asked.id, raw(&json!("wet")))))
            }
        })
        .with("asker", retry(3), |step| async move {
            let ask = |what: &str, to: &str| {
                Saying { timeout_s: Some(600), ..tell(MessageType::Request, what) }.to(agent(to))
            };
            match step.step_name.as_str() {
                "ask" => {
                    Ok(answer(&json!({}))?.saying(ask("tone?", "expert")).saying(ask("who?", "stranger")))
                }
                "late" => Ok(answer(&json!({}))?.saying(ask("day?", "expert"))),
                _ => answer(&json!({})),
            }
        })
        .with("holder", retry(3), move |_| {
            let held = held.clone();
            async move {
                held.passed().await;
                answer(&json!({}))
            }
        })
        .with("blocker", retry(1), |step| async move {
            step.cancelled.cancelled().await;
            Err(StepError::transient("cancelled", "it was told to stop"))
        })
        .with("expert", retry(3), |step| async move {
            let mut done = answer(&json!({}))?;
            for request in step.inbox.open_requests() {
                // Twice: the second is late.
                for word in ["dry", "never mind"] {
                    done = done.saying(Saying::answer(request.id, raw(&json!(word))));
                }
            }
            Ok(done)
        });
    bed.serve(&agents).await;
    let steps = chain(&[
        ("ask", "asker"),
        ("meddle", "meddler"),
        ("tell", "expert"),
        ("more", "expert"),
        ("end", "asker"),
    ]);
    let key = bed.submit(steps, json!({})).await;
    bed.finish(key, WorkflowState::Succeeded).await;
    assert_eq!(
        standings(&bed, key).await,
        [
            ("ask: tone?".to_owned(), Some(Standing::Answered)),
            ("ask: who?".to_owned(), Some(Standing::Undeliverable)),
            ("meddle: wet".to_owned(), Some(Standing::Late)),
            ("tell: dry".to_owned(), Some(Standing::Accepted)),
            ("tell: never mind".to_owned(), Some(Standing::Late)),
        ]
    );
    // The second expert has nothing to answer; the asker hears its answers, and
    // that nobody will say who.
    assert_eq!(heard(&agents.calls_of("more")[0]), Vec::<String>::new());
    assert_eq!(
        heard(&agents.calls_of("end")[0]),
        ["ask: who?", "meddle: wet", "tell: dry", "tell: never mind"]
    );
    let answered = sent(&bed, key).await;
    assert_eq!(answered[3].in_reply_to, Some(answered[0].id));
    assert_eq!(answered[3].to_agent, Some(agent("asker")));

    // In time nobody answers, and then it is too late.
    let steps = chain(&[("late", "asker"), ("wait", "holder"), ("tell", "expert"), ("end", "asker")]);
    let key = bed.submit(steps, json!({})).await;
    until("the request is there", async || !sent(&bed, key).await.is_empty()).await;
    assert_eq!(standings(&bed, key).await, [("late: day?".to_owned(), Some(Standing::Open))]);
    bed.execute("UPDATE messages SET expires_at = galley_now() - interval '1 s' WHERE state = 'open'").await;
    assert_eq!(standings(&bed, key).await, [("late: day?".to_owned(), Some(Standing::TimedOut))]);
    until("a duty wrote it down", async || {
        time_out_requests(&bed.engine).await.unwrap();
        bed.count("SELECT count(*) FROM messages WHERE state = 'timed_out'").await == 1
    })
    .await;
    hold.open();
    bed.finish(key, WorkflowState::Succeeded).await;
    let told = |step: &str| heard(agents.calls_of(step).last().unwrap());
    assert_eq!((told("tell"), told("end")), (Vec::new(), vec!["late: day?".to_owned()]));

    // A workflow that ends takes its open requests with it.
    let steps = chain(&[("late", "asker"), ("wait", "blocker"), ("tell", "expert")]);
    let key = bed.submit(steps, json!({})).await;
    until("the request is there", async || !sent(&bed, key).await.is_empty()).await;
    bed.api.cancel(key, "ada").await.unwrap();
    bed.finish(key, WorkflowState::Cancelled).await;
    assert_eq!(standings(&bed, key).await, [("late: day?".to_owned(), Some(Standing::Unanswered))]);
    bed.end().await;
}

/// Whoever claims a step reads what was said: that has an end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workflow_says_so_much_and_no_more() {
    let mut bed = Bed::new().await;
    let agents = Agents::default().with("gossip", retry(3), |_| async {
        let say = |done: StepOutput, _| done.saying(tell(MessageType::Notification, "psst"));
        Ok((0..MOST_MESSAGES).fold(answer(&json!({}))?, say))
    });
    bed.serve(&agents).await;
    let full = MOST_SAID as usize / MOST_MESSAGES;
    let steps: Value =
        (0..=full).map(|n| json!({ "name": format!("s{n}"), "agent": "gossip", "optional": true })).collect();
    let key = bed.submit(steps, json!({})).await;
    bed.finish(key, WorkflowState::Succeeded).await;
    assert_eq!(sent(&bed, key).await.len(), MOST_SAID as usize);
    let refused = "SELECT count(*) FROM attempts WHERE outcome = 'failed' AND class = 'bad_message'";
    assert_eq!(bed.count(refused).await, 1);
    bed.end().await;
}

/// So has what is remembered, for it is handed to every later step: what does not
/// fit is refused, what makes room is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workflow_remembers_so_much_and_no_more() {
    let mut bed = Bed::new().await;
    let agents = Agents::default().with("hoarder", retry(3), |step| async move {
        let put = |done: StepOutput, key: usize, bytes: usize| {
            let value = raw(&json!("x".repeat(bytes - 2)));
            done.remembering(Remembering::new(format!("k{key}"), value))
        };
        let done = answer(&json!({}))?;
        Ok(match step.step_name.as_str() {
            "fill" => (0..MOST_ENTRIES).fold(done, |done, key| put(done, key, MOST_BYTES)),
            "less" => put(done, 0, MOST_BYTES - 10),
            _ => put(done, MOST_ENTRIES, 10),
        })
    });
    bed.serve(&agents).await;
    let steps: Value = ["fill", "more", "less", "again"]
        .map(|name| json!({ "name": name, "agent": "hoarder", "optional": true }))
        .into_iter()
        .collect();
    let key = bed.submit(steps, json!({})).await;
    bed.finish(key, WorkflowState::Succeeded).await;
    let told =
        bed.texts("SELECT message FROM attempts WHERE outcome = 'failed' AND class = 'bad_message'").await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains(&MOST_CONTEXT_BYTES.to_string()), "{told:?}");
    let held = bed.count("SELECT sum(octet_length(value::text))::int8 FROM shared_context").await;
    assert_eq!(held, MOST_CONTEXT_BYTES as i64);
    assert_eq!(bed.count("SELECT version::int8 FROM shared_context WHERE key = 'k32'").await, 1);
    bed.end().await;
}

/// Two answer in one transaction, whom it was not for first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_counts_by_whom_it_is_and_not_by_when() {
    let bed = Bed::new().await;
    let nothing = |_| async { answer(&json!({})) };
    let agents = Agents::default().with("asker", retry(3), nothing).with("meddler", retry(3), nothing).with(
        "expert",
        retry(3),
        nothing,
    );
    bed.register(&agents).await;
    let steps = json!([
        { "name": "ask", "agent": "asker" },
        { "name": "meddle", "agent": "meddler", "needs": ["ask"] },
        { "name": "tell", "agent": "expert", "needs": ["ask"] },
    ]);
    let key = bed.submit(steps, json!({})).await;
    let session = bed.session().await;
    let ask = bed.claim_one(&session, "asker").await;
    let asked = Saying { timeout_s: Some(600), ..tell(MessageType::Request, "tone?") }.to(agent("expert"));
    let done = |claim: &galley_engine::Claimed, said: Saying| {
        Report::of(claim, 1, Outcome::Succeeded(answer(&json!({})).unwrap().saying(said)))
    };
    bed.engine.complete(&[done(&ask, asked)]).await.unwrap();
    let id = sent(&bed, key).await[0].id;
    let meddle = bed.claim_one(&session, "meddler").await;
    let expert = bed.claim_one(&session, "expert").await;
    let both = [("wet", &meddle), ("dry", &expert)]
        .map(|(word, claim)| done(claim, Saying::answer(id, raw(&json!(word)))));
    bed.engine.complete(&both).await.unwrap();
    assert_eq!(
        standings(&bed, key).await,
        [
            ("ask: tone?".to_owned(), Some(Standing::Answered)),
            ("meddle: wet".to_owned(), Some(Standing::Late)),
            ("tell: dry".to_owned(), Some(Standing::Accepted)),
        ]
    );
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repetition_and_an_overtaken_attempt_say_nothing() {
    let bed = Bed::new().await;
    let agents = Agents::default().with("talker", retry(3), |step| async move { talker(&step) });
    bed.register(&agents).await;
    let key = bed.submit(chain(&[("a", "talker"), ("b", "talker")]), json!({})).await;
    let session = bed.session().await;
    let report = |claim: &galley_engine::Claimed, what: &str| {
        let said = answer(&json!({})).unwrap().saying(tell(MessageType::Notification, what));
        let said = said.remembering(Remembering::new("last", raw(&json!(what))));
        Report::of(claim, 1, Outcome::Succeeded(said))
    };
    let first = bed.claim_one(&session, "talker").await;
    bed.engine.complete(&[Report::of(&first, 0, Outcome::GivenBack)]).await.unwrap();
    let second = bed.claim_one(&session, "talker").await;
    // The overtaken one, before and after; the winner three times, as after a
    // COMMIT whose reply was lost.
    let stale = bed.engine.complete(&[report(&first, "overtaken")]).await.unwrap();
    assert_eq!(stale, [Recorded::Stale]);
    for _ in 0..3 {
        assert_eq!(bed.engine.complete(&[report(&second, "mine")]).await.unwrap(), [Recorded::Yes]);
    }
    assert_eq!(bed.engine.complete(&[report(&first, "overtaken")]).await.unwrap(), [Recorded::Stale]);
    let said: Vec<String> = sent(&bed, key).await.iter().map(short).collect();
    assert_eq!(said, ["a: mine"]);
    let context = bed.api.shared_context(key).await.unwrap();
    assert_eq!((context.len(), context[0].version, context[0].value.get()), (1, 1, "\"mine\""));
    // Another process hears it, too: nothing of it is in anybody's memory.
    let other = bed.another_engine();
    let claim = bed.claim_one(&session, "talker").await;
    assert_eq!(claim.inbox.messages.len(), 1);
    other.complete(&[Report::of(&claim, 0, Outcome::GivenBack)]).await.unwrap();
    bed.api.cancel(key, "ada").await.unwrap();
    bed.engine.close_session(&session, "done").await.unwrap();
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_was_changed_meanwhile_is_not_overwritten() {
    let mut bed = Bed::new().await;
    // Both read the count before either writes: one of them must count again.
    let meet = Arc::new(tokio::sync::Barrier::new(2));
    let agents = Agents::default()
        .with("counter", retry(3), move |step| {
            let meet = Arc::clone(&meet);
            async move {
                let entry = step.inbox.entry("count");
                let count = entry.map_or(0, |entry| entry.value.get().parse::<u32>().unwrap());
                if step.attempt == 1 {
                    meet.wait().await;
                }
                let entry = Remembering {
                    if_version: Some(entry.map_or(0, |entry| entry.version)),
                    ..Remembering::new("count", raw(&json!(count + 1)))
                };
                Ok(answer(&json!({}))?.remembering(entry))
            }
        })
        .with("silent", retry(3), |_| async move { answer(&json!({})) })
        .with("rude", retry(1), |_| async move {
            Ok(answer(&json!({}))?.remembering(Remembering::new("not a key", raw(&json!(1)))))
        });
    bed.serve(&agents).await;
    let steps = json!([
        { "name": "one", "agent": "counter", "needs": [] },
        { "name": "two", "agent": "counter", "needs": [] },
        { "name": "end", "agent": "silent", "needs": ["one", "two"] },
    ]);
    let key = bed.submit(steps, json!({})).await;
    let history = bed.finish(key, WorkflowState::Succeeded).await;
    let context = bed.api.shared_context(key).await.unwrap();
    assert_eq!((context[0].value.get(), context[0].version), ("2", 2));
    let classes: Vec<_> = history.attempts.iter().map(|attempt| attempt.class.as_str()).collect();
    assert_eq!(classes, ["context_conflict"], "one of them counted again");

    let key = bed.submit(chain(&[("x", "rude")]), json!({})).await;
    let history = bed.finish(key, WorkflowState::Stalled).await;
    assert_eq!(history.attempts[0].class, "bad_message");
    assert!(history.attempts[0].message.contains("is no key"), "{:?}", history.attempts[0]);
    bed.api.cancel(key, "ada").await.unwrap();
    bed.end().await;
}
