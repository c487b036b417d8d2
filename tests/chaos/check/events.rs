use std::collections::{BTreeMap, HashSet};

use galley_core::run::WorkflowState;

use super::Invariant;
use super::world::World;
use crate::history::StreamEvent;

pub(super) const INVARIANT: Invariant = Invariant {
    name: "events",
    says: "an event stream tells each change once and in order, over every resume, and ends having told all",
    find,
};

fn find(world: &World<'_>) -> Vec<String> {
    let mut streams: BTreeMap<u64, Vec<&StreamEvent>> = BTreeMap::new();
    for event in &world.history.events {
        streams.entry(event.stream).or_default().push(event);
    }
    let mut found = Vec::new();
    for (stream, events) in streams {
        let mut say = |problem: String| found.push(format!("stream {stream}: {problem}"));
        repeats(&events, &mut say);
        gaps(world, &events, &mut say);
    }
    found
}

/// Behind the number a client resumed with, each change of a step once, in
/// order.
fn repeats(events: &[&StreamEvent], say: &mut dyn FnMut(String)) {
    let mut last_id = 0;
    let (mut connection, mut reached, mut told) = (0, 0, HashSet::new());
    for event in events {
        if event.connection != connection {
            (connection, reached) = (event.connection, 0);
            told.clear();
            if event.behind != last_id {
                say(format!(
                    "connection {connection} resumed behind {}, {last_id} was its last",
                    event.behind
                ));
            }
        }
        if event.seq < reached {
            say(format!("change {} came after change {reached}", event.seq));
        }
        reached = event.seq;
        if let Some(step) = &event.step {
            if event.seq <= event.behind {
                let (behind, seq) = (event.behind, event.seq);
                say(format!(
                    "`{step}` at change {seq} was told again to a client that resumed behind {behind}"
                ));
            }
            if !told.insert((step.as_str(), event.seq)) {
                say(format!("`{step}` at change {} was told twice", event.seq));
            }
        } else if event.id.is_none() {
            say(format!("the workflow's change {} has no id to resume behind", event.seq));
        }
        last_id = event.id.unwrap_or(last_id);
    }
}

/// A client that was told the end knows where every step ended.
fn gaps(world: &World<'_>, events: &[&StreamEvent], say: &mut dyn FnMut(String)) {
    let Some(end) = events.last().filter(|event| event.step.is_none()) else { return };
    if !WorkflowState::from_word(&end.state).is_some_and(WorkflowState::is_final) {
        return;
    }
    let Some(flow) = world.flows.get(&(end.workspace, end.workflow)) else { return };
    let told: HashSet<_> =
        events.iter().filter_map(|e| Some((e.step.as_deref()?, e.seq, e.state.as_str()))).collect();
    for (index, step, _) in flow.steps() {
        let name = flow.step_name(index);
        if !told.contains(&(name.as_str(), step.changed, step.state.word())) {
            say(format!(
                "it ended, and never told that `{name}` is {} since change {}",
                step.state.word(),
                step.changed
            ));
        }
    }
}
