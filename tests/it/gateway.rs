//! Workers in any language: the example in Python as its reader would run it,
//! and the gateway's promises, call by call.

use std::time::Duration;

use galley_api::views::Role::Admin;
use galley_core::run::{StepState, WorkflowState};
use galley_gateway::GatewayLimits;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{Agents, Api, Bed, Gateway, Python, Setup, until};

/// The output of a step.
async fn output(bed: &Bed, step: u16) -> Value {
    let query = format!("SELECT output::text FROM results WHERE step = {step}");
    serde_json::from_str(&bed.text(&query).await).unwrap()
}

fn nervous() -> Setup {
    Setup { nervous: true, ..Setup::default() }
}

#[tokio::test]
async fn the_example_in_python_serves_steps_between_those_of_our_own_workers() {
    let mut bed = Bed::new().await;
    bed.serve(&Agents::echo()).await;
    let gateway = Gateway::of(&bed).await;
    let mut python = Python::example(&gateway, &gateway.token("python", &["summarise", "other"]));
    until("it has registered its agent", || async {
        bed.count("SELECT count(*) FROM agents WHERE agent = 'summarise'").await == 1
    })
    .await;
    let steps = json!([
        { "name": "before", "agent": "echo" },
        { "name": "short", "agent": "summarise" },
        { "name": "after", "agent": "echo" }
    ]);
    let brief = json!({ "text": "It floats. Twice as fast as the last one, too." });
    let key = bed.submit(steps.clone(), brief).await;
    bed.finish(key, WorkflowState::Succeeded).await;
    assert_eq!(output(&bed, 1).await, json!({ "summary": "It floats.", "words": 10 }));

    // What does not fit its input schema never reaches it.
    let key = bed.submit(steps, json!({ "text": 7 })).await;
    until("the step is dead", || async {
        bed.api.workflow(key).await.unwrap().run.steps[1].state == StepState::Dead
    })
    .await;
    assert_eq!(bed.text("SELECT class FROM attempts").await, "bad_input");
    bed.api.cancel(key, "ada").await.unwrap();

    // It is a worker like any other.
    let agents = bed.text("SELECT spec->>'description' FROM agents WHERE agent = 'summarise'").await;
    assert_eq!(agents, "The first sentence of a text");
    let session =
        "SELECT concat_ws(' ', worker, host, pid, agents::text) FROM sessions WHERE worker = 'python'";
    assert_eq!(bed.text(session).await, format!("python outside {} {{summarise}}", python.pid()));
    python.signal(Signal::SIGTERM);
    assert!(python.ended().await, "it drains and ends by itself");
    assert_eq!(bed.text("SELECT close_reason FROM sessions WHERE worker = 'python'").await, "drained");
    bed.end().await;
}

#[tokio::test]
async fn a_worker_in_python_that_is_killed_or_cancelled_costs_no_step() {
    let mut bed = Bed::with(nervous()).await;
    bed.start_duties();
    let gateway = Gateway::of(&bed).await;
    let token = gateway.token("python", &["slow"]);
    let folder = tempfile::tempdir().unwrap();
    let noted = |what: &str, pid: u32| folder.path().join(format!("{what}-{pid}")).exists();
    let mut doomed = Python::slow(&gateway, &token, folder.path());
    until("it has registered its agent", || async {
        bed.count("SELECT count(*) FROM agents WHERE agent = 'slow'").await == 1
    })
    .await;

    // Cancelled: it hears so with a heartbeat.
    let steps = json!([{ "name": "only", "agent": "slow" }]);
    let key = bed.submit(steps.clone(), Value::Null).await;
    until("it runs", || async { noted("began", doomed.pid()) }).await;
    bed.api.cancel(key, "ada").await.unwrap();
    until("it stopped", || async { noted("cancelled", doomed.pid()) }).await;
    std::fs::remove_file(folder.path().join(format!("began-{}", doomed.pid()))).unwrap();

    // Killed in the middle: another one finishes, and there is one result.
    let key = bed.submit(steps, Value::Null).await;
    until("it runs again", || async { noted("began", doomed.pid()) }).await;
    doomed.signal(Signal::SIGKILL);
    assert!(!doomed.ended().await);
    let heir = Python::slow(&gateway, &token, folder.path());
    until("the other one runs it", || async { noted("began", heir.pid()) }).await;
    std::fs::write(folder.path().join("go"), "").unwrap();
    let history = bed.finish(key, WorkflowState::Succeeded).await;
    assert_eq!((history.results.len(), history.workflow.run.steps[0].crashes), (1, 1));
    let said = output(&bed, 0).await;
    // A crash is no attempt; the effect key is the step's.
    assert_eq!((said["by"].as_u64(), said["attempt"].as_u64()), (Some(heir.pid().into()), Some(1)));
    drop(heir);
    until("its session is over, too", || async {
        bed.count("SELECT count(*) FROM sessions WHERE closed_at IS NULL").await == 0
    })
    .await;
    bed.end().await;
}

