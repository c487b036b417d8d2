//! One sequence: done for real and in the model, compared after every call, and
//! in the end brought to rest and given to the checker.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use galley_chaos::agents::{heard, told};
use galley_chaos::check::check;
use galley_chaos::history::{Ask, Call, History, Op as Entry, Repair as Repaired, Reply, Told};
use galley_core::ids::{AgentType, SessionId, WorkflowId, WorkflowKey, WorkspaceId};
use galley_core::report::{StepError, StepOutput};
use galley_core::run::Run;
use galley_core::ticket::Ticket;
use galley_engine::queue::{DispatchQueue, Unbuilt};
use galley_engine::store::{SessionOpen, Store};
use galley_engine::{
    Claimed, Engine, EngineConfig, EngineError, Outcome, Reaper, Reconciler, Recorded, Repair, Report,
    Session, Submit, SubmitContext, forget_lost, queue_due_steps, rebuild,
};
use serde_json::{Value, json};

use crate::model::{End, Model, SHAPES, State};
use crate::ops::{Fix, How, Op, Pick};
use crate::queue::Forgetful;
use crate::score::{Score, Seen};
use crate::servers::{AGENTS, Servers};
use crate::shrink::Failure;

/// Processes that share the database and the queue.
const ENGINES: usize = 2;

/// Workers at once.
const WORKERS: usize = 3;

/// How many tickets and attempts are remembered to be used again, long after
/// they were overtaken.
const REMEMBERED: usize = 48;

/// So long that no time of a queue or a session passes by itself.
const LONG: Duration = Duration::from_secs(3_600);

/// Whether it is as the model says; else how it is not.
type Held = Result<(), String>;

macro_rules! ensure {
    ($holds:expr, $($why:tt)+) => {
        if !$holds {
            return Err(format!($($why)+));
        }
    };
}

struct Case<'a> {
    servers: &'a Servers,
    queue: Arc<Forgetful>,
    engines: Vec<Engine>,
    reapers: Vec<Reaper>,
    workspace: WorkspaceId,
    workers: Vec<Session>,
    closed: HashSet<i64>,
    model: Model,
    keys: Vec<WorkflowKey>,
    /// The shape of each.
    shapes: Vec<usize>,
    /// Which workflow of the model an id is.
    places: HashMap<WorkflowId, usize>,
    /// Tickets that were popped, each with whether its time is over at once.
    popped: Vec<(AgentType, Ticket, bool)>,
    /// Tickets that nobody else may pop now.
    flying: HashSet<(WorkflowId, u16, u32)>,
    /// What each attempt of the model was claimed as.
    claims: Vec<Claimed>,
    history: History,
    began: Instant,
    /// What happened, by a name.
    seen: Seen,
}

/// Runs a sequence; counts what was compared.
pub(crate) async fn run(servers: &Servers, ops: &[Op], score: &Score) -> Result<(), Failure> {
    let mut case = Case::new(servers).await;
    let done = case.run_all(ops, score).await;
    for engine in &case.engines {
        engine.store().close().await;
    }
    done
}

/// What a report was, by a name.
fn report_mark(held: bool, counts: bool, how: How) -> &'static str {
    match (held, counts, how) {
        (false, false, _) => "overtaken reports refused",
        (false, true, _) => "repeated reports recognised",
        (true, _, How::Well) => "successes",
        (true, _, How::Badly) => "transient failures",
        (true, _, How::Throttled) => "throttled",
        (true, _, How::ForGood) => "permanent failures",
        (true, _, How::Unstarted) => "given back",
    }
}

fn new_engine(servers: &Servers, queue: &Arc<Forgetful>) -> Engine {
    let store = Store::connect(&servers.database_url, 2).unwrap();
    let config = EngineConfig {
        session_ttl: LONG,
        renew_every: LONG / 4,
        claim_deadline: LONG,
        policy_memory: LONG,
        ..EngineConfig::default()
    };
    Engine::new(store, Arc::clone(queue) as Arc<dyn DispatchQueue>, config)
}

fn agent(step: usize) -> AgentType {
    AgentType::new(AGENTS[step % AGENTS.len()]).unwrap()
}

