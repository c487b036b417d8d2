//! Every fault: what the client sees, whether the post is there, which requests
//! it hits and how often.

use std::time::{Duration, Instant};

use galley_preview::{Endpoint, FaultKind, FaultTarget, SetFault};
use reqwest::{Method, RequestBuilder};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::bed::{Answer, Bed, read};

/// What the client of a request gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reply {
    /// An answer: its status and, of an error, its code.
    Answer(u16, Option<&'static str>),
    /// The connection ends without an answer.
    Lost,
    /// No answer for as long as the network runs.
    Never,
}

/// Every kind with its reply and whether the post is there when the hit counts.
const KINDS: [(FaultKind, Reply, bool); 9] = [
    (FaultKind::Fail, Reply::Answer(500, Some("broken")), false),
    (FaultKind::Refuse, Reply::Answer(422, Some("refused")), false),
    (FaultKind::Throttle, Reply::Answer(429, Some("throttled")), false),
    (FaultKind::Hang, Reply::Never, false),
    (FaultKind::HangAfter, Reply::Never, true),
    (FaultKind::Late, Reply::Answer(201, None), true),
    (FaultKind::LateEffect, Reply::Lost, false),
    (FaultKind::LoseReply, Reply::Lost, true),
    (FaultKind::OkWithError, Reply::Answer(200, Some("not_published")), false),
];

fn sent(request: RequestBuilder) -> JoinHandle<Result<Answer, reqwest::Error>> {
    tokio::spawn(read(request))
}

/// Sees what the reply is, when the fault has hit.
async fn meets(bed: &Bed, request: RequestBuilder, expected: Reply) {
    let request = sent(request);
    bed.network.wait_for_hits(1).await;
    match expected {
        Reply::Answer(status, code) => {
            let answer = request.await.unwrap().unwrap();
            assert_eq!(answer.status, status, "{answer:?}");
            assert_eq!(answer.json["error"]["code"].as_str(), code, "{answer:?}");
            let wait = answer.headers.get("retry-after").map(|value| value.to_str().unwrap());
            assert_eq!(wait, (status == 429).then_some("1"));
        }
        Reply::Lost => {
            let error = request.await.unwrap().unwrap_err();
            assert!(error.is_request() && !error.is_timeout() && !error.is_connect(), "{error:?}");
        }
        Reply::Never => {
            // Time for an answer to arrive: others get theirs meanwhile.
            for _ in 0..20 {
                bed.get("/api/accounts").await;
            }
            assert!(!request.is_finished());
            request.abort();
        }
    }
}

#[tokio::test]
async fn every_kind_does_to_every_endpoint_what_it_says() {
    for (kind, reply, there) in KINDS {
        for by in Endpoint::ALL {
            let bed = Bed::new().await;
            let mut fault = SetFault::new(kind).times(1);
            if kind == FaultKind::LateEffect {
                // Not before the test is over.
                fault = fault.delay(Duration::from_secs(600));
            }
            bed.network.set_fault(fault).unwrap();
            meets(&bed, bed.publishing(by, "ada", "k1", "hello"), reply).await;
            let posts = bed.texts().len();
            assert_eq!(posts, usize::from(there), "{} {by}", kind.name());
            // It is used up: the client tries again and gets what such a
            // platform gives it.
            let again = bed.publish(by, "ada", "k1", "hello").await;
            let known = there && by == Endpoint::Idempotent;
            assert_eq!(again.status, if known { 200 } else { 201 }, "{} {by}", kind.name());
            let duplicates = usize::from(there && !known);
            assert_eq!(bed.network.ledger().counts.duplicates, duplicates as u64, "{} {by}", kind.name());
            bed.network.stop().await;
        }
    }
}

#[tokio::test]
async fn a_look_meets_faults_of_its_own_and_no_others() {
    for (kind, reply, _) in KINDS {
        let bed = Bed::new().await;
        bed.publish(Endpoint::Verifiable, "ada", "k1", "hello").await;
        // For everybody: looking is not publishing.
        bed.network.set_fault(SetFault::new(kind)).unwrap();
        let found = read(bed.looking("ada", "k1")).await.unwrap();
        assert_eq!(found.json["posts"].as_array().unwrap().len(), 1, "{}", kind.name());
        bed.network.clear_faults();
        bed.network.set_fault(SetFault::new(kind).endpoint(FaultTarget::Lookup).times(1)).unwrap();
        let reply = if kind == FaultKind::Late { Reply::Answer(200, None) } else { reply };
        meets(&bed, bed.looking("ada", "k1"), reply).await;
        assert_eq!(bed.texts(), ["hello"], "{}: a look publishes nothing", kind.name());
        // Publishing does not meet it.
        bed.network.set_fault(SetFault::new(kind).endpoint(FaultTarget::Lookup)).unwrap();
        assert_eq!(bed.publish(Endpoint::Verifiable, "ada", "k2", "more").await.status, 201);
        bed.network.stop().await;
    }
}

#[tokio::test]
async fn a_late_answer_comes_after_its_delay_and_the_post_before_it() {
    let bed = Bed::new().await;
    let delay = Duration::from_millis(400);
    bed.network.set_fault(SetFault::new(FaultKind::Late).delay(delay)).unwrap();
    let begun = Instant::now();
    let request = sent(bed.publishing(Endpoint::Blind, "ada", "k1", "late"));
    bed.network.wait_for_hits(1).await;
    assert_eq!(bed.texts(), ["late"]);
    assert_eq!(request.await.unwrap().unwrap().status, 201);
    assert!(begun.elapsed() >= delay);
}

