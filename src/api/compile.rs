//! Writing a workflow's history down: each agent's contribution, the sums, the
//! attempt logs. Arithmetic only; what the numbers mean is in the views.

use galley_core::ids::{StepIndex, WorkflowId};
use galley_core::plan::Plan;
use galley_core::report::Usage;
use galley_core::run::{Run, StepState};
use galley_engine::store::{AttemptRow, WaitRow};
use galley_engine::{WorkflowHistory, WorkflowView};
use serde_json::Value;

use crate::collaboration;
use crate::views::{
    AgentTaskHistory, Attempt, CompiledResult, Contribution, ModelChoice, StepCounts, TaskError, TaskResult,
    Totals, WorkflowDetail, WorkflowSummary,
};

/// `<workflow id>.<step name>`.
pub(crate) fn task_id(workflow: WorkflowId, step_name: &str) -> String {
    format!("{workflow}.{step_name}")
}

/// A workflow in a list.
pub(crate) fn summary(view: &WorkflowView) -> WorkflowSummary {
    let row = &view.row;
    WorkflowSummary {
        id: row.key.workflow,
        workspace_id: row.key.workspace,
        name: row.name.clone(),
        template: row.template.clone(),
        state: view.state.into(),
        priority: u8::try_from(row.priority).unwrap_or_default(),
        created_by: row.created_by.clone(),
        created_at: row.created_at.clone(),
        finished_at: row.finished_at.clone(),
        seq: view.seq,
        steps: counts(&view.run),
    }
}

fn counts(run: &Run) -> StepCounts {
    let mut counts = StepCounts { total: run.steps.len(), ..StepCounts::default() };
    for step in &run.steps {
        match step.state {
            StepState::Blocked
            | StepState::Queued
            | StepState::Scheduled
            | StepState::WaitingApproval
            | StepState::WaitingBudget => counts.pending += 1,
            StepState::Running | StepState::Expanded | StepState::Unknown | StepState::InDoubt => {
                counts.running += 1;
            }
            StepState::Dead => counts.dead += 1,
            StepState::Succeeded | StepState::Skipped | StepState::Failed | StepState::Cancelled => {
                counts.done += 1;
            }
        }
    }
    counts
}

/// A workflow with everything its agents did.
pub(crate) fn detail(history: &WorkflowHistory, waits: &[WaitRow]) -> WorkflowDetail {
    let view = &history.workflow;
    let mut contributions: Vec<_> =
        view.steps().map(|(index, name, _)| contribution(history, index, name)).collect();
    let mut totals = Totals {
        critical_path_ms: critical_path_ms(&view.plan, &view.run, &|step| duration_ms(history, step)),
        total_ms: view.row.age_us.max(0).unsigned_abs() / 1_000,
        ..Totals::default()
    };
    for part in &contributions {
        totals.attempts += u64::from(part.attempts);
        totals.crashes += u64::from(part.crashes);
        totals.tokens_in += u64::from(part.tokens_in);
        totals.tokens_out += u64::from(part.tokens_out);
        totals.cost_micros += part.cost_micros;
        totals.cache_hits += u64::from(part.cache_hit);
        totals.agent_ms += u64::from(part.duration_ms.unwrap_or_default());
    }
    totals.saved_micros = history.deliberations.iter().map(|row| row.deliberation.saved_micros).sum();
    let together = collaboration::of(history, waits, totals.total_ms);
    for (part, timeline) in contributions.iter_mut().zip(together.timeline) {
        part.timeline = timeline;
    }
    let mut posts: Vec<_> = history.posts.iter().collect();
    posts.sort_unstable_by_key(|(step, _)| **step);
    WorkflowDetail {
        posts: posts.into_iter().map(|(_, post)| post.into()).collect(),
        summary: summary(view),
        input: history.input.clone(),
        definition: view.plan.definition.clone(),
        traceparent: view.row.traceparent.clone(),
        result: CompiledResult { contributions, totals, collaboration: together.collaboration },
    }
}

