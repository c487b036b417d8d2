//! The scenes: what is prepared, who dies, and who takes over.

use std::time::Duration;

use galley_core::automation::Mode;
use galley_core::ids::{AgentType, WorkflowId, WorkflowKey};
use galley_core::run::{Run, StepRun, WorkflowState};
use galley_core::schedule::Missed;
use galley_core::ticket::Ticket;
use galley_engine::store::AcceptWrite;
use galley_engine::{EngineError, NewSchedule};
use galley_preview::{FaultKind, FaultTarget, SetFault};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::Case;
use crate::bed::{Bed, definition, sure, until};
use crate::child::{Child, How, Request, Role, Work};
use crate::end;
use crate::fleet::Place;

/// The mortal worker's name.
const MORTAL: &str = "mortal";

/// What a worker that dies has to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// Chains with a step that fails once.
    Chains,
    /// The same; the worker also loses a session.
    Sessions,
    /// Steps that need a person's go.
    Manual,
    /// Posts.
    Posts { approval: bool },
    /// Posts whose first reply is lost, on a platform that can be asked.
    LostReplies,
}

/// What a scheduler that dies has to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chore {
    DeadSessions,
    Overdue,
    LostPushes,
    Unstarted,
    EmptyQueue,
    Retries,
    OrphanedTimers,
    LateQuestions,
    Schedules,
    MissedSchedules,
    Ghosts,
}

/// What a client that dies asks for, twice.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    Submit,
    Approve,
    Edit,
    Cancel,
    Replay,
    Limit,
}

fn chain() -> Value {
    json!([
        { "name": "first", "agent": "echo" },
        { "name": "again", "agent": "flaky" },
        { "name": "last", "agent": "echo" },
    ])
}

fn only(agent: &str) -> Value {
    json!([{ "name": "only", "agent": agent }])
}

/// Every kind of platform gets its share of the cases.
fn kind_of(case: Case) -> &'static str {
    let turn = case.point as usize + case.hit as usize + usize::from(case.how == How::Stop);
    ["idempotent", "verifiable", "blind"][turn % 3]
}

// -- a worker dies

pub(crate) async fn worker(bed: &mut Bed, case: Case, load: Load) {
    bed.build_queues().await;
    bed.start_duties();
    match load {
        Load::Chains | Load::Sessions => {
            for _ in 0..2 {
                bed.submit(chain(), Value::Null, WorkflowState::Succeeded).await;
            }
        }
        Load::Manual => {
            bed.change_policy(|config| config.mode = Mode::Manual).await;
            for _ in 0..2 {
                bed.submit(only("echo"), Value::Null, WorkflowState::Succeeded).await;
            }
        }
        Load::Posts { approval } => two_posts(bed, kind_of(case), approval).await,
        Load::LostReplies => {
            two_posts(bed, "verifiable", false).await;
            let lost = SetFault::new(FaultKind::LoseReply).endpoint(FaultTarget::Verifiable).times(2);
            bed.network.set_fault(lost).unwrap();
        }
    }
    let role = Role { place: bed.place.clone(), work: Work::Worker { name: MORTAL.into() } };
    let mut child = Child::start(&role, case);
    if load == Load::Sessions && case.hit == 2 {
        until("the worker has a session", async || sessions(bed).await > 0).await;
        bed.execute("UPDATE sessions SET closed_at = galley_now(), close_reason = 'test'").await;
    }
    child.came_to(case.point).await;
    until("the dead worker's session is closed", async || sessions(bed).await == 0).await;
    bed.start_worker();
    if case.how == How::Stop {
        if case.hit == 2 {
            end::settle(bed).await;
        }
        child.wake().await;
        until("the zombie begins anew", async || sessions(bed).await > 0).await;
        end::settle(bed).await;
        child.end(true).await;
    }
    end::check(bed).await;
}

/// The mortal worker's open sessions.
async fn sessions(bed: &Bed) -> i64 {
    bed.count(&format!("SELECT count(*) FROM sessions WHERE worker = '{MORTAL}' AND closed_at IS NULL")).await
}

async fn two_posts(bed: &mut Bed, account: &str, approval: bool) {
    bed.add_accounts().await;
    bed.set_policy(approval).await;
    for text in ["one", "two"] {
        bed.submit_post(account, text).await;
        bed.texts.push(text.into());
    }
}

