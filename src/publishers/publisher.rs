//! What an adapter is, and what it is handed.

use async_trait::async_trait;
use galley_core::plan::Problem;
use galley_core::publish::{Capability, Looked, PostContent, Sent};
use secrecy::SecretString;
use serde_json::Value;

/// A workspace's connection to a platform, opened for one call.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its name in the workspace.
    pub name: String,
    /// What the adapter needs to know.
    pub settings: Value,
    /// The secret. Never printed.
    pub credential: SecretString,
}

/// A post on its way out.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The key of the post: the same in every attempt, and no other post's.
    pub key: String,
    /// The frozen content.
    pub payload: PostContent,
    /// When it was first meant to go out, RFC 3339: the same in every attempt.
    pub intended_at: String,
    /// The post's id in Galley.
    pub post: String,
    /// Its workspace.
    pub workspace: String,
}

/// A platform's adapter.
#[async_trait]
pub trait Publisher: Send + Sync + std::fmt::Debug {
    /// The platform's name (`a-z0-9_`).
    fn platform(&self) -> &'static str;

    /// One line for people.
    fn description(&self) -> &'static str;

    /// What the platform can tell about a post that may be out.
    fn capability(&self, settings: &Value) -> Capability;

    /// Checks an account before it is stored.
    ///
    /// # Errors
    /// Every problem, each with its place.
    fn check_account(&self, settings: &Value, credential: &SecretString) -> Result<(), Vec<Problem>>;

    /// Checks a post before anything is sent: its length, say.
    ///
    /// # Errors
    /// A sentence that says why the platform would not take it.
    fn check_post(&self, settings: &Value, post: &PostContent) -> Result<(), String>;

    /// Sends the post, once.
    async fn publish(&self, account: &Account, out: &Outgoing) -> Sent;

    /// Asks the platform whether the post is there. Has no effect.
    async fn look(&self, _account: &Account, _out: &Outgoing) -> Looked {
        Looked::Unknown("the platform cannot be asked".into())
    }

    /// Tries the account without any effect.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    async fn test(&self, account: &Account) -> Result<String, String>;
}
