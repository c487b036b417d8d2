//! The middle of the page: posts as cards, an account's head, one post alone.

use maud::{Markup, html};

use super::{Card, Middle, Person, Scene, avatar, rich, times};
use crate::posts::Endpoint;

/// The children of the feed. Each has an id: the script swaps only those that
/// changed.
pub(super) fn feed(scene: &Scene) -> Markup {
    match &scene.middle {
        Middle::Posts { of, cards, older, newest } => html! {
            @if let Some(person) = of { (head(person, scene)) }
            @if !newest {
                a #newer .pager href=(home(of.as_ref())) { "← Newest posts" }
            }
            @if cards.is_empty() { (empty(of.as_ref())) }
            @for each in cards { (card(each, scene)) }
            @if let Some(older) = older {
                a #older .pager href={ (home(of.as_ref())) "?before=" (older) } { "Older posts →" }
            }
        },
        Middle::Post(card) => alone(card, scene),
    }
}

fn home(of: Option<&Person>) -> String {
    of.map_or_else(|| "/".to_owned(), |person| format!("/a/{}", person.handle))
}

fn head(person: &Person, scene: &Scene) -> Markup {
    html! {
        section #head .head {
            (avatar(&person.handle, &person.display_name, "large"))
            div {
                h1 { (person.display_name) }
                p.handle { "@" (person.handle) }
                p.quiet {
                    (posts(person.posts)) " · since " (times::day(person.since, &scene.zone))
                }
            }
        }
    }
}

/// `1 post`, `12 posts`.
pub(super) fn posts(count: u64) -> String {
    if count == 1 { "1 post".to_owned() } else { format!("{count} posts") }
}

fn empty(of: Option<&Person>) -> Markup {
    html! {
        section #empty .empty {
            div.glyph aria-hidden="true" { (super::shell::mark()) }
            @match of {
                Some(person) => {
                    h2 { (person.display_name) " has not posted yet" }
                    p { "The first post shows up here by itself." }
                }
                None => {
                    h2 { "All quiet so far" }
                    p { "As soon as something is published, it shows up here by itself." }
                }
            }
        }
    }
}

fn card(card: &Card, scene: &Scene) -> Markup {
    let Card { post, author } = card;
    html! {
        article .card id=(post.id) {
            a.who href={ "/a/" (author.handle) } tabindex="-1" aria-hidden="true" {
                (avatar(&author.handle, &author.display_name, ""))
            }
            div.body {
                header {
                    a.name href={ "/a/" (author.handle) } { (author.display_name) }
                    span.handle { "@" (author.handle) }
                    a.when href={ "/p/" (post.id) } { (times::ago(post.at, scene.now, &scene.zone)) }
                }
                div.text { (rich::text(&post.text)) }
                @if let Some(link) = &post.link { (rich::link_card(link)) }
                footer {
                    (badge(post.endpoint))
                    a.exact href={ "/p/" (post.id) } { (times::absolute(post.at, &scene.zone)) }
                }
            }
        }
    }
}

fn alone(card: &Card, scene: &Scene) -> Markup {
    let Card { post, author } = card;
    html! {
        a #newer .pager href="/" { "← All posts" }
        article .card.alone id=(post.id) {
            header {
                a.who href={ "/a/" (author.handle) } tabindex="-1" aria-hidden="true" {
                    (avatar(&author.handle, &author.display_name, ""))
                }
                div {
                    a.name href={ "/a/" (author.handle) } { (author.display_name) }
                    span.handle { "@" (author.handle) }
                }
            }
            div.text { (rich::text(&post.text)) }
            @if let Some(link) = &post.link { (rich::link_card(link)) }
            dl {
                dt { "Published" }
                dd {
                    (times::absolute(post.at, &scene.zone))
                    " · " (times::ago(post.at, scene.now, &scene.zone))
                }
                @if let Some(created_at) = post.created_at {
                    dt { "Dated" }
                    dd { (times::absolute(created_at, &scene.zone)) }
                }
                dt { "Endpoint" }
                dd { (badge(post.endpoint)) span.quiet { (meaning(post.endpoint)) } }
                dt { "Number" }
                dd { (post.seq) span.quiet { " of all posts on this network" } }
                dt { "Id" }
                dd { code { (post.id) } }
            }
        }
    }
}

fn badge(endpoint: Endpoint) -> Markup {
    html! {
        span class={ "badge " (endpoint.name()) } title=(meaning(endpoint)) { (endpoint.name()) }
    }
}

const fn meaning(endpoint: Endpoint) -> &'static str {
    match endpoint {
        Endpoint::Idempotent => "The same key again is the same post.",
        Endpoint::Verifiable => "Always a new post; the client can look for its key.",
        Endpoint::Blind => "Always a new post; the client has nothing to look up.",
    }
}
