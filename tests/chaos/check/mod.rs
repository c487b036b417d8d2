//! The checker: decides on a history whether every promise held.
//!
//! A function over data. It knows what Galley promises (`docs/`), not how
//! Galley keeps it: days are counted again from the policy's history, states
//! again from the runs, effects from the platforms' own ledgers. One invariant
//! per file, one line here; for each the tests hold at least one history that
//! breaks it.

use std::fmt;

use crate::history::History;

mod accepted;
mod approved;
mod audited;
mod bytes;
mod chain;
mod daily_limit;
mod effects;
mod events;
mod leaks;
mod letters;
mod money;
mod parents;
mod policies;
mod posts;
mod questions;
mod quota;
mod rest;
mod results;
mod runs;
mod said;
mod schedules;
mod secrets;
mod sometimes;
mod tenants;
mod told;
mod transitions;
mod withdrawn;
mod world;

#[cfg(test)]
mod tests;

use world::World;

/// Every invariant.
pub const INVARIANTS: &[Invariant] = &[
    accepted::INVARIANT,
    schedules::INVARIANT,
    rest::INVARIANT,
    runs::INVARIANT,
    transitions::INVARIANT,
    results::INVARIANT,
    parents::INVARIANT,
    said::INVARIANT,
    told::INVARIANT,
    events::INVARIANT,
    letters::INVARIANT,
    posts::INVARIANT,
    questions::INVARIANT,
    effects::INVARIANT,
    bytes::INVARIANT,
    approved::INVARIANT,
    withdrawn::INVARIANT,
    daily_limit::INVARIANT,
    quota::INVARIANT,
    money::INVARIANT,
    audited::INVARIANT,
    chain::INVARIANT,
    tenants::INVARIANT,
    secrets::INVARIANT,
    leaks::INVARIANT,
    sometimes::INVARIANT,
];

/// A promise that a history can break.
#[derive(Clone, Copy)]
pub struct Invariant {
    /// Its name: one word.
    pub name: &'static str,
    /// What it promises.
    pub says: &'static str,
    find: fn(&World<'_>) -> Vec<String>,
}

impl fmt::Debug for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.says)
    }
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which invariant.
    pub invariant: &'static str,
    /// What was found, with ids.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}

/// Decides every invariant; empty when every promise held.
pub fn check(history: &History) -> Vec<Violation> {
    let world = World::of(history);
    INVARIANTS
        .iter()
        .flat_map(|invariant| {
            let found = (invariant.find)(&world);
            found.into_iter().map(|what| Violation { invariant: invariant.name, what })
        })
        .collect()
}
