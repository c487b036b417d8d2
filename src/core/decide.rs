//! The one function that moves a workflow: `decide(plan, run, event, facts)`.
//!
//! It changes the run in memory and says what follows (tickets to queue, rows
//! to write). It never does any of it. A refused event leaves the run exactly
//! as it was: redelivery makes "impossible" events ordinary.

use serde_json::{Map, Value};

use crate::ids::{Epoch, Nonce, SessionId, StepIndex};
use crate::input::{compose_result, needed_results};
use crate::plan::Plan;
use crate::report::Failure;
use crate::run::{Lease, Run, StepRun, StepState, WorkflowState};
use crate::ticket::Priority;

/// What happened, or what somebody asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The workflow was accepted: start what needs nothing.
    Accepted,
    /// A worker wants to run a queued step.
    Claim {
        /// Which step.
        step: StepIndex,
        /// The epoch on its ticket.
        epoch: Epoch,
        /// The lease it will hold.
        lease: Lease,
    },
    /// An attempt ended well; its result row is written in the same transaction.
    Succeeded {
        /// Which attempt.
        token: Token,
    },
    /// An attempt ended badly.
    Failed {
        /// Which attempt.
        token: Token,
        /// What should follow.
        failure: Failure,
    },
    /// A worker gives a claim back unstarted (drain, pause, refusal): the
    /// attempt does not count.
    GivenBack {
        /// Which attempt.
        token: Token,
    },
    /// The session that held the step is dead.
    LeaseLost {
        /// Which step.
        step: StepIndex,
        /// The session that is dead.
        session: SessionId,
    },
    /// The attempt ran longer than it may although its session lives.
    Overdue {
        /// Which attempt.
        token: Token,
    },
    /// A scheduled step's time has come.
    Due {
        /// Which step.
        step: StepIndex,
        /// The epoch its timer was set for.
        epoch: Epoch,
    },
    /// Somebody cancels the workflow.
    Cancel,
    /// Somebody sends a dead step back to its queue.
    Replay {
        /// Which step.
        step: StepIndex,
        /// Whether its input was replaced.
        edited: bool,
    },
    /// Somebody gives a dead step up.
    Discard {
        /// Which step.
        step: StepIndex,
    },
}

/// Names one attempt: a write that does not carry it is stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    /// Which step.
    pub step: StepIndex,
    /// The epoch of the claim.
    pub epoch: Epoch,
    /// The nonce of the claim.
    pub nonce: Nonce,
}

/// What follows from a decision, besides the new run.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Put a ticket into the queue of the step's agent.
    Enqueue {
        /// Which step.
        step: StepIndex,
        /// Its new epoch.
        epoch: Epoch,
        /// How careful its next worker has to be: see [`suspicion`].
        suspicion: u16,
        /// Order within the workspace.
        priority: Priority,
    },
    /// Write a timer row.
    Wait {
        /// Which step.
        step: StepIndex,
        /// The epoch the timer is for.
        epoch: Epoch,
        /// Milliseconds from now.
        delay_ms: u64,
    },
    /// Remove the step's timer row.
    StopWaiting {
        /// Which step.
        step: StepIndex,
    },
    /// Write a dead letter.
    Died {
        /// Which step.
        step: StepIndex,
        /// Why.
        why: Death,
    },
    /// Close the step's dead letter.
    LetterClosed {
        /// Which step.
        step: StepIndex,
        /// How it was repaired.
        how: LetterEnd,
    },
    /// A running attempt was overtaken: tell its worker to stop.
    Interrupt {
        /// Which step.
        step: StepIndex,
    },
    /// Every step is final: the run moves to history.
    Finished(WorkflowState),
}

/// Why a step died.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Death {
    /// Its attempts are used up.
    Attempts,
    /// Too many workers died holding it.
    Crashes,
    /// The error said that trying again is useless.
    Permanent,
    /// Its condition or expansion could not be evaluated.
    Condition(String),
}

