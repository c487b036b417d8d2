//! Where a post may be sent, against a resolver of the test's own below the
//! real one: what is asked, what is dialled, and that nobody comes to a listener
//! on this machine.
//!
//! Public addresses here are of 3ffe::/16: global unicast by its bits, handed
//! back to IANA, and nobody's. Dialling one fails on every machine.

use std::collections::{BTreeSet, VecDeque};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use galley_core::publish::{Looked, PostContent, Sent};
use reqwest::Method;
use serde_json::json;

use crate::http::{Body, Failed, Http};
use crate::publisher::{Account, Outgoing, Publisher};
use crate::registry::Options;
use crate::{Preview, Webhook};
use galley_reach::{check_host, is_public};
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

const NOBODYS: &str = "3ffe::1";

/// Addresses that are not the internet's, however they are dressed up.
const PRIVATE: [&str; 24] = [
    "127.0.0.1",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "169.254.169.254",
    "168.63.129.16",
    "192.0.0.192",
    "224.0.0.251",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:100.64.0.1",
    "64:ff9b::a00:1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::1",
    "2002:a9fe:a9fe::1",
    "fd00:ec2::254",
    "fe80::1",
    "ff02::1",
];

/// Answers as it was told, the last answer for ever, and counts the questions.
struct Names {
    answers: Mutex<VecDeque<Vec<SocketAddr>>>,
    asked: Mutex<usize>,
}

impl Names {
    fn that(answers: &[&[&str]]) -> Arc<Self> {
        let names = Arc::new(Self { answers: Mutex::default(), asked: Mutex::default() });
        names.say(answers);
        names
    }

    /// Forgets what it was told and asked.
    fn say(&self, answers: &[&[&str]]) {
        let at = |text: &&str| SocketAddr::new(text.parse().unwrap(), 0);
        *self.answers.lock().unwrap() =
            answers.iter().map(|answer| answer.iter().map(at).collect()).collect();
        *self.asked.lock().unwrap() = 0;
    }

    fn asked(&self) -> usize {
        *self.asked.lock().unwrap()
    }
}

impl Resolve for Names {
    fn resolve(&self, _: Name) -> Resolving {
        *self.asked.lock().unwrap() += 1;
        let mut answers = self.answers.lock().unwrap();
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        Box::pin(async move { Ok(Box::new(answer.unwrap_or_default().into_iter()) as Addrs) })
    }
}

/// Something on this machine that must not be reached, on both its loopbacks
/// and one port.
struct Inner(Vec<TcpListener>);

impl Inner {
    fn listen() -> Self {
        let v4 = TcpListener::bind("127.0.0.1:0").unwrap();
        // A machine without IPv6 has nothing to reach there.
        let v6 = TcpListener::bind(("::1", v4.local_addr().unwrap().port()));
        let listeners: Vec<_> = [Some(v4), v6.ok()].into_iter().flatten().collect();
        for listener in &listeners {
            listener.set_nonblocking(true).unwrap();
        }
        Self(listeners)
    }

    fn url(&self, scheme: &str, host: &str) -> Url {
        let port = self.0[0].local_addr().unwrap().port();
        Url::parse(&format!("{scheme}://{host}:{port}/hook")).unwrap()
    }

    /// How many came. A connection is in the listener's queue before whoever
    /// made it is told, so nobody is on the way when a call has ended.
    fn visitors(&self) -> usize {
        self.0.iter().map(|listener| std::iter::from_fn(|| listener.accept().ok()).count()).sum()
    }
}

fn options(allow_private_targets: bool) -> Options {
    // Where packets to nobody vanish, a connection ends by this.
    Options { allow_private_targets, timeout: Duration::from_millis(300) }
}

fn http(names: &Arc<Names>) -> Http {
    Http::over(options(false), names.clone()).unwrap()
}

async fn call(http: &Http, url: Url) -> Result<crate::http::Answer, Failed> {
    http.call(http.request(Method::POST, url).build().unwrap()).await
}

#[test]
fn only_the_internet_at_large_is_public() {
    for text in PRIVATE {
        assert!(!is_public(text.parse().unwrap()), "{text}");
    }
    for (text, expected) in [
        ("8.8.8.8", true),
        ("1.1.1.1", true),
        ("9.255.255.255", true),
        ("11.0.0.0", true),
        ("100.63.255.255", true),
        ("100.128.0.0", true),
        ("172.15.255.255", true),
        ("172.32.0.0", true),
        ("223.255.255.255", true),
        ("0.1.2.3", false),
        ("100.100.100.200", false),
        ("100.127.255.255", false),
        ("127.255.255.254", false),
        ("172.31.255.255", false),
        ("198.19.0.1", false),
        ("239.255.255.255", false),
        ("2606:4700:4700::1111", true),
        (NOBODYS, true),
        ("::ffff:8.8.8.8", true),
        ("64:ff9b::808:808", true),
        ("64:ff9b:1::808:808", false),
        ("2002:808:808::1", true),
        ("2001:0:1::", false),
        ("2001:db8::1", false),
        ("3fff::1", false),
        ("fc00::1", false),
        ("fec0::1", false),
    ] {
        assert_eq!(is_public(text.parse().unwrap()), expected, "{text}");
    }
}