fn submit(shape: usize) -> Submit {
    let steps = SHAPES[shape].iter().enumerate().map(|(index, step)| {
        let needs: Vec<_> = step.needs.iter().map(|need| SHAPES[shape][*need].name).collect();
        let retry = json!({ "maxAttempts": step.attempts, "maxCrashes": step.crashes, "backoffMs": 0,
                            "maxBackoffMs": 0 });
        json!({ "name": step.name, "agent": agent(index), "needs": needs, "optional": step.optional,
                "retry": retry })
    });
    let definition = json!({ "name": "machine", "steps": steps.collect::<Vec<_>>() });
    serde_json::from_value(json!({ "definition": definition, "input": {} })).unwrap()
}

impl<'a> Case<'a> {
    async fn new(servers: &'a Servers) -> Self {
        static CASES: AtomicU64 = AtomicU64::new(0);
        let number = CASES.fetch_add(1, Ordering::Relaxed);
        servers.clean().await;
        let prefix = format!("machine_{}_{number}", std::process::id());
        let queue = Arc::new(Forgetful::new(&servers.redis_url, prefix));
        let engines: Vec<_> = (0..ENGINES).map(|_| new_engine(servers, &queue)).collect();
        let workspace = engines[0].create_workspace("machine", 1, "test").await.unwrap().id;
        let began = Instant::now();
        let mut history = History::default();
        history.facts.clock_slack_ms = 2_000;
        history.facts.began_at = engines[0].policy(workspace).await.unwrap().row.now.parse().unwrap();
        let mut case = Self {
            servers,
            queue,
            engines,
            reapers: (0..ENGINES).map(|_| Reaper::default()).collect(),
            workspace,
            workers: Vec::new(),
            closed: HashSet::new(),
            model: Model::default(),
            keys: Vec::new(),
            shapes: Vec::new(),
            places: HashMap::new(),
            popped: Vec::new(),
            flying: HashSet::new(),
            claims: Vec::new(),
            history,
            began,
            seen: Seen::default(),
        };
        for _ in 0..WORKERS {
            let worker = case.hire().await;
            case.workers.push(worker);
        }
        rebuild(&case.engines[0]).await.unwrap();
        case
    }

    async fn hire(&self) -> Session {
        let open = SessionOpen {
            worker: "machine".into(),
            host: "test".into(),
            pid: 0,
            release: "test".into(),
            agents: AGENTS.map(str::to_owned).to_vec(),
            concurrency: 8,
        };
        self.engines[0].open_session(open).await.unwrap()
    }

    async fn run_all(&mut self, ops: &[Op], score: &Score) -> Result<(), Failure> {
        for (index, op) in ops.iter().enumerate() {
            let at = |why| Failure { at: Some(index), why };
            let moved = self.apply(op).await.map_err(at)?;
            score.compared(moved as u64);
            self.compare().await.map_err(at)?;
        }
        score.add(&self.seen);
        let behind = |why| Failure { at: None, why };
        self.come_to_rest().await.map_err(behind)?;
        self.judge().await.map_err(behind)
    }

