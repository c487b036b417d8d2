use std::collections::{BTreeMap, HashSet};

use galley_core::plan::Plan;
use galley_core::run::{Run, StepState};

use super::Invariant;
use super::world::{Key, World, name, seq_of};
use crate::history::JournalRow;

pub(super) const INVARIANT: Invariant = Invariant {
    name: "transitions",
    says: "each version of a run follows from the one before: one writer, rising epochs, fresh nonces, no way \
           back from a final state, nothing before what it needs, nothing new after a cancel",
    find,
};

fn find(world: &World<'_>) -> Vec<String> {
    let mut journals: BTreeMap<Key, Vec<&JournalRow>> = BTreeMap::new();
    for row in &world.history.dump.run_journal {
        journals.entry((row.workspace_id, row.id)).or_default().push(row);
    }
    let mut found = Vec::new();
    for (key, mut rows) in journals {
        rows.sort_by_key(|row| row.n);
        let Some(flow) = world.flows.get(&key) else { continue };
        found.extend(follow(world, key, &flow.plan, &rows));
        if let Some(last) = rows.last()
            && seq_of(last.version) != flow.seq
        {
            let kept = seq_of(last.version);
            found.push(format!("{}: its row is at change {}, its journal at {kept}", name(key), flow.seq));
        }
    }
    found
}

fn follow(world: &World<'_>, key: Key, plan: &Plan, rows: &[&JournalRow]) -> Vec<String> {
    let mut found = Vec::new();
    let mut nonces = HashSet::new();
    let mut before: Option<(u64, Run)> = None;
    for row in rows {
        let seq = seq_of(row.version);
        let run = match row.run.run() {
            Ok(run) => run,
            Err(bad) => {
                found.push(format!("{} at change {seq}: {bad}", name(key)));
                continue;
            }
        };
        let expected = before.as_ref().map_or(1, |(seq, _)| seq + 1);
        if seq != expected {
            found.push(format!("{}: change {seq} was written where {expected} was due", name(key)));
        }
        if let Some((_, old)) = &before {
            let pair = Pair { world, key, plan, seq, old, new: &run };
            pair.judge(&mut nonces, &mut found);
        }
        before = Some((seq, run));
    }
    found
}

struct Pair<'a> {
    world: &'a World<'a>,
    key: Key,
    plan: &'a Plan,
    seq: u64,
    old: &'a Run,
    new: &'a Run,
}

impl Pair<'_> {
    fn judge(&self, nonces: &mut HashSet<u64>, found: &mut Vec<String>) {
        if self.new.steps.len() < self.old.steps.len() || (self.old.cancelled && !self.new.cancelled) {
            found.push(format!("{} at change {}: steps or its cancel were lost", name(self.key), self.seq));
            return;
        }
        for (index, new) in self.new.steps.iter().enumerate() {
            let mut say = |problem: String| {
                let task = self.new.step_name(self.plan, index as u16);
                found.push(format!("task {}.{task} at change {}: {problem}", self.key.1, self.seq));
            };
            if let Some(lease) = new.lease {
                let old = self.old.steps.get(index).and_then(|old| old.lease);
                if old.is_none_or(|old| old.nonce != lease.nonce) && !nonces.insert(lease.nonce.0) {
                    say("the nonce of its claim was drawn before".into());
                }
            }
            let Some(old) = self.old.steps.get(index) else { continue };
            let moved = old.state != new.state;
            if old.state.is_final() && moved {
                say(format!("it was {} and became {}", old.state.word(), new.state.word()));
            }
            if new.epoch < old.epoch {
                say(format!("its epoch fell from {} to {}", old.epoch, new.epoch));
            }
            if new.state == StepState::Running && old.lease != new.lease {
                if !matches!(old.state, StepState::Queued) {
                    say(format!("it was claimed while it was {}", old.state.word()));
                }
                if new.epoch <= old.epoch {
                    say("it was claimed without a new epoch".into());
                }
            }
            if moved && old.state == StepState::Blocked && starts(new.state) && !self.needs_met(index) {
                say(format!("it became {} before what it needs was final", new.state.word()));
            }
            if self.old.cancelled && moved && new.state == StepState::Running && !new.intent {
                say("it was started after its workflow was cancelled".into());
            }
            if new.intent && !old.intent {
                if self.old.cancelled {
                    say("an intent was written after its workflow was cancelled".into());
                }
                if old.state != StepState::Running {
                    say(format!("an intent was written while it was {}", old.state.word()));
                }
            }
            if moved && new.state == StepState::Succeeded {
                self.winner(index, &mut say);
            }
        }
    }

    /// The result is the one of the attempt that held the step.
    fn winner(&self, index: usize, say: &mut dyn FnMut(String)) {
        let old = &self.old.steps[index];
        let Some(lease) = old.lease else {
            if old.state == StepState::Running {
                say("it succeeded without a claim".into());
            }
            return;
        };
        for result in self.world.results.get(&(self.key, index as u16)).into_iter().flatten() {
            if (result.nonce as u64, result.epoch) != (lease.nonce.0, old.epoch) {
                say(format!(
                    "its result is of epoch {} and nonce {:x}, but epoch {} and nonce {:x} held it",
                    result.epoch, result.nonce as u64, old.epoch, lease.nonce.0
                ));
            }
        }
    }

    fn needs_met(&self, index: usize) -> bool {
        let Some(step) = self.plan.steps.get(usize::from(self.new.steps[index].plan)) else { return false };
        step.needs.iter().all(|need| {
            self.new.step(*need).is_some_and(|run| match run.state {
                StepState::Succeeded | StepState::Skipped => true,
                StepState::Failed => self.plan.steps.get(usize::from(*need)).is_some_and(|p| p.optional),
                _ => false,
            })
        })
    }
}

/// Whether a step that leaves `blocked` for this state goes ahead (the others
/// end it because it can never go ahead).
fn starts(state: StepState) -> bool {
    !matches!(state, StepState::Cancelled | StepState::Skipped | StepState::Failed | StepState::Dead)
}
