//! The adapter of the preview network: the suite on each of its endpoints, and
//! what it alone does.

use std::sync::Arc;

use galley_core::publish::{Capability, Looked, PostContent, Receipt, SEND_TIMEOUT};
use galley_publishers::{Account, Options, Preview, Publisher};
use serde_json::{Value, json};

use crate::faults::{Act, Platform, Reply, Seen};
use crate::suite::{Case, Class, options, outgoing};

fn account(url: &str, endpoint: &str) -> Account {
    Account {
        name: "main".into(),
        settings: json!({ "url": url, "endpoint": endpoint }),
        credential: "pv_token-of-the-tests".to_owned().into(),
    }
}

fn adapter(options: Options) -> Arc<dyn Publisher> {
    Arc::new(Preview::new(options).unwrap())
}

fn case(account: fn(&str) -> Account, key: fn(&Seen) -> String) -> Case {
    Case {
        adapter,
        account,
        success: Reply::new(201, r#"{"id":"p_1","url":"http://127.0.0.1:8081/p/p_1"}"#),
        receipt: Receipt {
            remote_id: "p_1".into(),
            link: Some("http://127.0.0.1:8081/p/p_1".into()),
            cost_micros: None,
        },
        key,
        bare_success: Class::Unknown,
        error_in_200: Class::Refused,
    }
}

fn header(seen: &Seen, name: &str) -> String {
    seen.header(name).unwrap_or_else(|| panic!("no {name} in {seen:?}")).to_owned()
}

#[tokio::test]
async fn the_idempotent_endpoint_conforms() {
    case(|url| account(url, "idempotent"), |seen| seen.path.clone()).holds().await;
}

#[tokio::test]
async fn the_verifiable_endpoint_conforms() {
    case(|url| account(url, "verifiable"), |seen| header(seen, "x-client-key")).holds().await;
}

#[tokio::test]
async fn the_blind_endpoint_conforms() {
    case(|url| account(url, "blind"), |seen| header(seen, "x-trace-key")).holds().await;
}

#[tokio::test]
async fn an_endpoint_is_called_as_it_is_documented() {
    let out = outgoing();
    let idempotent = format!("/api/idempotent/posts/{}", out.key);
    for (endpoint, method, path) in [
        (json!("idempotent"), "PUT", idempotent.as_str()),
        (Value::Null, "PUT", &idempotent),
        (json!("verifiable"), "POST", "/api/verifiable/posts"),
        (json!("blind"), "POST", "/api/blind/posts"),
    ] {
        let platform = Platform::that([Act::Answer(Reply::new(500, ""))]).await;
        let mut account = account(&format!("{}/", platform.url()), "");
        account.settings["endpoint"] = endpoint.clone();
        if endpoint.is_null() {
            account.settings.as_object_mut().unwrap().remove("endpoint");
        }
        adapter(options(SEND_TIMEOUT)).publish(&account, &out).await;
        let seen = platform.seen().remove(0);
        assert_eq!((seen.method.as_str(), seen.path.as_str()), (method, path));
        assert_eq!(header(&seen, "authorization"), "Bearer pv_token-of-the-tests");
        assert_eq!(header(&seen, "content-type"), "application/json");
        let body: Value = serde_json::from_str(&seen.body).unwrap();
        assert_eq!(
            body,
            json!({
                "text": out.payload.text, "link": out.payload.link, "createdAt": "2026-11-24T12:00:00Z"
            })
        );
    }
}

#[tokio::test]
async fn a_key_cannot_leave_its_place_in_the_path() {
    let platform = Platform::that([Act::Answer(Reply::new(500, ""))]).await;
    let mut out = outgoing();
    out.key = "../../blind/posts?x=1#y".into();
    adapter(options(SEND_TIMEOUT)).publish(&account(&platform.url(), "idempotent"), &out).await;
    assert_eq!(platform.seen()[0].path, "/api/idempotent/posts/..%2F..%2Fblind%2Fposts%3Fx=1%23y");
}

#[tokio::test]
async fn looking_says_found_or_absent_only_of_a_list() {
    let ours = outgoing().key;
    let post = |key: &str| json!({ "id": "p_7", "url": "http://127.0.0.1:8081/p/p_7", "clientKey": key });
    let found = Looked::Found(Receipt {
        remote_id: "p_7".into(),
        link: Some("http://127.0.0.1:8081/p/p_7".into()),
        cost_micros: None,
    });
    for (body, expected) in [
        (json!({ "posts": [post(&ours)] }), Some(found.clone())),
        (json!([post(&ours)]), Some(found.clone())),
        (json!({ "posts": [post("another"), post(&ours)] }), Some(found)),
        (json!({ "posts": [] }), Some(Looked::Absent)),
        (json!([]), Some(Looked::Absent)),
        // A list of others does not say that ours is not on the next page.
        (json!({ "posts": [post("another")] }), None),
        (json!({ "posts": [{ "clientKey": ours }] }), None),
        (json!({ "posts": null }), None),
        (json!({ "error": "later" }), None),
        (json!("nothing"), None),
    ] {
        let looked = look(Act::Answer(Reply::new(200, body.to_string()))).await;
        match expected {
            Some(expected) => assert_eq!(looked, expected, "{body}"),
            None => assert!(matches!(looked, Looked::Unknown(_)), "{body}: {looked:?}"),
        }
    }
    for status in [204, 302, 401, 404, 429, 500] {
        let looked = look(Act::Answer(Reply::new(status, r#"{"posts":[]}"#))).await;
        assert!(matches!(looked, Looked::Unknown(_)), "{status}: {looked:?}");
    }
    for act in [Act::Close, Act::Reset, Act::BreakOff(200), Act::Flood(200), Act::Nonsense] {
        let looked = look(act.clone()).await;
        assert!(matches!(looked, Looked::Unknown(_)), "{act:?}: {looked:?}");
    }
}

async fn look(act: Act) -> Looked {
    let platform = Platform::that([act]).await;
    let account = account(&platform.url(), "verifiable");
    let looked = adapter(options(SEND_TIMEOUT)).look(&account, &outgoing()).await;
    if let Some(seen) = platform.seen().first() {
        assert_eq!(seen.method, "GET");
        assert_eq!(seen.path, format!("/api/verifiable/posts?clientKey={}", outgoing().key));
        assert_eq!(header(seen, "authorization"), "Bearer pv_token-of-the-tests");
    }
    looked
}

#[tokio::test]
async fn the_other_endpoints_cannot_be_asked() {
    let platform = Platform::that([]).await;
    for endpoint in ["idempotent", "blind"] {
        let account = account(&platform.url(), endpoint);
        let looked = adapter(options(SEND_TIMEOUT)).look(&account, &outgoing()).await;
        assert!(matches!(looked, Looked::Unknown(_)), "{looked:?}");
    }
    assert_eq!(platform.connections(), 0);
}

#[test]
fn what_it_can_tell_depends_on_the_endpoint() {
    let adapter = adapter(Options::default());
    let url = "http://127.0.0.1:8081";
    for (settings, expected) in [
        (json!({ "url": url }), Capability::Idempotent { window_s: 86_400 }),
        (json!({ "url": url, "endpoint": "idempotent" }), Capability::Idempotent { window_s: 86_400 }),
        (json!({ "url": url, "endpoint": "verifiable" }), Capability::Verifiable { settle_s: 5 }),
        (json!({ "url": url, "endpoint": "blind" }), Capability::Blind),
        // Of what it does not understand it promises nothing.
        (json!({ "url": url, "endpoint": "other" }), Capability::Blind),
        (json!(null), Capability::Blind),
    ] {
        assert_eq!(adapter.capability(&settings), expected, "{settings}");
    }
}

#[test]
fn problems_name_their_place() {
    let adapter = adapter(options(SEND_TIMEOUT));
    let places = |settings: Value, credential: &str| -> Vec<String> {
        let problems = adapter.check_account(&settings, &credential.into()).err().unwrap_or_default();
        problems.into_iter().map(|problem| problem.at).collect()
    };
    let url = "http://127.0.0.1:8081";
    assert_eq!(places(json!({ "url": url }), "token"), Vec::<String>::new());
    assert_eq!(places(json!({ "url": url, "endpoint": "x" }), "token"), ["settings.endpoint"]);
    assert_eq!(places(json!({ "url": url, "endpoint": 1 }), "token"), ["settings.endpoint"]);
    assert_eq!(places(json!({ "url": format!("{url}/?a=b") }), "token"), ["settings.url"]);
    assert_eq!(places(json!({ "endpoint": "x" }), " "), ["settings.url", "settings.endpoint", "credential"]);
    for credential in ["", " ", "token\n", " token", "to\rken", "tökén"] {
        assert_eq!(places(json!({ "url": url }), credential), ["credential"], "{credential:?}");
    }
}

#[test]
fn a_post_has_up_to_500_characters() {
    let adapter = adapter(Options::default());
    let check = |text: String| adapter.check_post(&json!({}), &PostContent { text, link: None });
    assert_eq!(check("ß".repeat(500)), Ok(()));
    assert!(check("ß".repeat(501)).unwrap_err().contains("501"));
}

#[tokio::test]
async fn a_test_tells_who_the_account_is() {
    let test = async |act: Act| {
        let platform = Platform::that([act]).await;
        let told = adapter(options(SEND_TIMEOUT)).test(&account(&platform.url(), "blind")).await;
        assert!(
            platform
                .seen()
                .iter()
                .all(|seen| (seen.method.as_str(), seen.path.as_str()) == ("GET", "/api/me"))
        );
        told
    };
    let me = test(Act::Answer(Reply::new(200, r#"{"handle":"northwind"}"#))).await.unwrap();
    assert!(me.contains("northwind"), "{me}");
    let unknown = test(Act::Answer(Reply::new(401, ""))).await.unwrap_err();
    assert!(unknown.contains("Renew"), "{unknown}");
    assert!(test(Act::Answer(Reply::new(404, ""))).await.is_err());
    assert!(test(Act::Close).await.is_err());
}
