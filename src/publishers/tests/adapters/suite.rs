//! The conformance suite: what [`Sent`] may say after each thing that can go
//! wrong. An adapter fails it when it calls a post unsent that may be out, when
//! it says more than it knows, or when it sends twice.

use std::sync::Arc;
use std::time::Duration;

use galley_core::publish::{PostContent, Receipt, SEND_TIMEOUT, Sent};
use galley_publishers::{Account, Options, Outgoing, Publisher};
use secrecy::ExposeSecret;
use tokio::net::TcpSocket;

use crate::faults::{Act, Platform, Reply, Seen};

/// One way to use one adapter.
pub(crate) struct Case {
    /// Makes the adapter.
    pub(crate) adapter: fn(Options) -> Arc<dyn Publisher>,
    /// An account on the platform at an address.
    pub(crate) account: fn(&str) -> Account,
    /// How the platform says that a post is out.
    pub(crate) success: Reply,
    /// The receipt of that.
    pub(crate) receipt: Receipt,
    /// Where a request carries the key.
    pub(crate) key: fn(&Seen) -> String,
    /// What a success means whose body cannot be used.
    pub(crate) bare_success: Class,
    /// What `200 {"error": …}` means.
    pub(crate) error_in_200: Class,
}

/// The kinds of [`Sent`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Class {
    Published,
    Refused,
    NotSent,
    Unknown,
}

pub(crate) fn class(sent: &Sent) -> Class {
    match sent {
        Sent::Published(_) => Class::Published,
        Sent::Refused(_) => Class::Refused,
        Sent::NotSent { .. } => Class::NotSent,
        Sent::Unknown(_) => Class::Unknown,
    }
}

pub(crate) fn outgoing() -> Outgoing {
    Outgoing {
        key: "0f1e2d3c4b5a69788796a5b4c3d2e1f0".into(),
        payload: PostContent {
            text: "Straße, \"quoted\"\nand 🚢".into(),
            link: Some("https://example.com/a?b=c".into()),
        },
        intended_at: "2026-11-24T12:00:00Z".into(),
        post: "019ab3c4-0000-7000-8000-000000000001".into(),
        workspace: "019ab3c4-0000-7000-8000-000000000002".into(),
    }
}

/// Options under which the platform of the tests may be called.
pub(crate) fn options(timeout: Duration) -> Options {
    Options { allow_private_targets: true, timeout }
}

/// A call that is given up after a second, for the faults that only time ends.
const HASTY: Duration = Duration::from_secs(1);

impl Case {
    /// Runs all of it.
    pub(crate) async fn holds(&self) {
        self.success_is_a_receipt_and_a_repetition_is_the_same_request().await;
        self.without_a_connection_nothing_was_sent().await;
        self.a_status_means_what_it_says().await;
        self.a_throttle_says_how_long().await;
        self.a_lost_answer_is_unknown_and_nothing_is_sent_twice().await;
        self.a_success_that_cannot_be_read().await;
        self.redirects_are_not_followed().await;
        self.the_credential_is_nowhere_but_in_the_request().await;
        self.an_account_that_cannot_be_used_sends_nothing().await;
    }

    /// Publishes once on a platform that does this; the platform must have
    /// seen at most one request, on one connection.
    async fn once(&self, act: Act, timeout: Duration) -> (Sent, Platform) {
        let platform = Platform::that([act.clone()]).await;
        let account = (self.account)(&platform.url());
        let sent = (self.adapter)(options(timeout)).publish(&account, &outgoing()).await;
        assert_eq!(platform.connections(), 1, "{act:?}: {sent:?}");
        assert!(platform.seen().len() <= 1, "{act:?}: {:?}", platform.seen());
        let secret = account.credential.expose_secret();
        assert!(!format!("{sent:?}").contains(secret), "{act:?} shows the credential: {sent:?}");
        (sent, platform)
    }

    async fn expect(&self, act: Act, expected: Class) -> Sent {
        let (sent, _) = self.once(act.clone(), SEND_TIMEOUT).await;
        assert_eq!(class(&sent), expected, "{act:?}: {sent:?}");
        sent
    }

