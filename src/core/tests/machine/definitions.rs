//! Definitions that must be refused, each with its exact place and sentence:
//! these are what a person reads.

use galley_core::definition::{Definition, MAX_PAYLOAD_BYTES, MAX_STEPS};
use galley_core::ids::AgentType;
use galley_core::plan::{Plan, Problem};
use galley_core::retry::RetryPolicy;
use galley_core::template;
use proptest::prelude::*;
use serde_json::{Value, json};

/// Everybody knows `worker`.
fn known(agent: &AgentType) -> Option<RetryPolicy> {
    (agent.as_str() == "worker").then(RetryPolicy::default)
}

fn compile(definition: Value) -> Result<Plan, Vec<Problem>> {
    Plan::compile(serde_json::from_value(definition).unwrap(), known)
}

fn problems(definition: Value) -> Vec<(String, String)> {
    match compile(definition) {
        Ok(_) => vec![],
        Err(problems) => problems.into_iter().map(|p| (p.at, p.problem)).collect(),
    }
}

/// A definition of these steps, each run by `worker` unless it says otherwise.
fn of(steps: Value) -> Value {
    let Value::Array(mut steps) = steps else { panic!("steps are a list") };
    for step in &mut steps {
        let step = step.as_object_mut().unwrap();
        step.entry("agent").or_insert_with(|| json!("worker"));
    }
    json!({ "name": "test", "steps": steps })
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let name_rule = "use 1-48 of a-z, 0-9 and _, beginning with a letter";
    let long = "a".repeat(49);
    let table = [
        (json!({ "name": "test", "steps": [] }), "steps", "a workflow needs at least one step"),
        (json!({ "name": "Bad Name", "steps": [{ "name": "a", "agent": "worker" }] }), "name", name_rule),
        (of(json!([{ "name": "a" }, { "name": "B" }])), "steps[1].name", name_rule),
        (of(json!([{ "name": "" }])), "steps[0].name", name_rule),
        (of(json!([{ "name": "1a" }])), "steps[0].name", name_rule),
        (of(json!([{ "name": "a.b" }])), "steps[0].name", name_rule),
        (of(json!([{ "name": long }])), "steps[0].name", name_rule),
        (
            of(json!([{ "name": "a" }, { "name": "b" }, { "name": "a" }])),
            "steps[2].name",
            "`a` is already the name of steps[0]",
        ),
        (
            of(json!([{ "name": "a", "agent": "ghost" }])),
            "steps[0].agent",
            "no agent type `ghost` is registered; start a worker that offers it, or see `galley agent list`",
        ),
        (of(json!([{ "name": "a", "needs": ["a"] }])), "steps[0].needs[0]", "`a` cannot need itself"),
        (
            of(json!([{ "name": "a" }, { "name": "b", "needs": ["a", "x"] }])),
            "steps[1].needs[1]",
            "there is no step `x` in this workflow",
        ),
        (
            of(json!([{ "name": "a", "needs": ["c"] }, { "name": "b" }, { "name": "c" }])),
            "steps[0].needs",
            "these steps wait for each other: a needs c needs b needs a",
        ),
        (
            of(
                json!([{ "name": "z", "needs": ["a"] }, { "name": "a", "needs": ["b"] }, { "name": "b", "needs": ["a"] }]),
            ),
            "steps[1].needs",
            "these steps wait for each other: a needs b needs a",
        ),
        (
            of(json!([{ "name": "a", "forEach": { "step": "b", "path": "/x", "max": 2 } }, { "name": "b" }])),
            "steps[0].needs",
            "these steps wait for each other: a needs b needs a",
        ),
        (
            of(json!([{ "name": "a", "forEach": { "path": "/x" } }])),
            "steps[0].forEach.max",
            "an expansion must be bounded: say the most elements it may have, 1 to 1024",
        ),
        (
            of(json!([{ "name": "a", "forEach": { "path": "/x", "max": 0 } }])),
            "steps[0].forEach.max",
            "must be at least 1",
        ),
        (
            of(json!([{ "name": "a", "forEach": { "path": "x", "max": 1 } }])),
            "steps[0].forEach.path",
            "a JSON Pointer begins with `/`, for example `/platforms`; empty means the whole result",
        ),
        (
            of(json!([{ "name": "a", "forEach": { "step": "x", "path": "", "max": 1 } }])),
            "steps[0].forEach.step",
            "there is no earlier step `x` in this workflow",
        ),
        (
            of(json!([{ "name": "a", "forEach": { "step": "a", "path": "", "max": 1 } }])),
            "steps[0].forEach.step",
            "there is no earlier step `a` in this workflow",
        ),
        (
            of(json!([{ "name": "a", "forEach": { "path": "", "max": 1024 } }])),
            "steps",
            "1025 steps when every forEach is at its max; at most 1024 are allowed",
        ),
        (
            of(json!([{ "name": "a", "retry": { "maxAttempts": 0 } }])),
            "steps[0].retry.maxAttempts",
            "must be at least 1",
        ),
        (
            of(json!([{ "name": "a", "retry": { "maxCrashes": 0 } }])),
            "steps[0].retry.maxCrashes",
            "must be at least 1",
        ),
        (
            of(json!([{ "name": "a", "retry": { "timeoutMs": 0 } }])),
            "steps[0].retry.timeoutMs",
            "must be at least 1",
        ),
        (
            of(json!([{ "name": "a", "when": "secrets.key == 1" }])),
            "steps[0].when",
            "unknown variable `secrets`; a condition sees brief, params, results, item",
        ),
        (
            of(json!([{ "name": "a", "when": "item == 1" }])),
            "steps[0].when",
            "`item` is the element of a forEach, and this step has none",
        ),
        (
            of(
                json!([{ "name": "a", "when": "brief.all(b, b == item)", "forEach": { "path": "", "max": 33 } }]),
            ),
            "steps[0].when",
            "a loop for each element (all, exists, map, filter): then the forEach may have at most 32",
        ),
        (
            of(json!([{ "name": "a", "when": "true ".repeat(1000) }])),
            "steps[0].when",
            "5000 bytes; at most 4096 are allowed",
        ),
    ];
    for (definition, at, problem) in table {
        let shown = definition.to_string();
        assert_eq!(problems(definition), [(at.to_owned(), problem.to_owned())], "{shown:.200}");
    }
}

