//! Steps that wait for a person or send a post: every reachable state of small
//! workflows, under every event at any moment, against laws stated here once
//! more from the protocol.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use galley_core::decide::{Effect, Event, Facts, Refusal, Settlement, Token, decide};
use galley_core::definition::Definition;
use galley_core::ids::{Epoch, Nonce, SessionId, StepIndex};
use galley_core::plan::Plan;
use galley_core::report::Failure;
use galley_core::retry::RetryPolicy;
use galley_core::run::{Lease, Run, StepState, WorkflowState};
use serde_json::{Value, json};

/// Steps run at most so often; more adds states and no new kind of state.
const MOST_EPOCH: Epoch = 9;

fn plan(steps: Value) -> Plan {
    let definition: Definition = serde_json::from_value(json!({ "name": "posts", "steps": steps })).unwrap();
    let retry = RetryPolicy { max_attempts: 2, max_crashes: 2, ..RetryPolicy::default() };
    Plan::compile(definition, |_| Some(retry.clone())).unwrap()
}

/// The run, and what the shell keeps beside it: one timer per step.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct World {
    run: Run,
    timers: Vec<(StepIndex, Epoch)>,
}

fn step_of(effect: &Effect) -> Option<StepIndex> {
    match effect {
        Effect::Enqueue { step, .. }
        | Effect::Wait { step, .. }
        | Effect::StopWaiting { step }
        | Effect::Died { step, .. }
        | Effect::LetterClosed { step, .. }
        | Effect::Interrupt { step } => Some(*step),
        Effect::Finished(_) => None,
    }
}

impl World {
    fn begin(plan: &Plan) -> Self {
        let world = Self { run: Run::new(plan, 5), timers: Vec::new() };
        world.happen(plan, &Event::Accepted).unwrap().expect("it starts")
    }

    /// What becomes of it; inner error: the event was refused.
    fn happen(&self, plan: &Plan, event: &Event) -> Result<Result<Self, Refusal>, String> {
        let mut run = self.run.clone();
        let brief = json!({ "accounts": ["a", "b"] });
        let facts = Facts { seq: 1, jitter: 0.0, rest_ms: 10, brief: &brief, result: &|_| Some(Value::Null) };
        let effects = match decide(plan, &mut run, event.clone(), &facts) {
            Ok(effects) => effects,
            Err(refusal) => {
                return if run == self.run { Ok(Err(refusal)) } else { Err("refused, and changed".into()) };
            }
        };
        for step in &mut run.steps {
            step.changed = 0;
        }
        let mut timers = self.timers.clone();
        for effect in &effects {
            match effect {
                Effect::Wait { step, epoch, .. } => {
                    timers.retain(|(of, _)| of != step);
                    timers.push((*step, *epoch));
                }
                Effect::StopWaiting { step } => timers.retain(|(of, _)| of != step),
                _ => {}
            }
            if let Some(step) = step_of(effect) {
                run.step(step).ok_or("an effect of no step")?;
            }
        }
        timers.sort_unstable();
        let after = Self { run, timers };
        after.check(plan)?;
        self.compare(event, &after, &effects)?;
        Ok(Ok(after))
    }

    /// What every state keeps.
    fn check(&self, plan: &Plan) -> Result<(), String> {
        self.run.check().map_err(|error| error.to_string())?;
        let again = Run::decode(&self.run.encode()).map_err(|error| error.to_string())?;
        if again != self.run {
            return Err("a stored run reads back as another".into());
        }
        for (index, step) in self.run.steps.iter().enumerate() {
            let index = index as StepIndex;
            let timers: Vec<_> = self.timers.iter().filter(|(of, _)| *of == index).collect();
            let waits = matches!(step.state, StepState::Scheduled | StepState::Unknown);
            match timers[..] {
                [] if !waits => {}
                [(_, epoch)] if waits && *epoch == step.epoch => {}
                _ => return Err(format!("step {index} is {:?} with timers {timers:?}", step.state)),
            }
            if self.run.cancelled && !step.state.is_final() && !step.intent {
                return Err(format!("step {index} is {:?} in a cancelled run", step.state));
            }
            if step.state.is_final() && (step.intent || step.go || step.lease.is_some()) {
                return Err(format!("final step {index} keeps something"));
            }
        }
        let state = self.run.state(plan);
        let all_final = self.run.steps.iter().all(|step| step.state.is_final());
        if state.is_final() != all_final {
            return Err(format!("{state:?}, and all final is {all_final}"));
        }
        Ok(())
    }

