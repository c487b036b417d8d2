//! API keys, and what ends early.

use galley_core::ids::WorkspaceId;
use galley_engine::store::KeyRow;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::words::Role;

/// A key for scripts. Its secret is in no answer but the one that made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiKey {
    /// What it is known by: the part between `glk_` and the secret. The audit log
    /// calls its actions those of `key:<prefix>`.
    pub prefix: String,
    /// What people call it.
    pub name: String,
    /// What it allows.
    pub roles: Vec<String>,
    /// Who made it.
    pub created_by: String,
    /// When.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it ends to hold.
    #[schema(format = DateTime)]
    pub expires_at: String,
    /// When it was last used, to the hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub last_used_at: Option<String>,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub revoked_at: Option<String>,
}

impl From<KeyRow> for ApiKey {
    fn from(row: KeyRow) -> Self {
        Self {
            prefix: row.prefix,
            name: row.name,
            roles: row.roles,
            created_by: row.created_by,
            created_at: row.created_at,
            expires_at: row.expires_at,
            last_used_at: row.used_at,
            revoked_at: row.revoked_at,
        }
    }
}

/// A request for a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateKey {
    /// The workspace it opens; the caller's own when absent. Another one takes
    /// a token of the deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>)]
    pub workspace_id: Option<WorkspaceId>,
    /// What people call it. 1-100 bytes.
    pub name: String,
    /// What it allows; at least one, and none that its maker lacks.
    pub roles: Vec<Role>,
    /// How long it holds, seconds: at most what the deployment allows (365 days
    /// unless it says otherwise), 90 days when absent.
    #[serde(default = "ninety_days")]
    #[schema(minimum = 1, maximum = 31536000, default = 7776000)]
    pub ttl_seconds: u64,
}

fn ninety_days() -> u64 {
    90 * 86_400
}

/// A key that was made just now.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreatedKey {
    /// Goes into `Authorization: Bearer …`. It is shown once: only its hash is
    /// stored.
    pub secret: String,
    /// The key.
    pub key: ApiKey,
}

impl std::fmt::Debug for CreatedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedKey").field("key", &self.key).finish_non_exhaustive()
    }
}

/// A request to end tokens early: one by its id, or all that a subject was
/// issued until now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RevokeTokens {
    /// The workspace they open; the caller's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>)]
    pub workspace_id: Option<WorkspaceId>,
    /// A token's id: its `jti`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// A subject. Those of its tokens that are issued later hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
}

/// What was revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevokedTokens {
    /// The workspace.
    #[schema(value_type = Uuid)]
    pub workspace_id: WorkspaceId,
    /// The token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// After how many seconds, at most, every API server knows.
    pub within_seconds: u64,
}
