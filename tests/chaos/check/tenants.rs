use std::collections::HashSet;

use galley_core::ids::{WorkflowId, WorkspaceId};

use super::Invariant;
use super::world::World;

pub(super) const INVARIANT: Invariant = Invariant {
    name: "tenants",
    says: "no row, reply, event, call or post of one workspace holds anything of another",
    find,
};

fn find(world: &World<'_>) -> Vec<String> {
    let history = world.history;
    let mut found = history.leftovers.crossed.clone();
    let mut judge = Judge { world, found: &mut found };
    for op in &history.ops {
        judge.canaries(Some(op.workspace), &op.canaries, || format!("the reply of op {}", op.id));
    }
    for call in &history.calls {
        let of = world.workflows.keys().find(|(_, workflow)| *workflow == call.workflow);
        judge.canaries(of.map(|key| key.0), &call.canaries, || format!("call {}", call.call));
    }
    for event in &history.events {
        judge.belongs(event.workspace, event.workflow, || format!("an event of stream {}", event.stream));
    }
    for effect in &history.effects {
        let of = world.by_handle(&effect.account).map(|account| account.workspace);
        judge.text(of, &effect.text, || format!("the post {} of `{}`", effect.key, effect.account));
    }
    let rows = match history.dump.rows() {
        Ok(rows) => rows,
        Err(error) => return vec![format!("the dump cannot be looked through: {error}")],
    };
    for (table, row) in rows {
        let of = row.get("workspace_id").and_then(|id| serde_json::from_value(id.clone()).ok());
        judge.text(of, &row.to_string(), || format!("a row of {table}"));
        let workflow = row.get("workflow_id").and_then(|id| serde_json::from_value(id.clone()).ok());
        if let (Some(of), Some(workflow)) = (of, workflow) {
            judge.belongs(of, workflow, || format!("a row of {table}"));
        }
    }
    let accounts: HashSet<_> = history.dump.accounts.iter().map(|a| (a.workspace_id, a.id)).collect();
    for post in &history.dump.posts {
        if !accounts.contains(&(post.workspace_id, post.account_id)) {
            found.push(format!("post {}: its account is not its workspace's", post.id));
        }
    }
    found
}

struct Judge<'a> {
    world: &'a World<'a>,
    found: &'a mut Vec<String>,
}

impl Judge<'_> {
    fn text(&mut self, of: Option<WorkspaceId>, text: &str, what: impl Fn() -> String) {
        for other in self.world.history.facts.workspaces.iter().filter(|other| Some(other.id) != of) {
            if text.contains(&other.canary) {
                self.found.push(format!("{} holds the canary of workspace {}", what(), other.name));
            }
        }
    }

    fn canaries(&mut self, of: Option<WorkspaceId>, canaries: &[String], what: impl Fn() -> String) {
        for canary in canaries {
            self.text(of, canary, &what);
        }
    }

    fn belongs(&mut self, of: WorkspaceId, workflow: WorkflowId, what: impl Fn() -> String) {
        if !self.world.workflows.contains_key(&(of, workflow)) {
            self.found.push(format!("{}: workspace {of} has no workflow {workflow}", what()));
        }
    }
}
