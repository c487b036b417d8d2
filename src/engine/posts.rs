//! What people do to posts: look, edit, reschedule, reject, resolve. Each is a
//! compare-and-set on the run and on the post: of two that meet, or of one that
//! meets an intent, exactly one wins.

use galley_core::automation::Gate;
use galley_core::decide::{Event, Refusal, Settlement};
use galley_core::ids::SessionId;
use galley_core::ids::{AgentType, ApprovalId, PostId, WorkflowKey, WorkspaceId};
use galley_core::publish::{PUBLISHER, PostContent, PostState};
use galley_core::report::Usage;
use galley_probe::{Bug, Point, Rescue, planted, point, seen};
use galley_store::{
    ApprovalFilter, ApprovalRow, AttemptKey, Hashes, PostOp, PostRow, PublicationEventRow, PublicationRow,
    ResultWrite, RevisionRow,
};
use serde_json::json;

use crate::engine::Engine;
use crate::error::EngineError;
use crate::paid;
use crate::publish::{ask, parsed, settings};
use crate::transition::{Command, PostRecord, Record, Verdict};

/// A post with everything about it: its receipt.
#[derive(Clone, Debug)]
pub struct PostView {
    /// The post.
    pub post: PostRow,
    /// Its revisions, oldest first.
    pub revisions: Vec<RevisionRow>,
    /// The questions about it, oldest first.
    pub approvals: Vec<ApprovalRow>,
    /// Its publication, if there was an intent.
    pub publication: Option<PublicationRow>,
    /// What happened to that, oldest first.
    pub events: Vec<PublicationEventRow>,
}

/// What an edit did.
#[derive(Clone, Debug)]
pub struct Changed {
    /// The post now.
    pub post: PostRow,
    /// The question somebody has to answer now, if any.
    pub question: Option<ApprovalId>,
}

/// What a person found out about a post in doubt.
#[derive(Clone, Debug)]
pub enum Resolution {
    /// It is there.
    Published {
        /// The platform's id, if they know it.
        remote_id: Option<String>,
        /// Where it is, if they know it.
        link: Option<String>,
    },
    /// It is not there: send it.
    NotThere,
    /// It is not there, and shall not be.
    GivenUp,
}

impl Engine {
    /// A post.
    ///
    /// # Errors
    /// [`EngineError::NotFound`].
    pub async fn post(&self, workspace: WorkspaceId, id: PostId) -> Result<PostRow, EngineError> {
        let post = self.store().post(workspace, id).await?;
        post.ok_or_else(|| EngineError::NotFound { kind: "post", id: id.to_string() })
    }

    /// A post with its receipt.
    ///
    /// # Errors
    /// [`EngineError::NotFound`].
    pub async fn post_view(&self, workspace: WorkspaceId, id: PostId) -> Result<PostView, EngineError> {
        let post = self.post(workspace, id).await?;
        let revisions = self.store().revisions(workspace, id).await?;
        let filter = ApprovalFilter { post: Some(id), ..ApprovalFilter::default() };
        let approvals = self.store().list_approvals(workspace, &filter, None, 1_000).await?;
        let publication = self.store().publication(workspace, id).await?;
        let events = match &publication {
            Some(publication) => self.store().publication_events(workspace, &publication.effect_key).await?,
            None => Vec::new(),
        };
        Ok(PostView { post, revisions, approvals, publication, events })
    }

