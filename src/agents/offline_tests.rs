#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::sync::LazyLock;

use galley_core::message::Inbox;
use galley_core::report::Failure;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::brief::Brief;
use super::platform::{PLATFORMS, Platform};
use super::{Chance, copy, sampler};
use crate::schema::Schema;
use crate::testing::{agent, built_in, example_brief, input, offline, step};
use crate::{Definition, Definitions, Registered};

/// A content_creator input for one platform.
fn post_input(brief: Value, platform: &str) -> Value {
    input(brief, json!({}), json!({}), Some(json!({ "platform": platform })))
}

#[tokio::test]
async fn the_example_campaign() {
    let strategy = offline("strategy", input(example_brief(), json!({}), json!({}), None)).await;
    insta::assert_json_snapshot!("strategy", strategy);

    let mut posts = Vec::new();
    for item in strategy["platforms"].as_array().unwrap() {
        let results = json!({ "strategy": strategy });
        posts.push(
            offline("content_creator", input(example_brief(), json!({}), results, Some(item.clone()))).await,
        );
    }
    let read: Vec<&str> = posts.iter().map(|post| post["platform"].as_str().unwrap()).collect();
    assert_eq!(read, ["mastodon", "x"], "the brief's platforms, in its order");

    let review =
        offline("reviewer", input(example_brief(), json!({}), json!({ "content": posts }), None)).await;
    insta::assert_json_snapshot!("review", review);
}

#[tokio::test]
async fn a_post_for_every_platform() {
    let mut shown = String::new();
    for platform in PLATFORMS.iter().map(|platform| platform.name).chain(["somewhere_else"]) {
        let post = offline("content_creator", post_input(example_brief(), platform)).await;
        assert_eq!(post["platform"], platform);
        let text = post["text"].as_str().unwrap();
        let length = Platform::named(platform).measure(text);
        writeln!(shown, "=== {platform}, {length} characters, tags {}\n{text}\n", post["hashtags"]).unwrap();
        for word in ["[sample", "Lantern Street Coffee Club", platform, "lanternstreet.example/club"] {
            assert!(text.contains(word), "{platform} lacks {word}: {text}");
        }
    }
    insta::assert_snapshot!("posts", shown);
}

#[tokio::test]
async fn the_other_agents_on_the_example() {
    let mut brief = example_brief();
    brief["competitors"] = json!(["Harbour Roasters", "The supermarket shelf"]);
    let comments = json!({ "comments": [
        { "author": "ana", "text": "When does it start?" },
        { "author": "ben", "text": "My last bag arrived broken" },
        { "author": "cy", "text": "Lovely people" },
        { "author": "bot", "text": " " },
    ]});
    insta::assert_json_snapshot!(
        "trends",
        offline("trend_detection", input(brief.clone(), json!({}), json!({}), None)).await
    );
    insta::assert_json_snapshot!(
        "competitors",
        offline("competitor_analysis", input(brief.clone(), json!({}), json!({}), None)).await
    );
    insta::assert_json_snapshot!(
        "replies",
        offline("engagement", input(brief, comments, json!({}), None)).await
    );
}

#[tokio::test]
async fn the_same_brief_gives_the_same_bytes_and_another_brief_others() {
    let registry = built_in(json!({}));
    let writer = agent(&registry, "content_creator");
    let text = async |brief: Value| {
        let done = writer.run(step("content_creator", post_input(brief, "mastodon"))).await.unwrap();
        done.output.get().to_owned()
    };
    let once = text(example_brief()).await;
    assert_eq!(text(example_brief()).await, once);
    let mut other = example_brief();
    other["product"]["name"] = json!("Harbour Tea");
    assert_ne!(text(other).await, once);
}

