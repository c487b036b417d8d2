//! Which platforms this process can publish to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use galley_core::publish::SEND_TIMEOUT;

use crate::preview::Preview;
use crate::publisher::Publisher;
use crate::webhook::Webhook;

/// What a deployment decides for all adapters.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether addresses that a workspace names for its accounts may be private,
    /// loopback or link-local ones, and plain `http://`.
    pub allow_private_targets: bool,
    /// Longest call to a platform; never more than [`SEND_TIMEOUT`].
    pub timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { allow_private_targets: false, timeout: SEND_TIMEOUT }
    }
}

/// Why the adapters could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The platform is taken. Two adapters of one platform would make a post's
    /// outcome depend on the order of registration.
    #[error("platform `{0}` is registered twice: give one of the adapters another name")]
    Duplicate(&'static str),
    /// There is no HTTP client, mostly for want of root certificates.
    #[error("the HTTP client for publishing cannot be made: {0}")]
    Client(String),
}

/// The adapters of one process, by platform. A clone is the same adapters.
#[derive(Clone, Debug, Default)]
pub struct Publishers {
    adapters: BTreeMap<&'static str, Arc<dyn Publisher>>,
}

impl Publishers {
    /// No adapters yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The adapters that come with Galley.
    ///
    /// # Errors
    /// When there is no HTTP client.
    pub fn built_in(options: Options) -> Result<Self, SetupError> {
        let mut publishers = Self::new();
        publishers.register(Preview::new(options)?)?;
        publishers.register(Webhook::new(options)?)?;
        Ok(publishers)
    }

    /// Adds an adapter.
    ///
    /// # Errors
    /// A taken platform.
    pub fn register(&mut self, publisher: impl Publisher + 'static) -> Result<(), SetupError> {
        let platform = publisher.platform();
        if self.adapters.contains_key(platform) {
            return Err(SetupError::Duplicate(platform));
        }
        self.adapters.insert(platform, Arc::new(publisher));
        Ok(())
    }

    /// The adapter of a platform, if this process has it.
    pub fn get(&self, platform: &str) -> Option<&Arc<dyn Publisher>> {
        self.adapters.get(platform)
    }

    /// Every platform's word, sorted.
    pub fn platforms(&self) -> impl Iterator<Item = &'static str> {
        self.adapters.keys().copied()
    }
}
