//! Posts that cost something: drawn from the same budgets as calls to models.
//!
//! The intent's transaction reserves the price; the transaction that writes
//! what became of the post settles it. Published: at what the platform took, or
//! at the price. Definitely not out: nothing. Unknown: it stays reserved, for
//! somebody finds out. Left to a person: charged at its price as an estimate,
//! until they say what happened. A lost worker changes none of this: the money
//! follows the post.

use galley_core::decide::Event;
use galley_core::ids::PostId;
use galley_core::report::StepError;
use galley_probe::{Rescue, seen};
use galley_store::{CallKey, PostOp, ReserveWrite};

use crate::claim::Claimed;
use crate::conclude::{attempt_key, attempt_of};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::publish::{Begin, Sending};
use crate::transition::PostRecord;

/// What a post is booked as, where calls name their model.
const MODEL: &str = "post";

/// Reserves a post's price, under the claim that intends it.
pub(crate) async fn reservation(
    engine: &Engine,
    claim: &Claimed,
    platform: &str,
    account: &str,
    price_micros: u64,
) -> Result<PostOp, EngineError> {
    Ok(PostOp::Reserve(Box::new(ReserveWrite {
        call: CallKey { attempt: attempt_key(claim), call: 0 },
        step_name: claim.step_name.clone(),
        agent: claim.agent.to_string(),
        provider: platform.to_owned(),
        model: MODEL.to_owned(),
        account: Some(account.to_owned()),
        micros: price_micros,
        day: engine.recent_policy(claim.ticket.workspace).await?.day_rule(),
    })))
}

/// What follows for the money from what became of a post that was to cost
/// `price_micros`; `None`: nobody but a person can find out.
pub(crate) fn settled(price_micros: u64, cost: Option<u64>) -> Option<PostOp> {
    (price_micros > 0).then_some(PostOp::Settle { cost })
}

impl Engine {
    /// The bill of a post that is out: what the platform took, or the price. A
    /// platform that takes something where nothing was to be paid is booked,
    /// too.
    pub(crate) async fn billed(
        &self,
        claim: &Claimed,
        sending: &Sending,
        cost: u64,
    ) -> Result<Vec<PostOp>, EngineError> {
        if cost > sending.price_micros {
            seen(Rescue::BillOverBound);
            metrics::counter!("galley_bills_over_bound_total").increment(1);
            tracing::warn!(
                post.id = %sending.post,
                cost_micros = cost,
                price_micros = sending.price_micros,
                "{} took more for a post than the account `{}` says it costs: set its postMicros and linkMicros",
                sending.platform,
                sending.account
            );
        }
        let mut ops = Vec::new();
        if sending.price_micros == 0 && cost > 0 {
            ops.push(reservation(self, claim, &sending.platform, &sending.account, 0).await?);
        }
        ops.extend((sending.price_micros > 0 || cost > 0).then_some(PostOp::Settle { cost: Some(cost) }));
        Ok(ops)
    }

    /// No budget has room for the post: its step waits for money, and it stays
    /// unsent.
    pub(crate) async fn wait_for_money(
        &self,
        claim: &Claimed,
        post: PostId,
        price_micros: u64,
    ) -> Result<Begin, EngineError> {
        let told = self.no_room_for(claim.key(), "the post", price_micros).await?;
        let error = StepError::unfunded(told, price_micros);
        let record = PostRecord {
            ops: vec![PostOp::Reason { post, reason: error.message.clone() }],
            attempt: Some(attempt_of(claim, None, "waiting_budget", &error.class, &error.message)),
            ..PostRecord::default()
        };
        let event = Event::Failed { token: claim.token, failure: error.failure };
        self.publish_event(claim, event, record).await?;
        seen(Rescue::PostUnfunded);
        Ok(Begin::Nothing)
    }
}
