//! Whether the process lives, and whether it can work.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The process answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// Always `ok`: who is not, does not answer.
    pub status: String,
    /// The release it runs.
    pub release: String,
}

/// Whether requests can be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Readiness {
    /// All is well.
    Ready,
    /// Requests are served and workflows accepted, but something is away.
    Degraded,
    /// Requests will fail: send them elsewhere.
    NotReady,
}

/// What a request would need, and whether it is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ready {
    /// The sum of the checks.
    pub status: Readiness,
    /// Postgres answers and its schema is this release's. Essential.
    pub postgres: Check,
    /// Redis answers. Without it workflows are accepted and start later.
    pub redis: Check,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// Whether it passed.
    pub ok: bool,
    /// What it means and what to do, if not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}
