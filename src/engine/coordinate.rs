//! What the coordinator of agents asks for besides money: what is known of
//! models, and answers that were kept.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use galley_core::choice::{Observed, Weights};
use galley_core::ids::{AgentType, WorkspaceId};
use galley_store::{KeptRow, KnownModel, Lesson, Response, Savings};

use crate::cache::fresh;
use crate::claim::Claimed;
use crate::engine::Engine;
use crate::error::EngineError;

/// How old what is known of models may be.
const MEMORY: Duration = Duration::from_secs(2);

/// Runs that wait to be learned from. More than this are forgotten: knowledge
/// is worth less than memory.
const MOST_LESSONS: usize = 10_000;

/// Kept answers forgotten per round.
const FORGET_BATCH: i64 = 1_000;

/// What one process saw of models and has not written down yet.
#[derive(Debug, Default)]
pub(crate) struct Lessons(Mutex<Vec<Lesson>>);

impl Lessons {
    fn add(&self, lesson: Lesson) {
        let mut lessons = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lessons.len() < MOST_LESSONS {
            lessons.push(lesson);
        }
    }

    fn take(&self) -> Vec<Lesson> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Engine {
    /// Notes what was seen of a model, at the workspace's own provider or at
    /// the deployment's; written by [`Engine::write_lessons`].
    pub fn learn(&self, claim: &Claimed, model: &str, own: bool, seen: Observed) {
        self.lessons().add(Lesson {
            workspace: claim.ticket.workspace,
            agent: claim.agent.to_string(),
            model: model.to_owned(),
            own,
            seen,
        });
    }

    /// Writes down what was noted; answers how much. What cannot be written is
    /// forgotten: it is only knowledge.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn write_lessons(&self) -> Result<usize, EngineError> {
        let lessons = self.lessons().take();
        let learned = lessons.len();
        if learned > 0 {
            self.store().learn(lessons).await?;
        }
        Ok(learned)
    }

    /// What is known of an agent's models, as it was at most two seconds ago.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn known_models(
        &self,
        workspace: WorkspaceId,
        agent: &AgentType,
    ) -> Result<Arc<Vec<KnownModel>>, EngineError> {
        let key = (workspace, agent.clone());
        let read = async { Ok(Arc::new(self.store().known_models(workspace, agent.as_str()).await?)) };
        fresh(&self.caches().models, &key, MEMORY, read).await
    }

    /// What matters how much to a workspace when a model is chosen.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn model_weights(&self, workspace: WorkspaceId) -> Result<Weights, EngineError> {
        Ok(self.recent_policy(workspace).await?.config.model_weights)
    }

    /// Finds a kept answer, or takes on to ask for so long. Workspaces that seal
    /// their outputs keep none.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn look_up(
        &self,
        claim: &Claimed,
        key: [u8; 32],
        lease: Duration,
    ) -> Result<Response, EngineError> {
        let lease_ms = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
        let (workspace, asker) = (claim.ticket.workspace, claim.token.nonce.0);
        // Kept answers are in the clear: there are none of such a workspace.
        if self.seals(workspace).await? {
            return Ok(Response::Yours);
        }
        let agent = claim.agent.to_string();
        let found = self.store().look_up_response(workspace, key, agent, asker, lease_ms).await?;
        let word = match &found {
            Response::Kept(kept) => {
                metrics::counter!("galley_saved_micros_total").increment(kept.cost_micros);
                "hit"
            }
            Response::Yours => "miss",
            Response::Busy => "busy",
        };
        metrics::counter!("galley_responses_total", "agent" => claim.agent.to_string(), "found" => word)
            .increment(1);
        Ok(found)
    }

    /// Keeps an answer.
    ///
    /// # Errors
    /// Postgres is away, or cannot store it.
    pub async fn keep(
        &self,
        claim: &Claimed,
        key: [u8; 32],
        kept: KeptRow,
        ttl: Duration,
    ) -> Result<(), EngineError> {
        let (workspace, asker) = (claim.ticket.workspace, claim.token.nonce.0);
        if self.seals(workspace).await? {
            return Ok(());
        }
        Ok(self.store().keep_response(workspace, key, asker, kept, ttl.as_secs()).await?)
    }

    /// Gives up asking.
    ///
    /// # Errors
    /// Postgres is away: the lease ends by itself.
    pub async fn let_go(&self, claim: &Claimed, key: [u8; 32]) -> Result<(), EngineError> {
        Ok(self.store().let_response_go(claim.ticket.workspace, key, claim.token.nonce.0).await?)
    }

    /// What a workspace's kept answers were worth.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn savings(&self, workspace: WorkspaceId) -> Result<Savings, EngineError> {
        Ok(self.store().savings(workspace).await?)
    }
}

/// One round: kept answers whose time is over are forgotten. Answers how many.
///
/// # Errors
/// Postgres is away.
pub async fn forget_responses(engine: &Engine) -> Result<u64, EngineError> {
    Ok(engine.store().forget_responses(FORGET_BATCH).await?)
}
