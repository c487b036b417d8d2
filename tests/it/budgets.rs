//! Nothing over budget: true spend, by the provider's own ledger, stays below
//! every limit, whoever races for the last cent; a step without money waits and
//! goes on by itself; the same question is paid for once.

use std::sync::Arc;

use galley_core::ids::WorkflowKey;
use galley_core::money::{Budget, Tokens};
use galley_core::run::{StepState, WorkflowState};
use galley_engine::store::SpendBy;
use galley_engine::{Funding, NewCall, Outcome, Report, Submit};
use serde_json::json;

use crate::harness::{Agents, Bed, DIALECTS, Does, Latch, Ledger, Service, Setup, answer, retry, until};

/// An agent that asks the service; what goes into its prompt is the step's
/// brief.
fn asker(service: &Service, more: &str) -> Agents {
    let toml = format!(
        "name = \"asker\"\ndescription = \"Asks.\"\nmodels = [\"openai\"]\n{more}
         [sampling]\nmax_tokens = 50\n
         [limits]\nmax_attempts = 3\nbackoff_ms = 10\nmax_backoff_ms = 50\ntimeout_ms = 30000\n
         [prompt]\nsystem = \"Be brief.\"\nuser = \"{{{{ brief.n }}}}\"\n
         [schema]\ninput = \"true\"\noutput = '{{\"type\":\"object\",\"required\":[\"ok\"]}}'\n"
    );
    Agents::default().with_definition("asker", &toml, &service.providers())
}

fn says() -> Does {
    Does::Says("{\"ok\": true}".into())
}

async fn budget(bed: &Bed, change: impl FnOnce(&mut Budget)) {
    let mut budget = bed.api.budget(bed.workspace, None).await.unwrap().row.budget;
    change(&mut budget);
    bed.api.set_budget(bed.workspace, budget, None, "admin").await.unwrap();
}

async fn ask(bed: &Bed, n: usize) -> WorkflowKey {
    bed.submit(json!([{ "name": "ask", "agent": "asker" }]), json!({ "n": n })).await
}

/// Nothing is reserved any more, and what Galley booked is what the provider
/// charged.
async fn books_agree(bed: &Bed, service: &Service) {
    until("nothing is reserved", async || {
        let view = bed.api.budget(bed.workspace, None).await.unwrap();
        view.counters.iter().all(|counter| counter.counter.reserved == 0)
    })
    .await;
    let view = bed.api.budget(bed.workspace, None).await.unwrap();
    let ledger = service.ledger();
    for counter in &view.counters {
        assert_eq!(counter.counter.spent, ledger.micros, "{counter:?}");
    }
    let (_, _, _, rows) = bed.api.spend(bed.workspace, SpendBy::Agent, None, None).await.unwrap();
    let booked: (u64, i64, i64) = rows
        .iter()
        .fold((0, 0, 0), |sum, row| (sum.0 + row.cost_micros, sum.1 + row.tokens_in, sum.2 + row.tokens_out));
    assert_eq!(booked, (ledger.micros, ledger.tokens.input.into(), ledger.tokens.output.into()));
}

async fn state_of(bed: &Bed, key: WorkflowKey) -> StepState {
    bed.api.workflow(key).await.unwrap().run.steps[0].state
}

/// Eight workers, a hundred steps, and money for a few of them.
#[tokio::test(flavor = "multi_thread")]
async fn eight_workers_race_for_the_last_cent() {
    let service = Service::start(says()).await;
    let mut bed = Bed::with(Setup { nervous: true, ..Setup::default() }).await;
    let agents = asker(&service, "");
    bed.start_duties();
    bed.register(&agents).await;
    // Before anything is asked: what a call may cost at most is 50 tokens out
    // and its prompt's bytes in.
    let limit = 6_000;
    budget(&bed, |budget| budget.day_micros = Some(limit)).await;
    for _ in 0..8 {
        bed.start_worker(&agents, 4).await;
    }
    let mut keys = Vec::new();
    for n in 0..60 {
        keys.push(ask(&bed, n).await);
    }
    until("every step is done or waits for money", async || {
        let mut still = 0;
        for key in &keys {
            let step = state_of(&bed, *key).await;
            still += usize::from(!matches!(step, StepState::Succeeded | StepState::WaitingBudget));
        }
        still == 0
    })
    .await;
    let ledger = service.ledger();
    assert!(ledger.micros <= limit, "{} of {limit} were spent", ledger.micros);
    assert!(ledger.completions > 5 && ledger.completions < 60, "{} calls", ledger.completions);
    books_agree(&bed, &service).await;
    let mut poor = keys[0];
    for key in &keys {
        if state_of(&bed, *key).await == StepState::WaitingBudget {
            poor = *key;
        }
    }
    let why = bed.api.why(poor, None).await.unwrap();
    assert!(
        why.sentence.contains("waits for money") && why.sentence.contains("galley budget set"),
        "{why:?}"
    );

    // Raised: all go on by themselves, and not one call more than needed.
    budget(&bed, |budget| budget.day_micros = Some(10_000_000)).await;
    for key in &keys {
        let history = bed.finish(*key, WorkflowState::Succeeded).await;
        // Waiting for money is no attempt.
        assert_eq!(history.workflow.run.steps[0].attempts, 1);
    }
    assert_eq!(service.ledger().completions, keys.len());
    books_agree(&bed, &service).await;
    bed.end().await;
}