#[test]
fn an_objects_key_order_does_not_change_the_draw() {
    use sha2::{Digest, Sha256};
    let hash = |text: &str| {
        let mut digest = Sha256::new();
        super::feed(&mut digest, &serde_json::from_str(text).unwrap());
        digest.finalize().to_vec()
    };
    assert_eq!(hash(r#"{"a":1,"b":[2,{"c":3,"d":4}]}"#), hash(r#"{"b":[2,{"d":4,"c":3}],"a":1}"#));
    assert_ne!(hash(r#"["ab","c"]"#), hash(r#"["a","bc"]"#));
}

#[test]
fn the_schema_and_the_table_agree_on_the_limits() {
    let definitions = Definitions::built_in().unwrap();
    let creator = definitions.get(&"content_creator".parse().unwrap()).unwrap();
    let schema = Schema::compile(&creator.spec().output_schema).unwrap();
    let fits = |name: &str, length: usize| {
        schema.check(&json!({ "platform": name, "text": "a".repeat(length), "hashtags": [] })).is_ok()
    };
    let (prompt, _) =
        creator.render(creator.prompt(), &post_input(example_brief(), "x"), &Inbox::default()).unwrap();
    for Platform { name, limit, .. } in PLATFORMS {
        assert!(fits(name, *limit), "{name} at {limit}");
        assert!(!fits(name, limit + 1), "{name} over {limit}");
        assert!(prompt.contains(&format!("{name} {limit}")), "the prompt does not tell {name} {limit}");
    }
}

#[tokio::test]
async fn a_review_finds_what_is_wrong() {
    let posts = json!({ "content": [
        { "platform": "x", "text": "a".repeat(300) },
        { "platform": "linkedin", "text": "Lantern Street Coffee Club is life-changing, guaranteed: https://lanternstreet.example/club" },
        null,
    ]});
    let review = offline("reviewer", input(example_brief(), json!({}), posts, None)).await;
    assert_eq!(review["verdict"], "reject");
    assert_eq!(review["score"], 0.25, "the weakest post's: {review}");
    assert_eq!(review["perPost"][0]["brand"][0], "300 characters; x takes 280.");
    assert_eq!(review["perPost"][1]["verdict"], "reject");
    assert_eq!(review["perPost"][1]["safety"][0], "“guarantee” is a claim that wants proof.");
    let nothing =
        offline("reviewer", input(example_brief(), json!({}), json!({ "content": [] }), None)).await;
    assert_eq!(nothing["verdict"], "reject");
}

// --- orders

async fn ordered(writer: &Registered, orders: Value, attempt: u16) -> Result<(), (String, Failure)> {
    let input = input(example_brief(), json!({ "platform": "x", "offline": orders }), json!({}), None);
    let mut step = step("content_creator", input);
    step.attempt = attempt;
    writer.run(step).await.map(|_| ()).map_err(|error| (error.class, error.failure))
}

#[tokio::test]
async fn it_fails_as_ordered() {
    let registry = built_in(json!({}));
    let writer = agent(&registry, "content_creator");
    let failed = |class: &str, failure| Err((class.to_owned(), failure));
    let transient = failed("offline_transient", Failure::Transient);
    let throttled = failed("provider_throttled", Failure::Throttled { retry_after_ms: 70 });

    assert_eq!(ordered(&writer, json!({ "fail": "transient" }), 9).await, transient);
    assert_eq!(
        ordered(&writer, json!({ "fail": "permanent" }), 1).await,
        failed("offline_permanent", Failure::Permanent)
    );
    assert_eq!(
        ordered(&writer, json!({ "rubbish": true }), 1).await,
        failed("bad_output", Failure::Transient)
    );
    assert_eq!(
        ordered(&writer, json!({ "rubbish": "once" }), 1).await,
        Ok(()),
        "the repair call gets a good answer"
    );
    assert_eq!(ordered(&writer, json!({ "rubbish": false }), 1).await, Ok(()));

    let twice = || json!({ "failFirst": 2 });
    assert_eq!(ordered(&writer, twice(), 1).await, transient);
    assert_eq!(ordered(&writer, twice(), 2).await, transient);
    assert_eq!(ordered(&writer, twice(), 3).await, Ok(()));

    // A throttle burns no attempt: the attempt stays 1, and still it ends.
    let later = || json!({ "fail": "throttled", "failFirst": 2, "retryAfterMs": 70 });
    assert_eq!(ordered(&writer, later(), 1).await, throttled);
    assert_eq!(ordered(&writer, later(), 1).await, throttled);
    assert_eq!(ordered(&writer, later(), 1).await, Ok(()));
    assert_eq!(ordered(&writer, later(), 1).await, throttled, "a new run of the step begins anew");

    for orders in [json!({ "fial": 1 }), json!({ "fail": "loudly" }), json!({ "rubbish": "twice" }), json!(7)]
    {
        assert_eq!(ordered(&writer, orders, 1).await, failed("bad_input", Failure::Permanent));
    }
}

#[tokio::test]
async fn a_steps_orders_win_over_the_configurations() {
    let registry = built_in(json!({ "offline": { "defaults": { "fail": "permanent", "fail_first": 1 } } }));
    let writer = agent(&registry, "content_creator");
    assert_eq!(ordered(&writer, json!({}), 1).await.unwrap_err().0, "offline_permanent");
    assert_eq!(ordered(&writer, json!({}), 2).await, Ok(()));
    assert_eq!(ordered(&writer, json!({ "fail": "transient" }), 1).await.unwrap_err().0, "offline_transient");
    assert_eq!(ordered(&writer, json!({ "failFirst": 0 }), 1).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn it_is_slow_as_ordered_and_stops_when_cancelled_or_out_of_time() {
    let registry = built_in(json!({}));
    let writer = agent(&registry, "content_creator");
    let params = json!({ "platform": "x", "offline": { "delayMs": 200 } });
    let slow = || step("content_creator", input(example_brief(), params.clone(), json!({}), None));

    let before = Instant::now();
    writer.run(slow()).await.unwrap();
    assert_eq!(before.elapsed().as_millis(), 200, "virtual time");

    let mut short = slow();
    short.timeout = std::time::Duration::from_millis(50);
    assert_eq!(writer.run(short).await.unwrap_err().class, "provider_timeout");

    let cancelled = slow();
    cancelled.cancelled.cancel();
    let before = Instant::now();
    assert_eq!(writer.run(cancelled).await.unwrap_err().class, "cancelled");
    assert_eq!(before.elapsed().as_millis(), 0);
}

#[tokio::test]
async fn the_bill_names_the_provider_and_costs_nothing() {
    let registry = built_in(json!({}));
    let done = agent(&registry, "content_creator")
        .run(step("content_creator", post_input(example_brief(), "x")))
        .await
        .unwrap();
    assert_eq!(done.usage.provider.as_deref(), Some("offline"));
    assert_eq!(done.usage.model.as_deref(), Some("sample"));
    assert_eq!((done.usage.cost_micros, done.usage.cache_hit), (0, false));
    assert!(done.usage.tokens_in > 0 && done.usage.tokens_out > 0);
}

// --- any schema

fn sample(schema: &Value, brief: &Brief) -> Result<Value, galley_core::report::StepError> {
    sampler::sample(schema, &Schema::compile(schema).unwrap(), brief)
}

#[test]
fn a_sample_fits_any_reasonable_schema() {
    let brief = Brief::read(&json!({ "brief": { "product": "Tea" } }));
    for (schema, expected) in [
        (json!(true), json!({ "sample": true })),
        (json!({ "type": "string" }), json!("[sample] output for Tea")),
        (json!({ "type": "string", "maxLength": 6 }), json!("[sampl")),
        (json!({ "type": "string", "format": "date" }), json!("2026-01-15")),
        (json!({ "type": "string", "pattern": "^a+$", "examples": ["aaa"] }), json!("aaa")),
        (json!({ "type": "integer", "minimum": 3, "maximum": 4 }), json!(3)),
        (json!({ "type": "integer", "exclusiveMinimum": 3 }), json!(4)),
        (json!({ "type": "integer", "multipleOf": 5, "minimum": 7 }), json!(10)),
        (json!({ "type": "number", "minimum": 0, "maximum": 1 }), json!(0.5)),
        (json!({ "type": ["null", "boolean"] }), json!(true)),
        (json!({ "enum": ["b", "a"] }), json!("b")),
        (json!({ "const": 7 }), json!(7)),
        (json!({ "type": "array", "minItems": 2, "items": { "enum": [1] } }), json!([1, 1])),
        (json!({ "type": "array", "maxItems": 0, "items": { "enum": [1] } }), json!([])),
        (
            json!({ "type": "array", "uniqueItems": true, "minItems": 2, "items": { "type": "string" } }),
            json!(["[sample] output for Tea", "[sample] output for Tea 2"]),
        ),
        (json!({ "anyOf": [{ "type": "null" }, { "type": "string" }] }), json!(null)),
        (
            json!({ "type": "object", "required": ["a"], "oneOf": [
                { "required": ["b"], "properties": { "b": { "const": 2 } } }, { "required": ["c"] }
            ], "properties": { "a": { "const": 1 } } }),
            json!({ "a": 1, "b": 2 }),
        ),
        (
            json!({ "allOf": [
                { "properties": { "a": { "const": 1 } }, "required": ["a"] },
                { "properties": { "b": { "$ref": "#/$defs/two" } }, "required": ["b"] }
            ], "$defs": { "two": { "const": 2 } } }),
            json!({ "a": 1, "b": 2 }),
        ),
    ] {
        assert_eq!(sample(&schema, &brief).map_err(|error| error.message), Ok(expected), "{schema}");
    }
}

#[test]
fn a_schema_that_holds_itself_ends_and_an_unfit_sample_is_not_returned() {
    let brief = Brief::read(&json!({}));
    let tree = json!({ "$ref": "#/$defs/node", "$defs": { "node": {
        "type": "object", "required": ["name"],
        "properties": { "name": { "type": "string" }, "next": { "$ref": "#/$defs/node" } }
    }}});
    assert!(sample(&tree, &brief).is_ok());
    for impossible in [
        json!({ "type": "string", "pattern": "^[0-9]{4}$" }),
        json!({ "$ref": "#/$defs/me", "$defs": { "me": { "type": "object", "required": ["x"], "properties": { "x": { "$ref": "#/$defs/me" } } } } }),
    ] {
        let error = sample(&impossible, &brief).unwrap_err();
        assert_eq!((error.class.as_str(), error.failure), ("offline_cannot_sample", Failure::Permanent));
        assert!(error.message.contains("add `examples` to the output schema"), "{}", error.message);
    }
}

// --- properties

fn prose() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z ]{0,40}",
        "[A-Za-z0-9 ,.;:!?#@éüß\\n\\t-]{0,400}",
        "\\PC{0,120}",
        "[日本語コーヒー豆 ]{0,200}",
        "[a-z]{300,400}",
    ]
}

fn any_brief() -> impl Strategy<Value = Value> {
    let list = || prop::collection::vec(prose(), 0..5);
    (
        prose(),
        prose(),
        prop::option::of(prose()),
        prose(),
        list(),
        list(),
        prop::collection::vec("#?[a-zé]{0,30}", 0..4),
    )
        .prop_map(|(name, description, link, audience, goals, facts, avoid)| {
            json!({
                "product": { "name": format!("P{name}"), "description": description, "link": link },
                "audience": audience, "goals": goals, "facts": facts, "avoid": avoid, "tone": audience,
            })
        })
}

/// Compiled once: a property looks at them hundreds of times.
static BUILT_IN: LazyLock<Vec<Definition>> =
    LazyLock::new(|| Definitions::built_in().unwrap().into_iter().collect());

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn a_post_never_exceeds_its_platform(brief in any_brief(), at in 0..PLATFORMS.len(), seed in any::<u64>()) {
        for platform in ["x", PLATFORMS[at].name] {
            let brief = Brief::read(&post_input(brief.clone(), platform));
            let post = copy::post(&brief, Chance(seed));
            let text = post["text"].as_str().unwrap();
            prop_assert!(text.starts_with("[sample for "));
            let platform = Platform::named(platform);
            prop_assert!(platform.measure(text) <= platform.limit, "{} > {}: {text}", platform.measure(text), platform.limit);
            prop_assert!(text.chars().count() <= platform.limit);
        }
    }

    #[test]
    fn every_brief_gets_an_answer_of_the_agents_own_shape(brief in any_brief()) {
        let mut brief = brief;
        brief["platforms"] = json!(["x", "elsewhere"]);
        brief["competitors"] = json!(["Them"]);
        let params = json!({ "comments": [{ "author": "a", "text": brief["audience"] }] });
        let results = json!({ "c": { "platform": "x", "text": brief["audience"] } });
        let input = input(brief, params, results, Some(json!("x")));
        for definition in &*BUILT_IN {
            let answer = super::written(definition.spec(), definition.output(), &input).unwrap();
            // The schema-driven sampler would have written texts like this one.
            let text = answer.to_string();
            prop_assert!(!text.contains("[sample] text for") && !text.contains("[sample] positioning for"), "{text}");
            prop_assert!(definition.read(&text, &input).is_ok(), "{}: {text}", definition.spec().agent);
        }
    }
}
