//! The built-in templates, run by agents that answer from a script: which steps
//! run, over which elements, and what would be published.

use std::collections::HashMap;

use galley_core::decide::{Effect, Event, Facts, Token, decide};
use galley_core::ids::{Nonce, SessionId, StepIndex};
use galley_core::input::{child_item, needed_results, step_input};
use galley_core::plan::Plan;
use galley_core::publish::{content_of, target_of};
use galley_core::retry::RetryPolicy;
use galley_core::review::refusal;
use galley_core::run::{Lease, Run, StepState, WorkflowState};
use galley_core::template;
use serde_json::{Map, Value, json};

/// The examples that are submitted to a template.
const EXAMPLES: [&str; 5] = [
    include_str!("../../../../examples/launch-campaign.json"),
    include_str!("../../../../examples/single-post.json"),
    include_str!("../../../../examples/strict-campaign.json"),
    include_str!("../../../../examples/trend-response.json"),
    include_str!("../../../../examples/weekly-report.json"),
];

#[test]
fn each_template_has_an_example_that_fits_it() {
    let mut used = std::collections::BTreeSet::new();
    for text in EXAMPLES {
        let submission: Value = serde_json::from_str(text).unwrap();
        let template = submission["template"].as_str().unwrap();
        assert_eq!(plan(template).check_input(&submission["input"]), [], "{template}");
        used.insert(template.to_owned());
    }
    let built_in = template::built_in().unwrap();
    let names: std::collections::BTreeSet<_> = built_in.into_iter().map(|(_, built)| built.name).collect();
    assert_eq!(used, names, "each built-in template has an example in examples/");
}