    /// One call; answers how many things it was about.
    async fn apply(&mut self, op: &Op) -> Result<usize, String> {
        let engine = |pick: &Pick| usize::from(*pick) % ENGINES;
        match op {
            Op::Submit(shapes) => {
                let shapes: Vec<_> = shapes.iter().map(|shape| usize::from(*shape) % SHAPES.len()).collect();
                self.submit(&shapes, shapes.len() % ENGINES).await?;
                return Ok(shapes.len());
            }
            Op::SubmitAgain { which, same } => self.submit_again(*which, *same).await?,
            Op::Pop { engine: pick, max, late } => {
                return self.pop(engine(pick), usize::from(*max), *late).await.map(|popped| popped + 1);
            }
            Op::Claim { engine: pick, worker, tickets } => {
                let current = self.popped.iter().filter(|(_, ticket, _)| self.is_current(ticket)).cloned();
                let mut current: Vec<_> = current.collect();
                let chosen = tickets.iter().filter_map(|ticket| mostly(&mut current, &self.popped, *ticket));
                let chosen: Vec<_> = chosen.map(|(agent, ticket, _)| (agent, ticket)).collect();
                let count = chosen.len();
                self.claim(engine(pick), usize::from(*worker) % WORKERS, chosen).await?;
                return Ok(count);
            }
            Op::Report { engine: pick, attempts } => {
                let all: Vec<usize> = (0..self.claims.len()).collect();
                let mut held: Vec<usize> =
                    all.iter().copied().filter(|attempt| self.model.holds(*attempt)).collect();
                let reports =
                    attempts.iter().filter_map(|(which, how)| Some((mostly(&mut held, &all, *which)?, *how)));
                let reports: Vec<_> = reports.collect();
                let count = reports.len();
                self.report(engine(pick), reports).await?;
                return Ok(count);
            }
            Op::GiveBack(tickets) => {
                for ticket in tickets {
                    if let Some((agent, ticket, _)) = recent(&self.popped, *ticket) {
                        self.give_back(&agent, ticket).await;
                    }
                }
                return Ok(tickets.len().min(self.popped.len()));
            }
            Op::Kill(pick) => self.kill(usize::from(*pick) % WORKERS).await,
            Op::Reap(pick) => self.reap(engine(pick)).await?,
            Op::Due(pick) => {
                let expected = self.model.due();
                self.seen.add("steps due", expected);
                let queued = queue_due_steps(&self.engines[engine(pick)]).await.unwrap();
                ensure!(queued == expected, "{queued} steps were due, the model knows {expected}");
            }
            Op::Cancel { engine: pick, which } => self.cancel(engine(pick), *which).await?,
            Op::Repair { engine: pick, which, how } => self.repair(engine(pick), *which, *how).await?,
            Op::Flush => {
                self.queue.flush();
                self.flying.clear();
            }
            Op::Lose(writes) => self.queue.lose(u32::from(*writes)),
            Op::Expire => self.expire().await,
            Op::Sweep(pick) => {
                let freed = forget_lost(&self.engines[engine(pick)]).await.unwrap();
                self.seen.add("lost places freed", usize::try_from(freed).unwrap_or(0));
            }
            Op::Reconcile(pick) => self.reconcile(engine(pick)).await,
            Op::Rebuild(pick) => {
                let pushed = rebuild(&self.engines[engine(pick)]).await.unwrap();
                self.seen.add("tickets rebuilt", usize::try_from(pushed).unwrap_or(0));
            }
            Op::Restart(pick) => {
                let new = new_engine(self.servers, &self.queue);
                std::mem::replace(&mut self.engines[engine(pick)], new).store().close().await;
            }
        }
        Ok(1)
    }

    /// Whether a ticket could be claimed now.
    fn is_current(&self, ticket: &Ticket) -> bool {
        let run = &self.model.workflows[self.places[&ticket.workflow]].steps[usize::from(ticket.step)];
        run.state == State::Queued && run.epoch == ticket.epoch
    }

    /// An operation's entry in the log, and the actor it is done as.
    fn log(&mut self, ask: Ask) -> String {
        let id = self.history.ops.len() as u64;
        let now = self.ms();
        let (actor, reply) = (format!("op-{id}"), Reply::Done(Told::default()));
        let workspace = self.workspace;
        let entry = Entry {
            id,
            workspace,
            actor: actor.clone(),
            began_ms: now,
            ended_ms: now,
            ask,
            reply,
            canaries: vec![],
        };
        self.history.ops.push(entry);
        actor
    }

    /// The newest entry was refused.
    fn refused(&mut self) {
        if let Some(entry) = self.history.ops.last_mut() {
            entry.reply = Reply::Refused { status: 409, problem: "conflict".into() };
        }
    }

