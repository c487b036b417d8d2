#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use galley_core::agent::AgentSpec;
use galley_core::report::{Failure, StepError, StepOutput, Usage};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::testing::{agent, built_in, example_brief, input, step};
use crate::{Definitions, FnAgent, ProviderConfig, Providers, RegisterError, Registry, output};

#[allow(clippy::needless_pass_by_value, reason = "so that a call reads as the spec it makes")]
fn spec(name: &str, input: Value, output: Value) -> AgentSpec {
    serde_json::from_value(json!({ "agent": name, "inputSchema": input, "outputSchema": output })).unwrap()
}

fn brief(value: Value) -> Value {
    input(value, json!({}), json!({}), None)
}

#[tokio::test]
async fn a_closure_runs_as_an_agent_and_gets_its_effect_key() {
    let seen = Arc::new(Mutex::new(String::new()));
    let inner = Arc::clone(&seen);
    let mut registry = Registry::new();
    registry
        .register(FnAgent::new(spec("echo", json!(true), json!(true)), move |step| {
            inner.lock().unwrap().clone_from(&step.effect_key);
            async move { output(&step.input["brief"]) }
        }))
        .unwrap();
    let done = agent(&registry, "echo").run(step("echo", brief(json!({ "a": 1 })))).await.unwrap();
    assert_eq!(done.output.get(), "{\"a\":1}");
    assert_eq!(*seen.lock().unwrap(), "effect-1");
}

#[test]
fn nobody_speaks_in_the_engines_name() {
    let name = galley_core::message::COORDINATOR;
    let error = Registry::new()
        .register(FnAgent::new(spec(name, json!(true), json!(true)), async |_| output(&1)))
        .unwrap_err();
    assert!(matches!(&error, RegisterError::Reserved(agent) if agent.as_str() == name), "{error}");
}

#[test]
fn a_type_is_registered_once() {
    let mut registry = Registry::new();
    let echo = || FnAgent::new(spec("echo", json!(true), json!(true)), async |_| output(&1));
    registry.register(echo()).unwrap();
    let error = registry.register(echo()).unwrap_err();
    assert!(matches!(&error, RegisterError::Duplicate(name) if name.as_str() == "echo"), "{error}");
    assert_eq!(registry.specs().count(), 1);
}

#[test]
fn a_schema_that_does_not_compile_is_refused_by_name() {
    let broken = FnAgent::new(spec("echo", json!(true), json!({ "type": 3 })), async |_| output(&1));
    let error = Registry::new().register(broken).unwrap_err().to_string();
    assert!(error.starts_with("agent `echo`: its output schema is not a JSON Schema: at `/type`"), "{error}");
}

#[test]
fn definitions_without_a_configured_provider_are_refused_at_the_start() {
    let config: ProviderConfig = serde_json::from_value(json!({ "offline": { "enabled": false } })).unwrap();
    let providers = Arc::new(Providers::new(config, crate::Prices::built_in().unwrap()).unwrap());
    let error =
        Registry::new().register_definitions(Definitions::built_in().unwrap(), &providers).unwrap_err();
    assert_eq!(
        error.to_string(),
        "agent `analytics`: none of its models (openai, offline) has a configured provider \
         (configured: none): configure one, add a configured one to `models`, or say that workspaces bring their \
         own (GALLEY_PROVIDERS_FROM_WORKSPACES)"
    );
}

#[tokio::test]
async fn where_workspaces_bring_their_providers_a_step_without_one_says_so() {
    let registry = built_in(json!({ "offline": { "enabled": false }, "own": { "suffice": true } }));
    let input = input(example_brief(), json!({}), json!({}), None);
    let error = agent(&registry, "strategy").run(step("strategy", input)).await.unwrap_err();
    assert_eq!((error.class.as_str(), error.failure), ("no_model", Failure::Permanent));
    assert_eq!(
        error.message,
        "none of its models (openai, anthropic, gemini, ollama, offline) has a provider here; bring the \
         workspace's own with `galley provider set`, then replay the dead letter"
    );
    // What no workspace can bring is a mistake all the same.
    let config = json!({ "offline": { "enabled": false }, "own": { "suffice": true } });
    let config = serde_json::from_value(config).unwrap();
    let providers = Providers::new(config, crate::Prices::built_in().unwrap()).unwrap();
    assert!(!providers.may_answer(&["house".to_owned().try_into().unwrap()]));
}

#[tokio::test]
async fn an_input_that_does_not_fit_never_reaches_the_agent() {
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    let schema = json!({ "properties": { "brief": { "properties": { "size": { "type": "integer" } } } } });
    let mut registry = Registry::new();
    registry
        .register(FnAgent::new(spec("count", schema, json!(true)), move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            async { output(&Value::Null) }
        }))
        .unwrap();
    let count = agent(&registry, "count");
    let error = count.run(step("count", brief(json!({ "size": "private words" })))).await.unwrap_err();
    assert_eq!((error.class.as_str(), error.failure), ("bad_input", Failure::Permanent));
    assert_eq!(
        error.message,
        "the input does not fit the schema: at `/brief/size`: value is not of type \"integer\""
    );
    assert_eq!(runs.load(Ordering::Relaxed), 0);
    count.run(step("count", brief(json!({ "size": 3 })))).await.unwrap();
    assert_eq!(runs.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn an_output_that_does_not_fit_is_worth_another_attempt_and_keeps_its_bill() {
    let bill = Usage { tokens_in: 7, ..Usage::default() };
    let paid = bill.clone();
    let mut registry = Registry::new();
    registry
        .register(FnAgent::new(spec("odd", json!(true), json!({ "type": "array" })), move |_| {
            let usage = paid.clone();
            async move { Ok::<_, StepError>(StepOutput { usage, ..output(&json!({}))? }) }
        }))
        .unwrap();
    let error = agent(&registry, "odd").run(step("odd", brief(json!({})))).await.unwrap_err();
    assert_eq!((error.class.as_str(), error.failure), ("bad_output", Failure::Transient));
    assert_eq!(
        error.message,
        "the output does not fit the schema: at the top: value is not of type \"array\""
    );
    assert_eq!(error.usage, bill);
}

#[tokio::test]
async fn without_a_schema_the_output_passes_byte_for_byte() {
    // Spaces would not survive a parse and a print.
    let bytes = "{ \"a\" :  1 }";
    let mut registry = Registry::new();
    registry
        .register(FnAgent::new(spec("raw", json!(true), json!(true)), async |_| {
            Ok(StepOutput::new(RawValue::from_string("{ \"a\" :  1 }".into()).unwrap()))
        }))
        .unwrap();
    let done = agent(&registry, "raw").run(step("raw", Value::Null)).await.unwrap();
    assert_eq!(done.output.get(), bytes);
}
