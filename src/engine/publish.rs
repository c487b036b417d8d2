//! Publishing, up to the moment of sending: which post a claimed publish step
//! has, whether the policy lets it out, when, and the intent.
//!
//! The intent is one transaction: the run's compare-and-set, the post and the
//! policy unchanged, the approval of these very bytes, a place in every daily
//! limit, and the publication. Nothing is sent without it, and nothing is sent
//! twice by it. What an unknown outcome means is decided here, by what the
//! platform can tell, never by its adapter.

use std::time::{Duration, Instant};

use galley_core::automation::Gate;
use galley_core::decide::{Event, Refusal};
use galley_core::hash;
use galley_core::ids::{AgentType, ApprovalId, PostId, WorkspaceId};
use galley_core::publish::{Capability, Next, PostContent, after, content_of, target_of};
use galley_core::report::StepError;
use galley_core::review::refusal;
use galley_core::run::Run;
use galley_probe::{ARMED, Bug, Point, Rescue, planted, point, seen};
use galley_store::{
    AccountRow, IntentWrite, Overtaken, PostOp, PostRow, PostWrite, PublicationRow, QuotaTake, RunRow,
};
use secrecy::SecretString;
use serde_json::Value;
use uuid::Uuid;

use crate::claim::Claimed;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::paid;
use crate::planted::sends_first;
use crate::platforms::Platforms;
use crate::policy::{Policy, instant};
use crate::transition::{Command, PostRecord, Record, Verdict};
use crate::vault::NO_KEYS;

/// A post that may be sent now, or asked for.
#[derive(Clone, Debug)]
pub struct Sending {
    /// The post.
    pub post: PostId,
    /// The key that every attempt carries.
    pub effect_key: String,
    /// The frozen content.
    pub content: PostContent,
    /// When it was first meant to go out, RFC 3339: the same in every attempt.
    pub intended_at: String,
    /// The account's name.
    pub account: String,
    /// The platform.
    pub platform: String,
    /// What the adapter needs to know.
    pub settings: Value,
    /// The opened credential.
    pub credential: SecretString,
    /// Nothing may be sent any more after this.
    pub not_after: Instant,
    /// An earlier call may have put it there, and nobody looked: that this call
    /// did not says nothing about the post.
    pub doubtful: bool,
    /// What was reserved for it, millionths of a US dollar; 0: it is free.
    pub price_micros: u64,
    /// Whatever was sent shows by now: a look that does not find it proves that
    /// it is not there.
    pub settled: bool,
}

/// What is to be done about a claimed publish step.
#[derive(Debug)]
pub enum Begin {
    /// Send it.
    Send(Box<Sending>),
    /// Somebody may have sent it: look first.
    Look(Box<Sending>),
    /// Nothing: the step waits, is over, or is somebody else's.
    Nothing,
}

/// How often a decision is taken again because something changed meanwhile.
const TRIES: usize = 8;

/// Why a person is asked about a post of a platform that keeps keys.
const KEY_GONE: &str = "the platform no longer keeps the key of this post for sure";

/// Slots this close are now.
const SOON: Duration = Duration::from_millis(500);

impl Engine {
    /// Finds out what to do about a claimed publish step, and writes the intent
    /// when it may go out.
    ///
    /// # Errors
    /// Postgres is away: nobody knows what was committed; repeat, it recognises
    /// its own intent.
    pub async fn begin_publish(&self, claim: &Claimed) -> Result<Begin, EngineError> {
        point(Point::PublishBegun);
        let begun = Instant::now();
        let Some(platforms) = self.config().platforms.clone() else {
            let error = StepError::permanent("no_platform", "this worker has no adapters for platforms");
            return self.end_publish(claim, &error).await;
        };
        let platforms = platforms.as_ref();
        for _ in 0..TRIES {
            let Some(post) = self.store().post_of_step(claim.key(), claim.ticket.step).await? else {
                let Some(version) = self.held_at(claim).await? else { return Ok(Begin::Nothing) };
                match self.make_post(claim, platforms, version).await? {
                    Ok(()) => {
                        point(Point::PublishMade);
                        continue;
                    }
                    Err(refused) => return self.end_publish(claim, &refused).await,
                }
            };
            let found = self.found(claim, post, platforms).await?;
            let found = match found {
                Ok(found) => found,
                Err(refused) => return self.end_publish(claim, &refused).await,
            };
            if let Some(begin) = self.judge(claim, &found, platforms, begun).await? {
                return Ok(begin);
            }
        }
        // Something changes all the time: later.
        self.postpone(claim, None, 1_000, "it kept changing while it was about to go out").await
    }

