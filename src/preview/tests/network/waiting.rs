//! The column of what waits elsewhere: everything of a post is shown, as text,
//! and a source that does not answer takes nothing else away.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use galley_preview::{Endpoint, PreviewOptions, WaitingPost, WaitingSource};

use crate::bed::{Bed, options};

/// Says what it was told to say; `None`: never anything.
struct Source(Mutex<Option<Vec<WaitingPost>>>);

#[async_trait]
impl WaitingSource for Source {
    async fn waiting(&self) -> Vec<WaitingPost> {
        let told = self.0.lock().unwrap().clone();
        match told {
            Some(posts) => posts,
            None => std::future::pending().await,
        }
    }
}

async fn bed(posts: Option<Vec<WaitingPost>>) -> (Bed, Arc<Source>) {
    let source = Arc::new(Source(Mutex::new(posts)));
    let bed = Bed::with(PreviewOptions { galley: Some(Arc::clone(&source) as _), ..options() }).await;
    (bed, source)
}

fn post(account: &str, state: &str, slot: Option<&str>) -> WaitingPost {
    WaitingPost {
        account: account.into(),
        text: "Ships on Friday.".into(),
        state: state.into(),
        slot: slot.map(str::to_owned),
        reason: "every post needs an approval here".into(),
        command: Some("galley approval approve 0199aa10".into()),
    }
}

#[tokio::test]
async fn a_waiting_post_shows_account_text_state_slot_reason_and_command() {
    let zone = jiff::tz::TimeZone::system();
    let slot: jiff::Timestamp = "2999-06-03T12:30:00Z".parse().unwrap();
    let local = slot.to_zoned(zone).strftime("%a %-d %b %Y, %H:%M").to_string();
    let (bed, _) = bed(Some(vec![post("ada", "waiting_approval", Some(&slot.to_string()))])).await;
    for path in ["/", "/fragment?", "/a/ben"] {
        let page = bed.page(path).await;
        for part in [
            "Ada Lovelace",
            "Ships on Friday.",
            ">waiting approval<",
            &local,
            "every post needs an approval here",
            "<code>galley approval approve 0199aa10</code>",
            r#"data-copy="galley approval approve 0199aa10""#,
        ] {
            assert!(page.contains(part), "{path}: no {part} in {page}");
        }
    }
}

#[tokio::test]
async fn what_is_missing_is_said_and_what_needs_a_person_stands_out() {
    let mut posts = vec![
        post("stranger", "in_doubt", None),
        post("ada", "waiting_approval", Some("whenever")),
        post("ada", "scheduled", None),
    ];
    posts[2].reason = String::new();
    posts[2].command = None;
    let (bed, source) = bed(Some(posts)).await;
    let page = bed.page("/").await;
    assert!(page.contains("no slot yet") && page.contains("whenever"), "{page}");
    // An account that the network does not know is shown by its handle.
    assert!(page.contains(">stranger<"), "{page}");
    for shown in [r#"state alarm">in doubt"#, r#"state ask">waiting approval"#, r#"state calm">scheduled"#] {
        assert!(page.contains(shown), "no {shown} in {page}");
    }
    assert!(page.contains(r#"<span class="count">3</span>"#), "{page}");
    *source.0.lock().unwrap() = Some(Vec::new());
    assert!(bed.page("/").await.contains("Nothing is waiting"));
    // More than fit are counted.
    *source.0.lock().unwrap() = Some((0..30).map(|_| post("ada", "scheduled", None)).collect());
    let page = bed.page("/").await;
    assert_eq!(page.matches(r#"class="slip""#).count(), 25);
    assert!(page.contains("and 5 more"), "{page}");
}

#[tokio::test]
async fn hostile_text_of_a_waiting_post_stays_text() {
    let evil = r#""><script>alert(1)</script>"#;
    let slip = WaitingPost {
        account: evil.into(),
        text: evil.into(),
        state: evil.into(),
        slot: Some(evil.into()),
        reason: evil.into(),
        command: Some(evil.into()),
    };
    let (bed, _) = bed(Some(vec![slip])).await;
    let page = bed.page("/").await;
    assert_eq!(page.matches("<script>").count(), 1, "only the page's own: {page}");
    assert!(!page.contains("<script>alert"), "{page}");
    assert!(page.matches("&lt;script&gt;alert(1)").count() >= 6, "{page}");
}

#[tokio::test]
async fn a_source_that_does_not_answer_takes_nothing_else_away() {
    let (bed, _) = bed(None).await;
    bed.publish(Endpoint::Blind, "ada", "k1", "still shown").await;
    let page = bed.page("/").await;
    assert!(page.contains("still shown") && page.contains("did not say in time"), "{page}");
}