impl Death {
    /// The word used in the API and the CLI.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Attempts => "attempts",
            Self::Crashes => "crashes",
            Self::Permanent => "permanent",
            Self::Condition(_) => "condition",
        }
    }
}

/// How a dead letter ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LetterEnd {
    /// Sent back to its queue.
    Replayed,
    /// Given up.
    Discarded,
    /// Its workflow was cancelled.
    Cancelled,
}

impl LetterEnd {
    /// The word used in the API and the CLI.
    pub fn word(self) -> &'static str {
        match self {
            Self::Replayed => "replayed",
            Self::Discarded => "discarded",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Why an event was refused. The run is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such step.
    #[error("there is no such step")]
    NoSuchStep,
    /// The event belongs to an attempt, ticket or timer that was overtaken.
    #[error("overtaken: the step is {state:?} at epoch {epoch}")]
    Stale {
        /// Where the step stands.
        state: StepState,
        /// Its epoch.
        epoch: Epoch,
    },
    /// Only a dead step can be replayed or discarded.
    #[error("the step is {0:?}, not dead")]
    NotDead(StepState),
    /// The workflow is already final or was cancelled before.
    #[error("the workflow is already over or being cancelled")]
    AlreadyOver,
}

/// What deciding needs to know and cannot compute.
pub struct Facts<'a> {
    /// The sequence number the run will have once written.
    pub seq: u64,
    /// Uniform in [0, 1): the jitter of a back-off.
    pub jitter: f64,
    /// The workflow's input; only asked for when [`Plan::conditional`].
    pub brief: &'a Value,
    /// The output of a succeeded step; only asked for when
    /// [`Plan::conditional`], and then for every need of a conditional step.
    pub result: &'a dyn Fn(StepIndex) -> Option<Value>,
}

/// `Effect::Enqueue::suspicion` of a step that must run without neighbours.
pub const ALONE: u16 = u16::MAX;

/// How careful a worker has to be with a step: 0 for one that never crashed,
/// the number of crashes while halving its neighbours is enough, [`ALONE`] for
/// its last try.
pub fn suspicion(crashes: u16, max_crashes: u16) -> u16 {
    if crashes == 0 {
        0
    } else if crashes.saturating_add(1) >= max_crashes {
        ALONE
    } else {
        crashes
    }
}

/// How many steps may run in one process (this one included) while a step of
/// that suspicion runs there.
pub fn allowed_co_runners(concurrency: usize, suspicion: u16) -> usize {
    match suspicion {
        0 => concurrency,
        ALONE => 1,
        n => (concurrency >> n.min(16)).max(1),
    }
}

/// Moves the run by one event.
///
/// # Errors
/// [`Refusal`]; the run is then exactly as it was.
pub fn decide(plan: &Plan, run: &mut Run, event: Event, facts: &Facts<'_>) -> Result<Vec<Effect>, Refusal> {
    let mut mover = Mover { plan, run, facts, effects: Vec::with_capacity(2), settled: Vec::new() };
    mover.apply(event)?;
    mover.settle();
    if mover.all_final() {
        let state = mover.run.state(plan);
        mover.effects.push(Effect::Finished(state));
    }
    Ok(mover.effects)
}

struct Mover<'a> {
    plan: &'a Plan,
    run: &'a mut Run,
    facts: &'a Facts<'a>,
    effects: Vec<Effect>,
    /// Steps that just became final and whose dependents have to be looked at.
    settled: Vec<StepIndex>,
}