/// Sentences that other crates word: only their beginning is ours.
#[test]
fn what_others_find_wrong_is_named_with_its_place_too() {
    let steps = json!([{ "name": "a", "agent": "worker" }]);
    for (definition, at, begins) in [
        (of(json!([{ "name": "a", "when": "1 +" }])), "steps[0].when", "not a CEL expression: "),
        (
            json!({ "name": "test", "steps": steps, "inputSchema": { "type": "nothing" } }),
            "inputSchema",
            "not a JSON Schema: ",
        ),
        (
            json!({ "name": "test", "steps": steps, "inputSchema": { "pattern": "(" } }),
            "inputSchema",
            "not a JSON Schema: ",
        ),
        // A schema never makes this process fetch anything.
        (
            json!({ "name": "test", "steps": steps, "inputSchema": { "$ref": "http://127.0.0.1:1/schema" } }),
            "inputSchema",
            "not a JSON Schema: ",
        ),
    ] {
        let found = problems(definition);
        assert!(found.len() == 1 && found[0].0 == at && found[0].1.starts_with(begins), "{found:?}");
    }
}

#[test]
fn every_problem_is_told_at_once() {
    let found = problems(of(json!([
        { "name": "a", "agent": "ghost", "needs": ["x", "a"], "when": "nope" },
        { "name": "b", "retry": { "maxAttempts": 0, "timeoutMs": 0 }, "forEach": { "path": "p" } },
    ])));
    let places: Vec<_> = found.iter().map(|(at, _)| at.as_str()).collect();
    assert_eq!(
        places,
        [
            "steps[0].agent",
            "steps[0].needs[0]",
            "steps[0].needs[1]",
            "steps[0].when",
            "steps[1].retry.maxAttempts",
            "steps[1].retry.timeoutMs",
            "steps[1].forEach.path",
            "steps[1].forEach.max",
        ]
    );
}

