//! A run and everything around it that can act on it: tickets that arrive
//! late and twice, workers that report late and twice, timers, sessions that
//! die, operators, a database that is restored to an older point.
//!
//! Nothing that was ever issued is taken back: a world offers every ticket,
//! token and timer it has ever seen, in every later state. What is allowed to
//! succeed is remembered from the effects alone ([`Ghost`]), not read from the
//! run, so that a hole in the fence cannot excuse itself.

use std::collections::{BTreeMap, BTreeSet};

use galley_core::decide::{Effect, Event, Refusal, Token};
use galley_core::ids::{Epoch, Nonce, SessionId, StepIndex};
use galley_core::plan::Plan;
use galley_core::report::Failure;
use galley_core::run::{Lease, Run, StepState, WorkflowState};

use crate::laws;
use crate::shapes::happen;

/// The session that never dies, so that there is always a way on.
pub(crate) const IMMORTAL: SessionId = SessionId(0);

/// How often the things happen that could go on for ever.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Budget {
    /// Sessions that may die (they are 1, 2, …).
    pub(crate) mortals: u8,
    pub(crate) give_backs: u8,
    pub(crate) throttles: u8,
    pub(crate) overdues: u8,
    pub(crate) permanents: u8,
    pub(crate) transients: u8,
    pub(crate) replays: u8,
    pub(crate) cancels: u8,
    pub(crate) restores: u8,
}

impl Budget {
    pub(crate) const NOTHING: Self = Self {
        mortals: 0,
        give_backs: 0,
        throttles: 0,
        overdues: 0,
        permanents: 0,
        transients: 0,
        replays: 0,
        cancels: 0,
        restores: 0,
    };
    pub(crate) const ALL: Self = Self {
        mortals: 1,
        give_backs: 1,
        throttles: 1,
        overdues: 1,
        permanents: 1,
        transients: 2,
        replays: 1,
        cancels: 1,
        restores: 0,
    };
    pub(crate) const ENDLESS: Self = Self {
        mortals: 5,
        give_backs: u8::MAX,
        throttles: u8::MAX,
        overdues: u8::MAX,
        permanents: u8::MAX,
        transients: u8::MAX,
        replays: u8::MAX,
        cancels: u8::MAX,
        restores: 0,
    };

    fn spend(&mut self, event: &Event) -> bool {
        let left = match event {
            Event::GivenBack { .. } => &mut self.give_backs,
            Event::Failed { failure: Failure::Throttled { .. }, .. } => &mut self.throttles,
            Event::Failed { failure: Failure::Permanent, .. } => &mut self.permanents,
            Event::Failed { failure: Failure::Transient, .. } => &mut self.transients,
            Event::Overdue { .. } => &mut self.overdues,
            Event::Replay { .. } => &mut self.replays,
            Event::Cancel => &mut self.cancels,
            _ => return true,
        };
        let may = *left > 0;
        *left = left.saturating_sub(1);
        may
    }
}

/// What may still succeed, told from what was asked for and what followed.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Ghost {
    queued: BTreeMap<StepIndex, Epoch>,
    waiting: BTreeMap<StepIndex, Epoch>,
    holders: BTreeMap<StepIndex, (Token, SessionId)>,
    letters: BTreeSet<StepIndex>,
    /// The attempt whose result counts; at most one per step, for ever.
    winners: BTreeMap<StepIndex, Token>,
    finished: Option<WorkflowState>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct World {
    pub(crate) run: Run,
    ghost: Ghost,
    tickets: BTreeSet<(StepIndex, Epoch)>,
    timers: BTreeSet<(StepIndex, Epoch)>,
    tokens: BTreeSet<(StepIndex, Epoch, u64)>,
    dead: BTreeSet<SessionId>,
    budget: Budget,
    /// What a restore brings back, and how often there was one.
    backup: Option<Box<(Run, Ghost)>>,
    restored: u8,
}

/// What can happen in a world.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Action {
    Deliver(Event),
    Die(SessionId),
    BackUp,
    Restore,
}

/// What an accepted event did.
pub(crate) struct Moved {
    pub(crate) world: World,
    /// `None` for what does not touch the run (a death, a backup).
    pub(crate) effects: Option<Vec<Effect>>,
}

impl World {
    /// A world whose workflow was just accepted.
    pub(crate) fn new(plan: &Plan, budget: Budget) -> Result<Self, String> {
        let mut world = Self {
            run: Run::new(plan, 5),
            ghost: Ghost::default(),
            tickets: BTreeSet::new(),
            timers: BTreeSet::new(),
            tokens: BTreeSet::new(),
            dead: BTreeSet::new(),
            budget,
            backup: None,
            restored: 0,
        };
        laws::of_state_before_acceptance(&world.run)?;
        match world.step(plan, &Action::Deliver(Event::Accepted))? {
            Some(moved) => world = moved.world,
            None => return Err("accepting changed nothing".into()),
        }
        Ok(world)
    }