fn contribution(history: &WorkflowHistory, step: StepIndex, name: String) -> Contribution {
    let view = &history.workflow;
    let run = &view.run.steps[usize::from(step)];
    let result = history.results.get(&step);
    let usage = bill(history, step);
    Contribution {
        task_id: task_id(view.row.key.workflow, &name),
        step: name,
        agent: view.agent(step).to_string(),
        state: run.state.into(),
        needs: view.needs(step),
        attempts: run.attempts,
        crashes: run.crashes,
        output: history.output(step).unwrap_or(Value::Null),
        model: usage.model,
        provider: usage.provider,
        tokens_in: usage.tokens_in,
        tokens_out: usage.tokens_out,
        cost_micros: usage.cost_micros,
        cache_hit: usage.cache_hit,
        duration_ms: result.map(|result| result.duration_ms.unsigned_abs()),
        finished_at: result.map(|result| result.finished_at.clone()),
        due_at: history.due.get(&step).cloned(),
        timeline: Vec::new(),
        error: if result.is_some() { None } else { last_attempt(history, step).map(error_of) },
    }
}

/// What a step cost: its attempts that failed were not free. Who answered is
/// told of the attempt that succeeded, or else of the last.
fn bill(history: &WorkflowHistory, step: StepIndex) -> Usage {
    let failed = history.attempts.iter().filter(|attempt| attempt.step == step).map(|attempt| &attempt.usage);
    summed(failed, history.results.get(&step).map(|result| &result.usage))
}

fn summed<'a>(failed: impl Iterator<Item = &'a Usage>, succeeded: Option<&'a Usage>) -> Usage {
    failed.chain(succeeded).fold(Usage::default(), |sum, usage| Usage {
        provider: usage.provider.clone().or(sum.provider),
        model: usage.model.clone().or(sum.model),
        tokens_in: sum.tokens_in.saturating_add(usage.tokens_in),
        tokens_out: sum.tokens_out.saturating_add(usage.tokens_out),
        cost_micros: sum.cost_micros.saturating_add(usage.cost_micros),
        cache_hit: usage.cache_hit,
        deliberation: None,
    })
}

fn duration_ms(history: &WorkflowHistory, step: StepIndex) -> u64 {
    history.results.get(&step).map_or(0, |result| u64::from(result.duration_ms.unsigned_abs()))
}

fn last_attempt(history: &WorkflowHistory, step: StepIndex) -> Option<&AttemptRow> {
    history.attempts.iter().rev().find(|attempt| attempt.step == step)
}

fn error_of(attempt: &AttemptRow) -> TaskError {
    TaskError { class: attempt.class.clone(), message: attempt.message.clone() }
}

/// A step in the words of AgentTaskHistory.
pub(crate) fn task(history: &WorkflowHistory, step: StepIndex, name: &str) -> AgentTaskHistory {
    let view = &history.workflow;
    let state = view.run.steps[usize::from(step)].state;
    let id = task_id(view.row.key.workflow, name);
    let result = history.results.get(&step);
    let last = last_attempt(history, step);
    let completed_at = match state {
        StepState::Succeeded => result.map(|result| result.finished_at.clone()),
        StepState::Failed | StepState::Dead => last.map(|attempt| attempt.ended_at.clone()),
        // Nothing ran; the end of the workflow is the latest it can have been.
        StepState::Skipped | StepState::Cancelled => view.row.finished_at.clone(),
        _ => None,
    };
    AgentTaskHistory {
        id: id.clone(),
        workspace_id: view.row.key.workspace,
        task_id: id,
        agent_type: view.agent(step).to_string(),
        input: history.step_input(step),
        output: history.output(step).unwrap_or(Value::Null),
        result: outcome(history, step, state),
        workflow_id: view.row.key.workflow,
        status: state.into(),
        feedback: None,
        learning_data: None,
        created_at: view.row.created_at.clone(),
        completed_at,
        state: state.into(),
        attempts: attempts(history, step),
        choices: choices(history, step),
    }
}

/// How the attempts of a step came to their models, oldest first.
fn choices(history: &WorkflowHistory, step: StepIndex) -> Vec<ModelChoice> {
    let of_step = history.deliberations.iter().filter(|row| row.step == step);
    of_step.map(|row| ModelChoice::of(row.epoch, &row.deliberation)).collect()
}

fn outcome(history: &WorkflowHistory, step: StepIndex, state: StepState) -> Option<TaskResult> {
    if !state.is_final() && state != StepState::Dead {
        return None;
    }
    let success = matches!(state, StepState::Succeeded | StepState::Skipped);
    let result = history.results.get(&step);
    let last = if success { None } else { last_attempt(history, step) };
    let usage = bill(history, step);
    Some(TaskResult {
        success,
        error: last.map(error_of),
        duration_ms: result
            .map(|result| result.duration_ms)
            .or(last.and_then(|attempt| attempt.duration_ms))
            .map(i32::unsigned_abs),
        model: usage.model,
        provider: usage.provider,
        tokens_in: usage.tokens_in,
        tokens_out: usage.tokens_out,
        cost_micros: usage.cost_micros,
        cache_hit: usage.cache_hit,
    })
}

