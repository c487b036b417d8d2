//! Publishing, from the moment of sending: what became of it.

use galley_core::decide::Event;
use galley_core::publish::{Looked, Receipt, Sent};
use galley_core::report::{Failure, StepError, Usage};
use galley_probe::{Bug, Rescue, planted, seen};
use galley_store::{AttemptKey, AttemptWrite, PostOp, ResultWrite};
use serde_json::json;

use crate::claim::Claimed;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::paid;
use crate::planted::sent_first;
use crate::publish::{Begin, Sending};
use crate::transition::{AuditedAct, PostRecord, Verdict};

impl Engine {
    /// Records how sending a post ended. Repeating it is harmless.
    ///
    /// # Errors
    /// Postgres is away: repeat. Given up, the reaper finds an open intent and
    /// the post becomes unknown.
    pub async fn conclude_publish(
        &self,
        claim: &Claimed,
        sending: &Sending,
        duration_ms: u32,
        sent: &Sent,
    ) -> Result<(), EngineError> {
        if sent_first(claim.token.nonce.0) {
            Box::pin(self.begin_publish(claim)).await?;
        }
        self.conclude(claim, sending, duration_ms, sent, None).await
    }

    /// The audit says which credential was used, where no intent said so.
    async fn conclude(
        &self,
        claim: &Claimed,
        sending: &Sending,
        duration_ms: u32,
        sent: &Sent,
        audit: Option<AuditedAct>,
    ) -> Result<(), EngineError> {
        let effect_key = sending.effect_key.clone();
        let token = claim.token;
        // A refusal is about this call. An earlier one of unknown outcome may
        // have put the post there all the same.
        let doubted = match sent {
            Sent::Refused(why) | Sent::NotSent { why, .. } if sending.doubtful => {
                Some(Sent::Unknown(format!("{why}; but an earlier call may have been heard")))
            }
            _ => None,
        };
        let sent = doubted.as_ref().unwrap_or(sent);
        let attempt = |outcome, class: &str, message: &str| {
            Some(attempt_of(claim, Some(duration_ms), outcome, class, message))
        };
        let (event, mut record) = match sent {
            Sent::Published(receipt) => {
                let cost = receipt.cost_micros.unwrap_or(sending.price_micros);
                let mut record = published(claim, sending, duration_ms, receipt, cost);
                record.ops.extend(self.billed(claim, sending, cost).await?);
                (Event::Succeeded { token }, record)
            }
            Sent::Refused(why) => {
                let mut ops = vec![told(&effect_key, "failed", why), PostOp::FreeQuota { effect_key }];
                ops.extend(paid::settled(sending.price_micros, Some(0)));
                let attempt = attempt("failed", "refused", why);
                let failure = Failure::Permanent;
                (Event::Failed { token, failure }, PostRecord { ops, attempt, ..PostRecord::default() })
            }
            Sent::NotSent { why, retry_after_ms } => {
                let mut ops = vec![told(&effect_key, "not_sent", why), PostOp::FreeQuota { effect_key }];
                ops.extend(paid::settled(sending.price_micros, Some(0)));
                let (failure, outcome) = match *retry_after_ms {
                    Some(retry_after_ms) => (Failure::Throttled { retry_after_ms }, "throttled"),
                    None => (Failure::Transient, "failed"),
                };
                let attempt = attempt(outcome, "not_sent", why);
                (Event::Failed { token, failure }, PostRecord { ops, attempt, ..PostRecord::default() })
            }
            Sent::Unknown(why) => {
                seen(Rescue::Unknown);
                let mut ops = vec![told(&effect_key, "unknown", why)];
                if planted(Bug::SlotFreedOnUnknown) {
                    ops.push(PostOp::FreeQuota { effect_key });
                }
                if planted(Bug::PostUnpaid) {
                    ops.extend(paid::settled(sending.price_micros, Some(0)));
                }
                let attempt = attempt("unknown", "unknown_outcome", why);
                (Event::Unsure { token }, PostRecord { ops, attempt, ..PostRecord::default() })
            }
        };
        record.audit = audit;
        let word = match sent {
            Sent::Published(_) => "published",
            Sent::Refused(_) => "refused",
            Sent::NotSent { .. } => "not_sent",
            Sent::Unknown(_) => "unknown",
        };
        match self.publish_event(claim, event, record).await? {
            Verdict::Done => {
                let platform = sending.platform.clone();
                metrics::counter!("galley_publications_total", "platform" => platform, "outcome" => word)
                    .increment(1);
            }
            // Mine already, or taken from me: then its publication is unknown
            // to whoever has it, and they look.
            verdict => {
                tracing::info!(post.id = %sending.post, ?verdict, "the outcome of post {} ({word}) was recorded before, or the step is somebody else's", sending.post);
            }
        }
        Ok(())
    }

