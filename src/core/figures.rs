//! A workspace's own figures over a period: what went out, what people decided,
//! what agents did and what it cost. Sums over what is on record; a figure that
//! nobody can know is absent, never guessed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::collaboration::later_rounds;
use crate::ids::StepIndex;
use crate::plan::Plan;
use crate::report::Usage;
use crate::run::{Run, StepState, WorkflowState};

/// The longest period, in days.
pub const MOST_DAYS: u16 = 92;

/// The days of a period that names none.
pub const USUAL_DAYS: u16 = 7;

/// Whole rows of figures are shown up to so many platforms, hours, agents and
/// models each.
const MOST_ROWS: usize = 100;

/// The figures of a workspace over a period that ends now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// Over which time.
    pub period: Period,
    /// Posts that went out in the period.
    pub posts: Posts,
    /// What became of the posts of the workflows that ended in the period.
    pub decisions: Decisions,
    /// Money spent in the period.
    pub spend: Spend,
    /// The workflows that ended in the period.
    pub workflows: Workflows,
    /// Their steps, by agent; skipped ones are no steps.
    pub agents: Vec<AgentFigures>,
    /// Their results, by model; those without one (publishing, code) are left out.
    pub models: Vec<ModelFigures>,
}

/// A stretch of time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Period {
    /// Its begin, RFC 3339.
    pub from: String,
    /// Its end, exclusive.
    pub until: String,
    /// Its length.
    pub days: u16,
    /// Whose hours are counted.
    pub time_zone: String,
}

/// Posts that went out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Posts {
    /// How many.
    pub published: u64,
    /// Where: the platform whose content it was, most first.
    pub by_platform: Vec<PlatformPosts>,
    /// When: hours of the day with any, in the period's time zone.
    pub by_hour: Vec<HourPosts>,
}

/// Posts of a platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlatformPosts {
    /// The platform.
    pub platform: String,
    /// How many.
    pub published: u64,
}

/// Posts of an hour of the day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HourPosts {
    /// 0 to 23.
    pub hour: u8,
    /// How many.
    pub published: u64,
}

/// What became of posts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decisions {
    /// Posts that were made.
    pub made: u64,
    /// Posts that went out after a person's approval.
    pub approved: u64,
    /// Posts that a person rejected.
    pub rejected: u64,
    /// Posts that nobody approved in time.
    pub expired: u64,
    /// Posts that a person edited.
    pub edited: u64,
    /// `approved` ÷ (`approved` + `rejected` + `expired`); absent without any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval_rate: Option<f64>,
}

/// Money, millionths of a US dollar.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spend {
    /// In all.
    pub micros: u64,
    /// Of that, charged at a bound because nobody can know.
    pub estimated_micros: u64,
    /// Per post that went out; absent without any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_post_micros: Option<u64>,
    /// What answers that are kept now have saved so far, in the period or not.
    pub kept_saved_micros: u64,
}

/// Workflows that ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Workflows {
    /// All steps that matter succeeded.
    pub succeeded: u64,
    /// One failed for good.
    pub failed: u64,
    /// Somebody cancelled them.
    pub cancelled: u64,
    /// Those in which something was done over.
    pub with_rework: u64,
}

/// What an agent did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentFigures {
    /// The agent type.
    pub agent: String,
    /// Its steps that came to an end of their own.
    pub steps: u64,
    /// Of these, with a result.
    pub succeeded: u64,
    /// Of these, without one.
    pub failed: u64,
    /// Of these, done over: later rounds.
    pub rework: u64,
    /// Results that were answered from kept answers.
    pub cache_hits: u64,
    /// `failed` ÷ `steps`.
    pub failure_rate: f64,
    /// `rework` ÷ `steps`.
    pub rework_rate: f64,
    /// Mean run time of a result, milliseconds; absent without any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub average_ms: Option<u64>,
    /// Tokens of its results, read and written.
    pub tokens: u64,
    /// What its results cost, millionths of a US dollar.
    pub cost_micros: u64,
}

/// What a model did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelFigures {
    /// Who offers it.
    pub provider: String,
    /// Its name there.
    pub model: String,
    /// Results it wrote, kept answers included.
    pub results: u64,
    /// Of these, from kept answers.
    pub cache_hits: u64,
    /// Mean run time, milliseconds, kept answers left out; absent without any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub average_ms: Option<u64>,
    /// Tokens read and written.
    pub tokens: u64,
    /// What they cost, millionths of a US dollar.
    pub cost_micros: u64,
}

