//! What was compared and what happened: a machine that never met an overtaken
//! attempt proves nothing about one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// What has to have happened.
const SOMETIMES: [&str; 20] = [
    "cancels",
    "cancels while running",
    "dead letters discarded",
    "dead letters retried",
    "dead letters retried with another input",
    "given back",
    "lost places freed",
    "overtaken reports refused",
    "permanent failures",
    "repairs refused",
    "repeated reports recognised",
    "stale tickets refused",
    "steps due",
    "steps reaped",
    "successes",
    "throttled",
    "tickets claimed",
    "tickets expired",
    "tickets rebuilt",
    "tickets reconciled",
];

/// How often what happened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen(BTreeMap<&'static str, usize>);

impl Seen {
    pub(crate) fn add(&mut self, what: &'static str, times: usize) {
        *self.0.entry(what).or_default() += times;
    }
}

/// Of all cases together.
#[derive(Debug, Default)]
pub(crate) struct Score {
    compared: AtomicU64,
    seen: Mutex<Seen>,
}

impl Score {
    /// So many operations did what the model says.
    pub(crate) fn compared(&self, operations: u64) {
        self.compared.fetch_add(operations, Ordering::Relaxed);
    }

    pub(crate) fn operations(&self) -> u64 {
        self.compared.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, seen: &Seen) {
        let mut all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for (what, times) in &seen.0 {
            all.add(what, *times);
        }
    }

    /// What never happened.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        SOMETIMES.into_iter().filter(|what| all.0.get(what).is_none_or(|times| *times == 0)).collect()
    }

    /// What happened, for people.
    pub(crate) fn told(&self) -> String {
        let all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let parts: Vec<_> = all.0.iter().map(|(what, times)| format!("{times} {what}")).collect();
        parts.join(", ")
    }
}
