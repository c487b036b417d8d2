//! The frame of a page: head, style, script, and the policy that allows exactly
//! these.

use std::sync::LazyLock;

use axum::http::HeaderValue;
use base64::{Engine, prelude::BASE64_STANDARD};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use super::{Middle, Scene, View, feed, side};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");
/// The mark, as a file of its own for the browser's tab.
pub(super) const ICON: &str = include_str!("icon.svg");

static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = |text: &str| BASE64_STANDARD.encode(Sha256::digest(text.as_bytes()));
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; \
         img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(SCRIPT),
        hash(STYLE),
    );
    // Base64 always fits a header; if it did not, nothing at all may load.
    HeaderValue::try_from(policy).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"))
});

/// The Content-Security-Policy of every answer.
pub(crate) fn policy() -> HeaderValue {
    POLICY.clone()
}

/// The sign of the network.
pub(super) fn mark() -> Markup {
    PreEscaped(ICON.to_owned())
}

/// A whole page.
pub(super) fn page(scene: &Scene, view: &View) -> Markup {
    let title = match &scene.middle {
        Middle::Posts { of: Some(person), .. } => format!("{} (@{})", person.display_name, person.handle),
        Middle::Posts { of: None, .. } => "Timeline".to_owned(),
        Middle::Post(card) => format!("A post by {}", card.author.display_name),
    };
    frame(&title, scene.posts, Some(&source(view)), &parts(scene))
}

/// The parts that change while a page is looked at.
pub(super) fn parts(scene: &Scene) -> Markup {
    html! {
        main #feed { (feed::feed(scene)) }
        aside #side { (side::side(scene)) }
    }
}

/// The page for an address that leads nowhere.
pub(super) fn lost(posts: u64) -> Markup {
    let sorry = html! {
        main #feed {
            section.empty {
                div.glyph aria-hidden="true" { (mark()) }
                h2 { "There is nothing here" }
                p { "The post or account is not on this network, or the address has a typing error." }
                p { a href="/" { "Back to the timeline" } }
            }
        }
    };
    frame("Nothing here", posts, None, &sorry)
}

/// Where the script finds the parts of this page. Handles and ids need no
/// escaping in a query: their characters are letters, digits, `-`, `_`, `.`.
fn source(view: &View) -> String {
    let before = |before: &Option<u64>| before.map(|seq| format!("before={seq}")).unwrap_or_default();
    match view {
        View::Timeline { before: place } => format!("/fragment?{}", before(place)),
        View::Account { handle, before: place } => format!("/fragment?account={handle}&{}", before(place)),
        View::Post { id } => format!("/fragment?post={id}"),
    }
}

fn frame(title: &str, posts: u64, source: Option<&str>, content: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Preview network" }
                link rel="icon" href="/favicon.svg" type="image/svg+xml";
                style { (PreEscaped(STYLE)) }
            }
            body data-fragment=[source] {
                header.top {
                    div.bar {
                        a.brand href="/" {
                            (mark())
                            span {
                                strong { "Preview network" }
                                small { "What is published here stays on this computer" }
                            }
                        }
                        span.live title="This page keeps itself up to date" {
                            span.dot aria-hidden="true" {}
                            span.on { "Live" }
                            span.off { "No connection" }
                        }
                        span.sr { (feed::posts(posts)) }
                    }
                }
                div.columns { (content) }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    }
}
