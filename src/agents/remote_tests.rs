#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use galley_core::report::{Failure, StepError, StepOutput, Usage};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::retry_after_ms;
use crate::testing::{agent, built_in, example_brief, input, step};
use crate::{Dialect, ProviderConfig, Registry, Remote, RemoteConfig, StepContext};

const KEY: &str = "sk-canary-7351";

/// A service that gives these responses, one per request, in order. `None`
/// never answers. What it saw comes through the channel: a request's head and
/// body, or `Hung up` when the caller of a `None` goes away.
async fn service(responses: Vec<Option<String>>) -> (String, mpsc::UnboundedReceiver<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/v1", listener.local_addr().unwrap());
    let (seen, saw) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for response in responses {
            let (mut connection, _) = listener.accept().await.unwrap();
            let (head, body) = read_request(&mut connection).await;
            seen.send(Seen::Request(head, body)).unwrap();
            match response {
                Some(response) => connection.write_all(response.as_bytes()).await.unwrap(),
                None => {
                    let rest = connection.read(&mut [0; 16]).await;
                    assert!(matches!(rest, Ok(0) | Err(_)));
                    seen.send(Seen::HungUp).unwrap();
                }
            }
        }
    });
    (base, saw)
}

#[derive(Debug, PartialEq)]
enum Seen {
    Request(String, Value),
    HungUp,
}

async fn read_request(connection: &mut TcpStream) -> (String, Value) {
    let mut bytes = Vec::new();
    loop {
        assert!(connection.read_buf(&mut bytes).await.unwrap() > 0, "the request ended early");
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head = head.to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        if body.len() == length.parse::<usize>().unwrap() {
            return (head, serde_json::from_str(body).unwrap());
        }
    }
}

fn response(status: &str, headers: &str, content_type: &str, body: &str) -> Option<String> {
    let length = body.len();
    Some(format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    ))
}

fn failure(status: &str, headers: &str, body: &str) -> Option<String> {
    response(status, headers, "application/json", body)
}

/// A chat completion that says `text`.
fn completion(text: &str, finish: &str, tokens: (u32, u32)) -> Option<String> {
    let body = json!({
        "id": "c1", "object": "chat.completion", "model": "big-2026",
        "choices": [{ "index": 0, "finish_reason": finish, "message": { "role": "assistant", "content": text } }],
        "usage": { "prompt_tokens": tokens.0, "completion_tokens": tokens.1, "total_tokens": tokens.0 + tokens.1 }
    });
    response("200 OK", "", "application/json", &body.to_string())
}

fn post(text: &str) -> String {
    json!({ "platform": "x", "text": text, "hashtags": [] }).to_string()
}

fn registry(base: &str) -> Registry {
    built_in(
        json!({ "openai": { "base_url": base, "api_key": KEY, "model": "big-medium", "stream": false } }),
    )
}

fn writing() -> StepContext {
    step("content_creator", input(example_brief(), json!({ "platform": "x" }), json!({}), None))
}

async fn run(base: &str) -> Result<StepOutput, StepError> {
    agent(&registry(base), "content_creator").run(writing()).await
}

#[tokio::test]
async fn a_good_answer_comes_with_its_bill() {
    let (base, mut saw) =
        service(vec![completion(&format!("```json\n{}\n```", post("Hello")), "stop", (321, 45))]).await;
    let done = run(&base).await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(done.output.get()).unwrap()["text"], "Hello");
    let bill = Usage {
        provider: Some("openai".into()),
        model: Some("big-2026".into()),
        tokens_in: 321,
        tokens_out: 45,
        cost_micros: 0,
        cache_hit: false,
        deliberation: None,
    };
    let note = done.usage.deliberation.clone().unwrap();
    assert_eq!((note.model.as_str(), note.calls, note.scores.len()), ("openai:big-medium", 1, 1));
    assert_eq!(Usage { deliberation: None, ..done.usage }, bill);

    let Some(Seen::Request(head, body)) = saw.recv().await else { panic!("no request") };
    assert!(head.starts_with("post /v1/chat/completions http/1.1"), "{head}");
    assert!(head.contains(&format!("authorization: bearer {KEY}")), "{head}");
    assert_eq!(body["model"], "big-medium", "the name is sent whole");
    assert_eq!(body.get("reasoning_effort"), None);
    assert_eq!(body["temperature"], 0.9);
    assert_eq!(body["max_tokens"], 1500);
    assert_eq!(body["response_format"], json!({ "type": "json_object" }));
    let roles: Vec<&Value> =
        body["messages"].as_array().unwrap().iter().map(|message| &message["role"]).collect();
    assert_eq!(roles, ["system", "user"]);
    assert!(body["messages"][1]["content"].as_str().unwrap().contains("Lantern Street Coffee Club"));
}