    /// A new revision. It voids every approval; unless `approve` is set,
    /// somebody has to approve it where the policy asks for that.
    ///
    /// # Errors
    /// [`EngineError::Invalid`]; [`EngineError::Conflict`] when the post may be
    /// out, is over, or was changed meanwhile (`seen_revision`).
    pub async fn edit_post(
        &self,
        workspace: WorkspaceId,
        id: PostId,
        content: &PostContent,
        seen_revision: Option<i32>,
        approve: bool,
        actor: &str,
    ) -> Result<Changed, EngineError> {
        let post = self.post(workspace, id).await?;
        changeable(&post)?;
        if seen_revision.is_some_and(|seen| seen != post.revision) {
            return Err(EngineError::Conflict(format!(
                "post {id} is at revision {}; look at it and try again",
                post.revision
            )));
        }
        if content.text.trim().is_empty() {
            return Err(EngineError::invalid("text", "a post needs a text"));
        }
        let content_hash = content.hash();
        if content_hash == post.content_hash && !approve {
            return Err(EngineError::Conflict(format!("post {id} says that already; nothing was changed")));
        }
        let account = self.store().account_by_id(workspace, post.account).await?;
        if let (Some(platforms), Some(account)) = (&self.config().platforms, &account) {
            let settings = settings(account);
            if let Err(why) = platforms.check_post(&account.platform, &settings, content) {
                let bare = PostContent { link: None, ..content.clone() };
                let bare_is_taken = platforms.check_post(&account.platform, &settings, &bare).is_ok();
                let at = if bare_is_taken { "link" } else { "text" };
                return Err(EngineError::invalid(
                    at,
                    format!("{} does not take it: {why}", account.platform),
                ));
            }
        }
        let policy = self.policy(workspace).await?;
        let publisher = AgentType::new(PUBLISHER)?;
        let gate = policy.config.gate(&publisher, &post.platform, post.held, None);
        if approve && policy.config.four_eyes {
            return Err(EngineError::Conflict(format!(
                "post {id}: the policy asks for four eyes (fourEyes), so whoever edits it cannot approve it along with \
                 the edit; edit it, and somebody else approves"
            )));
        }
        let edited =
            PostRow { revision: post.revision + 1, content_hash: content_hash.clone(), ..post.clone() };
        let mut ops = vec![
            PostOp::GuardPost { post: id, version: post.version },
            PostOp::Void,
            PostOp::Revise {
                post: id,
                revision: edited.revision,
                content: serde_json::to_string(content)
                    .map_err(|error| EngineError::Internal(format!("a post does not serialize: {error}")))?,
                content_hash: content_hash.clone(),
                author: actor.to_owned(),
            },
        ];
        let why = match gate {
            _ if planted(Bug::ApprovalNotBound) => None,
            // A dead letter asks when it is retried.
            _ if post.state == PostState::Failed.word() => None,
            Gate::NeedsApproval(why) => Some(why),
            // A post that is approved along with its edit needs a question to
            // answer.
            Gate::Free | Gate::Forbidden(_) if approve => Some("approved along with its edit".into()),
            // It waits for an answer, and the question about its old bytes is
            // void: without another nobody could ever answer.
            Gate::Free | Gate::Forbidden(_) if post.state == PostState::WaitingApproval.word() => {
                Some("it was edited while it waited for an approval".into())
            }
            Gate::Free | Gate::Forbidden(_) => None,
        };
        if planted(Bug::ApprovalNotBound) {
            ops.retain(|op| !matches!(op, PostOp::Void));
        }
        let mut question = None;
        if let Some(why) = why {
            let op = ask(&edited, &post.step_name, &why, &policy);
            if let PostOp::Ask { approval, .. } = &op {
                question = Some(*approval);
            }
            ops.push(op);
        }
        let key = WorkflowKey { workspace, workflow: post.workflow };
        let audit = (
            actor.to_owned(),
            "post.edit",
            format!("post {id} revision {}", edited.revision),
            Some(json!({ "contentHash": content_hash, "replaces": post.content_hash }).to_string()),
        );
        let step = post.step;
        let amended = Event::Amended { step, hold: question.is_some() };
        let hashes = Hashes { before: Some(post.content_hash.clone()), after: Some(content_hash.clone()) };
        let record =
            PostRecord { ops, audit: Some(audit), hashes, together: approve, ..PostRecord::default() };
        let mut commands = vec![Command { key, event: amended, record: Record::Post(Box::new(record)) }];
        if let (true, Some(approval)) = (approve, question) {
            let answer = PostOp::Answer {
                approval,
                content_hash: content_hash.clone(),
                status: "approved",
                actor: actor.to_owned(),
                note: None,
            };
            let audit = (
                actor.to_owned(),
                "approval.approve",
                format!("post {id} revision {}", edited.revision),
                Some(json!({ "approval": approval, "contentHash": content_hash }).to_string()),
            );
            let record = PostRecord { ops: vec![answer], audit: Some(audit), ..PostRecord::default() };
            let event = Event::Approved { step };
            commands.push(Command { key, event, record: Record::Post(Box::new(record)) });
            question = None;
        }
        self.change(&post, commands).await?;
        Ok(Changed { post: self.post(workspace, id).await?, question })
    }

