//! The moves of steps that wait for a person or send a post out.
//!
//! What must never happen here: a step whose post may be out (`intent`) being
//! changed, withdrawn, cancelled or simply tried again. Only a definite outcome
//! clears the intent.

use super::mover::{Mover, stale};
use super::{Effect, LetterEnd, Refusal, Settlement, Token};
use crate::ids::{Epoch, StepIndex};
use crate::run::StepState;

impl Mover<'_> {
    pub(super) fn needs_go(&mut self, step: StepIndex, epoch: Epoch) -> Result<(), Refusal> {
        let found = self.find(step)?;
        if found.state != StepState::Queued || found.epoch != epoch || found.go || found.intent {
            return Err(stale(found));
        }
        self.hold(step);
        Ok(())
    }

    pub(super) fn held(&mut self, token: Token) -> Result<(), Refusal> {
        self.unsent(token)?;
        self.uncount(token.step);
        self.hold(token.step);
        Ok(())
    }

    pub(super) fn postponed(&mut self, token: Token, delay_ms: u64) -> Result<(), Refusal> {
        self.unsent(token)?;
        self.uncount(token.step);
        self.schedule(token.step, delay_ms);
        Ok(())
    }

    pub(super) fn approved(&mut self, step: StepIndex) -> Result<(), Refusal> {
        self.waiting(step, StepState::WaitingApproval)?;
        self.step_mut(step).go = true;
        self.enqueue(step);
        Ok(())
    }

    pub(super) fn withdrawn(&mut self, step: StepIndex) -> Result<(), Refusal> {
        self.changeable(step)?;
        if self.run.steps[usize::from(step)].state == StepState::Dead {
            self.effects.push(Effect::LetterClosed { step, how: LetterEnd::Discarded });
        }
        self.finish(step, StepState::Skipped);
        Ok(())
    }

    pub(super) fn refused(&mut self, step: StepIndex) -> Result<(), Refusal> {
        self.waiting(step, StepState::WaitingApproval)?;
        self.finish(step, StepState::Failed);
        Ok(())
    }

    pub(super) fn amended(&mut self, step: StepIndex, hold: bool) -> Result<(), Refusal> {
        self.changeable(step)?;
        match self.run.steps[usize::from(step)].state {
            // Looked at again at once: its slot may have changed, and what it
            // costs. An attempt that was about to send the old revision is
            // overtaken, and did not try anything.
            state @ (StepState::Queued
            | StepState::Running
            | StepState::Scheduled
            | StepState::WaitingBudget) => {
                if state == StepState::Running {
                    self.uncount(step);
                }
                if hold {
                    self.hold(step);
                } else {
                    self.stop_waiting(step);
                    self.enqueue(step);
                }
            }
            // It is looked at when it runs; a person is asked already.
            _ => {
                self.step_mut(step);
            }
        }
        Ok(())
    }

    pub(super) fn intend(&mut self, token: Token) -> Result<(), Refusal> {
        self.unsent(token)?;
        if self.run.cancelled {
            return Err(Refusal::AlreadyOver);
        }
        self.step_mut(token.step).intent = true;
        Ok(())
    }

    pub(super) fn repeated(&mut self, token: Token) -> Result<(), Refusal> {
        self.sent(token)?;
        if self.run.cancelled {
            // It may put the post there only now, after somebody said "no".
            return Err(Refusal::AlreadyOver);
        }
        self.step_mut(token.step);
        Ok(())
    }

    pub(super) fn unsure(&mut self, token: Token) -> Result<(), Refusal> {
        self.sent(token)?;
        self.rest(token.step);
        Ok(())
    }

    pub(super) fn doubted(&mut self, token: Token) -> Result<(), Refusal> {
        self.sent(token)?;
        let step = self.step_mut(token.step);
        step.state = StepState::InDoubt;
        step.epoch += 1;
        step.lease = None;
        Ok(())
    }

    pub(super) fn settle_doubt(&mut self, step: StepIndex, how: Settlement) -> Result<(), Refusal> {
        self.waiting(step, StepState::InDoubt)?;
        let run = self.step_mut(step);
        run.intent = false;
        match how {
            Settlement::Published => self.finish(step, StepState::Succeeded),
            Settlement::GivenUp => self.finish(step, StepState::Failed),
            Settlement::NotThere if self.run.cancelled => self.finish(step, StepState::Cancelled),
            Settlement::NotThere => {
                // What was in vain before was no try of what begins now.
                self.step_mut(step).attempts = 0;
                self.enqueue(step);
            }
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

    /// The fence of an attempt on a post that may be out.
    fn sent(&self, token: Token) -> Result<(), Refusal> {
        self.fenced(token)?;
        if !self.may_be_out(token.step) {
            return Err(Refusal::NotWaiting(StepState::Running));
        }
        Ok(())
    }

    /// Whether a post can still be changed or withdrawn. An expanded step is no
    /// post: its children are.
    fn changeable(&self, step: StepIndex) -> Result<(), Refusal> {
        let found = self.find(step)?;
        if found.intent {
            return Err(Refusal::MayBeOut(found.state));
        }
        if found.state.is_final() || found.state == StepState::Expanded {
            return Err(Refusal::NotWaiting(found.state));
        }
        Ok(())
    }

    fn waiting(&self, step: StepIndex, state: StepState) -> Result<(), Refusal> {
        let found = self.find(step)?;
        if found.state == state { Ok(()) } else { Err(Refusal::NotWaiting(found.state)) }
    }

    /// Until a person says so.
    fn hold(&mut self, step: StepIndex) {
        self.stop_waiting(step);
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