/// A workflow's own limit, a repair that has no money, a lowered limit, a
/// cancel: each waits or ends as it should.
#[tokio::test]
async fn a_workflow_stops_at_its_own_limit_and_goes_on_when_that_is_raised() {
    let service = Service::start(says()).await;
    let mut bed = Bed::with(Setup { nervous: true, ..Setup::default() }).await;
    bed.serve(&asker(&service, "")).await;
    budget(&bed, |budget| budget.workflow_micros = Some(10)).await;
    let (first, second) = (ask(&bed, 1).await, ask(&bed, 2).await);
    for key in [first, second] {
        until("it waits for money", async || state_of(&bed, key).await == StepState::WaitingBudget).await;
        assert_eq!(bed.api.workflow(key).await.unwrap().state, WorkflowState::Waiting);
    }
    assert_eq!(service.ledger().completions, 0);
    // One is given its own limit, the other is cancelled while it waits.
    bed.api.set_workflow_budget(first, Some(1_000_000), "admin").await.unwrap();
    bed.finish(first, WorkflowState::Succeeded).await;
    bed.api.cancel(second, "ana").await.unwrap();
    bed.finish(second, WorkflowState::Cancelled).await;
    assert_eq!(bed.count("SELECT count(*) FROM budget_waits").await, 0);

    // The answer does not fit, and the repair's bound has no room any more.
    service.next([Does::Says("{}".into())]);
    let third = ask(&bed, 3).await;
    let view = bed.api.budget(bed.workspace, Some(third)).await.unwrap();
    assert_eq!(view.counters.len(), 3);
    bed.api.set_workflow_budget(third, Some(1_200), "admin").await.unwrap();
    until("it waits for money in the middle", async || {
        state_of(&bed, third).await == StepState::WaitingBudget && service.ledger().completions == 2
    })
    .await;
    bed.api.set_workflow_budget(third, None, "admin").await.unwrap();
    budget(&bed, |budget| budget.workflow_micros = None).await;
    let history = bed.finish(third, WorkflowState::Succeeded).await;
    let cost: u64 = history.attempts.iter().map(|attempt| attempt.usage.cost_micros).sum::<u64>()
        + history.results[&0].usage.cost_micros;
    let (_, _, _, rows) = bed.api.spend(bed.workspace, SpendBy::Workflow, None, None).await.unwrap();
    let booked = rows.iter().find(|row| row.name == third.workflow.to_string()).unwrap();
    assert_eq!(cost, booked.cost_micros, "history and ledger tell one story");
    books_agree(&bed, &service).await;
    bed.end().await;
}

/// What goes wrong in a call: refused and free, lost and charged at its bound,
/// throttled without an attempt, repaired.
#[tokio::test]
async fn each_outcome_is_billed_as_what_it_is() {
    let service = Service::start(says()).await;
    let mut bed = Bed::with(Setup { nervous: true, ..Setup::default() }).await;
    bed.serve(&asker(&service, "")).await;
    budget(&bed, |budget| budget.day_micros = Some(10_000_000)).await;
    service.next([
        Does::Refuses("500 Internal Server Error", ""),
        Does::Refuses("429 Too Many Requests", "retry-after-ms: 20\r\n"),
        Does::Says("no json".into()),
        says(),
    ]);
    let key = ask(&bed, 1).await;
    let history = bed.finish(key, WorkflowState::Succeeded).await;
    assert_eq!(history.workflow.run.steps[0].attempts, 2, "the 500 counts, the 429 does not");
    let note = &history.deliberations.last().unwrap().deliberation;
    assert_eq!((note.model.as_str(), note.calls), ("openai:m", 2));
    books_agree(&bed, &service).await;

    // The connection is lost after the question: nobody can know.
    service.next([Does::HangsUp]);
    let before = service.ledger().micros;
    let key = ask(&bed, 2).await;
    bed.finish(key, WorkflowState::Succeeded).await;
    let (_, _, _, rows) = bed.api.spend(bed.workspace, SpendBy::Day, None, None).await.unwrap();
    assert!(rows[0].estimated_micros > 0, "{rows:?}");
    let lost = service.ledger().micros - before;
    assert!(rows[0].cost_micros >= before + lost, "an estimate is never below what was charged");
    bed.end().await;
}