    /// What every change keeps.
    fn compare(&self, event: &Event, after: &Self, effects: &[Effect]) -> Result<(), String> {
        for (index, (was, now)) in self.run.steps.iter().zip(&after.run.steps).enumerate() {
            let mine = event.step() == Some(index as StepIndex);
            if was.state.is_final() && was != now {
                return Err(format!("final step {index} changed by {event:?}"));
            }
            if now.epoch < was.epoch {
                return Err(format!("the epoch of step {index} went back by {event:?}"));
            }
            let requeued = now.state == StepState::Queued && was.state != StepState::Queued;
            if (requeued || now.state == StepState::WaitingApproval)
                && was.state != now.state
                && now.epoch == was.epoch
            {
                return Err(format!("step {index} keeps its epoch through {event:?}"));
            }
            let definite =
                matches!(event, Event::Succeeded { .. } | Event::Failed { .. } | Event::Settled { .. });
            if was.intent && !now.intent && !(mine && definite) {
                return Err(format!("the intent of step {index} is closed by {event:?}"));
            }
            if !was.intent && now.intent && !(mine && matches!(event, Event::Intent { .. })) {
                return Err(format!("an intent of step {index} comes from {event:?}"));
            }
            if was.intent
                && matches!(now.state, StepState::Cancelled | StepState::Skipped | StepState::Dead)
                && !definite
            {
                return Err(format!("step {index} may be out and is {:?} by {event:?}", now.state));
            }
            if was.state == StepState::WaitingApproval
                && matches!(now.state, StepState::Queued | StepState::Scheduled | StepState::Running)
                && !matches!(event, Event::Approved { .. })
            {
                return Err(format!("step {index} goes on without a yes, by {event:?}"));
            }
            if mine
                && matches!(event, Event::Held { .. } | Event::Postponed { .. })
                && now.attempts >= was.attempts
            {
                return Err(format!("{event:?} counts as an attempt of step {index}"));
            }
            let told = effects.iter().any(|effect| {
                matches!(effect, Effect::Enqueue { step, epoch, .. }
                if usize::from(*step) == index && *epoch == now.epoch)
            });
            if requeued && !told {
                return Err(format!("step {index} is queued without a ticket by {event:?}"));
            }
        }
        Ok(())
    }

    /// Everything that can happen now, late and mistaken reports included.
    fn events(&self) -> Vec<Event> {
        let mut events = vec![Event::Accepted, Event::Cancel];
        for index in 0..self.run.steps.len() as StepIndex {
            let found = &self.run.steps[usize::from(index)];
            let step = index;
            let nonce = Nonce(u64::from(step) + 1);
            let session = SessionId(1);
            for epoch in [found.epoch, found.epoch.saturating_sub(1)] {
                let token = Token { step, epoch, nonce };
                if epoch < MOST_EPOCH {
                    events.push(Event::Claim { step, epoch, lease: Lease { nonce, session } });
                }
                events.extend([
                    Event::Succeeded { token },
                    Event::Failed { token, failure: Failure::Transient },
                    Event::Failed { token, failure: Failure::Permanent },
                    Event::GivenBack { token },
                    Event::Overdue { token },
                    Event::Due { step, epoch },
                    Event::NeedsGo { step, epoch },
                    Event::Held { token },
                    Event::Postponed { token, delay_ms: 5 },
                    Event::Intent { token },
                    Event::Repeated { token },
                    Event::Unsure { token },
                    Event::Doubted { token },
                ]);
            }
            events.extend([
                Event::LeaseLost { step, session },
                Event::Replay { step, edited: false },
                Event::Discard { step },
                Event::Approved { step },
                Event::Withdrawn { step },
                Event::Refused { step },
                Event::Amended { step, hold: false },
                Event::Amended { step, hold: true },
                Event::Settled { step, how: Settlement::Published },
                Event::Settled { step, how: Settlement::NotThere },
                Event::Settled { step, how: Settlement::GivenUp },
            ]);
        }
        events
    }
}

