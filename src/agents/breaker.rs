//! A provider that fails again and again is left alone for a while: its calls
//! would cost time and attempts.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failures in a row that open the breaker.
const FAILURES: u32 = 5;

/// How long it stays open. Then one call tries; if that fails, as long again.
const REST: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    opened: Option<Instant>,
}

/// One provider's breaker.
#[derive(Debug, Default)]
pub(crate) struct Breaker(Mutex<State>);

impl Breaker {
    /// How long it is best left alone; `None`: it may be called. Whoever calls
    /// after the rest is the trial: the others wait for what comes of it.
    pub(crate) fn rests(&self, now: Instant) -> Option<Duration> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = state.opened?;
        let left = REST.saturating_sub(now.saturating_duration_since(opened));
        (!left.is_zero()).then_some(left)
    }

    /// Somebody calls now. Of those who come after the rest only the first does
    /// not find it resting again.
    pub(crate) fn begin(&self, now: Instant) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.opened.is_some() {
            state.opened = Some(now);
        }
    }

    /// It answered, whatever it said.
    pub(crate) fn answered(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = State::default();
    }

    /// It failed in a way that another call may meet again.
    pub(crate) fn failed(&self, now: Instant) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.failures = state.failures.saturating_add(1);
        if state.failures >= FAILURES {
            state.opened = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_failures_in_a_row_and_one_call_tries() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 1..FAILURES {
            breaker.failed(now);
        }
        assert_eq!(breaker.rests(now), None);
        breaker.answered();
        for _ in 1..FAILURES {
            breaker.failed(now);
        }
        assert_eq!(breaker.rests(now), None, "an answer forgets what was before");
        breaker.failed(now);
        assert_eq!(breaker.rests(now), Some(REST));
        let later = now + REST;
        assert_eq!(breaker.rests(later), None);
        breaker.begin(later);
        assert_eq!(breaker.rests(later), Some(REST), "the others wait for the trial");
        breaker.answered();
        assert_eq!(breaker.rests(later), None);
    }
}