    /// The version of the run in which this claim is in force; `None` when it is
    /// over or somebody else's.
    async fn held_at(&self, claim: &Claimed) -> Result<Option<i64>, EngineError> {
        let rows = self.store().load_runs(&[claim.key()]).await?;
        let holds = |row: &RunRow| Run::decode(&row.run).is_ok_and(|run| run.is_held_by(claim.token));
        Ok(rows.iter().find(|row| holds(row)).map(|row| row.version))
    }

    /// Makes the step's post from what was written for its platform, unless the
    /// run is at another version by now. The inner error is for the dead letter.
    async fn make_post(
        &self,
        claim: &Claimed,
        platforms: &dyn Platforms,
        run_version: i64,
    ) -> Result<Result<(), StepError>, EngineError> {
        let workspace = claim.ticket.workspace;
        let name = match target_of(&claim.input) {
            Ok(name) => name,
            Err(why) => return Ok(Err(StepError::permanent("no_account", why))),
        };
        let Some(account) = self.store().account(workspace, name).await? else {
            let told = format!("there is no account `{name}` in this workspace; add it and retry");
            return Ok(Err(StepError::permanent("no_account", told)));
        };
        let content = match content_of(&claim.input, &account.content_platform) {
            Ok(content) => content,
            Err(why) => return Ok(Err(StepError::permanent("no_content", why))),
        };
        if let Err(why) = platforms.check_post(&account.platform, &settings(&account), &content) {
            let told = format!("{} does not take the post: {why}", account.platform);
            return Ok(Err(StepError::permanent("bad_post", told)));
        }
        let made = self.store().make_post(PostWrite {
            id: post_id(&claim.effect_key),
            key: claim.key(),
            step: claim.ticket.step,
            step_name: claim.step_name.clone(),
            account: account.id,
            content_hash: content.hash(),
            content: json(&content)?,
            run_version,
        });
        match made.await {
            Ok(()) => Ok(Ok(())),
            Err(galley_store::StoreError::Data(cause)) => Ok(Err(StepError::permanent(
                "unstorable_output",
                format!("Postgres refused the post: {cause}"),
            ))),
            Err(error) => Err(error.into()),
        }
    }

    /// Everything a decision about the post needs.
    async fn found(
        &self,
        claim: &Claimed,
        post: PostRow,
        platforms: &dyn Platforms,
    ) -> Result<Result<Found, StepError>, EngineError> {
        let workspace = claim.ticket.workspace;
        let policy = self.policy(workspace).await?;
        let Some(account) = self.store().account_by_id(workspace, post.account).await? else {
            return Err(EngineError::Internal(format!("post {} has no account", post.id)));
        };
        let publication = self.store().publication(workspace, post.id).await?;
        let settings = settings(&account);
        let Some(capability) = platforms.capability(&account.platform, &settings) else {
            let told = format!("this worker has no adapter for the platform `{}`", account.platform);
            return Ok(Err(StepError::permanent("no_platform", told)));
        };
        Ok(Ok(Found { workspace, post, policy, account, publication, settings, capability }))
    }

