//! Which platforms there are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use galley_core::publish::SEND_TIMEOUT;

use crate::preview::Preview;
use crate::publisher::Publisher;

/// What a deployment decides about all adapters.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether webhooks may go to private addresses of this deployment.
    pub allow_private_targets: bool,
    /// Longest call to a platform.
    pub timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { allow_private_targets: false, timeout: SEND_TIMEOUT }
    }
}

/// The adapters of one process, by platform.
#[derive(Clone, Debug, Default)]
pub struct Publishers {
    by_platform: BTreeMap<&'static str, Arc<dyn Publisher>>,
}

impl Publishers {
    /// Every platform Galley brings along.
    ///
    /// # Errors
    /// The HTTP client cannot be made.
    pub fn built_in(options: Options) -> Result<Self, String> {
        let mut publishers = Self::default();
        publishers.register(Preview::new(options.timeout)?);
        Ok(publishers)
    }

    /// Adds an adapter; one for the same platform is replaced.
    pub fn register(&mut self, publisher: impl Publisher + 'static) {
        self.by_platform.insert(publisher.platform(), Arc::new(publisher));
    }

    /// The adapter of a platform.
    pub fn get(&self, platform: &str) -> Option<&Arc<dyn Publisher>> {
        self.by_platform.get(platform)
    }

    /// The platforms, sorted.
    pub fn platforms(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.by_platform.keys().copied()
    }
}
