//! Money: what a call may cost at most, what it did cost, and whether the
//! budgets have room for it.
//!
//! Amounts are whole millionths of a US dollar. A reservation is a true upper
//! bound, so that what is spent never exceeds what was reserved; whatever is
//! rounded is rounded up.

use serde::{Deserialize, Serialize};

use crate::plan::Problem;

/// What a model costs, in millionths of a US dollar per million tokens, and how
/// much it can read and write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Price {
    /// A million prompt tokens.
    pub input: u64,
    /// A million prompt tokens that the provider had cached; absent: as
    /// `input`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached: Option<u64>,
    /// A million completion tokens.
    pub output: u64,
    /// Most completion tokens of one call.
    pub max_output: u32,
}

/// Tokens of one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Prompt tokens, those that were cached included.
    pub input: u32,
    /// Prompt tokens that the provider had cached.
    pub cached: u32,
    /// Completion tokens.
    pub output: u32,
}

impl Price {
    /// A model that costs nothing.
    pub const FREE: Self = Self { input: 0, cached: None, output: 0, max_output: u32::MAX };

    /// Whether calls cost anything.
    pub fn is_free(&self) -> bool {
        self.input == 0 && self.output == 0
    }

    /// What a call costs.
    pub fn of(&self, tokens: Tokens) -> u64 {
        let cached = tokens.cached.min(tokens.input);
        let fresh = u128::from(tokens.input - cached) * u128::from(self.input);
        let cached = u128::from(cached) * u128::from(self.cached.unwrap_or(self.input).min(self.input));
        micros(fresh + cached + u128::from(tokens.output) * u128::from(self.output))
    }

    /// The most a call can cost. No token is shorter than a byte, so bytes
    /// bound prompt tokens, whatever the tokenizer; a call without a cap of its
    /// own is capped by the model.
    pub fn bound(&self, prompt_bytes: usize, max_tokens: Option<u32>) -> u64 {
        let most = max_tokens.unwrap_or(self.max_output).min(self.max_output);
        let input = prompt_bytes as u128 * u128::from(self.input);
        micros(input + u128::from(most) * u128::from(self.output))
    }
}

/// From prices per million tokens to whole millionths, rounded up.
fn micros(millionths: u128) -> u64 {
    u64::try_from(millionths.div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// What a workspace may spend. Absent: no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Budget {
    /// Per day of the workspace's time zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub day_micros: Option<u64>,
    /// Per calendar month of the workspace's time zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub month_micros: Option<u64>,
    /// Per workflow that has no limit of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow_micros: Option<u64>,
    /// A warning is raised when this share of a limit is used, percent.
    pub warn_percent: u8,
}

impl Default for Budget {
    fn default() -> Self {
        Self { day_micros: None, month_micros: None, workflow_micros: None, warn_percent: 80 }
    }
}

/// The largest limit: ten million dollars. Sums of it stay far from the end of
/// 64 bits.
pub const LARGEST_LIMIT: u64 = 10_000_000_000_000;

impl Budget {
    /// Whether nothing limits anything.
    pub fn is_unlimited(&self) -> bool {
        self.day_micros.is_none() && self.month_micros.is_none() && self.workflow_micros.is_none()
    }

    /// What is wrong with it; empty when it can be used.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (field, limit) in [
            ("dayMicros", self.day_micros),
            ("monthMicros", self.month_micros),
            ("workflowMicros", self.workflow_micros),
        ] {
            if limit.is_some_and(|limit| limit > LARGEST_LIMIT) {
                problems.push(Problem::new(field, "at most 10000000000000 (ten million dollars)"));
            }
        }
        if !(1..=100).contains(&self.warn_percent) {
            problems.push(Problem::new("warnPercent", "1 to 100"));
        }
        problems
    }
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// A day of the workspace.
    Day,
    /// A calendar month of the workspace.
    Month,
    /// One workflow, from its accept to its end.
    Workflow,
}

impl Period {
    /// Every period, in the order their rows are locked.
    pub const ALL: [Self; 3] = [Self::Day, Self::Month, Self::Workflow];

    /// The word used in the API, the CLI and the database.
    pub fn word(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
            Self::Workflow => "workflow",
        }
    }

    /// The period of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|period| period.word() == word)
    }
}

/// What was spent of a limit, and what may be yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter {
    /// What it counts.
    pub period: Period,
    /// Its limit; absent: none.
    pub limit: Option<u64>,
    /// What calls under way may cost at most.
    pub reserved: u64,
    /// What was spent, estimates included.
    pub spent: u64,
}

impl Counter {
    /// What it has room for; `None`: anything.
    pub fn room(&self) -> Option<u64> {
        self.limit.map(|limit| limit.saturating_sub(self.spent.saturating_add(self.reserved)))
    }

    /// Whether so much is used that somebody should be told.
    pub fn is_nearly_used(&self, warn_percent: u8) -> bool {
        self.limit
            .is_some_and(|limit| u128::from(self.spent) * 100 >= u128::from(limit) * u128::from(warn_percent))
    }
}

/// The first counter that has no room for an amount.
pub fn refused(counters: &[Counter], micros: u64) -> Option<&Counter> {
    counters.iter().find(|counter| counter.room().is_some_and(|room| room < micros))
}

