//! Answers of the store that are believed for a moment, bounded in number.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Most answers that are remembered of a kind.
const MOST: usize = 10_000;

/// Answers that are believed for a while.
#[derive(Debug)]
pub struct Memory<K, V> {
    kept: Mutex<HashMap<K, (Instant, V)>>,
    time: Duration,
}

impl<K: Eq + Hash, V: Clone> Memory<K, V> {
    /// Nothing is known yet.
    pub fn new(time: Duration) -> Self {
        Self { kept: Mutex::default(), time }
    }

    /// The answer, while it is believed.
    pub fn get(&self, key: &K) -> Option<V> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(key).filter(|(since, _)| since.elapsed() < self.time).map(|(_, value)| value.clone())
    }

    /// Keeps an answer to a question that was asked then.
    pub fn put(&self, key: K, asked: Instant, value: V) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MOST {
            kept.retain(|_, (since, _)| since.elapsed() < self.time);
        }
        if kept.len() >= MOST {
            kept.clear();
        }
        kept.insert(key, (asked, value));
    }

    /// Forgets an answer: the question is asked anew.
    pub fn forget(&self, key: &K) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_believed_for_its_time_and_few_are_kept() {
        let (long, short) = (Memory::new(Duration::from_secs(3_600)), Memory::new(Duration::ZERO));
        for memory in [&long, &short] {
            memory.put(1, Instant::now(), "a");
        }
        assert_eq!((long.get(&1), short.get(&1)), (Some("a"), None));
        long.forget(&1);
        assert_eq!(long.get(&1), None);
        for n in 0..MOST * 2 + 5 {
            long.put(n, Instant::now(), "b");
        }
        assert_eq!(long.get(&(MOST * 2 + 4)), Some("b"));
        assert!(long.kept.lock().unwrap().len() <= MOST);
    }
}
