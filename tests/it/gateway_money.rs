//! Workers outside pay for their calls within budgets: reserved before, settled
//! after, booked once, whatever is repeated, lost or late.

use galley_core::ids::WorkflowKey;
use galley_core::run::{StepState, WorkflowState};
use galley_engine::store::Store;
use serde_json::{Value, json};

use crate::harness::{Bed, Gateway, Python, Setup, until};

async fn day_budget(bed: &Bed, micros: u64) {
    let mut budget = bed.api.budget(bed.workspace, None).await.unwrap().row.budget;
    budget.day_micros = Some(micros);
    bed.api.set_budget(bed.workspace, budget, None, "admin").await.unwrap();
}

/// What every counter says was reserved and spent: they say the same.
async fn counted(bed: &Bed) -> (u64, u64) {
    let view = bed.api.budget(bed.workspace, None).await.unwrap();
    let counters: Vec<_> =
        view.counters.iter().map(|row| (row.counter.reserved, row.counter.spent)).collect();
    assert!(counters.windows(2).all(|two| two[0] == two[1]), "{counters:?}");
    counters.first().copied().unwrap_or_default()
}

async fn state_of(bed: &Bed, key: WorkflowKey) -> StepState {
    bed.api.workflow(key).await.unwrap().run.steps[0].state
}

fn reserve(step: &Value, call: u16, bound: u64) -> Value {
    json!({ "lease": step["lease"], "call": call, "provider": "bank", "model": "m", "boundMicros": bound })
}

fn settle(step: &Value, call: u16, cost: Option<u64>) -> Value {
    json!({ "lease": step["lease"], "call": call, "costMicros": cost, "tokensIn": 7, "tokensOut": 2 })
}

/// What the history says of attempts that did not succeed.
async fn attempts(bed: &Bed) -> Vec<String> {
    bed.texts("SELECT concat_ws(' ', outcome, class, cost_micros) FROM attempts ORDER BY ended_at").await
}

#[tokio::test]
async fn a_worker_outside_pays_within_its_budget_and_waits_for_money() {
    let mut bed = Bed::with(Setup { nervous: true, ..Setup::default() }).await;
    bed.start_duties();
    let gateway = Gateway::of(&bed).await;
    let token = gateway.token("a", &["outside"]);
    let session = gateway.connect(&token, "outside", 2).await;
    let hold = |step: &Value| json!({ "session": session, "holding": [step["lease"]] });
    day_budget(&bed, 1_000).await;
    let key = bed.submit(json!([{ "name": "only", "agent": "outside" }]), Value::Null).await;
    let step = gateway.lease_one(&token, &session).await;
    for _ in 0..2 {
        let told = gateway.call("reserve", &token, &reserve(&step, 0, 600)).await;
        assert_eq!(told, json!({ "reserved": true }));
        assert_eq!(counted(&bed).await, (600, 0), "reserved once");
    }
    for word in ["now", "before"] {
        let told = gateway.call("settle", &token, &settle(&step, 0, Some(500))).await;
        assert_eq!(told, json!({ "booked": word }));
        assert_eq!(counted(&bed).await, (0, 500), "booked once");
    }
    gateway.call("heartbeat", &token, &hold(&step)).await;

    // No room: it says where, and the step waits, without an attempt burnt.
    let refused = gateway.ask("reserve", Some(&token), &reserve(&step, 1, 600)).await;
    assert_eq!((refused.status, &refused.body["type"]), (402, &json!("urn:galley:problem:no-money")));
    let detail = refused.body["detail"].as_str().unwrap();
    assert!(detail.contains("$0.0006") && detail.contains("for the day 20"), "{detail}");
    assert!(detail.contains("`unfunded`") && detail.contains("`neededMicros` 600"), "{detail}");
    let poor = json!({ "lease": step["lease"], "class": "waiting_budget", "message": detail, "retry": "unfunded",
        "neededMicros": 600 });
    for _ in 0..2 {
        let told = gateway.call("fail", &token, &poor).await;
        assert_eq!(told["outcome"], "failed", "recorded, or recognised");
    }
    assert_eq!(state_of(&bed, key).await, StepState::WaitingBudget);
    assert_eq!(attempts(&bed).await, ["waiting_budget waiting_budget 500"], "history has the ledger's sum");
    let why = bed.api.why(key, None).await.unwrap();
    assert!(why.sentence.contains("waits for money"), "{why:?}");

    day_budget(&bed, 1_100).await;
    let step = gateway.lease_one(&token, &session).await;
    assert_eq!(step["attempt"], 1, "waiting for money is no attempt");
    gateway.call("reserve", &token, &reserve(&step, 0, 600)).await;
    // Nobody can know; then a bill comes after all, and it stands.
    for (cost, word, spent) in
        [(None, "now", 1_100), (None, "before", 1_100), (Some(200), "late", 700), (Some(300), "before", 700)]
    {
        let told = gateway.call("settle", &token, &settle(&step, 0, cost)).await;
        assert_eq!((told, counted(&bed).await), (json!({ "booked": word }), (0, spent)), "{cost:?}");
    }
    // It says nothing of the bill: what was settled is in the history.
    gateway.call("complete", &token, &json!({ "lease": step["lease"], "output": 1 })).await;
    let history = bed.finish(key, WorkflowState::Succeeded).await;
    let usage = &history.results[&0].usage;
    assert_eq!((usage.cost_micros, usage.tokens_in, usage.tokens_out), (200, 7, 2));
    assert_eq!((usage.provider.as_deref(), usage.model.as_deref()), (Some("bank"), Some("m")));

    // The same with what the example has, in Python.
    let _python = Python::payer(&gateway, &gateway.token("python", &["payer"]));
    until("it has registered its agent", || async {
        bed.count("SELECT count(*) FROM agents WHERE agent = 'payer'").await == 1
    })
    .await;
    let key = bed.submit(json!([{ "name": "only", "agent": "payer" }]), Value::Null).await;
    until("it waits for money", || async { state_of(&bed, key).await == StepState::WaitingBudget }).await;
    assert_eq!(counted(&bed).await, (0, 700));
    day_budget(&bed, 1_300).await;
    let history = bed.finish(key, WorkflowState::Succeeded).await;
    assert_eq!((history.results[&0].usage.cost_micros, counted(&bed).await), (250, (0, 950)));
    assert_eq!(history.workflow.run.steps[0].attempts, 1);

    // It says it waits for money that is there, such as the quota of a provider
    // of its own: it would be back at once, for ever. That is an attempt.
    let session = gateway.connect(&token, "outside", 2).await;
    let key = bed.submit(json!([{ "name": "only", "agent": "outside" }]), Value::Null).await;
    let waits = |step: &Value, needed: u64| {
        json!({ "lease": step["lease"], "class": "quota", "message": "mine is empty", "retry": "unfunded",
            "neededMicros": needed })
    };
    let step = gateway.lease_one(&token, &session).await;
    let nothing = gateway.ask("fail", Some(&token), &waits(&step, 0)).await;
    assert_eq!((nothing.status, &nothing.body["problems"][0]["at"]), (422, &json!("neededMicros")));
    let told = gateway.call("fail", &token, &waits(&step, 350)).await;
    assert!(told["message"].as_str().unwrap().contains("every budget had room"), "{told}");
    let step = gateway.lease_one(&token, &session).await;
    assert_eq!(step["attempt"], 2);
    let told = gateway.call("fail", &token, &waits(&step, 351)).await;
    assert_eq!(
        (&told["message"], state_of(&bed, key).await),
        (&json!("mine is empty"), StepState::WaitingBudget)
    );
    let log = attempts(&bed).await;
    assert_eq!(log[log.len() - 2..], ["failed quota 0", "waiting_budget quota 0"]);
    bed.api.cancel(key, "ada").await.unwrap();
    bed.end().await;
}

