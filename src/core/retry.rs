//! Retry arithmetic: whether a failed attempt is tried again, and when.

use serde::{Deserialize, Serialize};

/// How a step is retried. Frozen into the workflow when it is accepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RetryPolicy {
    /// Attempts before the step is dead; at least 1.
    pub max_attempts: u16,
    /// Worker crashes the step may be part of before it is dead; at least 1.
    pub max_crashes: u16,
    /// First back-off, milliseconds.
    pub backoff_ms: u64,
    /// Largest back-off, milliseconds.
    pub max_backoff_ms: u64,
    /// Longest run of one attempt, milliseconds. Past it the worker stops the
    /// attempt, and the reaper takes the step even if its session lives.
    pub timeout_ms: u64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { max_attempts: 5, max_crashes: 4, backoff_ms: 500, max_backoff_ms: 60_000, timeout_ms: 300_000 }
    }
}

/// How far a `Retry-After` of somebody else is believed: one day.
pub const LONGEST_RETRY_AFTER_MS: u64 = 24 * 3600 * 1000;

impl RetryPolicy {
    /// Milliseconds to wait before the next attempt, after `attempts` were
    /// made: full jitter over an exponentially growing, capped window, and
    /// never earlier than `retry_after_ms`. `jitter` is uniform in [0, 1).
    pub fn delay_ms(&self, attempts: u16, retry_after_ms: Option<u64>, jitter: f64) -> u64 {
        let doublings = u32::from(attempts.saturating_sub(1)).min(40);
        let window = self.backoff_ms.saturating_mul(1 << doublings).min(self.max_backoff_ms);
        let waited = (window as f64 * jitter.clamp(0.0, 1.0)) as u64;
        // A Retry-After is a floor; the jitter is added so that a crowd that
        // was told the same second does not come back in the same second.
        match retry_after_ms {
            Some(floor) => floor.min(LONGEST_RETRY_AFTER_MS).saturating_add(waited.min(self.backoff_ms)),
            None => waited,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        max_attempts: 5,
        max_crashes: 4,
        backoff_ms: 100,
        max_backoff_ms: 1_000,
        timeout_ms: 1,
    };

    #[test]
    fn the_window_doubles_up_to_its_cap() {
        for (attempts, window) in [(1, 100), (2, 200), (3, 400), (4, 800), (5, 1_000), (60_000, 1_000)] {
            assert_eq!(POLICY.delay_ms(attempts, None, 1.0), window, "after {attempts}");
            assert_eq!(POLICY.delay_ms(attempts, None, 0.0), 0);
        }
    }

    #[test]
    fn retry_after_is_a_floor_and_is_believed_for_a_day_at_most() {
        assert_eq!(POLICY.delay_ms(1, Some(5_000), 0.0), 5_000);
        assert_eq!(POLICY.delay_ms(4, Some(5_000), 1.0), 5_100);
        assert_eq!(POLICY.delay_ms(1, Some(u64::MAX), 0.0), LONGEST_RETRY_AFTER_MS);
    }

    proptest::proptest! {
        #[test]
        fn a_delay_never_overflows_nor_leaves_its_window(
            backoff in 0u64.., cap in 0u64.., attempts in 0u16.., jitter in 0.0f64..1.0, after in proptest::option::of(0u64..)
        ) {
            let policy = RetryPolicy { backoff_ms: backoff, max_backoff_ms: cap, ..POLICY };
            let delay = policy.delay_ms(attempts, after, jitter);
            match after {
                None => proptest::prop_assert!(delay <= cap),
                Some(floor) => proptest::prop_assert!(delay >= floor.min(LONGEST_RETRY_AFTER_MS)),
            }
        }
    }
}