    /// Records what a look found. A post that is not there is tried again like
    /// any that was not sent: a policy, a limit or a cancel of today has its say.
    ///
    /// # Errors
    /// As [`Engine::conclude_publish`].
    pub async fn conclude_look(
        &self,
        claim: &Claimed,
        sending: Sending,
        duration_ms: u32,
        looked: Looked,
    ) -> Result<(), EngineError> {
        let sent = match looked {
            Looked::Found(receipt) => {
                seen(Rescue::PublishedByLook);
                Sent::Published(receipt)
            }
            Looked::Absent if sending.settled => {
                seen(Rescue::AbsentThenSent);
                Sent::NotSent { why: "the platform was asked: it is not there".into(), retry_after_ms: None }
            }
            Looked::Absent => Sent::Unknown("it is not there, but may still appear".into()),
            Looked::Unknown(why) => Sent::Unknown(format!("could not look: {why}")),
        };
        let used = (
            "publisher".to_owned(),
            "account.use",
            sending.account.clone(),
            Some(json!({ "post": sending.post, "for": "look" }).to_string()),
        );
        // The look has answered what earlier calls left open.
        self.conclude(claim, &Sending { doubtful: false, ..sending }, duration_ms, &sent, Some(used)).await
    }

    /// Only a person can find out.
    pub(crate) async fn doubt(
        &self,
        claim: &Claimed,
        effect_key: &str,
        price_micros: u64,
        why: String,
    ) -> Result<(), EngineError> {
        let mut ops = vec![told(effect_key, "in_doubt", &why)];
        ops.extend(paid::settled(price_micros, None));
        let record = PostRecord {
            attempt: Some(attempt_of(claim, None, "unknown", "in_doubt", &why)),
            ops,
            ..PostRecord::default()
        };
        self.publish_event(claim, Event::Doubted { token: claim.token }, record).await?;
        seen(Rescue::DoubtAsked);
        metrics::counter!("galley_posts_in_doubt_total").increment(1);
        Ok(())
    }

    /// A post that will not go out as things are: a dead letter, with nothing
    /// sent.
    pub(crate) async fn end_publish(&self, claim: &Claimed, error: &StepError) -> Result<Begin, EngineError> {
        let record = PostRecord {
            attempt: Some(attempt_of(claim, None, "failed", &error.class, &error.message)),
            ..PostRecord::default()
        };
        let event = Event::Failed { token: claim.token, failure: error.failure };
        self.publish_event(claim, event, record).await?;
        Ok(Begin::Nothing)
    }
}

fn told(effect_key: &str, state: &'static str, why: &str) -> PostOp {
    PostOp::Conclude {
        effect_key: effect_key.to_owned(),
        state,
        remote_id: None,
        link: None,
        told: Some(clean(why)),
        by: None,
    }
}

fn published(
    claim: &Claimed,
    sending: &Sending,
    duration_ms: u32,
    receipt: &Receipt,
    cost_micros: u64,
) -> PostRecord {
    let remote_id = clean(&receipt.remote_id);
    let link = receipt.link.as_deref().map(clean);
    let output =
        json!({ "post": sending.post, "account": sending.account, "remoteId": remote_id, "link": link });
    PostRecord {
        ops: vec![PostOp::Conclude {
            effect_key: sending.effect_key.clone(),
            state: "published",
            remote_id: Some(remote_id),
            link,
            told: None,
            by: None,
        }],
        result: Some(ResultWrite {
            attempt: attempt_key(claim),
            duration_ms,
            usage: Usage { cost_micros, ..Usage::default() },
            output: output.to_string().into(),
            sealed: None,
        }),
        ..PostRecord::default()
    }
}

/// What a platform tells can be anything: what Postgres cannot store must not
/// keep a receipt from being written.
fn clean(text: &str) -> String {
    text.chars().filter(|c| *c != '\0').take(2_000).collect()
}

pub(crate) fn attempt_key(claim: &Claimed) -> AttemptKey {
    AttemptKey {
        key: claim.key(),
        step: claim.token.step,
        epoch: claim.token.epoch,
        nonce: claim.token.nonce.0,
        session: claim.session,
    }
}

pub(crate) fn attempt_of(
    claim: &Claimed,
    duration_ms: Option<u32>,
    outcome: &'static str,
    class: &str,
    message: &str,
) -> AttemptWrite {
    AttemptWrite {
        attempt: attempt_key(claim),
        outcome,
        class: clean(class),
        message: clean(message),
        duration_ms,
        usage: Usage::default(),
    }
}
