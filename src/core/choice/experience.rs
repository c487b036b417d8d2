//! What was seen of a model, as sums that forget.

use serde::{Deserialize, Serialize};

/// What a sum keeps of itself with every further run. Half of what is known
/// was learned in the last 23 runs, and a sum never weighs more than 34 of
/// them: a model that gets worse is found out within a few dozen.
pub const DECAY: f64 = 0.97;

/// What became of one run of a step on a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observed {
    /// Whether the output was of use: it came, and fit its schema.
    pub succeeded: bool,
    /// The rating of the output, 1 to 5, if somebody gave one at once.
    pub rating: Option<f64>,
    /// Cost in millionths of a US dollar. An answer from the response cache
    /// says nothing about a model: do not observe it.
    pub cost_micros: u64,
    /// Run time of the call, milliseconds.
    pub latency_ms: u64,
}

/// Decaying sums over the runs of one agent on one model, in one workspace or
/// in all. Every change is linear (`x' = x × DECAY + v`), so a store keeps it
/// up in one statement, and the order of two changes hardly matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Experience {
    /// How many recent runs this is worth; below 34.
    pub weight: f64,
    /// Those of them that succeeded.
    pub successes: f64,
    /// How many ratings this is worth.
    pub rating_weight: f64,
    /// Their sum; each is 1 to 5.
    pub rating_sum: f64,
    /// Cost in millionths of a US dollar.
    pub cost_sum: f64,
    /// Run time, milliseconds.
    pub latency_sum: f64,
}

impl Experience {
    /// Adds a run: everything known fades by [`DECAY`] first, ratings too.
    pub fn observe(&mut self, seen: &Observed) {
        let Self { weight, successes, rating_weight, rating_sum, cost_sum, latency_sum } = self;
        for sum in [&mut *weight, successes, rating_weight, rating_sum, cost_sum, latency_sum] {
            *sum *= DECAY;
        }
        self.weight += 1.0;
        self.successes += f64::from(u8::from(seen.succeeded));
        self.cost_sum += seen.cost_micros as f64;
        self.latency_sum += seen.latency_ms as f64;
        if let Some(rating) = seen.rating {
            self.rate(rating);
        }
    }

    /// Adds a rating, 1 to 5, of a run that was observed before. Nothing fades:
    /// what is known ages by runs, and this one was counted. A rating that comes
    /// late counts in full, as if its run were of now.
    pub fn rate(&mut self, rating: f64) {
        if rating.is_finite() {
            self.rating_weight += 1.0;
            self.rating_sum += rating.clamp(1.0, 5.0);
        }
    }

    /// The same with every sum that makes no sense put right: they come from a
    /// database.
    pub(super) fn sane(&self) -> Self {
        let sum = |x: f64| if x.is_finite() { x.clamp(0.0, 1e18) } else { 0.0 };
        let (weight, rating_weight) = (sum(self.weight), sum(self.rating_weight));
        Self {
            weight,
            successes: sum(self.successes).min(weight),
            rating_weight,
            rating_sum: sum(self.rating_sum).clamp(rating_weight, 5.0 * rating_weight),
            cost_sum: sum(self.cost_sum),
            latency_sum: sum(self.latency_sum),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_fades_what_was_known_and_a_rating_does_not() {
        let mut known = Experience::default();
        let seen = Observed { succeeded: true, rating: Some(4.0), cost_micros: 100, latency_ms: 10 };
        known.observe(&seen);
        known.observe(&Observed { succeeded: false, rating: None, cost_micros: 300, latency_ms: 30 });
        let expected = Experience {
            weight: 1.0 + DECAY,
            successes: DECAY,
            rating_weight: DECAY,
            rating_sum: 4.0 * DECAY,
            cost_sum: 300.0 + 100.0 * DECAY,
            latency_sum: 30.0 + 10.0 * DECAY,
        };
        assert_eq!(known, expected);
        known.rate(2.0);
        assert_eq!(known.weight, expected.weight);
        assert_eq!(known.rating_weight, expected.rating_weight + 1.0);
        assert_eq!(known.rating_sum, expected.rating_sum + 2.0);
        known.rate(f64::NAN);
        known.rate(99.0);
        assert_eq!(known.rating_sum, expected.rating_sum + 7.0);
    }

    #[test]
    fn what_is_known_is_never_worth_more_than_34_runs() {
        let mut known = Experience::default();
        let seen = Observed { succeeded: true, rating: Some(5.0), cost_micros: 1, latency_ms: 1 };
        for _ in 0..5_000 {
            known.observe(&seen);
        }
        assert!((33.3..34.0).contains(&known.weight), "{}", known.weight);
    }
}
