//! Publishing in words and types: what a platform can tell about a post that
//! may have gone out, and what an adapter reports. What follows from it is
//! decided by [`after`] and by the run, never by an adapter.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::agent::AgentSpec;
use crate::ids::{AgentType, BadName};
use crate::retry::RetryPolicy;
use crate::review::newest_text;
use crate::run::{StepRun, StepState};

/// The agent type whose steps send posts out: one post per step. Its steps are
/// run by the engine and a platform's adapter together, not by an agent.
pub const PUBLISHER: &str = "publisher";

/// How long after its intent a publication may still be sent. A worker that
/// comes later (it was stopped) records `not_sent` instead.
pub const SEND_WINDOW: Duration = Duration::from_secs(10);

/// Longest call to a platform. Shorter than the window.
pub const SEND_TIMEOUT: Duration = Duration::from_secs(8);

/// What a platform can tell about a post of which nobody knows whether it went
/// out.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Capability {
    /// It keeps our key: the same call again is no second post.
    Idempotent {
        /// For how long it keeps the key, seconds.
        window_s: u64,
    },
    /// It can be asked whether a post with our key is there.
    Verifiable {
        /// How long after the call a post may still appear, seconds.
        settle_s: u64,
    },
    /// It can neither be asked nor told twice.
    Blind,
}

impl Capability {
    /// The word used in the API, the CLI and the docs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Idempotent { .. } => "idempotent",
            Self::Verifiable { .. } => "verifiable",
            Self::Blind => "blind",
        }
    }
}

/// What to do about a publication of which nobody knows whether it went out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Send it again with the same key.
    Repeat,
    /// Ask the platform.
    Look,
    /// A person says what happened.
    Ask,
}

/// What to do about an unknown publication `since_s` seconds after it was
/// first sent.
pub fn after(capability: Capability, since_s: u64) -> Next {
    match capability {
        Capability::Idempotent { window_s } if since_s < window_s => Next::Repeat,
        Capability::Verifiable { .. } => Next::Look,
        Capability::Idempotent { .. } | Capability::Blind => Next::Ask,
    }
}

/// What is published: the frozen content of one revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PostContent {
    /// The text, exactly as it goes out.
    pub text: String,
    /// A link that goes with it, where the platform has a place for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

impl PostContent {
    /// The hash that approvals are bound to, as hexadecimal text.
    pub fn hash(&self) -> String {
        hex::encode(crate::hash::of_json(self))
    }
}

/// What a platform takes for a post, millionths of a US dollar.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PostPrice {
    /// For a post.
    pub post_micros: u64,
    /// For a post with a link; absent: as any other.
    pub link_micros: Option<u64>,
}

impl PostPrice {
    /// What a post costs. A link in its text is one, too.
    pub fn of(&self, post: &PostContent) -> u64 {
        let linked = post.link.is_some() || ["https://", "http://"].iter().any(|it| post.text.contains(it));
        if linked { self.link_micros.unwrap_or(self.post_micros) } else { self.post_micros }
    }
}

/// What the fleet knows about publish steps.
///
/// # Errors
/// Never: the name is a valid one.
pub fn spec() -> Result<AgentSpec, BadName> {
    Ok(AgentSpec {
        agent: AgentType::new(PUBLISHER)?,
        description: "sends one post to one account, once".into(),
        input_schema: true.into(),
        output_schema: true.into(),
        retry: RetryPolicy {
            max_attempts: 8,
            backoff_ms: 2_000,
            timeout_ms: 120_000,
            ..RetryPolicy::default()
        },
        example: Some(json!({
            "brief": { "product": "Lantern Street Coffee Club" },
            "results": { "content": [{ "platform": "mastodon", "text": "Two new coffees every month." }] },
            "item": "lantern_mastodon",
        })),
        prompt: None,
    })
}

/// The account a publish step sends to: named by whoever submitted the
/// workflow, as the element the step was expanded for or as its `account`.
///
/// # Errors
/// A sentence that says what is missing.
pub fn target_of(input: &Value) -> Result<&str, String> {
    [input.get("item"), input.pointer("/item/account"), input.pointer("/params/account")]
        .into_iter()
        .flatten()
        .find_map(Value::as_str)
        .ok_or_else(|| {
            "names no account: give the step an `input.account`, or a `forEach` over a list of account names"
                .into()
        })
}

/// The content for a platform among the results a publish step needs: the
/// newest text, see [`newest_text`].
///
/// # Errors
/// A sentence that says what is missing.
pub fn content_of(input: &Value, platform: &str) -> Result<PostContent, String> {
    let results = input.get("results").and_then(Value::as_object);
    let Some((_, written)) = results.and_then(|results| newest_text(results, platform)) else {
        return Err(format!(
            "no earlier step it needs wrote a post for `{platform}`; write for that platform, or set the account's contentPlatform"
        ));
    };
    let text = |field: &str| written.get(field).and_then(Value::as_str).map(str::to_owned);
    Ok(PostContent { text: text("text").unwrap_or_default(), link: text("link") })
}

/// Where a platform put a post.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// The platform's own id.
    pub remote_id: String,
    /// Where people can see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// What the platform says it took for it, millionths of a US dollar; absent:
    /// what the account says a post costs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_micros: Option<u64>,
}

