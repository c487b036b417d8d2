//! Follows one workflow for one client: looks at every change, and has whoever
//! tells something about it tell what is new.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::HeaderName;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::{Stream, stream};
use galley_core::ids::WorkflowKey;
use galley_engine::{Backoff, Engine, EngineError, WorkflowView};
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::ApiState;
use crate::error::ApiError;
use crate::extract::header;

/// The number a client resumes behind.
const LAST_EVENT_ID: &str = "Last-Event-ID";

/// How often a silent stream shows that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Behind which change a client resumes; 0: it has seen none.
///
/// # Errors
/// It is no number that an event can have.
pub(crate) fn resume_behind(headers: &HeaderMap) -> Result<u64, ApiError> {
    match header(headers, LAST_EVENT_ID)? {
        None | Some("") => Ok(0),
        Some(text) => match text.parse() {
            Ok(number) if number <= i64::MAX.unsigned_abs() => Ok(number),
            _ => Err(ApiError::malformed(LAST_EVENT_ID, "the `id` of an event of this workflow: a number")),
        },
    }
}

/// One event.
#[derive(Debug)]
pub(crate) struct Tell {
    name: &'static str,
    /// Set on the last event of a change number, so that resuming behind it
    /// skips nothing of it.
    id: Option<u64>,
    json: String,
}

impl Tell {
    pub(crate) fn new(name: &'static str, id: Option<u64>, what: &impl Serialize) -> Self {
        // Plain fields: this cannot fail.
        Self { name, id, json: serde_json::to_string(what).unwrap_or_default() }
    }

    fn event(self) -> Event {
        let event = Event::default().event(self.name).data(self.json);
        match self.id {
            Some(id) => event.id(id.to_string()),
            None => event,
        }
    }
}

/// Tells something about a workflow.
pub(crate) trait Teller: Send + 'static {
    /// What is told to somebody who has seen everything up to change `since`,
    /// in the order of changes.
    fn tell(
        &mut self,
        engine: &Engine,
        view: &WorkflowView,
        since: u64,
    ) -> impl Future<Output = Result<Vec<Tell>, EngineError>> + Send;
}

/// One client's place in one workflow.
pub(crate) struct Follower<T> {
    engine: Engine,
    key: WorkflowKey,
    changes: watch::Receiver<u64>,
    closing: CancellationToken,
    teller: T,
    /// The last change that was told.
    last: u64,
    ready: VecDeque<Event>,
    /// Nothing comes behind what is ready.
    over: bool,
}

impl<T: Teller> Follower<T> {
    /// Streams what `teller` tells, to a client that has seen everything up to
    /// `last`. The first look always tells where the workflow stands, even when
    /// nothing is new: a client that resumes at the end hears that it is the
    /// end.
    ///
    /// # Errors
    /// There is no such workflow.
    pub(crate) async fn start(
        state: &ApiState,
        key: WorkflowKey,
        last: u64,
        teller: T,
    ) -> Result<impl IntoResponse + use<T>, ApiError> {
        // Watched before it is loaded: no change falls between.
        let changes = state.hub.watch(key);
        let first = state.engine.workflow(key).await?;
        let mut follower = Self {
            engine: state.engine.clone(),
            key,
            changes,
            closing: state.closing.clone(),
            teller,
            last,
            ready: VecDeque::new(),
            over: false,
        };
        follower.tell(&first).await?;
        let events = Sse::new(follower.events());
        // Proxies that buffer would hold a live stream back.
        let unbuffered = [(HeaderName::from_static("x-accel-buffering"), "no")];
        Ok((unbuffered, events.keep_alive(KeepAlive::new().interval(KEEP_ALIVE).text("alive"))))
    }

    async fn tell(&mut self, view: &WorkflowView) -> Result<(), EngineError> {
        // A number from the future comes from before a restore: tell it all.
        let since = if self.last > view.seq { 0 } else { self.last };
        let told = self.teller.tell(&self.engine, view, since).await?;
        self.ready.extend(told.into_iter().map(Tell::event));
        self.last = view.seq;
        self.over = view.state.is_final();
        Ok(())
    }

    fn events(self) -> impl Stream<Item = Result<Event, Infallible>> {
        stream::unfold(self, |mut follower| async move {
            while follower.ready.is_empty() {
                if follower.over || !follower.look_again().await {
                    return None;
                }
            }
            let event = follower.ready.pop_front()?;
            Some((Ok(event), follower))
        })
    }

    /// Waits for a change and tells it; `false` when the stream has to end
    /// before its workflow does.
    async fn look_again(&mut self) -> bool {
        tokio::select! {
            changed = self.changes.changed() => if changed.is_err() { return false },
            () = self.closing.cancelled() => return false,
        }
        if *self.changes.borrow_and_update() == self.last {
            return true;
        }
        let mut backoff = Backoff::quick();
        loop {
            match self.look().await {
                Ok(()) => return true,
                Err(EngineError::StoreUnavailable(_)) => {
                    tokio::select! {
                        () = backoff.wait() => {}
                        () = self.closing.cancelled() => return false,
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, workflow.id = %self.key.workflow, "an event stream ends early");
                    return false;
                }
            }
        }
    }

    async fn look(&mut self) -> Result<(), EngineError> {
        let view = self.engine.workflow(self.key).await?;
        if view.seq != self.last {
            self.tell(&view).await?;
        }
        Ok(())
    }
}