/// Which (state, intent) × event pairs are accepted for the step an event is
/// about.
type Accepted = BTreeSet<(StepState, bool, &'static str)>;

fn word(event: &Event) -> &'static str {
    match event {
        Event::NeedsGo { .. } => "needs go",
        Event::Held { .. } => "held",
        Event::Postponed { .. } => "postponed",
        Event::Approved { .. } => "approved",
        Event::Withdrawn { .. } => "withdrawn",
        Event::Refused { .. } => "refused",
        Event::Amended { .. } => "amended",
        Event::Intent { .. } => "intent",
        Event::Repeated { .. } => "repeated",
        Event::Unsure { .. } => "unsure",
        Event::Doubted { .. } => "doubted",
        Event::Settled { .. } => "settled",
        _ => "",
    }
}

fn explore(plan: &Plan, least: usize) -> Accepted {
    let begin = World::begin(plan);
    let mut seen: HashMap<World, Vec<World>> = HashMap::new();
    let mut open = VecDeque::from([begin]);
    let mut accepted = Accepted::new();
    while let Some(world) = open.pop_front() {
        if seen.contains_key(&world) {
            continue;
        }
        let mut next = Vec::new();
        for event in world.events() {
            match world.happen(plan, &event) {
                Ok(Ok(after)) => {
                    if let Some(step) = event.step().and_then(|step| world.run.step(step))
                        && !word(&event).is_empty()
                    {
                        accepted.insert((step.state, step.intent, word(&event)));
                    }
                    if after.run.steps.iter().all(|step| step.epoch <= MOST_EPOCH) && after != world {
                        next.push(after.clone());
                        open.push_back(after);
                    }
                }
                Ok(Err(_)) => {}
                Err(law) => panic!("{law}\nbefore: {world:#?}"),
            }
        }
        seen.insert(world, next);
    }
    assert!(seen.len() >= least, "only {} states", seen.len());
    every_state_can_end(plan, &seen);
    accepted
}

/// From wherever it stands, people and workers who do their part bring it to
/// an end. (States at the edge of the exploration have no room left.)
fn every_state_can_end(plan: &Plan, seen: &HashMap<World, Vec<World>>) {
    let mut before: HashMap<&World, Vec<&World>> = HashMap::new();
    let mut ends = VecDeque::new();
    for (world, next) in seen {
        let edge = world.run.steps.iter().any(|step| step.epoch + 3 > MOST_EPOCH);
        if world.run.state(plan).is_final() || edge {
            ends.push_back(world);
        }
        for after in next {
            before.entry(after).or_default().push(world);
        }
    }
    let mut reach: HashSet<&World> = HashSet::new();
    while let Some(world) = ends.pop_front() {
        if reach.insert(world) {
            ends.extend(before.get(world).into_iter().flatten());
        }
    }
    if let Some(stuck) = seen.keys().find(|world| !reach.contains(world)) {
        panic!("nothing leads from here to an end: {stuck:#?}");
    }
}

/// The whole table of what is accepted where; everything else is refused.
#[test]
fn a_post_meets_everything_at_any_moment() {
    use StepState::{Blocked, Dead, InDoubt, Queued, Running, Scheduled, Unknown, WaitingApproval};
    let accepted = explore(&plan(json!([{ "name": "publish", "agent": "publisher" }])), 100);
    let expected = Accepted::from([
        (Queued, false, "needs go"),
        (Queued, false, "withdrawn"),
        (Queued, false, "amended"),
        (Running, false, "held"),
        (Running, false, "postponed"),
        (Running, false, "intent"),
        (Running, false, "withdrawn"),
        (Running, false, "amended"),
        (Running, true, "repeated"),
        (Running, true, "unsure"),
        (Running, true, "doubted"),
        (Scheduled, false, "withdrawn"),
        (Scheduled, false, "amended"),
        (WaitingApproval, false, "approved"),
        (WaitingApproval, false, "refused"),
        (WaitingApproval, false, "withdrawn"),
        (WaitingApproval, false, "amended"),
        (Dead, false, "withdrawn"),
        (Dead, false, "amended"),
        (InDoubt, true, "settled"),
    ]);
    assert_eq!(accepted, expected);
    for state in [Blocked, Unknown] {
        assert!(accepted.iter().all(|(of, ..)| *of != state));
    }
}