/// A stored result, as far as figures ask.
#[derive(Clone, Debug)]
pub struct Made {
    /// The step that made it.
    pub step: StepIndex,
    /// Its run time, milliseconds.
    pub duration_ms: u64,
    /// Its bill.
    pub usage: Usage,
}

#[derive(Default)]
struct Sum {
    figures: AgentFigures,
    results: u64,
    ms: u64,
}

#[derive(Default)]
struct ModelSum {
    figures: ModelFigures,
    asked: u64,
    ms: u64,
}

/// Adds workflows up, one by one.
#[derive(Default)]
pub struct Tally {
    workflows: Workflows,
    agents: BTreeMap<String, Sum>,
    models: BTreeMap<(String, String), ModelSum>,
}

impl Tally {
    /// Adds a workflow that ended, with the results of its steps.
    pub fn add(&mut self, plan: &Plan, run: &Run, results: &[Made]) {
        match run.state(plan) {
            WorkflowState::Succeeded => self.workflows.succeeded += 1,
            WorkflowState::Failed => self.workflows.failed += 1,
            WorkflowState::Cancelled => self.workflows.cancelled += 1,
            // It did not end.
            WorkflowState::Running | WorkflowState::Waiting | WorkflowState::Stalled => return,
        }
        let later = later_rounds(plan);
        let mut rework = false;
        for (index, step) in run.steps.iter().enumerate() {
            // An expanded step is its parts.
            let parts = step.item.is_none() && run.children(index as StepIndex).next().is_some();
            let ended = match step.state {
                StepState::Succeeded => true,
                StepState::Failed => false,
                _ => continue,
            };
            let place = usize::from(step.plan);
            let (Some(planned), Some(later)) = (plan.steps.get(place), later.get(place)) else { continue };
            // An expansion over an empty list ran nothing.
            if parts || step.item.is_none() && planned.for_each.is_some() {
                continue;
            }
            let sum = self.agents.entry(planned.agent.to_string()).or_default();
            sum.figures.steps += 1;
            sum.figures.succeeded += u64::from(ended);
            sum.figures.failed += u64::from(!ended);
            sum.figures.rework += u64::from(*later);
            rework |= *later;
        }
        self.workflows.with_rework += u64::from(rework);
        for made in results {
            self.add_result(plan, run, made);
        }
    }

    fn add_result(&mut self, plan: &Plan, run: &Run, made: &Made) {
        let planned = run.step(made.step).and_then(|step| plan.steps.get(usize::from(step.plan)));
        let Some(planned) = planned else { return };
        let usage = &made.usage;
        let tokens = u64::from(usage.tokens_in) + u64::from(usage.tokens_out);
        let sum = self.agents.entry(planned.agent.to_string()).or_default();
        sum.results += 1;
        sum.ms += made.duration_ms;
        sum.figures.cache_hits += u64::from(usage.cache_hit);
        sum.figures.tokens += tokens;
        sum.figures.cost_micros += usage.cost_micros;
        let (Some(provider), Some(model)) = (&usage.provider, &usage.model) else { return };
        let sum = self.models.entry((provider.clone(), model.clone())).or_default();
        sum.figures.results += 1;
        sum.figures.cache_hits += u64::from(usage.cache_hit);
        sum.figures.tokens += tokens;
        sum.figures.cost_micros += usage.cost_micros;
        if !usage.cache_hit {
            sum.asked += 1;
            sum.ms += made.duration_ms;
        }
    }

    /// The sums, agents and models by name.
    pub fn into_figures(self) -> (Workflows, Vec<AgentFigures>, Vec<ModelFigures>) {
        let agents = self.agents.into_iter().map(|(agent, sum)| {
            let Sum { figures, results, ms } = sum;
            AgentFigures {
                agent,
                failure_rate: rate(figures.failed, figures.steps).unwrap_or(0.0),
                rework_rate: rate(figures.rework, figures.steps).unwrap_or(0.0),
                average_ms: ms.checked_div(results),
                ..figures
            }
        });
        let models = self.models.into_iter().map(|((provider, model), sum)| {
            let ModelSum { figures, asked, ms } = sum;
            ModelFigures { provider, model, average_ms: ms.checked_div(asked), ..figures }
        });
        (self.workflows, agents.take(MOST_ROWS).collect(), models.take(MOST_ROWS).collect())
    }
}