/// How a call to a platform ended. A closed set: an adapter says what it knows
/// and nothing more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is out.
    Published(Receipt),
    /// It is definitely not out, and the same post would be refused again.
    Refused(String),
    /// It is definitely not out; worth another try, not before that many
    /// milliseconds.
    NotSent {
        /// Why.
        why: String,
        /// What the platform asked for (`Retry-After`), milliseconds.
        retry_after_ms: Option<u64>,
    },
    /// Nobody knows.
    Unknown(String),
}

/// What a platform answered when asked for a post.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Looked {
    /// It is there.
    Found(Receipt),
    /// It is not there.
    Absent,
    /// It could not be asked.
    Unknown(String),
}

/// Where a post stands. A read model of its publish step, kept beside it in
/// the same transactions.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PostState {
    /// Made, not yet judged by the policy.
    Draft,
    /// A person has to say yes.
    WaitingApproval,
    /// It goes out at its slot.
    Scheduled,
    /// On its way to the platform.
    Publishing,
    /// Nobody knows yet whether it went out.
    Unknown,
    /// Nobody can find out but a person.
    InDoubt,
    /// It is out. Final.
    Published,
    /// A person said no. Final.
    Rejected,
    /// It was refused for good: a dead letter knows why.
    Failed,
    /// Nobody said yes in time. Final.
    Expired,
    /// Its workflow was cancelled. Final.
    Cancelled,
}

impl PostState {
    /// Every state.
    pub const ALL: [Self; 11] = [
        Self::Draft,
        Self::WaitingApproval,
        Self::Scheduled,
        Self::Publishing,
        Self::Unknown,
        Self::InDoubt,
        Self::Published,
        Self::Rejected,
        Self::Failed,
        Self::Expired,
        Self::Cancelled,
    ];

    /// Whether the state never changes again.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Published | Self::Rejected | Self::Expired | Self::Cancelled)
    }

    /// Whether something may be out there, or is: nothing about the post can
    /// be changed any more.
    pub fn is_fixed(self) -> bool {
        self.is_final() || matches!(self, Self::Publishing | Self::Unknown | Self::InDoubt)
    }

    /// Where a post stands, by its publish step; `None` leaves it as it is (a
    /// skipped step was rejected or expired: whoever skipped it says which).
    pub fn of(step: &StepRun) -> Option<Self> {
        Some(match step.state {
            StepState::Blocked | StepState::Expanded | StepState::Skipped => return None,
            StepState::Queued if step.intent => Self::Unknown,
            StepState::Running if step.intent => Self::Publishing,
            StepState::Queued | StepState::Running | StepState::Scheduled | StepState::WaitingBudget => {
                Self::Scheduled
            }
            StepState::WaitingApproval => Self::WaitingApproval,
            StepState::Unknown => Self::Unknown,
            StepState::InDoubt => Self::InDoubt,
            StepState::Succeeded => Self::Published,
            StepState::Failed | StepState::Dead => Self::Failed,
            StepState::Cancelled => Self::Cancelled,
        })
    }

    /// The word used in the API, the CLI and the docs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::WaitingApproval => "waiting_approval",
            Self::Scheduled => "scheduled",
            Self::Publishing => "publishing",
            Self::Unknown => "unknown",
            Self::InDoubt => "in_doubt",
            Self::Published => "published",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.word() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_post_is_never_repeated_blindly() {
        let hour = Capability::Idempotent { window_s: 3_600 };
        for (capability, since_s, next) in [
            (hour, 0, Next::Repeat),
            (hour, 3_599, Next::Repeat),
            (hour, 3_600, Next::Ask),
            (Capability::Verifiable { settle_s: 5 }, 0, Next::Look),
            (Capability::Verifiable { settle_s: 5 }, 1_000_000, Next::Look),
            (Capability::Blind, 0, Next::Ask),
        ] {
            assert_eq!(after(capability, since_s), next, "{capability:?} after {since_s} s");
        }
    }

    #[test]
    fn the_hash_follows_the_bytes() {
        let post = |text: &str| PostContent { text: text.into(), link: None };
        assert_eq!(post("a").hash(), post("a").hash());
        assert_ne!(post("a").hash(), post("a ").hash());
        assert_ne!(post("a").hash(), PostContent { link: Some("b".into()), ..post("a") }.hash());
    }

    #[test]
    fn a_post_with_a_link_may_cost_more() {
        let post =
            |text: &str, link: Option<&str>| PostContent { text: text.into(), link: link.map(Into::into) };
        let price = PostPrice { post_micros: 10, link_micros: Some(200) };
        for (post, micros) in [
            (post("Hello", None), 10),
            (post("Hello", Some("https://a.example")), 200),
            (post("See https://a.example", None), 200),
        ] {
            assert_eq!(price.of(&post), micros, "{post:?}");
            assert_eq!(PostPrice { link_micros: None, ..price }.of(&post), 10);
        }
    }

    #[test]
    fn a_call_ends_inside_its_window() {
        assert!(SEND_TIMEOUT < SEND_WINDOW);
    }
}
