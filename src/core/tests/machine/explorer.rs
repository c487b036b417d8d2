//! Breadth-first search of everything that can happen in a world.
//!
//! States are remembered by a 64-bit hash: at the sizes explored here (below a
//! million) the chance that two different states share one is under 10⁻⁷.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use galley_core::decide::{Effect, Event};
use galley_core::plan::Plan;
use galley_core::run::{Run, WorkflowState};

use crate::laws;
use crate::words::word;
use crate::world::{Action, Budget, World};

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) states: usize,
    pub(crate) moves: usize,
    pub(crate) offered: usize,
    pub(crate) ends: HashMap<WorkflowState, usize>,
    /// How often each event was accepted, by its word.
    pub(crate) accepted: BTreeMap<&'static str, usize>,
}

/// One accepted event, as shown to a visitor.
pub(crate) struct Step<'a> {
    pub(crate) before: &'a Run,
    pub(crate) event: &'a Event,
    pub(crate) after: &'a Run,
    pub(crate) effects: &'a [Effect],
}

/// Explores a world to its end, checking every law in every state.
///
/// # Panics
/// With the shortest trace to a broken law, or to a state with no way out.
pub(crate) fn explore(plan: &Plan, budget: Budget, mut visit: impl FnMut(&Step<'_>)) -> Seen {
    let first = World::new(plan, budget).unwrap_or_else(|law| panic!("accepting: {law}"));
    let mut search = Search::default();
    search.found(first, None);
    let mut seen = Seen::default();
    while let Some((from, world)) = search.frontier.pop_front() {
        let state = world.run.state(plan);
        *seen.ends.entry(state).or_default() += 1;
        search.ended.push(state.is_final());
        for action in world.actions(plan) {
            seen.offered += 1;
            let moved = match world.step(plan, &action) {
                Ok(Some(moved)) => moved,
                Ok(None) => continue,
                Err(law) => {
                    panic!("{law}\nat {}\nafter\n{}", laws::summary(plan, &world.run), search.trace(from))
                }
            };
            if let (Action::Deliver(event), Some(effects)) = (&action, &moved.effects) {
                *seen.accepted.entry(word(event)).or_default() += 1;
                visit(&Step { before: &world.run, event, after: &moved.world.run, effects });
            }
            seen.moves += 1;
            search.found(moved.world, Some((from, action)));
        }
    }
    search.everything_can_end();
    seen.states = search.origin.len();
    seen
}

#[derive(Default)]
struct Search {
    known: HashMap<u64, usize>,
    frontier: std::collections::VecDeque<(usize, World)>,
    /// How each state was reached first.
    origin: Vec<Option<(usize, Action)>>,
    /// Every move, backwards.
    back: Vec<Vec<u32>>,
    /// Whether a state is final, in the order they were found.
    ended: Vec<bool>,
}

impl Search {
    fn found(&mut self, world: World, origin: Option<(usize, Action)>) {
        let mut hash = DefaultHasher::new();
        world.hash(&mut hash);
        let from = origin.as_ref().map(|(from, _)| *from as u32);
        let next = self.origin.len();
        let index = *self.known.entry(hash.finish()).or_insert(next);
        if index == next {
            self.origin.push(origin);
            self.back.push(Vec::new());
            self.frontier.push_back((index, world));
        }
        self.back[index].extend(from);
    }

    fn trace(&self, mut at: usize) -> String {
        let mut lines = Vec::new();
        while let Some((from, action)) = &self.origin[at] {
            lines.push(format!("  {action:?}"));
            at = *from;
        }
        lines.reverse();
        lines.join("\n")
    }

    /// From every state there is a way to a final one, if people answer.
    fn everything_can_end(&self) {
        let mut can = self.ended.clone();
        let mut work: Vec<usize> = (0..can.len()).filter(|i| can[*i]).collect();
        while let Some(at) = work.pop() {
            for &from in &self.back[at] {
                if !std::mem::replace(&mut can[from as usize], true) {
                    work.push(from as usize);
                }
            }
        }
        if let Some(stuck) = can.iter().position(|can| !can) {
            panic!("stuck for ever after\n{}", self.trace(stuck));
        }
    }
}
