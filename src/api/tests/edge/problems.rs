//! The shape of errors: one for all, and each names its place.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{StatusCode, header};
use galley_api::views::Role;
use galley_api::{AuthConfig, RateLimits};
use serde_json::json;

use crate::api::{Known, allowed, app, app_limited, ask, ask_of, request, token};

const JSON: &str = "application/json";

#[tokio::test]
async fn a_route_that_is_not_there_is_a_problem_too() {
    let answer = ask(request("GET", "/v2/nothing").body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!(answer.problem().kind, "urn:galley:problem:not-found");

    let answer = ask(allowed("DELETE", "/v1/workflows").body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(answer.problem().kind, "urn:galley:problem:method-not-allowed");
    assert!(answer.headers[header::ALLOW].to_str().unwrap().contains("POST"));
}

#[tokio::test]
async fn the_request_id_goes_in_and_out() {
    let request = request("GET", "/health").header("x-request-id", "mine-1");
    let answer = ask(request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.headers["x-request-id"], "mine-1");
    assert_eq!(answer.body["status"], "ok");
}

/// Requests that are refused before any store is asked, and where they say it
/// is wrong.
#[tokio::test]
async fn a_refusal_names_its_place() {
    let id = "0199aa10-7c1e-7d3a-9c9e-1234567890ab";
    let cancel = format!("/v1/workflows/{id}/events");
    let post = format!("/v1/posts/{id}");
    let (reschedule, resolve) = (format!("{post}/reschedule"), format!("{post}/resolve"));
    let policy = json!({
        "mode": "assisted", "rules": [], "enabledAgents": null, "scheduleAutomation": false,
        "contentApprovalRequired": true, "maxDailyPosts": 3, "allowedPlatforms": null,
    });
    let (mut ruled, mut forgotten) = (policy.clone(), policy);
    ruled["rules"] = json!([{ "when": "true" }]);
    forgotten.as_object_mut().unwrap().remove("maxDailyPosts");
    let (ruled, forgotten) = (ruled.to_string(), forgotten.to_string());
    let bad = StatusCode::BAD_REQUEST;
    let invalid = StatusCode::UNPROCESSABLE_ENTITY;
    let cases = [
        ("GET", "/v1/workflows?limit=0", None, bad, "limit"),
        ("GET", "/v1/workflows?limit=201", None, bad, "limit"),
        ("GET", "/v1/workflows?limit=many", None, bad, "limit"),
        ("GET", "/v1/workflows?state=flying", None, bad, "state"),
        ("GET", "/v1/workflows?colour=red", None, bad, "colour"),
        ("GET", "/v1/workflows?cursor=garbage", None, bad, "cursor"),
        ("GET", "/v1/tasks?status=dead", None, bad, "status"),
        ("GET", "/v1/tasks?workflow=x", None, bad, "workflow"),
        ("GET", "/v1/tasks?agent=No", None, bad, "agent"),
        ("GET", "/v1/tasks/x.content", None, bad, "taskId"),
        ("GET", "/v1/workflows/x", None, bad, "id"),
        ("POST", "/v1/workflows", Some(r#"{"template":"x"}"#), bad, "Idempotency-Key"),
        ("POST", "/v1/workflows", Some("{"), bad, "body"),
        ("POST", "/v1/workflows", Some("{} {}"), bad, "body"),
        ("POST", "/v1/workflows", Some(r#"{"inptu":1}"#), invalid, "inptu"),
        ("POST", "/v1/workflows", Some(r#"{"priority":"high"}"#), invalid, "priority"),
        (
            "POST",
            "/v1/workflows",
            Some(r#"{"definition":{"name":"x","steps":[{"name":"a","agent":"A"}]}}"#),
            invalid,
            "definition.steps[0].agent",
        ),
        ("POST", "/v1/queues/strategy/limit", Some("{}"), invalid, "body"),
        ("POST", "/v1/queues/strategy/limit", Some(r#"{"maxRunning":0}"#), invalid, "maxRunning"),
        ("POST", "/v1/queues/strategy/pause", Some(r#"{"why":1}"#), invalid, "why"),
        ("POST", "/v1/queues/strategy/pause", Some(r#"["why"]"#), invalid, "body"),
        ("PUT", "/v1/prompts/strategy", Some(r#" ["system","user",1]"#), invalid, "body"),
        ("POST", "/v1/dead-letters/discard", Some("{}"), invalid, "body"),
        ("POST", "/v1/dead-letters/retry", Some(r#"{"dryRun":true}"#), invalid, "body"),
        ("POST", "/v1/dead-letters/retry", Some(r#"{"all":true,"agent":"a"}"#), invalid, "all"),
        ("POST", "/v1/tokens", Some(r#"{"subject":"a","roles":["king"]}"#), invalid, "roles[0]"),
        ("GET", "/v1/posts?state=flying", None, bad, "state"),
        ("GET", "/v1/posts?cursor=garbage", None, bad, "cursor"),
        ("GET", "/v1/approvals?status=maybe", None, bad, "status"),
        ("GET", "/v1/approvals/x", None, bad, "id"),
        ("PUT", &post, Some(r#"{"text":"a","revision":-1}"#), invalid, "revision"),
        ("POST", &reschedule, Some("{}"), invalid, "body"),
        ("POST", &reschedule, Some(r#"{"at":"tomorrow"}"#), invalid, "at"),
        ("POST", &reschedule, Some(r#"{"at":"2026-03-01T09:30:00"}"#), invalid, "at"),
        ("POST", &resolve, Some(r#"{"resolution":"perhaps","sends":1}"#), invalid, "resolution"),
        (
            "POST",
            &resolve,
            Some(r#"{"resolution":"not_there","sends":1,"link":"https://a"}"#),
            invalid,
            "link",
        ),
        (
            "POST",
            &resolve,
            Some(r#"{"resolution":"given_up","sends":1,"remoteId":"1"}"#),
            invalid,
            "remoteId",
        ),
        ("POST", &resolve, Some(r#"{"resolution":"given_up"}"#), invalid, "body"),
        ("PUT", "/v1/automation", Some(r#"{"mode":"wild"}"#), invalid, "mode"),
        ("PUT", "/v1/automation", Some(&forgotten), invalid, "body"),
        ("PUT", "/v1/automation", Some(&ruled), invalid, "rules"),
        ("POST", "/v1/accounts", Some(r#"{"name":"a","platform":"b"}"#), invalid, "body"),
        ("DELETE", "/v1/accounts/A%20B", None, bad, "name"),
    ];
    let app = app();
    for (method, path, body, status, at) in cases {
        let request = allowed(method, path).header(header::CONTENT_TYPE, JSON);
        let answer = ask_of(
            &app,
            request.body(body.map_or_else(Body::empty, |body: &str| Body::from(body.to_owned()))).unwrap(),
        )
        .await;
        assert_eq!(answer.status, status, "{method} {path} {body:?}: {answer:?}");
        let problem = answer.problem();
        assert_eq!(problem.problems.first().map(|problem| problem.at.as_str()), Some(at), "{path} {body:?}");
        assert!(problem.detail.contains(at), "{problem:?}");
    }
    for no_id in ["one", "-1", "9223372036854775808"] {
        let request = allowed("GET", &cancel).header("Last-Event-ID", no_id);
        let answer = ask(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.problem().problems[0].at, "Last-Event-ID", "{no_id}");
    }
}

#[tokio::test]
async fn a_body_has_to_be_json_and_small() {
    let submit = |kind: &str, body: String| {
        let request = allowed("POST", "/v1/workflows").header("Idempotency-Key", "k");
        request.header(header::CONTENT_TYPE, kind).body(Body::from(body)).unwrap()
    };
    let answer = ask(submit("text/plain", "{}".into())).await;
    assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(answer.problem().kind, "urn:galley:problem:unsupported-media-type");

    let large = json!({ "input": "x".repeat(5_000) }).to_string();
    let answer = ask(submit(JSON, large)).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(answer.problem().kind, "urn:galley:problem:too-large");
}

#[tokio::test]
async fn a_key_with_more_than_ascii_is_refused_by_name() {
    let request = allowed("POST", "/v1/workflows").header(header::CONTENT_TYPE, JSON);
    let request = request.header("Idempotency-Key", "schlüssel".as_bytes());
    let answer = ask(request.body(Body::from("{}")).unwrap()).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.problem().problems[0].at, "Idempotency-Key");
}

#[tokio::test]
async fn a_store_that_is_away_is_said_so_without_its_address() {
    let answer = ask(allowed("GET", "/v1/workers").body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.headers.contains_key(header::RETRY_AFTER));
    let problem = answer.problem();
    assert_eq!(problem.kind, "urn:galley:problem:unavailable");
    assert!(!problem.detail.contains("127.0.0.1") && !problem.detail.contains("refused"), "{problem:?}");

    let answer = ask(request("GET", "/ready").body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.body["status"], "not_ready");
    assert_eq!(answer.body["postgres"]["ok"], false);
    assert_eq!(answer.body["redis"]["ok"], true);
}

#[tokio::test]
async fn a_403_says_which_roles_it_takes() {
    let request = request("POST", "/v1/queues/strategy/pause");
    let request = request.header(header::AUTHORIZATION, format!("Bearer {}", token(&[Role::Producer])));
    let problem = ask(request.body(Body::empty()).unwrap()).await.problem();
    assert!(problem.detail.contains("operator, admin"), "{problem:?}");
}

/// The limit is said with every answer, an error, too; beyond it nothing is
/// done, and who asked nothing is not asked to wait.
#[tokio::test]
async fn asking_too_often_is_a_429_that_says_when_to_come_back() {
    let rates = RateLimits { workspace_per_minute: 100, caller_per_minute: 3 };
    let app = app_limited(AuthConfig::default(), Arc::new(Known::default()), rates);
    let ask = async |bearer: &str| {
        let request = request("GET", "/v1/tasks?limit=0").header(header::AUTHORIZATION, bearer);
        ask_of(&app, request.body(Body::empty()).unwrap()).await
    };
    let ada = format!("Bearer {}", token(&[Role::Admin]));
    for left in ["2", "1", "0"] {
        let answer = ask(&ada).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert_eq!(answer.headers["ratelimit-remaining"], left);
        assert_eq!(answer.headers["ratelimit-limit"], "3, 3;w=60");
    }
    let answer = ask(&ada).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.problem().kind, "urn:galley:problem:rate-limited");
    let wait: u64 = answer.headers[header::RETRY_AFTER].to_str().unwrap().parse().unwrap();
    assert!((1..=20).contains(&wait), "{wait}");
    assert_eq!(answer.headers["ratelimit-remaining"], "0");
    // Nobody knows who a stranger is: there is no bucket to fill.
    for _ in 0..5 {
        assert_eq!(ask("Bearer nonsense").await.status, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn every_answer_tells_browsers_to_keep_their_hands_off() {
    let health = request("GET", "/health").body(Body::empty()).unwrap();
    let missing = request("GET", "/nothing").body(Body::empty()).unwrap();
    let refused = request("GET", "/v1/tasks").body(Body::empty()).unwrap();
    for request in [health, missing, refused] {
        let answer = ask(request).await;
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        assert_eq!(answer.headers["x-frame-options"], "DENY");
        assert_eq!(answer.headers["referrer-policy"], "no-referrer");
        assert_eq!(answer.headers["cache-control"], "no-store");
        assert!(answer.headers["content-security-policy"].to_str().unwrap().contains("default-src 'none'"));
    }
}

#[tokio::test]
async fn a_body_that_nests_deeply_is_not_read() {
    let body = format!(r#"{{"input":{}{}}}"#, "[".repeat(150), "]".repeat(150));
    let request = allowed("POST", "/v1/workflows").header("Idempotency-Key", "k");
    let request = request.header(header::CONTENT_TYPE, JSON).body(Body::from(body)).unwrap();
    let answer = ask(request).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(answer.problem().detail.contains("nests deeper"), "{answer:?}");
}
