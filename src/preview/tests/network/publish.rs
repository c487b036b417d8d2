//! The three ways to publish, when nothing goes wrong.

use futures::future::join_all;
use galley_preview::Endpoint;
use serde_json::{Value, json};

use crate::bed::{Bed, read, token};

#[tokio::test]
async fn the_same_key_again_is_the_same_post() {
    let bed = Bed::new().await;
    let first = bed.publish(Endpoint::Idempotent, "ada", "k1", "hello").await;
    assert_eq!((first.status, first.json["url"].as_str()), (201, Some(&*url(&bed, &first.id()))));
    assert_eq!(first.json.get("repeated"), None);
    // The key decides, as with a real platform; another text changes nothing.
    for text in ["hello", "something else"] {
        let again = bed.publish(Endpoint::Idempotent, "ada", "k1", text).await;
        let expected = json!({ "id": first.id(), "url": url(&bed, &first.id()), "repeated": true });
        assert_eq!((again.status, &again.json), (200, &expected));
    }
    assert_eq!(bed.texts(), ["hello"]);
    // A key is the account's own.
    let other = bed.publish(Endpoint::Idempotent, "ben", "k1", "hello of ben").await;
    assert_eq!((other.status, other.id() == first.id()), (201, false));
    assert_eq!(bed.network.ledger().counts.duplicates, 0);
}

#[tokio::test]
async fn the_same_key_at_the_same_moment_is_one_post() {
    let bed = Bed::new().await;
    let requests = (0..40).map(|_| read(bed.publishing(Endpoint::Idempotent, "ada", "k1", "once")));
    let answers: Vec<_> = join_all(requests).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    assert!(answers.iter().all(|answer| answer.id() == answers[0].id()), "{answers:?}");
    assert_eq!(bed.texts(), ["once"]);
}

#[tokio::test]
async fn a_verifiable_post_can_be_looked_for_and_is_new_each_time() {
    let bed = Bed::new().await;
    let nothing = read(bed.looking("ada", "k1")).await.unwrap();
    assert_eq!((nothing.status, &nothing.json), (200, &json!({ "posts": [] })));
    let draft =
        json!({ "text": "first", "link": "https://a.example/x", "createdAt": "2026-06-03T12:00:00Z" });
    let request = bed.publishing(Endpoint::Verifiable, "ada", "k1", "").json(&draft);
    let first = read(request).await.unwrap();
    let second = bed.publish(Endpoint::Verifiable, "ada", "k1", "second").await;
    assert_eq!((first.status, second.status), (201, 201));
    assert_ne!(first.id(), second.id());
    let found = read(bed.looking("ada", "k1")).await.unwrap();
    let posts = found.json["posts"].as_array().unwrap();
    let ids: Vec<&str> = posts.iter().map(|post| post["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [&*first.id(), &*second.id()], "oldest first");
    for (name, value) in draft.as_object().unwrap() {
        assert_eq!(&posts[0][name], value, "{name}");
    }
    assert_eq!(posts[0]["url"], url(&bed, &first.id()));
    assert_eq!(posts[1]["link"], Value::Null);
    // Nobody finds somebody else's, and no endpoint another's.
    bed.publish(Endpoint::Idempotent, "ada", "k2", "idempotent").await;
    bed.publish(Endpoint::Blind, "ada", "k2", "blind").await;
    for (handle, key) in [("ben", "k1"), ("ada", "k2")] {
        let found = read(bed.looking(handle, key)).await.unwrap();
        assert_eq!(found.json, json!({ "posts": [] }), "{handle} {key}");
    }
}

#[tokio::test]
async fn a_blind_post_is_always_new_and_needs_no_key() {
    let bed = Bed::new().await;
    for _ in 0..2 {
        assert_eq!(bed.publish(Endpoint::Blind, "ada", "k1", "again").await.status, 201);
    }
    let request = bed.http.post(format!("{}/api/blind/posts", bed.network.url()));
    let without = request.bearer_auth(token("ada")).json(&json!({ "text": "no key" }));
    assert_eq!(read(without).await.unwrap().status, 201);
    assert_eq!(bed.texts(), ["again", "again", "no key"]);
}

/// Where a client is told that its post is.
fn url(bed: &Bed, id: &str) -> String {
    format!("{}/p/{id}", bed.network.url())
}