/// The attempt log of a step, oldest first.
pub(crate) fn attempts(history: &WorkflowHistory, step: StepIndex) -> Vec<Attempt> {
    let failed = history.attempts.iter().filter(|attempt| attempt.step == step).map(|attempt| Attempt {
        epoch: attempt.epoch.cast_unsigned(),
        outcome: attempt.outcome.clone(),
        session: Some(attempt.session),
        error: Some(error_of(attempt)),
        duration_ms: attempt.duration_ms.map(i32::unsigned_abs),
        ended_at: attempt.ended_at.clone(),
    });
    let succeeded = history.results.get(&step).map(|result| Attempt {
        epoch: result.epoch.cast_unsigned(),
        outcome: "succeeded".into(),
        session: None,
        error: None,
        duration_ms: Some(result.duration_ms.unsigned_abs()),
        ended_at: result.finished_at.clone(),
    });
    let mut attempts: Vec<_> = failed.chain(succeeded).collect();
    attempts.sort_by_key(|attempt| attempt.epoch);
    attempts
}

/// The longest chain of run times along `needs`, milliseconds. The parts of an
/// expanded step run side by side: the slowest counts.
fn critical_path_ms(plan: &Plan, run: &Run, duration: &dyn Fn(StepIndex) -> u64) -> u64 {
    let steps = &plan.steps;
    let mut missing: Vec<_> = steps.iter().map(|step| step.needs.len()).collect();
    let mut ready: Vec<_> = (0..steps.len()).filter(|step| missing[*step] == 0).collect();
    let mut finish = vec![0_u64; steps.len()];
    while let Some(step) = ready.pop() {
        let index = step as StepIndex;
        let start = steps[step].needs.iter().map(|need| finish[usize::from(*need)]).max().unwrap_or(0);
        let parts = run.children(index).map(duration).max().unwrap_or(0);
        finish[step] = start + duration(index) + parts;
        for dependent in &steps[step].dependents {
            let dependent = usize::from(*dependent);
            missing[dependent] -= 1;
            if missing[dependent] == 0 {
                ready.push(dependent);
            }
        }
    }
    finish.into_iter().max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use galley_core::retry::RetryPolicy;
    use galley_core::run::StepRun;
    use serde_json::json;

    use super::*;

    fn plan(definition: Value) -> Plan {
        let definition = serde_json::from_value(definition).unwrap();
        Plan::compile(definition, |_| Some(RetryPolicy::default())).unwrap()
    }

    #[test]
    fn attempts_that_failed_are_on_the_bill() {
        let usage = |model: &str, tokens_in, cost_micros| Usage {
            model: (!model.is_empty()).then(|| model.to_owned()),
            tokens_in,
            tokens_out: 2 * tokens_in,
            cost_micros,
            ..Usage::default()
        };
        // A worker that died told nothing.
        let failed = [usage("first", 10, 300), usage("", 0, 0)];
        let all = summed(failed.iter(), Some(&usage("second", 5, 20)));
        assert_eq!((all.tokens_in, all.tokens_out, all.cost_micros), (15, 30, 320));
        assert_eq!(all.model.as_deref(), Some("second"));
        let dead = summed(failed.iter(), None);
        assert_eq!((dead.cost_micros, dead.model.as_deref()), (300, Some("first")));
    }

    #[test]
    fn the_critical_path_follows_needs_and_the_slowest_part() {
        // a → b(2 parts) → d, a → c → d
        let plan = plan(json!({ "name": "x", "steps": [
            { "name": "a", "agent": "n" },
            { "name": "b", "agent": "n", "forEach": { "step": "a", "path": "", "max": 3 } },
            { "name": "c", "agent": "n", "needs": ["a"] },
            { "name": "d", "agent": "n", "needs": ["b", "c"] },
        ]}));
        let mut run = Run::new(&plan, 5);
        for item in 0..2 {
            let part = StepRun { plan: 1, item: Some(item), ..run.steps[1].clone() };
            run.steps.push(part);
        }
        //          a   b  c   d   b.0 b.1
        let with_c = [10, 0, 50, 5, 20, 30];
        assert_eq!(critical_path_ms(&plan, &run, &|step| with_c[usize::from(step)]), 65);
        let with_b = [10, 0, 25, 5, 20, 30];
        assert_eq!(critical_path_ms(&plan, &run, &|step| with_b[usize::from(step)]), 45);
    }
}
