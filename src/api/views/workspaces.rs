//! Workspaces and the tokens that open them.

use galley_core::ids::{AgentType, WorkspaceId};
use galley_engine::store::WorkspaceRow;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::words::Role;

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Workspace {
    /// Its id.
    #[schema(value_type = Uuid)]
    pub id: WorkspaceId,
    /// Its name, unique in the deployment.
    pub name: String,
    /// Its share of the fair scheduler.
    pub weight: u32,
    /// When it was made.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// Days after which it forgets what is finished; null: never.
    pub retain_days: Option<u32>,
    /// Since when its new prompts and outputs are encrypted at rest; absent:
    /// they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub encrypted_since: Option<String>,
}

impl From<WorkspaceRow> for Workspace {
    fn from(row: WorkspaceRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            weight: row.weight.unsigned_abs(),
            created_at: row.created_at,
            retain_days: row.retain_days.map(i32::unsigned_abs),
            encrypted_since: row.sealed_since,
        }
    }
}

/// A request to make a workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateWorkspace {
    /// 1-64 of `a-z`, `0-9`, `-`, `_` and `.`.
    pub name: String,
    /// Its share of the fair scheduler, 1 to 1000.
    #[serde(default = "one")]
    #[schema(minimum = 1, maximum = 1000, default = 1)]
    pub weight: u32,
}

fn one() -> u32 {
    1
}

/// A request for a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IssueToken {
    /// The workspace it opens; the caller's own when absent. Another one takes
    /// a token of the deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>)]
    pub workspace_id: Option<WorkspaceId>,
    /// Whom it names: what audit lines will say. 1-200 bytes.
    pub subject: String,
    /// What it allows; at least one, but for a worker's token.
    #[serde(default)]
    pub roles: Vec<Role>,
    /// For a worker that speaks to the gateway: the agent types it may serve, in
    /// all workspaces. Such a token opens nothing in this API. Only a token of
    /// the deployment issues it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>, max_items = 32)]
    pub agents: Vec<AgentType>,
    /// How long it holds, seconds: at most what the deployment allows (365 days unless
    /// it says otherwise), one hour when absent.
    #[serde(default = "one_hour")]
    #[schema(minimum = 1, maximum = 31536000, default = 3600)]
    pub ttl_seconds: u64,
    /// Whether it is for the whole deployment, not for its workspace alone;
    /// only such a token issues another one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deployment: bool,
}

fn one_hour() -> u64 {
    3_600
}

/// A token. It is shown once and stored nowhere.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct IssuedToken {
    /// Goes into `Authorization: Bearer …`.
    pub token: String,
    /// Its id: what it is revoked by.
    pub id: String,
    /// When it ends to hold.
    #[schema(format = DateTime)]
    pub expires_at: String,
}

impl std::fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuedToken")
            .field("id", &self.id)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}
