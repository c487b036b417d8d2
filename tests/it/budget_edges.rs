//! Where budgets end: who is warned and when, who waits behind whom, what a call
//! came to that ran out of its step's time, and sums of more than is listed.

use galley_core::ids::WorkflowKey;
use galley_core::money::{Budget, Tokens};
use galley_core::run::{StepState, WorkflowState};
use galley_engine::store::SpendBy;
use galley_engine::{Funding, NewCall, Outcome, Report};
use serde_json::json;

use crate::harness::{Agents, Bed, Does, Service, Setup, answer, retry, until};

async fn budget(bed: &Bed, budget: Budget) {
    bed.api.set_budget(bed.workspace, budget, None, "admin").await.unwrap();
}

/// The bill that crosses the threshold warns, for there may be no call after
/// it; once per period, and again when the limit is another.
#[tokio::test]
async fn the_bill_that_crosses_the_threshold_warns_once_per_limit() {
    let bed = Bed::new().await;
    let by_hand = Agents::default().with("by_hand", retry(1), |_| async { answer(&json!({})) });
    bed.register(&by_hand).await;
    budget(&bed, Budget { day_micros: Some(10_000), ..Budget::default() }).await;
    bed.submit(json!([{ "name": "ask", "agent": "by_hand" }]), json!({})).await;
    let session = bed.session().await;
    let claim = bed.claim_one(&session, "by_hand").await;
    let warned = "SELECT count(*) FROM audit WHERE action = 'budget.warned'";
    let pay = async |call: u16, cost: u64| {
        let new = NewCall { call, provider: "openai".into(), model: "m".into(), bound_micros: 9_000 };
        assert_eq!(bed.engine.reserve_call(&claim, new).await.unwrap(), Funding::Reserved);
        assert_eq!(bed.count(warned).await, i64::from(call), "what is only reserved is not spent");
        // Told twice: it is booked once.
        for _ in 0..2 {
            bed.engine.settle_call(&claim, call, Some(cost), Tokens::default()).await.unwrap();
        }
    };
    pay(0, 8_500).await;
    assert_eq!(bed.count(warned).await, 1, "nothing fits any more, and nobody was told");
    budget(&bed, Budget { day_micros: Some(20_000), ..Budget::default() }).await;
    pay(1, 8_000).await;
    assert_eq!(bed.count(warned).await, 2, "the new limit is nearly used, too");
    pay_more(&bed, &claim).await;
    assert_eq!(bed.count(warned).await, 2, "once per period and limit");

    // More workflows than are listed: what they come to is the sum of all.
    bed.execute(&format!(
        "INSERT INTO spend (workspace_id, workflow_id, step, epoch, nonce, call, session, step_name, agent, provider,
                            model, day, state, reserved_micros, cost_micros)
         SELECT '{}', gen_random_uuid(), 0, 1, 1, 0, 1, 'ask', 'by_hand', 'openai', 'm', day, 'settled', 1, 1
           FROM generate_series(1, 1200), (SELECT day FROM spend LIMIT 1) AS d",
        bed.workspace
    ))
    .await;
    let (_, _, total, rows) = bed.api.spend(bed.workspace, SpendBy::Workflow, None, None).await.unwrap();
    assert_eq!((total, rows.len()), (8_500 + 8_000 + 100 + 1_200, 1_000));
    bed.engine.complete(&[Report::of(&claim, 0, Outcome::GivenBack)]).await.unwrap();
    bed.engine.store().close_session(session.id(), None, "done").await.unwrap();
    for key in bed.live().await {
        bed.api.cancel(key, "ana").await.unwrap();
    }
    bed.end().await;
}

async fn pay_more(bed: &Bed, claim: &galley_engine::Claimed) {
    let new = NewCall { call: 2, provider: "openai".into(), model: "m".into(), bound_micros: 200 };
    assert_eq!(bed.engine.reserve_call(claim, new).await.unwrap(), Funding::Reserved);
    bed.engine.settle_call(claim, 2, Some(100), Tokens::default()).await.unwrap();
}

/// However many wait at the limits of their own workflows: who has money goes
/// on. And what a call came to that ran out of its step's time is in history as
/// it is on the ledger.
#[tokio::test]
async fn nobody_waits_behind_those_that_have_no_money() {
    let service = Service::start(Does::Says("{\"ok\": true}".into())).await;
    let mut bed = Bed::with(Setup { nervous: true, ..Setup::default() }).await;
    let toml = "name = \"asker\"\ndescription = \"Asks.\"\nmodels = [\"openai\"]\n\
         [limits]\nbackoff_ms = 10\nmax_backoff_ms = 50\ntimeout_ms = 700\n\
         [prompt]\nsystem = \"Be brief.\"\nuser = \"Hello.\"\n[schema]\ninput = \"true\"\noutput = \"true\"\n";
    bed.serve(&Agents::default().with_definition("asker", toml, &service.providers())).await;
    budget(&bed, Budget { workflow_micros: Some(10), ..Budget::default() }).await;
    bed.execute(&format!(
        "INSERT INTO budget_waits (workspace_id, workflow_id, step, epoch, needed_micros, since)
         SELECT '{}', gen_random_uuid(), 0, 3, 11, galley_now() - interval '1 day' FROM generate_series(1, 4100)",
        bed.workspace
    ))
    .await;
    let key: WorkflowKey = bed.submit(json!([{ "name": "ask", "agent": "asker" }]), json!({})).await;
    until("it waits for money", async || {
        bed.api.workflow(key).await.unwrap().run.steps[0].state == StepState::WaitingBudget
    })
    .await;
    assert_eq!(bed.api.budget(bed.workspace, None).await.unwrap().waiting, 4_101);
    service.next([Does::NeverEnds]);
    bed.api.set_workflow_budget(key, Some(1_000_000), "admin").await.unwrap();
    let history = bed.finish(key, WorkflowState::Succeeded).await;

    let attempts: Vec<_> = history.attempts.iter().map(|attempt| attempt.class.as_str()).collect();
    assert_eq!(attempts, ["waiting_budget", "provider_timeout"]);
    let (_, _, booked, rows) = bed.api.spend(bed.workspace, SpendBy::Workflow, None, None).await.unwrap();
    assert!(rows[0].estimated_micros > 0, "nobody knows what the call came to: {rows:?}");
    let told: u64 = history.attempts.iter().map(|attempt| attempt.usage.cost_micros).sum();
    assert_eq!(told + history.results[&0].usage.cost_micros, booked, "history and ledger tell one story");
    bed.execute("DELETE FROM budget_waits").await;
    bed.end().await;
}
