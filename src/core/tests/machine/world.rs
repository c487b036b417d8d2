//! A run and everything around it that can act on it: tickets that arrive
//! late and twice, workers that report late and twice, timers, sessions that
//! die, operators, a database that is restored to an older point.
//!
//! Nothing that was ever issued is taken back: a world offers every ticket,
//! token and timer it has ever seen, in every later state, and people who
//! answer at any moment, asked or not. What is allowed to succeed is told by
//! the [`Ghost`].

use std::collections::BTreeSet;

use galley_core::decide::{Effect, Event, Refusal, Settlement, Token};
use galley_core::ids::{Epoch, Nonce, SessionId, StepIndex};
use galley_core::plan::Plan;
use galley_core::report::Failure;
use galley_core::run::{Lease, Run};

use crate::ghost::Ghost;
use crate::laws;
use crate::shapes::{SLOT_MS, happen};

/// The session that never dies, so that there is always a way on.
pub(crate) const IMMORTAL: SessionId = SessionId(0);

/// How often the things happen that could go on for ever.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Budget {
    /// Sessions that may die (they are 1, 2, …).
    pub(crate) mortals: u8,
    pub(crate) give_backs: u8,
    pub(crate) throttles: u8,
    pub(crate) unfundeds: u8,
    pub(crate) overdues: u8,
    pub(crate) permanents: u8,
    pub(crate) transients: u8,
    pub(crate) replays: u8,
    pub(crate) cancels: u8,
    pub(crate) restores: u8,
    /// Queued steps and attempts that find that a person has to say yes.
    pub(crate) holds: u8,
    pub(crate) postpones: u8,
    pub(crate) amends: u8,
    /// Posts withdrawn, and steps refused their go.
    pub(crate) withdraws: u8,
    /// Outcomes that nobody knows, told by whoever sent.
    pub(crate) unsures: u8,
    pub(crate) doubts: u8,
}

impl Budget {
    pub(crate) const NOTHING: Self = Self {
        mortals: 0,
        give_backs: 0,
        throttles: 0,
        unfundeds: 0,
        overdues: 0,
        permanents: 0,
        transients: 0,
        replays: 0,
        cancels: 0,
        restores: 0,
        holds: 0,
        postpones: 0,
        amends: 0,
        withdraws: 0,
        unsures: 0,
        doubts: 0,
    };
    pub(crate) const ENDLESS: Self = Self {
        mortals: 5,
        give_backs: u8::MAX,
        throttles: u8::MAX,
        unfundeds: u8::MAX,
        overdues: u8::MAX,
        permanents: u8::MAX,
        transients: u8::MAX,
        replays: u8::MAX,
        cancels: u8::MAX,
        restores: 0,
        holds: u8::MAX,
        postpones: u8::MAX,
        amends: u8::MAX,
        withdraws: u8::MAX,
        unsures: u8::MAX,
        doubts: u8::MAX,
    };

