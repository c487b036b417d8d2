//! Why something does not move.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The answer to "why".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Why {
    /// What was asked about.
    pub id: String,
    /// What it waits for, and what to do: one sentence.
    pub sentence: String,
    /// Whether somebody has to do something.
    pub needs_action: bool,
}