    /// Everything that can happen now, with everything that is too late.
    pub(crate) fn actions(&self) -> Vec<Action> {
        let mut all = vec![Action::Deliver(Event::Accepted), Action::Deliver(Event::Cancel)];
        let mut deliver = |event| all.push(Action::Deliver(event));
        let mortals = (1..=i64::from(self.budget.mortals)).map(SessionId);
        let alive: Vec<_> =
            std::iter::once(IMMORTAL).chain(mortals.filter(|s| !self.dead.contains(s)).take(1)).collect();
        for &(step, epoch) in &self.tickets {
            // A new nonce per claim, also when an epoch comes back.
            let nonce = Nonce(u64::from(self.restored) << 32 | u64::from(epoch) << 16 | u64::from(step));
            for &session in &alive {
                deliver(Event::Claim { step, epoch, lease: Lease { nonce, session } });
            }
        }
        for &(step, epoch, nonce) in &self.tokens {
            let token = Token { step, epoch, nonce: Nonce(nonce) };
            deliver(Event::Succeeded { token });
            for failure in
                [Failure::Transient, Failure::Throttled { retry_after_ms: 1_000 }, Failure::Permanent]
            {
                deliver(Event::Failed { token, failure });
            }
            deliver(Event::GivenBack { token });
            deliver(Event::Overdue { token });
        }
        for &(step, epoch) in &self.timers {
            deliver(Event::Due { step, epoch });
        }
        // One step too many: what does not exist is refused.
        for step in 0..=self.run.steps.len() as StepIndex {
            for &session in &self.dead {
                deliver(Event::LeaseLost { step, session });
            }
            deliver(Event::Replay { step, edited: step % 2 == 1 });
            deliver(Event::Discard { step });
        }
        all.extend(alive.into_iter().filter(|s| *s != IMMORTAL).map(Action::Die));
        if self.budget.restores > 0 {
            all.push(if self.backup.is_none() { Action::BackUp } else { Action::Restore });
        }
        all
    }

    /// Lets one thing happen. `None`: it was refused, or changed nothing, or
    /// is beyond the budget (its laws were checked all the same).
    ///
    /// # Errors
    /// The law that was broken.
    pub(crate) fn step(&self, plan: &Plan, action: &Action) -> Result<Option<Moved>, String> {
        let event = match action {
            Action::Deliver(event) => event,
            Action::Die(session) => {
                let mut world = self.clone();
                world.dead.insert(*session);
                return Ok(Some(Moved { world, effects: None }));
            }
            Action::BackUp => {
                let mut world = self.clone();
                world.backup = Some(Box::new((self.run.clone(), self.ghost.clone())));
                return Ok(Some(Moved { world, effects: None }));
            }
            Action::Restore => {
                let mut world = self.clone();
                let Some(backup) = world.backup.take() else { return Ok(None) };
                // Redis, the workers and their clocks know nothing of it.
                (world.run, world.ghost) = *backup;
                world.restored += 1;
                world.budget.restores -= 1;
                return Ok(Some(Moved { world, effects: None }));
            }
        };

        let mut run = self.run.clone();
        let answer = happen(plan, &mut run, event.clone());
        let expected = self.should_be_accepted(event);
        let effects = match answer {
            Err(refusal) if expected => return Err(format!("{event:?} was refused: {refusal}")),
            Err(refusal) => {
                if run != self.run {
                    return Err(format!(
                        "{event:?} was refused ({refusal}) and changed the run all the same"
                    ));
                }
                self.refusal_is_true(event, refusal)?;
                return Ok(None);
            }
            Ok(_) if !expected => return Err(format!("{event:?} is not its turn and was accepted")),
            Ok(effects) => effects,
        };
        laws::of_change(plan, &self.run, event, &run, &effects)?;
        laws::of_state(plan, &run)?;
        // Sequence numbers grow for ever; the laws above have seen them.
        for step in &mut run.steps {
            step.changed = 0;
        }
        let mut budget = self.budget;
        if (run == self.run && effects.is_empty()) || !budget.spend(event) {
            return Ok(None);
        }
        let mut world = Self { run, budget, ..self.clone() };
        world.remember(event, &effects)?;
        world.ghost_is_true()?;
        Ok(Some(Moved { world, effects: Some(effects) }))
    }

    /// Whether an event is its turn, told from the effects so far.
    pub(crate) fn should_be_accepted(&self, event: &Event) -> bool {
        let ghost = &self.ghost;
        let holds = |token: &Token| ghost.holders.get(&token.step).is_some_and(|(held, _)| held == token);
        match event {
            Event::Accepted | Event::Cancel => ghost.finished.is_none(),
            Event::Claim { step, epoch, .. } => ghost.queued.get(step) == Some(epoch),
            Event::Succeeded { token }
            | Event::Failed { token, .. }
            | Event::GivenBack { token }
            | Event::Overdue { token } => holds(token),
            Event::LeaseLost { step, session } => {
                ghost.holders.get(step).is_some_and(|(_, held)| held == session)
            }
            Event::Due { step, epoch } => ghost.waiting.get(step) == Some(epoch),
            Event::Replay { step, .. } | Event::Discard { step } => ghost.letters.contains(step),
            other => unreachable!("{other:?} is explored in posts.rs"),
        }
    }

