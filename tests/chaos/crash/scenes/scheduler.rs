//! A scheduler dies while it does its duties; another does them again.

use std::time::{Duration, Instant};

use galley_chaos::bills::BOUND;
use galley_core::ids::{AgentType, WorkflowId, WorkflowKey};
use galley_core::run::{Run, StepRun, WorkflowState};
use galley_core::schedule::Missed;
use galley_core::ticket::Ticket;
use galley_engine::store::AcceptWrite;
use galley_engine::{Funding, NewCall, NewSchedule, Session};
use serde_json::Value;
use uuid::Uuid;

use super::{chain, only};
use crate::Case;
use crate::bed::{Bed, definition, submitting, told};
use crate::child::{Child, How, Role, Work};
use crate::end;
use crate::servers::{sure, until};

/// An occasion can pass the point by: two sessions that die at once are
/// returned at once. So many are made, at most, until the child came to it.
const OCCASIONS: usize = 10;

/// How long after an occasion is over the child may still come to the point.
const GRACE: Duration = Duration::from_secs(3);

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
    LostCalls,
}

/// How to see that something was done.
enum Sign {
    /// A count became 0.
    None(String),
    /// A count did not stay 0.
    Some(String),
    /// So many tickets are ready.
    Ready(u64),
    /// Nothing is in flight.
    Landed,
    /// The queue is built.
    Built,
    /// A workflow is over.
    Over(WorkflowKey),
}