/// What a reviewer says of a platform's post in a round.
type Judge = fn(u32, &str) -> (&'static str, f64);

/// What came of a run.
#[derive(Debug, PartialEq)]
struct Story {
    /// The steps that ran, in order, expanded ones by their parts.
    ran: Vec<String>,
    /// Per account: the text that would go out, or why a person has to decide.
    out: Vec<(String, String, Option<String>)>,
}

fn plan(name: &str) -> Plan {
    let mut built_in = template::built_in().unwrap();
    let at = built_in.iter().position(|(_, definition)| definition.name == name).unwrap();
    Plan::compile(built_in.swap_remove(at).1, |_| Some(RetryPolicy::default())).unwrap()
}

fn play(template: &str, brief: &Value, judge: Judge) -> Story {
    let plan = plan(template);
    assert_eq!(plan.check_input(brief), [], "{brief}");
    let mut run = Run::new(&plan, 5);
    let mut outputs: HashMap<StepIndex, Value> = HashMap::new();
    let mut story = Story { ran: Vec::new(), out: Vec::new() };
    let mut queue = happen(&plan, &mut run, brief, &outputs, Event::Accepted);
    while !queue.is_empty() {
        let step = queue.remove(0);
        let epoch = run.step(step).unwrap().epoch;
        let lease = Lease { nonce: Nonce(1), session: SessionId(1) };
        happen(&plan, &mut run, brief, &outputs, Event::Claim { step, epoch, lease });
        let known = |step: StepIndex| outputs.get(&step).cloned();
        let name = run.step_name(&plan, step);
        let place = usize::from(run.step(step).unwrap().plan);
        let input = step_input(
            brief.clone(),
            plan.definition.steps[place].input.clone(),
            needed_results(&plan, &run, step, &known),
            child_item(&plan, &run, step, brief, &known),
        );
        let output = answer(plan.steps[place].agent.as_str(), &name, &input, judge, &mut story);
        story.ran.push(name);
        outputs.insert(step, output);
        let token = Token { step, epoch: epoch + 1, nonce: lease.nonce };
        queue.extend(happen(&plan, &mut run, brief, &outputs, Event::Succeeded { token }));
    }
    assert_eq!(run.state(&plan), WorkflowState::Succeeded, "{brief}");
    assert!(run.steps.iter().all(|step| matches!(step.state, StepState::Succeeded | StepState::Skipped)));
    story
}

fn happen(
    plan: &Plan,
    run: &mut Run,
    brief: &Value,
    outputs: &HashMap<StepIndex, Value>,
    event: Event,
) -> Vec<StepIndex> {
    let result = |step: StepIndex| outputs.get(&step).cloned();
    let facts = Facts { seq: 1, jitter: 0.5, rest_ms: 1, brief, result: &result, unreadable: None };
    let effects = decide(plan, run, event, &facts).unwrap();
    effects
        .into_iter()
        .filter_map(|effect| if let Effect::Enqueue { step, .. } = effect { Some(step) } else { None })
        .collect()
}

fn answer(agent: &str, name: &str, input: &Value, judge: Judge, story: &mut Story) -> Value {
    let round = name
        .split('.')
        .next()
        .and_then(|name| name.rsplit_once('_'))
        .map_or(1, |(_, n)| n.parse().unwrap_or(1));
    match agent {
        "strategy" => {
            let platforms = input["brief"]["platforms"].as_array().unwrap();
            json!({ "platforms": platforms.iter().map(|name| json!({ "platform": name })).collect::<Vec<_>>() })
        }
        "content_creator" => {
            let platform = [&input["item"]["platform"], &input["item"], &input["brief"]["platform"]];
            let platform = platform.into_iter().find(|platform| platform.is_string()).unwrap();
            json!({ "platform": platform, "text": format!("round {round}") })
        }
        "reviewer" => {
            let results: &Map<String, Value> = input["results"].as_object().unwrap();
            let posts = results.values().flat_map(|result| match result {
                Value::Array(list) => list.clone(),
                one => vec![one.clone()],
            });
            let said: Vec<Value> = posts
                .filter(|post| post["text"].is_string())
                .map(|post| {
                    let (verdict, score) = judge(round, post["platform"].as_str().unwrap());
                    json!({ "platform": post["platform"], "verdict": verdict, "score": score, "brand": [], "safety": [] })
                })
                .collect();
            assert!(!said.is_empty(), "{name} has nothing to review: {input}");
            json!({ "perPost": said })
        }
        "publisher" => {
            let account = target_of(input).unwrap().to_owned();
            // In these stories an account is named like its platform.
            let content = content_of(input, &account).unwrap();
            story.out.push((account.clone(), content.text, refusal(input, &account)));
            json!({})
        }
        _ => json!({}),
    }
}

fn brief(more: Value) -> Value {
    let mut brief =
        json!({ "product": "Tea", "goals": ["sell"], "audience": "all", "platforms": ["x", "mastodon"] });
    brief.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    brief
}

const FIRST_ROUND: [&str; 4] = ["strategy", "content.0", "content.1", "review"];

#[test]
fn a_campaign_without_remarks_ends_after_its_review() {
    let story = play("campaign", &brief(json!({})), |_, _| ("approve", 1.0));
    assert_eq!(story, Story { ran: FIRST_ROUND.map(String::from).to_vec(), out: vec![] });
}

#[test]
fn only_what_a_review_refuses_is_written_anew() {
    let accounts = json!({ "accounts": ["x", "mastodon"] });
    let story = play("campaign", &brief(accounts), |round, platform| match (round, platform) {
        (1, "mastodon") => ("revise", 0.5),
        _ => ("approve", 0.9),
    });
    assert_eq!(story.ran[4..], ["content_2.1", "review_2", "publish.0", "publish.1"]);
    let out = |account: &str, text: &str| (account.to_owned(), text.to_owned(), None);
    assert_eq!(story.out, [out("x", "round 1"), out("mastodon", "round 2")]);
}

#[test]
fn rework_ends_after_its_rounds_and_a_person_decides() {
    let refused = |_, platform: &str| if platform == "x" { ("reject", 0.1) } else { ("approve", 0.9) };
    let why = || Some("its review says reject (0.1)".to_owned());
    for (rounds, then, text) in [
        (json!({}), &["content_2.0", "review_2", "content_3.0", "review_3"][..], "round 3"),
        (json!({ "reworkRounds": 2 }), &["content_2.0", "review_2", "content_3.0", "review_3"], "round 3"),
        (json!({ "reworkRounds": 1 }), &["content_2.0", "review_2"], "round 2"),
        (json!({ "reworkRounds": 0 }), &[], "round 1"),
    ] {
        let mut more = rounds.clone();
        more["accounts"] = json!(["x", "mastodon"]);
        let story = play("campaign", &brief(more), refused);
        let publish = ["publish.0", "publish.1"];
        let expected: Vec<&str> = FIRST_ROUND.iter().chain(then).chain(&publish).copied().collect();
        assert_eq!(story.ran, expected, "{rounds}");
        let out =
            [("x".to_owned(), text.to_owned(), why()), ("mastodon".to_owned(), "round 1".to_owned(), None)];
        assert_eq!(story.out, out, "{rounds}");
    }
}

#[test]
fn a_brief_may_ask_for_a_better_score() {
    let better = |round, _: &str| if round == 1 { ("approve", 0.8) } else { ("approve", 0.95) };
    let more = |least: f64| brief(json!({ "minScore": least, "accounts": ["x"] }));
    let story = play("campaign", &more(0.9), better);
    assert_eq!(story.ran[4..], ["content_2.0", "content_2.1", "review_2", "publish.0"]);
    assert_eq!(story.out[0].2, None);
    assert_eq!(play("campaign", &more(0.8), better).ran[4..], ["publish.0"]);
    let story = play("campaign", &more(1.0), better);
    assert_eq!(story.ran.len(), 11, "{:?}", story.ran);
    assert_eq!(story.out[0].2.as_deref(), Some("its review scores it (0.95) below 1"));
}
