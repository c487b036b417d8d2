//! Claiming: tickets become leases, and leases come with all an attempt needs.
//!
//! Claims are durable before anything starts. A claim whose COMMIT got no reply
//! is repeated with the same nonces and finds itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use galley_core::decide::{Event, Refusal, Token};
use galley_core::hash::effect_key;
use galley_core::ids::{AgentType, Nonce, SessionId, StepIndex, WorkflowKey};
use galley_core::input::{child_item, needed_outputs, needed_results, step_input};
use galley_core::message::Inbox;
use galley_core::plan::Plan;
use galley_core::report::StepError;
use galley_core::run::{Lease, Run, StepState};
use galley_core::ticket::Ticket;
use galley_probe::{Point, Rescue, point, seen};
use galley_store::StoreError;
use serde_json::Value;

use crate::backoff::Backoff;
use crate::complete::{Outcome, Report};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::session::Session;
use crate::transition::{Applied, Command, Record, Verdict};

/// A lease on a step, and what its attempt needs.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The ticket it came from.
    pub ticket: Ticket,
    /// The agent type.
    pub agent: AgentType,
    /// What every report about this attempt must carry.
    pub token: Token,
    /// The session that holds it.
    pub session: SessionId,
    /// The step's name.
    pub step_name: String,
    /// Which attempt this is, from 1.
    pub attempt: u16,
    /// Longest run of the attempt.
    pub timeout: Duration,
    /// The same for every attempt of this step.
    pub effect_key: String,
    /// The step's input.
    pub input: Arc<Value>,
    /// What the workflow's other steps said to it, and what they remember.
    pub inbox: Arc<Inbox>,
    /// The trace the workflow was submitted with.
    pub traceparent: Option<Arc<str>>,
}

impl Claimed {
    /// The workflow.
    pub fn key(&self) -> WorkflowKey {
        self.ticket.key()
    }
}

/// How much longer than an attempt may take its ticket counts as in flight.
const FLIGHT_SLACK: Duration = Duration::from_secs(30);

