//! The pages: what they show, put together from the platform's state and what
//! waits elsewhere. How a part looks is in the files below.
//!
//! Every text on them was written by somebody else. `maud` escapes it, links
//! are only ever `http` or `https`, and the policy lets a browser run and load
//! nothing but the one script and the one style sheet that are compiled in.

mod feed;
mod rich;
mod shell;
mod side;
mod times;

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use jiff::{Timestamp, tz::TimeZone};
use maud::{Markup, html};
use serde::Deserialize;
use tokio::time::timeout;

use crate::{
    accounts::Member,
    faults::Fault,
    ledger::{duplicates, too_many},
    network::App,
    platform::Platform,
    posts::Post,
    waiting::WaitingPost,
};

pub(crate) use shell::policy;

/// Posts on a page.
const PAGE: usize = 40;
/// How long the page waits for the list of waiting posts.
const PATIENCE: Duration = Duration::from_secs(1);

/// An account as the pages show it.
#[derive(Clone)]
struct Person {
    handle: String,
    display_name: String,
    posts: u64,
    since: Timestamp,
}

impl Person {
    fn of(member: &Member) -> Self {
        Self {
            handle: member.handle.clone(),
            display_name: member.display_name.clone(),
            posts: member.posts,
            since: member.since,
        }
    }
}

/// A post and its author.
struct Card {
    post: Post,
    author: Person,
}

/// Which page.
enum View {
    /// Everybody's posts; `before`: only those with a smaller `seq`.
    Timeline { before: Option<u64> },
    /// One account's posts.
    Account { handle: String, before: Option<u64> },
    /// One post.
    Post { id: String },
}

/// What is in the middle of the page.
enum Middle {
    Posts { of: Option<Person>, cards: Vec<Card>, older: Option<u64>, newest: bool },
    Post(Box<Card>),
}

/// Everything a page shows.
struct Scene {
    middle: Middle,
    people: Vec<Person>,
    faults: Vec<Fault>,
    posts: u64,
    duplicates: u64,
    cost_micros: u64,
    /// `None`: nobody answered in time.
    waiting: Option<Vec<WaitingPost>>,
    now: Timestamp,
    zone: TimeZone,
}

impl Scene {
    /// `None`: there is no such account or post.
    async fn set(app: &App, view: &View) -> Option<Self> {
        // Not under the lock: whoever is asked may be slow.
        let waiting = match &app.galley {
            Some(galley) => timeout(PATIENCE, galley.waiting()).await.ok(),
            None => Some(Vec::new()),
        };
        let platform = app.platform();
        Some(Self {
            middle: Middle::of(&platform, view)?,
            people: platform.members().map(Person::of).collect(),
            faults: platform.faults.list().into_iter().filter(|fault| !fault.used_up()).collect(),
            posts: platform.ever(),
            duplicates: too_many(&duplicates(platform.posts())),
            cost_micros: platform.posts().map(|post| post.cost_micros).sum(),
            waiting,
            now: Timestamp::now(),
            zone: TimeZone::system(),
        })
    }

    fn person(&self, handle: &str) -> Option<&Person> {
        self.people.iter().find(|person| person.handle == handle)
    }
}

impl Middle {
    fn of(platform: &Platform, view: &View) -> Option<Self> {
        let (of, before) = match view {
            View::Post { id } => {
                let post = platform.post(id)?.clone();
                let author = Person::of(platform.member(&post.account)?);
                return Some(Self::Post(Box::new(Card { post, author })));
            }
            View::Timeline { before } => (None, *before),
            View::Account { handle, before } => (Some(Person::of(platform.member(handle)?)), *before),
        };
        let mut posts = platform
            .posts()
            .rev()
            .filter(|post| before.is_none_or(|before| post.seq < before))
            .filter(|post| of.as_ref().is_none_or(|person| post.account == person.handle));
        let cards: Vec<Card> = posts
            .by_ref()
            .take(PAGE)
            .filter_map(|post| {
                let author = Person::of(platform.member(&post.account)?);
                Some(Card { post: post.clone(), author })
            })
            .collect();
        let last = cards.last().map(|card| card.post.seq);
        let older = last.filter(|_| posts.next().is_some());
        Some(Self::Posts { of, cards, older, newest: before.is_none() })
    }
}

/// Where a page of older posts begins.
#[derive(Deserialize)]
pub(crate) struct Place {
    before: Option<u64>,
}

/// `GET /`
pub(crate) async fn timeline(
    State(app): State<Arc<App>>,
    place: Result<Query<Place>, QueryRejection>,
) -> Response {
    let Ok(Query(Place { before })) = place else { return nothing_here(&app).await };
    whole(&app, View::Timeline { before }).await
}

/// `GET /a/{handle}`
pub(crate) async fn account(
    State(app): State<Arc<App>>,
    handle: Result<Path<String>, PathRejection>,
    place: Result<Query<Place>, QueryRejection>,
) -> Response {
    let (Ok(Path(handle)), Ok(Query(Place { before }))) = (handle, place) else {
        return nothing_here(&app).await;
    };
    whole(&app, View::Account { handle, before }).await
}

/// `GET /p/{id}`
pub(crate) async fn post(State(app): State<Arc<App>>, id: Result<Path<String>, PathRejection>) -> Response {
    let Ok(Path(id)) = id else { return nothing_here(&app).await };
    whole(&app, View::Post { id }).await
}

/// The parts of a page that change, for its script.
#[derive(Deserialize)]
pub(crate) struct Part {
    account: Option<String>,
    post: Option<String>,
    before: Option<u64>,
}

/// `GET /fragment`
pub(crate) async fn fragment(
    State(app): State<Arc<App>>,
    part: Result<Query<Part>, QueryRejection>,
) -> Response {
    let Ok(Query(part)) = part else { return StatusCode::BAD_REQUEST.into_response() };
    let view = match part {
        Part { post: Some(id), .. } => View::Post { id },
        Part { account: Some(handle), before, .. } => View::Account { handle, before },
        Part { before, .. } => View::Timeline { before },
    };
    match Scene::set(&app, &view).await {
        Some(scene) => shell::parts(&scene).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// `GET /favicon.svg`
pub(crate) async fn favicon() -> Response {
    let kind = HeaderValue::from_static("image/svg+xml");
    ([(header::CONTENT_TYPE, kind)], shell::ICON).into_response()
}

async fn whole(app: &App, view: View) -> Response {
    match Scene::set(app, &view).await {
        Some(scene) => shell::page(&scene, &view).into_response(),
        None => nothing_here(app).await,
    }
}

/// The page for an address that leads nowhere.
pub(crate) async fn nothing_here(app: &App) -> Response {
    let posts = app.platform().ever();
    (StatusCode::NOT_FOUND, shell::lost(posts)).into_response()
}

/// An avatar: initials on a colour that is always the same for a handle.
fn avatar(handle: &str, display_name: &str, class: &str) -> Markup {
    let words = display_name.split_whitespace();
    let first = words.clone().next().and_then(|word| word.chars().next());
    let last = words.skip(1).last().and_then(|word| word.chars().next());
    let initials: String = first.into_iter().chain(last).flat_map(char::to_uppercase).collect();
    html! {
        span class={ "avatar " (class) " c" (colour(handle)) } aria-hidden="true" { (initials) }
    }
}

/// One of the ten colours of the style sheet (a style attribute would need a
/// weaker policy).
fn colour(handle: &str) -> u32 {
    // FNV-1a: stable between builds, unlike the standard library's hashers.
    let hash =
        handle.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    (hash >> 8) % 10
}
