//! How well a workflow's agents worked together, and where its time went.

use galley_core::collaboration as core;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a stretch of a step's time was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SpanKind {
    /// The attempt that succeeded, running: the only useful time.
    Run,
    /// The same, of a later round: it does over what an earlier step did
    /// (`content_2` after `content`, of the same agent).
    Rework,
    /// A failed attempt, or the time from one to the next. Of an attempt whose
    /// worker died, everything until that was noticed.
    Retry,
    /// Until a person answered: an approval, a go, a dead letter, a post in
    /// doubt.
    People,
    /// Until the post's time came.
    Slot,
    /// Until a budget had room for its next call or post.
    Money,
    /// It runs and is not over; since when is on no record.
    Open,
    /// It could have run, and nobody ran it.
    Queue,
}

impl SpanKind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Run,
        Self::Rework,
        Self::Retry,
        Self::People,
        Self::Slot,
        Self::Money,
        Self::Open,
        Self::Queue,
    ];
}

impl From<core::SpanKind> for SpanKind {
    fn from(kind: core::SpanKind) -> Self {
        match kind {
            core::SpanKind::Run => Self::Run,
            core::SpanKind::Rework => Self::Rework,
            core::SpanKind::Retry => Self::Retry,
            core::SpanKind::People => Self::People,
            core::SpanKind::Slot => Self::Slot,
            core::SpanKind::Money => Self::Money,
            core::SpanKind::Open => Self::Open,
            core::SpanKind::Queue => Self::Queue,
        }
    }
}

/// A stretch of a step's time, in milliseconds since the workflow was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Span {
    /// What it was.
    pub kind: SpanKind,
    /// Its begin.
    pub from_ms: u64,
    /// Its end.
    pub to_ms: u64,
}

impl From<core::Span> for Span {
    fn from(span: core::Span) -> Self {
        let core::Span { kind, from_ms, to_ms } = span;
        Self { kind: kind.into(), from_ms, to_ms }
    }
}

/// Useful agent time on the critical path ÷ wall time, and what the rest was
/// lost to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Collaboration {
    /// `usefulMs` ÷ `wallMs`, 0 to 1.
    pub efficiency: f64,
    /// From accept to the end, milliseconds.
    pub wall_ms: u64,
    /// Useful agent time on the critical path, milliseconds.
    pub useful_ms: u64,
    /// What the rest was lost to, largest first. Together with `usefulMs`
    /// exactly `wallMs`.
    pub losses: Vec<Loss>,
    /// The steps that the end waited for, in order: each could begin when the
    /// one before it was over.
    pub critical_path: Vec<CriticalStep>,
}

/// Time on the critical path in which no agent did anything useful.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Loss {
    /// To what.
    pub kind: SpanKind,
    /// How much, milliseconds.
    pub ms: u64,
}

/// A step's place on the critical path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CriticalStep {
    /// The step's name.
    pub step: String,
    /// When it could begin, milliseconds since accept.
    pub from_ms: u64,
    /// When it was over.
    pub to_ms: u64,
    /// Useful agent time in between.
    pub useful_ms: u64,
}