// -- a scheduler dies

pub(crate) async fn scheduler(bed: &mut Bed, case: Case, chore: Chore) {
    if chore != Chore::EmptyQueue {
        bed.build_queues().await;
    }
    let role = Role { place: bed.place.clone(), work: Work::Scheduler };
    let (mut child, sessions) = match chore {
        Chore::DeadSessions | Chore::Overdue => {
            let agent = if chore == Chore::Overdue { "brief" } else { "echo" };
            for _ in 0..2 {
                bed.submit(only(agent), Value::Null, WorkflowState::Succeeded).await;
            }
            let (first, second) = (bed.session().await, bed.session().await);
            bed.claim(&first, agent).await;
            if chore == Chore::DeadSessions {
                bed.claim(&second, agent).await;
            }
            let mut child = Child::start(&role, case);
            let mut held = vec![second];
            if chore == Chore::DeadSessions {
                let id = first.id();
                drop(first);
                if case.hit == 2 {
                    let swept =
                        format!("SELECT count(*) FROM sessions WHERE id = {id} AND swept_at IS NOT NULL");
                    until("the first is swept", async || child.hit() || bed.count(&swept).await == 1).await;
                    held.clear();
                }
            } else {
                if case.hit == 2 {
                    // The first was taken back; the next is taken back later.
                    let taken = "SELECT count(*) FROM attempts WHERE outcome = 'overdue'";
                    until("the first is overdue", async || child.hit() || bed.count(taken).await > 0).await;
                    bed.claim(&first, agent).await;
                }
                held.push(first);
            }
            (child, held)
        }
        Chore::LostPushes => {
            let lost = Place { prefix: format!("{}_lost", bed.place.prefix), ..bed.place.clone() };
            let lost = lost.engine(2);
            let mut child = Child::start(&role, case);
            for turn in 0..2 {
                bed.submit_by(&lost, chain(), Value::Null, WorkflowState::Succeeded).await;
                if case.hit == 2 && turn == 0 {
                    until("it was pushed", async || child.hit() || ready(bed, "echo").await == 1).await;
                }
            }
            (child, Vec::new())
        }
        Chore::Unstarted => {
            bed.start_worker();
            let mut child = Child::start(&role, case);
            for turn in 0..2 {
                let key = store_unstarted(bed).await;
                if case.hit == 2 && turn == 0 {
                    until("it was started", async || child.hit() || is_over(bed, key).await).await;
                }
            }
            (child, Vec::new())
        }
        Chore::EmptyQueue => {
            bed.submit(chain(), Value::Null, WorkflowState::Succeeded).await;
            let mut child = Child::start(&role, case);
            if case.hit == 2 {
                until("the queue is built", async || child.hit() || is_built(bed).await).await;
                bed.empty_queue().await;
            }
            (child, Vec::new())
        }
        Chore::Retries => {
            bed.start_worker();
            let mut child = Child::start(&role, case);
            for turn in 0..2 {
                let key = bed.submit(chain(), Value::Null, WorkflowState::Succeeded).await;
                if case.hit == 2 && turn == 0 {
                    until("it is over", async || child.hit() || is_over(bed, key).await).await;
                }
            }
            (child, Vec::new())
        }
        Chore::OrphanedTimers => {
            bed.submit(chain(), Value::Null, WorkflowState::Succeeded).await;
            let mut child = Child::start(&role, case);
            for turn in 0..2 {
                let orphan = "INSERT INTO timers (workspace_id, workflow_id, step, epoch, due_at)
                              SELECT id, gen_random_uuid(), 0, 1, galley_now() FROM workspaces";
                bed.execute(orphan).await;
                if case.hit == 2 && turn == 0 {
                    let timers = "SELECT count(*) FROM timers";
                    until("it is gone", async || child.hit() || bed.count(timers).await == 0).await;
                }
            }
            (child, Vec::new())
        }
        Chore::Schedules | Chore::MissedSchedules => {
            bed.start_worker();
            let missed = chore == Chore::MissedSchedules;
            let names = ["one", "two"];
            add_schedules(bed, &names).await;
            let mut child = Child::start(&role, case);
            for (turn, name) in names.iter().enumerate() {
                let late = if missed { "interval '1 hour'" } else { "interval '0'" };
                bed.execute(&format!(
                    "UPDATE schedules SET next_at = galley_now() - {late} WHERE name = '{name}'"
                ))
                .await;
                if case.hit == 2 && turn == 0 {
                    until("it had its turn", async || child.hit() || due_schedules(bed).await == 0).await;
                }
            }
            bed.audited.push((if missed { "schedule.skip" } else { "schedule.run" }, 2));
            (child, Vec::new())
        }
        Chore::Ghosts => {
            bed.start_worker();
            let mut child = Child::start(&role, case);
            for turn in 0..2 {
                let (workspace, workflow) = (bed.workspace, WorkflowId(Uuid::now_v7()));
                let ghost = Ticket { workspace, workflow, step: 0, epoch: 1, crashes: 0, priority: 5 };
                let echo = AgentType::new("echo").unwrap();
                let minute = Duration::from_secs(60);
                bed.engine.queue().claimed(&[(echo, ghost)], minute).await.unwrap();
                if case.hit == 2 && turn == 0 {
                    until("it is gone", async || child.hit() || in_flight(bed, "echo").await == 0).await;
                }
            }
            (child, Vec::new())
        }
        Chore::LateQuestions => {
            bed.people = false;
            bed.start_worker();
            two_posts(bed, "idempotent", true).await;
            bed.texts.clear();
            let asked = bed.asked(2).await;
            let mut child = Child::start(&role, case);
            for (turn, question) in asked.iter().enumerate() {
                let id = question.id;
                bed.execute(&format!("UPDATE approvals SET expires_at = galley_now() WHERE id = '{id}'"))
                    .await;
                if case.hit == 2 && turn == 0 {
                    let open = "SELECT count(*) FROM approvals WHERE status = 'pending'";
                    until("it has expired", async || child.hit() || bed.count(open).await == 1).await;
                }
            }
            (child, Vec::new())
        }
    };
    child.came_to(case.point).await;
    drop(sessions);
    bed.start_worker();
    bed.start_duties();
    if case.how == How::Stop {
        if case.hit == 2 {
            end::settle(bed).await;
        }
        child.wake().await;
        end::settle(bed).await;
        // Alone now, the zombie does all its duties again: the rest of what it
        // was stopped in is behind it then.
        bed.stop_duties().await;
        alone(bed).await;
        child.end(true).await;
        bed.start_duties();
    }
    end::check(bed).await;
}

