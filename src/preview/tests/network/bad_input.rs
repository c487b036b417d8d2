//! What is wrong is told by its name, with what would be right.

use galley_preview::{FaultKind, SetFault};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::bed::{Bed, read, token};

/// Posts a body as it is.
async fn posted(bed: &Bed, path: &str, kind: &str, body: String) -> (u16, String, String) {
    let request = bed.request(Method::POST, path).bearer_auth(token("ada")).header("X-Client-Key", "k1");
    let answer = read(request.header("Content-Type", kind).body(body)).await.unwrap();
    let (code, message) = answer.error();
    (answer.status, code.to_owned(), message.to_owned())
}

async fn refused(bed: &Bed, path: &str, body: &Value) -> String {
    let (status, code, message) = posted(bed, path, "application/json", body.to_string()).await;
    assert_eq!((status, code.as_str()), (422, "invalid"), "{body}: {message}");
    message
}

#[tokio::test]
async fn a_post_that_is_not_valid_is_refused_by_the_name_of_the_field() {
    let bed = Bed::new().await;
    let link = |link: &str| json!({ "text": "x", "link": link });
    for (body, told) in [
        (json!({}), "body: missing field `text`"),
        (json!({ "text": "" }), "text: must not be empty"),
        (json!({ "text": " \n" }), "text: must not be empty"),
        (json!({ "text": "ä".repeat(501) }), "text: has 501 characters; 500 are allowed"),
        (json!({ "text": "a\u{0}b" }), r"text: must not have the control character '\0'"),
        (json!({ "text": 5 }), "body: invalid type: integer `5`, expected a string"),
        (json!({ "text": "x", "image": "y" }), "body: unknown field `image`"),
        (json!({ "text": "x", "createdAt": "yesterday" }), "body: "),
        (link("javascript:alert(1)"), "link: must be an absolute URL that begins with https://"),
        (link("/relative"), "link: must be an absolute URL"),
        (link("data:text/html,<script>"), "link: must be an absolute URL"),
        (link(&format!("https://a.example/{}", "x".repeat(2_000))), "link: is longer than 2000 bytes"),
    ] {
        for path in ["/api/verifiable/posts", "/api/blind/posts"] {
            let message = refused(&bed, path, &body).await;
            assert!(message.starts_with(told), "{body}: {message}");
        }
    }
    // The longest that fits, with what a text may have.
    let fits = json!({ "text": format!("{}\n\t🚀", "ä".repeat(497)), "link": "https://a.example" });
    let request = bed.request(Method::POST, "/api/blind/posts").bearer_auth(token("ada")).json(&fits);
    assert_eq!(read(request).await.unwrap().status, 201);
    assert_eq!(bed.texts().len(), 1);
}