fn outgoing() -> Outgoing {
    Outgoing {
        key: "0f1e2d3c4b5a69788796a5b4c3d2e1f0".into(),
        payload: PostContent { text: "text".into(), link: None },
        intended_at: "2026-11-24T12:00:00Z".into(),
        post: "019ab3c4-0000-7000-8000-000000000001".into(),
        workspace: "019ab3c4-0000-7000-8000-000000000002".into(),
    }
}

/// Every adapter over a client, with an account whose posts go to a URL.
fn adapters(http: &Http, url: &Url) -> [(Box<dyn Publisher>, Account); 2] {
    let account =
        |settings, credential: &str| Account { name: "main".into(), settings, credential: credential.into() };
    [
        (
            Box::new(Webhook::through(http.clone())),
            account(json!({ "url": url.as_str() }), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        ),
        (
            Box::new(Preview::through(http.clone())),
            account(json!({ "url": url.as_str(), "endpoint": "verifiable" }), "token"),
        ),
    ]
}

/// Every spelling: the URL parser turns decimal, octal, hexadecimal and short
/// ones into the usual one, and the rest is ours.
#[tokio::test]
async fn no_spelling_of_a_private_address_passes() {
    let inner = Inner::listen();
    let names = Names::that(&[&[NOBODYS]]);
    let client = http(&names);
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "017700000001",
        "127.0.0.1.",
        "%31%32%37.0.0.1",
        "①②⑦.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.0.1",
        "0xa9fea9fe",
        "2852039166",
        "169.254.169.254",
        "0.0.0.0",
        "0",
        "100.64.0.1",
        "224.0.0.1",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:a9fe:a9fe]",
        "[fd00:ec2::254]",
        "[fc00::1]",
        "[fe80::1]",
        "[ff02::1]",
        "[64:ff9b::10.0.0.1]",
        "[2002:7f00:1::1]",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "any.localhost",
        "printer.local",
        "metadata.google.internal",
    ] {
        let url = inner.url("https", host);
        let why = check_host(&url).unwrap_err();
        assert!(why.contains("publishing.allow_private_targets"), "{host}: {why}");
        let failed = call(&client, url.clone()).await.unwrap_err();
        assert!(matches!(failed, Failed::Unsendable(_)), "{host}: {failed:?}");
        for (adapter, account) in adapters(&client, &url) {
            let problems = adapter.check_account(&account.settings, &account.credential).unwrap_err();
            assert_eq!(problems.len(), 1, "{host}: {problems:?}");
            assert_eq!((problems[0].at.as_str(), &problems[0].problem), ("settings.url", &why), "{host}");
            let sent = adapter.publish(&account, &outgoing()).await;
            assert!(matches!(sent, Sent::Refused(_)), "{host}: {sent:?}");
            assert!(matches!(adapter.look(&account, &outgoing()).await, Looked::Unknown(_)));
            assert!(adapter.test(&account).await.unwrap_err().contains(&why));
        }
    }
    assert_eq!((names.asked(), inner.visitors()), (0, 0), "nobody was asked, and nobody came");

    for host in
        ["example.com", "8.8.8.8", "134744072", "[2606:4700:4700::1111]", "notlocalhost", "local.example.com"]
    {
        assert_eq!(check_host(&inner.url("https", host)), Ok(()), "{host}");
        for (adapter, account) in adapters(&client, &inner.url("https", host)) {
            assert_eq!(adapter.check_account(&account.settings, &account.credential), Ok(()), "{host}");
        }
        for (adapter, account) in adapters(&client, &inner.url("http", host)) {
            let problems = adapter.check_account(&account.settings, &account.credential).unwrap_err();
            assert!(problems[0].problem.starts_with("must begin with https://"), "{problems:?}");
        }
    }
}

/// Past every look at the text: what a name means is found out last.
#[tokio::test]
async fn a_name_that_resolves_to_a_private_address_is_not_called() {
    let inner = Inner::listen();
    let names = Names::that(&[]);
    let client = http(&names);
    for private in PRIVATE {
        names.say(&[&[private]]);
        let failed = call(&client, inner.url("https", "hook.example")).await.unwrap_err();
        assert!(
            matches!(&failed, Failed::Unsendable(why) if why.starts_with("hook.example is not an address")),
            "{private}: {failed:?}"
        );
        assert_eq!(names.asked(), 1, "{private}");
    }
    names.say(&[&PRIVATE]);
    for (adapter, account) in adapters(&client, &inner.url("https", "hook.example")) {
        assert_eq!(adapter.check_account(&account.settings, &account.credential), Ok(()), "asks nobody");
        let sent = adapter.publish(&account, &outgoing()).await;
        assert!(matches!(&sent, Sent::Refused(why) if why.contains("hook.example")), "{sent:?}");
        assert!(adapter.test(&account).await.unwrap_err().contains("hook.example"));
    }
    assert_eq!(inner.visitors(), 0, "nobody came");

    // The listener would have been found: where it is allowed, it is.
    let names = Names::that(&[&["127.0.0.1"]]);
    let trusting = Http::over(options(true), names).unwrap();
    call(&trusting, inner.url("http", "hook.example")).await.unwrap_err();
    assert_eq!(inner.visitors(), 1);
}

