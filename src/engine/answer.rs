//! Answers to questions: approve, reject, and time running out. Each moves the
//! step, the question and the post in one transaction, bound to the bytes that
//! were shown.

use galley_core::decide::Event;
use galley_core::ids::{ApprovalId, WorkspaceId};
use galley_probe::{Bug, Point, Rescue, planted, point, seen};
use galley_store::{ApprovalRow, PostOp, StoreError};

use crate::engine::Engine;
use crate::error::EngineError;
use crate::transition::{Command, PostRecord, Record, Verdict};

/// Questions expired per round.
const BATCH: i64 = 100;

impl Engine {
    /// A question.
    ///
    /// # Errors
    /// [`EngineError::NotFound`].
    pub async fn approval(&self, workspace: WorkspaceId, id: ApprovalId) -> Result<ApprovalRow, EngineError> {
        let approval = self.store().approval(workspace, id).await?;
        approval.ok_or_else(|| EngineError::NotFound { kind: "approval", id: id.to_string() })
    }

    /// A person says yes to exactly the bytes they were shown.
    ///
    /// # Errors
    /// [`EngineError::NotFound`]; [`EngineError::Conflict`] when it was answered
    /// already, or is about other bytes than `seen_hash`.
    pub async fn approve(
        &self,
        workspace: WorkspaceId,
        id: ApprovalId,
        seen_hash: Option<&str>,
        note: Option<String>,
        actor: &str,
    ) -> Result<ApprovalRow, EngineError> {
        let asked = self.open_question(workspace, id, seen_hash).await?;
        let ops = vec![answer(&asked, "approved", actor, note)];
        let event = Event::Approved { step: asked.step };
        let answered = self.answer(&asked, event, ops, "approval.approve", actor).await;
        if matches!(answered, Err(EngineError::Conflict(_))) {
            self.second_pair_of_eyes(&asked, actor).await?;
        }
        answered?;
        self.approval(workspace, id).await
    }

    /// A person says no: a post is rejected, a step that waited for its go
    /// fails.
    ///
    /// # Errors
    /// As [`Engine::approve`].
    pub async fn reject(
        &self,
        workspace: WorkspaceId,
        id: ApprovalId,
        note: Option<String>,
        actor: &str,
    ) -> Result<ApprovalRow, EngineError> {
        let asked = self.open_question(workspace, id, None).await?;
        let mut ops = vec![answer(&asked, "rejected", actor, note.clone())];
        let event = match asked.post {
            Some((post, _)) => {
                let why = note.map(|note| format!(": {note}")).unwrap_or_default();
                let reason = format!("rejected by {actor}{why}");
                ops.push(PostOp::End { post, state: "rejected", reason });
                Event::Withdrawn { step: asked.step }
            }
            None => Event::Refused { step: asked.step },
        };
        self.answer(&asked, event, ops, "approval.reject", actor).await?;
        self.approval(workspace, id).await
    }

    /// Says so if an answer was refused because the policy asks for four eyes.
    /// The transaction of the answer decides; this finds the words.
    async fn second_pair_of_eyes(&self, asked: &ApprovalRow, actor: &str) -> Result<(), EngineError> {
        if !self.policy(asked.workspace).await?.config.four_eyes {
            return Ok(());
        }
        let id = asked.id;
        let refuse = |why: &str| {
            Err(EngineError::Conflict(format!(
                "approval {id} needs a second pair of eyes (the policy's fourEyes): {why}; somebody else has to approve it"
            )))
        };
        if actor.starts_with("key:") {
            return refuse("a key is nobody's eyes");
        }
        let workflow = self.store().workflow(asked.key()).await?;
        if workflow.is_some_and(|workflow| workflow.created_by == actor) {
            return refuse(&format!("{actor} submitted the workflow"));
        }
        if let Some((post, revision)) = asked.post {
            let revisions = self.store().revisions(asked.workspace, post).await?;
            if revisions.iter().any(|row| row.revision == revision && row.author == actor) {
                return refuse(&format!("{actor} wrote revision {revision}"));
            }
        }
        Ok(())
    }