    /// One decision; `None` when something changed meanwhile.
    async fn judge(
        &self,
        claim: &Claimed,
        found: &Found,
        platforms: &dyn Platforms,
        begun: Instant,
    ) -> Result<Option<Begin>, EngineError> {
        if let Some(publication) = &found.publication
            && matches!(publication.state.as_str(), "intent" | "unknown")
        {
            return self.judge_open(claim, found, publication, begun).await.map(Some);
        }
        if found.account.removed_at.is_some() {
            let told = format!("the account `{}` was removed; discard the post", found.account.name);
            return self.end_publish(claim, &StepError::permanent("no_account", told)).await.map(Some);
        }
        let refused = refusal(&claim.input, &found.account.content_platform);
        let gate =
            |held| found.policy.config.gate(&claim.agent, &found.account.platform, held, refused.clone());
        if ARMED && found.post.held && gate(false) == Gate::Free {
            seen(Rescue::HeldThoughLoosened);
        }
        let approval = match gate(found.post.held) {
            Gate::Forbidden(why) => {
                let told = format!("{why}; change the policy and retry, or discard the post");
                return self.end_publish(claim, &StepError::permanent("forbidden", told)).await.map(Some);
            }
            Gate::NeedsApproval(why) => match self.approval_of(claim, &found.post).await? {
                Some(approval) => Some(approval),
                None => return self.hold(claim, found, &why).await,
            },
            Gate::Free => None,
        };
        let content: PostContent = parsed(&found.post.content)?;
        if let Err(why) = platforms.check_post(&found.account.platform, &found.settings, &content) {
            let told = format!("{} does not take the post: {why}", found.account.platform);
            return self.end_publish(claim, &StepError::permanent("bad_post", told)).await.map(Some);
        }
        if let Some(begin) = self.wait_for_slot(claim, found).await? {
            return Ok(begin);
        }
        let price = platforms.price(&found.account.platform, &found.settings, &content);
        self.intend(claim, found, approval, content, price, begun).await
    }

    /// A post that somebody may have sent.
    async fn judge_open(
        &self,
        claim: &Claimed,
        found: &Found,
        publication: &PublicationRow,
        begun: Instant,
    ) -> Result<Begin, EngineError> {
        let sending = match self.sending(claim, found, publication, begun).await? {
            Ok(sending) => sending,
            Err(problem) => {
                // Nobody can look without the credential.
                let (key, price) = (&publication.effect_key, publication.price_micros);
                self.doubt(claim, key, price, problem.message).await?;
                return Ok(Begin::Nothing);
            }
        };
        let mine = publication.state == "intent" && publication.nonce == claim.token.nonce.0;
        if mine && !planted(Bug::UnknownCommitFailed) {
            // My own intent, whose commit got no reply: nothing was sent yet.
            seen(Rescue::IntentWasMine);
            return Ok(Begin::Send(Box::new(sending)));
        }
        let since_s = u64::try_from(publication.since_s).unwrap_or(0);
        match if planted(Bug::BlindRepeat) { Next::Repeat } else { after(found.capability, since_s) } {
            Next::Repeat => self.repeat_publish(claim, found.capability, sending).await,
            Next::Look => Ok(Begin::Look(Box::new(sending))),
            Next::Ask => {
                let told = match found.capability {
                    Capability::Idempotent { .. } => KEY_GONE,
                    _ => "the platform cannot be asked whether the post is there",
                };
                let (key, price) = (&publication.effect_key, publication.price_micros);
                self.doubt(claim, key, price, told.into()).await?;
                Ok(Begin::Nothing)
            }
        }
    }

    /// Writes that a post of which nobody knows is sent once more with its key,
    /// and will be heard while the platform still keeps that.
    async fn repeat_publish(
        &self,
        claim: &Claimed,
        capability: Capability,
        mut sending: Sending,
    ) -> Result<Begin, EngineError> {
        let window = self.config().publishing.window;
        let key_kept_s = match capability {
            Capability::Idempotent { window_s } => window_s,
            // Only a planted bug gets here.
            Capability::Verifiable { .. } | Capability::Blind => u64::from(u32::MAX),
        };
        let begun = Instant::now();
        let record = PostRecord {
            ops: vec![PostOp::Repeat {
                effect_key: sending.effect_key.clone(),
                nonce: claim.token.nonce.0,
                window_ms: millis(window),
                key_kept_s,
            }],
            ..PostRecord::default()
        };
        let why = match self.publish_event(claim, Event::Repeated { token: claim.token }, record).await? {
            Verdict::Done => {
                sending.not_after = begun + window;
                return Ok(Begin::Send(Box::new(sending)));
            }
            Verdict::Overtaken(_) => KEY_GONE,
            Verdict::Refused(Refusal::AlreadyOver) => {
                "its workflow was cancelled, and asking the platform would send the post if it is not out yet"
            }
            // Somebody else's by now.
            _ => return Ok(Begin::Nothing),
        };
        self.doubt(claim, &sending.effect_key, sending.price_micros, why.into()).await?;
        Ok(Begin::Nothing)
    }

