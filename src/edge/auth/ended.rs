//! What ended early, and which API keys there are: asked of the store, and
//! remembered for a moment.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use galley_core::ids::WorkspaceId;
use galley_engine::store::{KeyHash, Revocations, Store, StoreError};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::memory::Memory;

/// How long an answer of the store is believed: how late at most another API
/// server hears of a revocation. The one that was asked to revoke knows at once.
pub const REVOKED_WITHIN: Duration = Duration::from_secs(2);

/// How often a key that is in use is written down as used.
const TOLD_EVERY: Duration = Duration::from_secs(3_600);

/// Questions about unknown keys that the store is asked at once: guesses must
/// not take all its connections.
const LOOKUPS: usize = 4;

/// What the door asks the store.
#[async_trait]
pub trait Identities: std::fmt::Debug + Send + Sync {
    /// What of a workspace's tokens ended early.
    ///
    /// # Errors
    /// The store is away.
    async fn revocations(&self, workspace: WorkspaceId) -> Result<Revocations, StoreError>;

    /// The keys of a prefix, whosever they are.
    ///
    /// # Errors
    /// The store is away.
    async fn keys_of_prefix(&self, prefix: &str) -> Result<Vec<KeyHash>, StoreError>;

    /// A key is in use.
    ///
    /// # Errors
    /// The store is away.
    async fn key_used(&self, workspace: WorkspaceId, prefix: &str) -> Result<(), StoreError>;
}

#[async_trait]
impl Identities for Store {
    async fn revocations(&self, workspace: WorkspaceId) -> Result<Revocations, StoreError> {
        Self::revocations(self, workspace).await
    }

    async fn keys_of_prefix(&self, prefix: &str) -> Result<Vec<KeyHash>, StoreError> {
        Self::keys_of_prefix(self, prefix).await
    }

    async fn key_used(&self, workspace: WorkspaceId, prefix: &str) -> Result<(), StoreError> {
        Self::key_used(self, workspace, prefix).await
    }
}

/// The store's answers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ended {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    identities: Arc<dyn Identities>,
    revocations: Memory<WorkspaceId, Arc<Revocations>>,
    keys: Memory<String, Arc<[KeyHash]>>,
    told: Memory<String, ()>,
    lookups: Semaphore,
}

impl Ended {
    /// Asks these.
    pub fn new(identities: Arc<dyn Identities>) -> Self {
        Self {
            inner: Arc::new(Inner {
                identities,
                revocations: Memory::new(REVOKED_WITHIN),
                keys: Memory::new(REVOKED_WITHIN),
                told: Memory::new(TOLD_EVERY),
                lookups: Semaphore::new(LOOKUPS),
            }),
        }
    }

    /// Whether a token ended early. Without an answer nobody gets in.
    ///
    /// # Errors
    /// The store is away.
    pub async fn is_revoked(
        &self,
        workspace: WorkspaceId,
        id: Option<&str>,
        subject: &str,
        issued: i64,
    ) -> Result<bool, StoreError> {
        let known = match self.inner.revocations.get(&workspace) {
            Some(known) => known,
            None => {
                let asked = Instant::now();
                let found = Arc::new(self.inner.identities.revocations(workspace).await?);
                self.inner.revocations.put(workspace, asked, Arc::clone(&found));
                found
            }
        };
        let by_id = known.all || id.is_some_and(|id| known.tokens.contains(id));
        Ok(by_id || known.subjects.get(subject).is_some_and(|until| issued <= *until))
    }

    /// The keys of a prefix.
    ///
    /// # Errors
    /// The store is away.
    pub async fn keys(&self, prefix: &str) -> Result<Arc<[KeyHash]>, StoreError> {
        if let Some(known) = self.inner.keys.get(&prefix.to_owned()) {
            return Ok(known);
        }
        // Never closed.
        let _turn = self.inner.lookups.acquire().await;
        let asked = Instant::now();
        let found: Arc<[KeyHash]> = self.inner.identities.keys_of_prefix(prefix).await?.into();
        self.inner.keys.put(prefix.to_owned(), asked, Arc::clone(&found));
        Ok(found)
    }

    /// Writes down, behind the request, that a key is in use.
    pub fn tell_used(&self, workspace: WorkspaceId, prefix: &str) {
        let (inner, prefix) = (Arc::clone(&self.inner), prefix.to_owned());
        if inner.told.get(&prefix).is_some() {
            return;
        }
        inner.told.put(prefix.clone(), Instant::now(), ());
        tokio::spawn(async move {
            if let Err(error) = inner.identities.key_used(workspace, &prefix).await {
                tracing::debug!(%error, "the use of a key was not written down");
                inner.told.forget(&prefix);
            }
        });
    }

    /// Asks anew what of a workspace's tokens ended.
    pub fn forget_revocations(&self, workspace: WorkspaceId) {
        self.inner.revocations.forget(&workspace);
    }

    /// Asks anew about a key.
    pub fn forget_key(&self, prefix: &str) {
        self.inner.keys.forget(&prefix.to_owned());
    }
}
