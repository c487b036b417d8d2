//! How much a workspace may have unfinished: beyond that nothing more of it is
//! accepted, so that one tenant cannot fill the stores for all.

use std::sync::Arc;
use std::time::Duration;

use galley_core::ids::WorkspaceId;
use galley_engine::store::Store;
use tokio::time::Instant;

use crate::error::ApiError;
use crate::memory::Memory;

/// How long a count is believed: so much later the limit is felt, and so much
/// longer after there is room again.
const BELIEVED: Duration = Duration::from_secs(1);

/// Seconds after which another try is worth it.
const RETRY: u64 = 5;

/// Counts what is unfinished. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Backlog {
    /// 0: no limit.
    most: u32,
    /// Whether a workspace is full.
    known: Arc<Memory<WorkspaceId, bool>>,
}

impl Backlog {
    pub(crate) fn new(most: u32) -> Self {
        Self { most, known: Arc::new(Memory::new(BELIEVED)) }
    }

    /// Refuses a submit to a workspace that is full.
    pub(crate) async fn has_room(&self, store: &Store, workspace: WorkspaceId) -> Result<(), ApiError> {
        if self.most == 0 {
            return Ok(());
        }
        let full = match self.known.get(&workspace) {
            Some(full) => full,
            None => {
                let asked = Instant::now();
                let count = store.unfinished_workflows(workspace, self.most).await?;
                let full = count >= i64::from(self.most);
                self.known.put(workspace, asked, full);
                full
            }
        };
        if !full {
            return Ok(());
        }
        let told = format!(
            "{} workflows of workspace {workspace} are unfinished, which is the most it may have; nothing was \
             accepted, repeat the request later",
            self.most
        );
        Err(ApiError::backlog_full(told, RETRY))
    }
}
