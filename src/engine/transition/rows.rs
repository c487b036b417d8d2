//! What a decision leaves in Postgres: the rows of one save, and the runs as
//! they will be if it wins. Nothing is decided here, and nothing is sent.

use std::sync::Arc;

use galley_core::decide::{Death, Effect, Event, LetterEnd};
use galley_core::ids::{StepIndex, WorkflowKey};
use galley_core::publish::PostState;
use galley_core::run::StepState;
use galley_store::{
    AuditWrite, Hashes, InputWrite, LetterClose, LetterOpen, MoneyWait, RunWrite, SaveBatch, TimerWrite,
};

use super::{Command, Decision, Draft, Record, version_at};
use crate::cache::KnownRun;
use crate::messages::write_says;

/// Turns decisions into rows; also the runs as they will be if they win.
pub(super) fn of(
    commands: &[Command],
    decisions: &mut [(WorkflowKey, Decision)],
) -> (SaveBatch, Vec<Arc<KnownRun>>) {
    let mut batch = SaveBatch::default();
    let mut written = Vec::with_capacity(decisions.len());
    for (key, decision) in decisions {
        let Decision { draft, seq, effects, .. } = decision;
        let next = version_at(*seq);
        let mut finished = None;
        for (index, effects) in effects {
            let command = &commands[*index];
            write_record(&mut batch, command, draft, *seq);
            for effect in effects {
                if let Effect::Finished(state) = effect {
                    finished = Some(state.word());
                    if draft.run.said > 0 {
                        batch.fallen_silent.push(*key);
                    }
                }
                write_effect(&mut batch, command, draft, effect);
            }
            if matches!(command.event, Event::Cancel) {
                batch.cancelled.push(*key);
            }
        }
        if draft.plan.publishes {
            write_post_states(&mut batch, *key, draft, *seq);
        }
        batch.runs.push(RunWrite {
            key: *key,
            expected: draft.expected,
            next,
            running: draft.run.count(StepState::Running) as u16,
            run: draft.run.encode(),
            finished,
        });
        written.push(Arc::new(KnownRun {
            definition: draft.definition,
            version: next,
            run: draft.run.clone(),
        }));
    }
    (batch, written)
}

/// Posts follow their publish steps.
fn write_post_states(batch: &mut SaveBatch, key: WorkflowKey, draft: &Draft, seq: u64) {
    for (index, step) in draft.run.steps.iter().enumerate() {
        let publishes = draft.plan.steps[usize::from(step.plan)].publishes;
        if publishes
            && step.changed == seq
            && let Some(state) = PostState::of(step)
        {
            batch.post_states.push((key, index as StepIndex, state.word()));
        }
    }
}

fn write_record(batch: &mut SaveBatch, command: &Command, draft: &Draft, seq: u64) {
    match &command.record {
        Record::Nothing => {}
        Record::Result(result, says) => {
            batch.results.push(result.clone());
            write_says(batch, draft, seq, &result.attempt, says);
        }
        Record::Attempt(attempt) => batch.attempts.push(attempt.clone()),
        Record::Post(post) => {
            batch.attempts.extend(post.attempt.clone());
            batch.results.extend(post.result.clone());
            if let Some((actor, action, object, detail)) = &post.audit {
                batch.audit.push(AuditWrite {
                    workspace: command.key.workspace,
                    key: Some(command.key),
                    actor: actor.clone(),
                    action,
                    object: object.clone(),
                    detail: detail.clone(),
                    hashes: post.hashes.clone(),
                });
            }
            if let Some(step) = command.event.step() {
                batch.posts.push((command.key, step, post.ops.clone()));
            }
        }
        Record::Person { actor, action, object, input } => {
            batch.audit.push(AuditWrite {
                workspace: command.key.workspace,
                key: Some(command.key),
                actor: actor.clone(),
                action,
                object: object.clone(),
                detail: None,
                hashes: Hashes::default(),
            });
            if let (Some(input), Event::Replay { step, .. }) = (input, &command.event)
                && let Some(epoch) = draft.run.step(*step).and_then(|step| step.edited)
            {
                let (key, step, input, actor) = (command.key, *step, input.clone(), actor.clone());
                batch.inputs.push(InputWrite { key, step, epoch, input, sealed: None, actor });
            }
        }
    }
}

fn write_effect(batch: &mut SaveBatch, command: &Command, draft: &Draft, effect: &Effect) {
    let key = command.key;
    match effect {
        Effect::Wait { step, epoch, delay_ms } => {
            batch.timers.push(TimerWrite { key, step: *step, epoch: *epoch, delay_ms: *delay_ms });
        }
        Effect::StopWaiting { step } => batch.stopped.push((key, *step)),
        Effect::WaitForMoney { step, epoch, needed_micros } => {
            batch.unfunded.push(MoneyWait { key, step: *step, epoch: *epoch, needed_micros: *needed_micros });
        }
        Effect::MoneyWaitOver { step } => batch.funded.push((key, *step)),
        Effect::Died { step, why } => batch.letters.push(letter(command, draft, *step, why)),
        Effect::LetterClosed { step, how } => batch.closed.push(LetterClose {
            key,
            step: *step,
            status: how.word(),
            actor: match (&command.record, how) {
                (Record::Person { actor, .. }, _) => actor.clone(),
                (_, LetterEnd::Replayed | LetterEnd::Discarded | LetterEnd::Cancelled) => "engine".into(),
            },
        }),
        Effect::Enqueue { .. } | Effect::Interrupt { .. } | Effect::Finished(_) => {}
    }
}

fn letter(command: &Command, draft: &Draft, step: StepIndex, why: &Death) -> LetterOpen {
    let run = &draft.run.steps[usize::from(step)];
    let agent = draft.plan.steps[usize::from(run.plan)].agent.to_string();
    let (class, message) = match (why, command.record.attempt()) {
        (Death::Condition(problem), _) => ("condition".to_owned(), problem.clone()),
        (_, Some(attempt)) => (attempt.class.clone(), attempt.message.clone()),
        _ => (why.word().to_owned(), "no attempt reported why".to_owned()),
    };
    LetterOpen {
        key: command.key,
        step,
        step_name: draft.run.step_name(&draft.plan, step),
        fingerprint: galley_core::hash::fingerprint(&agent, why.word(), &class, &message),
        agent,
        reason: why.word(),
        class,
        message,
        attempts: run.attempts,
        crashes: run.crashes,
    }
}