impl Engine {
    /// Claims tickets for a session. Tickets that no longer match a queued step
    /// are forgotten. Repeats until Postgres answers or the session is lost;
    /// then there are no claims, and whatever was committed unknown to us the
    /// reaper returns.
    ///
    /// # Errors
    /// Only what repeating cannot cure.
    pub async fn claim(
        &self,
        session: &Session,
        tickets: Vec<(AgentType, Ticket)>,
    ) -> Result<Vec<Claimed>, EngineError> {
        let tickets = self.refuse_paused(tickets).await;
        let tickets = match self.hold_for_go(tickets).await {
            Ok(tickets) => tickets,
            Err(error) if error.is_transient() => {
                tracing::debug!(%error, "could not look at the policy; tickets return by themselves");
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        if tickets.is_empty() {
            return Ok(Vec::new());
        }
        let commands: Vec<Command> =
            tickets.iter().map(|(_, ticket)| claim_command(session.id(), ticket)).collect();
        let Some(applied) = patiently(session, || self.apply(&commands)).await? else {
            return Ok(Vec::new());
        };
        point(Point::ClaimCommitted);
        let mut mine = Vec::with_capacity(commands.len());
        let (mut forgotten, mut elsewhere) = (Vec::new(), Vec::new());
        for (index, verdict) in applied.verdicts.iter().enumerate() {
            match verdict {
                Verdict::Done => mine.push(index),
                Verdict::Refused(Refusal::Stale { state: StepState::Running, epoch })
                    if *epoch == tickets[index].1.epoch + 1 =>
                {
                    elsewhere.push(tickets[index].clone());
                }
                Verdict::Refused(_) | Verdict::Gone => forgotten.push(tickets[index].clone()),
                Verdict::Unstorable(why) => {
                    return Err(EngineError::Internal(format!("a claim cannot be stored: {why}")));
                }
                // A claim says nothing about posts.
                Verdict::Overtaken(what) => return Err(EngineError::Internal(what.to_string())),
            }
        }
        metrics::histogram!("galley_claim_batch_size").record(mine.len() as f64);
        if !forgotten.is_empty() {
            seen(Rescue::StaleClaim);
            metrics::counter!("galley_tickets_forgotten_total").increment(forgotten.len() as u64);
            if let Err(error) = self.queue().settle(&forgotten, &[]).await {
                tracing::debug!(%error, "could not forget stale tickets; they expire");
            }
        }
        if !elsewhere.is_empty()
            && let Err(error) = self.leave_in_flight(&elsewhere, &applied).await
        {
            tracing::debug!(%error, "could not mark steps that run elsewhere; limits may count them too early");
        }
        let Some(inputs) = patiently(session, || self.inputs_of(&commands, &mine, &applied)).await? else {
            return Ok(Vec::new());
        };
        let mut claimed = Vec::with_capacity(mine.len());
        let mut unreadable = Vec::new();
        for (index, material) in mine.into_iter().zip(inputs) {
            let (agent, ticket) = &tickets[index];
            let (Event::Claim { lease, .. }, Some((plan, known))) =
                (&commands[index].event, applied.runs.get(&ticket.key()))
            else {
                continue;
            };
            let StepMaterial { input, traceparent, inbox } = material;
            let why = input.as_ref().err().or(inbox.as_ref().err()).cloned();
            let input = input.unwrap_or_default();
            let claim = Claimed {
                inbox: inbox.unwrap_or_default(),
                ..describe(agent, *ticket, *lease, plan, &known.run, input, traceparent)
            };
            match why {
                None => claimed.push(claim),
                Some(why) => unreadable.push(Report::of(
                    &claim,
                    0,
                    Outcome::Failed(StepError::permanent("sealed_content", why)),
                )),
            }
        }
        if !unreadable.is_empty() {
            // Nothing can be made of it: whoever repairs it finds a dead letter.
            // Where Postgres is away the step is overdue some time, and comes
            // back here.
            if let Err(error) = self.complete(&unreadable).await {
                tracing::warn!(%error, "steps whose content cannot be opened wait to be given back");
            }
        }
        point(Point::ClaimReady);
        // A process that was stopped meanwhile notices here, before anything
        // starts or counts as in flight: the reaper returns the steps.
        if !session.is_live() {
            return Ok(Vec::new());
        }
        let late = self.keep_in_flight(&claimed).await;
        if !late.is_empty() {
            claimed = self.give_back_late(session, claimed, &late).await?;
        }
        point(Point::ClaimInFlight);
        Ok(claimed)
    }

    /// A claim may take longer than its ticket stays in flight; the place under
    /// a limit is somebody else's then. Such a step does not start: it goes
    /// back to its queue, and the attempt does not count.
    async fn give_back_late(
        &self,
        session: &Session,
        claimed: Vec<Claimed>,
        late: &[Ticket],
    ) -> Result<Vec<Claimed>, EngineError> {
        let Ok(reading) = self.fleet().reading().await else { return Ok(claimed) };
        let (late, claimed): (Vec<_>, Vec<_>) = claimed
            .into_iter()
            .partition(|claim| late.contains(&claim.ticket) && !reading.is_free(&claim.agent));
        if late.is_empty() {
            return Ok(claimed);
        }
        seen(Rescue::LateClaim);
        let back = |claim: &Claimed| Command {
            key: claim.key(),
            event: Event::GivenBack { token: claim.token },
            record: Record::Nothing,
        };
        let commands: Vec<Command> = late.iter().map(back).collect();
        let Some(applied) = patiently(session, || self.apply(&commands)).await? else {
            return Ok(Vec::new());
        };
        let done: Vec<_> = late.into_iter().map(|claim| (claim.agent, claim.ticket)).collect();
        self.push(&done, &applied).await;
        Ok(claimed)
    }

    /// What an operator paused does not start, even when Redis forgot so.
    async fn refuse_paused(&self, tickets: Vec<(AgentType, Ticket)>) -> Vec<(AgentType, Ticket)> {
        let Ok(reading) = self.fleet().reading().await else { return tickets };
        let (paused, tickets): (Vec<_>, Vec<_>) =
            tickets.into_iter().partition(|(agent, _)| reading.is_paused(agent));
        let mut by_agent: HashMap<AgentType, Vec<Ticket>> = HashMap::new();
        for (agent, ticket) in paused {
            by_agent.entry(agent).or_default().push(ticket);
        }
        for (agent, tickets) in by_agent {
            seen(Rescue::PausedTicket);
            if let Err(error) = self.queue().give_back(&agent, &tickets).await {
                tracing::debug!(%error, "could not give tickets of a paused agent back; they expire");
            }
        }
        tickets
    }

    async fn inputs_of(
        &self,
        commands: &[Command],
        mine: &[usize],
        applied: &Applied,
    ) -> Result<Vec<StepMaterial>, StoreError> {
        let mut keys: Vec<WorkflowKey> = mine.iter().map(|index| commands[*index].key).collect();
        keys.sort_unstable();
        keys.dedup();
        let briefs: HashMap<_, _> = self.known_inputs(&keys).await?.into_iter().collect();
        let mut wanted: Vec<(WorkflowKey, StepIndex)> = Vec::new();
        for &index in mine {
            let key = commands[index].key;
            if let Some((plan, known)) = applied.runs.get(&key) {
                let step = claimed_step(&commands[index]);
                wanted.extend(needed_outputs(plan, &known.run, step).into_iter().map(|need| (key, need)));
                wanted.extend(item_source(plan, &known.run, step).into_iter().map(|need| (key, need)));
            }
        }
        wanted.sort_unstable();
        wanted.dedup();
        let outputs: HashMap<_, _> = self.known_outputs(&wanted).await?.into_iter().collect();
        let talked =
            keys.iter().filter(|key| applied.runs.get(key).is_some_and(|(_, known)| known.run.said > 0));
        let said = self.said(&talked.copied().collect::<Vec<_>>()).await?;
        let mut materials = Vec::with_capacity(mine.len());
        for &index in mine {
            let key = commands[index].key;
            let step = claimed_step(&commands[index]);
            let Some((plan, known)) = applied.runs.get(&key) else {
                materials.push(StepMaterial::nothing());
                continue;
            };
            let (brief, traceparent) = match briefs.get(&key) {
                None => (Ok(Value::Null), None),
                Some(Ok(known)) => (Ok(parse(&known.json)), known.traceparent.as_deref()),
                Some(Err(why)) => (Err(why.clone()), None),
            };
            let edited = match known.run.step(step).and_then(|step| step.edited) {
                Some(epoch) => self.edited_input(key, step, epoch).await?,
                None => None,
            };
            let input = match edited {
                Some(json) => json.map(|json| parse(&json)),
                None => {
                    let needs = needed_outputs(plan, &known.run, step);
                    let needs = needs.into_iter().chain(item_source(plan, &known.run, step));
                    let closed = needs
                        .filter_map(|need| outputs.get(&(key, need)))
                        .find_map(|json| json.as_ref().err());
                    let output = |need| Some(parse(outputs.get(&(key, need))?.as_ref().ok()?));
                    match closed {
                        Some(why) => Err(why.clone()),
                        None => brief.map(|brief| assemble(plan, &known.run, step, brief, &output)),
                    }
                }
            };
            let inbox = match said.get(&key) {
                None => Ok(Arc::default()),
                Some(said) => said.inbox(plan, known, step),
            };
            materials.push(StepMaterial { input, traceparent: traceparent.map(Arc::from), inbox });
        }
        Ok(materials)
    }

    /// Tickets that were popped twice (a deadline passed, Redis was emptied) and
    /// whose first claim is in force: to forget them would free a place under a
    /// limit that is taken.
    async fn leave_in_flight(
        &self,
        elsewhere: &[(AgentType, Ticket)],
        applied: &Applied,
    ) -> Result<(), EngineError> {
        seen(Rescue::ClaimedElsewhere);
        let timeout = |ticket: &Ticket| {
            let (plan, known) = applied.runs.get(&ticket.key())?;
            let step = known.run.step(ticket.step)?;
            Some(Duration::from_millis(plan.steps[usize::from(step.plan)].retry.timeout_ms))
        };
        let longest = elsewhere.iter().filter_map(|(_, ticket)| timeout(ticket)).max().unwrap_or_default();
        self.queue().claimed(elsewhere, longest + FLIGHT_SLACK).await?;
        // Looked at again afterwards: one that ended in between was forgotten
        // before it was marked, and nobody would forget it a second time.
        let keys: Vec<WorkflowKey> = elsewhere.iter().map(|(_, ticket)| ticket.key()).collect();
        let rows = self.store().load_runs(&keys).await?;
        let runs: HashMap<_, _> =
            rows.iter().filter_map(|row| Some((row.key, Run::decode(&row.run).ok()?))).collect();
        let runs_still = |ticket: &Ticket| {
            let step = runs.get(&ticket.key()).and_then(|run| run.step(ticket.step));
            step.is_some_and(|step| step.state == StepState::Running && step.epoch == ticket.epoch + 1)
        };
        let over: Vec<_> = elsewhere.iter().filter(|(_, ticket)| !runs_still(ticket)).cloned().collect();
        if !over.is_empty() {
            self.queue().settle(&over, &[]).await?;
        }
        Ok(())
    }

    /// Answers with the tickets that were not in flight any more.
    async fn keep_in_flight(&self, claimed: &[Claimed]) -> Vec<Ticket> {
        let Some(longest) = claimed.iter().map(|claim| claim.timeout).max() else { return Vec::new() };
        let tickets: Vec<_> = claimed.iter().map(|claim| (claim.agent.clone(), claim.ticket)).collect();
        self.queue().claimed(&tickets, longest + FLIGHT_SLACK).await.unwrap_or_else(|error| {
            tracing::debug!(%error, "could not mark claims in flight; limits may count them too early");
            Vec::new()
        })
    }
}

/// What goes with a claim besides the lease.
struct StepMaterial {
    /// Its input, or what of it cannot be opened.
    input: Result<Value, String>,
    traceparent: Option<Arc<str>>,
    /// What it is told, or what of it cannot be opened.
    inbox: Result<Arc<Inbox>, String>,
}

impl StepMaterial {
    fn nothing() -> Self {
        Self { input: Ok(Value::Null), traceparent: None, inbox: Ok(Arc::default()) }
    }
}

/// Repeats a unit until Postgres answers or the session is lost (`None`).
async fn patiently<T, Fut>(session: &Session, unit: impl Fn() -> Fut) -> Result<Option<T>, EngineError>
where
    Fut: Future<Output = Result<T, StoreError>>,
{
    let mut backoff = Backoff::quick();
    loop {
        match unit().await {
            Ok(done) => return Ok(Some(done)),
            Err(error) if error.is_transient() => {
                if !session.is_live() {
                    return Ok(None);
                }
                tracing::debug!(%error, "claiming waits for Postgres");
                backoff.wait().await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn claim_command(session: SessionId, ticket: &Ticket) -> Command {
    let lease = Lease { nonce: Nonce(rand::random()), session };
    Command {
        key: ticket.key(),
        event: Event::Claim { step: ticket.step, epoch: ticket.epoch, lease },
        record: Record::Nothing,
    }
}

fn claimed_step(command: &Command) -> StepIndex {
    match command.event {
        Event::Claim { step, .. } => step,
        _ => 0,
    }
}

/// The step whose output holds the element an expanded child works on.
fn item_source(plan: &Plan, run: &Run, step: StepIndex) -> Vec<StepIndex> {
    let Some(child) = run.step(step).filter(|step| step.item.is_some()) else { return Vec::new() };
    let Some(source) = plan.steps[usize::from(child.plan)].for_each.as_ref().and_then(|f| f.source) else {
        return Vec::new();
    };
    let children: Vec<_> = run.children(source).collect();
    if children.is_empty() { vec![source] } else { children }
}

/// The input of a step, put together from what is immutable.
pub(crate) fn assemble(
    plan: &Plan,
    run: &Run,
    step: StepIndex,
    brief: Value,
    output: &dyn Fn(StepIndex) -> Option<Value>,
) -> Value {
    let results = needed_results(plan, run, step, output);
    let item = child_item(plan, run, step, &brief, output);
    let params = run
        .step(step)
        .and_then(|step| plan.definition.steps.get(usize::from(step.plan)))
        .map_or(Value::Null, |step| step.input.clone());
    step_input(brief, params, results, item)
}

pub(crate) fn parse(json: &str) -> Value {
    // It was JSON when it was stored; Postgres checked.
    serde_json::from_str(json).unwrap_or(Value::Null)
}

fn describe(
    agent: &AgentType,
    ticket: Ticket,
    lease: Lease,
    plan: &Plan,
    run: &Run,
    input: Value,
    traceparent: Option<Arc<str>>,
) -> Claimed {
    let step = &run.steps[usize::from(ticket.step)];
    let step_name = run.step_name(plan, ticket.step);
    Claimed {
        agent: agent.clone(),
        token: Token { step: ticket.step, epoch: step.epoch, nonce: lease.nonce },
        session: lease.session,
        attempt: step.attempts,
        timeout: Duration::from_millis(plan.steps[usize::from(step.plan)].retry.timeout_ms),
        effect_key: effect_key(ticket.key(), &step_name, ""),
        step_name,
        input: Arc::new(input),
        inbox: Arc::default(),
        traceparent,
        ticket,
    }
}