#[tokio::test]
async fn a_body_that_is_no_json_or_too_large_is_told_as_that() {
    let bed = Bed::new().await;
    let path = "/api/blind/posts";
    for (kind, body, expected) in [
        ("text/plain", r#"{"text":"x"}"#.to_owned(), (415, "not_json", "Content-Type: application/json")),
        ("application/json", r#"{"text":"#.to_owned(), (400, "malformed", "the body is not JSON: ")),
        ("application/json", String::new(), (400, "malformed", "the body is not JSON: ")),
        ("application/json; charset=utf-8", " ".repeat(65_537), (413, "too_large", "more than 65536 bytes")),
        ("application/json", " ".repeat(3 << 20), (413, "too_large", "more than 65536 bytes")),
    ] {
        let (status, code, message) = posted(&bed, path, kind, body).await;
        assert_eq!((status, code.as_str()), (expected.0, expected.1));
        assert!(message.contains(expected.2), "{message}");
    }
    assert_eq!(bed.texts(), Vec::<String>::new());
}

#[tokio::test]
async fn a_body_that_ends_early_publishes_nothing() {
    let bed = Bed::new().await;
    let address = bed.network.url().strip_prefix("http://").unwrap().to_owned();
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let head = format!(
        "POST /api/blind/posts HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: 12\r\n\r\n{{\"text\"",
        token("ada")
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(!String::from_utf8_lossy(&answer).contains("201"), "{answer:?}");
    assert_eq!(bed.texts(), Vec::<String>::new());
}

#[tokio::test]
async fn a_key_is_asked_for_where_it_is_needed_and_checked_where_it_is_given() {
    let bed = Bed::new().await;
    let draft = json!({ "text": "x" });
    let long = "k".repeat(201);
    let idempotent = |key: &str| bed.request(Method::PUT, &format!("/api/idempotent/posts/{key}"));
    let post = |name: &str| bed.request(Method::POST, &format!("/api/{name}/posts"));
    let look = |query: &str| bed.request(Method::GET, &format!("/api/verifiable/posts{query}"));
    for (request, status, told) in [
        (post("verifiable"), 422, "X-Client-Key: is missing: send the header with a key of yours"),
        (post("verifiable").header("X-Client-Key", " "), 422, "X-Client-Key: must have 1 to 200 bytes"),
        (post("verifiable").header("X-Client-Key", &long), 422, "X-Client-Key: must have 1 to 200 bytes"),
        (post("blind").header("X-Trace-Key", &long), 422, "X-Trace-Key: must have 1 to 200 bytes"),
        (post("blind").header("X-Trace-Key", "ä".as_bytes()), 422, "X-Trace-Key: must be visible ASCII"),
        (idempotent(&long), 422, "key: must have 1 to 200 bytes"),
        (idempotent("a%00b"), 422, "key: must not have the control character"),
        (idempotent("%FF"), 400, "Invalid URL"),
        (look(""), 400, "missing field `clientKey`"),
        (look("?clientKey="), 422, "clientKey: must have 1 to 200 bytes"),
    ] {
        let answer = read(request.bearer_auth(token("ada")).json(&draft)).await.unwrap();
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.error().1.contains(told), "{answer:?}");
    }
    assert_eq!(bed.texts(), Vec::<String>::new());
}

#[tokio::test]
async fn an_account_or_a_fault_that_is_not_valid_is_refused() {
    let bed = Bed::new().await;
    let account = |handle: &str, name: &str| json!({ "handle": handle, "displayName": name });
    for (body, told) in [
        (account("Ada", "x"), "handle: must have 1 to 32 of the characters a-z"),
        (account("", "x"), "handle: "),
        (account("..", "x"), "handle: "),
        (account("a/b", "x"), "handle: "),
        (account(&"a".repeat(33), "x"), "handle: "),
        (account("cleo", " "), "displayName: must have 1 to 64 characters"),
        (account("cleo", &"x".repeat(65)), "displayName: must have 1 to 64 characters"),
        (account("cleo", "a\nb"), "displayName: must not have the control character"),
        (json!({ "handle": "cleo" }), "body: missing field `displayName`"),
    ] {
        let message = refused(&bed, "/api/accounts", &body).await;
        assert!(message.starts_with(told), "{body}: {message}");
    }
    let taken = account("ada", "x").to_string();
    let (status, code, _) = posted(&bed, "/api/accounts", "application/json", taken).await;
    assert_eq!((status, code.as_str()), (409, "handle_taken"));
    for (body, told) in [
        (json!({}), "body: missing field `kind`"),
        (json!({ "kind": "explode" }), "body: unknown variant `explode`, expected one of `fail`, `refuse`"),
        (json!({ "kind": "fail", "endpoint": "all" }), "body: unknown variant `all`"),
        (json!({ "kind": "fail", "account": "nobody" }), "account: there is no account \"nobody\""),
        (json!({ "kind": "fail", "times": 0 }), "times: must be at least 1"),
        (json!({ "kind": "fail", "times": -1 }), "body: invalid value: integer `-1`"),
        (json!({ "kind": "fail", "delayMs": 5 }), "delayMs: is only for `late` and `late_effect`"),
        (json!({ "kind": "late", "delayMs": 600_001 }), "delayMs: must be at most 600000"),
        (json!({ "kind": "fail", "delay": 5 }), "body: unknown field `delay`"),
    ] {
        let message = refused(&bed, "/api/faults", &body).await;
        assert!(message.starts_with(told), "{body}: {message}");
    }
    assert!(bed.network.set_fault(SetFault::new(FaultKind::Hang).times(0)).is_err());
    assert_eq!(bed.network.faults(), []);
}

#[tokio::test]
async fn an_address_that_leads_nowhere_says_so_to_programs_and_to_people() {
    let bed = Bed::new().await;
    for path in ["/api", "/api/posts", "/api/idempotent/posts"] {
        let answer = bed.get(path).await;
        assert_eq!((answer.status, answer.error().0), (404, "not_found"), "{path}");
    }
    let wrong = read(bed.request(Method::POST, "/api/ledger")).await.unwrap();
    assert_eq!((wrong.status, wrong.error().1), (405, "/api/ledger does not take POST"));
    let fault = read(bed.request(Method::DELETE, "/api/faults/one")).await.unwrap();
    assert_eq!((fault.status, fault.error().0), (400, "malformed"));
    for path in ["/nowhere", "/p/p_unknown", "/a/nobody", "/?before=x", "/a/ada?before=x", "/a/%FF", "/p/%FF"]
    {
        let answer = bed.get(path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.text.contains("There is nothing here"), "{path}");
    }
}
