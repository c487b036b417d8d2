//! What may still succeed, told from what was asked for and what followed.
//!
//! It is never read from the run, so that a hole in a fence cannot excuse
//! itself; afterwards the two have to tell one story.

use std::collections::{BTreeMap, BTreeSet};

use galley_core::decide::{Effect, Event, Settlement, Token};
use galley_core::ids::{Epoch, SessionId, StepIndex};
use galley_core::run::{Run, StepRun, StepState, WorkflowState};

use crate::laws;

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Ghost {
    queued: BTreeMap<StepIndex, Epoch>,
    /// The timer table, kept as the shell keeps it: rows are removed, then
    /// written over. One for an epoch that is gone would fire in vain.
    timers: BTreeMap<StepIndex, Epoch>,
    /// Steps that wait for money, and the rows that say so.
    unfunded: BTreeMap<StepIndex, Epoch>,
    holders: BTreeMap<StepIndex, (Token, SessionId)>,
    letters: BTreeSet<StepIndex>,
    /// Steps that a person was asked about.
    asked: BTreeSet<StepIndex>,
    /// Steps that a person said yes to.
    gos: BTreeSet<StepIndex>,
    /// Posts that may be out: somebody was allowed to send them, and nobody
    /// has said what became of them.
    intents: BTreeSet<StepIndex>,
    /// Posts that only a person can tell about.
    doubts: BTreeSet<StepIndex>,
    /// Whose result counts (`None`: a person's word); one per step, for ever.
    winners: BTreeMap<StepIndex, Option<Token>>,
    cancelled: bool,
    finished: Option<WorkflowState>,
}

impl Ghost {
    /// Whether an event is its turn. `run` only tells which steps exist, are
    /// final or expanded.
    pub(crate) fn should_be_accepted(&self, run: &Run, event: &Event) -> bool {
        let holds = |token: &Token| self.holders.get(&token.step).is_some_and(|(held, _)| held == token);
        let may_be_out = |step: &StepIndex| self.intents.contains(step);
        match event {
            Event::Accepted => self.finished.is_none(),
            Event::Cancel => self.finished.is_none() && !self.cancelled,
            Event::Claim { step, epoch, .. } => self.queued.get(step) == Some(epoch),
            Event::NeedsGo { step, epoch } => {
                self.queued.get(step) == Some(epoch) && !self.gos.contains(step) && !may_be_out(step)
            }
            Event::Succeeded { token }
            | Event::Failed { token, .. }
            | Event::GivenBack { token }
            | Event::Overdue { token } => holds(token),
            Event::Held { token } | Event::Postponed { token, .. } | Event::Intent { token } => {
                holds(token) && !may_be_out(&token.step)
            }
            Event::Repeated { token } => holds(token) && may_be_out(&token.step) && !self.cancelled,
            Event::Unsure { token } | Event::Doubted { token } => holds(token) && may_be_out(&token.step),
            Event::LeaseLost { step, session } => {
                self.holders.get(step).is_some_and(|(_, held)| held == session)
            }
            Event::Due { step, epoch } => self.timers.get(step) == Some(epoch),
            Event::Funded { step, epoch } => self.unfunded.get(step) == Some(epoch),
            Event::Replay { step, .. } | Event::Discard { step } => self.letters.contains(step),
            Event::Approved { step } | Event::Refused { step } => self.asked.contains(step),
            Event::Withdrawn { step } | Event::Amended { step, .. } => {
                let changes = |s: &StepRun| !s.state.is_final() && s.state != StepState::Expanded;
                run.step(*step).is_some_and(changes) && !may_be_out(step)
            }
            Event::Settled { step, .. } => self.doubts.contains(step),
        }
    }

    /// Takes an accepted event in.
    ///
    /// # Errors
    /// What can never follow.
    pub(crate) fn remember(&mut self, event: &Event, effects: &[Effect]) -> Result<(), String> {
        self.remember_event(event)?;
        // A letter is closed before another is written in one decision.
        for effect in effects {
            if let Effect::LetterClosed { step, .. } = effect
                && !self.letters.remove(step)
            {
                return Err(format!("closed a letter of step {step} that was not open"));
            }
            if let Effect::StopWaiting { step } = effect
                && self.timers.remove(step).is_none()
            {
                return Err(format!("removed a timer of step {step} that was not there"));
            }
            if let Effect::MoneyWaitOver { step } = effect
                && self.unfunded.remove(step).is_none()
            {
                return Err(format!("step {step} did not wait for money"));
            }
        }
        for effect in effects {
            match effect {
                Effect::Enqueue { step, epoch, .. } => {
                    self.queued.insert(*step, *epoch);
                }
                Effect::Wait { step, epoch, .. } => {
                    self.timers.insert(*step, *epoch);
                }
                Effect::WaitForMoney { step, epoch, .. } => {
                    self.unfunded.insert(*step, *epoch);
                }
                Effect::Died { step, .. } => {
                    self.letters.insert(*step);
                    self.gos.remove(step);
                }
                Effect::Finished(state) => {
                    if let Some(first) = self.finished.replace(*state) {
                        return Err(format!("finished {state:?} after it had finished {first:?}"));
                    }
                }
                Effect::StopWaiting { .. }
                | Effect::MoneyWaitOver { .. }
                | Effect::LetterClosed { .. }
                | Effect::Interrupt { .. } => {}
            }
        }
        Ok(())
    }