#[tokio::test]
async fn a_report_is_recorded_once_by_whichever_gateway_and_a_stale_one_never() {
    let mut bed = Bed::with(nervous()).await;
    let (gateway, another) = (Gateway::of(&bed).await, Gateway::of(&bed).await);
    let token = gateway.token("a", &["outside"]);
    let session = gateway.connect(&token, "outside", 2).await;
    bed.start_duties();
    let steps = json!([{ "name": "only", "agent": "outside", "input": { "n": 1 } }]);

    // What one attempt says, the next step is told.
    let pair = json!([{ "name": "one", "agent": "outside" }, { "name": "two", "agent": "outside" }]);
    let key = bed.submit(pair, Value::Null).await;
    let one = gateway.lease_one(&token, &session).await;
    let says = json!({ "messages": [{ "messageType": "notification", "content": "mind the gap" }],
        "context": [{ "key": "tone", "value": "dry" }] });
    gateway.call("complete", &token, &json!({ "lease": one["lease"], "output": 1, "says": says })).await;
    let two = gateway.lease_one(&token, &session).await;
    let heard = two["inbox"]["messages"].as_array().unwrap();
    assert!(heard.iter().any(|message| message["content"] == "mind the gap"), "{two}");
    assert_eq!(
        (&two["inbox"]["context"][0]["value"], &two["input"]["results"]["one"]),
        (&json!("dry"), &json!(1))
    );
    gateway.call("complete", &token, &json!({ "lease": two["lease"], "output": 2 })).await;
    bed.finish(key, WorkflowState::Succeeded).await;
    bed.execute("DELETE FROM results").await;

    // Leased here, reported there, told twice.
    let key = bed.submit(steps.clone(), json!({ "topic": "ships" })).await;
    let step = gateway.lease_one(&token, &session).await;
    assert_eq!(step["input"], json!({ "brief": { "topic": "ships" }, "params": { "n": 1 }, "results": {} }));
    assert_eq!((step["step"].as_str(), step["attempt"].as_u64()), (Some("only"), Some(1)));
    assert_eq!((step["agent"].as_str(), step["timeoutMs"].as_u64()), (Some("outside"), Some(300_000)));
    assert_eq!(step["workflowId"], key.workflow.to_string());
    let usage =
        json!({ "provider": "local", "model": "tiny", "tokensIn": 7, "tokensOut": 2, "costMicros": 30 });
    let done = json!({ "lease": step["lease"], "output": { "ok": true }, "usage": usage, "durationMs": 12 });
    for gateway in [&another, &gateway] {
        let told = gateway.call("complete", &token, &done).await;
        assert_eq!(told, json!({ "outcome": "succeeded" }), "recorded, or recognised");
    }
    // The first report stands.
    let failed = json!({ "lease": step["lease"], "class": "oops", "message": "no" });
    gateway.call("fail", &token, &failed).await;
    bed.finish(key, WorkflowState::Succeeded).await;
    let row =
        "SELECT concat_ws(' ', output::text, duration_ms, tokens_in, cost_micros, provider) FROM results";
    assert_eq!(bed.text(row).await, r#"{"ok":true} 12 7 30 local"#);
    assert_eq!(bed.count("SELECT count(*) FROM attempts").await, 0);

    // Silent for longer than a session may be: the step is somebody else's.
    let key = bed.submit(steps.clone(), Value::Null).await;
    let beat = json!({ "session": session, "holding": [] });
    let alive = gateway.ask("heartbeat", Some(&token), &beat).await;
    let session = if alive.status == 200 { session } else { gateway.connect(&token, "outside", 2).await };
    let mine = gateway.lease_one(&token, &session).await;
    until("the session is over", || async {
        bed.count("SELECT count(*) FROM sessions WHERE closed_at IS NULL").await == 0
    })
    .await;
    for path in ["heartbeat", "lease"] {
        let over = gateway.ask(path, Some(&token), &json!({ "session": session, "holding": [] })).await;
        assert_eq!(
            (over.status, &over.body["type"]),
            (410, &json!("urn:galley:problem:session-over")),
            "{path}"
        );
    }
    let session = gateway.connect(&token, "outside", 2).await;
    let theirs = gateway.lease_one(&token, &session).await;
    assert_eq!(mine["effectKey"], theirs["effectKey"]);
    let late = json!({ "lease": mine["lease"], "output": "late", "usage": { "costMicros": 5 } });
    for path in ["complete", "complete"] {
        let stale = gateway.ask(path, Some(&token), &late).await;
        assert_eq!((stale.status, &stale.body["type"]), (409, &json!("urn:galley:problem:overtaken")));
    }
    assert_eq!(
        bed.text("SELECT concat(outcome, cost_micros) FROM attempts WHERE cost_micros > 0").await,
        "crashed5"
    );
    let heard =
        another.call("heartbeat", &token, &json!({ "session": session, "holding": [theirs["lease"]] })).await;
    assert_eq!(heard, json!({ "stop": [] }));
    gateway.call("complete", &token, &json!({ "lease": theirs["lease"], "output": "mine" })).await;
    bed.finish(key, WorkflowState::Succeeded).await;
    let heard =
        another.call("heartbeat", &token, &json!({ "session": session, "holding": [theirs["lease"]] })).await;
    assert_eq!(heard, json!({ "stop": [theirs["lease"]] }), "nobody waits for what is recorded");
    bed.end().await;
}

#[tokio::test]
async fn what_a_worker_never_heard_of_goes_back_uncounted() {
    let mut bed = Bed::with(nervous()).await;
    let gateway = Gateway::of(&bed).await;
    let token = gateway.token("a", &["outside"]);
    let session = gateway.connect(&token, "outside", 2).await;
    bed.start_duties();
    let key = bed.submit(json!([{ "name": "only", "agent": "outside" }]), Value::Null).await;
    // The reply is lost: the worker goes on as if it had asked in vain.
    let lost = gateway.lease_one(&token, &session).await;
    until("it is back", || async {
        gateway.call("heartbeat", &token, &json!({ "session": session, "holding": [] })).await;
        bed.api.workflow(key).await.unwrap().run.steps[0].state == StepState::Queued
    })
    .await;
    let again = gateway.lease_one(&token, &session).await;
    assert_ne!(lost["lease"], again["lease"]);
    // What arrived stays, however long it runs; what is given back does not count.
    assert_eq!((again["attempt"].as_u64(), bed.count("SELECT count(*) FROM attempts").await), (Some(1), 0));
    let holding = json!({ "session": session, "holding": [again["lease"]] });
    gateway.call("heartbeat", &token, &holding).await;
    assert_eq!(bed.count("SELECT cardinality(handed)::int8 FROM sessions").await, 0);
    let back = gateway.call("give-back", &token, &json!({ "leases": [again["lease"], lost["lease"]] })).await;
    assert_eq!(back, json!({ "givenBack": 1 }));
    let third = gateway.lease_one(&token, &session).await;
    // A caller that hangs up while it waits takes nothing along.
    let waiting = json!({ "session": session, "holding": [third["lease"]], "waitMs": 20_000 });
    let hung_up =
        tokio::time::timeout(Duration::from_millis(100), gateway.ask("lease", Some(&token), &waiting));
    assert!(hung_up.await.is_err());
    let other = bed.submit(json!([{ "name": "only", "agent": "outside" }]), Value::Null).await;
    let fourth = gateway.call("lease", &token, &waiting).await["steps"][0].clone();
    assert_eq!(fourth["workflowId"], other.workflow.to_string());

    // A close gives back what is held, and what was on its way: the reply that
    // had the fourth was lost.
    let holding = json!([third["lease"]]);
    let closed = gateway.call("close", &token, &json!({ "session": session, "holding": holding })).await;
    assert_eq!(closed, json!({ "givenBack": 2 }));
    for key in [key, other] {
        let step = bed.api.workflow(key).await.unwrap().run.steps[0].clone();
        assert_eq!((step.state, step.attempts, step.crashes), (StepState::Queued, 0, 0));
        bed.api.cancel(key, "ada").await.unwrap();
    }

    // Their inputs cannot be checked: all that were claimed go back, not only
    // the first.
    let three = ["one", "two", "three"].map(|name| json!({ "name": name, "agent": "outside", "needs": [] }));
    let key = bed.submit(json!(three), Value::Null).await;
    let session = gateway.connect(&token, "outside", 3).await;
    bed.execute(
        r#"UPDATE agents SET spec = jsonb_set(spec::jsonb, '{inputSchema}', '{"type": 7}')::json WHERE agent = 'outside'"#,
    )
    .await;
    // It has not read a schema yet.
    let another = Gateway::of(&bed).await;
    let begun = bed.api.workflow(key).await.unwrap().run.steps;
    until("each was claimed and is back", || async {
        let answer = another.ask("lease", Some(&token), &json!({ "session": session, "max": 3 })).await;
        assert_eq!(answer.status, 500, "{}", answer.text);
        let steps = bed.api.workflow(key).await.unwrap().run.steps;
        let are: Vec<_> = steps.iter().map(|step| (step.state, step.attempts, step.crashes)).collect();
        assert_eq!(are, [(StepState::Queued, 0, 0); 3]);
        steps.iter().zip(&begun).all(|(now, then)| now.epoch > then.epoch)
    })
    .await;
    bed.api.cancel(key, "ada").await.unwrap();
    bed.end().await;
}

#[tokio::test]
async fn a_failure_says_what_follows_and_an_output_that_does_not_fit_is_one() {
    let mut bed = Bed::new().await;
    let gateway = Gateway::of(&bed).await;
    let token = gateway.token("a", &["strict"]);
    let schema = json!({ "type": "object", "required": ["n"] });
    let retry = json!({ "maxAttempts": 2, "backoffMs": 1, "maxBackoffMs": 1 });
    let offer = json!({ "agent": "strict", "outputSchema": schema, "retry": retry });
    let connect = json!({ "worker": "w", "agents": [offer] });
    let session = gateway.call("connect", &token, &connect).await["session"].as_str().unwrap().to_owned();
    bed.start_duties();
    let key = bed.submit(json!([{ "name": "only", "agent": "strict" }]), Value::Null).await;
    let throttled = gateway.lease_one(&token, &session).await;
    let later = json!({ "lease": throttled["lease"], "class": "busy", "message": "later", "retry": "throttled",
        "retryAfterMs": 1 });
    let told = gateway.call("fail", &token, &later).await;
    assert_eq!(told, json!({ "outcome": "failed", "class": "busy", "message": "later" }));
    for attempt in 1..=2 {
        let step = gateway.lease_one(&token, &session).await;
        assert_eq!(step["attempt"].as_u64(), Some(attempt), "a throttled one does not count");
        let bad = json!({ "lease": step["lease"], "output": { "m": 1 }, "usage": { "costMicros": 3 } });
        for _ in 0..2 {
            let told = gateway.call("complete", &token, &bad).await;
            assert_eq!((&told["outcome"], &told["class"]), (&json!("failed"), &json!("bad_output")));
            assert!(told["message"].as_str().unwrap().contains("\"n\" is a required property"), "{told}");
        }
    }
    until("it is dead", || async {
        bed.api.workflow(key).await.unwrap().run.steps[0].state == StepState::Dead
    })
    .await;
    let log =
        bed.texts("SELECT concat_ws(' ', outcome, class, cost_micros) FROM attempts ORDER BY epoch").await;
    assert_eq!(log, ["throttled busy 0", "failed bad_output 3", "failed bad_output 3"]);
    let key = bed.submit(json!([{ "name": "only", "agent": "strict" }]), Value::Null).await;
    let step = gateway.lease_one(&token, &session).await;
    let fatal = json!({ "lease": step["lease"], "class": "no", "message": "never", "retry": "permanent" });
    gateway.call("fail", &token, &fatal).await;
    until("it is dead", || async {
        bed.api.workflow(key).await.unwrap().run.steps[0].state == StepState::Dead
    })
    .await;
    gateway.call("close", &token, &json!({ "session": session })).await;
    bed.end().await;
}

#[tokio::test]
async fn nobody_gets_further_than_a_token_says() {
    let mut bed = Bed::new().await;
    let http = galley_edge::HttpLimits { body_bytes: 100_000, ..GatewayLimits::default().http };
    let gateway =
        Gateway::with(&bed, GatewayLimits { http, calls_at_once: 1, ..GatewayLimits::default() }).await;
    let api = Api::of(&bed, Admin).await;
    bed.start_duties();
    let token = gateway.token("a", &["mine", "also"]);
    let session = gateway.connect(&token, "mine", 2).await;
    let key = bed.submit(json!([{ "name": "only", "agent": "mine" }]), Value::Null).await;
    let step = gateway.lease_one(&token, &session).await;
    let lease = step["lease"].as_str().unwrap();
    let done = |lease: &str| json!({ "lease": lease, "output": 1 });
    let connect = |agent: &str| json!({ "worker": "w", "agents": [{ "agent": agent }] });
    let reserve = |lease: &str, call: u16, bound: u64| json!({ "lease": lease, "call": call, "provider": "p", "model": "m", "boundMicros": bound });
    let beat = |session: &str, holding: &[&str]| json!({ "session": session, "holding": holding });

    let admin = api.token(bed.workspace, &[Admin], true);
    let stranger = gateway.token("b", &["mine"]);
    let narrow = gateway.token("a", &["also"]);
    let mut forged = lease.to_owned();
    let last = forged.pop().unwrap();
    forged.push(if last == 'A' { 'B' } else { 'A' });
    for (what, path, token, body, status) in [
        ("nobody", "connect", None, connect("mine"), 401),
        ("the API's token", "connect", Some(&admin), connect("mine"), 401),
        ("no JSON of anybody", "complete", None, json!("x".repeat(99_000)), 401),
        ("another agent", "connect", Some(&token), connect("foreign"), 403),
        ("the publisher", "connect", Some(&token), connect("publisher"), 403),
        ("the engine", "connect", Some(&token), connect("coordinator"), 403),
        ("somebody else's lease", "complete", Some(&stranger), done(lease), 422),
        ("somebody else's session", "heartbeat", Some(&stranger), beat(&session, &[]), 422),
        ("somebody else's wish", "lease", Some(&stranger), json!({ "session": session }), 422),
        ("a narrower token's lease", "complete", Some(&narrow), done(lease), 403),
        ("a narrower token's session", "lease", Some(&narrow), json!({ "session": session }), 403),
        ("a session as a lease", "complete", Some(&token), done(&session), 422),
        ("a lease as a session", "heartbeat", Some(&token), beat(lease, &[]), 422),
        ("a forged lease", "complete", Some(&token), done(&forged), 422),
        ("a token as a lease", "complete", Some(&token), done(&token), 422),
        ("more than it runs", "heartbeat", Some(&token), beat(&session, &[lease; 5]), 422),
        ("somebody else's money", "reserve", Some(&stranger), reserve(lease, 0, 1), 422),
        ("somebody else's bill", "settle", Some(&stranger), json!({ "lease": lease, "call": 0 }), 422),
        ("a narrower token's money", "reserve", Some(&narrow), reserve(lease, 0, 1), 403),
        ("a narrower token's bill", "settle", Some(&narrow), json!({ "lease": lease, "call": 0 }), 403),
        ("one call too many", "reserve", Some(&token), reserve(lease, 10_000, 1), 422),
        ("more than there is", "reserve", Some(&token), reserve(lease, 0, u64::MAX), 422),
        (
            "a bill nobody can pay",
            "complete",
            Some(&token),
            json!({ "lease": lease, "output": 1,
            "usage": { "costMicros": u64::MAX } }),
            422,
        ),
        (
            "no money, and no sum",
            "fail",
            Some(&token),
            json!({ "lease": lease, "class": "waiting_budget",
            "message": "", "retry": "unfunded" }),
            422,
        ),
        (
            "a sum of what has money",
            "fail",
            Some(&token),
            json!({ "lease": lease, "class": "a", "message": "",
            "neededMicros": 1 }),
            422,
        ),
        ("a bad class", "fail", Some(&token), json!({ "lease": lease, "class": "No!", "message": "" }), 422),
        (
            "a body too large",
            "complete",
            Some(&token),
            json!({ "lease": lease, "output": "x".repeat(100_000) }),
            413,
        ),
        ("an unknown field", "give-back", Some(&token), json!({ "leases": [], "all": true }), 422),
        (
            "no schema",
            "connect",
            Some(&token),
            json!({ "worker": "", "agents": [{ "agent": "mine", "inputSchema": { "type": 7 } }] }),
            422,
        ),
    ] {
        let answer = gateway.ask(path, token.map(String::as_str), &body).await;
        assert_eq!(answer.status, status, "{what}: {}", answer.text);
        assert_eq!(answer.body["status"], status, "{what}: {}", answer.text);
        assert!(answer.body["type"].as_str().unwrap().starts_with("urn:galley:problem:"), "{what}");
    }
    // A worker's token opens nothing in the API.
    assert_eq!(api.ask("GET", "/v1/workflows", Some(&token), None).await.status, 401);

    // One call at a time: a second one does not wait beside the first.
    let waiting = json!({ "session": session, "holding": [lease], "waitMs": 5_000 });
    let (first, second) = tokio::join!(
        tokio::time::timeout(Duration::from_secs(2), gateway.ask("lease", Some(&token), &waiting)),
        async {
            let mut answer = gateway.ask("heartbeat", Some(&token), &beat(&session, &[lease])).await;
            while answer.status == 200 {
                answer = gateway.ask("heartbeat", Some(&token), &beat(&session, &[lease])).await;
            }
            answer
        }
    );
    assert!(first.is_err());
    assert_eq!((second.status, &second.body["type"]), (429, &json!("urn:galley:problem:too-many-calls")));

    // The deployment issues and revokes it; an admin of a workspace does not.
    let wish = json!({ "subject": "py", "agents": ["mine"] });
    let inner = api.token(bed.workspace, &[Admin], false);
    assert_eq!(api.ask("POST", "/v1/tokens", Some(&inner), Some(&wish)).await.status, 403);
    let roles = json!({ "subject": "py", "agents": ["mine"], "roles": ["admin"] });
    assert_eq!(api.ask("POST", "/v1/tokens", Some(&admin), Some(&roles)).await.status, 422);
    for inside in ["publisher", "coordinator"] {
        let wish = json!({ "subject": "py", "agents": [inside] });
        assert_eq!(api.ask("POST", "/v1/tokens", Some(&admin), Some(&wish)).await.status, 422);
    }
    let issued = api.ask("POST", "/v1/tokens", Some(&admin), Some(&wish)).await;
    assert_eq!(issued.status, 201, "{}", issued.text);
    let told = bed.text("SELECT detail::text FROM audit WHERE action = 'token.issue'").await;
    assert!(told.contains("\"agents\"") && told.contains("mine"), "{told}");
    let issued = (issued.body["token"].as_str().unwrap().to_owned(), issued.body["id"].clone());
    gateway.call("connect", &issued.0, &connect("mine")).await;
    let revoked = api.ask("POST", "/v1/tokens/revoke", Some(&admin), Some(&json!({ "id": issued.1 }))).await;
    assert_eq!(revoked.status, 200, "{}", revoked.text);
    until("it is refused", || async {
        gateway.ask("connect", Some(&issued.0), &connect("mine")).await.status == 401
    })
    .await;

    // After all that, its holder finishes the step.
    gateway.call("complete", &token, &done(lease)).await;
    bed.finish(key, WorkflowState::Succeeded).await;
    bed.end().await;
}
