//! What must be true of every run, and of every change of one. Stated a second
//! time here, from the protocol, so that `decide` is not compared to itself.

use std::collections::BTreeMap;

use galley_core::decide::{ALONE, Effect, Event, LetterEnd, Settlement};
use galley_core::ids::StepIndex;
use galley_core::plan::{Plan, PlanStep};
use galley_core::publish::PostState;
use galley_core::report::Failure;
use galley_core::run::{Run, StepRun, StepState, WorkflowState};

use crate::shapes::{BUT_THE_FIRST, REST_MS, SEQ, SLOT_MS};

macro_rules! law {
    ($holds:expr, $($why:tt)+) => {
        if !$holds {
            return Err(format!($($why)+));
        }
    };
}

/// Whether every need of a step let it start.
fn needs_met(plan: &Plan, run: &Run, step: &StepRun) -> bool {
    plan.steps[usize::from(step.plan)].needs.iter().all(|&need| {
        let state = run.steps[usize::from(need)].state;
        let optional = plan.steps[usize::from(need)].optional;
        matches!(state, StepState::Succeeded | StepState::Skipped) || (optional && state == StepState::Failed)
    })
}

pub(crate) fn all_final(run: &Run) -> bool {
    run.steps.iter().all(|s| s.state.is_final())
}

/// What every stored run keeps.
pub(crate) fn of_state(plan: &Plan, run: &Run) -> Result<(), String> {
    run.check().map_err(|e| e.to_string())?;
    let again = Run::decode(&run.encode()).map_err(|e| e.to_string())?;
    law!(again == *run, "a stored run reads back as itself");
    let marked = run.steps.iter().any(|s| s.intent || s.go || s.state > StepState::Dead);
    let format = run.encode()[0];
    law!(format == 1 + u8::from(marked), "a run with marks ({marked}) is stored as format {format}");

    for (index, step) in run.steps.iter().enumerate() {
        let policy = &plan.steps[usize::from(step.plan)];
        // Whoever looks for a post that may be out looks until it is known.
        law!(
            policy.publishes || step.attempts <= policy.retry.max_attempts,
            "step {index} has more attempts than it may"
        );
        law!(step.crashes <= policy.retry.max_crashes, "step {index} has more crashes than it may");
        law!(!policy.optional || step.state != StepState::Dead, "optional step {index} is dead");
        let children: Vec<_> = run.children(index as StepIndex).collect();
        match step.state {
            StepState::Blocked => {
                law!(step.item.is_none(), "child {index} is blocked");
                law!(!step.intent && !step.go, "blocked step {index} keeps marks");
                let settled = policy.needs.iter().all(|n| run.steps[usize::from(*n)].state.is_final());
                law!(!settled, "step {index} is blocked although everything it needs is settled");
            }
            StepState::Expanded => {
                let open = children.iter().any(|c| !run.steps[usize::from(*c)].state.is_final());
                law!(open, "group {index} is open although its children are final");
            }
            state if !children.is_empty() => {
                let child_states = || children.iter().map(|c| run.steps[usize::from(*c)].state);
                law!(state.is_final(), "group {index} has children although it is {state:?}");
                law!(
                    run.cancelled || child_states().all(StepState::is_final),
                    "group {index} ended before its children"
                );
                let lost = !policy.optional && child_states().any(|s| s == StepState::Failed);
                let verdict = if lost { StepState::Failed } else { StepState::Succeeded };
                law!(
                    run.cancelled || state == verdict,
                    "group {index} is {state:?}, its children {verdict:?}"
                );
            }
            _ => {}
        }
        let items: Vec<_> = children.iter().map(|child| run.steps[usize::from(*child)].item).collect();
        let when = plan.definition.steps.get(index).and_then(|step| step.when.as_deref());
        let first = u16::from(when == Some(BUT_THE_FIRST));
        let chosen: Vec<_> = (first..).map(Some).take(items.len()).collect();
        law!(items == chosen, "the children of {index} are {items:?}");
        if !step.state.is_final() {
            law!(!run.cancelled || step.intent, "step {index} is open in a cancelled run");
        }
        of_marks(policy, index, step)?;
    }
    of_workflow(plan, run)
}