/// A worker dies during a call: the step runs again elsewhere, there is one
/// result, and the first bill is on the ledger at its bound, until a better one
/// comes.
#[tokio::test]
async fn a_worker_that_dies_in_a_call_leaves_its_bill() {
    let service = Service::start(says()).await;
    let mut bed = Bed::with(Setup { nervous: true, ..Setup::default() }).await;
    let agents = asker(&service, "");
    bed.register(&agents).await;
    let key = ask(&bed, 1).await;
    let session = bed.session().await;
    let claim = bed.claim_one(&session, "asker").await;
    let call = NewCall { call: 0, provider: "openai".into(), model: "m".into(), bound_micros: 5_000 };
    // Told twice: the second finds the first.
    for _ in 0..2 {
        assert_eq!(bed.engine.reserve_call(&claim, call.clone()).await.unwrap(), Funding::Reserved);
    }
    let reserved = bed.api.budget(bed.workspace, Some(key)).await.unwrap();
    assert!(reserved.counters.iter().all(|counter| counter.counter.reserved == 5_000), "{reserved:?}");
    // Another call of a number that is taken is not that call.
    let dearer = NewCall { bound_micros: 5_001, ..call.clone() };
    assert_eq!(bed.engine.reserve_call(&claim, dearer).await.unwrap(), Funding::Taken);
    let free = NewCall { call: 7, bound_micros: 10, ..call.clone() };
    assert_eq!(bed.engine.reserve_call(&claim, free.clone()).await.unwrap(), Funding::Reserved);
    bed.engine.settle_call(&claim, 7, Some(0), Tokens::default()).await.unwrap();
    assert_eq!(bed.engine.reserve_call(&claim, free).await.unwrap(), Funding::Taken);
    // More calls than are looked at in one go are under way elsewhere, and older.
    let later = ask(&bed, 2).await;
    let busy = bed.session().await;
    let long = bed.claim_one(&busy, "asker").await;
    bed.execute(&format!(
        "INSERT INTO spend (workspace_id, workflow_id, step, epoch, nonce, call, session, step_name, agent, provider,
                            model, day, reserved_micros, reserved_at)
         SELECT '{}', '{}', {}, {}, {}, n, {}, 'only', 'asker', 'openai', 'm', current_date, 0,
                galley_now() - interval '1 hour'
           FROM generate_series(1, 450) AS n",
        long.ticket.workspace,
        long.ticket.workflow,
        long.token.step,
        long.token.epoch,
        long.token.nonce.0 as i64,
        busy.id().0
    ))
    .await;
    bed.engine.store().close_session(session.id(), None, "killed").await.unwrap();
    drop(session);

    bed.serve(&agents).await;
    bed.finish(key, WorkflowState::Succeeded).await;
    assert_eq!(
        bed.count(&format!("SELECT count(*) FROM results WHERE workflow_id = '{}'", key.workflow)).await,
        1
    );
    until("the lost call is charged at its bound", async || {
        bed.count("SELECT count(*) FROM spend WHERE state = 'estimated' AND cost_micros = 5000").await == 1
    })
    .await;
    // It was only stopped: it may not call again, and its real bill counts.
    let more = NewCall { call: 1, ..call };
    assert_eq!(bed.engine.reserve_call(&claim, more).await.unwrap(), Funding::Overtaken);
    let tokens = Tokens { input: 9, cached: 0, output: 1 };
    for _ in 0..2 {
        bed.engine.settle_call(&claim, 0, Some(26), tokens).await.unwrap();
    }
    let view = bed.api.budget(bed.workspace, Some(key)).await.unwrap();
    for counter in &view.counters {
        assert_eq!((counter.counter.reserved, counter.counter.spent), (0, service.ledger().micros + 26));
    }
    bed.engine.complete(&[Report::of(&long, 0, Outcome::GivenBack)]).await.unwrap();
    bed.finish(later, WorkflowState::Succeeded).await;

    // A bill beyond its bound is real, too: booked as it is, beyond the limit if
    // need be, and then there is room for nothing.
    let spent = bed.api.budget(bed.workspace, None).await.unwrap().counters[0].counter.spent;
    budget(&bed, |budget| budget.day_micros = Some(spent + 5_000)).await;
    let by_hand = Agents::default().with("by_hand", retry(1), |_| async { answer(&json!({})) });
    bed.register(&by_hand).await;
    let second = bed.submit(json!([{ "name": "ask", "agent": "by_hand" }]), json!({})).await;
    let session = bed.session().await;
    let claim = bed.claim_one(&session, "by_hand").await;
    let call = NewCall { call: 0, provider: "openai".into(), model: "m".into(), bound_micros: 5_000 };
    assert_eq!(bed.engine.reserve_call(&claim, call).await.unwrap(), Funding::Reserved);
    bed.engine.settle_call(&claim, 0, Some(9_000), tokens).await.unwrap();
    let view = bed.api.budget(bed.workspace, None).await.unwrap();
    assert_eq!((view.counters[0].counter.reserved, view.counters[0].counter.spent), (0, spent + 9_000));
    assert_eq!(bed.engine.money_left(second).await.unwrap(), Some(0));
    bed.api.cancel(second, "ada").await.unwrap();
    bed.engine.store().close_session(session.id(), None, "done").await.unwrap();
    bed.end().await;
}

