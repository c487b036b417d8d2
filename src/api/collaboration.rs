//! From what is on record of a workflow's steps to where its time went. The
//! arithmetic is `core::collaboration`; here are only the records.

use std::collections::HashMap;

use galley_core::collaboration::{self as core, AttemptTimes, SpanKind, Standing, StepTimes};
use galley_core::ids::StepIndex;
use galley_core::run::{StepState, WorkflowState};
use galley_engine::WorkflowHistory;
use galley_engine::store::{AttemptRow, WaitRow};
use jiff::Timestamp;

use crate::views::{Collaboration, CriticalStep, Loss, Span};

/// Where a workflow's time went.
pub(crate) struct Together {
    /// Per step, in the order of the run.
    pub(crate) timeline: Vec<Vec<Span>>,
    /// Of a workflow that is over and was not cancelled.
    pub(crate) collaboration: Option<Collaboration>,
}

/// Where the time of a workflow went that is, or was in the end, `age_ms` old.
pub(crate) fn of(history: &WorkflowHistory, waits: &[WaitRow], age_ms: u64) -> Together {
    let view = &history.workflow;
    let steps = Records::of(history, waits).steps();
    let timeline = core::timeline(&steps, age_ms);
    let over = matches!(view.state, WorkflowState::Succeeded | WorkflowState::Failed);
    let found = if over { core::collaboration(&steps, age_ms) } else { None };
    let collaboration = found.map(|found| Collaboration {
        efficiency: found.efficiency,
        wall_ms: found.wall_ms,
        useful_ms: found.useful_ms,
        losses: found.losses.into_iter().map(|(kind, ms)| Loss { kind: kind.into(), ms }).collect(),
        critical_path: found
            .critical_path
            .into_iter()
            .map(|at| CriticalStep {
                step: view.run.step_name(&view.plan, at.step as StepIndex),
                from_ms: at.from_ms,
                to_ms: at.to_ms,
                useful_ms: at.useful_ms,
            })
            .collect(),
    });
    let timeline = timeline.into_iter().map(|spans| spans.into_iter().map(Into::into).collect()).collect();
    Together { timeline, collaboration }
}

/// How an attempt ends that there is no money for.
const UNFUNDED: &str = "waiting_budget";

/// What is on record, by step.
struct Records<'a> {
    history: &'a WorkflowHistory,
    accepted: Option<Timestamp>,
    attempts: HashMap<StepIndex, Vec<&'a AttemptRow>>,
    /// Attempts that ended because there was no money: no failures.
    unfunded: HashMap<StepIndex, Vec<&'a AttemptRow>>,
    waits: HashMap<StepIndex, Vec<&'a WaitRow>>,
    /// The parts of expanded steps.
    parts: HashMap<StepIndex, Vec<usize>>,
}

impl<'a> Records<'a> {
    fn of(history: &'a WorkflowHistory, waits: &'a [WaitRow]) -> Self {
        let view = &history.workflow;
        let mut records = Self {
            history,
            accepted: view.row.created_at.parse().ok(),
            attempts: HashMap::new(),
            unfunded: HashMap::new(),
            waits: HashMap::new(),
            parts: HashMap::new(),
        };
        for attempt in &history.attempts {
            if attempt.outcome == UNFUNDED {
                records.unfunded.entry(attempt.step).or_default().push(attempt);
                continue;
            }
            // A result that was dropped because others had gone on held nobody
            // up: whoever went on is on record, too.
            if attempt.outcome != "overtaken" {
                records.attempts.entry(attempt.step).or_default().push(attempt);
            }
        }
        for wait in waits {
            records.waits.entry(wait.step).or_default().push(wait);
        }
        for (index, step) in view.run.steps.iter().enumerate() {
            if step.item.is_some() {
                records.parts.entry(step.plan).or_default().push(index);
            }
        }
        records
    }

    /// Milliseconds since the workflow was accepted. All of these times are
    /// Postgres' own.
    fn ms(&self, time: &str) -> u64 {
        let since = self.accepted.zip(time.parse::<Timestamp>().ok());
        let since = since.map(|(accepted, at)| at.as_microsecond() - accepted.as_microsecond());
        since.and_then(|us| u64::try_from(us / 1_000).ok()).unwrap_or(0)
    }

