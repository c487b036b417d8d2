//! The adapter of Standard Webhooks: the suite and the signature.

use std::sync::Arc;

use galley_core::publish::{Capability, PostContent, Receipt, SEND_TIMEOUT, Sent};
use galley_publishers::{Account, Options, Publisher, Webhook};
use serde_json::json;

use crate::faults::{Act, Platform, Reply};
use crate::suite::{Case, Class, options, outgoing};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn account(url: &str) -> Account {
    Account { name: "main".into(), settings: json!({ "url": url }), credential: SECRET.to_owned().into() }
}

fn adapter(options: Options) -> Arc<dyn Publisher> {
    Arc::new(Webhook::new(options).unwrap())
}

fn id() -> String {
    format!("msg_{}", outgoing().key)
}

#[tokio::test]
async fn webhooks_conform() {
    let case = |success, receipt| Case {
        adapter,
        account,
        success,
        receipt,
        key: |seen| seen.header("webhook-id").unwrap().to_owned(),
        // A 2xx is all that the specification asks of a receiver.
        bare_success: Class::Published,
        error_in_200: Class::Published,
    };
    let told = Reply::new(200, r#"{"id":17,"url":"https://example.com/17"}"#);
    let receipt =
        Receipt { remote_id: "17".into(), link: Some("https://example.com/17".into()), cost_micros: None };
    case(told, receipt).holds().await;
}

#[tokio::test]
async fn any_2xx_is_a_receipt_by_the_webhooks_own_id() {
    let bare = |link: Option<&str>| {
        Sent::Published(Receipt { remote_id: id(), link: link.map(str::to_owned), cost_micros: None })
    };
    for (status, body, expected) in [
        (204, "", bare(None)),
        (202, "accepted", bare(None)),
        (200, r#"{"url":"https://example.com/x"}"#, bare(Some("https://example.com/x"))),
        (200, r#"{"url":"javascript:alert(1)"}"#, bare(None)),
        (200, r#"{"id":"a\u0000b"}"#, bare(None)),
    ] {
        let platform = Platform::that([Act::Answer(Reply::new(status, body))]).await;
        let sent = adapter(options(SEND_TIMEOUT)).publish(&account(&platform.url()), &outgoing()).await;
        assert_eq!(sent, expected, "{status} {body}");
    }
    let platform = Platform::that([Act::Answer(Reply::new(410, ""))]).await;
    let sent = adapter(options(SEND_TIMEOUT)).publish(&account(&platform.url()), &outgoing()).await;
    assert!(matches!(&sent, Sent::Refused(why) if why.contains("gone")), "{sent:?}");
}

#[tokio::test]
async fn the_request_is_signed_and_numbered() {
    let out = outgoing();
    let platform = Platform::that([Act::Answer(Reply::new(204, ""))]).await;
    adapter(options(SEND_TIMEOUT)).publish(&account(&format!("{}/in?a=b", platform.url())), &out).await;
    let seen = platform.seen().remove(0);
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/in?a=b"));
    let header = |name| seen.header(name).unwrap();
    assert_eq!(header("webhook-id"), id());
    assert_eq!(header("content-type"), "application/json");
    assert_eq!(seen.header("authorization"), None);
    let signer = standardwebhooks::Webhook::new(SECRET).unwrap();
    let sent_at = header("webhook-timestamp").parse().unwrap();
    assert_eq!(header("webhook-signature"), signer.sign(&id(), sent_at, seen.body.as_bytes()).unwrap());
    assert_eq!(
        seen.body,
        "{\"type\":\"post.publish\",\"timestamp\":\"2026-11-24T12:00:00Z\",\"data\":{\
         \"id\":\"019ab3c4-0000-7000-8000-000000000001\",\"account\":\"main\",\
         \"text\":\"Straße, \\\"quoted\\\"\\nand 🚢\",\"link\":\"https://example.com/a?b=c\"}}",
        "byte for byte: a receiver may compare"
    );
}

#[test]
fn problems_name_their_place() {
    let adapter = adapter(Options::default());
    let settings = json!({ "url": "https://example.com/hook" });
    assert_eq!(adapter.check_account(&settings, &SECRET.into()), Ok(()));
    for secret in ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_c2hvcnQ=", "whsec_no base64"] {
        let problems = adapter.check_account(&settings, &secret.into()).unwrap_err();
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].at, "credential", "{secret}");
        assert!(secret.is_empty() || !problems[0].problem.contains(secret) || secret == "whsec_");
    }
    let both = adapter.check_account(&json!({ "allowPrivate": true }), &"".into()).unwrap_err();
    let places: Vec<_> = both.iter().map(|problem| problem.at.as_str()).collect();
    assert_eq!(places, ["settings.allowPrivate", "settings.url", "credential"]);
}

#[test]
fn a_post_fits_a_webhook() {
    let adapter = adapter(Options::default());
    let check = |text: String| adapter.check_post(&json!({}), &PostContent { text, link: None });
    assert_eq!(check("x".repeat(16 * 1024)), Ok(()));
    assert!(check("x".repeat(16 * 1024 + 1)).is_err());
    assert_eq!(adapter.capability(&json!({})), Capability::Idempotent { window_s: 86_400 });
}

#[tokio::test]
async fn a_test_sends_no_webhook() {
    let platform = Platform::that([Act::Answer(Reply::new(405, ""))]).await;
    let told = adapter(options(SEND_TIMEOUT)).test(&account(&platform.url())).await.unwrap();
    assert!(told.contains("127.0.0.1") && told.contains("405"), "{told}");
    let seen = platform.seen().remove(0);
    assert_eq!((seen.method.as_str(), seen.body.as_str()), ("HEAD", ""));
    assert_eq!(seen.header("webhook-signature"), None);
    let platform = Platform::that([Act::Close]).await;
    assert!(adapter(options(SEND_TIMEOUT)).test(&account(&platform.url())).await.is_err());
}