    async fn open_question(
        &self,
        workspace: WorkspaceId,
        id: ApprovalId,
        seen_hash: Option<&str>,
    ) -> Result<ApprovalRow, EngineError> {
        let asked = self.approval(workspace, id).await?;
        if asked.status != "pending" {
            let by = asked.decided_by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
            return Err(EngineError::Conflict(match asked.status.as_str() {
                "void" => format!(
                    "approval {id} is void: what it was about was changed or is over; `galley approval list` shows what is open"
                ),
                status => format!("approval {id} is {status} already{by}"),
            }));
        }
        if seen_hash.is_some_and(|seen| seen != asked.content_hash) {
            // Without its hash: who has not looked shall not be able to say yes.
            return Err(EngineError::Conflict(format!(
                "approval {id} is about other content than you saw; look at it again"
            )));
        }
        Ok(asked)
    }

    async fn answer(
        &self,
        asked: &ApprovalRow,
        event: Event,
        ops: Vec<PostOp>,
        action: &'static str,
        actor: &str,
    ) -> Result<(), EngineError> {
        let object = match asked.post {
            Some((post, revision)) => format!("post {post} revision {revision}"),
            None => format!("task {}.{}", asked.workflow, asked.step_name),
        };
        let detail = serde_json::json!({ "approval": asked.id, "contentHash": asked.content_hash });
        let record = PostRecord {
            ops,
            audit: Some((actor.to_owned(), action, object, Some(detail.to_string()))),
            ..PostRecord::default()
        };
        let command = Command { key: asked.key(), event, record: Record::Post(Box::new(record)) };
        point(Point::AnswerRead);
        let applied = self.apply(&[command]).await?;
        point(Point::AnswerCommitted);
        self.push(&[], &applied).await;
        match &applied.verdicts[0] {
            Verdict::Done => Ok(()),
            Verdict::Unstorable(why) => Err(EngineError::invalid("note", format!("cannot be stored: {why}"))),
            // Somebody answered, edited or cancelled at the same moment.
            Verdict::Overtaken(_) | Verdict::Refused(_) | Verdict::Gone => {
                seen(Rescue::AnswerLost);
                Err(EngineError::Conflict(format!(
                    "approval {} was answered or became void at the same moment; look again",
                    asked.id
                )))
            }
        }
    }
}

fn answer(asked: &ApprovalRow, status: &'static str, actor: &str, note: Option<String>) -> PostOp {
    PostOp::Answer {
        approval: asked.id,
        content_hash: asked.content_hash.clone(),
        status,
        actor: actor.to_owned(),
        note,
    }
}

/// Ends questions that nobody answered in time; answers how many were looked
/// at. Several schedulers may meet: one wins.
///
/// # Errors
/// Postgres is away.
pub async fn expire_questions(engine: &Engine) -> Result<usize, StoreError> {
    if planted(Bug::ExpiredApprovalCounts) {
        return Ok(0);
    }
    let late = engine.store().expired_approvals(BATCH).await?;
    if !late.is_empty() {
        point(Point::ExpireRead);
    }
    let mut ended = 0;
    for asked in &late {
        let mut ops = vec![answer(asked, "expired", "scheduler", None)];
        let event = match asked.post {
            Some((post, _)) => {
                let reason = "nobody approved it in time".to_owned();
                ops.push(PostOp::End { post, state: "expired", reason });
                Event::Withdrawn { step: asked.step }
            }
            None => Event::Refused { step: asked.step },
        };
        match engine.answer(asked, event, ops, "approval.expire", "scheduler").await {
            Ok(()) => {
                seen(Rescue::ApprovalExpired);
                ended += 1;
            }
            Err(EngineError::StoreUnavailable(cause)) => {
                tracing::debug!(%cause, "expiring approvals waits for Postgres");
                break;
            }
            Err(error) => tracing::debug!(%error, "approval {} was answered at the last moment", asked.id),
        }
    }
    metrics::counter!("galley_approvals_expired_total").increment(ended as u64);
    Ok(ended)
}