/// Needs the reconciler, timers and the reaper.
async fn alone(bed: &mut Bed) {
    let session = bed.session().await.id();
    let lost = Place { prefix: format!("{}_lost", bed.place.prefix), ..bed.place.clone() };
    bed.submit_by(&lost.engine(2), chain(), Value::Null, WorkflowState::Succeeded).await;
    end::settle(bed).await;
    let swept = format!("SELECT count(*) FROM sessions WHERE id = {session} AND swept_at IS NOT NULL");
    until("the zombie sweeps a dead session", async || bed.count(&swept).await == 1).await;
}

async fn ready(bed: &Bed, agent: &str) -> u64 {
    let agent = AgentType::new(agent).unwrap();
    bed.engine.queue().depths(&[agent]).await.unwrap()[0].ready
}

async fn in_flight(bed: &Bed, agent: &str) -> u64 {
    let agent = AgentType::new(agent).unwrap();
    bed.engine.queue().depths(&[agent]).await.unwrap()[0].in_flight
}

/// Schedules that are not due for long.
async fn add_schedules(bed: &Bed, names: &[&str]) {
    bed.change_policy(|config| config.schedule_automation = true).await;
    for name in names {
        let new = NewSchedule {
            name: (*name).into(),
            cron: "0 0 1 1 *".into(),
            time_zone: None,
            missed: Missed::Skip,
            submit: definition(chain(), Value::Null),
        };
        sure(async || bed.engine.add_schedule(bed.workspace, new.clone(), "admin").await).await;
    }
}

async fn due_schedules(bed: &Bed) -> i64 {
    bed.count("SELECT count(*) FROM schedules WHERE next_at <= galley_now()").await
}

async fn is_built(bed: &Bed) -> bool {
    let agents: Vec<_> = crate::fleet::specs().into_iter().map(|spec| spec.agent).collect();
    bed.engine.queue().unbuilt(&agents).await.unwrap().is_empty()
}

async fn is_over(bed: &Bed, key: WorkflowKey) -> bool {
    sure(async || bed.engine.workflow(key).await).await.state.is_final()
}