pub(crate) async fn scheduler(bed: &mut Bed, case: Case, chore: Chore) {
    if chore != Chore::EmptyQueue {
        bed.build_queues().await;
    }
    match chore {
        Chore::Unstarted | Chore::Retries | Chore::Ghosts => bed.start_worker(),
        Chore::Schedules | Chore::MissedSchedules => {
            bed.start_worker();
            bed.change_policy(|config| config.schedule_automation = true).await;
        }
        Chore::LateQuestions => {
            bed.start_worker();
            bed.people = false;
            bed.add_accounts().await;
            bed.set_policy(true).await;
        }
        Chore::OrphanedTimers => {
            bed.submit(chain(), Value::Null, WorkflowState::Succeeded).await;
        }
        Chore::DeadSessions | Chore::Overdue | Chore::LostPushes | Chore::EmptyQueue | Chore::LostCalls => {}
    }
    let role = Role { place: bed.place.clone(), work: Work::Scheduler };
    let mut child = Child::start(&role, case);
    // Sessions that go on living.
    let mut held = Vec::new();
    let mut made = 0;
    while !child.hit() {
        assert!(made < OCCASIONS, "the child does not come to {}", case.point);
        let sign = occasion(bed, chore, made, &mut held).await;
        made += 1;
        let mut over = None;
        until("the child has done its duty", async || {
            if over.is_none() && is_done(bed, &sign).await {
                over = Some(Instant::now());
            }
            // The next occasion is for the next hit.
            let patience = if made < case.hit as usize { Duration::ZERO } else { GRACE };
            child.hit() || over.is_some_and(|since| since.elapsed() > patience)
        })
        .await;
    }
    match chore {
        Chore::Schedules => bed.audited.push(("schedule.run", made as i64)),
        Chore::MissedSchedules => bed.audited.push(("schedule.skip", made as i64)),
        _ => {}
    }
    drop(held);
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

/// Makes something to do.
async fn occasion(bed: &mut Bed, chore: Chore, turn: usize, held: &mut Vec<Session>) -> Sign {
    match chore {
        Chore::DeadSessions => {
            bed.submit(only("echo"), Value::Null, WorkflowState::Succeeded).await;
            let session = bed.session().await;
            bed.claim(&session, &["echo"], 1).await;
            let id = session.id();
            Sign::Some(format!("SELECT count(*) FROM sessions WHERE id = {id} AND swept_at IS NOT NULL"))
        }
        Chore::Overdue => {
            let key = bed.submit(only("brief"), Value::Null, WorkflowState::Succeeded).await;
            let session = bed.session().await;
            bed.claim(&session, &["brief"], 1).await;
            held.push(session);
            Sign::Some(format!("SELECT count(*) FROM attempts WHERE workflow_id = '{}'", key.workflow))
        }
        Chore::LostCalls => {
            bed.submit(only("echo"), Value::Null, WorkflowState::Succeeded).await;
            let session = bed.session().await;
            let claim = bed.claim(&session, &["echo"], 1).await.remove(0);
            let call = NewCall { call: 0, provider: "bank".into(), model: "m".into(), bound_micros: BOUND };
            let funding = sure(async || bed.engine.reserve_call(&claim, call.clone()).await).await;
            assert_eq!(funding, Funding::Reserved);
            let id = session.id();
            Sign::Some(format!("SELECT count(*) FROM spend WHERE session = {id} AND state = 'estimated'"))
        }
        Chore::LostPushes => {
            bed.submit_by(&bed.unheard_engine(), chain(), Value::Null, WorkflowState::Succeeded).await;
            Sign::Ready(turn as u64 + 1)
        }
        Chore::Unstarted => Sign::Over(store_unstarted(bed).await),
        Chore::Retries => Sign::Over(bed.submit(chain(), Value::Null, WorkflowState::Succeeded).await),
        Chore::EmptyQueue => {
            match turn {
                0 => drop(bed.submit(chain(), Value::Null, WorkflowState::Succeeded).await),
                _ => bed.empty_queue().await,
            }
            Sign::Built
        }
        Chore::OrphanedTimers => {
            let orphan = "INSERT INTO timers (workspace_id, workflow_id, step, epoch, due_at)
                          SELECT id, gen_random_uuid(), 0, 1, galley_now() FROM workspaces";
            bed.execute(orphan).await;
            Sign::None("SELECT count(*) FROM timers".into())
        }
        Chore::Schedules | Chore::MissedSchedules => {
            let name = format!("schedule_{turn}");
            add_schedule(bed, &name).await;
            let late = if chore == Chore::Schedules { "interval '0'" } else { "interval '1 hour'" };
            bed.execute(&format!(
                "UPDATE schedules SET next_at = galley_now() - {late} WHERE name = '{name}'"
            ))
            .await;
            Sign::None("SELECT count(*) FROM schedules WHERE next_at <= galley_now()".into())
        }
        Chore::Ghosts => {
            let (workspace, workflow) = (bed.workspace, WorkflowId(Uuid::now_v7()));
            let ghost = Ticket { workspace, workflow, step: 0, epoch: 1, crashes: 0, priority: 5 };
            let echo = AgentType::new("echo").unwrap();
            let minute = Duration::from_secs(60);
            let ghosts = [(echo, ghost)];
            sure(async || Ok(bed.engine.queue().claimed(&ghosts, minute).await.map(drop)?)).await;
            Sign::Landed
        }
        Chore::LateQuestions => {
            bed.submit_post("idempotent", &format!("late {turn}")).await;
            let asked = bed.asked(1).await;
            let id = asked[0].id;
            bed.execute(&format!("UPDATE approvals SET expires_at = galley_now() WHERE id = '{id}'")).await;
            Sign::None("SELECT count(*) FROM approvals WHERE status = 'pending'".into())
        }
    }
}

async fn is_done(bed: &Bed, sign: &Sign) -> bool {
    match sign {
        Sign::None(count) => bed.count(count).await == 0,
        Sign::Some(count) => bed.count(count).await > 0,
        Sign::Ready(tickets) => ready(bed, "echo").await >= *tickets,
        Sign::Landed => in_flight(bed, "echo").await == 0,
        Sign::Built => is_built(bed).await,
        Sign::Over(key) => sure(async || bed.engine.workflow(*key).await).await.state.is_final(),
    }
}

/// Needs the reconciler, timers and the reaper.
async fn alone(bed: &mut Bed) {
    let session = bed.session().await.id();
    let lost = bed.unheard_engine();
    bed.submit_by(&lost, chain(), Value::Null, WorkflowState::Succeeded).await;
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

async fn is_built(bed: &Bed) -> bool {
    let agents: Vec<_> = crate::fleet::specs().into_iter().map(|spec| spec.agent).collect();
    bed.engine.queue().unbuilt(&agents).await.unwrap().is_empty()
}

/// A schedule that is not due for long.
async fn add_schedule(bed: &Bed, name: &str) {
    let new = NewSchedule {
        name: name.into(),
        cron: "0 0 1 1 *".into(),
        time_zone: None,
        missed: Missed::Skip,
        submit: definition(chain(), Value::Null),
    };
    sure(async || bed.engine.add_schedule(bed.workspace, new.clone(), "admin").await).await;
}

/// A workflow as it stands when whoever accepted it died before its start.
async fn store_unstarted(bed: &mut Bed) -> WorkflowKey {
    let submit = definition(chain(), Value::Null);
    let ready = sure(async || bed.engine.ready(bed.workspace, &submit).await).await;
    let key = WorkflowKey { workspace: bed.workspace, workflow: WorkflowId(Uuid::now_v7()) };
    let steps = (0..3).map(|step| StepRun::blocked(step, None)).collect();
    let run = Run { priority: 5, cancelled: false, steps, said: 0 };
    let write = AcceptWrite {
        key,
        definition: ready.definition_id(),
        name: "test".into(),
        template: None,
        priority: 5,
        idempotency_key: key.workflow.to_string(),
        request_hash: [0; 32],
        input: "null".into(),
        sealed: None,
        traceparent: None,
        actor: "producer".into(),
        version: 1 << 24,
        run: run.encode(),
    };
    sure(async || Ok(bed.engine.store().accept(vec![write.clone()]).await?)).await;
    bed.log.done("producer", &submitting(write.idempotency_key.clone()), told(key.workflow));
    bed.workflows.push((key, WorkflowState::Succeeded));
    key
}
