//! What somebody was not allowed to do, in the audit log of their workspace:
//! so many a minute that nobody fills the disk by asking.

use std::sync::Arc;

use galley_engine::queue::{Bucket, MemoryRates};
use galley_engine::store::{AuditWrite, Hashes, Store};
use serde_json::json;

use crate::authorize::Caller;

/// Most lines per workspace, minute and API server.
const PER_MINUTE: u32 = 60;

/// Writes denials down. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Denials {
    store: Store,
    written: Arc<MemoryRates>,
}

impl Denials {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, written: Arc::default() }
    }

    /// Writes one down, behind the answer. The path is cut: it is the caller's.
    pub(crate) fn tell(&self, caller: &Caller, method: &str, path: &str) {
        let bucket = Bucket { name: "denials".into(), per_minute: PER_MINUTE };
        let levels = self.written.take_now(caller.workspace(), &[bucket]);
        if levels.iter().any(|level| !level.retry_in.is_zero()) {
            metrics::counter!("galley_denials_unwritten_total").increment(1);
            return;
        }
        let path: String = path.chars().filter(|c| !c.is_control()).take(200).collect();
        let line = AuditWrite {
            workspace: caller.workspace(),
            key: None,
            actor: caller.subject().to_owned(),
            action: "denied",
            object: format!("{method} {path}"),
            detail: Some(json!({ "roles": caller.roles() }).to_string()),
            hashes: Hashes::default(),
        };
        let store = self.store.clone();
        tokio::spawn(async move {
            if let Err(error) = store.audit(line).await {
                tracing::warn!(%error, "a denial is missing in the audit log");
            }
        });
    }
}
