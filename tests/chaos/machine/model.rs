//! What is promised, as simply as it can be said: states, epochs and counts of
//! steps. Written from `docs/states.md`, not from the code that decides.

/// Where a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Blocked,
    Queued,
    Running,
    Scheduled,
    Succeeded,
    Failed,
    Cancelled,
    Dead,
}

impl State {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Scheduled => "scheduled",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Dead => "dead",
        }
    }

    fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// A step of a shape.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) needs: &'static [usize],
    pub(crate) optional: bool,
    pub(crate) attempts: u16,
    pub(crate) crashes: u16,
}

const fn step(name: &'static str, needs: &'static [usize]) -> Shape {
    Shape { name, needs, optional: false, attempts: 2, crashes: 2 }
}

/// The shapes of workflows: alone, a chain, a diamond, a join of two that run
/// at once, and one that goes on without a part of it.
pub(crate) const SHAPES: [&[Shape]; 5] = [
    &[step("only", &[])],
    &[step("a", &[]), step("b", &[0]), step("c", &[1])],
    &[step("a", &[]), step("b", &[0]), step("c", &[0]), step("d", &[1, 2])],
    &[step("a", &[]), step("b", &[]), step("join", &[0, 1])],
    &[
        step("a", &[]),
        Shape { optional: true, attempts: 1, crashes: 1, ..step("b", &[0]) },
        Shape { attempts: 3, crashes: 3, ..step("c", &[0, 1]) },
    ],
];

/// A step's state.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) shape: Shape,
    pub(crate) state: State,
    pub(crate) epoch: u32,
    pub(crate) attempts: u16,
    pub(crate) crashes: u16,
    /// The attempt that holds it.
    pub(crate) holder: Option<usize>,
    /// Whether there ever was a dead letter of it.
    pub(crate) died: bool,
}

/// A workflow.
#[derive(Clone, Debug)]
pub(crate) struct Workflow {
    pub(crate) steps: Vec<Step>,
    cancelled: bool,
}

/// An attempt: who runs what.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) workflow: usize,
    pub(crate) step: usize,
    pub(crate) session: i64,
    /// Whether a report of it is in the database.
    recorded: bool,
}

/// Everything.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) workflows: Vec<Workflow>,
    pub(crate) attempts: Vec<Attempt>,
}

/// How a report ends an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Success,
    Transient,
    Throttled,
    Permanent,
    Unstarted,
}

impl Workflow {
    pub(crate) fn new(shape: &[Shape]) -> Self {
        let step = |shape: &Shape| Step {
            shape: *shape,
            state: State::Blocked,
            epoch: 0,
            attempts: 0,
            crashes: 0,
            holder: None,
            died: false,
        };
        let mut workflow = Self { steps: shape.iter().map(step).collect(), cancelled: false };
        workflow.settle();
        workflow
    }

    pub(crate) fn is_over(&self) -> bool {
        self.steps.iter().all(|step| step.state.is_final())
    }

    /// The word of a workflow that is over.
    pub(crate) fn end(&self) -> &'static str {
        let failed = |step: &Step| step.state == State::Failed && !step.shape.optional;
        match () {
            () if self.cancelled => "cancelled",
            () if self.steps.iter().any(failed) => "failed",
            () => "succeeded",
        }
    }

    /// What was blocked and can go on, goes on; what never can, ends.
    fn settle(&mut self) {
        loop {
            let next = self.steps.iter().enumerate().find_map(|(index, step)| {
                let needs = || step.shape.needs.iter().map(|need| &self.steps[*need]);
                let lost = |step: &Step| {
                    step.state == State::Cancelled || step.state == State::Failed && !step.shape.optional
                };
                let met = |step: &Step| step.state.is_final() && !lost(step);
                match step.state {
                    State::Blocked if needs().any(lost) => Some((index, State::Cancelled)),
                    State::Blocked if needs().all(met) => Some((index, State::Queued)),
                    _ => None,
                }
            });
            match next {
                Some((index, State::Queued)) => self.queue(index),
                Some((index, state)) => self.steps[index].state = state,
                None => return,
            }
        }
    }

    fn queue(&mut self, index: usize) {
        let step = &mut self.steps[index];
        step.state = State::Queued;
        step.epoch += 1;
        step.holder = None;
    }

    /// A running step ends without a result: whoever held it is overtaken.
    fn end_running(&mut self, index: usize, state: State) {
        let step = &mut self.steps[index];
        step.epoch += 1;
        step.holder = None;
        step.state = match state {
            State::Dead if step.shape.optional => State::Failed,
            state => state,
        };
        step.died |= step.state == State::Dead;
        self.settle();
    }
}