#[test]
fn a_post_between_other_steps() {
    explore(
        &plan(json!([
            { "name": "write", "agent": "writer", "retry": { "maxAttempts": 1, "maxCrashes": 1 } },
            { "name": "publish", "agent": "publisher" },
        ])),
        1_000,
    );
}

#[test]
fn a_waiting_workflow_waits_for_a_person_a_slot_or_the_truth() {
    let plan = plan(json!([
        { "name": "publish", "agent": "publisher", "forEach": { "path": "/accounts", "max": 2 } },
    ]));
    let mut world = World::begin(&plan);
    let mut happen = |event| world = world.happen(&plan, &event).unwrap().unwrap();
    let lease = Lease { nonce: Nonce(7), session: SessionId(1) };
    let token = |step, epoch| Token { step, epoch, nonce: Nonce(7) };
    // One child waits for a person, the other for its slot.
    happen(Event::Claim { step: 1, epoch: 1, lease });
    happen(Event::Held { token: token(1, 2) });
    happen(Event::Claim { step: 2, epoch: 1, lease });
    happen(Event::Postponed { token: token(2, 2), delay_ms: 9 });
    assert_eq!(world.run.state(&plan), WorkflowState::Waiting);
    // A cancel leaves nothing but a post that may be out.
    let mut happen = |event| world = world.happen(&plan, &event).unwrap().unwrap();
    happen(Event::Due { step: 2, epoch: 3 });
    happen(Event::Claim { step: 2, epoch: 4, lease });
    happen(Event::Intent { token: token(2, 5) });
    happen(Event::Cancel);
    happen(Event::LeaseLost { step: 2, session: SessionId(1) });
    assert_eq!(world.run.step(1).unwrap().state, StepState::Cancelled);
    assert_eq!(world.run.step(2).unwrap().state, StepState::Unknown);
    assert_eq!(world.run.state(&plan), WorkflowState::Running);
    let mut happen = |event| world = world.happen(&plan, &event).unwrap().unwrap();
    happen(Event::Due { step: 2, epoch: 6 });
    happen(Event::Claim { step: 2, epoch: 7, lease });
    happen(Event::Doubted { token: token(2, 8) });
    assert_eq!(world.run.state(&plan), WorkflowState::Waiting);
    let mut happen = |event| world = world.happen(&plan, &event).unwrap().unwrap();
    happen(Event::Settled { step: 2, how: Settlement::NotThere });
    assert_eq!(world.run.step(2).unwrap().state, StepState::Cancelled);
    assert_eq!(world.run.state(&plan), WorkflowState::Cancelled);
}

#[test]
fn only_marked_runs_are_stored_in_the_marked_format() {
    let plan = plan(json!([{ "name": "publish", "agent": "publisher" }]));
    let mut world = World::begin(&plan);
    assert_eq!(world.run.encode()[0], 1, "a worker one release older reads it");
    let lease = Lease { nonce: Nonce(7), session: SessionId(1) };
    world = world.happen(&plan, &Event::Claim { step: 0, epoch: 1, lease }).unwrap().unwrap();
    assert_eq!(world.run.encode()[0], 1);
    let token = Token { step: 0, epoch: 2, nonce: Nonce(7) };
    world = world.happen(&plan, &Event::Intent { token }).unwrap().unwrap();
    let bytes = world.run.encode();
    assert_eq!(bytes[0], 2);
    for end in 0..bytes.len() {
        assert!(Run::decode(&bytes[..end]).is_err(), "{end} bytes of {}", bytes.len());
    }
}