/// [`NOBODYS`] and a port, as the kernel's table of connections has it.
fn in_the_table(port: u16) -> String {
    format!("0000FE3F000000000000000001000000:{port:04X}")
}

/// Makes a call that finds nobody, and looks whom it dialled: the kernel's
/// table has whoever was called and is silent, the error whoever cannot be
/// called from here.
async fn dials_nobody_else(http: &Http, url: Url) {
    let port = url.port().unwrap();
    let call = http.request(Method::POST, url).send();
    tokio::pin!(call);
    let mut dialled = BTreeSet::new();
    let error = loop {
        tokio::select! {
            answer = &mut call => break answer.unwrap_err(),
            () = tokio::time::sleep(Duration::from_millis(10)) => {}
        }
        for table in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
            let table = std::fs::read_to_string(table).unwrap_or_default();
            let remote = table.lines().filter_map(|line| line.split_whitespace().nth(2));
            dialled.extend(remote.filter(|at| at.ends_with(&format!(":{port:04X}"))).map(str::to_owned));
        }
    };
    assert!(error.is_connect(), "{error:?}");
    if dialled.is_empty() {
        assert!(format!("{error:?}").contains("[3ffe::1]:"), "{error:?}");
    } else {
        assert_eq!(dialled, BTreeSet::from([in_the_table(port)]), "{error:?}");
    }
}

#[tokio::test]
async fn of_a_mixed_answer_only_the_public_addresses_are_dialled() {
    let inner = Inner::listen();
    let names = Names::that(&[]);
    let client = http(&names);
    for answer in [
        ["127.0.0.1", NOBODYS, "::1"],
        [NOBODYS, "::ffff:127.0.0.1", "127.0.0.1"],
        ["::1", "64:ff9b::7f00:1", NOBODYS],
    ] {
        names.say(&[&answer]);
        dials_nobody_else(&client, inner.url("https", "mixed.example")).await;
        assert_eq!(names.asked(), 1);
    }
    assert_eq!(inner.visitors(), 0, "nobody came");
}

/// A name whose answer changes between a check and a connection: there is no
/// such moment. The address that is dialled is the one that was checked.
#[tokio::test]
async fn a_name_that_changes_its_answer_gains_nothing() {
    let inner = Inner::listen();
    let url = || inner.url("https", "rebind.example");
    let names = Names::that(&[&[NOBODYS], &["127.0.0.1"]]);
    let client = http(&names);
    dials_nobody_else(&client, url()).await;
    assert_eq!(names.asked(), 1, "the checked address was dialled, and nobody was asked again");
    let failed = call(&client, url()).await.unwrap_err();
    assert!(matches!(failed, Failed::Unsendable(_)), "the next call is checked anew: {failed:?}");
    assert_eq!((names.asked(), inner.visitors()), (2, 0), "nobody came");

    for (adapter, account) in adapters(&client, &url()) {
        names.say(&[&[NOBODYS], &["127.0.0.1"]]);
        let sent = adapter.publish(&account, &outgoing()).await;
        assert!(matches!(sent, Sent::NotSent { .. }), "{sent:?}");
        assert_eq!(names.asked(), 1, "{adapter:?}");
    }
    assert_eq!(inner.visitors(), 0, "nobody came");
}

/// Answers one request with this text.
fn answering(listener: &TcpListener, text: String) -> std::thread::JoinHandle<()> {
    let listener = listener.try_clone().unwrap();
    listener.set_nonblocking(false).unwrap();
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let _ = socket.read(&mut [0; 4096]);
        // A client that has had enough hangs up.
        let _ = socket.write_all(text.as_bytes());
    })
}

/// These need an answer, so the deployment of this test allows its own machine.
#[tokio::test]
async fn redirects_are_not_followed_and_answers_are_capped() {
    let (inner, outer) = (Inner::listen(), TcpListener::bind("127.0.0.1:0").unwrap());
    let names = Names::that(&[&["127.0.0.1"]]);
    let http = Http::over(Options { allow_private_targets: true, ..Options::default() }, names).unwrap();
    let url = || Url::parse(&format!("http://hook.example:{}/", outer.local_addr().unwrap().port())).unwrap();
    for status in [301, 302, 303, 307, 308] {
        let location = inner.url("http", "127.0.0.1");
        let head = format!("HTTP/1.1 {status} Said\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
        let served = answering(&outer, head);
        assert_eq!(call(&http, url()).await.unwrap().status, status);
        served.join().unwrap();
    }
    assert_eq!(inner.visitors(), 0, "nobody came");

    let large = " ".repeat(4 * crate::http::LARGEST_BODY);
    let served = answering(&outer, format!("HTTP/1.1 200 Said\r\n\r\n{large}"));
    let answer = call(&http, url()).await.unwrap();
    assert!(matches!(&answer.body, Body::Cut(why) if why.contains("more than")), "{:?}", answer.body);
    served.join().unwrap();
}
