//! The audit log.

use galley_core::chain::Checkpoint;
use galley_core::ids::WorkspaceId;
use galley_engine::store::AuditRow;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// Something a person, key or scheduler did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditLine {
    /// Its number; it grows.
    pub id: i64,
    /// When.
    #[schema(format = DateTime)]
    pub at: String,
    /// Who.
    pub actor: String,
    /// What: `workflow.cancel`, `queue.pause`, …
    pub action: String,
    /// To what.
    pub object: String,
    /// More, depending on the action.
    pub detail: Option<Value>,
    /// The request that asked for it: its `X-Request-Id`.
    pub request_id: Option<String>,
    /// The hash of what was there before, where it changed something that has a
    /// content.
    pub before_hash: Option<String>,
    /// The hash of what is there since.
    pub after_hash: Option<String>,
}

impl From<AuditRow> for AuditLine {
    fn from(row: AuditRow) -> Self {
        Self {
            id: row.id,
            at: row.at,
            actor: row.actor,
            action: row.action,
            object: row.object,
            // It was JSON when it was stored; Postgres checked.
            detail: row.detail.and_then(|json| serde_json::from_str(&json).ok()),
            request_id: row.request_id,
            before_hash: row.hashes.before,
            after_hash: row.hashes.after,
        }
    }
}

/// Where a workspace's audit chain ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditCheckpoint {
    /// Whose chain.
    #[schema(value_type = Uuid)]
    pub workspace_id: WorkspaceId,
    /// Its last place; 0 when there is none.
    pub seq: u64,
    /// That place's hash.
    pub hash: String,
    /// When.
    #[schema(format = DateTime)]
    pub at: String,
    /// The Ed25519 key it is signed with; null: the deployment has none.
    pub public_key: Option<String>,
    /// The signature.
    pub signature: Option<String>,
}

impl From<Checkpoint> for AuditCheckpoint {
    fn from(checkpoint: Checkpoint) -> Self {
        let Checkpoint { workspace_id, seq, hash, at, public_key, signature } = checkpoint;
        Self { workspace_id, seq, hash, at: at.to_string(), public_key, signature }
    }
}