    async fn success_is_a_receipt_and_a_repetition_is_the_same_request(&self) {
        // The second reply is lost on a connection that a client might have
        // kept from the first.
        let again = [Act::Answer(self.success.clone()), Act::Close, Act::Answer(self.success.clone())];
        let platform = Platform::that(again).await;
        let account = (self.account)(&platform.url());
        let adapter = (self.adapter)(options(SEND_TIMEOUT));
        let first = adapter.publish(&account, &outgoing()).await;
        assert_eq!(first, Sent::Published(self.receipt.clone()));
        let lost = adapter.publish(&account, &outgoing()).await;
        assert_eq!(class(&lost), Class::Unknown, "{lost:?}");
        assert_eq!(adapter.publish(&account, &outgoing()).await, first, "the same receipt for the same post");
        assert_eq!(platform.connections(), 3, "a connection is not used twice");
        let seen = platform.seen();
        let told =
            |seen: &Seen| (seen.method.clone(), seen.path.clone(), seen.body.clone(), (self.key)(seen));
        assert_eq!(seen.len(), 3);
        assert!((self.key)(&seen[0]).contains(&outgoing().key), "{seen:?}");
        assert!(seen.iter().all(|request| told(request) == told(&seen[0])), "{seen:?}");
    }

    async fn without_a_connection_nothing_was_sent(&self) {
        let adapter = (self.adapter)(options(SEND_TIMEOUT));
        // Bound, so that nobody else gets the port, but nobody listens.
        let closed = TcpSocket::new_v4().unwrap();
        closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let refused = format!("http://{}", closed.local_addr().unwrap());
        for url in [refused.as_str(), "http://no-such-host.invalid"] {
            let sent = adapter.publish(&(self.account)(url), &outgoing()).await;
            assert_eq!(class(&sent), Class::NotSent, "{url}: {sent:?}");
        }
        let platform = Platform::that([Act::NoTls]).await;
        let account = (self.account)(&platform.url().replace("http:", "https:"));
        let sent = adapter.publish(&account, &outgoing()).await;
        assert_eq!(class(&sent), Class::NotSent, "no TLS: {sent:?}");
        assert_eq!(platform.connections(), 1, "no TLS: nothing was tried again");
        // A connection that takes too long to make is given up while nothing
        // of the request has left.
        let platform = Platform::that([Act::Hang]).await;
        let account = (self.account)(&platform.url().replace("http:", "https:"));
        let sent = (self.adapter)(options(HASTY)).publish(&account, &outgoing()).await;
        assert_eq!(class(&sent), Class::NotSent, "no end of TLS: {sent:?}");
    }