    fn ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    async fn submit(&mut self, shapes: &[usize], engine: usize) -> Held {
        let mut requests = Vec::new();
        for shape in shapes {
            let key = format!("key-{}", self.keys.len() + requests.len());
            let ask = Ask::Submit { key: key.clone(), shape: shape.to_string(), body: *shape as u64 };
            let actor = self.log(ask);
            requests.push((self.context(key, actor), submit(*shape)));
        }
        let engine = &self.engines[engine];
        let submits = requests.iter().map(|(context, submit)| engine.submit(context, submit));
        let submitted = join_all(submits).await;
        let first = self.history.ops.len() - shapes.len();
        for (n, (submitted, shape)) in submitted.into_iter().zip(shapes).enumerate() {
            let submitted = submitted.unwrap();
            ensure!(submitted.new, "a new key is an old workflow");
            self.model.submit(SHAPES[*shape]);
            self.places.insert(submitted.workflow, self.keys.len());
            self.shapes.push(*shape);
            self.keys.push(WorkflowKey { workspace: self.workspace, workflow: submitted.workflow });
            self.told(first + n, submitted.workflow);
        }
        Ok(())
    }

    /// What an operation of the log was told.
    fn told(&mut self, op: usize, workflow: WorkflowId) {
        if let Reply::Done(told) = &mut self.history.ops[op].reply {
            told.workflow = Some(workflow);
        }
    }

    fn context(&self, idempotency_key: String, actor: String) -> SubmitContext {
        SubmitContext { workspace: self.workspace, actor, idempotency_key, traceparent: None }
    }

    async fn submit_again(&mut self, which: Pick, same: bool) -> Held {
        let Some(index) = any(self.keys.len(), which) else { return Ok(()) };
        let shape = (self.shapes[index] + usize::from(!same)) % SHAPES.len();
        let key = format!("key-{index}");
        let actor = self.log(Ask::Submit { key: key.clone(), shape: "again".into(), body: shape as u64 });
        let context = self.context(key, actor);
        let expected = self.keys[index].workflow;
        match self.engines[0].submit(&context, &submit(shape)).await {
            Ok(known) => {
                ensure!(same && !known.new && known.workflow == expected, "{known:?}, not {expected} again");
                self.told(self.history.ops.len() - 1, known.workflow);
            }
            Err(EngineError::IdempotencyMismatch(known)) => {
                ensure!(!same && known == expected, "{known} for {expected}");
                self.refused();
            }
            Err(error) => return Err(error.to_string()),
        }
        Ok(())
    }

    async fn pop(&mut self, engine: usize, max: usize, late: bool) -> Result<usize, String> {
        let mut count = 0;
        for agent in [agent(0), agent(1)] {
            let popped = if late {
                self.queue.pop(&agent, max, Duration::ZERO, Unbuilt::Serve).await.unwrap()
            } else {
                self.engines[engine].pop(&agent, max).await.unwrap()
            };
            for ticket in popped.tickets {
                count += 1;
                let Some(&place) = self.places.get(&ticket.workflow) else {
                    return Err(format!("{ticket:?} is of no workflow"));
                };
                let step = &self.model.workflows[place].steps[usize::from(ticket.step)];
                ensure!(ticket.epoch <= step.epoch, "{ticket:?} is of the future: {step:?}");
                let name = (ticket.workflow, ticket.step, ticket.epoch);
                ensure!(self.flying.insert(name), "{ticket:?} was popped twice");
                self.popped.push((agent.clone(), ticket, late));
            }
        }
        Ok(count)
    }

    async fn claim(&mut self, engine: usize, worker: usize, tickets: Vec<(AgentType, Ticket)>) -> Held {
        let session = self.workers[worker].clone();
        let mut expected = Vec::new();
        for (_, ticket) in &tickets {
            let (place, step) = (self.places[&ticket.workflow], usize::from(ticket.step));
            expected.extend(self.model.claim(place, step, ticket.epoch, session.id().0));
        }
        self.seen.add("tickets claimed", expected.len());
        self.seen.add("stale tickets refused", tickets.len() - expected.len());
        let claimed = self.engines[engine].claim(&session, tickets).await.unwrap();
        ensure!(
            claimed.len() == expected.len(),
            "{} tickets were claimed, the model claims {}",
            claimed.len(),
            expected.len()
        );
        for (claim, attempt) in claimed.into_iter().zip(expected) {
            let of = &self.model.attempts[attempt];
            let step = &self.model.workflows[of.workflow].steps[of.step];
            let told = (claim.key(), usize::from(claim.token.step), claim.token.epoch, claim.attempt);
            let known = (self.keys[of.workflow], of.step, step.epoch, step.attempts);
            ensure!(told == known, "claimed {told:?}, the model {known:?}");
            self.call(attempt, &claim);
            self.claims.push(claim);
        }
        Ok(())
    }

