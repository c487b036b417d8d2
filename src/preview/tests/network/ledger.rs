//! The network's own record, over HTTP and in Rust.

use galley_preview::{Duplicate, Endpoint};
use serde_json::json;

use crate::bed::{Bed, read, token};

#[tokio::test]
async fn the_ledger_has_every_post_once_in_order() {
    let bed = Bed::new().await;
    bed.publish(Endpoint::Blind, "ada", "b", "one").await;
    bed.publish(Endpoint::Idempotent, "ben", "i", "two").await;
    bed.publish(Endpoint::Verifiable, "ada", "v", "three").await;
    bed.publish(Endpoint::Idempotent, "ben", "i", "two").await;
    let ledger = bed.get("/api/ledger").await.json;
    let posts = ledger["posts"].as_array().unwrap();
    let told: Vec<_> = posts
        .iter()
        .map(|post| json!([post["seq"], post["account"], post["endpoint"], post["key"], post["text"]]))
        .collect();
    let expected = [
        json!([1, "ada", "blind", "b", "one"]),
        json!([2, "ben", "idempotent", "i", "two"]),
        json!([3, "ada", "verifiable", "v", "three"]),
    ];
    assert_eq!(told, expected);
    let each = json!({ "idempotent": 1, "verifiable": 1, "blind": 1 });
    assert_eq!(
        ledger["counts"],
        json!({ "posts": 3, "kept": 3, "byEndpoint": each, "duplicates": 0, "costMicros": 0 })
    );
    assert_eq!(ledger["duplicates"], json!([]));
    // The page's link leads here, and Rust sees the same.
    assert_eq!(serde_json::to_value(bed.network.ledger()).unwrap(), ledger);
}

#[tokio::test]
async fn a_key_with_more_than_one_post_is_a_duplicate_by_whatever_endpoint() {
    let bed = Bed::new().await;
    let mut ids = Vec::new();
    for by in [Endpoint::Blind, Endpoint::Verifiable, Endpoint::Idempotent] {
        ids.push(bed.publish(by, "ada", "k", "thrice").await.id());
    }
    // Another account's key is another key, and no key is none.
    bed.publish(Endpoint::Blind, "ben", "k", "once").await;
    for _ in 0..2 {
        let request = bed.http.post(format!("{}/api/blind/posts", bed.network.url()));
        let keyless = request.bearer_auth(token("ben")).json(&json!({ "text": "keyless" }));
        assert_eq!(read(keyless).await.unwrap().status, 201);
    }
    let ledger = bed.network.ledger();
    assert_eq!(ledger.duplicates, [Duplicate { account: "ada".into(), key: "k".into(), ids }]);
    assert_eq!((ledger.counts.posts, ledger.counts.duplicates), (6, 2), "a key with three counts two");
    assert!(bed.page("/").await.contains("2 duplicates"));
}
