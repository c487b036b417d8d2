use std::collections::{HashMap, HashSet};

use super::world::{World, name};
use super::{Invariant, schedules};
use crate::history::{Ask, Reply};

pub(super) const INVARIANT: Invariant = Invariant {
    name: "accepted",
    says: "an acknowledged workflow exists, once; a refused one does not; a key is one workflow for ever",
    find,
};

fn find(world: &World<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let mut told = HashMap::new();
    let mut bodies = HashMap::new();
    // Keys under which something was, or may have been, accepted.
    let mut asked = HashSet::new();
    for op in &world.history.ops {
        let Ask::Submit { key, body, .. } = &op.ask else { continue };
        let of_key = (op.workspace, key.as_str());
        match &op.reply {
            Reply::Refused { .. } => continue,
            Reply::Unknown { .. } => {
                asked.insert(of_key);
                continue;
            }
            Reply::Done(reply) => {
                asked.insert(of_key);
                let Some(workflow) = reply.workflow else {
                    found.push(format!("op {}: acknowledged without an id", op.id));
                    continue;
                };
                match world.workflows.get(&(op.workspace, workflow)) {
                    None => found
                        .push(format!("workflow {workflow}: acknowledged by op {}, and not there", op.id)),
                    Some(row) if row.idempotency_key != *key => found.push(format!(
                        "workflow {workflow}: acknowledged by op {} for the key `{key}`, but it is of `{}`",
                        op.id, row.idempotency_key
                    )),
                    Some(_) => {}
                }
                if *told.entry(of_key).or_insert(workflow) != workflow {
                    found.push(format!(
                        "key `{key}`: one client was told {}, another {workflow}",
                        told[&of_key]
                    ));
                }
                if *bodies.entry(of_key).or_insert(*body) != *body {
                    found.push(format!("key `{key}`: two different requests were both acknowledged"));
                }
            }
        }
    }
    let mut of_key = HashMap::new();
    let mut rows = HashMap::new();
    let dump = &world.history.dump;
    for key in dump.runs.iter().map(|r| (r.workspace_id, r.id)) {
        *rows.entry(key).or_insert(0) += 1;
    }
    for key in dump.finished_runs.iter().map(|r| (r.workspace_id, r.id)) {
        *rows.entry(key).or_insert(0) += 1;
    }
    for row in &dump.workflows {
        let key = (row.workspace_id, row.id);
        let idempotency = (row.workspace_id, row.idempotency_key.as_str());
        if let Some(other) = of_key.insert(idempotency, row.id) {
            found.push(format!("key `{}`: it is both {other} and {}", row.idempotency_key, row.id));
        }
        if !asked.contains(&idempotency) && !is_scheduled(world, key) {
            found.push(format!("{}: nobody submitted it (key `{}`)", name(key), row.idempotency_key));
        }
        match rows.remove(&key) {
            Some(1) => {}
            None => found.push(format!("{}: it has no run, live or finished", name(key))),
            Some(n) => found.push(format!("{}: it has {n} runs", name(key))),
        }
    }
    for key in rows.keys() {
        found.push(format!("{}: it has a run, and was never submitted", name(*key)));
    }
    found
}

/// A workflow that a schedule submitted was told in the transaction that
/// accepted it.
fn is_scheduled(world: &World<'_>, key: super::world::Key) -> bool {
    world
        .history
        .dump
        .audit
        .iter()
        .any(|row| row.workspace_id == key.0 && schedules::submitted(row) == Some(key.1))
}