    /// Another slot; `None` lets the limits choose.
    ///
    /// # Errors
    /// As [`Engine::edit_post`].
    pub async fn reschedule_post(
        &self,
        workspace: WorkspaceId,
        id: PostId,
        at: Option<jiff::Timestamp>,
        actor: &str,
    ) -> Result<PostRow, EngineError> {
        let post = self.post(workspace, id).await?;
        changeable(&post)?;
        let slot = at.map(|at| at.to_string());
        let told = match &slot {
            Some(at) => format!("rescheduled by {actor} to {at}"),
            None => format!("its slot was taken back by {actor}"),
        };
        let record = PostRecord {
            ops: vec![
                PostOp::GuardPost { post: id, version: post.version },
                PostOp::Reslot { post: id, at: slot.clone(), by: at.map(|_| actor.to_owned()) },
                PostOp::Reason { post: id, reason: told },
            ],
            audit: Some((
                actor.to_owned(),
                "post.reschedule",
                format!("post {id}"),
                Some(json!({ "slotAt": slot }).to_string()),
            )),
            ..PostRecord::default()
        };
        let event = Event::Amended { step: post.step, hold: false };
        let key = WorkflowKey { workspace, workflow: post.workflow };
        self.change(&post, vec![Command { key, event, record: Record::Post(Box::new(record)) }]).await?;
        self.post(workspace, id).await
    }

    /// A person says no to a post, whatever it waits for.
    ///
    /// # Errors
    /// As [`Engine::edit_post`].
    pub async fn reject_post(
        &self,
        workspace: WorkspaceId,
        id: PostId,
        note: Option<String>,
        actor: &str,
    ) -> Result<PostRow, EngineError> {
        let post = self.post(workspace, id).await?;
        changeable(&post)?;
        let why = note.map(|note| format!(": {note}")).unwrap_or_default();
        let record = PostRecord {
            ops: vec![
                PostOp::GuardPost { post: id, version: post.version },
                PostOp::Void,
                PostOp::End { post: id, state: "rejected", reason: format!("rejected by {actor}{why}") },
            ],
            audit: Some((actor.to_owned(), "post.reject", format!("post {id}"), None)),
            ..PostRecord::default()
        };
        let event = Event::Withdrawn { step: post.step };
        let key = WorkflowKey { workspace, workflow: post.workflow };
        self.change(&post, vec![Command { key, event, record: Record::Post(Box::new(record)) }]).await?;
        self.post(workspace, id).await
    }