#[test]
fn what_is_no_definition_does_not_parse() {
    for (text, why) in [
        (r#"{ "name": "a" }"#, "missing field `steps`"),
        (r#"{ "name": "a", "steps": [{ "name": "a" }] }"#, "missing field `agent`"),
        (
            r#"{ "name": "a", "steps": [{ "name": "a", "agent": "Bad Agent" }] }"#,
            "`Bad Agent` is not a valid agent name",
        ),
        (r#"{ "name": "a", "steps": [{ "name": "a", "agent": "a", "need": [] }] }"#, "unknown field `need`"),
        (
            r#"{ "name": "a", "steps": [{ "name": "a", "agent": "a", "retry": { "tries": 1 } }] }"#,
            "unknown field `tries`",
        ),
        (
            r#"{ "name": "a", "steps": [{ "name": "a", "agent": "a", "forEach": { "path": "", "max": 70000 } }] }"#,
            "70000",
        ),
    ] {
        let error = serde_json::from_str::<Definition>(text).expect_err(text).to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
}

/// A chain of so many steps, the first with an input of so many bytes.
fn chain(steps: usize, padding: usize) -> Value {
    let mut steps: Vec<_> =
        (0..steps).map(|i| json!({ "name": format!("s{i}"), "agent": "worker" })).collect();
    steps[0]["input"] = json!("x".repeat(padding));
    json!({ "name": "long", "steps": steps })
}

#[test]
fn sizes_are_bounded() {
    assert!(compile(chain(MAX_STEPS, 1)).is_ok());
    let found = problems(chain(MAX_STEPS + 1, 1));
    assert_eq!(found, [("steps".to_owned(), "1025 steps; at most 1024 are allowed".to_owned())]);

    let empty = chain(1, 0).to_string().len();
    assert!(compile(chain(1, MAX_PAYLOAD_BYTES - empty)).is_ok());
    assert_eq!(
        problems(chain(1, MAX_PAYLOAD_BYTES - empty + 1)),
        [(
            "definition".to_owned(),
            "262145 bytes; at most 262144 are allowed, pass large data by reference".to_owned()
        )]
    );
}

/// Freezing spells the policies out, which makes a definition longer: one that
/// was just small enough must stay readable.
#[test]
fn what_was_accepted_can_be_read_back_however_long_freezing_made_it() {
    let steps = 1_000;
    let empty = chain(steps, 0).to_string().len();
    let plan = compile(chain(steps, MAX_PAYLOAD_BYTES - empty)).unwrap();
    let frozen = serde_json::to_string(&plan.definition).unwrap();
    assert!(frozen.len() > MAX_PAYLOAD_BYTES);
    let again = Plan::from_frozen(serde_json::from_str(&frozen).unwrap()).unwrap();
    assert_eq!(again.definition, plan.definition);
}

#[test]
fn a_frozen_plan_reads_back_as_itself_without_its_agents() {
    let policy =
        RetryPolicy { max_attempts: 9, max_crashes: 8, backoff_ms: 7, max_backoff_ms: 6, timeout_ms: 5 };
    for (_, definition) in template::built_in().unwrap() {
        let plan = Plan::compile(definition, |_| Some(policy.clone())).unwrap();
        let again = Plan::from_frozen(plan.definition.clone()).unwrap();
        assert_eq!(format!("{plan:?}"), format!("{again:?}"));
        assert!(again.steps.iter().all(|s| s.retry == policy));
    }
}

#[test]
fn the_default_is_a_chain_and_a_wish_wins_over_the_agent() {
    let plan = compile(of(json!([
        { "name": "a" },
        { "name": "b", "retry": { "maxAttempts": 2 } },
        { "name": "c", "needs": ["a", "b", "a"] },
        { "name": "d", "needs": [] },
        { "name": "e", "needs": ["d"], "forEach": { "step": "a", "path": "", "max": 2 } },
    ])))
    .unwrap();
    let needs: Vec<_> = plan.steps.iter().map(|s| s.needs.as_slice()).collect();
    assert_eq!(needs, [&[][..], &[0], &[0, 1], &[], &[0, 3]]);
    assert_eq!(plan.steps[0].dependents, [1, 2, 4]);
    assert_eq!(plan.steps[1].retry, RetryPolicy { max_attempts: 2, ..RetryPolicy::default() });
    assert_eq!(plan.agents(), [AgentType::new("worker").unwrap()]);
}

/// One thing that can be wrong with a step, and where it is then named.
const BREAKS: [(&str, &str); 10] = [
    (r#"{ "name": "Not A Name" }"#, "name"),
    (r#"{ "agent": "ghost" }"#, "agent"),
    (r#"{ "needs": ["nobody"] }"#, "needs[0]"),
    (r#"{ "when": "1 +" }"#, "when"),
    (r#"{ "when": "other == 1" }"#, "when"),
    (r#"{ "forEach": { "path": "/x" } }"#, "forEach.max"),
    (r#"{ "forEach": { "path": "x", "max": 1 } }"#, "forEach.path"),
    (r#"{ "forEach": { "step": "nobody", "path": "", "max": 1 } }"#, "forEach.step"),
    (r#"{ "retry": { "maxAttempts": 0 } }"#, "retry.maxAttempts"),
    (r#"{ "retry": { "timeoutMs": 0 } }"#, "retry.timeoutMs"),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_break_anywhere_is_named_there(steps in 1usize..12, at in any::<prop::sample::Index>(), which in 0..BREAKS.len()) {
        // Needs none: a renamed step is missed by nobody.
        let mut definition = of((0..steps).map(|i| json!({ "name": format!("s{i}"), "needs": [] })).collect());
        prop_assert!(compile(definition.clone()).is_ok());
        let at = at.index(steps);
        let (patch, place) = BREAKS[which];
        let patch: Value = serde_json::from_str(patch).unwrap();
        for (key, value) in patch.as_object().unwrap() {
            definition["steps"][at][key] = value.clone();
        }
        let found = problems(definition);
        prop_assert_eq!(found.len(), 1);
        prop_assert_eq!(&found[0].0, &format!("steps[{at}].{place}"));
    }

    /// Any needs at all: either a plan whose order works, or a cycle that is
    /// one.
    #[test]
    fn a_plan_is_acyclic_or_its_cycle_is_spelled_out(needs in prop::collection::vec(prop::collection::vec(0usize..8, 0..3), 1..8)) {
        let count = needs.len();
        let steps: Value = needs.iter().enumerate().map(|(i, needs)| {
            let needs: Vec<_> = needs.iter().map(|n| n % count).filter(|n| *n != i).map(|n| format!("s{n}")).collect();
            json!({ "name": format!("s{i}"), "needs": needs })
        }).collect();
        match compile(of(steps.clone())) {
            Ok(plan) => {
                let mut done = vec![false; count];
                for _ in 0..count {
                    for (i, step) in plan.steps.iter().enumerate() {
                        done[i] |= step.needs.iter().all(|n| done[usize::from(*n)]);
                    }
                }
                prop_assert!(done.iter().all(|d| *d), "accepted a cycle");
            }
            Err(problems) => {
                prop_assert_eq!(problems.len(), 1);
                let told = problems[0].problem.strip_prefix("these steps wait for each other: ").unwrap();
                let path: Vec<&str> = told.split(" needs ").collect();
                prop_assert!(path.len() > 2 && path.first() == path.last());
                for pair in path.windows(2) {
                    let from: usize = pair[0][1..].parse().unwrap();
                    let needs = steps[from]["needs"].as_array().unwrap();
                    prop_assert!(needs.iter().any(|n| n == pair[1]), "{} does not need {}", pair[0], pair[1]);
                }
            }
        }
    }
}