/// A workflow as it stands when whoever accepted it died before its start.
async fn store_unstarted(bed: &mut Bed) -> WorkflowKey {
    let submit = definition(chain(), Value::Null);
    let ready = sure(async || bed.engine.ready(bed.workspace, &submit).await).await;
    let key = WorkflowKey { workspace: bed.workspace, workflow: WorkflowId(Uuid::now_v7()) };
    let steps = (0..3).map(|step| StepRun::blocked(step, None)).collect();
    let run = Run { priority: 5, cancelled: false, steps };
    let write = AcceptWrite {
        key,
        definition: ready.definition_id(),
        name: "test".into(),
        template: None,
        priority: 5,
        idempotency_key: key.workflow.to_string(),
        request_hash: [0; 32],
        input: "null".into(),
        traceparent: None,
        actor: "producer".into(),
        version: 1 << 24,
        run: run.encode(),
    };
    sure(async || Ok(bed.engine.store().accept(vec![write.clone()]).await?)).await;
    bed.workflows.push((key, WorkflowState::Succeeded));
    key
}

// -- a client dies

pub(crate) async fn client(bed: &mut Bed, case: Case, wish: Wish) {
    bed.build_queues().await;
    bed.start_duties();
    bed.start_worker();
    let requests = requests(bed, wish).await;
    let work = Work::Client { workspace: bed.workspace, requests: requests.clone() };
    let mut child = Child::start(&Role { place: bed.place.clone(), work }, case);
    child.came_to(case.point).await;
    if case.how == How::Stop && case.hit == 1 {
        child.wake().await;
    }
    // Nobody answered, so it is asked again.
    for request in &requests {
        let answered = sure(async || match request.ask(&bed.engine, bed.workspace).await {
            Err(EngineError::Conflict(_)) => Ok(None),
            answered => answered,
        });
        if let Some(workflow) = answered.await {
            let key = WorkflowKey { workspace: bed.workspace, workflow };
            bed.workflows.push((key, WorkflowState::Succeeded));
        }
    }
    if case.how == How::Stop {
        if case.hit == 2 {
            end::settle(bed).await;
            child.wake().await;
        }
        child.end(false).await;
    }
    end::check(bed).await;
}

async fn requests(bed: &mut Bed, wish: Wish) -> Vec<Request> {
    let mut requests = Vec::new();
    match wish {
        Wish::Submit => {
            for n in 0..2 {
                let submit = definition(chain(), json!({ "n": n }));
                requests.push(Request::Submit { key: format!("key-{n}"), submit });
            }
        }
        Wish::Approve | Wish::Edit => {
            bed.people = wish == Wish::Edit;
            two_posts(bed, "verifiable", true).await;
            let asked = bed.asked(2).await;
            if wish == Wish::Approve {
                requests.extend(asked.iter().map(|question| Request::Approve(question.id)));
                bed.audited.push(("approval.approve", 2));
            } else {
                bed.texts = vec!["edited 0".into(), "edited 1".into()];
                let edit = |(n, post)| Request::Edit(post, format!("edited {n}"));
                requests.extend(bed.posts().await.into_iter().map(|post| post.id).enumerate().map(edit));
                bed.audited.push(("post.edit", 2));
            }
        }
        Wish::Cancel => {
            for _ in 0..2 {
                let key = bed.submit(only("patient"), Value::Null, WorkflowState::Cancelled).await;
                requests.push(Request::Cancel(key.workflow));
            }
            let running = "SELECT coalesce(sum(running), 0)::int8 FROM runs";
            until("both run", async || bed.count(running).await == 2).await;
            bed.audited.push(("workflow.cancel", 2));
        }
        Wish::Replay => {
            for _ in 0..2 {
                let key = bed.submit(only("hopeless"), Value::Null, WorkflowState::Succeeded).await;
                requests.push(Request::Replay(key.workflow, "only".into()));
            }
            let letters = "SELECT count(*) FROM dead_letters WHERE status = 'open'";
            until("both are dead", async || bed.count(letters).await == 2).await;
            bed.audited.push(("dead.edit_and_retry", 2));
        }
        Wish::Limit => {
            requests.extend([Request::Limit(7), Request::Limit(8)]);
            bed.submit(chain(), Value::Null, WorkflowState::Succeeded).await;
        }
    }
    requests
}