    /// A person found out whether a post in doubt is out. `sends` is the number
    /// of calls that had been made when they looked: an answer about an earlier
    /// doubt, told twice or late, says nothing about this one.
    ///
    /// # Errors
    /// [`EngineError::NotFound`]; [`EngineError::Conflict`] when it is not in
    /// doubt, or was sent again since.
    pub async fn resolve_post(
        &self,
        workspace: WorkspaceId,
        id: PostId,
        sends: u32,
        resolution: Resolution,
        actor: &str,
    ) -> Result<PostRow, EngineError> {
        let post = self.post(workspace, id).await?;
        let publication = self.store().publication(workspace, id).await?;
        let Some(publication) = publication.filter(|_| post.state == PostState::InDoubt.word()) else {
            return Err(EngineError::Conflict(format!(
                "post {id} is {}, not in doubt; there is nothing to resolve",
                post.state
            )));
        };
        if publication.sends.unsigned_abs() != sends {
            return Err(EngineError::Conflict(format!(
                "call {} for post {id} came after call {sends}, which the answer is about: look at the account again, and at `galley post show {id}`",
                publication.sends
            )));
        }
        let effect_key = publication.effect_key.clone();
        let conclude = |state, remote_id, link| PostOp::Conclude {
            effect_key: effect_key.clone(),
            state,
            remote_id,
            link,
            told: Some(format!("resolved by {actor}")),
            by: Some(actor.to_owned()),
        };
        let key = WorkflowKey { workspace, workflow: post.workflow };
        let free = PostOp::FreeQuota { effect_key: effect_key.clone() };
        let price = publication.price_micros;
        let (how, word, mut ops) = match &resolution {
            Resolution::Published { remote_id, link } => {
                let op = conclude("published", remote_id.clone(), link.clone());
                (Settlement::Published, "published", vec![op])
            }
            Resolution::NotThere => {
                (Settlement::NotThere, "not_there", vec![conclude("not_sent", None, None), free])
            }
            Resolution::GivenUp => {
                (Settlement::GivenUp, "given_up", vec![conclude("failed", None, None), free])
            }
        };
        let cost = if matches!(how, Settlement::Published) { price } else { 0 };
        ops.extend(paid::settled(price, Some(cost)));
        let result = match &resolution {
            Resolution::Published { remote_id, link } => {
                Some(self.resolved_result(key, &post, &publication, remote_id.as_deref(), link.as_deref()))
            }
            Resolution::NotThere | Resolution::GivenUp => None,
        };
        let record = PostRecord {
            ops,
            result,
            audit: Some((
                actor.to_owned(),
                "post.resolve",
                format!("post {id}"),
                Some(json!({ "resolution": word }).to_string()),
            )),
            ..PostRecord::default()
        };
        let event = Event::Settled { step: post.step, how };
        self.change(&post, vec![Command { key, event, record: Record::Post(Box::new(record)) }]).await?;
        seen(match how {
            Settlement::Published => Rescue::DoubtPublished,
            Settlement::NotThere => Rescue::DoubtNotThere,
            Settlement::GivenUp => Rescue::DoubtGivenUp,
        });
        self.post(workspace, id).await
    }

    /// The result of a publish step that a person completed: under the claim
    /// that sent it.
    fn resolved_result(
        &self,
        key: WorkflowKey,
        post: &PostRow,
        publication: &PublicationRow,
        remote_id: Option<&str>,
        link: Option<&str>,
    ) -> ResultWrite {
        let output =
            json!({ "post": post.id, "account": post.account_name, "remoteId": remote_id, "link": link });
        ResultWrite {
            attempt: AttemptKey {
                key,
                step: post.step,
                epoch: 0,
                nonce: publication.nonce,
                session: SessionId(0),
            },
            duration_ms: 0,
            usage: Usage { cost_micros: publication.price_micros, ..Usage::default() },
            output: output.to_string().into(),
            sealed: None,
        }
    }

    pub(crate) async fn change(&self, post: &PostRow, commands: Vec<Command>) -> Result<(), EngineError> {
        point(Point::EditDecided);
        let applied = self.apply(&commands).await?;
        point(Point::EditCommitted);
        self.push(&[], &applied).await;
        for verdict in &applied.verdicts {
            match verdict {
                Verdict::Done => {}
                Verdict::Unstorable(why) => {
                    return Err(EngineError::invalid("text", format!("cannot be stored: {why}")));
                }
                Verdict::Refused(Refusal::MayBeOut(_)) => {
                    return Err(EngineError::Conflict(format!(
                        "post {} is on its way out or may be out already; nothing was changed",
                        post.id
                    )));
                }
                Verdict::Overtaken(_) | Verdict::Refused(_) | Verdict::Gone => {
                    seen(Rescue::AnswerLost);
                    return Err(EngineError::Conflict(format!(
                        "post {} was changed or ended at the same moment; look at it and try again",
                        post.id
                    )));
                }
            }
        }
        Ok(())
    }
}

impl Changed {
    /// The content of the post now.
    ///
    /// # Errors
    /// A stored post that cannot be read.
    pub fn content(&self) -> Result<PostContent, EngineError> {
        parsed(&self.post.content)
    }
}

fn changeable(post: &PostRow) -> Result<(), EngineError> {
    match PostState::from_word(&post.state) {
        Some(state) if state.is_fixed() => {
            let (id, word) = (post.id, state.word());
            Err(EngineError::Conflict(match state {
                PostState::Publishing | PostState::Unknown | PostState::InDoubt => format!(
                    "post {id} is {word}: it is on its way out or may be out already; nothing was changed"
                ),
                _ => format!("post {id} is {word}; it cannot be changed any more"),
            }))
        }
        _ => Ok(()),
    }
}
