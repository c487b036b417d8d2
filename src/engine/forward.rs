//! A policy that leaves more room moves posts forward that wait for a slot
//! which Galley chose. A person's slot stays where it is, and what binds is
//! still the counter that is taken with the intent.

use std::collections::HashMap;

use galley_core::decide::Event;
use galley_core::ids::{AccountId, PostId, WorkflowKey, WorkspaceId};
use galley_store::{PostOp, PostRow};
use jiff::Timestamp;
use serde_json::json;

use crate::engine::Engine;
use crate::error::EngineError;
use crate::policy::instant;
use crate::slotting::SlotPlan;
use crate::transition::{Command, PostRecord, Record};

/// Why a post has another slot.
const WHY: &str = "the policy leaves more room; moved to an earlier slot";

impl Engine {
    /// Moves waiting posts to the earliest slots that are free now, in the
    /// order of the slots they have; answers how many moved.
    ///
    /// # Errors
    /// Postgres is away: what moved stays moved.
    pub(crate) async fn move_forward(
        &self,
        workspace: WorkspaceId,
        actor: &str,
    ) -> Result<usize, EngineError> {
        let mut moved = 0;
        for (post, at) in self.earlier_slots(workspace).await? {
            let record = PostRecord {
                ops: vec![
                    PostOp::GuardPost { post: post.id, version: post.version },
                    PostOp::Reslot { post: post.id, at: Some(at.to_string()), by: None },
                    PostOp::Reason { post: post.id, reason: WHY.into() },
                ],
                audit: Some((
                    actor.to_owned(),
                    "post.reschedule",
                    format!("post {}", post.id),
                    Some(json!({ "slotAt": at.to_string(), "because": WHY }).to_string()),
                )),
                ..PostRecord::default()
            };
            let event = Event::Amended { step: post.step, hold: false };
            let key = WorkflowKey { workspace, workflow: post.workflow };
            let command = Command { key, event, record: Record::Post(Box::new(record)) };
            match self.change(&post, vec![command]).await {
                Ok(()) => moved += 1,
                // It is on its way, over, or a person changed it: theirs counts.
                Err(EngineError::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(moved)
    }

    /// The posts that can go out earlier, and when: all give their places back,
    /// then each takes the next free one.
    async fn earlier_slots(&self, workspace: WorkspaceId) -> Result<Vec<(PostRow, Timestamp)>, EngineError> {
        let posts = self.store().posts_with_chosen_slots(workspace).await?;
        if posts.is_empty() {
            return Ok(Vec::new());
        }
        let policy = self.policy(workspace).await?;
        let now = policy.now()?;
        let ids: Vec<PostId> = posts.iter().map(|post| post.id).collect();
        let mut booked = self.store().booked(workspace, &ids).await?;
        let mut plans: HashMap<AccountId, SlotPlan> = HashMap::new();
        let mut earlier = Vec::new();
        for post in posts {
            let Some(old) = post.slot_at.as_deref().map(instant).transpose()? else { continue };
            if !plans.contains_key(&post.account)
                && let Some(account) = self.store().account_by_id(workspace, post.account).await?
            {
                plans.insert(post.account, SlotPlan::of(&policy, &account)?);
            }
            let best = plans.get(&post.account).and_then(|plan| plan.choose(post.account, &booked, now));
            let at = best.filter(|best| *best < old).unwrap_or(old);
            booked.slots.push((post.account, at.to_string()));
            if at < old {
                earlier.push((post, at));
            }
        }
        Ok(earlier)
    }
}
