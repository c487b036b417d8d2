use std::collections::{BTreeMap, BTreeSet, HashSet};

use galley_core::ids::{PostId, WorkspaceId};

use super::Invariant;
use super::world::World;
use crate::history::{Ask, AuditRow, Op, Repair, Reply, Subject, Told};

pub(super) const INVARIANT: Invariant = Invariant {
    name: "audited",
    says: "every acknowledged change has exactly one audit row of who made it, and no refused one has any",
    find,
};

/// What clients change, and how the audit calls it.
const ACTIONS: [&str; 11] = [
    "workflow.cancel",
    "approval.approve",
    "approval.reject",
    "post.edit",
    "post.reject",
    "post.reschedule",
    "post.resolve",
    "dead.retry",
    "dead.edit_and_retry",
    "dead.discard",
    "automation.set",
];

/// Who acts without being asked.
const SCHEDULER: &str = "scheduler";

/// Who did what to what.
type Mark<'h> = (WorkspaceId, &'h str, &'h str, String);

/// How many rows there have to be, and may be.
#[derive(Default)]
struct Expected {
    least: usize,
    most: usize,
}

fn find(world: &World<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let nothing = Told::default();
    let mut expected: BTreeMap<Mark<'_>, Expected> = BTreeMap::new();
    // Whoever repaired by a filter and heard nothing may have repaired any.
    let mut open_ended = HashSet::new();
    let mut actions: HashSet<&str> = ACTIONS.into();
    for op in &world.history.ops {
        if let Ask::Other { action, .. } = &op.ask {
            actions.insert(action);
        }
        let (told, least, most) = match &op.reply {
            Reply::Done(told) => (told, 1, 1),
            Reply::Unknown { .. } => (&nothing, 0, 1),
            Reply::Refused { .. } => (&nothing, 0, 0),
        };
        for (action, object, certain) in changes(op, told) {
            let entry = expected.entry((op.workspace, &op.actor, action, object)).or_default();
            entry.least += if certain { least } else { 0 };
            entry.most += most;
        }
        if let (Ask::Repair { how, tasks }, Reply::Unknown { .. }) = (&op.ask, &op.reply)
            && tasks.is_empty()
        {
            open_ended.insert((op.workspace, op.actor.as_str(), repaired(*how)));
        }
    }
    let mut rows: BTreeMap<Mark<'_>, usize> = BTreeMap::new();
    let mut policies: BTreeMap<WorkspaceId, i64> = BTreeMap::new();
    let moved: HashSet<_> = world
        .perhaps()
        .filter(|op| matches!(op.ask, Ask::SetPolicy { .. }))
        .map(|op| (op.workspace, op.actor.as_str()))
        .collect();
    for row in world.history.dump.audit.iter().filter(|row| follows(row)) {
        if !moved.contains(&(row.workspace_id, row.actor.as_str())) {
            found.push(format!("{}: {} moved it with a policy, and set none", row.object, row.actor));
        }
    }
    let asked =
        |row: &&AuditRow| row.actor != SCHEDULER && actions.contains(row.action.as_str()) && !follows(row);
    for row in world.history.dump.audit.iter().filter(asked) {
        *rows.entry((row.workspace_id, &row.actor, &row.action, object(row))).or_default() += 1;
        if row.action == "automation.set" {
            *policies.entry(row.workspace_id).or_default() += 1;
        }
    }
    let marks: BTreeSet<_> = rows.keys().chain(expected.keys()).cloned().collect();
    for mark in marks {
        let there = rows.get(&mark).copied().unwrap_or(0);
        let (least, most) = expected.get(&mark).map_or((0, 0), |e| (e.least, e.most));
        let (workspace, actor, action, object) = mark;
        let most = if open_ended.contains(&(workspace, actor, action)) { usize::MAX } else { most };
        if there < least {
            found.push(format!(
                "{actor} was told of {least} × {action} of {object}; there are {there} audit rows"
            ));
        } else if there > most {
            found.push(format!(
                "{there} audit rows say that {actor} did {action} of {object}; at most {most} asks did"
            ));
        }
    }
    for policy in &world.history.dump.automation {
        let set = policies.get(&policy.workspace_id).copied().unwrap_or(0);
        if set != policy.version {
            let (id, version) = (policy.workspace_id, policy.version);
            found
                .push(format!("workspace {id}: its policy is at version {version}, {set} audit rows set it"));
        }
    }
    found
}

/// Whether a change came along with another: a policy that leaves more room
/// moves posts forward.
fn follows(row: &AuditRow) -> bool {
    row.action == "post.reschedule"
        && row.detail.as_ref().is_some_and(|detail| detail.get("because").is_some())
}

/// What a request changes if it is done: the audit's action and object, and
/// whether a success always means it.
fn changes<'h>(op: &'h Op, told: &'h Told) -> Vec<(&'h str, String, bool)> {
    let post = |post: &PostId| format!("post {post}");
    let about = |about: &Subject| match about {
        Subject::Post(id) => post(id),
        Subject::Task(task) => format!("task {task}"),
    };
    match &op.ask {
        Ask::Submit { .. } | Ask::Look { .. } | Ask::LookPost { .. } => Vec::new(),
        Ask::Cancel { workflow } => vec![("workflow.cancel", workflow.to_string(), true)],
        Ask::Approve { about: subject, .. } => vec![("approval.approve", about(subject), true)],
        Ask::Reject { about: subject, .. } => vec![("approval.reject", about(subject), true)],
        Ask::RejectPost { post: id } => vec![("post.reject", post(id), true)],
        Ask::Edit { post: id, approve, .. } => {
            // A dead post is asked about when it is retried, not now.
            let approved = approve.then(|| ("approval.approve", post(id), false));
            [("post.edit", post(id), true)].into_iter().chain(approved).collect()
        }
        Ask::Reschedule { post: id } => vec![("post.reschedule", post(id), true)],
        Ask::Resolve { post: id, .. } => vec![("post.resolve", post(id), true)],
        Ask::Repair { how, tasks } => {
            let tasks: BTreeSet<_> = tasks.iter().chain(&told.repaired).collect();
            tasks.into_iter().map(|task| (repaired(*how), task.clone(), true)).collect()
        }
        Ask::SetPolicy { .. } => vec![("automation.set", "automation".into(), true)],
        Ask::Other { action, object } => vec![(action.as_str(), object.clone(), true)],
    }
}

fn repaired(how: Repair) -> &'static str {
    match how {
        Repair::Retry => "dead.retry",
        Repair::EditAndRetry => "dead.edit_and_retry",
        Repair::Discard => "dead.discard",
    }
}

/// The object without its revision, which a client does not know beforehand.
fn object(row: &AuditRow) -> String {
    match row.object.split_once(" revision ") {
        Some((object, _)) => object.to_owned(),
        None => row.object.clone(),
    }
}