#[tokio::test]
async fn a_wrong_answer_is_repaired_once_and_both_calls_are_billed() {
    let long = post(&"a".repeat(281));
    let (base, mut saw) =
        service(vec![completion(&long, "stop", (100, 10)), completion(&post("Short"), "stop", (200, 20))])
            .await;
    let done = run(&base).await.unwrap();
    assert_eq!((done.usage.tokens_in, done.usage.tokens_out), (300, 30));

    saw.recv().await.unwrap();
    let Some(Seen::Request(_, body)) = saw.recv().await else { panic!("no repair") };
    let messages = body["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 4);
    assert_eq!(messages[2], json!({ "role": "assistant", "content": long }));
    let repair = messages[3]["content"].as_str().unwrap();
    assert!(repair.contains("- at `/text`: value is longer than 280 characters"), "{repair}");
}

#[tokio::test]
async fn an_answer_for_another_platform_is_not_accepted() {
    let other = json!({ "platform": "linkedin", "text": "Hello", "hashtags": [] }).to_string();
    let answers = vec![completion(&other, "stop", (1, 1)), completion(&other, "stop", (1, 1))];
    let (base, _saw) = service(answers).await;
    let error = run(&base).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "bad_output: the answer does not fit the schema, also after one repair: at `/platform`: must name exactly \"x\""
    );
    assert_eq!((error.failure, error.usage.tokens_in), (Failure::Transient, 2));
}

#[tokio::test]
async fn an_answer_cut_at_its_limit_is_not_asked_for_again() {
    let (base, mut saw) = service(vec![completion("{\"platform\":\"x\",\"te", "length", (9, 1500))]).await;
    let error = run(&base).await.unwrap_err();
    assert!(
        error.message.starts_with("the answer was cut at max_tokens; raise sampling.max_tokens"),
        "{error}"
    );
    assert_eq!(error.usage.tokens_out, 1500, "it was paid for");
    saw.recv().await.unwrap();
    assert_eq!(saw.recv().await, None, "one request");
}

