//! Workers: the processes that run steps.

use galley_engine::store::SessionRow;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A worker process' session.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Worker {
    /// The session's id.
    pub session: i64,
    /// The worker's name.
    pub name: String,
    /// The machine it runs on.
    pub host: String,
    /// Its process id there.
    pub pid: u32,
    /// The release it runs.
    pub release: String,
    /// The agent types it serves.
    pub agents: Vec<String>,
    /// Steps it runs at once.
    pub concurrency: u32,
    /// Steps it ran when it last renewed.
    pub running: i32,
    /// When it began.
    #[schema(format = DateTime)]
    pub started_at: String,
    /// When it last renewed.
    #[schema(format = DateTime)]
    pub renewed_at: String,
    /// Milliseconds since it last renewed.
    pub silent_ms: i64,
    /// When its session was closed; absent while it lives.
    #[schema(format = DateTime)]
    pub closed_at: Option<String>,
    /// Why it was closed.
    pub close_reason: Option<String>,
}

impl From<SessionRow> for Worker {
    fn from(row: SessionRow) -> Self {
        Self {
            session: row.id.0,
            name: row.opened.worker,
            host: row.opened.host,
            pid: row.opened.pid,
            release: row.opened.release,
            agents: row.opened.agents,
            concurrency: row.opened.concurrency,
            running: row.running,
            started_at: row.started_at,
            renewed_at: row.renewed_at,
            silent_ms: row.silent_ms,
            closed_at: row.closed_at,
            close_reason: row.close_reason,
        }
    }
}
