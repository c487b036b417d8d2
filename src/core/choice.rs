//! Which model answers a step: expected rating × success rate, against cost
//! and latency, with a little exploration. What is believed of a model starts
//! from the agent's author (the order of the candidates), then from what all
//! workspaces saw of it, then from this workspace's own runs.
//!
//! A pure function: chance comes in as seeded [`Draws`], so that every choice
//! on record can be made again.

mod draws;
mod experience;
mod reason;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::plan::Problem;

pub use draws::Draws;
pub use experience::{DECAY, Experience, Observed};

/// What matters how much. Each is an exponent: at `cost` 0.1 a model that
/// costs ten times as much has to be 1.26 times as good.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Weights {
    /// Of rating × success rate.
    pub quality: f64,
    /// Of the cost per run.
    pub cost: f64,
    /// Of the run time.
    pub latency: f64,
    /// How curious the choice is; 0: it never tries what looks worse.
    pub exploration: f64,
}

impl Default for Weights {
    fn default() -> Self {
        Self { quality: 1.0, cost: 0.1, latency: 0.05, exploration: 0.5 }
    }
}

/// The largest weight that makes sense.
const MOST: f64 = 5.0;

impl Weights {
    /// What is wrong with the weights; empty when they can be used.
    pub fn problems(&self) -> Vec<Problem> {
        let Self { quality, cost, latency, exploration } = *self;
        let named =
            [("quality", quality), ("cost", cost), ("latency", latency), ("exploration", exploration)];
        let bad = named.into_iter().filter(|(_, weight)| !(0.0..=MOST).contains(weight));
        bad.map(|(name, _)| Problem::new(name, "0 (does not matter) to 5")).collect()
    }

    /// Usable whatever was stored.
    fn sane(&self) -> Self {
        let usual = Self::default();
        let weight = |weight: f64, or: f64| if weight.is_finite() { weight.clamp(0.0, MOST) } else { or };
        Self {
            quality: weight(self.quality, usual.quality),
            cost: weight(self.cost, usual.cost),
            latency: weight(self.latency, usual.latency),
            exploration: weight(self.exploration, usual.exploration),
        }
    }
}

/// A model that could answer. The order of the candidates is the author's: the
/// best first.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// `provider:model`.
    pub name: &'a str,
    /// What this workspace saw of it.
    pub own: &'a Experience,
    /// What all workspaces saw of it.
    pub global: &'a Experience,
    /// What a run should cost by the price list, millionths of a US dollar:
    /// believed until runs say otherwise. `None`: no price is known.
    pub expected_cost_micros: Option<u64>,
    /// Whether the remaining budget allows a run.
    pub affordable: bool,
    /// Whether its provider answers at all.
    pub healthy: bool,
}

/// Why a candidate could not be chosen, however good it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhyNot {
    /// The remaining budget does not allow a run.
    Budget,
    /// Its provider fails; it is left alone for a while.
    Unhealthy,
}

/// What is believed of a candidate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Score {
    /// `provider:model`.
    pub name: String,
    /// Expected rating, 1 to 5.
    pub quality: f64,
    /// Expected success rate, 0 to 1.
    pub success: f64,
    /// Expected cost of a run, millionths of a US dollar.
    pub cost_micros: u64,
    /// Expected run time, milliseconds.
    pub latency_ms: u64,
    /// What it all comes to, 0 to 1: comparable within one choice only.
    pub utility: f64,
    /// The utility with chance in it, by which the choice was made: the less
    /// is known of a candidate, the further it strays.
    pub drawn: f64,
    /// It was chosen to learn more about it, not because it looks best.
    pub explored: bool,
    /// Why it could not be chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why_not: Option<WhyNot>,
}

/// A model was chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Choice {
    /// Its position among the candidates.
    pub index: usize,
    /// What is believed of every candidate, in their order.
    pub scores: Vec<Score>,
    /// Why this one: a sentence for people.
    pub reason: String,
}

/// Runs that the author's order and the price list are worth.
const AUTHOR: f64 = 4.0;

/// Most runs that other workspaces' experience is worth here.
const OTHERS: f64 = 12.0;

/// Runs that a listed cost is worth: a bill is a fact, not an opinion.
const LISTED: f64 = 1.0;

