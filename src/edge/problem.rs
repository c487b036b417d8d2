//! Errors as RFC 9457 `application/problem+json`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What went wrong, and what to do next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// A stable name of the kind of problem: `urn:galley:problem:not-found`.
    #[serde(rename = "type")]
    #[schema(example = "urn:galley:problem:not-found")]
    pub kind: String,
    /// The kind in a few words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What failed, for which id, and what to do next.
    pub detail: String,
    /// The request's id; the server's log lines carry it.
    pub instance: String,
    /// Each thing that is wrong with the request, with its place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<ProblemAt>,
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProblemAt {
    /// The place: a path into the JSON, a query parameter or a header.
    #[schema(example = "definition.steps[2].needs[0]")]
    pub at: String,
    /// What is wrong and what to do about it.
    pub problem: String,
}
