//! One publish step: the engine decides and writes, an adapter sends, the
//! engine writes what came of it. Its outcomes never go through the committer,
//! so no batch of other steps waits for them or fails with them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use galley_core::plan::Problem;
use galley_core::publish::{Capability, Looked, PostContent, Sent};
use galley_engine::{Backoff, Begin, Claimed, Engine, EngineError, Platforms, Sending};
use galley_probe::{Bug, Point, Rescue, planted, point, seen};
use galley_publishers::{Account, Outgoing, Publishers};
use secrecy::SecretString;
use serde_json::Value;

use crate::attempt::Attempt;

/// The adapters, as the engine asks about them.
#[derive(Debug)]
pub struct Adapters(pub Publishers);

#[async_trait]
impl Platforms for Adapters {
    fn names(&self) -> Vec<String> {
        self.0.platforms().map(str::to_owned).collect()
    }

    fn capability(&self, platform: &str, settings: &Value) -> Option<Capability> {
        self.0.get(platform).map(|publisher| publisher.capability(settings))
    }

    fn check_account(&self, platform: &str, settings: &Value, credential: &SecretString) -> Vec<Problem> {
        self.0.get(platform).map_or_else(Vec::new, |publisher| {
            publisher.check_account(settings, credential).err().unwrap_or_default()
        })
    }

    fn check_post(&self, platform: &str, settings: &Value, post: &PostContent) -> Result<(), String> {
        self.0.get(platform).map_or(Ok(()), |publisher| publisher.check_post(settings, post))
    }

    fn price(&self, platform: &str, settings: &Value, post: &PostContent) -> u64 {
        self.0.get(platform).map_or(0, |publisher| publisher.price(settings).of(post))
    }

    async fn test(
        &self,
        platform: &str,
        account: &str,
        settings: &Value,
        credential: &SecretString,
    ) -> Result<String, String> {
        let publisher = self.0.get(platform).ok_or_else(|| format!("no adapter for `{platform}`"))?;
        let account =
            Account { name: account.to_owned(), settings: settings.clone(), credential: credential.clone() };
        publisher.test(&account).await
    }
}

/// Runs publish steps.
#[derive(Debug)]
pub(crate) struct Postman {
    pub(crate) engine: Engine,
    pub(crate) adapters: Arc<Adapters>,
}

impl Postman {
    /// Takes a claimed publish step to wherever it can go now. Never ends
    /// without a record, unless the session is lost: then the reaper finds the
    /// open intent.
    pub(crate) async fn deliver(&self, attempt: &Attempt) {
        let mut entry = Entry::Begin;
        while let Some(next) = self.write(attempt, &entry).await {
            entry = match next {
                Begin::Nothing => return,
                Begin::Send(sending) => {
                    let (sent, took) = self.send(attempt, &sending).await;
                    Entry::Sent(sending, sent, took)
                }
                Begin::Look(sending) => {
                    let (looked, took) = self.look(&attempt.claim, &sending).await;
                    Entry::Looked(sending, looked, took)
                }
            };
        }
    }

    async fn send(&self, attempt: &Attempt, sending: &Sending) -> (Sent, u32) {
        let begun = Instant::now();
        let not_sent = |why: &str| Sent::NotSent { why: why.to_owned(), retry_after_ms: None };
        let Some(publisher) = self.adapters.0.get(&sending.platform) else {
            return (not_sent("this worker has no adapter for the platform"), 0);
        };
        if attempt.cancelled.is_cancelled() && !planted(Bug::LateSend) {
            return (not_sent("this worker's session was lost before it sent"), 0);
        }
        let timeout = self.engine.config().publishing.timeout;
        // A worker that was stopped after its intent comes too late: by now
        // somebody may be looking for the post.
        let left = sending.not_after.checked_duration_since(begun).filter(|left| *left > timeout / 4);
        let Some(left) = left.or(planted(Bug::LateSend).then_some(timeout)) else {
            seen(Rescue::SendTooLate);
            return (not_sent("it came too late after its intent"), 0);
        };
        let account = account_of(sending);
        let out = outgoing(&attempt.claim, sending);
        point(Point::PublishSending);
        // The deadline is looked at first, and is a moment, not a span: a
        // process that was stopped and goes on must not go on sending.
        let deadline = tokio::time::Instant::from_std(begun) + left.min(timeout);
        let sent = tokio::select! {
            biased;
            () = tokio::time::sleep_until(deadline) => {
                Sent::Unknown(format!("the platform did not answer within {:?}", left.min(timeout)))
            }
            sent = publisher.publish(&account, &out) => sent,
        };
        let sent = match sent {
            Sent::Unknown(why) if planted(Bug::TimeoutIsNotSent) => not_sent(&why),
            sent => sent,
        };
        point(Point::PublishSent);
        (sent, millis(begun.elapsed()))
    }