    /// The provider is called at once; whether its answer will ever count is
    /// another question.
    fn call(&mut self, attempt: usize, claim: &Claimed) {
        let results = claim.input.get("results").and_then(Value::as_object);
        let saw = results.into_iter().flatten().map(|(parent, result)| {
            let call = result.get("call").and_then(Value::as_str);
            (parent.clone(), call.map(str::to_owned).into_iter().collect())
        });
        self.history.calls.push(Call {
            call: format!("call-{attempt}"),
            workflow: claim.key().workflow,
            step: claim.step_name.clone(),
            key: Some(claim.effect_key.clone()),
            at_ms: self.ms(),
            saw: saw.collect(),
            heard: heard(&claim.inbox),
            canaries: Vec::new(),
        });
    }

    async fn report(&mut self, engine: usize, attempts: Vec<(usize, How)>) -> Held {
        let mut reports = Vec::new();
        let mut expected = Vec::new();
        for (attempt, how) in attempts {
            let (outcome, end) = match how {
                How::Well => {
                    let call = format!("call-{attempt}");
                    let output =
                        serde_json::value::to_raw_value(&json!({ "call": call, "said": call })).unwrap();
                    (Outcome::Succeeded(StepOutput::new(output).saying(told(&call))), End::Success)
                }
                How::Badly => (Outcome::Failed(StepError::transient("bad", "again")), End::Transient),
                How::Throttled => (Outcome::Failed(StepError::throttled("slow", "later", 0)), End::Throttled),
                How::ForGood => (Outcome::Failed(StepError::permanent("bad", "never")), End::Permanent),
                How::Unstarted => (Outcome::GivenBack, End::Unstarted),
            };
            let held = self.model.holds(attempt);
            let counts = self.model.report(attempt, end);
            self.seen.add(report_mark(held, counts, how), 1);
            expected.push(counts);
            reports.push(Report::of(&self.claims[attempt], 1, outcome));
        }
        let recorded = self.engines[engine].complete(&reports).await.unwrap();
        for ((report, recorded), expected) in reports.iter().zip(recorded).zip(expected) {
            let told = recorded == Recorded::Yes;
            ensure!(
                told == expected,
                "the report of {:?} counts: {told}, in the model: {expected}",
                report.token
            );
        }
        Ok(())
    }

    async fn give_back(&mut self, agent: &AgentType, ticket: Ticket) {
        self.queue.give_back(agent, &[ticket]).await.unwrap();
        self.flying.remove(&(ticket.workflow, ticket.step, ticket.epoch));
    }

    async fn kill(&mut self, worker: usize) {
        let id = self.workers[worker].id();
        self.engines[0].store().close_session(id, None, "killed").await.unwrap();
        self.closed.insert(id.0);
        self.workers[worker] = self.hire().await;
    }

    async fn reap(&mut self, engine: usize) -> Held {
        let expected = self.model.reap(|session| self.closed.contains(&session));
        self.seen.add("steps reaped", expected);
        let reaped = self.reapers[engine].run_once(&self.engines[engine]).await.unwrap();
        ensure!(reaped.steps == expected, "{} steps were returned, in the model {expected}", reaped.steps);
        Ok(())
    }

    async fn cancel(&mut self, engine: usize, which: Pick) -> Held {
        let Some(index) = any(self.keys.len(), which) else { return Ok(()) };
        let key = self.keys[index];
        let actor = self.log(Ask::Cancel { workflow: key.workflow });
        let running = self.model.workflows[index].steps.iter().any(|step| step.state == State::Running);
        let expected = self.model.cancel(index);
        if expected {
            self.seen.add(if running { "cancels while running" } else { "cancels" }, 1);
        }
        match self.engines[engine].cancel(key, &actor).await {
            Ok(()) => ensure!(expected, "cancelled what cannot be"),
            Err(EngineError::Conflict(why)) => {
                ensure!(!expected, "{why}");
                self.refused();
            }
            Err(error) => return Err(error.to_string()),
        }
        Ok(())
    }

