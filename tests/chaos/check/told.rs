use std::collections::HashMap;

use galley_core::ids::{WorkflowId, WorkspaceId};
use galley_core::publish::PostState;
use galley_core::run::{StepState, WorkflowState};

use super::Invariant;
use super::world::{Flow, World, name};
use crate::history::{Ask, Repair, ToldPost};

pub(super) const INVARIANT: Invariant = Invariant {
    name: "told",
    says: "what a client was told stays true: nothing final changes, nothing acknowledged is undone",
    find,
};

fn find(world: &World<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let mut told = Told { world, found: &mut found, steps: steps_by_name(world) };
    for (op, reply) in world.done() {
        let by = format!("op {}", op.id);
        if let (Some(workflow), Some(state)) = (reply.workflow, &reply.state) {
            told.workflow(op.workspace, workflow, state, reply.seq, &by);
        }
        if let Some(workflow) = reply.workflow {
            for (step, state) in &reply.steps {
                told.step(op.workspace, workflow, step, state, &by);
            }
        }
        if let Some(post) = &reply.post {
            told.post(op.workspace, post, &by);
        }
        match &op.ask {
            Ask::Cancel { workflow } => {
                let flow = world.flows.get(&(op.workspace, *workflow));
                if flow.is_none_or(|flow| !flow.run.cancelled) {
                    told.found
                        .push(format!("workflow {workflow}: {by} cancelled it, and it is not cancelled"));
                }
            }
            Ask::Repair { how: Repair::Discard, tasks } => {
                for task in tasks.iter().chain(&reply.repaired) {
                    let Some((workflow, step)) = task.split_once('.') else { continue };
                    let Ok(workflow) = workflow.parse() else { continue };
                    told.step(op.workspace, workflow, step, StepState::Failed.word(), &by);
                }
            }
            _ => {}
        }
    }
    for event in &world.history.events {
        let by = format!("stream {}", event.stream);
        match &event.step {
            Some(step) => told.step(event.workspace, event.workflow, step, &event.state, &by),
            None => told.workflow(event.workspace, event.workflow, &event.state, Some(event.seq), &by),
        }
    }
    found
}

type ByName = HashMap<(WorkspaceId, WorkflowId), HashMap<String, StepState>>;

fn steps_by_name(world: &World<'_>) -> ByName {
    let named =
        |flow: &Flow<'_>| flow.steps().map(|(index, step, _)| (flow.step_name(index), step.state)).collect();
    world.flows.iter().map(|(key, flow)| (*key, named(flow))).collect()
}

struct Told<'a> {
    world: &'a World<'a>,
    found: &'a mut Vec<String>,
    steps: ByName,
}

impl Told<'_> {
    fn workflow(&mut self, workspace: WorkspaceId, id: WorkflowId, state: &str, seq: Option<u64>, by: &str) {
        let key = (workspace, id);
        let Some(flow) = self.world.flows.get(&key) else {
            self.found.push(format!("{}: {by} was told that it is {state}, and it is not there", name(key)));
            return;
        };
        if seq.is_some_and(|seq| seq > flow.seq) {
            self.found.push(format!("{}: {by} was told of change {seq:?}, it is at {}", name(key), flow.seq));
        }
        let now = flow.run.state(&flow.plan).word();
        if WorkflowState::from_word(state).is_some_and(WorkflowState::is_final) && now != state {
            self.found.push(format!("{}: {by} was told that it is {state}, and it is {now}", name(key)));
        }
    }

    fn step(&mut self, workspace: WorkspaceId, workflow: WorkflowId, step: &str, state: &str, by: &str) {
        let is_final = StepState::ALL.into_iter().any(|s| s.word() == state && s.is_final());
        let now = self.steps.get(&(workspace, workflow)).and_then(|steps| steps.get(step));
        match now {
            None => {
                self.found.push(format!("task {workflow}.{step}: {by} was told of it, and it is not there"));
            }
            Some(now) if is_final && now.word() != state => {
                let now = now.word();
                self.found.push(format!(
                    "task {workflow}.{step}: {by} was told that it is {state}, and it is {now}"
                ));
            }
            Some(_) => {}
        }
    }

    fn post(&mut self, workspace: WorkspaceId, told: &ToldPost, by: &str) {
        let Some(post) = self.world.post(workspace, told.id) else {
            self.found.push(format!("post {}: {by} was told of it, and it is not there", told.id));
            return;
        };
        let is_final = PostState::from_word(&told.state).is_some_and(PostState::is_final);
        if is_final && post.state != told.state {
            let (then, now) = (&told.state, &post.state);
            self.found.push(format!("post {}: {by} was told that it is {then}, and it is {now}", told.id));
        }
        let same = post.revision == told.revision && post.content_hash != told.hash;
        if post.revision < told.revision || same {
            self.found.push(format!(
                "post {}: {by} was shown revision {} ({}), it is at {} ({})",
                told.id, told.revision, told.hash, post.revision, post.content_hash
            ));
        }
    }
}