impl Model {
    pub(crate) fn submit(&mut self, shape: &[Shape]) {
        self.workflows.push(Workflow::new(shape));
    }

    /// A ticket is claimed; the attempt, if it was right.
    pub(crate) fn claim(&mut self, workflow: usize, step: usize, epoch: u32, session: i64) -> Option<usize> {
        let run = &mut self.workflows[workflow].steps[step];
        if run.state != State::Queued || run.epoch != epoch {
            return None;
        }
        let attempt = self.attempts.len();
        self.attempts.push(Attempt { workflow, step, session, recorded: false });
        (run.state, run.holder) = (State::Running, Some(attempt));
        run.epoch += 1;
        run.attempts += 1;
        Some(attempt)
    }

    /// Whether the attempt is the one that holds its step.
    pub(crate) fn holds(&self, attempt: usize) -> bool {
        let Attempt { workflow, step, .. } = self.attempts[attempt];
        self.workflows[workflow].steps[step].holder == Some(attempt)
    }

    /// An attempt is reported; whether the report counts.
    pub(crate) fn report(&mut self, attempt: usize, end: End) -> bool {
        let Attempt { workflow, step: index, recorded, .. } = self.attempts[attempt];
        let workflow = &mut self.workflows[workflow];
        let step = &mut workflow.steps[index];
        if step.holder != Some(attempt) {
            // Whoever reported it before did not give it back.
            return recorded && end != End::Unstarted;
        }
        self.attempts[attempt].recorded = end != End::Unstarted;
        match end {
            End::Success => {
                (step.state, step.holder) = (State::Succeeded, None);
                workflow.settle();
            }
            End::Transient if step.attempts >= step.shape.attempts => {
                workflow.end_running(index, State::Dead);
            }
            End::Permanent => workflow.end_running(index, State::Dead),
            End::Transient => workflow.end_running(index, State::Scheduled),
            End::Throttled => {
                step.attempts -= 1;
                workflow.end_running(index, State::Scheduled);
            }
            End::Unstarted => {
                step.attempts -= 1;
                workflow.queue(index);
            }
        }
        true
    }

    /// Everything that a closed session held is returned.
    pub(crate) fn reap(&mut self, closed: impl Fn(i64) -> bool) -> usize {
        let mut returned = 0;
        for workflow in &mut self.workflows {
            for index in 0..workflow.steps.len() {
                let step = &mut workflow.steps[index];
                let Some(holder) = step.holder else { continue };
                if !closed(self.attempts[holder].session) {
                    continue;
                }
                returned += 1;
                step.attempts -= 1;
                step.crashes += 1;
                if step.crashes >= step.shape.crashes {
                    workflow.end_running(index, State::Dead);
                } else {
                    workflow.queue(index);
                }
            }
        }
        returned
    }

    /// Everything that waits for its time is queued: nobody waits for long here.
    pub(crate) fn due(&mut self) -> usize {
        let mut queued = 0;
        for workflow in &mut self.workflows {
            for index in 0..workflow.steps.len() {
                if workflow.steps[index].state == State::Scheduled {
                    workflow.queue(index);
                    queued += 1;
                }
            }
        }
        queued
    }

    /// Whether there was something to cancel.
    pub(crate) fn cancel(&mut self, workflow: usize) -> bool {
        let workflow = &mut self.workflows[workflow];
        if workflow.cancelled || workflow.is_over() {
            return false;
        }
        workflow.cancelled = true;
        for step in workflow.steps.iter_mut().filter(|step| !step.state.is_final()) {
            step.epoch += u32::from(step.state == State::Running);
            (step.state, step.holder) = (State::Cancelled, None);
        }
        true
    }

    /// Whether the step was dead.
    pub(crate) fn repair(&mut self, workflow: usize, step: usize, discard: bool) -> bool {
        let workflow = &mut self.workflows[workflow];
        let run = &mut workflow.steps[step];
        if run.state != State::Dead {
            return false;
        }
        if discard {
            run.state = State::Failed;
            workflow.settle();
        } else {
            (run.attempts, run.crashes) = (0, 0);
            workflow.queue(step);
        }
        true
    }
}
