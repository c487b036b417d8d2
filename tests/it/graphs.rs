//! Shapes of workflows: what runs, in which order, with which input, and what
//! comes out.

use galley_core::ids::StepIndex;
use galley_core::report::StepError;
use galley_core::run::{StepState, WorkflowState};
use galley_engine::WorkflowHistory;
use serde_json::{Value, json};

use crate::harness::{Agents, Bed, answer, problems, request, retry};

fn step(history: &WorkflowHistory, name: &str) -> StepIndex {
    history.workflow.run.find_step(&history.workflow.plan, name).unwrap()
}

fn state(history: &WorkflowHistory, name: &str) -> StepState {
    history.workflow.run.steps[usize::from(step(history, name))].state
}

fn output(history: &WorkflowHistory, name: &str) -> Value {
    history.output(step(history, name)).unwrap_or(Value::Null)
}

#[tokio::test]
async fn a_chain_hands_results_on_and_every_agent_sees_the_brief() {
    let mut bed = Bed::new().await;
    let agents = Agents::echo();
    bed.serve(&agents).await;
    let steps = json!([
        { "name": "one", "agent": "echo", "input": { "tone": "calm" } },
        { "name": "two", "agent": "echo" },
        { "name": "three", "agent": "echo", "needs": ["one", "two"] }
    ]);
    let brief = json!({ "topic": "tea", "deep": [1, { "a": "ü\u{1F375}\"\\" }] });
    let key = bed.submit(steps, brief.clone()).await;
    let history = bed.finish(key, WorkflowState::Succeeded).await;

    let seen: Vec<_> = agents.calls().iter().map(|call| call.step_name.clone()).collect();
    assert_eq!(seen, ["one", "two", "three"]);
    let inputs: Vec<_> = agents.calls().iter().map(|call| Value::clone(&call.input)).collect();
    let echoed = |name: &str| json!({ "step": name, "item": null });
    assert_eq!(inputs[0], json!({ "brief": brief, "params": { "tone": "calm" }, "results": {} }));
    assert_eq!(inputs[1], json!({ "brief": brief, "params": null, "results": { "one": echoed("one") } }));
    let both = json!({ "one": echoed("one"), "two": echoed("two") });
    assert_eq!(inputs[2], json!({ "brief": brief, "params": null, "results": both }));
    // What the history shows is what the agent was given.
    for (name, input) in ["one", "two", "three"].iter().zip(&inputs) {
        assert_eq!(&history.step_input(step(&history, name)), input);
        assert_eq!(output(&history, name), echoed(name));
    }
    let effects: std::collections::HashSet<_> =
        agents.calls().into_iter().map(|call| call.effect_key).collect();
    assert_eq!(effects.len(), 3, "every step has an effect key of its own");
    assert_eq!(bed.count("SELECT count(*) FROM results").await, 3);
    bed.end().await;
}

#[tokio::test]
async fn a_diamond_joins_once_both_sides_are_there() {
    let mut bed = Bed::new().await;
    let agents = Agents::echo();
    bed.serve(&agents).await;
    // A second worker, so that the sides meet in the compare-and-set.
    bed.start_worker(&agents, 4).await;
    let steps = json!([
        { "name": "top", "agent": "echo" },
        { "name": "left", "agent": "echo", "needs": ["top"] },
        { "name": "right", "agent": "echo", "needs": ["top"] },
        { "name": "bottom", "agent": "echo", "needs": ["left", "right"] }
    ]);
    let mut keys = Vec::new();
    for _ in 0..40 {
        keys.push(bed.submit(steps.clone(), Value::Null).await);
    }
    for key in keys {
        let history = bed.finish(key, WorkflowState::Succeeded).await;
        assert_eq!(history.results.len(), 4);
    }
    let bottoms = agents.calls_of("bottom");
    assert_eq!(bottoms.len(), 40, "each join runs once");
    for call in bottoms {
        let results = call.input["results"].as_object().unwrap();
        assert_eq!(results.keys().collect::<Vec<_>>(), ["left", "right"]);
        assert!(results.values().all(|result| !result.is_null()));
    }
    bed.end().await;
}

