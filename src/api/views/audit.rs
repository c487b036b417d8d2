//! The audit log.

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
        }
    }
}
