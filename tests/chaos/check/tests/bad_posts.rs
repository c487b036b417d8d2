//! Broken posts: what must not go out, or not so, or not twice.

use galley_core::run::StepState;

use super::good::Good;
use super::story::Key;
use super::{Break, PUBLISH, edit_run, row_of};
use crate::history::{Ask, PublicationRow, Reply};

pub(super) const BREAKS: &[Break] = &[
    ("posts", "a post stands elsewhere than its step", |good| {
        row_of!(good.history.dump.posts, good.asked, PUBLISH).state = "scheduled".into();
    }),
    ("posts", "a published post's step did not succeed", |good| {
        edit_run(good, good.published, |run| run.steps[1].state = StepState::Failed);
        row_of!(good.history.dump.posts, good.published, PUBLISH).state = "failed".into();
    }),
    ("posts", "an open intent that the step does not know", |good| {
        publication(good, good.published).state = "intent".into();
        edit_run(good, good.published, |run| run.steps[1].state = StepState::Skipped);
        row_of!(good.history.dump.posts, good.published, PUBLISH).state = "rejected".into();
    }),
    ("posts", "a revision is missing", |good| {
        good.history.dump.post_revisions.remove(0);
    }),
    ("posts", "a revision that nobody wrote", |good| {
        good.history.ops.retain(|op| !matches!(op.ask, Ask::Edit { .. }));
    }),
    ("posts", "a hash of other bytes", |good| {
        good.history.dump.post_revisions[0].content_hash = "00".into();
    }),
    ("posts", "a post is not at its newest revision", |good| {
        row_of!(good.history.dump.posts, good.asked, PUBLISH).content_hash = "00".into();
    }),
    ("posts", "a step has two posts", |good| {
        let mut twin = good.history.dump.posts[0].clone();
        twin.id = galley_core::ids::PostId(uuid::Uuid::from_u128(1));
        good.history.dump.posts.push(twin);
    }),
    ("posts", "a post has two publications", |good| {
        let twin = publication(good, good.published).clone();
        good.history.dump.publications.push(PublicationRow { effect_key: "another".into(), ..twin });
    }),
    ("posts", "a publication of another step", |good| publication(good, good.published).step = 0),
    ("questions", "nobody is asked about a step that waits", |good| {
        let asked = good.asked.1;
        good.history.dump.approvals.retain(|row| row.workflow_id != asked || row.status != "pending");
    }),
    ("questions", "two questions are open", |good| {
        let pending = good.history.dump.approvals.iter().find(|row| row.status == "pending").unwrap().clone();
        good.history.dump.approvals.push(pending);
    }),
    ("questions", "an acknowledged approval is gone", |good| {
        let approved = good.history.dump.approvals.iter_mut().find(|row| row.status == "approved");
        approved.unwrap().status = "expired".into();
    }),
    ("questions", "a question expired before its time", |good| {
        let voided = good.history.dump.approvals.iter_mut().find(|row| row.status == "void");
        voided.unwrap().status = "expired".into();
    }),
    ("questions", "somebody approved when it was too late", |good| {
        let approved = good.history.dump.approvals.iter_mut().find(|row| row.status == "approved").unwrap();
        approved.expires_at = approved.asked_at;
    }),
    ("questions", "somebody approved other bytes than they were shown", |good| {
        for op in &mut good.history.ops {
            if let Ask::Approve { hash, .. } = &mut op.ask {
                *hash = "00".into();
            }
        }
    }),
    ("questions", "an answer of somebody else", |good| {
        good.history.dump.approvals[0].decided_by = Some("nobody".into());
    }),
    ("questions", "a no that nobody said", |good| {
        good.history.ops.retain(|op| !matches!(op.ask, Ask::Reject { .. }));
    }),
    ("questions", "a question about no workflow", |good| {
        good.history.dump.approvals[0].workflow_id = galley_core::ids::WorkflowId(uuid::Uuid::nil());
    }),
    ("effects", "a post went out twice", |good| {
        let twin = good.history.effects[0].clone();
        good.history.effects.push(twin);
    }),
    ("effects", "a post in doubt went out twice", |good| {
        let twin = good.history.effects[1].clone();
        good.history.effects.push(twin);
    }),
    ("effects", "a published post is not there", |good| {
        good.history.effects.remove(0);
    }),
    ("effects", "a post went out by another account", |good| {
        good.history.effects[0].account = "@keyed".into();
    }),
    ("effects", "a post went out that nobody intended", |good| {
        good.history.effects[0].key = "no key".into();
    }),
    ("effects", "a post that is not out is there", |good| {
        publication(good, good.published).state = "not_sent".into();
    }),
    ("bytes", "another text went out than was frozen", |good| good.history.effects[0].text.push('!')),
    ("bytes", "another text was frozen than its revision's", |good| {
        publication(good, good.published).payload["text"] = "canary-one something else".into();
    }),
    ("bytes", "another revision was frozen than it says", |good| {
        publication(good, good.published).revision = 7;
    }),
    ("bytes", "a frozen hash of another revision", |good| {
        publication(good, good.published).content_hash = "00".into();
    }),
    ("approved", "nobody was asked", |good| {
        publication(good, good.published).approval_id = None;
    }),
    ("approved", "the policy asked for an approval, and there is none", |good| {
        let published = good.published.1;
        publication(good, good.published).approval_id = None;
        good.history.dump.approvals.retain(|row| row.workflow_id != published);
    }),
    ("approved", "another revision was approved than went out", |good| {
        let id = publication(good, good.published).approval_id;
        let row = good.history.dump.approvals.iter_mut().find(|row| Some(row.id) == id).unwrap();
        row.content_hash = "00".into();
    }),
    ("approved", "it was approved after it went out", |good| {
        let id = publication(good, good.published).approval_id;
        let at = good.history.dump.at;
        let row = good.history.dump.approvals.iter_mut().find(|row| Some(row.id) == id).unwrap();
        row.decided_at = Some(at);
    }),
    ("approved", "it was rejected, and went out", |good| {
        let id = publication(good, good.published).approval_id;
        let row = good.history.dump.approvals.iter_mut().find(|row| Some(row.id) == id).unwrap();
        row.status = "rejected".into();
    }),
    ("approved", "a person approved nothing of the kind", |good| {
        good.history.ops.retain(|op| !matches!(op.ask, Ask::Approve { .. }));
    }),
    ("approved", "the approval is another step's", |good| {
        publication(good, good.published).approval_id = good.history_approval_of_another();
    }),
    ("approved", "it went out without an intent", |good| good.history.dump.publication_events.clear()),
    ("withdrawn", "a rejected post went out", |good| {
        let published = row_of!(good.history.dump.posts, good.published, PUBLISH).id;
        for op in &mut good.history.ops {
            if let Ask::Reject { about, .. } = &mut op.ask {
                *about = crate::history::Subject::Post(published);
            }
        }
    }),
    ("withdrawn", "a rejected post goes on", |good| {
        row_of!(good.history.dump.posts, good.rejected, PUBLISH).state = "scheduled".into();
    }),
    ("withdrawn", "a post whose workflow was cancelled has an open intent", |good| {
        row_of!(good.history.dump.posts, good.published, PUBLISH).state = "cancelled".into();
    }),
    ("withdrawn", "it was intended after the cancel", |good| {
        let workflow = good.published.1.to_string();
        let row = good.history.dump.audit.iter_mut().find(|row| row.action == "workflow.cancel").unwrap();
        (row.object, row.at) = (workflow, good.history.facts.began_at);
    }),
    ("withdrawn", "a step whose go was refused ran", |good| {
        let task = format!("{}.write", good.published.1);
        for op in &mut good.history.ops {
            if let Ask::Reject { about, .. } = &mut op.ask {
                *about = crate::history::Subject::Task(task.clone());
            }
        }
    }),
    ("daily_limit", "one more than the workspace's limit", |good| {
        limit(good, "maxDailyPosts", 1);
    }),
    ("daily_limit", "one more than the account's limit", |good| {
        good.history.dump.accounts.iter_mut().for_each(|account| account.max_daily_posts = Some(1));
    }),
    ("daily_limit", "the day is UTC's", |good| {
        for row in
            good.history.dump.publications.iter_mut().filter(|row| row.workspace_id == good.scheduled.0)
        {
            row.quota_day = row.quota_day.and_then(|day| day.yesterday().ok());
        }
    }),
    ("quota", "a day counts one too many", |good| good.history.dump.day_quota[0].used += 1),
    ("quota", "a day counts one too few", |good| good.history.dump.day_quota[0].used -= 1),
    ("quota", "a day is not counted at all", |good| good.history.dump.day_quota.clear()),
    ("quota", "the place of a post in doubt was given away", |good| {
        let doubted = good.history.dump.publications.iter_mut().find(|row| row.state == "in_doubt");
        doubted.unwrap().quota_held = false;
    }),
    ("quota", "a post that is not out holds a place", |good| {
        publication(good, good.published).state = "failed".into();
    }),
];

fn publication(good: &mut Good, key: Key) -> &mut PublicationRow {
    row_of!(good.history.dump.publications, key, PUBLISH)
}

impl Good {
    /// An approval that is about another workflow than the published one.
    fn history_approval_of_another(&self) -> Option<galley_core::ids::ApprovalId> {
        let rows = self.history.dump.approvals.iter();
        rows.filter(|row| row.workflow_id != self.published.1).map(|row| row.id).next()
    }
}

/// The same limit in every policy that was ever set, and in what clients asked.
fn limit(good: &mut Good, field: &str, limit: u32) {
    for row in good.history.dump.audit.iter_mut().filter(|row| row.action == "automation.set") {
        if let Some(detail) = &mut row.detail {
            detail[field] = limit.into();
        }
    }
    for op in &mut good.history.ops {
        if let (Ask::SetPolicy { config }, Reply::Done(_)) = (&mut op.ask, &op.reply) {
            config[field] = limit.into();
        }
    }
}
