//! What the engine asks about platforms, without knowing any.

use async_trait::async_trait;
use galley_core::plan::Problem;
use galley_core::publish::{Capability, PostContent};
use secrecy::SecretString;
use serde_json::Value;

/// What the engine asks about platforms; answered by whoever has the adapters.
#[async_trait]
pub trait Platforms: Send + Sync + std::fmt::Debug {
    /// The platforms there are adapters for.
    fn names(&self) -> Vec<String>;

    /// What the platform can tell about a post that may be out; `None` for a
    /// platform nobody knows.
    fn capability(&self, platform: &str, settings: &Value) -> Option<Capability>;

    /// Whether an account can be used; empty when it can.
    fn check_account(&self, platform: &str, settings: &Value, credential: &SecretString) -> Vec<Problem>;

    /// Whether the platform would take the post as it is.
    ///
    /// # Errors
    /// A sentence that says why not.
    fn check_post(&self, platform: &str, settings: &Value, post: &PostContent) -> Result<(), String>;

    /// What a post may cost at most, millionths of a US dollar; 0: nothing.
    fn price(&self, platform: &str, settings: &Value, post: &PostContent) -> u64;

    /// Tries an account without any effect.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    async fn test(
        &self,
        platform: &str,
        account: &str,
        settings: &Value,
        credential: &SecretString,
    ) -> Result<String, String>;
}