#[tokio::test]
async fn a_bill_is_booked_once_however_it_comes_and_whoever_holds_the_step() {
    let mut bed = Bed::with(Setup { nervous: true, ..Setup::default() }).await;
    bed.start_duties();
    let gateway = Gateway::of(&bed).await;
    let token = gateway.token("a", &["outside"]);
    let mut session = gateway.connect(&token, "outside", 2).await;
    day_budget(&bed, 2_000).await;
    let steps = || json!([{ "name": "only", "agent": "outside" }]);

    // Each is reported twice; `beyond` is what was never reserved.
    let mut spent = 0;
    for (what, settled, reported, beyond) in [
        ("settled, and reported", Some(500), 500, 0),
        ("settled, and not reported", Some(100), 0, 0),
        ("reported as less than was settled", Some(100), 60, 0),
        ("reported as more than was settled", Some(100), 140, 40),
        ("never reserved", None, 50, 50),
        ("never reserved, beyond the budget", None, 5_000, 5_000),
    ] {
        let alive =
            gateway.ask("heartbeat", Some(&token), &json!({ "session": session, "holding": [] })).await;
        if alive.status != 200 {
            session = gateway.connect(&token, "outside", 2).await;
        }
        let key = bed.submit(steps(), Value::Null).await;
        let step = gateway.lease_one(&token, &session).await;
        if let Some(cost) = settled {
            gateway.call("reserve", &token, &reserve(&step, 0, cost)).await;
            gateway.call("settle", &token, &settle(&step, 0, Some(cost))).await;
        }
        let done = json!({ "lease": step["lease"], "output": 1, "usage": { "costMicros": reported } });
        let failed = json!({ "lease": step["lease"], "class": "no", "message": "", "retry": "permanent",
            "usage": { "costMicros": reported } });
        // A failure's bill is as real.
        let (path, body) = if what.contains("more") { ("fail", failed) } else { ("complete", done) };
        for _ in 0..2 {
            gateway.call(path, &token, &body).await;
        }
        let all = settled.unwrap_or(0) + beyond;
        spent += all;
        assert_eq!(counted(&bed).await, (0, spent), "{what}");
        let told = bed
            .text(
                "SELECT cost_micros::text FROM (SELECT cost_micros, finished_at AS at FROM results
                  UNION ALL SELECT cost_micros, ended_at FROM attempts) a ORDER BY at DESC LIMIT 1",
            )
            .await;
        assert_eq!(told, all.to_string(), "{what}: history and ledger tell one story");
        if path == "fail" {
            bed.api.cancel(key, "ada").await.unwrap();
        }
    }
    let rows = "SELECT count(*) FROM spend WHERE call = -1 AND state = 'settled' AND reserved_micros = 0";
    assert_eq!(bed.count(rows).await, 3);
    day_budget(&bed, 20_000).await;

    // Taken from it: it makes no call any more, and its bills are real.
    session = gateway.connect(&token, "outside", 2).await;
    let key = bed.submit(steps(), Value::Null).await;
    let stale = gateway.lease_one(&token, &session).await;
    gateway.call("reserve", &token, &reserve(&stale, 0, 400)).await;
    gateway.call("give-back", &token, &json!({ "leases": [stale["lease"]] })).await;
    for call in [0, 1] {
        let refused = gateway.ask("reserve", Some(&token), &reserve(&stale, call, 1)).await;
        assert_eq!((refused.status, &refused.body["type"]), (409, &json!("urn:galley:problem:overtaken")));
    }
    assert_eq!(counted(&bed).await, (400, spent));
    let told = gateway.call("settle", &token, &settle(&stale, 0, Some(300))).await;
    assert_eq!((told, counted(&bed).await), (json!({ "booked": "now" }), (0, spent + 300)));
    let never = gateway.ask("settle", Some(&token), &settle(&stale, 7, Some(9))).await;
    assert_eq!((never.status, &never.body["type"]), (409, &json!("urn:galley:problem:not-reserved")));

    // It dies in the middle of a call: charged at its bound, until its bill
    // comes. What it reports of another that was open is not booked twice.
    let dead = gateway.lease_one(&token, &session).await;
    let refused = gateway.ask("reserve", Some(&token), &reserve(&stale, 1, 1)).await;
    assert_eq!(refused.status, 409, "it runs, for somebody else");
    gateway.call("reserve", &token, &reserve(&dead, 0, 700)).await;
    gateway.call("reserve", &token, &reserve(&dead, 1, 90)).await;
    until("its calls are charged", || async { counted(&bed).await == (0, spent + 300 + 790) }).await;
    for (call, cost, now) in [(0, 200, 290), (1, 95, 295)] {
        gateway.call("settle", &token, &settle(&dead, call, Some(cost))).await;
        assert_eq!(counted(&bed).await, (0, spent + 300 + now));
    }
    let late = json!({ "lease": dead["lease"], "output": 1, "usage": { "costMicros": 295 } });
    assert_eq!(gateway.ask("complete", Some(&token), &late).await.status, 409);
    assert_eq!(counted(&bed).await, (0, spent + 595));
    assert_eq!(bed.text("SELECT cost_micros::text FROM attempts WHERE outcome = 'crashed'").await, "295");

    // Reported while a call is open: that is among it.
    session = gateway.connect(&token, "outside", 2).await;
    let open = gateway.lease_one(&token, &session).await;
    gateway.call("reserve", &token, &reserve(&open, 0, 80)).await;
    let done = json!({ "lease": open["lease"], "output": 1, "usage": { "costMicros": 70 } });
    gateway.call("complete", &token, &done).await;
    bed.finish(key, WorkflowState::Succeeded).await;
    assert_eq!(counted(&bed).await, (80, spent + 595));
    gateway.call("settle", &token, &settle(&open, 0, Some(70))).await;
    assert_eq!(counted(&bed).await, (0, spent + 665));

    // Its workspace is erased meanwhile: nothing of it comes back.
    let other = bed.engine.create_workspace("other", 1, "test").await.unwrap().id;
    bed.submit_in(other, steps(), Value::Null).await;
    let erased = gateway.lease_one(&token, &session).await;
    gateway.call("reserve", &token, &reserve(&erased, 0, 80)).await;
    let owner = Store::connect(&bed.database_url, 1).unwrap();
    owner.erase_workspace(other, "ada".into()).await.unwrap();
    for (path, body) in [
        ("reserve", reserve(&erased, 1, 80)),
        ("settle", settle(&erased, 0, Some(70))),
        ("complete", json!({ "lease": erased["lease"], "output": 1, "usage": { "costMicros": 70 } })),
    ] {
        assert_eq!(gateway.ask(path, Some(&token), &body).await.status, 409, "{path}");
    }
    for table in ["spend", "budget_counters"] {
        let left = format!("SELECT count(*) FROM {table} WHERE workspace_id = '{other}'");
        assert_eq!(bed.count(&left).await, 0, "{table}");
    }
    bed.end().await;
}