/// What is expected of a model nobody has used: the rating of the first …
const NEW_RATING: f64 = 4.5;

/// … its success rate, …
const NEW_SUCCESS: f64 = 0.9;

/// … and what the next in the list is worth of the one before it.
const NEXT: f64 = 0.97;

/// How far ratings of one model lie apart.
const RATING_DEVIATION: f64 = 1.0;

/// Below a hundredth of a cent a cost does not matter, …
const COST_FLOOR: f64 = 100.0;

/// … nor does a tenth of a second.
const LATENCY_FLOOR: f64 = 100.0;

/// The share of steps, at exploration 1, that look again at something that
/// does not look best: a model that got better is found again, whatever is
/// known against it.
const LOOK_AGAIN: f64 = 0.04;

/// Chooses among candidates: the one with the highest utility, each drawn from
/// what is believed of it (Thompson sampling, with normal draws). With no
/// history at all, or without exploration, nothing is drawn. `None` if no
/// candidate is affordable and healthy. Ties go to the earlier one.
pub fn choose(candidates: &[Candidate<'_>], weights: &Weights, draws: &mut Draws) -> Option<Choice> {
    let weights = weights.sane();
    let beliefs = beliefs(candidates, &weights);
    let cheapest = least(beliefs.iter().map(|belief| belief.cost));
    let fastest = least(beliefs.iter().map(|belief| belief.latency));
    let utility = |belief: &Belief, rating: f64, success: f64| {
        (rating / 5.0 * success).powf(weights.quality)
            * price_factor(belief.cost, cheapest, &weights)
            * ((fastest + LATENCY_FLOOR) / (belief.latency + LATENCY_FLOOR)).powf(weights.latency)
    };

    let known = candidates.iter().any(|candidate| candidate.own.weight + candidate.global.weight > 0.0);
    let curiosity = if known { weights.exploration } else { 0.0 };
    let looks_again = draws.uniform() < LOOK_AGAIN * curiosity;
    let at = draws.uniform();

    let mut scores: Vec<Score> = candidates
        .iter()
        .zip(&beliefs)
        .map(|(candidate, belief)| {
            let Belief { rating, success, .. } = *belief;
            let stray = |deviation: f64, normal: f64| curiosity * deviation * normal;
            let drawn_rating = rating.mean + stray(RATING_DEVIATION / rating.runs.sqrt(), draws.normal());
            let spread = (success.mean * (1.0 - success.mean) / (success.runs + 1.0)).sqrt();
            let drawn_success = success.mean + stray(spread, draws.normal());
            Score {
                name: candidate.name.to_owned(),
                quality: rating.mean,
                success: success.mean,
                cost_micros: belief.cost.round() as u64,
                latency_ms: belief.latency.round() as u64,
                utility: utility(belief, rating.mean, success.mean),
                drawn: utility(belief, drawn_rating.clamp(1.0, 5.0), drawn_success.clamp(0.0, 1.0)),
                explored: false,
                why_not: match (candidate.affordable, candidate.healthy) {
                    (false, _) => Some(WhyNot::Budget),
                    (_, false) => Some(WhyNot::Unhealthy),
                    _ => None,
                },
            }
        })
        .collect();

    let best = highest(&scores, |score| score.utility)?;
    let others: Vec<usize> =
        (0..scores.len()).filter(|index| *index != best && scores[*index].why_not.is_none()).collect();
    let again = others.get((at * others.len() as f64) as usize).filter(|_| looks_again);
    let index = match again {
        Some(again) => *again,
        None => highest(&scores, |score| score.drawn)?,
    };
    scores[index].explored = index != best;
    let reason = reason::of(candidates, &scores, index, best, known);
    Some(Choice { index, scores, reason })
}

/// The first of the highest among those that may be chosen.
fn highest(scores: &[Score], of: impl Fn(&Score) -> f64) -> Option<usize> {
    let mut highest: Option<usize> = None;
    for (index, score) in scores.iter().enumerate() {
        if score.why_not.is_none() && highest.is_none_or(|so_far| of(score) > of(&scores[so_far])) {
            highest = Some(index);
        }
    }
    highest
}

/// A mean, and how many runs it is worth.
#[derive(Clone, Copy, Debug)]
struct Mean {
    mean: f64,
    runs: f64,
}

impl Mean {
    /// A mean that nobody has seen yet.
    fn expected(mean: f64, runs: f64) -> Self {
        Self { mean, runs }
    }

    /// Moved by what was seen, which counts as `most` runs at most.
    fn seen(self, sum: f64, weight: f64, most: f64) -> Self {
        // A thousandth of a run is rounding, or rubbish.
        if weight < 1e-3 {
            return self;
        }
        // The mean learns from all of it; only its certainty is bounded.
        let mean = (self.mean * self.runs + sum) / (self.runs + weight);
        Self { mean, runs: self.runs + weight.min(most) }
    }

    /// No more than it can be: a mean of means may miss its limits by a
    /// rounding, and the square root of what is below 0 is no number.
    fn within(self, low: f64, high: f64) -> Self {
        Self { mean: self.mean.clamp(low, high), ..self }
    }
}

struct Belief {
    rating: Mean,
    success: Mean,
    cost: f64,
    latency: f64,
}

fn beliefs(candidates: &[Candidate<'_>], weights: &Weights) -> Vec<Belief> {
    let history: Vec<_> =
        candidates.iter().map(|candidate| (candidate.own.sane(), candidate.global.sane())).collect();
    let seen = |(own, global): &(Experience, Experience), of: fn(&Experience) -> f64, listed: Option<f64>| {
        let listed = listed.map(|listed| Mean::expected(listed, LISTED));
        let start = listed.unwrap_or(Mean::expected(0.0, 0.0)).seen(of(global), global.weight, OTHERS);
        let all = start.seen(of(own), own.weight, f64::INFINITY);
        (all.runs > 0.0).then_some(all.mean)
    };
    let listed = |candidate: &Candidate<'_>| candidate.expected_cost_micros.map(|cost| cost as f64);
    let listed_costs = neutral(candidates.iter().map(listed).collect());
    let costs = neutral(
        candidates
            .iter()
            .zip(&history)
            .map(|(candidate, history)| seen(history, |sums| sums.cost_sum, listed(candidate)))
            .collect(),
    );
    let latencies =
        neutral(history.iter().map(|history| seen(history, |sums| sums.latency_sum, None)).collect());

    let expected = expected_ratings(&listed_costs, weights);
    history
        .iter()
        .enumerate()
        .map(|(index, (own, global))| Belief {
            rating: Mean::expected(expected[index], AUTHOR)
                .seen(global.rating_sum, global.rating_weight, OTHERS)
                .seen(own.rating_sum, own.rating_weight, f64::INFINITY)
                .within(1.0, 5.0),
            success: Mean::expected(NEW_SUCCESS, AUTHOR)
                .seen(global.successes, global.weight, OTHERS)
                .seen(own.successes, own.weight, f64::INFINITY)
                .within(0.0, 1.0),
            cost: costs[index],
            latency: latencies[index],
        })
        .collect()
}

/// The ratings that the author's order implies: whoever lists a model before
/// one that costs a tenth thinks that it is worth its price. So each candidate
/// is expected to be a little less useful, all in all, than the one before.
fn expected_ratings(costs: &[f64], weights: &Weights) -> Vec<f64> {
    let cheapest = least(costs.iter().copied());
    let implied: Vec<f64> = costs
        .iter()
        .enumerate()
        .map(|(rank, cost)| rank as f64 * NEXT.ln() - price_factor(*cost, cheapest, weights).ln())
        .collect();
    let most = implied.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let by = weights.quality.max(0.05);
    implied.iter().map(|implied| (NEW_RATING * ((implied - most) / by).exp()).clamp(1.0, 5.0)).collect()
}

fn price_factor(cost: f64, cheapest: f64, weights: &Weights) -> f64 {
    ((cheapest + COST_FLOOR) / (cost + COST_FLOOR)).powf(weights.cost)
}

/// What is not known counts neither for nor against: it is like the mean of
/// what is.
fn neutral(known: Vec<Option<f64>>) -> Vec<f64> {
    let count = known.iter().flatten().count().max(1) as f64;
    let mean = known.iter().flatten().sum::<f64>() / count;
    known.into_iter().map(|value| value.unwrap_or(mean)).collect()
}

fn least(values: impl Iterator<Item = f64>) -> f64 {
    values.reduce(f64::min).unwrap_or(0.0)
}
