//! What an adapter is: the trait, and what it is handed.

use std::fmt::Debug;

use async_trait::async_trait;
use galley_core::plan::Problem;
use galley_core::publish::{Capability, Looked, PostContent, PostPrice, Sent};
use secrecy::SecretString;
use serde_json::Value;

use crate::settings::price_of;

/// An account on a platform, ready to be used. Its `Debug` does not show the
/// credential.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its name in the workspace.
    pub name: String,
    /// The adapter's own settings, as [`Publisher::check_account`] accepted
    /// them.
    pub settings: Value,
    /// What the platform knows us by. Only ever sent to the platform.
    pub credential: SecretString,
}

/// A post on its way out. Every attempt for one post has the same values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The effect key: what a platform can recognise a repetition by.
    pub key: String,
    /// What goes out, frozen.
    pub payload: PostContent,
    /// When it was first meant to go out, an RFC 3339 instant.
    pub intended_at: String,
    /// The post's id, a UUID.
    pub post: String,
    /// The workspace's id, a UUID.
    pub workspace: String,
}

/// An adapter: how posts get to one platform.
#[async_trait]
pub trait Publisher: Send + Sync + Debug {
    /// The word accounts name the platform by (`a-z0-9_`).
    fn platform(&self) -> &'static str;

    /// What the platform is, in one sentence for people.
    fn description(&self) -> &'static str;

    /// What the platform can tell about a post that may have gone out. Of
    /// settings that say nothing sensible it claims the least: blind.
    fn capability(&self, settings: &Value) -> Capability;

    /// Looks at an account before it is stored. Nothing is sent.
    ///
    /// # Errors
    /// Every problem, with its place: `settings.url`, `credential`.
    fn check_account(&self, settings: &Value, credential: &SecretString) -> Result<(), Vec<Problem>>;

    /// Whether the platform would take this post. Nothing is sent.
    ///
    /// # Errors
    /// Why it would not, and what to change.
    fn check_post(&self, settings: &Value, post: &PostContent) -> Result<(), String>;

    /// What the platform takes for a post, which is what may be reserved for
    /// it: never less than what it bills. As the account's settings say; a
    /// platform without a price is free.
    fn price(&self, settings: &Value) -> PostPrice {
        price_of(settings)
    }

    /// Sends the post, once, within
    /// [`SEND_TIMEOUT`](galley_core::publish::SEND_TIMEOUT). Whatever is not
    /// known for certain is [`Sent::Unknown`].
    async fn publish(&self, account: &Account, out: &Outgoing) -> Sent;

    /// Asks the platform whether the post is there. Has no effect.
    async fn look(&self, _account: &Account, _out: &Outgoing) -> Looked {
        Looked::Unknown("this platform cannot be asked".into())
    }

    /// Tries the account without any effect others could see.
    ///
    /// # Errors
    /// A sentence for people: what does not work and what to do.
    async fn test(&self, account: &Account) -> Result<String, String>;
}
