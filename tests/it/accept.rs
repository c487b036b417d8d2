//! Accepting: one key is one workflow, what is wrong is refused with its place
//! and leaves no trace, and Redis is not needed.

use std::collections::HashSet;

use futures::future::join_all;
use galley_core::run::WorkflowState;
use galley_engine::EngineError;
use galley_servers::PrivateRedis;
use serde_json::{Value, json};

use crate::harness::{Agents, Bed, Setup, problems, request, until};

const TABLES: [&str; 4] = ["workflows", "runs", "definitions", "audit"];

async fn rows(bed: &Bed) -> Vec<i64> {
    let mut rows = Vec::new();
    for table in TABLES {
        rows.push(bed.count(&format!("SELECT count(*) FROM {table}")).await);
    }
    rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_submits_with_one_key_are_one_workflow() {
    let mut bed = Bed::new().await;
    let agents = Agents::echo();
    bed.serve(&agents).await;
    // Two API processes.
    let engines = [bed.another_engine(), bed.another_engine()];
    let submit = request(json!([{ "name": "a", "agent": "echo" }]), json!({ "n": 1 }));
    let context = bed.context_with(bed.workspace, "the same key");
    let submits = (0..1_000).map(|n| engines[n % 2].submit(&context, &submit));
    let submitted: Vec<_> = join_all(submits).await.into_iter().map(Result::unwrap).collect();
    let ids: HashSet<_> = submitted.iter().map(|submitted| submitted.workflow).collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(submitted.iter().filter(|submitted| submitted.new).count(), 1);
    bed.finish_all().await;
    assert_eq!(agents.calls().len(), 1);
    assert_eq!(bed.count("SELECT count(*) FROM workflows").await, 1);

    // The order of keys does not make another request; a value does.
    let reordered: Value = serde_json::from_str(r#"{ "b": 2, "a": 1 }"#).unwrap();
    let mut first = submit.clone();
    first.input = json!({ "a": 1, "b": 2 });
    let context = bed.context();
    let one = bed.api.submit(&context, &first).await.unwrap();
    first.input = reordered;
    let two = bed.api.submit(&context, &first).await.unwrap();
    assert_eq!((one.workflow, two.new), (two.workflow, false));
    first.input = json!({ "a": 1, "b": 3 });
    match bed.api.submit(&context, &first).await.unwrap_err() {
        EngineError::IdempotencyMismatch(workflow) => assert_eq!(workflow, one.workflow),
        other => panic!("{other}"),
    }
    // Another workspace's keys are its own.
    let other = bed.engine.create_workspace("other", 1, "test").await.unwrap().id;
    let foreign = bed.context_with(other, &context.idempotency_key);
    assert!(bed.api.submit(&foreign, &submit).await.unwrap().new);
    bed.finish_all().await;
    bed.end().await;
}

#[tokio::test]
async fn what_is_wrong_is_refused_with_its_place_and_nothing_is_stored() {
    let bed = Bed::new().await;
    bed.register(&Agents::echo()).await;
    let before = rows(&bed).await;
    let long = "x".repeat(300_000);
    let many: Vec<_> = (0..1_100).map(|n| json!({ "name": format!("s{n}"), "agent": "echo" })).collect();
    let echo = |more: Value| {
        let mut step = json!({ "name": "a", "agent": "echo" });
        step.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!([step])
    };
    let cases = [
        (
            json!([{ "name": "a", "agent": "echo", "needs": ["c"] }, { "name": "b", "agent": "echo" },
                   { "name": "c", "agent": "echo" }]),
            "steps[0].needs: these steps wait for each other: a needs c needs b needs a",
        ),
        (echo(json!({ "needs": ["a"] })), "steps[0].needs[0]: `a` cannot need itself"),
        (echo(json!({ "needs": ["z"] })), "steps[0].needs[0]: there is no step `z` in this workflow"),
        (echo(json!({ "agent": "nobody" })), "steps[0].agent: no agent type `nobody` is registered"),
        (
            json!([{ "name": "a", "agent": "echo" }, { "name": "a", "agent": "echo" }]),
            "steps[1].name: `a` is already the name of steps[0]",
        ),
        (echo(json!({ "name": "A b" })), "steps[0].name: use 1-48 of a-z"),
        (echo(json!({ "forEach": { "path": "/x" } })), "steps[0].forEach.max: an expansion must be bounded"),
        (
            echo(json!({ "forEach": { "path": "/x", "max": 1_024 } })),
            "steps: 1025 steps when every forEach is at its max",
        ),
        (
            echo(json!({ "forEach": { "path": "x", "max": 2 } })),
            "steps[0].forEach.path: a JSON Pointer begins with `/`",
        ),
        (echo(json!({ "when": "secrets.key" })), "steps[0].when: unknown variable `secrets`"),
        (echo(json!({ "when": "1 +" })), "steps[0].when: not a CEL expression"),
        (echo(json!({ "retry": { "maxAttempts": 0 } })), "steps[0].retry.maxAttempts: must be at least 1"),
        (echo(json!({ "input": { "text": long } })), "definition: "),
        (json!(many), "steps: 1100 steps"),
        (json!([]), "steps: a workflow needs at least one step"),
    ];
    for (steps, told) in cases {
        let refused = bed.api.submit(&bed.context(), &request(steps, Value::Null)).await.unwrap_err();
        let problems = problems(&refused);
        assert!(problems.iter().any(|problem| problem.starts_with(told)), "{told}\n  told: {problems:?}");
    }
    assert_eq!(rows(&bed).await, before, "rows of {TABLES:?}");

    // Several mistakes are told at once.
    let steps = json!([{ "name": "a", "agent": "nobody", "needs": ["z"] }]);
    let refused = bed.api.submit(&bed.context(), &request(steps, Value::Null)).await.unwrap_err();
    assert_eq!(problems(&refused).len(), 2);

    // Around the definition: key, input size, priority, neither template nor
    // definition.
    let good = request(echo(json!({})), Value::Null);
    for key in ["", "a\nb", &"k".repeat(201)] {
        let context = bed.context_with(bed.workspace, key);
        let refused = bed.api.submit(&context, &good).await.unwrap_err();
        assert!(problems(&refused)[0].starts_with("Idempotency-Key: "));
    }
    let mut wrong = good.clone();
    wrong.input = json!(long);
    wrong.priority = Some(10);
    let refused = bed.api.submit(&bed.context(), &wrong).await.unwrap_err();
    let told = problems(&refused);
    assert!(told[0].starts_with("input: 300002 bytes") && told[1].starts_with("priority: 0"), "{told:?}");
    let mut neither = good;
    neither.definition = None;
    let refused = bed.api.submit(&bed.context(), &neither).await.unwrap_err();
    assert!(problems(&refused)[0].starts_with("template: "));
    assert_eq!(rows(&bed).await, before);
    bed.end().await;
}

#[tokio::test]
async fn schemas_are_checked_before_anything_is_stored() {
    let bed = Bed::new().await;
    bed.register(&Agents::echo()).await;
    let before = rows(&bed).await;
    let submit = |schema: Value, input: Value| {
        let mut submit = request(json!([{ "name": "a", "agent": "echo" }]), input);
        submit.definition.as_mut().unwrap().input_schema = Some(schema);
        submit
    };
    let refused = bed.api.submit(&bed.context(), &submit(json!({ "type": "no such type" }), json!(1))).await;
    let told = problems(&refused.unwrap_err());
    assert!(told[0].starts_with("inputSchema: not a JSON Schema"), "{told:?}");
    assert_eq!(rows(&bed).await, before);

    let schema = json!({ "type": "object", "required": ["topic"],
                         "properties": { "posts": { "type": "array", "items": { "type": "string" } } } });
    let wrong = submit(schema.clone(), json!({ "posts": ["a", 2] }));
    let told = problems(&bed.api.submit(&bed.context(), &wrong).await.unwrap_err());
    assert!(told.iter().any(|problem| problem.starts_with("input.posts.1: ")), "{told:?}");
    assert!(told.iter().any(|problem| problem.contains("topic")), "{told:?}");
    assert_eq!(bed.count("SELECT count(*) FROM workflows").await, 0);
    let right = submit(schema, json!({ "topic": "tea", "posts": ["a"] }));
    assert!(bed.api.submit(&bed.context(), &right).await.unwrap().new);
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_a_workflow_is_accepted_and_runs_when_it_is_back() {
    let mut redis = PrivateRedis::start_temporary().await.unwrap();
    let mut bed = Bed::with(Setup { redis_url: Some(redis.url()), ..Setup::default() }).await;
    let agents = Agents::echo();
    bed.serve(&agents).await;
    redis.kill().await;
    let key = bed
        .submit(json!([{ "name": "a", "agent": "echo" }, { "name": "b", "agent": "echo" }]), json!({}))
        .await;
    assert_eq!(bed.api.workflow(key).await.unwrap().state, WorkflowState::Running);
    redis.restart_empty().await.unwrap();
    bed.finish(key, WorkflowState::Succeeded).await;
    bed.end().await;
}

#[tokio::test]
async fn a_submit_that_nobody_pushed_is_found_by_the_reconciler() {
    let mut redis = PrivateRedis::start_temporary().await.unwrap();
    let mut bed = Bed::with(Setup { redis_url: Some(redis.url()), ..Setup::default() }).await;
    let agents = Agents::echo();
    bed.register(&agents).await;
    bed.submit_many(bed.workspace, "echo", 50).await;
    redis.restart_empty().await.unwrap();
    bed.serve(&agents).await;
    bed.finish_all().await;
    until("each ran once", || async { agents.calls().len() == 50 }).await;
    bed.end().await;
}