    async fn look(&self, claim: &Claimed, sending: &Sending) -> (Looked, u32) {
        let begun = Instant::now();
        let Some(publisher) = self.adapters.0.get(&sending.platform) else {
            return (Looked::Unknown("this worker has no adapter for the platform".into()), 0);
        };
        let timeout = self.engine.config().publishing.timeout;
        let (account, out) = (account_of(sending), outgoing(claim, sending));
        let looked = match tokio::time::timeout(timeout, publisher.look(&account, &out)).await {
            Ok(looked) => looked,
            Err(_) => Looked::Unknown(format!("the platform did not answer within {timeout:?}")),
        };
        point(Point::PublishLooked);
        (looked, millis(begun.elapsed()))
    }

    /// Writes, and repeats it until Postgres answers or the session is lost.
    async fn write(&self, attempt: &Attempt, entry: &Entry) -> Option<Begin> {
        let mut backoff = Backoff::quick();
        loop {
            match self.write_once(&attempt.claim, entry).await {
                Ok(next) => return Some(next),
                Err(error) if error.is_transient() && planted(Bug::UnknownCommitFailed) => {
                    return entry.sent_again();
                }
                Err(error) if error.is_transient() && !attempt.cancelled.is_cancelled() => {
                    tracing::debug!(%error, "publishing waits for Postgres");
                    backoff.wait().await;
                }
                Err(error) if error.is_transient() => return None,
                Err(error) => {
                    tracing::error!(%error, "a publish step could not be recorded; the reaper returns it");
                    return None;
                }
            }
        }
    }

    async fn write_once(&self, claim: &Claimed, entry: &Entry) -> Result<Begin, EngineError> {
        match entry {
            Entry::Begin => self.engine.begin_publish(claim).await,
            Entry::Sent(sending, sent, took) => {
                self.engine.conclude_publish(claim, sending, *took, sent).await?;
                if sending.doubtful && matches!(sent, Sent::Published(_)) {
                    seen(Rescue::PublishedByRepeat);
                }
                Ok(Begin::Nothing)
            }
            Entry::Looked(sending, looked, took) => {
                self.engine.conclude_look(claim, (**sending).clone(), *took, looked.clone()).await?;
                Ok(Begin::Nothing)
            }
        }
    }
}

/// What is to be written next about a publish step.
enum Entry {
    /// What is to be done.
    Begin,
    /// How sending ended, after how many milliseconds.
    Sent(Box<Sending>, Sent, u32),
    /// What a look found, after how many milliseconds.
    Looked(Box<Sending>, Looked, u32),
}

impl Entry {
    /// The planted bug: what was sent and could not be recorded counts as not
    /// sent.
    fn sent_again(&self) -> Option<Begin> {
        match self {
            Self::Sent(sending, ..) => Some(Begin::Send(sending.clone())),
            Self::Begin | Self::Looked(..) => None,
        }
    }
}

fn account_of(sending: &Sending) -> Account {
    Account {
        name: sending.account.clone(),
        settings: sending.settings.clone(),
        credential: sending.credential.clone(),
    }
}

fn outgoing(claim: &Claimed, sending: &Sending) -> Outgoing {
    Outgoing {
        key: sending.effect_key.clone(),
        payload: sending.content.clone(),
        intended_at: sending.intended_at.clone(),
        post: sending.post.to_string(),
        workspace: claim.ticket.workspace.to_string(),
    }
}

fn millis(took: Duration) -> u32 {
    u32::try_from(took.as_millis()).unwrap_or(u32::MAX)
}