#[tokio::test]
async fn a_wide_join_waits_for_every_branch() {
    let mut bed = Bed::new().await;
    let agents = Agents::echo();
    bed.serve(&agents).await;
    let mut steps: Vec<Value> =
        (0..60).map(|n| json!({ "name": format!("b{n}"), "agent": "echo", "needs": [] })).collect();
    let all: Vec<String> = (0..60).map(|n| format!("b{n}")).collect();
    steps.push(json!({ "name": "join", "agent": "echo", "needs": all }));
    let key = bed.submit(Value::Array(steps), Value::Null).await;
    bed.finish(key, WorkflowState::Succeeded).await;
    let joins = agents.calls_of("join");
    assert_eq!(joins.len(), 1);
    let results = joins[0].input["results"].as_object().unwrap();
    assert_eq!(results.len(), 60);
    for (name, result) in results {
        assert_eq!(result["step"], json!(name));
    }
    bed.end().await;
}

#[tokio::test]
async fn for_each_runs_once_per_item_of_the_input() {
    let mut bed = Bed::new().await;
    let agents = Agents::echo();
    bed.serve(&agents).await;
    let steps = json!([
        { "name": "each", "agent": "echo", "forEach": { "path": "/platforms", "max": 100 } },
        { "name": "after", "agent": "echo" }
    ]);
    for count in [0_usize, 1, 100] {
        let platforms: Vec<_> = (0..count).map(|n| json!({ "p": n })).collect();
        let key = bed.submit(steps.clone(), json!({ "platforms": platforms })).await;
        let history = bed.finish(key, WorkflowState::Succeeded).await;
        let mut items: Vec<(String, Value)> = agents
            .calls()
            .into_iter()
            .filter(|call| call.workflow == key.workflow && call.step_name != "after")
            .map(|call| (call.step_name, call.input["item"].clone()))
            .collect();
        items.sort_by_key(|(_, item)| item["p"].as_u64());
        let wanted: Vec<_> = (0..count).map(|n| (format!("each.{n}"), json!({ "p": n }))).collect();
        assert_eq!(items, wanted);
        let after = agents.calls_of("after").into_iter().find(|call| call.workflow == key.workflow);
        let joined: Vec<_> =
            (0..count).map(|n| json!({ "step": format!("each.{n}"), "item": { "p": n } })).collect();
        assert_eq!(after.unwrap().input["results"], json!({ "each": joined }), "in the order of the items");
        assert_eq!(state(&history, "each"), StepState::Succeeded);
    }
    bed.end().await;
}

#[tokio::test]
async fn for_each_over_a_result_sees_its_items() {
    let mut bed = Bed::new().await;
    let agents = Agents::echo().with("planner", retry(1), |step| async move {
        let count = step.input["params"]["count"].as_u64().unwrap();
        answer(&json!({ "plan": { "posts": (0..count).map(|n| format!("post {n}")).collect::<Vec<_>>() } }))
    });
    bed.serve(&agents).await;
    let steps = |count: usize, max: usize| {
        json!([
            { "name": "plan", "agent": "planner", "input": { "count": count } },
            { "name": "write", "agent": "echo", "needs": [],
              "forEach": { "step": "plan", "path": "/plan/posts", "max": max } },
            // An expansion over an expansion's results.
            { "name": "check", "agent": "echo", "needs": [],
              "forEach": { "step": "write", "path": "", "max": max } },
            { "name": "join", "agent": "echo", "needs": ["write", "check"] }
        ])
    };
    for count in [0, 1, 7] {
        let key = bed.submit(steps(count, 7), Value::Null).await;
        bed.finish(key, WorkflowState::Succeeded).await;
        let of = |prefix: &str| {
            let mut items: Vec<Value> = agents
                .calls()
                .into_iter()
                .filter(|call| call.workflow == key.workflow && call.step_name.starts_with(prefix))
                .map(|call| call.input["item"].clone())
                .collect();
            items.sort_by_key(ToString::to_string);
            items
        };
        let posts: Vec<_> = (0..count).map(|n| json!(format!("post {n}"))).collect();
        assert_eq!(of("write."), posts);
        let written: Vec<_> = (0..count)
            .map(|n| json!({ "step": format!("write.{n}"), "item": format!("post {n}") }))
            .collect();
        assert_eq!(of("check."), {
            let mut written = written.clone();
            written.sort_by_key(ToString::to_string);
            written
        });
        let join = agents.calls_of("join").into_iter().find(|call| call.workflow == key.workflow).unwrap();
        assert_eq!(join.input["results"]["write"], json!(written));
    }
    // More than the bound, or no list at all: a dead letter that says so.
    let key = bed.submit(steps(8, 7), Value::Null).await;
    let history = bed.finish(key, WorkflowState::Stalled).await;
    let letter = bed.engine.store().letter(key, step(&history, "write")).await.unwrap().unwrap();
    assert_eq!((letter.reason.as_str(), letter.status.as_str()), ("condition", "open"));
    assert_eq!(letter.message, "forEach found 8 elements at `/plan/posts`; its max is 7");
    bed.end().await;
}

