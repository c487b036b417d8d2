//! Running the checker: an exhaustive search, the shortest counterexample, and
//! the proof that every path ends.
//!
//! It never decides what is right: that is `property.rs`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Debug;
use std::hash::Hash;

use stateright::{Checker, HasDiscoveries, Model, Path};

/// A model that is searched.
pub trait Searched:
    Model<State: Copy + Eq + Hash + Debug + Send + Sync, Action: Copy + PartialEq + Debug + Send + Sync>
    + Clone
    + Send
    + Sync
    + 'static
{
    /// The same without what must be seen to happen: a search for a
    /// counterexample ends before that.
    #[must_use]
    fn without_witnesses(&self) -> Self;
}

/// What an exhaustive search saw.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Explored {
    /// Different states.
    pub states: usize,
    /// States on the longest shortest path.
    pub depth: usize,
}

/// How a promise is broken.
#[derive(Clone, Debug)]
pub struct Counterexample<M: Searched> {
    /// The actions, from the beginning to the broken promise.
    pub actions: Vec<M::Action>,
    /// The state in which it is broken.
    pub last: M::State,
}

/// Searches all of it.
///
/// # Panics
/// With the path, if a promise is broken; with the name, if a witness of the
/// theme was never seen.
pub fn explore<M: Searched>(protocol: &M) -> Explored {
    // One thread, so that the search is breadth first and its depth repeatable.
    let checker = protocol.clone().checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    checker.assert_properties();
    Explored { states: checker.unique_state_count(), depth: checker.max_depth() }
}

/// The shortest way to break one promise, if there is any.
pub fn counterexample<M: Searched>(protocol: &M, promise: &'static str) -> Option<Counterexample<M>> {
    let search = |shorter_than: Option<usize>| -> Option<Path<M::State, M::Action>> {
        let mut builder =
            protocol.without_witnesses().checker().finish_when(HasDiscoveries::AnyOf([promise].into()));
        if let Some(states) = shorter_than {
            builder = builder.target_max_depth(states);
        }
        builder.spawn_bfs().join().discovery(promise)
    };
    // The checker keeps the last discovery of a block of states, not the first.
    let mut best = search(None)?;
    loop {
        let states = best.clone().into_states().len();
        match search(Some(states)) {
            Some(shorter) => best = shorter,
            None => break,
        }
    }
    Some(Counterexample { last: *best.last_state(), actions: best.into_actions() })
}

/// Walks the whole graph depth first: no path comes back to a state it left.
/// Without cycles "no state is stuck" means "every run of the system ends well".
/// Returns how many states there are, by a count of its own.
///
/// # Panics
/// If there is a cycle.
pub fn assert_every_path_ends<M: Searched>(protocol: &M) -> usize {
    // true: still on the path that is being walked.
    let mut on_path: HashMap<M::State, bool> = HashMap::new();
    for start in protocol.init_states() {
        let mut path = vec![(start, protocol.next_states(&start))];
        on_path.insert(start, true);
        while let Some((state, rest)) = path.last_mut() {
            let Some(next) = rest.pop() else {
                on_path.insert(*state, false);
                path.pop();
                continue;
            };
            match on_path.entry(next) {
                Entry::Occupied(seen) => assert!(!seen.get(), "the system can go round for ever: {next:#?}"),
                Entry::Vacant(new) => {
                    new.insert(true);
                    path.push((next, protocol.next_states(&next)));
                }
            }
        }
    }
    on_path.len()
}
