//! The decisions: a row in, a row out. No Redis, no workers, no faults.
//!
//! This is the part of the model that mirrors the pure core of the product. A
//! rule that changes there changes here first.

use crate::action::Outcome;
use crate::protocol::Protocol;
use crate::shortcut::Shortcut;
use crate::state::{Claim, Lease, Results, Run, Step, StepState, Ticket};

/// What a claim is, on the row as loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ClaimVerdict {
    /// Write this row: the claim is won if its version is still the row's.
    Start(Run, Claim),
    /// An earlier, unknown commit of the same claim.
    Mine(Claim),
    /// The ticket is not good (any more).
    Forget,
}

/// What a completion is, on the row as loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// The claim still holds the step.
    Holds,
    /// The result row is this claim's: an earlier, unknown commit.
    Mine,
    /// Superseded.
    Stale,
}

/// What was found out about an unknown publish.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Finding {
    Published,
    NotSent,
}

fn queue(step: &mut Step) {
    step.state = StepState::Queued;
    step.epoch += 1;
}

fn cancel(step: &mut Step) {
    step.state = StepState::Cancelled;
    step.epoch += 1;
    step.lease = None;
}

impl Protocol {
    /// queued → running: epoch+1, nonce, session, attempts+1.
    pub(crate) fn claim(&self, run: &Run, ticket: Ticket, nonce: u8, session: u8) -> ClaimVerdict {
        let mut next = *run;
        let step = &mut next.steps[usize::from(ticket.step)];
        let claim = Claim { step: ticket.step, epoch: ticket.epoch + 1, nonce };
        if step.state == StepState::Running && step.lease == Some(Lease { session, nonce }) {
            return ClaimVerdict::Mine(Claim { epoch: step.epoch, ..claim });
        }
        if step.state != StepState::Queued || step.epoch != ticket.epoch {
            return ClaimVerdict::Forget;
        }
        step.state = StepState::Running;
        step.epoch += 1;
        step.attempts += 1;
        step.lease = Some(Lease { session, nonce });
        ClaimVerdict::Start(next, claim)
    }

    /// Whether a worker's write may land: (state, epoch, nonce) of its step.
    pub(crate) fn fence(&self, run: &Run, claim: Claim) -> bool {
        let step = &run.steps[usize::from(claim.step)];
        let running = step.state == StepState::Running;
        if self.takes(Shortcut::CompleteOnId) {
            true
        } else if self.takes(Shortcut::CompleteOnState) {
            running
        } else if self.takes(Shortcut::DropNonce) {
            running && step.epoch == claim.epoch
        } else {
            holds(run, claim)
        }
    }

    /// A completion's verdict on the row and the result rows as loaded.
    pub(crate) fn verdict(&self, run: &Run, results: &Results, claim: Claim) -> Verdict {
        if self.fence(run, claim) {
            Verdict::Holds
        } else if results.rows > 0
            && results.epoch == claim.epoch
            && (results.nonce == claim.nonce || self.takes(Shortcut::DropNonce))
        {
            Verdict::Mine
        } else {
            Verdict::Stale
        }
    }

    /// running → what follows from the outcome.
    pub(crate) fn complete(&self, run: &Run, claim: Claim, outcome: Outcome) -> Run {
        let mut next = *run;
        let cancelling = next.cancelling;
        let step = &mut next.steps[usize::from(claim.step)];
        step.lease = None;
        match outcome {
            Outcome::Ok => return self.succeed(next, claim.step),
            Outcome::Unknown => step.state = StepState::Unknown,
            Outcome::Permanent => {
                step.intent = false;
                step.state = StepState::Failed;
            }
            Outcome::Transient | Outcome::NotSent => {
                step.intent = false;
                if cancelling {
                    cancel(step);
                } else if step.attempts >= self.max_attempts {
                    step.state = StepState::Dead;
                } else {
                    step.state = StepState::Scheduled;
                }
            }
        }
        next
    }

    /// → succeeded, and children whose needs are met are queued.
    fn succeed(&self, mut run: Run, done: u8) -> Run {
        let step = &mut run.steps[usize::from(done)];
        step.state = StepState::Succeeded;
        step.lease = None;
        step.intent = false;
        for child in self.steps() {
            if run.steps[usize::from(child)].state == StepState::Blocked && self.needs_met(&run, child) {
                queue(&mut run.steps[usize::from(child)]);
            }
        }
        run
    }