/// What all counters together have room for; `None`: anything.
pub fn room(counters: &[Counter]) -> Option<u64> {
    counters.iter().filter_map(Counter::room).min()
}

/// One that waits for money.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The counters it draws from, as positions.
    pub counters: Vec<usize>,
    /// What its next call may cost at most.
    pub micros: u64,
}

/// Which of those who wait for money go on, in their order. Each takes its room
/// from those behind it, so that not all are woken for the money of one.
pub fn admit(counters: &mut [Counter], waiting: &[Waiting]) -> Vec<bool> {
    waiting
        .iter()
        .map(|one| {
            let fits = one
                .counters
                .iter()
                .all(|at| counters.get(*at).is_some_and(|c| c.room().is_none_or(|room| room >= one.micros)));
            if fits {
                for at in &one.counters {
                    if let Some(counter) = counters.get_mut(*at) {
                        counter.reserved = counter.reserved.saturating_add(one.micros);
                    }
                }
            }
            fits
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GPT: Price =
        Price { input: 2_500_000, cached: Some(1_250_000), output: 10_000_000, max_output: 16_384 };

    #[test]
    fn a_call_costs_what_its_tokens_cost_rounded_up() {
        let tokens = |input, cached, output| Tokens { input, cached, output };
        for (price, tokens, micros) in [
            (GPT, tokens(0, 0, 0), 0),
            (GPT, tokens(1, 0, 0), 3),
            (GPT, tokens(1_000, 0, 100), 3_500),
            (GPT, tokens(1_000, 1_000, 0), 1_250),
            // More cached than read: the provider miscounts, nobody gains.
            (GPT, tokens(1_000, 9_000, 0), 1_250),
            (Price { cached: None, ..GPT }, tokens(1_000, 1_000, 0), 2_500),
            (Price::FREE, tokens(u32::MAX, 0, u32::MAX), 0),
        ] {
            assert_eq!(price.of(tokens), micros, "{price:?} {tokens:?}");
        }
    }

    #[test]
    fn a_bound_without_a_cap_is_the_models() {
        assert_eq!(GPT.bound(1_000, Some(100)), 3_500);
        assert_eq!(GPT.bound(0, None), 163_840);
        assert_eq!(GPT.bound(0, Some(u32::MAX)), 163_840);
    }

    proptest! {
        /// What was reserved is enough, whatever comes back within the caps.
        #[test]
        fn a_bound_is_never_exceeded(
            input in 0_u64..100_000_000, output in 0_u64..100_000_000, cached in prop::option::of(0_u64..100_000_000),
            bytes in 0_usize..2_000_000, most in 1_u32..100_000, of_bytes in 0.0..=1.0_f64, of_cap in 0.0..=1.0_f64,
        ) {
            let price = Price { input, cached, output, max_output: 50_000 };
            let tokens = Tokens {
                input: (bytes as f64 * of_bytes) as u32,
                cached: (bytes as f64 * of_bytes / 2.0) as u32,
                output: (f64::from(most.min(50_000)) * of_cap) as u32,
            };
            prop_assert!(price.of(tokens) <= price.bound(bytes, Some(most)));
        }

        /// However many wait, those let on fit together.
        #[test]
        fn those_let_on_fit_together(
            limits in prop::collection::vec(prop::option::of(0_u64..1_000), 1..4),
            amounts in prop::collection::vec(0_u64..400, 0..20),
        ) {
            let mut counters: Vec<Counter> = limits.iter().map(|limit| Counter {
                period: Period::Day, limit: *limit, reserved: 10, spent: 20,
            }).collect();
            let before = counters.clone();
            let all: Vec<usize> = (0..counters.len()).collect();
            let waiting: Vec<Waiting> =
                amounts.iter().map(|micros| Waiting { counters: all.clone(), micros: *micros }).collect();
            let let_on = admit(&mut counters, &waiting);
            let sum: u64 = amounts.iter().zip(&let_on).filter(|(_, on)| **on).map(|(micros, _)| micros).sum();
            for counter in &before {
                prop_assert!(sum == 0 || counter.room().is_none_or(|room| sum <= room));
            }
            // The first that fits is never passed over.
            if let Some(first) = amounts.first() {
                prop_assert_eq!(let_on[0], refused(&before, *first).is_none());
            }
        }
    }

    #[test]
    fn the_tightest_counter_refuses() {
        let counter = |period, limit, spent| Counter { period, limit, reserved: 0, spent };
        let counters = [
            counter(Period::Day, Some(100), 40),
            counter(Period::Month, None, 1_000_000),
            counter(Period::Workflow, Some(50), 0),
        ];
        assert_eq!(room(&counters), Some(50));
        assert_eq!(refused(&counters, 50), None);
        assert_eq!(refused(&counters, 51).map(|counter| counter.period), Some(Period::Workflow));
        assert_eq!(refused(&counters, 61).map(|counter| counter.period), Some(Period::Day));
        assert!(counters[0].is_nearly_used(40) && !counters[0].is_nearly_used(41));
        assert_eq!(room(&counters[1..2]), None);
    }
}