    /// Whether an event is what happens if nobody interferes and nothing fails.
    pub(crate) fn moves_on(&self, event: &Event) -> bool {
        matches!(
            event,
            Event::Claim { lease: Lease { session: IMMORTAL, .. }, .. }
                | Event::Succeeded { .. }
                | Event::Due { .. }
        ) && self.should_be_accepted(event)
    }

    fn refusal_is_true(&self, event: &Event, refusal: Refusal) -> Result<(), String> {
        let found = laws::target(event).and_then(|step| self.run.step(step));
        let told = match refusal {
            Refusal::NoSuchStep => found.is_none(),
            Refusal::Stale { state, epoch } => found.is_some_and(|s| s.state == state && s.epoch == epoch),
            Refusal::NotDead(state) => found.is_some_and(|s| s.state == state),
            Refusal::AlreadyOver => laws::all_final(&self.run),
            Refusal::MayBeOut(_) | Refusal::NotWaiting(_) => false,
        };
        if told { Ok(()) } else { Err(format!("{event:?} was refused with a wrong reason: {refusal:?}")) }
    }

    fn remember(&mut self, event: &Event, effects: &[Effect]) -> Result<(), String> {
        let ghost = &mut self.ghost;
        match *event {
            Event::Claim { step, epoch, lease } => {
                ghost.queued.remove(&step);
                let token = Token { step, epoch: epoch + 1, nonce: lease.nonce };
                ghost.holders.insert(step, (token, lease.session));
                self.tokens.insert((step, token.epoch, token.nonce.0));
            }
            Event::Succeeded { token } => {
                ghost.holders.remove(&token.step);
                if let Some(first) = ghost.winners.insert(token.step, token) {
                    return Err(format!("{token:?} succeeded after {first:?}"));
                }
            }
            Event::Failed { token, .. } | Event::GivenBack { token } | Event::Overdue { token } => {
                ghost.holders.remove(&token.step);
            }
            Event::LeaseLost { step, .. } => {
                ghost.holders.remove(&step);
            }
            Event::Cancel => {
                ghost.queued.clear();
                ghost.holders.clear();
            }
            _ => {}
        }
        // A letter is closed before another is written in one decision.
        for effect in effects {
            if let Effect::LetterClosed { step, .. } = effect
                && !ghost.letters.remove(step)
            {
                return Err(format!("closed a letter of step {step} that was not open"));
            }
        }
        for effect in effects {
            match effect {
                Effect::Enqueue { step, epoch, .. } => {
                    ghost.queued.insert(*step, *epoch);
                    self.tickets.insert((*step, *epoch));
                }
                Effect::Wait { step, epoch, .. } => {
                    ghost.waiting.insert(*step, *epoch);
                    self.timers.insert((*step, *epoch));
                }
                Effect::StopWaiting { step } => {
                    ghost.waiting.remove(step);
                }
                Effect::Died { step, .. } => {
                    ghost.letters.insert(*step);
                }
                Effect::Finished(state) => {
                    if let Some(first) = ghost.finished.replace(*state) {
                        return Err(format!("finished {state:?} after it had finished {first:?}"));
                    }
                }
                Effect::LetterClosed { .. } | Effect::Interrupt { .. } => {}
            }
        }
        Ok(())
    }

    /// What was asked for and what the run says is one story.
    fn ghost_is_true(&self) -> Result<(), String> {
        let in_state = |state: StepState| {
            (0..).zip(&self.run.steps).filter(move |(_, s)| s.state == state).map(|(i, s)| (i, s.epoch))
        };
        let ghost = &self.ghost;
        let same = [
            ("queued", ghost.queued.iter().map(|(s, e)| (*s, *e)).eq(in_state(StepState::Queued))),
            ("scheduled", ghost.waiting.iter().map(|(s, e)| (*s, *e)).eq(in_state(StepState::Scheduled))),
            (
                "running",
                ghost.holders.values().map(|(t, _)| (t.step, t.epoch)).eq(in_state(StepState::Running)),
            ),
            ("dead", ghost.letters.iter().copied().eq(in_state(StepState::Dead).map(|(s, _)| s))),
        ];
        for (what, same) in same {
            if !same {
                return Err(format!("what is {what} is not what the effects said: {ghost:?}"));
            }
        }
        let over = laws::all_final(&self.run);
        if ghost.finished.is_some() != over {
            return Err(format!("finished was told {:?}, all final is {over}", ghost.finished));
        }
        Ok(())
    }
}