    async fn repair(&mut self, engine: usize, which: Pick, fix: Fix) -> Held {
        // Half of the time something that is dead, if anything is.
        let steps = self.model.workflows.iter().enumerate().flat_map(|(n, workflow)| {
            workflow.steps.iter().enumerate().map(move |(step, run)| (n, step, run.state == State::Dead))
        });
        let (dead, other): (Vec<_>, Vec<_>) = steps.partition(|(.., dead)| *dead);
        let from = if dead.is_empty() || which.is_multiple_of(4) { other } else { dead };
        let Some((workflow, step, _)) = any(from.len(), which / 4).map(|index| from[index]) else {
            return Ok(());
        };
        let run = &self.model.workflows[workflow].steps[step];
        let (name, died) = (run.shape.name, run.died);
        let key = self.keys[workflow];
        let (repair, how) = match fix {
            Fix::Retry => (Repair::Retry, Repaired::Retry),
            Fix::Edited => (Repair::Retry, Repaired::EditAndRetry),
            Fix::Discard => (Repair::Discard, Repaired::Discard),
        };
        let input = (fix == Fix::Edited).then(|| json!({ "brief": {}, "params": {}, "results": {} }));
        let actor = self.log(Ask::Repair { how, tasks: vec![format!("{}.{name}", key.workflow)] });
        let expected = self.model.repair(workflow, step, fix == Fix::Discard);
        let mark = match (expected, fix) {
            (false, _) => "repairs refused",
            (true, Fix::Retry) => "dead letters retried",
            (true, Fix::Edited) => "dead letters retried with another input",
            (true, Fix::Discard) => "dead letters discarded",
        };
        self.seen.add(mark, 1);
        match self.engines[engine].repair(key, name, repair, input, &actor).await {
            Ok(_) => ensure!(expected, "repaired `{name}`, which was not dead"),
            Err(EngineError::Conflict(why)) => {
                ensure!(!expected && died, "`{name}`: {why}");
                self.refused();
            }
            Err(EngineError::NotFound { .. }) => {
                ensure!(!died, "the letter of `{name}` is gone");
                self.refused();
            }
            Err(error) => return Err(error.to_string()),
        }
        Ok(())
    }

    async fn expire(&mut self) {
        for agent in [agent(0), agent(1)] {
            let expired = self.queue.expire(&agent, 1_000).await.unwrap();
            self.seen.add("tickets expired", usize::try_from(expired).unwrap_or(0));
        }
        for (_, ticket, _) in self.popped.iter().filter(|(.., late)| *late) {
            self.flying.remove(&(ticket.workflow, ticket.step, ticket.epoch));
        }
    }

    async fn reconcile(&mut self, engine: usize) {
        let mut walk = Reconciler::default();
        loop {
            let page = walk.run_once(&self.engines[engine]).await.unwrap();
            self.seen.add("tickets reconciled", usize::try_from(page.pushed).unwrap_or(0));
            if page.round_over {
                return;
            }
        }
    }

    /// Every live run is exactly what the model says.
    async fn compare(&mut self) -> Result<(), String> {
        let rows =
            self.engines[0].store().page_runs(None, 10_000).await.map_err(|error| error.to_string())?;
        let live = self.model.workflows.iter().filter(|workflow| !workflow.is_over()).count();
        if rows.len() != live {
            return Err(format!("{} workflows are live, in the model {live}", rows.len()));
        }
        for row in rows {
            let run = Run::decode(&row.run).map_err(|bad| bad.to_string())?;
            let workflow = &self.model.workflows[self.places[&row.key.workflow]];
            for (found, step) in run.steps.iter().zip(&workflow.steps) {
                let session = step.holder.map(|holder| SessionId(self.model.attempts[holder].session));
                let real = (found.state.word(), found.epoch, found.attempts, found.crashes);
                let known = (step.state.word(), step.epoch, step.attempts, step.crashes);
                if real != known || found.lease.map(|lease| lease.session) != session {
                    return Err(format!("`{}` is {real:?}, in the model {known:?}", step.shape.name));
                }
            }
        }
        // What a ticket was about moved on: it is nobody's any more.
        let (model, places) = (&self.model, &self.places);
        self.flying.retain(|(workflow, step, epoch)| {
            let step = &model.workflows[places[workflow]].steps[usize::from(*step)];
            step.epoch == *epoch || step.state == State::Running && step.epoch == *epoch + 1
        });
        Ok(())
    }

