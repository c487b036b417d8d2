//! The side of the page: what waits elsewhere, faults that are set, accounts,
//! the ledger's sums.

use jiff::Timestamp;
use maud::{Markup, html};

use super::{Person, Scene, avatar, feed::posts, times};
use crate::{faults::Fault, waiting::WaitingPost};

/// Waiting posts shown; the others are counted.
const WAITING: usize = 25;
/// Accounts shown.
const PEOPLE: usize = 12;

/// The children of the side column.
pub(super) fn side(scene: &Scene) -> Markup {
    html! {
        (waiting(scene))
        @if !scene.faults.is_empty() { (faults(&scene.faults)) }
        @if !scene.people.is_empty() { (people(&scene.people)) }
        (ledger(scene))
    }
}

fn waiting(scene: &Scene) -> Markup {
    let list = scene.waiting.as_deref().unwrap_or_default();
    html! {
        section #waiting .panel.waiting {
            h2 {
                "Waiting"
                @if !list.is_empty() { span.count { (list.len()) } }
            }
            @if scene.waiting.is_none() {
                p.quiet { "Galley did not say in time what is waiting. This page goes on asking." }
            } @else if list.is_empty() {
                p.quiet { "Nothing is waiting: everything that was due is out." }
            } @else {
                div.strip {
                    @for post in list.iter().take(WAITING) { (slip(post, scene)) }
                }
                @if list.len() > WAITING {
                    p.quiet { "and " (list.len() - WAITING) " more" }
                }
            }
        }
    }
}

fn slip(post: &WaitingPost, scene: &Scene) -> Markup {
    let name = scene.person(&post.account).map_or(post.account.as_str(), |person| &person.display_name);
    html! {
        div.slip {
            header {
                (avatar(&post.account, name, "small"))
                span.name { (name) }
                span class={ "state " (tone(&post.state)) } { (post.state.replace('_', " ")) }
            }
            p.draft dir="auto" { (post.text) }
            p.slot {
                @match &post.slot {
                    Some(slot) => { (due(slot, scene)) }
                    None => { "no slot yet" }
                }
            }
            @if !post.reason.is_empty() { p.reason { (post.reason) } }
            @if let Some(command) = &post.command {
                div.command {
                    code { (command) }
                    button type="button" data-copy=(command) { "Copy" }
                }
            }
        }
    }
}

fn due(slot: &str, scene: &Scene) -> Markup {
    html! {
        @match slot.parse::<Timestamp>() {
            Ok(at) => {
                time datetime=(at) {
                    (times::absolute(at, &scene.zone))
                    " · " (times::relative(at, scene.now))
                }
            }
            Err(_) => { (slot) }
        }
    }
}

/// The colour of a state: what needs a person stands out.
fn tone(state: &str) -> &'static str {
    let state = state.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| state.contains(word));
    if has(&["doubt", "fail", "refus", "reject", "dead", "block"]) {
        "alarm"
    } else if has(&["approv", "review", "person", "hold", "held", "pause"]) {
        "ask"
    } else {
        "calm"
    }
}

fn faults(faults: &[Fault]) -> Markup {
    html! {
        section #faults .panel.faults {
            h2 { "Faults set" span.count { (faults.len()) } }
            ul {
                @for fault in faults.iter().take(WAITING) {
                    li {
                        code { (fault.kind.name()) }
                        span.quiet {
                            (fault.endpoint.map_or("any endpoint", |endpoint| endpoint.name()))
                            @if let Some(account) = &fault.account { " · @" (account) }
                            @match fault.remaining {
                                Some(left) => { " · " (left) " left" }
                                None => { " · until deleted" }
                            }
                            " · hit " (fault.hits) "×"
                        }
                    }
                }
            }
        }
    }
}

fn people(people: &[Person]) -> Markup {
    html! {
        section #people .panel.people {
            h2 { "Accounts" }
            ul {
                @for person in people.iter().take(PEOPLE) {
                    li {
                        a href={ "/a/" (person.handle) } {
                            (avatar(&person.handle, &person.display_name, "small"))
                            span.name { (person.display_name) }
                            span.handle { "@" (person.handle) }
                            span.number { (person.posts) }
                        }
                    }
                }
            }
            @if people.len() > PEOPLE { p.quiet { "and " (people.len() - PEOPLE) " more" } }
        }
    }
}

fn ledger(scene: &Scene) -> Markup {
    html! {
        section #ledger .panel.ledger {
            h2 { "Ledger" }
            p {
                (posts(scene.posts)) " · "
                @match scene.duplicates {
                    0 => { span.fine { "no duplicates" } }
                    1 => { strong.alarm { "1 duplicate" } }
                    many => { strong.alarm { (many) " duplicates" } }
                }
            }
            @if scene.cost_micros > 0 { p { "The network took " (dollars(scene.cost_micros)) } }
            p.quiet { "The network's own record: " a href="/api/ledger" { "as JSON" } }
        }
    }
}

/// An amount as people read it.
fn dollars(micros: u64) -> String {
    let part = format!("{:06}", micros % 1_000_000);
    format!("${}.{:0<2}", micros / 1_000_000, part.trim_end_matches('0'))
}
