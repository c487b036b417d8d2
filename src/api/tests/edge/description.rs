//! `/openapi.json`: made from the routes, so it cannot miss one; here it is
//! compared with what people were promised, and with the core's own types.

use std::collections::BTreeSet;

use axum::body::Body;
use galley_api::openapi;
use galley_core::definition::Definition;
use serde_json::{Value, json};

use crate::api::{ask, request};

fn described() -> Value {
    serde_json::to_value(openapi()).unwrap()
}

#[test]
fn the_routes_are_these() {
    let api = described();
    let mut routes = Vec::new();
    for (path, item) in api["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            routes.push(format!(
                "{path} {} {}",
                method.to_uppercase(),
                operation["operationId"].as_str().unwrap()
            ));
        }
    }
    routes.sort();
    insta::assert_snapshot!(routes.join("\n"));
}

#[test]
fn every_reference_leads_somewhere_and_every_operation_is_described() {
    let api = described();
    assert!(api["openapi"].as_str().unwrap().starts_with("3."));
    let mut references = BTreeSet::new();
    collect_references(&api, &mut references);
    assert!(references.len() > 20, "{references:?}");
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(api.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    let mut ids = BTreeSet::new();
    for (path, item) in api["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let at = format!("{method} {path}");
            assert!(operation["summary"].as_str().is_some_and(|text| text.ends_with('.')), "{at}");
            assert!(operation["tags"][0].is_string(), "{at}");
            assert!(ids.insert(operation["operationId"].to_string()), "{at}: operationId twice");
            let problem = &operation["responses"]["default"]["content"]["application/problem+json"];
            assert_eq!(problem["schema"]["$ref"], "#/components/schemas/Problem", "{at}");
            let named: BTreeSet<_> = operation["parameters"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|parameter| parameter["in"] == "path")
                .map(|parameter| parameter["name"].as_str().unwrap().to_owned())
                .collect();
            let in_path: BTreeSet<_> = path.split(['{', '}']).skip(1).step_by(2).map(str::to_owned).collect();
            assert_eq!(named, in_path, "{at}");
        }
    }
}

fn collect_references(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Value::String(text) if key == "$ref" => {
                        into.insert(text.clone());
                    }
                    other => collect_references(other, into),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_references(item, into)),
        _ => {}
    }
}

#[test]
fn health_is_open_and_everything_else_is_not() {
    let api = described();
    assert_eq!(api["security"], json!([{ "bearer": [] }]));
    assert_eq!(api["components"]["securitySchemes"]["bearer"]["scheme"], "bearer");
    for (path, item) in api["paths"].as_object().unwrap() {
        for operation in item.as_object().unwrap().values() {
            let open = operation["security"] == json!([{}]);
            assert_eq!(open, ["/health", "/ready"].contains(&path.as_str()), "{path}");
        }
    }
}

/// The definition is the core's type; its schema is written by hand.
#[test]
fn the_schema_of_a_definition_has_the_fields_of_a_definition() {
    let full = json!({
        "name": "n", "description": "d", "inputSchema": {},
        "steps": [{
            "name": "s", "agent": "a", "needs": [], "input": {}, "when": "true", "optional": true,
            "forEach": { "step": "x", "path": "", "max": 1 },
            "retry": { "maxAttempts": 1, "maxCrashes": 1, "backoffMs": 1, "maxBackoffMs": 1, "timeoutMs": 1 },
        }],
    });
    // What the core writes back is all it knows.
    let definition: Definition = serde_json::from_value(full).unwrap();
    let written = serde_json::to_value(definition).unwrap();
    let api = described();
    for (schema, pointer) in [
        ("Definition", ""),
        ("StepDefinition", "/steps/0"),
        ("ForEach", "/steps/0/forEach"),
        ("RetryOverride", "/steps/0/retry"),
    ] {
        let schema_fields = api["components"]["schemas"][schema]["properties"].as_object();
        let schema_fields: BTreeSet<_> = schema_fields.unwrap_or_else(|| panic!("{schema}")).keys().collect();
        let fields: BTreeSet<_> = written.pointer(pointer).unwrap().as_object().unwrap().keys().collect();
        assert_eq!(schema_fields, fields, "{schema}");
    }
}

#[test]
fn a_task_has_exactly_the_promised_fields_and_three_more() {
    let api = described();
    let fields = api["components"]["schemas"]["AgentTaskHistory"]["properties"].as_object().unwrap();
    let mut promised = vec![
        "id",
        "workspaceId",
        "taskId",
        "agentType",
        "input",
        "output",
        "result",
        "workflowId",
        "status",
        "feedback",
        "learningData",
        "createdAt",
        "completedAt",
        "state",
        "attempts",
        "choices",
    ];
    promised.sort_unstable();
    let mut fields: Vec<_> = fields.keys().map(String::as_str).collect();
    fields.sort_unstable();
    assert_eq!(fields, promised);
}

/// The entity of the product, and what this release needs beside it.
#[test]
fn the_policy_has_the_promised_fields() {
    let api = described();
    let schema = &api["components"]["schemas"]["Automation"]["properties"];
    for field in [
        "workspaceId",
        "mode",
        "rules",
        "enabledAgents",
        "scheduleAutomation",
        "contentApprovalRequired",
        "maxDailyPosts",
        "allowedPlatforms",
    ] {
        assert!(schema[field].is_object(), "{field}");
    }
    // What can be null may not be forgotten.
    let required = api["components"]["schemas"]["SetAutomation"]["required"].as_array().unwrap();
    for field in ["mode", "enabledAgents", "maxDailyPosts", "allowedPlatforms"] {
        assert!(required.contains(&json!(field)), "{field} in {required:?}");
    }
}

/// No answer has a place for a credential.
#[test]
fn a_credential_goes_in_and_never_comes_out() {
    let api = described();
    let schemas = api["components"]["schemas"].as_object().unwrap();
    let holders: Vec<_> =
        schemas.iter().filter(|(_, schema)| schema["properties"]["credential"].is_object()).collect();
    let [(name, schema)] = holders[..] else { panic!("{holders:?}") };
    assert_eq!(name, "AddAccount");
    assert_eq!(schema["properties"]["credential"]["writeOnly"], true);
}

#[tokio::test]
async fn it_is_served_to_everybody() {
    let answer = ask(request("GET", "/openapi.json").body(Body::empty()).unwrap()).await;
    assert_eq!(answer.body, described());
}