/// A mark is where it means something, and nowhere else.
fn of_marks(policy: &PlanStep, index: usize, step: &StepRun) -> Result<(), String> {
    use StepState::{InDoubt, Queued, Running, Scheduled, Unknown, WaitingBudget};
    let state = step.state;
    law!(!step.intent || policy.publishes, "step {index} sends nothing and has an intent");
    law!(
        step.intent == matches!(state, Unknown | InDoubt) || step.intent && matches!(state, Queued | Running),
        "step {index} is {state:?} and its intent is {}",
        step.intent
    );
    law!(
        !step.go || matches!(state, Queued | Running | Scheduled | Unknown | InDoubt | WaitingBudget),
        "step {index} is {state:?} and keeps its go"
    );
    if policy.publishes {
        // What people are shown and what they may do about it is one story.
        let fixed = PostState::of(step).is_some_and(PostState::is_fixed);
        law!(!step.intent || fixed, "step {index} may be out, and its post can be edited");
        law!(
            step.intent || state.is_final() || !fixed,
            "step {index} is not out, and its post cannot be edited"
        );
    }
    Ok(())
}

/// The truth table of a workflow's state: running before waiting before
/// stalled before the ends.
fn of_workflow(plan: &Plan, run: &Run) -> Result<(), String> {
    let publishes = |step: &StepRun| plan.steps[usize::from(step.plan)].publishes;
    let moving = run.steps.iter().any(|s| match s.state {
        StepState::Queued | StepState::Running | StepState::Unknown => true,
        StepState::Scheduled => !publishes(s),
        _ => false,
    });
    let waiting = run.steps.iter().any(|s| match s.state {
        StepState::WaitingApproval | StepState::InDoubt | StepState::WaitingBudget => true,
        StepState::Scheduled => publishes(s),
        _ => false,
    });
    let dead = run.count(StepState::Dead) > 0;
    let failed =
        run.steps.iter().any(|s| s.state == StepState::Failed && !plan.steps[usize::from(s.plan)].optional);
    let state = run.state(plan);
    law!((state == WorkflowState::Running) == moving, "{state:?}, and moving is {moving}");
    law!((state == WorkflowState::Waiting) == (!moving && waiting), "{state:?}, and waiting is {waiting}");
    law!((state == WorkflowState::Stalled) == (!moving && !waiting && dead), "{state:?}, and dead is {dead}");
    law!(state.is_final() == all_final(run), "{state:?}, and all final is {}", all_final(run));
    if state.is_final() {
        law!((state == WorkflowState::Cancelled) == run.cancelled, "{state:?} after a cancel");
        law!((state == WorkflowState::Failed) == (failed && !run.cancelled), "{state:?} after a failure");
    }
    Ok(())
}

/// What every accepted event keeps.
pub(crate) fn of_change(
    plan: &Plan,
    before: &Run,
    event: &Event,
    after: &Run,
    effects: &[Effect],
) -> Result<(), String> {
    law!(after.priority == before.priority, "the priority changed");
    law!(after.cancelled == (before.cancelled || *event == Event::Cancel), "cancelled only by a cancel");
    law!(after.steps.len() >= before.steps.len(), "steps disappeared");

    for (index, now) in after.steps.iter().enumerate() {
        let Some(was) = before.steps.get(index) else {
            law!(now.item.is_some() && now.state == StepState::Queued, "new step {index} is no queued child");
            law!((now.epoch, now.attempts, now.crashes) == (1, 0, 0), "child {index} does not begin fresh");
            law!(now.changed == SEQ, "child {index} changed unseen");
            continue;
        };
        of_step(plan, before, event, after, index, (was, now))?;
    }

    let mut expected = expected_effects(plan, before, event, after);
    let mut got: Vec<_> = effects.iter().map(name_of_effect).collect();
    expected.sort();
    got.sort();
    of_waits(event, after, effects)?;
    law!(expected == got, "what follows should be {expected:?} and is {got:?}");
    Ok(())
}