    /// Whether every step this one needs has succeeded.
    pub(crate) fn needs_met(&self, run: &Run, child: u8) -> bool {
        self.steps()
            .filter(|parent| self.needs[usize::from(child)] & (1 << parent) != 0)
            .all(|parent| run.steps[usize::from(parent)].state == StepState::Succeeded)
    }

    /// running → queued with crashes+1, dead at the limit, unknown with an intent.
    pub(crate) fn reap(&self, run: &Run, step: u8) -> Run {
        let mut next = *run;
        let step = &mut next.steps[usize::from(step)];
        step.lease = None;
        step.crashes += 1;
        if step.intent && !self.takes(Shortcut::ReaperIgnoresIntent) {
            step.epoch += 1;
            step.state = StepState::Unknown;
        } else if step.crashes >= self.max_crashes {
            step.intent = false;
            step.epoch += 1;
            step.state = StepState::Dead;
        } else {
            step.intent = false;
            queue(step);
        }
        if self.takes(Shortcut::ResetEpochOnReap) {
            step.epoch = 1;
        }
        next
    }

    /// Every step that waits for no outcome → cancelled.
    pub(crate) fn cancel(&self, run: &Run) -> Run {
        let mut next = *run;
        next.cancelling = true;
        for step in &mut next.steps[..self.needs.len()] {
            let waits = match step.state {
                StepState::Running => step.intent && !self.takes(Shortcut::CancelIgnoresIntent),
                StepState::Unknown | StepState::InDoubt => true,
                _ => false,
            };
            if !waits && !step.state.is_final() {
                step.intent = false;
                cancel(step);
            }
        }
        next
    }

    /// unknown or in_doubt → succeeded, or queued again (cancelled, if that was
    /// asked). "Not sent" is bound by the same limits as a retry or a reap: a
    /// zombie that claims, arms and never sends would otherwise go round for ever.
    pub(crate) fn resolve(&self, run: &Run, step: u8, finding: Finding) -> Run {
        let mut next = *run;
        match finding {
            Finding::Published => return self.succeed(next, step),
            Finding::NotSent => {
                let cancelling = next.cancelling;
                let step = &mut next.steps[usize::from(step)];
                step.intent = false;
                if cancelling {
                    cancel(step);
                } else if (step.attempts >= self.max_attempts || step.crashes >= self.max_crashes)
                    && !self.takes(Shortcut::ResolverForgetsLimits)
                {
                    step.epoch += 1;
                    step.state = StepState::Dead;
                } else {
                    queue(step);
                }
            }
        }
        next
    }

    /// scheduled → queued.
    pub(crate) fn due(&self, run: &Run, step: u8) -> Run {
        let mut next = *run;
        queue(&mut next.steps[usize::from(step)]);
        next
    }

    /// dead → queued, with its attempts back.
    pub(crate) fn replay(&self, run: &Run, step: u8) -> Run {
        let mut next = self.due(run, step);
        let step = &mut next.steps[usize::from(step)];
        step.attempts = 0;
        step.crashes = 0;
        next
    }

    /// dead → failed; what needs it is cancelled.
    pub(crate) fn discard(&self, run: &Run, dead: u8) -> Run {
        let mut next = *run;
        next.steps[usize::from(dead)].state = StepState::Failed;
        for step in &mut next.steps[..self.needs.len()] {
            if step.state == StepState::Blocked {
                cancel(step);
            }
        }
        next
    }

    /// Every step is final, in a named waiting state, or behind one that is.
    pub(crate) fn is_settled(&self, run: &Run) -> bool {
        let mut stopped = 0u8;
        for step in self.steps() {
            let row = &run.steps[usize::from(step)];
            let settled = match row.state {
                StepState::Succeeded => true,
                StepState::Dead | StepState::Failed | StepState::Cancelled => {
                    stopped |= 1 << step;
                    true
                }
                StepState::Blocked => {
                    let behind = self.needs[usize::from(step)] & stopped != 0;
                    if behind {
                        stopped |= 1 << step;
                    }
                    behind
                }
                _ => false,
            };
            if !settled {
                return false;
            }
        }
        true
    }
}

/// The truth, whatever the shortcuts: this claim holds its step.
pub(crate) fn holds(run: &Run, claim: Claim) -> bool {
    let step = &run.steps[usize::from(claim.step)];
    step.state == StepState::Running
        && step.epoch == claim.epoch
        && step.lease.is_some_and(|lease| lease.nonce == claim.nonce)
}