    async fn approval_of(&self, claim: &Claimed, post: &PostRow) -> Result<Option<ApprovalId>, EngineError> {
        let standing = self.store().standing_approval(claim.key(), claim.ticket.step).await?;
        Ok(standing
            .filter(|approval| approval.status == "approved")
            .filter(|approval| approval.content_hash == post.content_hash || planted(Bug::ApprovalNotBound))
            .map(|approval| approval.id))
    }

    async fn hold(&self, claim: &Claimed, found: &Found, why: &str) -> Result<Option<Begin>, EngineError> {
        let post = &found.post;
        let record = PostRecord {
            ops: vec![
                PostOp::GuardPost { post: post.id, version: post.version },
                ask(post, &claim.step_name, why, &found.policy),
            ],
            ..PostRecord::default()
        };
        match self.publish_event(claim, Event::Held { token: claim.token }, record).await? {
            Verdict::Overtaken(_) => Ok(None),
            _ => Ok(Some(Begin::Nothing)),
        }
    }

    /// `None`: it is time. Inner `None`: something changed meanwhile.
    async fn wait_for_slot(
        &self,
        claim: &Claimed,
        found: &Found,
    ) -> Result<Option<Option<Begin>>, EngineError> {
        let now = found.policy.now()?;
        let Some(slot) = &found.post.slot_at else {
            if !found.is_limited() || found.publication.as_ref().is_some_and(|p| p.quota_held) {
                return Ok(None);
            }
            return match self.choose_slot(found, now, None).await? {
                true => Ok(Some(None)),
                false => {
                    let told = "there is no free slot within a year; loosen the limits and retry";
                    let error = StepError::permanent("no_slot", told);
                    Ok(Some(Some(self.end_publish(claim, &error).await?)))
                }
            };
        };
        let slot = instant(slot)?;
        let wait = u64::try_from(slot.duration_since(now).as_millis()).unwrap_or(0);
        if u128::from(wait) < SOON.as_millis() {
            return Ok(None);
        }
        let told = format!("its slot is {}", found.local(slot)?);
        let reason = found.post.reason.clone().filter(|told| told.contains("moved to")).unwrap_or(told);
        self.postpone(claim, Some(found.post.id), wait, &reason).await.map(|begin| Some(Some(begin)))
    }