fn of_step(
    plan: &Plan,
    before: &Run,
    event: &Event,
    after: &Run,
    index: usize,
    (was, now): (&StepRun, &StepRun),
) -> Result<(), String> {
    let mine = event.step() == Some(index as StepIndex);
    law!((now.plan, now.item) == (was.plan, was.item), "step {index} became another step");
    if was.state.is_final() {
        law!(now == was, "final step {index} changed");
    }
    if now != was {
        law!(now.changed == SEQ, "step {index} changed unseen");
    }

    // The fencing counter: one more on every queue, claim, wait, hold and loss
    // of a lease, and when a person changed what is queued; nothing else
    // touches it.
    let again = mine && matches!(event, Event::Replay { .. } | Event::Amended { hold: false, .. });
    let moved = was.state != now.state || again;
    let more = match (was.state, now.state) {
        (StepState::Running, StepState::Succeeded) => 0,
        (StepState::Running, _) if moved => 1,
        (
            _,
            StepState::Queued
            | StepState::Running
            | StepState::Scheduled
            | StepState::Unknown
            | StepState::InDoubt,
        ) if moved => 1,
        (was, StepState::WaitingApproval) if was != now.state => 1,
        _ => 0,
    };
    law!(now.epoch == was.epoch + more, "step {index} went from epoch {} to {}", was.epoch, now.epoch);

    // What did not try anything does not count; what becomes of a post that
    // may be out is no crash.
    let (attempts, crashes) = match event {
        Event::Claim { .. } if mine => (was.attempts + 1, was.crashes),
        Event::Failed { .. } if before.cancelled => (was.attempts, was.crashes),
        Event::Failed { failure: Failure::Throttled { .. } | Failure::Unfunded { .. }, .. } if mine => {
            (was.attempts - 1, was.crashes)
        }
        Event::GivenBack { .. } if mine && !was.intent => (was.attempts - 1, was.crashes),
        Event::LeaseLost { .. } if mine && !was.intent => (was.attempts - 1, was.crashes + 1),
        Event::Held { .. } | Event::Postponed { .. } if mine => (was.attempts - 1, was.crashes),
        Event::Amended { .. } if mine && was.state == StepState::Running => (was.attempts - 1, was.crashes),
        Event::Settled { how: Settlement::NotThere, .. } if mine && !before.cancelled => (0, was.crashes),
        Event::Replay { .. } if mine => (0, 0),
        _ => (was.attempts, was.crashes),
    };
    law!(now.attempts == attempts, "step {index} has {} attempts, not {attempts}", now.attempts);
    law!(now.crashes == crashes, "step {index} has {} crashes, not {crashes}", now.crashes);

    let edited = mine && matches!(event, Event::Replay { edited: true, .. });
    law!(
        now.edited == if edited { Some(now.epoch) } else { was.edited },
        "step {index}: edited {:?}",
        now.edited
    );

    if now.state == StepState::Queued && was.state != StepState::Queued {
        law!(needs_met(plan, after, now), "step {index} was queued before its needs were met");
        law!(!after.cancelled || now.intent, "step {index} was queued in a cancelled run");
    }
    if now.state == StepState::Succeeded && matches!(was.state, StepState::Running | StepState::InDoubt) {
        let told =
            matches!(event, Event::Succeeded { .. } | Event::Settled { how: Settlement::Published, .. });
        law!(mine && told, "step {index} succeeded by {event:?}");
    }
    if now.state == StepState::Running && was.state != StepState::Running {
        let Event::Claim { lease, .. } = event else { return Err(format!("step {index} runs unclaimed")) };
        law!(mine && now.lease == Some(*lease), "step {index} has another lease than its claim");
    }
    if was.state == StepState::Blocked && before.cancelled {
        law!(now == was, "step {index} moved in a cancelled run");
    }
    of_post(event, after, index, mine, (was, now))
}