    fn steps(&self) -> Vec<StepTimes> {
        let view = &self.history.workflow;
        let later_rounds = core::later_rounds(&view.plan);
        (0..view.run.steps.len())
            .map(|index| {
                let step = index as StepIndex;
                let run = &view.run.steps[index];
                let plan = &view.plan.steps[usize::from(run.plan)];
                // An expanded step waits for its parts, and they for its needs.
                let needs = match self.parts.get(&step) {
                    Some(parts) => parts.clone(),
                    None => plan.needs.iter().map(|need| usize::from(*need)).collect(),
                };
                let attempts = self.attempts(step);
                StepTimes {
                    needs,
                    waits: self.waits(step, &attempts),
                    attempts,
                    standing: match run.state {
                        state if state.is_final() => Standing::Over,
                        StepState::Running => Standing::Running,
                        _ => Standing::Waiting,
                    },
                    rework: later_rounds[usize::from(run.plan)],
                }
            })
            .collect()
    }

    fn attempts(&self, step: StepIndex) -> Vec<AttemptTimes> {
        let began = |end: u64, duration_ms: i32| end.saturating_sub(u64::from(duration_ms.unsigned_abs()));
        let failed = self.attempts.get(&step).into_iter().flatten().map(|attempt| {
            let to_ms = self.ms(&attempt.ended_at);
            // What a dead worker told later was not measured up to this end.
            let lost = matches!(attempt.outcome.as_str(), "crashed" | "overdue");
            let measured = attempt.duration_ms.filter(|_| !lost);
            AttemptTimes { from_ms: measured.map(|ms| began(to_ms, ms)), to_ms, succeeded: false }
        });
        let succeeded = self.history.results.get(&step).map(|result| {
            let to_ms = self.ms(&result.finished_at);
            AttemptTimes { from_ms: Some(began(to_ms, result.duration_ms)), to_ms, succeeded: true }
        });
        failed.chain(succeeded).collect()
    }

    fn waits(&self, step: StepIndex, attempts: &[AttemptTimes]) -> Vec<core::Span> {
        let over = self.history.workflow.run.steps[usize::from(step)].state.is_final();
        let post = self.history.posts.get(&step);
        let people = |from_ms, to_ms| core::Span { kind: SpanKind::People, from_ms, to_ms };
        let mut waits: Vec<_> = self
            .waits
            .get(&step)
            .into_iter()
            .flatten()
            .map(|wait| {
                let until = wait.until.as_ref().map_or(u64::MAX, |until| self.ms(until));
                people(self.ms(&wait.since), until)
            })
            .collect();
        for (number, attempt) in self.attempts.get(&step).into_iter().flatten().enumerate() {
            if attempt.class == "in_doubt" {
                // Until whatever came next; a post that was given up changed
                // last when that was said.
                let next = attempts.get(number + 1).map(|next| next.from_ms.unwrap_or(next.to_ms));
                let given_up = post.filter(|_| over).map(|post| self.ms(&post.updated_at));
                waits.push(people(self.ms(&attempt.ended_at), next.or(given_up).unwrap_or(u64::MAX)));
            }
        }
        for unfunded in self.unfunded.get(&step).into_iter().flatten() {
            // Since it had begun, until whatever came next.
            let told = self.ms(&unfunded.ended_at);
            let from_ms = told.saturating_sub(u64::from(unfunded.duration_ms.unwrap_or(0).unsigned_abs()));
            let next = attempts.iter().map(|attempt| attempt.from_ms.unwrap_or(attempt.to_ms));
            let next = next.filter(|next| *next >= told).min();
            let to_ms = next.unwrap_or(if over { told } else { u64::MAX });
            waits.push(core::Span { kind: SpanKind::Money, from_ms, to_ms });
        }
        if let Some(post) = post
            && let Some(slot) = &post.slot_at
        {
            let sent = attempts.last().and_then(|attempt| attempt.from_ms).filter(|_| over);
            // One that never went out does not wait for its slot any more.
            let to_ms = if over { sent.unwrap_or(0) } else { u64::MAX };
            let to_ms = self.ms(slot).min(to_ms);
            waits.push(core::Span { kind: SpanKind::Slot, from_ms: self.ms(&post.created_at), to_ms });
        }
        waits
    }
}