    fn remember_event(&mut self, event: &Event) -> Result<(), String> {
        match *event {
            Event::Claim { step, epoch, lease } => {
                self.queued.remove(&step);
                let token = Token { step, epoch: epoch + 1, nonce: lease.nonce };
                self.holders.insert(step, (token, lease.session));
            }
            Event::Succeeded { token } => {
                self.known(token.step);
                return self.won(token.step, Some(token));
            }
            // A definite outcome: it is not out.
            Event::Failed { token, .. } => self.known(token.step),
            Event::GivenBack { token }
            | Event::Overdue { token }
            | Event::Unsure { token }
            | Event::Postponed { token, .. } => {
                self.holders.remove(&token.step);
            }
            Event::LeaseLost { step, .. } => {
                self.holders.remove(&step);
            }
            Event::NeedsGo { step, .. } => self.ask(step),
            Event::Held { token } => self.ask(token.step),
            Event::Approved { step } => {
                self.asked.remove(&step);
                self.gos.insert(step);
            }
            Event::Withdrawn { step } | Event::Refused { step } => {
                self.asked.remove(&step);
                self.queued.remove(&step);
                self.holders.remove(&step);
                self.gos.remove(&step);
            }
            Event::Amended { step, hold } => {
                let moves = self.queued.remove(&step).is_some()
                    | self.holders.remove(&step).is_some()
                    | self.timers.contains_key(&step)
                    | self.unfunded.contains_key(&step);
                if moves && hold {
                    self.ask(step);
                }
            }
            Event::Intent { token } => {
                self.intents.insert(token.step);
            }
            Event::Doubted { token } => {
                self.holders.remove(&token.step);
                self.doubts.insert(token.step);
            }
            Event::Settled { step, how } => {
                self.doubts.remove(&step);
                self.intents.remove(&step);
                if how != Settlement::NotThere || self.cancelled {
                    self.gos.remove(&step);
                }
                if how == Settlement::Published {
                    return self.won(step, None);
                }
            }
            Event::Cancel => {
                let outlives = |step: &StepIndex| self.intents.contains(step);
                self.cancelled = true;
                self.queued.retain(|step, _| outlives(step));
                self.holders.retain(|step, _| outlives(step));
                self.gos.retain(outlives);
                self.asked.clear();
            }
            Event::Accepted
            | Event::Due { .. }
            | Event::Funded { .. }
            | Event::Replay { .. }
            | Event::Discard { .. }
            | Event::Repeated { .. } => {}
        }
        Ok(())
    }

    fn ask(&mut self, step: StepIndex) {
        self.queued.remove(&step);
        self.holders.remove(&step);
        self.gos.remove(&step);
        self.asked.insert(step);
    }

    /// What became of an attempt is known.
    fn known(&mut self, step: StepIndex) {
        self.holders.remove(&step);
        self.intents.remove(&step);
        if self.cancelled {
            self.gos.remove(&step);
        }
    }

    fn won(&mut self, step: StepIndex, token: Option<Token>) -> Result<(), String> {
        self.gos.remove(&step);
        match self.winners.insert(step, token) {
            None => Ok(()),
            Some(first) => Err(format!("step {step} succeeded by {token:?} after {first:?}")),
        }
    }

    /// What was asked for and what the run says is one story.
    ///
    /// # Errors
    /// The chapter that differs.
    pub(crate) fn is_true_of(&self, run: &Run) -> Result<(), String> {
        let steps = || (0..).zip(&run.steps);
        let those = |is: fn(&StepRun) -> bool| {
            steps().filter(move |(_, s)| is(s)).map(|(i, _)| i).collect::<BTreeSet<StepIndex>>()
        };
        let epochs = |is: fn(&StepRun) -> bool| {
            steps().filter(move |(_, s)| is(s)).map(|(i, s)| (i, s.epoch)).collect::<BTreeMap<_, _>>()
        };
        let running: BTreeMap<_, _> = self.holders.values().map(|(t, _)| (t.step, t.epoch)).collect();
        // An optional step that fails for good takes its go with it.
        let gos: BTreeSet<_> = self
            .gos
            .iter()
            .copied()
            .filter(|s| run.steps[usize::from(*s)].state != StepState::Failed)
            .collect();
        let same = [
            ("queued", self.queued == epochs(|s| s.state == StepState::Queued)),
            (
                "timed",
                self.timers == epochs(|s| matches!(s.state, StepState::Scheduled | StepState::Unknown)),
            ),
            ("waiting for money", self.unfunded == epochs(|s| s.state == StepState::WaitingBudget)),
            ("running", running == epochs(|s| s.state == StepState::Running)),
            ("dead", self.letters == those(|s| s.state == StepState::Dead)),
            ("waiting for a person", self.asked == those(|s| s.state == StepState::WaitingApproval)),
            ("approved", gos == those(|s| s.go)),
            ("perhaps out", self.intents == those(|s| s.intent)),
            ("in doubt", self.doubts == those(|s| s.state == StepState::InDoubt)),
        ];
        for (what, same) in same {
            if !same {
                return Err(format!("what is {what} is not what was asked for: {self:?}"));
            }
        }
        let over = laws::all_final(run);
        if self.finished.is_some() != over {
            return Err(format!("finished was told {:?}, all final is {over}", self.finished));
        }
        Ok(())
    }
}