/// What a change does to the marks of a step, and what marked steps are spared.
fn of_post(
    event: &Event,
    after: &Run,
    index: usize,
    mine: bool,
    (was, now): (&StepRun, &StepRun),
) -> Result<(), String> {
    use StepState::{InDoubt, Queued, Running, Unknown, WaitingApproval};
    let definite =
        mine && matches!(event, Event::Succeeded { .. } | Event::Failed { .. } | Event::Settled { .. });
    let moved = was.state != now.state;
    if now.intent && !was.intent {
        law!(
            mine && matches!(event, Event::Intent { .. }) && was.state == Running && !after.cancelled,
            "step {index} got an intent by {event:?}"
        );
        law!(
            now == &StepRun { intent: true, changed: now.changed, ..was.clone() },
            "an intent moved step {index}"
        );
    }
    if was.intent {
        law!(now.intent != definite, "what may be out of step {index}: {event:?} makes it {}", now.intent);
        let changed = matches!(event, Event::Amended { .. } | Event::Withdrawn { .. } | Event::Cancel);
        let same = StepRun { changed: was.changed, ..now.clone() } == *was;
        law!(!changed || same, "step {index} may be out, and {event:?} changed it");
        law!(
            now.intent || !mine || now.state.is_final() || !after.cancelled,
            "step {index} goes on in a cancelled run"
        );
    }
    if moved && now.state == Unknown {
        let lost = matches!(
            event,
            Event::Unsure { .. } | Event::Overdue { .. } | Event::GivenBack { .. } | Event::LeaseLost { .. }
        );
        law!(mine && lost && was.intent && was.state == Running, "step {index} is unknown by {event:?}");
    }
    if moved && now.state == InDoubt {
        law!(
            mine && matches!(event, Event::Doubted { .. }) && was.intent,
            "step {index} is in doubt by {event:?}"
        );
    }
    if moved && was.state == Unknown {
        law!(
            mine && matches!(event, Event::Due { .. }) && now.state == Queued,
            "{event:?} ends an unknown step {index}"
        );
    }
    if moved && was.state == StepState::WaitingBudget {
        let ends = matches!(event, Event::Funded { .. } | Event::Amended { .. } | Event::Withdrawn { .. });
        law!(mine && ends || *event == Event::Cancel, "step {index} waits for money no more by {event:?}");
    }
    if moved && now.state == StepState::WaitingBudget {
        let unfunded = matches!(event, Event::Failed { failure: Failure::Unfunded { .. }, .. });
        law!(mine && unfunded && was.state == Running, "step {index} waits for money by {event:?}");
    }
    if moved && was.state == WaitingApproval {
        let answered = mine
            && match event {
                Event::Approved { .. } => now.state == Queued && now.go,
                Event::Withdrawn { .. } => now.state == StepState::Skipped,
                Event::Refused { .. } => now.state == StepState::Failed,
                _ => false,
            };
        law!(answered || *event == Event::Cancel, "step {index} waits for a person no more by {event:?}");
    }
    if moved && now.state == WaitingApproval {
        let asked =
            matches!(event, Event::NeedsGo { .. } | Event::Held { .. } | Event::Amended { hold: true, .. });
        law!(mine && asked && !now.go, "step {index} is held by {event:?}");
    }
    // An edit that is approved in the same breath finds somebody to answer.
    if mine && matches!(event, Event::Amended { hold: true, .. }) {
        law!(
            matches!(now.state, WaitingApproval | StepState::Dead | StepState::Blocked),
            "step {index} is {:?} after an edit that asks",
            now.state
        );
    }
    if now.go != was.go {
        let ends = now.state == WaitingApproval || now.state == StepState::Dead || now.state.is_final();
        law!(
            if now.go { mine && matches!(event, Event::Approved { .. }) } else { ends },
            "step {index} has go {} by {event:?}",
            now.go
        );
    }
    Ok(())
}

/// How long a step waits: an unknown post at least until nobody can send it
/// any more, a postponed one until its slot.
fn of_waits(event: &Event, after: &Run, effects: &[Effect]) -> Result<(), String> {
    for effect in effects {
        let Effect::Wait { step, delay_ms, .. } = *effect else { continue };
        let unknown = after.steps[usize::from(step)].state == StepState::Unknown;
        law!(!unknown || delay_ms >= REST_MS, "somebody looks for step {step} after {delay_ms} ms");
        let postponed = matches!(event, Event::Postponed { .. });
        law!(!postponed || delay_ms == SLOT_MS, "step {step} waits {delay_ms} ms for its slot");
    }
    Ok(())
}

