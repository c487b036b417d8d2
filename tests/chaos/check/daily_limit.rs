use std::collections::BTreeMap;

use galley_core::ids::{AccountId, WorkspaceId};
use jiff::Timestamp;
use jiff::civil::Date;

use super::Invariant;
use super::policies::Policies;
use super::world::World;

pub(super) const INVARIANT: Invariant = Invariant {
    name: "daily_limit",
    says: "what is out, or may be, never exceeds the limit of its local day, of the workspace or of the account",
    find,
};

/// When each place of a day was taken, and the most there could be then.
type Taken = BTreeMap<(WorkspaceId, Option<AccountId>, Date), Vec<(Timestamp, u32)>>;

fn find(world: &World<'_>) -> Vec<String> {
    let policies = Policies::of(world);
    let mut found = Vec::new();
    let mut taken = Taken::new();
    for publication in &world.history.dump.publications {
        let may_be_out =
            matches!(publication.state.as_str(), "published" | "intent" | "unknown" | "in_doubt");
        let (true, Some(at)) = (may_be_out, world.intended_at(publication)) else { continue };
        let workspace = publication.workspace_id;
        let possible = policies.at(workspace, at);
        let mut days: Vec<Date> = possible.iter().map(|policy| policy.day(at)).collect();
        days.dedup();
        // Counted on our own days; the row's only chooses between two that are
        // both possible while a policy is being replaced.
        let day = match publication.quota_day {
            Some(day) if days.contains(&day) => day,
            told => {
                let post = publication.post_id;
                found.push(format!(
                    "post {post}: intended at {at}, it counts for {told:?}; its day is {days:?}"
                ));
                days[0]
            }
        };
        let limit = |limit: Option<u32>| limit.unwrap_or(u32::MAX);
        let of_workspace = possible.iter().map(|p| limit(p.config.max_daily_posts)).max().unwrap_or(u32::MAX);
        let account = world.account(publication).and_then(|account| account.max_daily_posts);
        let of_account = limit(account.and_then(|limit| u32::try_from(limit).ok()));
        taken.entry((workspace, None, day)).or_default().push((at, of_workspace));
        taken.entry((workspace, Some(publication.account_id), day)).or_default().push((at, of_account));
    }
    for ((workspace, account, day), mut places) in taken {
        places.sort_unstable();
        for (rank, (at, limit)) in places.iter().enumerate() {
            if rank as u64 >= u64::from(*limit) {
                let whose = account.map_or(format!("workspace {workspace}"), |id| format!("account {id}"));
                found.push(format!("{whose} on {day}: place {} of {limit} was taken at {at}", rank + 1));
            }
        }
    }
    found
}
