//! Who may publish, and what everybody else is told.

use galley_preview::Endpoint;
use reqwest::Method;
use serde_json::json;

use crate::bed::{Bed, read, token};

#[tokio::test]
async fn an_account_is_created_publishes_and_never_shows_its_token_again() {
    let bed = Bed::new().await;
    let wanted = json!({ "handle": "cleo", "displayName": "Cleo" });
    let made = read(bed.request(Method::POST, "/api/accounts").json(&wanted)).await.unwrap();
    assert_eq!(made.status, 201);
    let secret = made.json["token"].as_str().unwrap();
    let request = bed.request(Method::POST, "/api/blind/posts").bearer_auth(secret);
    assert_eq!(read(request.json(&json!({ "text": "hi" }))).await.unwrap().status, 201);
    let me = read(bed.request(Method::GET, "/api/me").bearer_auth(secret)).await.unwrap();
    let shown = json!({ "id": made.json["id"], "handle": "cleo", "displayName": "Cleo", "posts": 1 });
    assert_eq!((me.status, &me.json), (200, &shown));
    let listed = bed.get("/api/accounts").await;
    let handles: Vec<_> = listed.json["accounts"].as_array().unwrap().iter().map(|a| &a["handle"]).collect();
    assert_eq!(handles, ["ada", "ben", "cleo"]);
    for seen in
        [listed.text, bed.page("/").await, bed.page("/a/cleo").await, bed.get("/api/ledger").await.text]
    {
        assert!(!seen.contains(secret), "a token is shown: {seen}");
    }
    // From Rust the same.
    let dora = bed.network.add_account("dora", "Dora").unwrap();
    assert!(!format!("{dora:?}").contains(&dora.token));
    let taken = bed.network.add_account("dora", "Another").unwrap_err();
    assert_eq!(taken.to_string(), "account: the handle dora is taken");
}

#[tokio::test]
async fn without_a_token_of_the_network_nothing_is_published_or_looked_up() {
    let bed = Bed::new().await;
    bed.publish(Endpoint::Verifiable, "ada", "k1", "hello").await;
    let paths = [
        (Method::PUT, "/api/idempotent/posts/k1"),
        (Method::POST, "/api/verifiable/posts"),
        (Method::POST, "/api/blind/posts"),
        (Method::GET, "/api/verifiable/posts?clientKey=k1"),
        (Method::GET, "/api/me"),
    ];
    let wrong = [
        None,
        Some(token("nobody")),
        Some(format!("Basic {}", token("ada"))),
        Some(token("ada")),
        Some(format!("Bearer {}", token("nobody"))),
        Some(format!("Bearer {}x", token("ada"))),
        Some("Bearer ".to_owned()),
    ];
    for (method, path) in paths {
        for value in &wrong {
            let mut request = bed.request(method.clone(), path).header("X-Client-Key", "k1");
            if let Some(value) = value {
                request = request.header("Authorization", value);
            }
            if method != Method::GET {
                request = request.json(&json!({ "text": "stranger" }));
            }
            let refused = read(request).await.unwrap();
            assert_eq!((refused.status, refused.error().0), (401, "unauthorized"), "{path} {value:?}");
            assert_eq!(refused.headers["www-authenticate"], "Bearer");
            // It says what to do, and shows nothing of what was sent.
            let message = refused.error().1;
            assert!(message.contains("POST /api/accounts") && !message.contains("token-of"), "{message}");
        }
    }
    assert_eq!(bed.texts(), ["hello"]);
}