    /// Everything goes on until nothing can: nothing was lost.
    async fn come_to_rest(&mut self) -> Held {
        self.queue.lose(0);
        for _ in 0..64 {
            for (agent, ticket, _) in std::mem::take(&mut self.popped) {
                if self.is_current(&ticket) {
                    self.give_back(&agent, ticket).await;
                }
            }
            self.reap(0).await?;
            let expected = self.model.due();
            let queued = queue_due_steps(&self.engines[0]).await.unwrap();
            ensure!(queued == expected, "{queued} steps were due, the model knows {expected}");
            rebuild(&self.engines[0]).await.unwrap();
            self.reconcile(1).await;
            while self.pop(0, 100, false).await? > 0 {}
            let tickets = self.popped.drain(..).map(|(agent, ticket, _)| (agent, ticket)).collect();
            self.claim(0, 0, tickets).await?;
            let steps = self.model.workflows.iter().flat_map(|workflow| &workflow.steps);
            let held: Vec<_> = steps.filter_map(|step| Some((step.holder?, How::Well))).collect();
            self.report(1, held).await?;
            self.compare().await.map_err(|why| format!("at rest: {why}"))?;
            let mut steps = self.model.workflows.iter().flat_map(|workflow| &workflow.steps);
            let moving = |step: &&crate::model::Step| {
                matches!(step.state, State::Queued | State::Running | State::Scheduled)
            };
            if steps.find(moving).is_none() {
                self.reap(0).await?;
                return self.leaves_nothing().await;
            }
        }
        Err("something never comes to rest".into())
    }

    /// Whatever was lost on the way: in the end nothing is ready and nothing in
    /// flight.
    async fn leaves_nothing(&mut self) -> Held {
        forget_lost(&self.engines[1]).await.unwrap();
        for depth in self.queue.depths(&[agent(0), agent(1)]).await.unwrap() {
            let left = &mut self.history.leftovers;
            left.in_flight.insert(depth.agent.to_string(), depth.in_flight);
            left.ready.insert(depth.agent.to_string(), depth.ready);
        }
        Ok(())
    }

    /// What is in the database keeps every promise that the checker knows.
    async fn judge(&mut self) -> Held {
        for line in self.servers.dump().await {
            self.history.add(line).unwrap();
        }
        for row in &self.history.dump.finished_runs {
            let end = self.model.workflows[self.places[&row.id]].end();
            ensure!(row.state == end, "{} ended as {}, in the model as {end}", row.id, row.state);
        }
        let violations: Vec<_> = check(&self.history).iter().map(ToString::to_string).collect();
        ensure!(violations.is_empty(), "{}", violations.join("\n"));
        Ok(())
    }
}

/// One of so many; `None` if there is none.
fn any(count: usize, pick: Pick) -> Option<usize> {
    (count > 0).then(|| usize::from(pick) % count)
}

/// One of the newest.
fn recent<T: Clone>(all: &[T], pick: Pick) -> Option<T> {
    let back = any(all.len().min(REMEMBERED), pick)?;
    all.get(all.len() - 1 - back).cloned()
}

/// Mostly one of those, each once; sometimes one of all the newest.
fn mostly<T: Clone>(those: &mut Vec<T>, all: &[T], pick: Pick) -> Option<T> {
    let (chance, pick) = (pick % 6, pick / 6);
    if chance == 0 { recent(all, pick) } else { any(those.len(), pick).map(|index| those.swap_remove(index)) }
}