    async fn intend(
        &self,
        claim: &Claimed,
        found: &Found,
        approval: Option<ApprovalId>,
        content: PostContent,
        price_micros: u64,
        begun: Instant,
    ) -> Result<Option<Begin>, EngineError> {
        let (post, policy) = (&found.post, &found.policy);
        let window = self.config().publishing.window;
        let credential = match self.credential(claim, &found.account).await? {
            Ok(credential) => credential,
            Err(refused) => return self.end_publish(claim, &refused).await.map(Some),
        };
        let mut ops = vec![
            PostOp::GuardPost { post: post.id, version: post.version },
            PostOp::GuardConfig { version: policy.version },
            PostOp::GuardAccount { account: found.account.id },
        ];
        if let Some(approval) = approval {
            ops.push(PostOp::GuardApproval { approval, content_hash: post.content_hash.clone() });
        }
        ops.push(PostOp::Intend(Box::new(IntentWrite {
            effect_key: claim.effect_key.clone(),
            post: post.id,
            account: found.account.id,
            revision: post.revision,
            content_hash: post.content_hash.clone(),
            payload: post.content.clone(),
            approval,
            nonce: claim.token.nonce.0,
            window_ms: millis(window),
            price_micros,
        })));
        if !found.publication.as_ref().is_some_and(|publication| publication.quota_held) {
            ops.push(PostOp::TakeQuota {
                effect_key: claim.effect_key.clone(),
                takes: vec![
                    QuotaTake { account: None, limit: policy.config.max_daily_posts },
                    QuotaTake { account: Some(found.account.id), limit: found.account_limit() },
                ],
                day: policy.day_rule(),
                window_ms: millis(window),
            });
        }
        if price_micros > 0 {
            let (platform, account) = (&found.account.platform, &found.account.name);
            ops.push(paid::reservation(self, claim, platform, account, price_micros).await?);
        }
        let sending = |intended_at| {
            Begin::Send(Box::new(Sending {
                post: post.id,
                effect_key: claim.effect_key.clone(),
                content,
                intended_at,
                account: found.account.name.clone(),
                platform: found.account.platform.clone(),
                settings: found.settings.clone(),
                credential,
                not_after: begun + window,
                doubtful: false,
                price_micros,
                settled: false,
            }))
        };
        if sends_first(claim.token.nonce.0) {
            return Ok(Some(sending(policy.row.now.clone())));
        }
        let record = PostRecord { ops, ..PostRecord::default() };
        match self.publish_event(claim, Event::Intent { token: claim.token }, record).await? {
            Verdict::Done => {}
            Verdict::Overtaken(full @ (Overtaken::DayFull | Overtaken::DayEnds)) => {
                seen(if full == Overtaken::DayFull { Rescue::DayFull } else { Rescue::DayEnds });
                let now = policy.now()?;
                let tomorrow = policy.days()?.next_day(now);
                let moved = "the day's posts are used up";
                return match self.choose_slot(found, tomorrow, Some(moved)).await? {
                    // Decided again on the new slot: it will wait for it.
                    true => Ok(None),
                    false => Ok(Some(self.postpone(claim, Some(post.id), 60_000, moved).await?)),
                };
            }
            Verdict::Overtaken(Overtaken::NoMoney) => {
                return self.wait_for_money(claim, post.id, price_micros).await.map(Some);
            }
            Verdict::Overtaken(what) => {
                let policy = what == Overtaken::Config;
                seen(if policy { Rescue::IntentMetPolicy } else { Rescue::IntentMetEdit });
                return Ok(None);
            }
            _ => {
                seen(Rescue::IntentMetEdit);
                return Ok(Some(Begin::Nothing));
            }
        }
        if found.publication.is_some() {
            seen(Rescue::NotSentRetried);
        }
        let Some(publication) = self.store().publication(claim.ticket.workspace, post.id).await? else {
            return Err(EngineError::Internal(format!("the intent of post {} is not there", post.id)));
        };
        Ok(Some(sending(publication.intended_at)))
    }

    /// The inner error says why nobody can send or look.
    async fn sending(
        &self,
        claim: &Claimed,
        found: &Found,
        publication: &PublicationRow,
        begun: Instant,
    ) -> Result<Result<Sending, StepError>, EngineError> {
        let content = match serde_json::from_str(&publication.payload) {
            Ok(content) => content,
            Err(error) => {
                let told = format!("its frozen payload: {error}");
                return Ok(Err(StepError::permanent("bad_post", told)));
            }
        };
        let credential = match self.credential(claim, &found.account).await? {
            Ok(credential) => credential,
            Err(refused) => return Ok(Err(refused)),
        };
        Ok(Ok(Sending {
            post: found.post.id,
            effect_key: publication.effect_key.clone(),
            content,
            intended_at: publication.intended_at.clone(),
            account: found.account.name.clone(),
            platform: found.account.platform.clone(),
            settings: found.settings.clone(),
            credential,
            // From the moment of the intent, not from now: whoever resolves it
            // waits no longer than that.
            not_after: begun + Duration::from_millis(u64::try_from(publication.left_ms).unwrap_or(0)),
            price_micros: publication.price_micros,
            doubtful: publication.sends > 1 || publication.state != "intent",
            settled: has_settled(found.capability, publication.left_ms),
        }))
    }

    /// Opened for one call. The inner error is for the dead letter.
    async fn credential(
        &self,
        claim: &Claimed,
        account: &AccountRow,
    ) -> Result<Result<SecretString, StepError>, EngineError> {
        if self.config().keyring.is_none() {
            return Ok(Err(StepError::permanent("no_key", NO_KEYS)));
        }
        let opened = self.open_credential(claim.ticket.workspace, account).await?;
        Ok(opened.map_err(|told| StepError::permanent("no_credential", told)))
    }