/// Each line: a response, and what it means for the step.
#[tokio::test]
async fn errors_are_told_apart_by_class() {
    let later = |retry_after_ms| Failure::Throttled { retry_after_ms };
    let date = "retry-after: Wed, 21 Oct 2026 07:28:30 GMT\r\ndate: Wed, 21 Oct 2026 07:28:00 GMT\r\n";
    let html = response("200 OK", "", "text/html", "<html>gateway</html>");
    for (response, class, follows) in [
        (failure("429 Too Many", "retry-after: 7\r\n", "{}"), "provider_throttled", later(7_000)),
        (
            failure("429 Too Many", "retry-after-ms: 1500\r\nretry-after: 2\r\n", "{}"),
            "provider_throttled",
            later(1_500),
        ),
        (failure("429 Too Many", date, "{}"), "provider_throttled", later(30_000)),
        (failure("429 Too Many", "", "{}"), "provider_throttled", later(5_000)),
        (
            failure("429 Too Many", "", r#"{"error":{"code":"insufficient_quota"}}"#),
            "provider_quota",
            Failure::Permanent,
        ),
        (failure("503 Busy", "retry-after: 3\r\n", "{}"), "provider_throttled", later(3_000)),
        (failure("503 Busy", "", "{}"), "provider_5xx", Failure::Transient),
        (failure("500 Oops", "", "not even JSON"), "provider_5xx", Failure::Transient),
        (failure("408 Slow", "", "{}"), "provider_timeout", Failure::Transient),
        (failure("401 Who", "", "{}"), "provider_auth", Failure::Permanent),
        (failure("403 No", "", "{}"), "provider_auth", Failure::Permanent),
        (failure("404 No model", "", "{}"), "provider_4xx", Failure::Permanent),
        (html, "bad_output", Failure::Transient),
        (response("200 OK", "", "application/json", "{ half"), "bad_output", Failure::Transient),
        (completion("", "content_filter", (1, 0)), "provider_refused", Failure::Permanent),
    ] {
        let shown = response.clone().unwrap();
        let (base, _saw) = service(vec![response]).await;
        let error = run(&base).await.unwrap_err();
        assert_eq!((error.class.as_str(), error.failure), (class, follows), "{shown}");
        assert_eq!(error.usage.provider.as_deref(), Some("openai"), "{shown}");
    }
}

#[tokio::test]
async fn a_response_that_is_no_completion_is_bad_output() {
    let nothing = || response("200 OK", "", "application/json", r#"{"hello":"world"}"#);
    let (base, _saw) = service(vec![nothing(), nothing()]).await;
    let error = run(&base).await.unwrap_err();
    assert_eq!((error.class.as_str(), error.failure), ("bad_output", Failure::Transient));
}

#[tokio::test]
async fn no_service_is_unreachable() {
    // Bound and dropped: nobody listens there.
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = run(&format!("http://user:pass@{address}/v1")).await.unwrap_err();
    assert_eq!((error.class.as_str(), error.failure), ("provider_unreachable", Failure::Transient));
    assert!(!error.message.contains("pass"), "{error}");
}

#[tokio::test]
async fn a_connection_that_breaks_is_unreachable() {
    let (base, _saw) = service(vec![Some("HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{".into())]).await;
    assert_eq!(run(&base).await.unwrap_err().class, "provider_unreachable");
}

#[tokio::test]
async fn cancelling_hangs_up() {
    let (base, mut saw) = service(vec![None]).await;
    let step = writing();
    let cancelled = step.cancelled.clone();
    let running = tokio::spawn(async move { agent(&registry(&base), "content_creator").run(step).await });
    assert!(matches!(saw.recv().await, Some(Seen::Request(..))), "the call is under way");
    cancelled.cancel();
    assert_eq!(running.await.unwrap().unwrap_err().class, "cancelled");
    assert_eq!(saw.recv().await, Some(Seen::HungUp));
}

#[tokio::test]
async fn a_service_that_never_answers_is_a_timeout_and_is_hung_up_on() {
    let (base, mut saw) = service(vec![None]).await;
    let mut step = writing();
    step.timeout = Duration::from_millis(300);
    let error = agent(&registry(&base), "content_creator").run(step).await.unwrap_err();
    assert_eq!((error.class.as_str(), error.failure), ("provider_timeout", Failure::Transient));
    assert!(matches!(saw.recv().await, Some(Seen::Request(..))));
    assert_eq!(saw.recv().await, Some(Seen::HungUp));
}

#[tokio::test]
async fn the_key_appears_nowhere_but_in_its_header() {
    let config: ProviderConfig = serde_json::from_value(
        json!({ "openai": { "base_url": "http://localhost/v1", "api_key": KEY, "model": "m" } }),
    )
    .unwrap();
    assert!(!format!("{config:?}").contains(KEY));
    let echo = format!("{{\"error\":\"wrong key {KEY} {}\"}}", "x".repeat(5_000));
    let (base, _saw) = service(vec![failure("401 Who", "", &echo)]).await;
    let error = run(&base).await.unwrap_err();
    assert!(error.message.contains("wrong key [key] xxx"), "{error}");
    assert!(error.message.chars().count() < 400, "{error}");
}

#[test]
fn a_configuration_that_cannot_work_is_refused() {
    let made = |base: &str, model: &str, max_concurrency| {
        let config = RemoteConfig {
            base_url: Some(base.into()),
            api_key: None,
            model: model.into(),
            max_concurrency,
            stream: true,
            idle_timeout_ms: None,
            http2: false,
        };
        Remote::new("openai", Dialect::OpenAi, config).map(drop)
    };
    assert!(made("localhost:11434/v1", "m", None).unwrap_err().contains("openai.base_url"));
    assert!(made("http://localhost/v1", " ", None).unwrap_err().contains("openai.model"));
    assert!(made("http://localhost/v1", "m", Some(0)).unwrap_err().contains("openai.max_concurrency"));
    assert_eq!(made("http://localhost/v1/", "m", Some(1)), Ok(()));
}

#[test]
fn a_retry_date_is_measured_on_the_providers_clock() {
    let date = Some("Wed, 21 Oct 2026 07:28:00 GMT");
    assert_eq!(retry_after_ms(None, Some("Wed, 21 Oct 2026 07:27:00 GMT"), date), Some(0), "already over");
    assert_eq!(
        retry_after_ms(None, Some("Wed, 21 Oct 2026 07:28:10 GMT"), None),
        None,
        "no clock to measure with"
    );
    assert_eq!(retry_after_ms(None, Some("0.5"), None), Some(500));
    assert_eq!(retry_after_ms(None, Some("-3"), None), Some(0));
    assert_eq!(retry_after_ms(None, Some("NaN"), None), Some(0));
    assert_eq!(retry_after_ms(None, Some("soon"), date), None);
    assert_eq!(retry_after_ms(None, None, date), None);
}
