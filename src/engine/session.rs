//! A worker process' lease on everything it runs.
//!
//! One row, renewed on a timer whatever is in flight. A worker that could not
//! renew fences itself before the reaper may act: it starts nothing, cancels
//! its calls and discards its results.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use galley_core::ids::SessionId;
use galley_probe::{Point, Rescue, point, seen};
use galley_store::{SessionOpen, Store};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::engine::Engine;
use crate::error::EngineError;

/// An open session. Renewed until closed, lost or dropped.
#[derive(Clone, Debug)]
pub struct Session {
    inner: Arc<SessionState>,
    /// Nobody's, for a worker outside: it renews by being heard of.
    _renewing: Option<Arc<DropGuard>>,
}

#[derive(Debug)]
struct SessionState {
    id: SessionId,
    born: Instant,
    /// Milliseconds after `born` at which the last good renewal was sent.
    renewed_ms: AtomicU64,
    /// How long a worker may go on after its last good renewal.
    fence: Duration,
    running: AtomicU32,
    lost: CancellationToken,
}

impl SessionState {
    /// Asked anew at every start: a process that was stopped and continued
    /// notices before its renewal task does.
    ///
    /// Whoever finds it over makes it over. They drop a claim or a result under
    /// it; a renewal that is answered late must not keep a session alive that
    /// nobody works for.
    fn is_live(&self) -> bool {
        let renewed = self.born + Duration::from_millis(self.renewed_ms.load(Ordering::Acquire));
        if !self.lost.is_cancelled() && renewed.elapsed() >= self.fence {
            tracing::warn!(session.id = %self.id, "session {} could not be renewed in time; stopping its work", self.id);
            metrics::counter!("galley_sessions_fenced_total").increment(1);
            seen(Rescue::SessionFenced);
            self.lost.cancel();
        }
        !self.lost.is_cancelled()
    }
}

impl Session {
    /// Its id.
    pub fn id(&self) -> SessionId {
        self.inner.id
    }

    /// Whether work may start under it.
    pub fn is_live(&self) -> bool {
        self.inner.is_live()
    }

    /// Fires when the session is lost: drop everything that runs under it.
    pub fn lost(&self) -> &CancellationToken {
        &self.inner.lost
    }

    /// Tells the next renewal how many steps run.
    pub fn set_running(&self, running: u32) {
        self.inner.running.store(running, Ordering::Relaxed);
    }
}

impl Engine {
    /// Opens a session and keeps renewing it.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn open_session(&self, open: SessionOpen) -> Result<Session, EngineError> {
        let born = Instant::now();
        let id = self.store().open_session(open).await?;
        point(Point::SessionOpened);
        let config = self.config();
        let inner = Arc::new(SessionState {
            id,
            born,
            renewed_ms: AtomicU64::new(0),
            fence: config.session_ttl.saturating_sub(config.renew_every),
            running: AtomicU32::new(0),
            lost: CancellationToken::new(),
        });
        let stop = CancellationToken::new();
        tokio::spawn(renew(self.store().clone(), Arc::clone(&inner), config.renew_every, stop.clone()));
        metrics::counter!("galley_sessions_opened_total").increment(1);
        Ok(Session { inner, _renewing: Some(Arc::new(stop.drop_guard())) })
    }

    /// The session of a worker outside that was just heard of, for one claim on
    /// its behalf: nobody renews it here, and it ends by itself.
    pub(crate) fn session_outside(&self, id: SessionId) -> Session {
        let config = self.config();
        let inner = SessionState {
            id,
            born: Instant::now(),
            renewed_ms: AtomicU64::new(0),
            fence: config.session_ttl.saturating_sub(config.renew_every),
            running: AtomicU32::new(0),
            lost: CancellationToken::new(),
        };
        Session { inner: Arc::new(inner), _renewing: None }
    }

    /// Closes a session whose steps were all given back or completed.
    ///
    /// # Errors
    /// Postgres is away: the reaper closes it.
    pub async fn close_session(&self, session: &Session, reason: &'static str) -> Result<(), EngineError> {
        session.inner.lost.cancel();
        self.store().close_session(session.id(), None, reason).await?;
        Ok(())
    }
}

async fn renew(store: Store, session: Arc<SessionState>, every: Duration, stop: CancellationToken) {
    let mut tick = tokio::time::interval(every);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = stop.cancelled() => return,
            () = session.lost.cancelled() => return,
        }
        let sent = session.born.elapsed();
        let running = session.running.load(Ordering::Relaxed);
        // A hanging call must not hide that time passes.
        match tokio::time::timeout(every, store.renew_session(session.id, running)).await {
            Ok(Ok(true)) => session.renewed_ms.store(sent.as_millis() as u64, Ordering::Release),
            Ok(Ok(false)) => {
                tracing::warn!(session.id = %session.id, "session {} was closed by the reaper", session.id);
                session.lost.cancel();
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, session.id = %session.id, "could not renew session {}", session.id);
            }
            Err(_) => {
                tracing::warn!(session.id = %session.id, "renewing session {} takes too long", session.id);
            }
        }
        if !session.is_live() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_was_found_over_stays_over() {
        let hour = Duration::from_secs(3_600);
        let session = SessionState {
            id: SessionId(1),
            born: Instant::now().checked_sub(hour).unwrap_or_else(Instant::now),
            renewed_ms: AtomicU64::new(0),
            fence: Duration::from_millis(1),
            running: AtomicU32::new(0),
            lost: CancellationToken::new(),
        };
        while session.is_live() {
            std::hint::spin_loop();
        }
        // The renewal that was under way is answered after all.
        session.renewed_ms.store(2 * hour.as_millis() as u64, Ordering::Release);
        assert!(!session.is_live() && session.lost.is_cancelled(), "what was dropped is nobody's");
    }
}