    /// Gives the post the next free slot; `false` when there is none.
    async fn choose_slot(
        &self,
        found: &Found,
        from: jiff::Timestamp,
        moved: Option<&str>,
    ) -> Result<bool, EngineError> {
        let plan = found.slot_plan()?;
        let account = found.account.id;
        let chosen = self
            .store()
            .choose_slot(
                found.workspace,
                found.post.id,
                found.post.version,
                moved.map(|why| format!("{why}; moved to the next free slot")),
                move |rows| plan.choose(account, rows, from).map(|at| at.to_string()),
            )
            .await;
        match chosen {
            Ok(slot) => {
                point(Point::PublishSlotted);
                Ok(slot.is_some())
            }
            // Looked at again.
            Err(galley_store::StoreError::Overtaken(_)) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    async fn postpone(
        &self,
        claim: &Claimed,
        post: Option<PostId>,
        delay_ms: u64,
        reason: &str,
    ) -> Result<Begin, EngineError> {
        let ops = post.map(|post| PostOp::Reason { post, reason: reason.to_owned() });
        let record = PostRecord { ops: ops.into_iter().collect(), ..PostRecord::default() };
        self.publish_event(claim, Event::Postponed { token: claim.token, delay_ms }, record).await?;
        Ok(Begin::Nothing)
    }

    /// Moves the claimed step, frees its ticket and pushes what follows.
    pub(crate) async fn publish_event(
        &self,
        claim: &Claimed,
        event: Event,
        record: PostRecord,
    ) -> Result<Verdict, EngineError> {
        let over = !matches!(event, Event::Intent { .. } | Event::Repeated { .. });
        let next = if over { Point::PublishMoved } else { Point::PublishIntended };
        let command = Command { key: claim.key(), event, record: Record::Post(Box::new(record)) };
        let mut applied = self.apply(&[command]).await?;
        point(next);
        let verdict = applied.verdicts.remove(0);
        let done: Vec<(AgentType, _)> = if over && !matches!(verdict, Verdict::Overtaken(_)) {
            vec![(claim.agent.clone(), claim.ticket)]
        } else {
            Vec::new()
        };
        self.push(&done, &applied).await;
        Ok(verdict)
    }
}

/// What a decision about a post stands on.
pub(crate) struct Found {
    pub(crate) workspace: WorkspaceId,
    pub(crate) post: PostRow,
    pub(crate) policy: Policy,
    pub(crate) account: AccountRow,
    pub(crate) publication: Option<PublicationRow>,
    settings: Value,
    capability: Capability,
}

/// Whether the last call that may have been made shows on the platform by now;
/// `left_ms` counts down to the last moment anybody could make it.
fn has_settled(capability: Capability, left_ms: i64) -> bool {
    let settle_ms = match capability {
        Capability::Verifiable { settle_s } => {
            i64::try_from(settle_s).unwrap_or(i64::MAX).saturating_mul(1_000)
        }
        Capability::Idempotent { .. } | Capability::Blind => 0,
    };
    left_ms.saturating_neg() >= settle_ms || planted(Bug::ResolverTooEarly)
}

/// The question to a person about the newest revision of a post.
pub(crate) fn ask(post: &PostRow, step_name: &str, why: &str, policy: &Policy) -> PostOp {
    PostOp::Ask {
        approval: ApprovalId(Uuid::now_v7()),
        kind: "post",
        step_name: step_name.to_owned(),
        post: Some((post.id, post.revision)),
        content_hash: post.content_hash.clone(),
        reason: why.to_owned(),
        expires_s: i64::from(policy.config.approval_expiry_hours) * 3_600,
    }
}

pub(crate) fn settings(account: &AccountRow) -> Value {
    serde_json::from_str(&account.settings).unwrap_or(Value::Null)
}

fn json(content: &PostContent) -> Result<String, EngineError> {
    serde_json::to_string(content)
        .map_err(|error| EngineError::Internal(format!("a post does not serialize: {error}")))
}

pub(crate) fn parsed(content: &str) -> Result<PostContent, EngineError> {
    serde_json::from_str(content)
        .map_err(|error| EngineError::Internal(format!("a stored post cannot be read: {error}")))
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The same for every attempt of the step, so that it is made once.
fn post_id(effect_key: &str) -> PostId {
    let digest = hash::of_parts(&[b"post", effect_key.as_bytes()]);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    PostId(uuid::Builder::from_custom_bytes(bytes).into_uuid())
}
