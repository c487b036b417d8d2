//! The moves of steps that wait for a person or send a post out.
//!
//! What must never happen here: a step whose post may be out (`intent`) being
//! changed, withdrawn, cancelled or simply tried again. Only a definite outcome
//! clears the intent.

use super::mover::{Mover, stale};
use super::{Effect, Event, LetterEnd, Refusal, Settlement, Token};
use crate::ids::StepIndex;
use crate::run::StepState;

impl Mover<'_> {
    pub(super) fn apply_to_post(&mut self, event: Event) -> Result<(), Refusal> {
        match event {
            Event::NeedsGo { step, epoch } => {
                let found = self.find(step)?;
                if found.state != StepState::Queued || found.epoch != epoch || found.go || found.intent {
                    return Err(stale(found));
                }
                self.hold(step);
                Ok(())
            }
            Event::Held { token } => {
                self.unsent(token)?;
                self.uncount(token.step);
                self.hold(token.step);
                Ok(())
            }
            Event::Postponed { token, delay_ms } => {
                self.unsent(token)?;
                self.uncount(token.step);
                self.schedule(token.step, delay_ms);
                Ok(())
            }
            Event::Approved { step } => {
                self.waiting(step, StepState::WaitingApproval)?;
                self.step_mut(step).go = true;
                self.enqueue(step);
                Ok(())
            }
            Event::Withdrawn { step } => {
                self.changeable(step)?;
                if self.run.steps[usize::from(step)].state == StepState::Dead {
                    self.effects.push(Effect::LetterClosed { step, how: LetterEnd::Discarded });
                }
                self.finish(step, StepState::Skipped);
                Ok(())
            }
            Event::Refused { step } => {
                self.waiting(step, StepState::WaitingApproval)?;
                self.finish(step, StepState::Failed);
                Ok(())
            }
            Event::Amended { step, hold } => self.amend(step, hold),
            Event::Intent { token } => {
                self.unsent(token)?;
                if self.run.cancelled {
                    return Err(Refusal::AlreadyOver);
                }
                self.step_mut(token.step).intent = true;
                Ok(())
            }
            Event::Repeated { token } => {
                self.fenced(token)?;
                if !self.may_be_out(token.step) {
                    return Err(Refusal::NotWaiting(StepState::Running));
                }
                self.step_mut(token.step);
                Ok(())
            }
            Event::Unsure { token } => {
                self.fenced(token)?;
                if !self.may_be_out(token.step) {
                    return Err(Refusal::NotWaiting(StepState::Running));
                }
                self.rest(token.step);
                Ok(())
            }
            Event::Doubted { token } => {
                self.fenced(token)?;
                if !self.may_be_out(token.step) {
                    return Err(Refusal::NotWaiting(StepState::Running));
                }
                let step = self.step_mut(token.step);
                step.state = StepState::InDoubt;
                step.epoch += 1;
                step.lease = None;
                Ok(())
            }
            Event::Settled { step, how } => self.settle_doubt(step, how),
            // The others are the mover's own.
            _ => Err(Refusal::NoSuchStep),
        }
    }

    fn amend(&mut self, step: StepIndex, hold: bool) -> Result<(), Refusal> {
        self.changeable(step)?;
        match self.run.steps[usize::from(step)].state {
            StepState::Blocked | StepState::Expanded | StepState::Dead => {
                self.step_mut(step);
            }
            StepState::WaitingApproval if hold => {
                self.step_mut(step);
            }
            _ if hold => self.hold(step),
            StepState::WaitingApproval => {
                self.step_mut(step);
            }
            // Looked at again at once: its slot may have changed. An attempt
            // that was about to send the old revision is overtaken.
            state => {
                if state == StepState::Scheduled {
                    self.effects.push(Effect::StopWaiting { step });
                }
                self.enqueue(step);
            }
        }
        Ok(())
    }

    fn settle_doubt(&mut self, step: StepIndex, how: Settlement) -> Result<(), Refusal> {
        self.waiting(step, StepState::InDoubt)?;
        let run = self.step_mut(step);
        run.intent = false;
        run.attempts = 0;
        match how {
            Settlement::Published => self.finish(step, StepState::Succeeded),
            Settlement::GivenUp => self.finish(step, StepState::Failed),
            Settlement::NotThere if self.run.cancelled => self.finish(step, StepState::Cancelled),
            Settlement::NotThere => self.enqueue(step),
        }
        Ok(())
    }

    /// The fence of an attempt that has not sent anything.
    fn unsent(&self, token: Token) -> Result<(), Refusal> {
        self.fenced(token)?;
        if self.may_be_out(token.step) {
            return Err(Refusal::MayBeOut(StepState::Running));
        }
        Ok(())
    }

    /// Whether a post can still be changed or withdrawn.
    fn changeable(&self, step: StepIndex) -> Result<(), Refusal> {
        let found = self.find(step)?;
        if found.intent {
            return Err(Refusal::MayBeOut(found.state));
        }
        if found.state.is_final() {
            return Err(Refusal::NotWaiting(found.state));
        }
        Ok(())
    }

    fn waiting(&self, step: StepIndex, state: StepState) -> Result<(), Refusal> {
        let found = self.find(step)?;
        if found.state == state { Ok(()) } else { Err(Refusal::NotWaiting(found.state)) }
    }

    /// Until a person says so.
    pub(super) fn hold(&mut self, step: StepIndex) {
        if self.run.steps[usize::from(step)].state == StepState::Scheduled {
            self.effects.push(Effect::StopWaiting { step });
        }
        let run = self.step_mut(step);
        run.state = StepState::WaitingApproval;
        run.epoch += 1;
        run.lease = None;
        run.go = false;
    }

    /// An unknown post rests until nobody can send it any more, then somebody
    /// looks. The more often that was in vain, the later.
    pub(super) fn rest(&mut self, step: StepIndex) {
        let attempts = self.run.steps[usize::from(step)].attempts;
        let more = self.plan_of(step).retry.delay_ms(attempts, None, self.facts.jitter);
        self.schedule(step, self.facts.rest_ms.saturating_add(more));
        self.step_mut(step).state = StepState::Unknown;
    }
}