/// A call that goes on and on ends at once when nobody waits for it any more:
/// its step is cancelled, or its worker lost the session. What it cost nobody
/// knows, so it is charged at its bound.
#[tokio::test]
async fn a_long_call_ends_with_its_step_and_with_its_session() {
    let service = Service::start(says()).await;
    // A session that a busy machine loses by itself would be a second crash.
    let mut bed = Bed::new().await;
    bed.serve(&asker(&service, "")).await;
    service.next([Does::NeverEnds]);
    let key = ask(&bed, 1).await;
    until("it is answered, and answered", async || service.ledger().begun == 1).await;
    bed.api.cancel(key, "ana").await.unwrap();
    until("its caller is gone", async || service.ledger().hung_up == 1).await;
    bed.finish(key, WorkflowState::Cancelled).await;

    service.next([Does::NeverEnds]);
    let key = ask(&bed, 2).await;
    until("another is answered, and answered", async || service.ledger().begun == 2).await;
    let sessions = bed.engine.store().list_sessions().await.unwrap();
    let session = sessions.iter().find(|session| session.closed_at.is_none()).unwrap().id;
    assert!(bed.engine.store().close_session(session, None, "silent").await.unwrap());
    until("its caller is gone, too", async || service.ledger().hung_up == 2).await;
    // The worker goes on under a new session, and the step with it.
    let history = bed.finish(key, WorkflowState::Succeeded).await;
    assert_eq!(history.workflow.run.steps[0].crashes, 1);
    assert_eq!((bed.count("SELECT count(*) FROM results").await, service.ledger().completions), (1, 1));
    until("both are charged at their bound", async || {
        bed.count("SELECT count(*) FROM spend WHERE state = 'estimated' AND cost_micros = reserved_micros")
            .await
            == 2
    })
    .await;
    assert_eq!(bed.count("SELECT count(*) FROM spend WHERE state = 'reserved'").await, 0);
    bed.end().await;
}

/// Fifty who ask the same at once cost one call; asked again, it costs none.
#[tokio::test]
async fn the_same_question_is_paid_for_once() {
    let service = Service::start(says()).await;
    // A session that is lost would hang up on the call, and another ask.
    let mut bed = Bed::new().await;
    let agents = asker(&service, "[cache]\nttl_s = 3600\n");
    bed.start_duties();
    for _ in 0..2 {
        bed.start_worker(&agents, 32).await;
    }
    let latch = Latch::closed();
    service.next([Does::Waits(latch.clone(), "{\"ok\": true}".into())]);
    let mut keys = Vec::new();
    for _ in 0..50 {
        keys.push(ask(&bed, 7).await);
    }
    until("somebody asks", async || service.ledger().prompts.len() == 1).await;
    latch.open();
    for key in &keys {
        bed.finish(*key, WorkflowState::Succeeded).await;
    }
    assert_eq!(service.ledger().completions, 1);
    // What is kept costs nothing: there need not be money for it.
    budget(&bed, |budget| budget.day_micros = Some(1)).await;
    let again = bed.finish(ask(&bed, 7).await, WorkflowState::Succeeded).await;
    let usage = &again.results[&0].usage;
    assert_eq!((usage.cache_hit, usage.cost_micros, usage.tokens_in), (true, 0, 0));
    assert_eq!(service.ledger().completions, 1);
    let savings = bed.api.savings(bed.workspace).await.unwrap();
    assert_eq!((savings.kept, savings.hits), (1, 50));
    assert_eq!(savings.saved_micros, 50 * service.ledger().micros);
    books_agree(&bed, &service).await;
    bed.end().await;
}

