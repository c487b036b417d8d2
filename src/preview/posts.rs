//! A post, from the request's body to the row of the ledger.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{error::Invalid, fields};

/// The three ways to publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// The platform keeps the client's key: the same key again is the same post.
    Idempotent,
    /// Always a new post; a client can look for its key.
    Verifiable,
    /// Always a new post; nothing to look up.
    Blind,
}

impl Endpoint {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Idempotent, Self::Verifiable, Self::Blind];

    /// Its name in URLs and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idempotent => "idempotent",
            Self::Verifiable => "verifiable",
            Self::Blind => "blind",
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The body of a publish request.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Draft {
    pub(crate) text: String,
    #[serde(default)]
    pub(crate) link: Option<String>,
    /// When the client says that it was written; nothing depends on it.
    #[serde(default)]
    pub(crate) created_at: Option<Timestamp>,
}

impl Draft {
    pub(crate) fn check(&self) -> Result<(), Invalid> {
        fields::text(&self.text)?;
        self.link.as_deref().map_or(Ok(()), fields::link)
    }
}

/// A publish request that was understood: who, how, under which key, what.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    /// The account's handle.
    pub(crate) account: String,
    pub(crate) endpoint: Endpoint,
    /// For a blind post only the ledger ever sees it.
    pub(crate) key: Option<String>,
    pub(crate) draft: Draft,
}

/// A published post, in memory and as a line of the data file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Post {
    /// Its place in the order of all posts, from 1, without gaps.
    pub(crate) seq: u64,
    pub(crate) id: String,
    /// The account's handle.
    pub(crate) account: String,
    pub(crate) endpoint: Endpoint,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    pub(crate) text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) link: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) created_at: Option<Timestamp>,
    /// When it appeared, by this computer's clock.
    pub(crate) at: Timestamp,
    /// What the network took for it, millionths of a US dollar.
    #[serde(default, skip_serializing_if = "is_free")]
    pub(crate) cost_micros: u64,
}

/// What the network takes for a post, millionths of a US dollar; at first
/// nothing. Never stored: a restarted network is free again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Price {
    /// For a post.
    pub post_micros: u64,
    /// For a post with a link; absent: as any other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_micros: Option<u64>,
}

impl Price {
    /// The most that is believed: ten thousand dollars for a post.
    const MOST: u64 = 10_000_000_000;

    pub(crate) fn check(&self) -> Result<(), Invalid> {
        for (field, micros) in
            [("postMicros", self.post_micros), ("linkMicros", self.link_micros.unwrap_or(0))]
        {
            if micros > Self::MOST {
                return Err(Invalid::new(
                    field,
                    format!("must be at most {} (ten thousand dollars)", Self::MOST),
                ));
            }
        }
        Ok(())
    }

    pub(crate) fn of(&self, draft: &Draft) -> u64 {
        let text = &draft.text;
        let linked = draft.link.is_some() || text.contains("https://") || text.contains("http://");
        if linked { self.link_micros.unwrap_or(self.post_micros) } else { self.post_micros }
    }
}

/// Whether nothing was taken.
pub(crate) fn is_free(micros: &u64) -> bool {
    *micros == 0
}