#[tokio::test]
async fn a_late_effect_comes_after_its_delay_to_a_client_that_gave_up() {
    let bed = Bed::new().await;
    let delay = Duration::from_millis(400);
    bed.network.set_fault(SetFault::new(FaultKind::LateEffect).times(1).delay(delay)).unwrap();
    let begun = Instant::now();
    read(bed.publishing(Endpoint::Verifiable, "ada", "k1", "late")).await.unwrap_err();
    bed.network.wait_for_posts(1).await;
    assert!(begun.elapsed() >= delay);
    let found = read(bed.looking("ada", "k1")).await.unwrap();
    assert_eq!(found.json["posts"][0]["text"], "late");
}

#[tokio::test]
async fn an_idempotent_late_effect_that_was_repeated_meanwhile_is_one_post() {
    let bed = Bed::new().await;
    bed.network.set_fault(SetFault::new(FaultKind::LateEffect).times(1)).unwrap();
    read(bed.publishing(Endpoint::Idempotent, "ada", "k1", "once")).await.unwrap_err();
    assert_eq!(bed.publish(Endpoint::Idempotent, "ada", "k1", "once").await.status, 201);
    // A stop carries out what is late.
    let posts = bed.network.posts();
    bed.network.stop().await;
    assert_eq!(*posts.borrow(), 1);
}

#[tokio::test]
async fn a_fault_hits_its_account_its_endpoint_and_its_number_of_requests() {
    let bed = Bed::new().await;
    let fault = SetFault::new(FaultKind::Fail).account("ada").endpoint(FaultTarget::Blind).times(2);
    let set = bed.network.set_fault(fault).unwrap();
    assert_eq!((set.account.as_deref(), set.remaining, set.hits), (Some("ada"), Some(2), 0));
    let mut statuses = Vec::new();
    for (by, handle) in [
        (Endpoint::Blind, "ben"),
        (Endpoint::Idempotent, "ada"),
        (Endpoint::Verifiable, "ada"),
        (Endpoint::Blind, "ada"),
        (Endpoint::Blind, "ada"),
        (Endpoint::Blind, "ada"),
    ] {
        statuses.push(bed.publish(by, handle, "k1", "hello").await.status);
    }
    assert_eq!(statuses, [201, 201, 201, 500, 500, 201]);
    let set = bed.network.faults().remove(0);
    assert_eq!((set.remaining, set.hits, *bed.network.hits().borrow()), (Some(0), 2, 2));
}

#[tokio::test]
async fn the_fault_that_was_set_first_hits_first_and_one_without_a_number_until_it_is_deleted() {
    let bed = Bed::new().await;
    bed.network.set_fault(SetFault::new(FaultKind::Refuse).times(1)).unwrap();
    let forever = bed.network.set_fault(SetFault::new(FaultKind::Fail)).unwrap();
    let mut statuses = Vec::new();
    for key in ["a", "b", "c"] {
        statuses.push(bed.publish(Endpoint::Idempotent, "ada", key, "hello").await.status);
    }
    assert_eq!(statuses, [422, 500, 500]);
    let path = format!("/api/faults/{}", forever.id);
    assert_eq!(read(bed.request(Method::DELETE, &path)).await.unwrap().status, 204);
    assert_eq!(bed.publish(Endpoint::Idempotent, "ada", "d", "hello").await.status, 201);
    let gone = read(bed.request(Method::DELETE, &path)).await.unwrap();
    assert_eq!((gone.status, gone.error().0), (404, "not_found"));
}

#[tokio::test]
async fn faults_are_set_listed_and_deleted_over_http() {
    let bed = Bed::new().await;
    let me = read(bed.request(Method::GET, "/api/me").bearer_auth("token-of-ada")).await.unwrap();
    // By the account's id, too.
    let wanted = json!({ "account": me.json["id"], "endpoint": "lookup", "kind": "late", "delayMs": 5 });
    let set = read(bed.request(Method::POST, "/api/faults").json(&wanted)).await.unwrap();
    let fault = json!({ "id": 1, "account": "ada", "endpoint": "lookup", "kind": "late",
                        "remaining": null, "delayMs": 5, "hits": 0 });
    assert_eq!((set.status, &set.json), (201, &fault));
    assert_eq!(read(bed.looking("ada", "k1")).await.unwrap().status, 200);
    let listed = bed.get("/api/faults").await.json;
    assert_eq!((&listed["faults"][0]["hits"], &listed["hits"]), (&json!(1), &json!(1)));
    assert_eq!(read(bed.request(Method::DELETE, "/api/faults")).await.unwrap().status, 204);
    let listed = bed.get("/api/faults").await.json;
    assert_eq!(listed, json!({ "faults": [], "hits": 1 }), "hits are never forgotten");
}

#[tokio::test]
async fn a_request_that_is_not_served_does_not_use_a_fault_up() {
    let bed = Bed::new().await;
    bed.network.set_fault(SetFault::new(FaultKind::LoseReply).times(1)).unwrap();
    let stranger = bed.publishing(Endpoint::Blind, "nobody", "k1", "hello");
    assert_eq!(read(stranger).await.unwrap().status, 401);
    assert_eq!(bed.publish(Endpoint::Blind, "ada", "k1", " ").await.status, 422);
    assert_eq!(bed.network.faults()[0].remaining, Some(1));
    assert_eq!(*bed.network.hits().borrow(), 0);
}

#[tokio::test]
async fn a_stop_ends_what_hangs_and_frees_the_port() {
    let bed = Bed::new().await;
    bed.network.set_fault(SetFault::new(FaultKind::Hang)).unwrap();
    let request = sent(bed.publishing(Endpoint::Blind, "ada", "k1", "hello"));
    bed.network.wait_for_hits(1).await;
    let address = bed.network.url().strip_prefix("http://").unwrap().to_owned();
    bed.network.stop().await;
    assert!(request.await.unwrap().is_err());
    tokio::net::TcpListener::bind(&address).await.unwrap();
}