/// The whole campaign of the built-in agents, streamed in every dialect: what
/// its history says it cost is what the provider charged, and the same brief
/// again costs nothing.
#[tokio::test]
async fn a_campaign_costs_what_the_provider_says_in_every_dialect_and_once() {
    let service = Service::start(Does::Campaigns).await;
    let mut bed = Bed::with(Setup { nervous: true, ..Setup::default() }).await;
    bed.start_duties();
    budget(&bed, |budget| budget.day_micros = Some(10_000_000)).await;
    let mut keys = Vec::new();
    for dialect in DIALECTS {
        let providers = service.providers_in(dialect);
        let agents = Agents::default()
            .with_definition("strategy", include_str!("../../agents/strategy.toml"), &providers)
            .with_definition("content_creator", include_str!("../../agents/content_creator.toml"), &providers)
            .with_definition("reviewer", include_str!("../../agents/reviewer.toml"), &providers);
        let worker = bed.spawn_worker(&agents, 16).await;
        campaign_twice(&bed, &service, dialect.0).await;
        worker.drain().await;
        let key = (dialect.0 != "ollama").then(|| "sk-test".to_owned());
        keys.extend(std::iter::repeat_n(key, 4));
    }
    let ledger = service.ledger();
    assert_eq!((ledger.completions, ledger.streamed), (16, 16), "every answer came as a stream");
    assert_eq!(ledger.keys, keys);
    books_agree(&bed, &service).await;
    bed.end().await;
}

async fn campaign_twice(bed: &Bed, service: &Service, dialect: &str) {
    let submit = Submit {
        template: Some("campaign".into()),
        definition: None,
        input: json!({
            "product": "Lantern", "goals": ["sell"], "audience": "all", "platforms": ["x", "mastodon"],
        }),
        priority: None,
    };
    let mut paid = 0;
    for costs in [true, false] {
        let before = service.ledger();
        let submitted = bed.api.submit(&bed.context(), &submit).await.unwrap();
        let key = WorkflowKey { workspace: bed.workspace, workflow: submitted.workflow };
        let history = bed.finish(key, WorkflowState::Succeeded).await;
        let results = history.results.values().map(|result| &result.usage);
        let told = results.fold((0, 0), |sum, usage| {
            (sum.0 + usage.cost_micros, sum.1 + u64::from(usage.tokens_in) + u64::from(usage.tokens_out))
        });
        let ledger = service.ledger();
        let tokens = |ledger: &Ledger| u64::from(ledger.tokens.input) + u64::from(ledger.tokens.output);
        let charged = (ledger.micros - before.micros, tokens(&ledger) - tokens(&before));
        assert_eq!(told, charged, "{dialect}");
        assert_eq!(told.0 > 0, costs, "{dialect}: {told:?}");
        assert!(history.results.values().all(|result| result.usage.provider.as_deref() == Some(dialect)));
        assert!(costs || history.results.values().all(|result| result.usage.cache_hit), "{dialect}");
        assert_eq!(history.deliberations.len(), 4, "{dialect}: strategy, two posts, review");
        let saved: u64 = history.deliberations.iter().map(|row| row.deliberation.saved_micros).sum();
        assert_eq!(saved, if costs { 0 } else { paid }, "the second time saves what the first has cost");
        paid = told.0;
    }
}

/// A model without a price is for those who have no budget.
#[tokio::test]
async fn what_nobody_knows_the_price_of_is_not_free() {
    let service = Service::start(says()).await;
    let mut bed = Bed::with(Setup { nervous: true, ..Setup::default() }).await;
    let unpriced = service.providers_with(Default::default());
    let toml = "name = \"asker\"\ndescription = \"Asks.\"\nmodels = [\"openai\"]\n[prompt]\nsystem = \"a\"\nuser = \"b\"\n[schema]\ninput = \"true\"\noutput = \"true\"\n";
    bed.serve(&Agents::default().with_definition("asker", toml, &Arc::clone(&unpriced))).await;
    bed.finish(ask(&bed, 1).await, WorkflowState::Succeeded).await;
    budget(&bed, |budget| budget.month_micros = Some(1_000_000)).await;
    let key = ask(&bed, 2).await;
    let history = bed.finish(key, WorkflowState::Stalled).await;
    assert_eq!(history.attempts[0].class, "unknown_price");
    assert!(history.attempts[0].message.contains("openai:m"), "{:?}", history.attempts[0]);
    assert_eq!(service.ledger().completions, 1);
    bed.api.cancel(key, "ana").await.unwrap();
    bed.end().await;
}
