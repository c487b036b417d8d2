//! The platform's own record of what was published: what a tester compares with
//! what Galley believes.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use axum::{Json, extract::State};
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    network::App,
    posts::{Endpoint, Post, is_free},
};

/// Every post that the network still knows, in the order of publishing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ledger {
    /// The posts, oldest first; the newest 10,000.
    pub posts: Vec<Entry>,
    /// How many there are.
    pub counts: Counts,
    /// Keys under which an account published more than once, by any endpoint.
    pub duplicates: Vec<Duplicate>,
}

/// A post in the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its place in the order of all posts, from 1, without gaps.
    pub seq: u64,
    /// Its id, `p_` and ten characters.
    pub id: String,
    /// The account's handle.
    pub account: String,
    /// How it was published.
    pub endpoint: Endpoint,
    /// The client's key, or a blind post's trace key.
    pub key: Option<String>,
    /// Its text.
    pub text: String,
    /// When it appeared.
    pub at: Timestamp,
    /// What the network took for it, millionths of a US dollar.
    #[serde(rename = "costMicros", skip_serializing_if = "is_free")]
    pub cost_micros: u64,
}

/// Numbers of posts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// All posts ever, also those that are no longer kept.
    pub posts: u64,
    /// The posts in [`Ledger::posts`].
    pub kept: u64,
    /// The kept posts of each endpoint.
    pub by_endpoint: BTreeMap<Endpoint, u64>,
    /// Posts too many: a key with three posts counts two.
    pub duplicates: u64,
    /// What the network took for the kept posts, millionths of a US dollar.
    pub cost_micros: u64,
}

/// A key with more than one post.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Duplicate {
    /// The account's handle.
    pub account: String,
    /// The key.
    pub key: String,
    /// The posts' ids, oldest first.
    pub ids: Vec<String>,
}

impl Ledger {
    /// The ledger of these posts, given oldest first.
    pub(crate) fn of<'a>(posts: impl Iterator<Item = &'a Post> + Clone, ever: u64) -> Self {
        let mut by_endpoint: BTreeMap<Endpoint, u64> = Endpoint::ALL.map(|endpoint| (endpoint, 0)).into();
        for post in posts.clone() {
            *by_endpoint.entry(post.endpoint).or_default() += 1;
        }
        let duplicates = duplicates(posts.clone());
        let cost_micros = posts.clone().map(|post| post.cost_micros).sum();
        let posts: Vec<Entry> = posts.map(Entry::of).collect();
        let counts = Counts {
            posts: ever,
            kept: posts.len() as u64,
            by_endpoint,
            duplicates: too_many(&duplicates),
            cost_micros,
        };
        Self { posts, counts, duplicates }
    }
}

impl Entry {
    fn of(post: &Post) -> Self {
        Self {
            seq: post.seq,
            id: post.id.clone(),
            account: post.account.clone(),
            endpoint: post.endpoint,
            key: post.key.clone(),
            text: post.text.clone(),
            at: post.at,
            cost_micros: post.cost_micros,
        }
    }
}

/// Keys with more than one post, in the order of their first.
pub(crate) fn duplicates<'a>(posts: impl Iterator<Item = &'a Post>) -> Vec<Duplicate> {
    let mut ids: HashMap<(&str, &str), Vec<&Post>> = HashMap::new();
    for post in posts {
        if let Some(key) = post.key.as_deref().filter(|key| !key.is_empty()) {
            ids.entry((&post.account, key)).or_default().push(post);
        }
    }
    let mut repeated: Vec<_> = ids.into_iter().filter(|(_, posts)| posts.len() > 1).collect();
    repeated.sort_by_key(|(_, posts)| posts.first().map(|post| post.seq));
    repeated
        .into_iter()
        .map(|((account, key), posts)| Duplicate {
            account: account.to_owned(),
            key: key.to_owned(),
            ids: posts.into_iter().map(|post| post.id.clone()).collect(),
        })
        .collect()
}

/// Posts that should not be there.
pub(crate) fn too_many(duplicates: &[Duplicate]) -> u64 {
    duplicates.iter().map(|duplicate| duplicate.ids.len() as u64 - 1).sum()
}

/// `GET /api/ledger`
pub(crate) async fn show(State(app): State<Arc<App>>) -> Json<Ledger> {
    Json(app.platform().ledger())
}
