//! What clients of a case asked for and were told: the half of a history that
//! no database holds.

use std::sync::Mutex;
use std::time::Instant;

use galley_chaos::history::{Ask, Op, Reply, Told};
use galley_core::ids::WorkspaceId;
use galley_engine::EngineError;
use jiff::Timestamp;

use crate::servers::sure;

/// A case's clients.
pub(crate) struct Log {
    workspace: WorkspaceId,
    began: Instant,
    /// The database's time at that moment.
    pub(crate) began_at: Timestamp,
    ops: Mutex<Vec<Op>>,
}

impl Log {
    pub(crate) fn new(workspace: WorkspaceId, began: Instant, began_at: Timestamp) -> Self {
        Self { workspace, began, began_at, ops: Mutex::default() }
    }

    /// Everything that was asked, in the order of the replies.
    pub(crate) fn ops(&self) -> Vec<Op> {
        self.ops.lock().unwrap().clone()
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    fn add(&self, actor: &str, ask: &Ask, began_ms: u64, reply: Reply) {
        let mut ops = self.ops.lock().unwrap();
        let id = ops.len() as u64;
        let (workspace, actor, ask) = (self.workspace, actor.to_owned(), ask.clone());
        let canaries = Vec::new();
        ops.push(Op { id, workspace, actor, began_ms, ended_ms: self.now(), ask, reply, canaries });
    }

    /// A process that is to die asks for it: nobody ever hears the answer.
    pub(crate) fn unheard(&self, actor: &str, ask: &Ask) {
        self.add(actor, ask, self.now(), Reply::Unknown { why: "it died".into() });
    }

    /// It was done otherwise.
    pub(crate) fn done(&self, actor: &str, ask: &Ask, told: Told) {
        self.add(actor, ask, self.now(), Reply::Done(told));
    }

    /// Asks until there is an answer; `None` when it was refused because things
    /// had moved on.
    pub(crate) async fn ask<T>(
        &self,
        actor: &str,
        ask: &Ask,
        mut call: impl AsyncFnMut() -> Result<T, EngineError>,
        tell: impl Fn(&T) -> Told,
    ) -> Option<T> {
        sure(async || {
            let began = self.now();
            let answer = call().await;
            let reply = match &answer {
                Ok(done) => Reply::Done(tell(done)),
                Err(EngineError::Conflict(why)) => Reply::Refused { status: 409, problem: why.clone() },
                Err(error) => Reply::Unknown { why: error.to_string() },
            };
            self.add(actor, ask, began, reply);
            match answer {
                Err(EngineError::Conflict(_)) => Ok(None),
                answer => answer.map(Some),
            }
        })
        .await
    }
}
