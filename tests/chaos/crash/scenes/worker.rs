//! A worker dies while it works; others do its work again.

use galley_core::automation::Mode;
use galley_core::run::WorkflowState;
use galley_preview::{FaultKind, FaultTarget, SetFault};
use serde_json::Value;

use super::{chain, only, two_posts};
use crate::Case;
use crate::bed::Bed;
use crate::cases::in_transaction;
use crate::child::{Child, How, Role, Work};
use crate::end;
use crate::servers::{sure, until};

/// The mortal worker's name.
const MORTAL: &str = "mortal";

/// What a worker that dies has to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// Chains with a step that fails once.
    Chains,
    /// The same; the worker also loses a session.
    Sessions,
    /// Steps that pay for calls.
    Paid,
    /// Steps that need a person's go.
    Manual,
    /// Posts.
    Posts { approval: bool },
    /// Posts whose first reply is lost, on a platform that can be asked.
    LostReplies,
}

/// Every kind of platform gets its share of the cases.
fn kind_of(case: Case) -> &'static str {
    let turn = case.point as usize + case.hit as usize + usize::from(case.how == How::Stop);
    ["idempotent", "verifiable", "blind"][turn % 3]
}

pub(crate) async fn worker(bed: &mut Bed, case: Case, load: Load) {
    bed.build_queues().await;
    bed.start_duties();
    match load {
        Load::Chains | Load::Sessions => {
            for _ in 0..2 {
                bed.submit(chain(), Value::Null, WorkflowState::Succeeded).await;
            }
        }
        Load::Paid => {
            for _ in 0..2 {
                bed.submit(only("payer"), Value::Null, WorkflowState::Succeeded).await;
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
    let mut taken = None;
    if case.how == How::Stop && case.hit == 1 && load == Load::Chains && !in_transaction(case.point) {
        // What it held is in other hands while it goes on: one step of each
        // chain. Its own reports about them come too late.
        let session = bed.session().await;
        bed.claim(&session, &["echo", "flaky"], 2).await;
        taken = Some(session);
    } else {
        bed.start_worker();
    }
    if case.how == How::Stop {
        if case.hit == 2 {
            end::settle(bed).await;
        }
        child.wake().await;
        until("the zombie begins anew", async || sessions(bed).await > 0).await;
        if let Some(session) = taken {
            sure(async || bed.engine.close_session(&session, "test").await).await;
            bed.start_worker();
        }
        end::settle(bed).await;
        child.end(true).await;
    }
    end::check(bed).await;
}

/// The mortal worker's open sessions.
async fn sessions(bed: &Bed) -> i64 {
    bed.count(&format!("SELECT count(*) FROM sessions WHERE worker = '{MORTAL}' AND closed_at IS NULL")).await
}
