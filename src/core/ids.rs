//! The names of things: ids as newtypes, so that a workflow id cannot be
//! passed where a workspace id is meant.
//!
//! Nothing here makes an id: ids are drawn by the shells (engine, CLI),
//! because drawing one needs a clock or randomness.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(s: &str) -> Result<Self, Self::Err> {
                s.parse().map(Self)
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }
    };
}

uuid_id! {
    /// A tenant. Every row, key, token and log line belongs to exactly one.
    WorkspaceId
}
uuid_id! {
    /// One run of a workflow. UUIDv7: ids sort by the time they were accepted.
    WorkflowId
}

uuid_id! {
    /// Content for one account on one platform.
    PostId
}
uuid_id! {
    /// A workspace's connection to a platform.
    AccountId
}
uuid_id! {
    /// A question to a person, bound to what they were shown.
    ApprovalId
}

uuid_id! {
    /// What an agent said to others of its workflow.
    MessageId
}

uuid_id! {
    /// A workflow that is submitted again and again.
    ScheduleId
}

/// A worker process' lease, issued by Postgres (identity column, never reused).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(pub i64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A step's fencing counter: one higher on every queue, claim, reap and
/// cancel; never reset.
pub type Epoch = u32;

/// The random token of one claim. An epoch can come back after a restore or a
/// failover, a nonce cannot.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nonce(pub u64);

/// The position of a step in its run: definition order first, expanded
/// children after them in the order they were expanded.
pub type StepIndex = u16;

/// A workflow together with its tenant: the key of every row about it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct WorkflowKey {
    /// The tenant.
    pub workspace: WorkspaceId,
    /// The workflow.
    pub workflow: WorkflowId,
}

/// The name of what runs a step: `strategy`, `content_creator`, … An open set.
///
/// 1–48 characters of `a-z`, `0-9` and `_`, beginning with a letter, so that
/// it can be a Redis hash tag, a metric label, a file name and a URL segment.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct AgentType(Arc<str>);

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a valid {kind} name: use 1-48 of a-z, 0-9 and _, beginning with a letter")]
pub struct BadName {
    /// What was being named.
    pub kind: &'static str,
    /// The offending text, shortened.
    pub text: String,
}

/// Whether `text` is 1–48 characters of `a-z0-9_` beginning with a letter.
/// The one rule for agent types, step names and template names.
pub fn is_name(text: &str) -> bool {
    text.len() <= 48
        && text.bytes().next().is_some_and(|b| b.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

impl AgentType {
    /// Checks the name.
    pub fn new(text: &str) -> Result<Self, BadName> {
        if is_name(text) {
            Ok(Self(text.into()))
        } else {
            Err(BadName { kind: "agent", text: text.chars().take(60).collect() })
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AgentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for AgentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for AgentType {
    type Err = BadName;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::new(s)
    }
}

impl<'de> Deserialize<'de> for AgentType {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}