    async fn a_status_means_what_it_says(&self) {
        for (statuses, expected) in [
            (&[400, 401, 403, 404, 410, 413, 422][..], Class::Refused),
            (&[408, 409, 423, 425], Class::Unknown),
            (&[500, 502, 503, 504, 599], Class::Unknown),
        ] {
            for status in statuses {
                let reply =
                    Reply::new(*status, r#"{"error":{"message":"so it is"}}"#).header("Retry-After", "7");
                let sent = self.expect(Act::Answer(reply), expected).await;
                let (Sent::Refused(why) | Sent::Unknown(why)) = &sent else { panic!("{sent:?}") };
                assert!(why.contains("so it is") && why.contains(&status.to_string()), "{why}");
                assert_eq!(why.contains("renew"), [401, 403].contains(status), "{why}");
            }
        }
        // The status stands without its body.
        for act in [Act::BreakOff(422), Act::Flood(422)] {
            self.expect(act, Class::Refused).await;
        }
        self.expect(Act::Flood(500), Class::Unknown).await;
    }

    async fn a_throttle_says_how_long(&self) {
        for (header, expected) in [
            (Some("7"), Some(7_000)),
            (Some("Tue, 24 Nov 2026 12:00:30 GMT"), Some(30_000)),
            (Some("soon"), None),
            (None, None),
        ] {
            let mut reply = Reply::new(429, "slower").header("Date", "Tue, 24 Nov 2026 12:00:00 GMT");
            if let Some(value) = header {
                reply = reply.header("Retry-After", value);
            }
            let sent = self.expect(Act::Answer(reply), Class::NotSent).await;
            let Sent::NotSent { retry_after_ms, .. } = sent else { panic!("{sent:?}") };
            assert_eq!(retry_after_ms, expected, "{header:?}");
        }
    }

    async fn a_lost_answer_is_unknown_and_nothing_is_sent_twice(&self) {
        for act in [Act::Close, Act::Reset, Act::CloseUnread, Act::Nonsense] {
            self.expect(act, Class::Unknown).await;
        }
        let (sent, platform) = self.once(Act::Hang, HASTY).await;
        assert_eq!(class(&sent), Class::Unknown, "{sent:?}");
        assert_eq!(platform.seen().len(), 1);
    }

    async fn a_success_that_cannot_be_read(&self) {
        for body in ["", "<html>welcome</html>", "[]", "{}", "null", r#"{"id":""}"#, r#"{"id":{}}"#] {
            self.expect(Act::Answer(Reply::new(200, body)), self.bare_success).await;
        }
        for act in [Act::BreakOff(200), Act::Flood(200)] {
            self.expect(act, self.bare_success).await;
        }
        let (sent, platform) = self.once(Act::Flood(200), SEND_TIMEOUT).await;
        assert_eq!(class(&sent), self.bare_success);
        let taken = platform.flooded().await;
        assert!(taken < 50_000_000, "the client read all of it");
        let (sent, _) = self.once(Act::HangInBody(200), HASTY).await;
        assert_eq!(class(&sent), self.bare_success, "{sent:?}");
        let error = r#"{"error":{"code":"spam","message":"not that"}}"#;
        self.expect(Act::Answer(Reply::new(200, error)), self.error_in_200).await;
    }

    async fn redirects_are_not_followed(&self) {
        let elsewhere = Platform::that([]).await;
        for (status, expected) in [
            (301, Class::Unknown),
            (302, Class::Unknown),
            (303, Class::Unknown),
            (307, Class::Refused),
            (308, Class::Refused),
        ] {
            let reply = Reply::new(status, "").header("Location", elsewhere.url());
            self.expect(Act::Answer(reply), expected).await;
        }
        assert_eq!(elsewhere.connections(), 0);
    }

    async fn the_credential_is_nowhere_but_in_the_request(&self) {
        let account = (self.account)("http://127.0.0.1:1");
        let secret = account.credential.expose_secret();
        assert!(!format!("{account:?} {account:#?}").contains(secret));
        assert!(!format!("{:?}", (self.adapter)(options(SEND_TIMEOUT))).contains(secret));
        for status in [200, 400, 401, 500] {
            // Some platforms echo what they were sent. `once` looks.
            let sent =
                self.once(Act::Answer(Reply::new(status, format!("bad: {secret}"))), SEND_TIMEOUT).await.0;
            if let Sent::Refused(why) = &sent {
                assert!(why.contains("bad: [credential]"), "{why}");
            }
        }
    }

    async fn an_account_that_cannot_be_used_sends_nothing(&self) {
        let platform = Platform::that([]).await;
        let adapter = (self.adapter)(options(SEND_TIMEOUT));
        let good = (self.account)(&platform.url());
        assert_eq!(adapter.check_account(&good.settings, &good.credential), Ok(()));
        assert_eq!(adapter.check_post(&good.settings, &outgoing().payload), Ok(()));

        let with = |at: &str, value: serde_json::Value| {
            let mut settings = good.settings.clone();
            settings[at] = value;
            settings
        };
        for (settings, place) in [
            (with("url", serde_json::Value::Null), "settings.url"),
            (with("url", 5.into()), "settings.url"),
            (with("url", "no url".into()), "settings.url"),
            (with("url", "ftp://example.com".into()), "settings.url"),
            (with("url", "https://me:pass@example.com".into()), "settings.url"),
            (with("url", "https://example.com/#part".into()), "settings.url"),
            (with("ulr", "https://example.com".into()), "settings.ulr"),
            ("https://example.com".into(), "settings"),
            (serde_json::json!({}), "settings.url"),
        ] {
            let problems = adapter.check_account(&settings, &good.credential).unwrap_err();
            let places: Vec<_> = problems.iter().map(|problem| problem.at.as_str()).collect();
            assert_eq!(places, [place], "{settings}");
            let account = Account { settings, ..good.clone() };
            let sent = adapter.publish(&account, &outgoing()).await;
            assert_eq!(class(&sent), Class::Refused, "{sent:?}");
            assert!(adapter.test(&account).await.unwrap_err().contains(place));
        }
        let problems = adapter.check_account(&good.settings, &"".into()).unwrap_err();
        assert_eq!(problems[0].at, "credential");

        let mut empty = outgoing();
        empty.payload.text = " \n".into();
        let mut linked = outgoing();
        linked.payload.link = Some("javascript:alert(1)".into());
        for out in [empty, linked] {
            assert!(adapter.check_post(&good.settings, &out.payload).is_err());
            assert_eq!(class(&adapter.publish(&good, &out).await), Class::Refused);
        }
        assert_eq!(platform.connections(), 0);
    }
}