#[tokio::test]
async fn a_condition_runs_or_skips_and_what_needs_the_skipped_still_runs() {
    let mut bed = Bed::new().await;
    let agents = Agents::echo().with("review", retry(1), |_| async { answer(&json!({ "score": 0.9 })) });
    bed.serve(&agents).await;
    let steps = json!([
        { "name": "review", "agent": "review" },
        { "name": "good", "agent": "echo", "needs": ["review"], "when": "results.review.score >= 0.85" },
        { "name": "bad", "agent": "echo", "needs": ["review"], "when": "results.review.score < 0.85" },
        // What needs a skipped step sees null, also in its own condition.
        { "name": "fix", "agent": "echo", "needs": ["bad"], "when": "results.bad != null" },
        { "name": "each_fix", "agent": "echo", "needs": ["fix"], "when": "brief.never",
          "forEach": { "path": "/list", "max": 3 } },
        { "name": "end", "agent": "echo", "needs": ["good", "fix", "each_fix"] }
    ]);
    let key = bed.submit(steps, json!({ "never": false, "list": [1, 2] })).await;
    let history = bed.finish(key, WorkflowState::Succeeded).await;
    let states: Vec<_> = ["review", "good", "bad", "fix", "each_fix", "end"]
        .iter()
        .map(|name| state(&history, name).word())
        .collect();
    assert_eq!(states, ["succeeded", "succeeded", "skipped", "skipped", "skipped", "succeeded"]);
    let end = &agents.calls_of("end")[0].input["results"];
    assert_eq!(end["fix"], Value::Null);
    assert_eq!(end["each_fix"], Value::Null);
    assert_eq!(end["good"]["step"], json!("good"));
    bed.end().await;
}

#[tokio::test]
async fn a_workflow_of_nothing_but_skipped_steps_is_over_at_once() {
    let mut bed = Bed::new().await;
    let agents = Agents::echo();
    bed.serve(&agents).await;
    let steps = json!([
        { "name": "a", "agent": "echo", "when": "brief.go" },
        { "name": "b", "agent": "echo", "when": "brief.go" }
    ]);
    let key = bed.submit(steps, json!({ "go": false })).await;
    let history = bed.finish(key, WorkflowState::Succeeded).await;
    assert_eq!((state(&history, "a"), state(&history, "b")), (StepState::Skipped, StepState::Skipped));
    assert!(agents.calls().is_empty());
    bed.end().await;
}

#[tokio::test]
async fn an_input_on_which_the_first_condition_fails_is_refused() {
    let bed = Bed::new().await;
    bed.register(&Agents::echo()).await;
    let steps = json!([{ "name": "a", "agent": "echo", "when": "brief.missing.field > 1" }]);
    let refused = bed.api.submit(&bed.context(), &request(steps, json!({}))).await.unwrap_err();
    let told = problems(&refused);
    assert!(told[0].starts_with("steps[0]: "), "{told:?}");
    assert_eq!(bed.count("SELECT count(*) FROM workflows").await, 0);
    bed.end().await;
}

#[tokio::test]
async fn an_optional_step_may_fail_and_the_workflow_goes_on() {
    let mut bed = Bed::new().await;
    let agents = Agents::echo().with("broken", retry(2), |_| async {
        Err(StepError::transient("down", "the trend service is down"))
    });
    bed.serve(&agents).await;
    let steps = json!([
        { "name": "trends", "agent": "broken", "optional": true },
        { "name": "each", "agent": "broken", "needs": [], "optional": true,
          "forEach": { "path": "/list", "max": 2 } },
        { "name": "write", "agent": "echo", "needs": ["trends", "each"] }
    ]);
    let key = bed.submit(steps, json!({ "list": [1, 2] })).await;
    let history = bed.finish(key, WorkflowState::Succeeded).await;
    assert_eq!(state(&history, "trends"), StepState::Failed);
    let write = &agents.calls_of("write")[0].input["results"];
    assert_eq!(write["trends"], Value::Null);
    assert_eq!(write["each"], json!([null, null]));
    assert_eq!(agents.calls_of("trends").len(), 2, "it was tried as often as it may");
    assert_eq!(bed.count("SELECT count(*) FROM dead_letters").await, 0, "there is nothing to repair");
    bed.end().await;
}
