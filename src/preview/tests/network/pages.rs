//! The pages: everything published once, in order, whatever it says.

use base64::{Engine, prelude::BASE64_STANDARD};
use galley_preview::{Endpoint, FaultKind, SetFault};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::bed::{Bed, options, read, seed};

/// The ids of the cards on a page, from its top.
fn cards(page: &str) -> Vec<&str> {
    page.split(r#"<article class="card" id=""#).skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
}

#[tokio::test]
async fn the_timeline_shows_each_post_once_the_newest_first() {
    let bed = Bed::new().await;
    assert!(bed.page("/").await.contains("All quiet so far"));
    let mut ids = Vec::new();
    for (n, by) in Endpoint::ALL.into_iter().enumerate() {
        let handle = if n == 1 { "ben" } else { "ada" };
        ids.insert(0, bed.publish(by, handle, &format!("k{n}"), &format!("post {n}")).await.id());
    }
    // The same key again: still one card.
    bed.publish(Endpoint::Idempotent, "ada", "k0", "post 0").await;
    for path in ["/", "/fragment?"] {
        let page = bed.page(path).await;
        assert_eq!(cards(&page), ids, "{path}");
        for n in 0..3 {
            assert_eq!(page.matches(&format!("post {n}<")).count(), 1, "{path}");
        }
        for badge in ["idempotent", "verifiable", "blind"] {
            assert!(page.contains(&format!(r#"class="badge {badge}""#)), "{path}: {badge}");
        }
        assert!(page.contains("no duplicates") && page.contains("3 posts"), "{path}");
    }
    let (of_ada, of_ben) = (bed.page("/a/ada").await, bed.page("/a/ben").await);
    assert_eq!((cards(&of_ada), cards(&of_ben)), (vec![&*ids[0], &*ids[2]], vec![&*ids[1]]));
    let alone = bed.page(&format!("/p/{}", ids[1])).await;
    assert!(alone.contains("post 1") && !alone.contains("post 0"), "{alone}");
    assert!(alone.contains("<title>A post by Ben · Preview network</title>"), "{alone}");
}

#[tokio::test]
async fn older_posts_are_on_the_next_page_without_a_gap_or_a_repetition() {
    let bed = Bed::new().await;
    for n in 0..45 {
        bed.publish(
            Endpoint::Blind,
            if n % 9 == 0 { "ben" } else { "ada" },
            &format!("k{n}"),
            &format!("post {n}"),
        )
        .await;
    }
    for (start, expected) in [("/", 45), ("/a/ada", 40), ("/a/ben", 5)] {
        let (mut path, mut seen) = (start.to_owned(), Vec::new());
        loop {
            let page = bed.page(&path).await;
            let on_page: Vec<String> = cards(&page).into_iter().map(str::to_owned).collect();
            assert!(on_page.len() <= 40, "{path}");
            seen.extend(on_page);
            let Some(rest) = page.split(r#"<a class="pager" id="older" href=""#).nth(1) else { break };
            path = rest.split('"').next().unwrap().to_owned();
        }
        assert_eq!(seen.len(), expected, "{start}");
        let mut once = seen.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), expected, "{start}: a post is there twice");
    }
}

#[tokio::test]
async fn hostile_text_stays_text_on_every_page() {
    let evil =
        "<script>alert(1)</script> <img src=x onerror=alert(1)> \"' https://a.example/\"onmouseover=\"x &lt;";
    let mut accounts = options();
    accounts.accounts = vec![seed("ada", "<b>Ada</b>\"'><script>")];
    let bed = Bed::with(accounts).await;
    let draft = json!({ "text": evil, "link": "https://a.example/?q=<script>" });
    let refused = read(bed.publishing(Endpoint::Blind, "ada", "k1", "").json(&draft)).await.unwrap();
    assert_eq!((refused.status, refused.error().0), (422, "invalid"), "what is no URL is no link");
    let draft = json!({ "text": evil, "link": "https://a.example/?q=%3Cscript%3E&\u{22}x" });
    let odd = read(bed.publishing(Endpoint::Blind, "ada", "k1", "").json(&draft)).await.unwrap();
    assert_eq!(odd.status, 422, "{odd:?}");
    let draft = json!({ "text": evil, "link": "https://a.example/?q='%3Cscript%3E'&x" });
    let id = read(bed.publishing(Endpoint::Blind, "ada", "k1", "").json(&draft)).await.unwrap().id();
    bed.network.set_fault(SetFault::new(FaultKind::Fail).account("ada")).unwrap();
    for path in ["/".to_owned(), "/fragment?".into(), "/a/ada".into(), format!("/p/{id}")] {
        let page = bed.page(&path).await;
        let own = usize::from(path != "/fragment?");
        assert_eq!(page.matches("<script").count(), own, "{path}: {page}");
        assert!(!page.contains("<img") && !page.contains("<b>"), "{path}: {page}");
        assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{path}: {page}");
        // What was escaped already is not taken for that.
        assert!(page.contains("&amp;lt;"), "{path}: {page}");
        for tag in page.split('<').filter(|tag| tag.starts_with("a ")) {
            let tag = tag.split('>').next().unwrap();
            assert!(!tag.contains(" onmouseover="), "{path}: {tag}");
            let href = tag.split("href=\"").nth(1).unwrap();
            assert!(href.starts_with('/') || href.starts_with("http"), "{path}: {tag}");
        }
    }
    // The ledger keeps the bytes as they came.
    assert_eq!(bed.texts(), [evil]);
}

#[tokio::test]
async fn a_browser_may_run_and_load_nothing_but_what_is_compiled_in() {
    let bed = Bed::new().await;
    for path in ["/", "/nowhere", "/api/ledger", "/favicon.svg"] {
        let answer = bed.get(path).await;
        let header = |name: &str| answer.headers[name].to_str().unwrap().to_owned();
        let policy = header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(
            (header("cache-control"), header("referrer-policy")),
            ("no-store".into(), "no-referrer".into())
        );
        // The one script and the one style of the page are those it names.
        if answer.text.contains("<html") {
            for (tag, directive) in [("script", "script-src"), ("style", "style-src")] {
                let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
                let inside = answer.text.split(&open).nth(1).unwrap().split(&close).next().unwrap();
                let hash = BASE64_STANDARD.encode(Sha256::digest(inside));
                assert!(policy.contains(&format!("{directive} 'sha256-{hash}'")), "{path}: {tag}");
            }
        }
    }
    assert_eq!(bed.get("/favicon.svg").await.headers["content-type"], "image/svg+xml");
}

#[tokio::test]
async fn faults_that_are_set_are_shown_until_they_are_used_up() {
    let bed = Bed::new().await;
    assert!(!bed.page("/").await.contains("Faults set"));
    bed.network.set_fault(SetFault::new(FaultKind::Refuse).account("ada").times(1)).unwrap();
    let page = bed.page("/").await;
    assert!(page.contains("Faults set") && page.contains("any endpoint · @ada · 1 left · hit 0×"), "{page}");
    bed.publish(Endpoint::Blind, "ada", "k1", "refused").await;
    assert!(!bed.page("/").await.contains("Faults set"));
}