/// The effects that the difference between two runs calls for, each as one
/// comparable line.
fn expected_effects(plan: &Plan, before: &Run, event: &Event, after: &Run) -> Vec<String> {
    let mut expected = Vec::new();
    for (step, now) in after.steps.iter().enumerate() {
        let was = before.steps.get(step);
        let was_state = was.map(|s| s.state);
        let moved = was_state != Some(now.state);
        let mine = event.step() == Some(step as StepIndex);
        let replayed = mine && matches!(event, Event::Replay { .. });
        let amended = mine && matches!(event, Event::Amended { hold: false, .. });
        if now.state == StepState::Queued && (moved || amended) {
            let max = plan.steps[usize::from(now.plan)].retry.max_crashes;
            let suspicion = match now.crashes {
                0 => 0,
                n if n == max - 1 => ALONE,
                n => n,
            };
            expected.push(format!("enqueue {step}@{} {suspicion} {}", now.epoch, after.priority));
        }
        let waits = |state| matches!(state, StepState::Scheduled | StepState::Unknown);
        if waits(now.state) && moved {
            expected.push(format!("wait {step}@{}", now.epoch));
        }
        if was_state.is_some_and(waits) && moved {
            expected.push(format!("stop waiting {step}"));
        }
        if now.state == StepState::WaitingBudget && moved {
            expected.push(format!("wait for money {step}@{}", now.epoch));
        }
        if was_state == Some(StepState::WaitingBudget) && moved {
            expected.push(format!("money wait over {step}"));
        }
        if now.state == StepState::Dead && (moved || replayed) {
            expected.push(format!("died {step} {}", cause_of_death(event, mine)));
        }
        if was_state == Some(StepState::Dead) && (moved || replayed) {
            let how = match event {
                Event::Cancel => LetterEnd::Cancelled,
                Event::Discard { .. } | Event::Withdrawn { .. } => LetterEnd::Discarded,
                _ => LetterEnd::Replayed,
            };
            expected.push(format!("letter closed {step} {}", how.word()));
        }
        if was_state == Some(StepState::Running)
            && matches!(event, Event::Cancel | Event::Overdue { .. })
            && moved
        {
            expected.push(format!("interrupt {step}"));
        }
    }
    if all_final(after) && !all_final(before) {
        expected.push(format!("finished {}", after.state(plan).word()));
    }
    expected
}

fn cause_of_death(event: &Event, mine: bool) -> &'static str {
    match event {
        Event::Failed { failure: Failure::Permanent, .. } if mine => "permanent",
        Event::Failed { .. } | Event::Overdue { .. } if mine => "attempts",
        Event::LeaseLost { .. } if mine => "crashes",
        _ => "condition",
    }
}

fn name_of_effect(effect: &Effect) -> String {
    match effect {
        Effect::Enqueue { step, epoch, suspicion, priority } => {
            format!("enqueue {step}@{epoch} {suspicion} {priority}")
        }
        Effect::Wait { step, epoch, .. } => format!("wait {step}@{epoch}"),
        Effect::StopWaiting { step } => format!("stop waiting {step}"),
        Effect::WaitForMoney { step, epoch, .. } => format!("wait for money {step}@{epoch}"),
        Effect::MoneyWaitOver { step } => format!("money wait over {step}"),
        Effect::Died { step, why } => format!("died {step} {}", why.word()),
        Effect::LetterClosed { step, how } => format!("letter closed {step} {}", how.word()),
        Effect::Interrupt { step } => format!("interrupt {step}"),
        Effect::Finished(state) => format!("finished {}", state.word()),
    }
}

/// Counts states of a run in one line: what a failing test shows.
pub(crate) fn summary(plan: &Plan, run: &Run) -> String {
    let steps: BTreeMap<_, _> = (0..run.steps.len() as StepIndex)
        .map(|i| (run.step_name(plan, i), run.steps[usize::from(i)].state.word()))
        .collect();
    format!("{} {steps:?}", run.state(plan).word())
}

/// What a run keeps between being made and being accepted.
pub(crate) fn of_state_before_acceptance(run: &Run) -> Result<(), String> {
    run.check().map_err(|e| e.to_string())?;
    law!(run.count(StepState::Blocked) == run.steps.len(), "a new run is not all blocked");
    Ok(())
}
