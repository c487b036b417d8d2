//! The moves of a run, one event at a time.

use serde_json::{Map, Value};

use super::{Death, Effect, Event, Facts, LetterEnd, Refusal, Token, suspicion};
use crate::ids::{Epoch, SessionId, StepIndex};
use crate::input::{compose_result, needed_results};
use crate::plan::Plan;
use crate::report::Failure;
use crate::run::{Lease, Run, StepRun, StepState};

pub(super) struct Mover<'a> {
    pub(super) plan: &'a Plan,
    pub(super) run: &'a mut Run,
    pub(super) facts: &'a Facts<'a>,
    pub(super) effects: Vec<Effect>,
    /// Steps that just became final and whose dependents have to be looked at.
    pub(super) settled: Vec<StepIndex>,
}

impl Mover<'_> {
    pub(super) fn apply(&mut self, event: Event) -> Result<(), Refusal> {
        match event {
            Event::Accepted => {
                if self.all_final() {
                    // Told again after the end: `Finished` is said once only.
                    return Err(Refusal::AlreadyOver);
                }
                for index in 0..self.run.steps.len() as StepIndex {
                    if self.run.steps[usize::from(index)].state == StepState::Blocked && self.needs_met(index)
                    {
                        self.activate(index, false);
                    }
                }
                Ok(())
            }
            Event::Claim { step, epoch, lease } => self.claim(step, epoch, lease),
            Event::Succeeded { token } => {
                self.fenced(token)?;
                self.finish(token.step, StepState::Succeeded);
                Ok(())
            }
            Event::Failed { token, failure } => {
                self.fenced(token)?;
                // With an intent: it is definitely not out.
                self.step_mut(token.step).intent = false;
                self.fail(token.step, failure);
                Ok(())
            }
            Event::Overdue { token } => {
                self.fenced(token)?;
                if self.may_be_out(token.step) {
                    self.rest(token.step);
                } else {
                    self.fail(token.step, Failure::Transient);
                }
                self.effects.push(Effect::Interrupt { step: token.step });
                Ok(())
            }
            Event::GivenBack { token } => {
                self.fenced(token)?;
                if self.may_be_out(token.step) {
                    self.rest(token.step);
                } else {
                    self.uncount(token.step);
                    self.enqueue(token.step);
                }
                Ok(())
            }
            Event::LeaseLost { step, session } => self.lease_lost(step, session),
            Event::Due { step, epoch } => {
                let found = self.find(step)?;
                if !matches!(found.state, StepState::Scheduled | StepState::Unknown) || found.epoch != epoch {
                    return Err(stale(found));
                }
                self.stop_waiting(step);
                self.enqueue(step);
                Ok(())
            }
            Event::Funded { step, epoch } => {
                let found = self.find(step)?;
                if found.state != StepState::WaitingBudget || found.epoch != epoch {
                    return Err(stale(found));
                }
                self.stop_waiting(step);
                self.enqueue(step);
                Ok(())
            }
            Event::Cancel => self.cancel(),
            Event::Replay { step, edited } => self.replay(step, edited),
            Event::Discard { step } => {
                self.dead(step)?;
                self.effects.push(Effect::LetterClosed { step, how: LetterEnd::Discarded });
                self.finish(step, StepState::Failed);
                Ok(())
            }
            Event::NeedsGo { step, epoch } => self.needs_go(step, epoch),
            Event::Held { token } => self.held(token),
            Event::Postponed { token, delay_ms } => self.postponed(token, delay_ms),
            Event::Approved { step } => self.approved(step),
            Event::Withdrawn { step } => self.withdrawn(step),
            Event::Refused { step } => self.refused(step),
            Event::Amended { step, hold } => self.amended(step, hold),
            Event::Intent { token } => self.intend(token),
            Event::Repeated { token } => self.repeated(token),
            Event::Unsure { token } => self.unsure(token),
            Event::Doubted { token } => self.doubted(token),
            Event::Settled { step, how } => self.settle_doubt(step, how),
        }
    }

    pub(super) fn claim(&mut self, step: StepIndex, epoch: Epoch, lease: Lease) -> Result<(), Refusal> {
        let found = self.find(step)?;
        if found.state != StepState::Queued || found.epoch != epoch {
            return Err(stale(found));
        }
        let step = self.step_mut(step);
        step.state = StepState::Running;
        step.epoch += 1;
        step.attempts = step.attempts.saturating_add(1);
        step.lease = Some(lease);
        Ok(())
    }

    pub(super) fn fail(&mut self, step: StepIndex, failure: Failure) {
        if self.run.cancelled {
            // Only a post that was on its way outlives a cancel.
            return self.finish(step, StepState::Cancelled);
        }
        let policy = &self.plan_of(step).retry;
        let attempts = self.run.steps[usize::from(step)].attempts;
        match failure {
            Failure::Permanent => self.die(step, Death::Permanent),
            Failure::Transient if attempts >= policy.max_attempts => self.die(step, Death::Attempts),
            Failure::Transient => {
                let delay_ms = policy.delay_ms(attempts, None, self.facts.jitter);
                self.schedule(step, delay_ms);
            }
            Failure::Throttled { retry_after_ms } => {
                let delay_ms = policy.delay_ms(attempts, Some(retry_after_ms), self.facts.jitter);
                let run = self.step_mut(step);
                run.attempts = run.attempts.saturating_sub(1);
                self.schedule(step, delay_ms);
            }
            Failure::Unfunded { needed_micros } => {
                let run = self.step_mut(step);
                run.attempts = run.attempts.saturating_sub(1);
                run.state = StepState::WaitingBudget;
                run.epoch += 1;
                run.lease = None;
                let epoch = run.epoch;
                self.effects.push(Effect::WaitForMoney { step, epoch, needed_micros });
            }
        }
    }

    pub(super) fn lease_lost(&mut self, step: StepIndex, session: SessionId) -> Result<(), Refusal> {
        let found = self.find(step)?;
        if found.lease.is_none_or(|lease| lease.session != session) {
            return Err(stale(found));
        }
        if self.may_be_out(step) {
            self.rest(step);
            return Ok(());
        }
        let max_crashes = self.plan_of(step).retry.max_crashes;
        let run = self.step_mut(step);
        // A crash is counted as a crash, not as an attempt: an innocent
        // neighbour of a poison step keeps its tries.
        run.attempts = run.attempts.saturating_sub(1);
        run.crashes = run.crashes.saturating_add(1);
        if run.crashes >= max_crashes {
            self.die(step, Death::Crashes);
        } else {
            self.enqueue(step);
        }
        Ok(())
    }

    pub(super) fn cancel(&mut self) -> Result<(), Refusal> {
        if self.run.cancelled || self.all_final() {
            return Err(Refusal::AlreadyOver);
        }
        self.run.cancelled = true;
        for index in 0..self.run.steps.len() as StepIndex {
            if self.may_be_out(index) {
                // It waits for the outcome.
                continue;
            }
            match self.run.steps[usize::from(index)].state {
                state if state.is_final() => continue,
                StepState::Running => self.effects.push(Effect::Interrupt { step: index }),
                StepState::Dead => {
                    self.effects.push(Effect::LetterClosed { step: index, how: LetterEnd::Cancelled });
                }
                _ => {}
            }
            self.close(index, StepState::Cancelled);
        }
        Ok(())
    }

    pub(super) fn replay(&mut self, step: StepIndex, edited: bool) -> Result<(), Refusal> {
        self.dead(step)?;
        self.effects.push(Effect::LetterClosed { step, how: LetterEnd::Replayed });
        let run = self.step_mut(step);
        run.attempts = 0;
        run.crashes = 0;
        run.state = StepState::Blocked;
        // A person overrides the step's condition; an expansion is tried again.
        self.activate(step, true);
        if edited {
            let run = self.step_mut(step);
            run.edited = Some(run.epoch);
        }
        Ok(())
    }

    // -- the small moves everything above is made of

    pub(super) fn find(&self, step: StepIndex) -> Result<&StepRun, Refusal> {
        self.run.step(step).ok_or(Refusal::NoSuchStep)
    }

    /// The fence: the attempt must be the one that runs now.
    pub(super) fn fenced(&self, token: Token) -> Result<(), Refusal> {
        let found = self.find(token.step)?;
        let mine = self.run.is_held_by(token);
        if mine { Ok(()) } else { Err(stale(found)) }
    }

    pub(super) fn may_be_out(&self, step: StepIndex) -> bool {
        self.run.steps[usize::from(step)].intent
    }

    pub(super) fn all_final(&self) -> bool {
        self.run.steps.iter().all(|s| s.state.is_final())
    }

    pub(super) fn dead(&self, step: StepIndex) -> Result<(), Refusal> {
        match self.find(step)?.state {
            StepState::Dead => Ok(()),
            other => Err(Refusal::NotDead(other)),
        }
    }

    pub(super) fn plan_of(&self, step: StepIndex) -> &crate::plan::PlanStep {
        &self.plan.steps[usize::from(self.run.steps[usize::from(step)].plan)]
    }

    /// Every change goes through here, so that event streams see it.
    pub(super) fn step_mut(&mut self, step: StepIndex) -> &mut StepRun {
        let run = &mut self.run.steps[usize::from(step)];
        run.changed = self.facts.seq;
        run
    }

    pub(super) fn enqueue(&mut self, step: StepIndex) {
        let max_crashes = self.plan_of(step).retry.max_crashes;
        let run = self.step_mut(step);
        run.state = StepState::Queued;
        run.epoch += 1;
        run.lease = None;
        let (epoch, suspicion) = (run.epoch, suspicion(run.crashes, max_crashes));
        let priority = self.run.priority;
        self.effects.push(Effect::Enqueue { step, epoch, suspicion, priority });
    }

    pub(super) fn schedule(&mut self, step: StepIndex, delay_ms: u64) {
        let run = self.step_mut(step);
        run.state = StepState::Scheduled;
        run.epoch += 1;
        run.lease = None;
        let epoch = run.epoch;
        self.effects.push(Effect::Wait { step, epoch, delay_ms });
    }

    /// Removes the row that says what the step waits for, if it has one. To be
    /// called before the state changes.
    pub(super) fn stop_waiting(&mut self, step: StepIndex) {
        match self.run.steps[usize::from(step)].state {
            StepState::Scheduled | StepState::Unknown => self.effects.push(Effect::StopWaiting { step }),
            StepState::WaitingBudget => self.effects.push(Effect::MoneyWaitOver { step }),
            _ => {}
        }
    }

    /// Takes the attempt out of the count: it did not try anything.
    pub(super) fn uncount(&mut self, step: StepIndex) {
        let run = self.step_mut(step);
        run.attempts = run.attempts.saturating_sub(1);
    }

    pub(super) fn die(&mut self, step: StepIndex, why: Death) {
        if self.plan_of(step).optional {
            // The workflow goes on without it, so there is nothing to repair.
            self.finish(step, StepState::Failed);
            return;
        }
        self.close(step, StepState::Dead);
        self.effects.push(Effect::Died { step, why });
    }

    /// Ends whatever the step was doing.
    pub(super) fn close(&mut self, step: StepIndex, state: StepState) {
        self.stop_waiting(step);
        let run = self.step_mut(step);
        run.intent = false;
        run.go = false;
        if run.lease.take().is_some() {
            // Whoever held it must not be able to write any more.
            run.epoch += u32::from(state != StepState::Succeeded);
        }
        run.state = state;
    }

    pub(super) fn finish(&mut self, step: StepIndex, state: StepState) {
        self.close(step, state);
        self.settled.push(step);
    }

    /// Looks at everything that waited for the steps that just became final.
    pub(super) fn settle(&mut self) {
        while let Some(step) = self.settled.pop() {
            let (plan_step, is_child) = {
                let run = &self.run.steps[usize::from(step)];
                (run.plan, run.item.is_some())
            };
            if is_child {
                self.settle_group(plan_step);
                continue;
            }
            for n in 0..self.plan.steps[usize::from(plan_step)].dependents.len() {
                let dependent = self.plan.steps[usize::from(plan_step)].dependents[n];
                if self.run.steps[usize::from(dependent)].state != StepState::Blocked {
                    continue;
                }
                if self.needs_hopeless(dependent) {
                    self.finish(dependent, StepState::Cancelled);
                } else if self.needs_met(dependent) {
                    self.activate(dependent, false);
                }
            }
        }
    }

    /// A child became final: is its group?
    pub(super) fn settle_group(&mut self, group: StepIndex) {
        if self.run.steps[usize::from(group)].state != StepState::Expanded {
            return;
        }
        let children = || self.run.steps.iter().rev().filter(|s| s.item.is_some() && s.plan == group);
        // From the back: children finish roughly in order, so the first look
        // usually answers.
        if children().any(|s| !s.state.is_final()) {
            return;
        }
        let optional = self.plan.steps[usize::from(group)].optional;
        let failed = !optional && children().any(|s| s.state == StepState::Failed);
        self.finish(group, if failed { StepState::Failed } else { StepState::Succeeded });
    }

    pub(super) fn needs_met(&self, step: StepIndex) -> bool {
        let plan_step = self.run.steps[usize::from(step)].plan;
        self.plan.steps[usize::from(plan_step)].needs.iter().rev().all(|need| {
            match self.run.steps[usize::from(*need)].state {
                StepState::Succeeded | StepState::Skipped => true,
                StepState::Failed => self.plan.steps[usize::from(*need)].optional,
                _ => false,
            }
        })
    }

    /// Whether a need can never be met any more.
    pub(super) fn needs_hopeless(&self, step: StepIndex) -> bool {
        let plan_step = self.run.steps[usize::from(step)].plan;
        self.plan.steps[usize::from(plan_step)].needs.iter().any(|need| {
            match self.run.steps[usize::from(*need)].state {
                StepState::Cancelled => true,
                StepState::Failed => !self.plan.steps[usize::from(*need)].optional,
                _ => false,
            }
        })
    }

    /// A blocked step's needs are met: run it, skip it or expand it.
    pub(super) fn activate(&mut self, step: StepIndex, forced: bool) {
        let index = self.run.steps[usize::from(step)].plan;
        let plan_step = &self.plan.steps[usize::from(index)];
        let params = &self.plan.definition.steps[usize::from(index)].input;
        let is_child = self.run.steps[usize::from(step)].item.is_some();
        let when = plan_step.when.as_ref().filter(|_| !forced && !is_child);
        if let Some(when) = when.filter(|when| !when.asks_item()) {
            if let Some(problem) = self.facts.unreadable {
                return self.die(step, Death::Condition(problem.to_owned()));
            }
            match when.holds(self.facts.brief, params, &self.needed_results(step)) {
                Ok(true) => {}
                Ok(false) => return self.finish(step, StepState::Skipped),
                Err(problem) => return self.die(step, Death::Condition(problem)),
            }
        }
        let Some(expansion) = plan_step.for_each.as_ref().filter(|_| !is_child) else {
            return self.enqueue(step);
        };
        let elements = match self.elements(expansion) {
            Ok(elements) if elements.is_empty() => return self.finish(step, StepState::Succeeded),
            Ok(elements) => elements,
            Err(problem) => return self.die(step, Death::Condition(problem)),
        };
        let chosen = match when.filter(|when| when.asks_item()) {
            None => Ok((0..elements.len() as u16).collect()),
            Some(when) => when.hold_for(&elements, self.facts.brief, params, &self.needed_results(step)),
        };
        match chosen {
            Ok(chosen) if chosen.is_empty() => self.finish(step, StepState::Skipped),
            Ok(chosen) => self.expand(step, &chosen),
            Err(problem) => self.die(step, Death::Condition(problem)),
        }
    }

    /// One child per element that was chosen, each named by its place in the
    /// whole list.
    pub(super) fn expand(&mut self, group: StepIndex, chosen: &[u16]) {
        self.step_mut(group).state = StepState::Expanded;
        for &item in chosen {
            let child = self.run.steps.len() as StepIndex;
            self.run.steps.push(StepRun { changed: self.facts.seq, ..StepRun::blocked(group, Some(item)) });
            self.enqueue(child);
        }
    }

    /// The elements an expansion is over.
    pub(super) fn elements(&self, expansion: &crate::plan::Expansion) -> Result<Vec<Value>, String> {
        if let Some(problem) = self.facts.unreadable {
            return Err(problem.to_owned());
        }
        let (place, whole) = match expansion.source {
            None => ("the workflow input".to_owned(), Some(self.facts.brief.clone())),
            Some(source) => (
                format!("the result of `{}`", self.plan.steps[usize::from(source)].name),
                compose_result(self.run, source, self.facts.result),
            ),
        };
        let list = whole.and_then(|mut whole| whole.pointer_mut(&expansion.path).map(Value::take));
        match list {
            Some(Value::Array(list)) if list.len() > usize::from(expansion.max) => Err(format!(
                "forEach found {} elements at `{}`; its max is {}",
                list.len(),
                expansion.path,
                expansion.max
            )),
            Some(Value::Array(list)) => Ok(list),
            Some(_) => Err(format!("forEach found no list at `{}` in {place}", expansion.path)),
            None => Err(format!("forEach found nothing at `{}` in {place}", expansion.path)),
        }
    }

    pub(super) fn needed_results(&self, step: StepIndex) -> Map<String, Value> {
        needed_results(self.plan, self.run, step, self.facts.result)
    }
}

pub(super) fn stale(step: &StepRun) -> Refusal {
    Refusal::Stale { state: step.state, epoch: step.epoch }
}