impl Posts {
    /// From counts per platform and hour of the day.
    pub fn of(counts: &[(String, u8, u64)]) -> Self {
        let mut platforms = BTreeMap::<&str, u64>::new();
        let mut hours = BTreeMap::<u8, u64>::new();
        for (platform, hour, count) in counts {
            *platforms.entry(platform).or_default() += count;
            *hours.entry(*hour).or_default() += count;
        }
        let mut by_platform: Vec<_> = platforms
            .into_iter()
            .map(|(platform, published)| PlatformPosts { platform: platform.to_owned(), published })
            .collect();
        // Stable: equal ones stay by name.
        by_platform.sort_by_key(|posts| std::cmp::Reverse(posts.published));
        by_platform.truncate(MOST_ROWS);
        Self {
            published: counts.iter().map(|(.., count)| count).sum(),
            by_platform,
            by_hour: hours.into_iter().map(|(hour, published)| HourPosts { hour, published }).collect(),
        }
    }
}

/// A share, rounded to four digits so that it reads the same everywhere.
pub fn rate(part: u64, of: u64) -> Option<f64> {
    (of > 0).then(|| (part as f64 / of as f64 * 10_000.0).round() / 10_000.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::retry::RetryPolicy;

    #[test]
    fn workflows_add_up_by_agent_and_model() {
        let steps = json!([
            { "name": "write", "agent": "writer", "forEach": { "path": "/p", "max": 3 } },
            { "name": "check", "agent": "checker" },
            { "name": "write_2", "agent": "writer", "needs": ["write", "check"] },
            { "name": "more", "agent": "helper", "optional": true },
        ]);
        let definition = serde_json::from_value(json!({ "name": "x", "steps": steps })).unwrap();
        let plan = Plan::compile(definition, |_| Some(RetryPolicy::default())).unwrap();
        let mut run = Run::new(&plan, 5);
        for item in 0..2 {
            run.steps.push(crate::run::StepRun::blocked(0, Some(item)));
        }
        let states = [
            StepState::Succeeded,
            StepState::Succeeded,
            StepState::Succeeded,
            StepState::Failed,
            StepState::Succeeded,
            StepState::Succeeded,
        ];
        for (step, state) in run.steps.iter_mut().zip(states) {
            step.state = state;
        }
        let made = |step, duration_ms, cost_micros, cache_hit| Made {
            step,
            duration_ms,
            usage: Usage {
                provider: Some("p".into()),
                model: Some("m".into()),
                tokens_in: 10,
                tokens_out: 1,
                cost_micros,
                cache_hit,
                ..Usage::default()
            },
        };
        let mut tally = Tally::default();
        let results = [made(4, 100, 5, false), made(5, 300, 7, false), made(2, 2, 0, true)];
        tally.add(&plan, &run, &results);
        // One that was skipped further on, and one that did not end.
        run.steps[2].state = StepState::Skipped;
        tally.add(&plan, &run, &[]);
        run.steps[1].state = StepState::Dead;
        tally.add(&plan, &run, &results);

        let (workflows, agents, models) = tally.into_figures();
        assert_eq!(workflows, Workflows { succeeded: 2, with_rework: 1, ..Workflows::default() });
        let told: Vec<_> =
            agents.iter().map(|a| (a.agent.as_str(), a.steps, a.succeeded, a.failed, a.rework)).collect();
        assert_eq!(told, [("checker", 2, 2, 0, 0), ("helper", 2, 0, 2, 0), ("writer", 5, 5, 0, 1)]);
        let writer = &agents[2];
        assert_eq!((writer.average_ms, writer.tokens, writer.cost_micros), (Some(134), 33, 12));
        assert_eq!((writer.rework_rate, writer.cache_hits, agents[1].failure_rate), (0.2, 1, 1.0));
        assert_eq!((models[0].results, models[0].cache_hits, models[0].average_ms), (3, 1, Some(200)));
    }

    #[test]
    fn posts_are_counted_by_platform_and_hour() {
        let posts = Posts::of(&[("x".into(), 9, 1), ("mastodon".into(), 9, 2), ("x".into(), 17, 3)]);
        assert_eq!(posts.published, 6);
        let platforms: Vec<_> =
            posts.by_platform.iter().map(|p| (p.platform.as_str(), p.published)).collect();
        assert_eq!(platforms, [("x", 4), ("mastodon", 2)]);
        assert_eq!(
            posts.by_hour.iter().map(|h| (h.hour, h.published)).collect::<Vec<_>>(),
            [(9, 3), (17, 3)]
        );
        assert_eq!((rate(1, 3), rate(1, 0)), (Some(0.3333), None));
    }
}