    fn spend(&mut self, event: &Event) -> bool {
        let left = match event {
            Event::GivenBack { .. } => &mut self.give_backs,
            Event::Failed { failure: Failure::Throttled { .. }, .. } => &mut self.throttles,
            Event::Failed { failure: Failure::Unfunded { .. }, .. } => &mut self.unfundeds,
            Event::Failed { failure: Failure::Permanent, .. } => &mut self.permanents,
            Event::Failed { failure: Failure::Transient, .. } => &mut self.transients,
            Event::Overdue { .. } => &mut self.overdues,
            Event::Replay { .. } => &mut self.replays,
            Event::Cancel => &mut self.cancels,
            Event::NeedsGo { .. } | Event::Held { .. } => &mut self.holds,
            Event::Postponed { .. } => &mut self.postpones,
            Event::Amended { .. } => &mut self.amends,
            Event::Withdrawn { .. } | Event::Refused { .. } => &mut self.withdraws,
            Event::Unsure { .. } => &mut self.unsures,
            Event::Doubted { .. } => &mut self.doubts,
            // Bounded by what leads to them; people always answer in the end.
            Event::Accepted
            | Event::Claim { .. }
            | Event::Succeeded { .. }
            | Event::LeaseLost { .. }
            | Event::Due { .. }
            | Event::Funded { .. }
            | Event::Discard { .. }
            | Event::Approved { .. }
            | Event::Intent { .. }
            | Event::Repeated { .. }
            | Event::Settled { .. } => return true,
        };
        let may = *left > 0;
        *left = left.saturating_sub(1);
        may
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct World {
    pub(crate) run: Run,
    ghost: Ghost,
    tickets: BTreeSet<(StepIndex, Epoch)>,
    timers: BTreeSet<(StepIndex, Epoch)>,
    unfunded: BTreeSet<(StepIndex, Epoch)>,
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
            unfunded: BTreeSet::new(),
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
    pub(crate) fn actions(&self, plan: &Plan) -> Vec<Action> {
        let mut all = vec![Action::Deliver(Event::Accepted), Action::Deliver(Event::Cancel)];
        let mut deliver = |event| all.push(Action::Deliver(event));
        let publishes = |step: StepIndex| {
            let run = self.run.step(step);
            run.is_none_or(|run| plan.steps[usize::from(run.plan)].publishes)
        };
        let mortals = (1..=i64::from(self.budget.mortals)).map(SessionId);
        let alive: Vec<_> =
            std::iter::once(IMMORTAL).chain(mortals.filter(|s| !self.dead.contains(s)).take(1)).collect();
        for &(step, epoch) in &self.tickets {
            // A new nonce per claim, also when an epoch comes back.
            let nonce = Nonce(u64::from(self.restored) << 32 | u64::from(epoch) << 16 | u64::from(step));
            for &session in &alive {
                deliver(Event::Claim { step, epoch, lease: Lease { nonce, session } });
            }
            deliver(Event::NeedsGo { step, epoch });
        }
        for &(step, epoch, nonce) in &self.tokens {
            let token = Token { step, epoch, nonce: Nonce(nonce) };
            // Nobody says of a post that it is out who was not allowed to send it.
            if self.run.step(step).is_none_or(|run| run.intent || !publishes(step))
                || !self.run.is_held_by(token)
            {
                deliver(Event::Succeeded { token });
            }
            for failure in [
                Failure::Transient,
                Failure::Throttled { retry_after_ms: 1_000 },
                Failure::Permanent,
                Failure::Unfunded { needed_micros: 1 },
            ] {
                deliver(Event::Failed { token, failure });
            }
            deliver(Event::GivenBack { token });
            deliver(Event::Overdue { token });
            deliver(Event::Held { token });
            deliver(Event::Postponed { token, delay_ms: SLOT_MS });
            if publishes(step) {
                deliver(Event::Intent { token });
                deliver(Event::Repeated { token });
                deliver(Event::Unsure { token });
                deliver(Event::Doubted { token });
            }
        }
        for &(step, epoch) in &self.timers {
            deliver(Event::Due { step, epoch });
        }
        for &(step, epoch) in &self.unfunded {
            deliver(Event::Funded { step, epoch });
        }
        // One step too many: what does not exist is refused.
        for step in 0..=self.run.steps.len() as StepIndex {
            for &session in &self.dead {
                deliver(Event::LeaseLost { step, session });
            }
            deliver(Event::Replay { step, edited: step % 2 == 1 });
            deliver(Event::Discard { step });
            deliver(Event::Approved { step });
            if publishes(step) {
                deliver(Event::Withdrawn { step });
                deliver(Event::Amended { step, hold: false });
                deliver(Event::Amended { step, hold: true });
                for how in [Settlement::Published, Settlement::NotThere, Settlement::GivenUp] {
                    deliver(Event::Settled { step, how });
                }
            } else {
                deliver(Event::Refused { step });
            }
        }
        all.extend(alive.into_iter().filter(|s| *s != IMMORTAL).map(Action::Die));
        if self.budget.restores > 0 {
            all.push(if self.backup.is_none() { Action::BackUp } else { Action::Restore });
        }
        all
    }

    /// Lets one thing happen. `None`: it was refused, or is beyond the budget
    /// (its laws were checked all the same).
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
        let expected = self.ghost.should_be_accepted(&self.run, event);
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
        let mut world = Self { run, ..self.clone() };
        world.ghost.remember(event, &effects)?;
        world.ghost.is_true_of(&world.run)?;
        if world.run == self.run && effects.is_empty() {
            // Accepted, and nothing follows: told twice, sent once more, edited
            // while somebody is asked anyway. It costs nothing.
            return Ok(Some(Moved { world: self.clone(), effects: Some(effects) }));
        }
        if !world.budget.spend(event) {
            return Ok(None);
        }
        world.remember(event, &effects);
        Ok(Some(Moved { world, effects: Some(effects) }))
    }

    /// Whether an event is what happens if people answer, nobody interferes and
    /// nothing fails.
    pub(crate) fn moves_on(&self, event: &Event) -> bool {
        matches!(
            event,
            Event::Claim { lease: Lease { session: IMMORTAL, .. }, .. }
                | Event::Succeeded { .. }
                | Event::Due { .. }
                | Event::Funded { .. }
                | Event::Intent { .. }
                | Event::Approved { .. }
                | Event::Settled { how: Settlement::Published, .. }
        ) && self.ghost.should_be_accepted(&self.run, event)
    }

    /// Whether an event is its turn.
    pub(crate) fn should_be_accepted(&self, event: &Event) -> bool {
        self.ghost.should_be_accepted(&self.run, event)
    }

    fn refusal_is_true(&self, event: &Event, refusal: Refusal) -> Result<(), String> {
        let found = event.step().and_then(|step| self.run.step(step));
        let told = match refusal {
            Refusal::NoSuchStep => found.is_none(),
            Refusal::Stale { state, epoch } => found.is_some_and(|s| s.state == state && s.epoch == epoch),
            Refusal::NotDead(state) => found.is_some_and(|s| s.state == state),
            Refusal::MayBeOut(state) => found.is_some_and(|s| s.state == state && s.intent),
            Refusal::NotWaiting(state) => found.is_some_and(|s| s.state == state),
            Refusal::AlreadyOver => {
                let after_a_cancel = matches!(event, Event::Cancel | Event::Repeated { .. });
                laws::all_final(&self.run) || (after_a_cancel && self.run.cancelled)
            }
        };
        if told { Ok(()) } else { Err(format!("{event:?} was refused with a wrong reason: {refusal:?}")) }
    }

    /// What was issued, and can come back at any time from now on.
    fn remember(&mut self, event: &Event, effects: &[Effect]) {
        if let Event::Claim { step, epoch, lease } = *event {
            self.tokens.insert((step, epoch + 1, lease.nonce.0));
        }
        for effect in effects {
            match *effect {
                Effect::Enqueue { step, epoch, .. } => self.tickets.insert((step, epoch)),
                Effect::Wait { step, epoch, .. } => self.timers.insert((step, epoch)),
                Effect::WaitForMoney { step, epoch, .. } => self.unfunded.insert((step, epoch)),
                _ => false,
            };
        }
    }
}