impl Mover<'_> {
    fn apply(&mut self, event: Event) -> Result<(), Refusal> {
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
                self.fail(token.step, failure);
                Ok(())
            }
            Event::Overdue { token } => {
                self.fenced(token)?;
                self.fail(token.step, Failure::Transient);
                self.effects.push(Effect::Interrupt { step: token.step });
                Ok(())
            }
            Event::GivenBack { token } => {
                self.fenced(token)?;
                let step = self.step_mut(token.step);
                step.attempts = step.attempts.saturating_sub(1);
                self.enqueue(token.step);
                Ok(())
            }
            Event::LeaseLost { step, session } => self.lease_lost(step, session),
            Event::Due { step, epoch } => {
                let found = self.find(step)?;
                if found.state != StepState::Scheduled || found.epoch != epoch {
                    return Err(stale(found));
                }
                self.effects.push(Effect::StopWaiting { step });
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
        }
    }

    fn claim(&mut self, step: StepIndex, epoch: Epoch, lease: Lease) -> Result<(), Refusal> {
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

    fn fail(&mut self, step: StepIndex, failure: Failure) {
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
        }
    }

    fn lease_lost(&mut self, step: StepIndex, session: SessionId) -> Result<(), Refusal> {
        let found = self.find(step)?;
        if found.lease.is_none_or(|lease| lease.session != session) {
            return Err(stale(found));
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

    fn cancel(&mut self) -> Result<(), Refusal> {
        if self.run.cancelled || self.all_final() {
            return Err(Refusal::AlreadyOver);
        }
        self.run.cancelled = true;
        for index in 0..self.run.steps.len() as StepIndex {
            match self.run.steps[usize::from(index)].state {
                state if state.is_final() => continue,
                StepState::Running => self.effects.push(Effect::Interrupt { step: index }),
                StepState::Scheduled => self.effects.push(Effect::StopWaiting { step: index }),
                StepState::Dead => {
                    self.effects.push(Effect::LetterClosed { step: index, how: LetterEnd::Cancelled });
                }
                _ => {}
            }
            self.close(index, StepState::Cancelled);
        }
        Ok(())
    }

    fn replay(&mut self, step: StepIndex, edited: bool) -> Result<(), Refusal> {
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

    fn find(&self, step: StepIndex) -> Result<&StepRun, Refusal> {
        self.run.step(step).ok_or(Refusal::NoSuchStep)
    }

    /// The fence: the attempt must be the one that runs now.
    fn fenced(&self, token: Token) -> Result<(), Refusal> {
        let found = self.find(token.step)?;
        let mine = self.run.is_held_by(token);
        if mine { Ok(()) } else { Err(stale(found)) }
    }

    fn all_final(&self) -> bool {
        self.run.steps.iter().all(|s| s.state.is_final())
    }

    fn dead(&self, step: StepIndex) -> Result<(), Refusal> {
        match self.find(step)?.state {
            StepState::Dead => Ok(()),
            other => Err(Refusal::NotDead(other)),
        }
    }

    fn plan_of(&self, step: StepIndex) -> &crate::plan::PlanStep {
        &self.plan.steps[usize::from(self.run.steps[usize::from(step)].plan)]
    }

    /// Every change goes through here, so that event streams see it.
    fn step_mut(&mut self, step: StepIndex) -> &mut StepRun {
        let run = &mut self.run.steps[usize::from(step)];
        run.changed = self.facts.seq;
        run
    }

    fn enqueue(&mut self, step: StepIndex) {
        let max_crashes = self.plan_of(step).retry.max_crashes;
        let run = self.step_mut(step);
        run.state = StepState::Queued;
        run.epoch += 1;
        run.lease = None;
        let (epoch, suspicion) = (run.epoch, suspicion(run.crashes, max_crashes));
        let priority = self.run.priority;
        self.effects.push(Effect::Enqueue { step, epoch, suspicion, priority });
    }

    fn schedule(&mut self, step: StepIndex, delay_ms: u64) {
        let run = self.step_mut(step);
        run.state = StepState::Scheduled;
        run.epoch += 1;
        run.lease = None;
        let epoch = run.epoch;
        self.effects.push(Effect::Wait { step, epoch, delay_ms });
    }

    fn die(&mut self, step: StepIndex, why: Death) {
        if self.plan_of(step).optional {
            // The workflow goes on without it, so there is nothing to repair.
            self.finish(step, StepState::Failed);
            return;
        }
        self.close(step, StepState::Dead);
        self.effects.push(Effect::Died { step, why });
    }

    /// Ends whatever the step was doing.
    fn close(&mut self, step: StepIndex, state: StepState) {
        let run = self.step_mut(step);
        if run.lease.take().is_some() {
            // Whoever held it must not be able to write any more.
            run.epoch += u32::from(state != StepState::Succeeded);
        }
        run.state = state;
    }

    fn finish(&mut self, step: StepIndex, state: StepState) {
        self.close(step, state);
        self.settled.push(step);
    }

    /// Looks at everything that waited for the steps that just became final.
    fn settle(&mut self) {
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
    fn settle_group(&mut self, group: StepIndex) {
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

    fn needs_met(&self, step: StepIndex) -> bool {
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
    fn needs_hopeless(&self, step: StepIndex) -> bool {
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
    fn activate(&mut self, step: StepIndex, forced: bool) {
        let plan_step = self.plan_of(step);
        let is_child = self.run.steps[usize::from(step)].item.is_some();
        if let Some(when) = &plan_step.when
            && !forced
            && !is_child
        {
            let results = self.needed_results(step);
            let params =
                &self.plan.definition.steps[usize::from(self.run.steps[usize::from(step)].plan)].input;
            match when.holds(self.facts.brief, params, &results) {
                Ok(true) => {}
                Ok(false) => return self.finish(step, StepState::Skipped),
                Err(problem) => return self.die(step, Death::Condition(problem)),
            }
        }
        if is_child || self.plan_of(step).for_each.is_none() {
            return self.enqueue(step);
        }
        match self.expansion_size(step) {
            Err(problem) => self.die(step, Death::Condition(problem)),
            Ok(0) => self.finish(step, StepState::Succeeded),
            Ok(size) => self.expand(step, size),
        }
    }

    fn expand(&mut self, group: StepIndex, size: u16) {
        self.step_mut(group).state = StepState::Expanded;
        for item in 0..size {
            let child = self.run.steps.len() as StepIndex;
            self.run.steps.push(StepRun {
                plan: group,
                item: Some(item),
                state: StepState::Blocked,
                epoch: 0,
                attempts: 0,
                crashes: 0,
                lease: None,
                changed: self.facts.seq,
                edited: None,
            });
            self.enqueue(child);
        }
    }

    fn expansion_size(&self, step: StepIndex) -> Result<u16, String> {
        let Some(expansion) = &self.plan_of(step).for_each else { return Ok(0) };
        let list = self.expansion_list(expansion)?;
        if list > usize::from(expansion.max) {
            return Err(format!(
                "forEach found {list} elements at `{}`; its max is {}",
                expansion.path, expansion.max
            ));
        }
        Ok(list as u16)
    }

    fn expansion_list(&self, expansion: &crate::plan::Expansion) -> Result<usize, String> {
        let (place, whole) = match expansion.source {
            None => ("the workflow input".to_owned(), Some(self.facts.brief.clone())),
            Some(source) => (
                format!("the result of `{}`", self.plan.steps[usize::from(source)].name),
                compose_result(self.run, source, self.facts.result),
            ),
        };
        match whole.as_ref().and_then(|v| v.pointer(&expansion.path)) {
            Some(Value::Array(list)) => Ok(list.len()),
            Some(_) => Err(format!("forEach found no list at `{}` in {place}", expansion.path)),
            None => Err(format!("forEach found nothing at `{}` in {place}", expansion.path)),
        }
    }

    fn needed_results(&self, step: StepIndex) -> Map<String, Value> {
        needed_results(self.plan, self.run, step, self.facts.result)
    }
}

fn stale(step: &StepRun) -> Refusal {
    Refusal::Stale { state: step.state, epoch: step.epoch }
}
