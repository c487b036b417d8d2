#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use galley_core::choice::{Weights, WhyNot};
use galley_core::money::Tokens;
use galley_core::report::Failure;
use serde_json::{Value, json};

use super::*;
use crate::testing::step;
use crate::{CallError, Desk, LookUp, PaidCall, Prices, Provider};

/// A provider that does what it is told, once each.
struct Stub {
    name: &'static str,
    does: Mutex<VecDeque<Result<&'static str, StepError>>>,
}

#[async_trait]
impl Provider for Stub {
    fn name(&self) -> &str {
        self.name
    }

    fn default_model(&self) -> &str {
        "m"
    }

    async fn complete(&self, request: &Request<'_>) -> Result<Answer, CallError> {
        let does = self.does.lock().unwrap().pop_front();
        match does {
            // It never answers.
            None => std::future::pending().await,
            Some(Err(error)) => Err(CallError::free(error)),
            Some(Ok(text)) => Ok(Answer {
                text: text.to_owned(),
                model: request.model.to_owned(),
                tokens_in: 10,
                tokens_out: 5,
                tokens_cached: 0,
                cut: false,
            }),
        }
    }
}

/// A desk with so much money, that writes down what it is asked for.
#[derive(Debug, Default)]
struct Purse {
    /// What it says there is room for.
    room: Option<u64>,
    /// What there is, for all calls together: somebody else was quicker.
    left: Option<Mutex<u64>>,
    /// An answer that was kept.
    kept: Option<&'static str>,
    log: Mutex<Vec<String>>,
}

#[async_trait]
impl Desk for Purse {
    async fn room(&self) -> Result<Option<u64>, StepError> {
        Ok(self.room)
    }

    async fn reserve(&self, call: PaidCall) -> Result<(), StepError> {
        if let Some(left) = &self.left {
            let mut left = left.lock().unwrap();
            let Some(rest) = left.checked_sub(call.bound_micros) else {
                return Err(StepError::unfunded("no room", call.bound_micros));
            };
            *left = rest;
        }
        self.log.lock().unwrap().push(format!("reserve {} {}", call.call, call.provider));
        Ok(())
    }

    async fn settle(&self, call: u16, cost: Option<u64>, _: Tokens) {
        self.log.lock().unwrap().push(format!("settle {call} {cost:?}"));
    }

    async fn known(&self, models: &[String]) -> Vec<Known> {
        vec![Known::default(); models.len()]
    }

    async fn weights(&self) -> Weights {
        Weights::default()
    }

    fn learn(&self, model: &str, _: bool, seen: Observed) {
        self.log.lock().unwrap().push(format!("learn {model} {}", seen.succeeded));
    }

    fn seed(&self) -> u64 {
        1
    }

    async fn look_up(&self, _: &[u8; 32], _: Duration) -> LookUp {
        let Some(output) = self.kept else { return LookUp::Yours };
        LookUp::Kept(Kept { output: output.into(), model: "m".into(), cost_micros: 9 })
    }

    async fn keep(&self, _: &[u8; 32], _: Kept, _: Duration) {}

    async fn let_go(&self, _: &[u8; 32]) {}
}

/// The first is dear, the second costs a tenth.
const PRICES: &str = "[\"first:m\"]\ninput = 10.0\noutput = 10.0\nmax_output = 100\n\
                      [\"second:m\"]\ninput = 1.0\noutput = 1.0\nmax_output = 100\n";

type Does = Vec<Result<&'static str, StepError>>;

/// Runs one step; answers with what came of it and with the purse's log.
async fn run(room: Option<u64>, first: Does, second: Does) -> (Result<StepOutput, StepError>, Vec<String>) {
    run_with(Purse { room, ..Purse::default() }, first, second).await
}

fn asker(first: Does, second: Does) -> LlmAgent {
    let mut providers = Providers::new(
        serde_json::from_value(json!({ "offline": { "enabled": false } })).unwrap(),
        Prices::parse("models.toml", PRICES).unwrap(),
    )
    .unwrap();
    providers.add(Stub { name: "first", does: Mutex::new(first.into()) });
    providers.add(Stub { name: "second", does: Mutex::new(second.into()) });
    let toml = "name = \"asker\"\ndescription = \"Asks.\"\nmodels = [\"first\", \"second\"]\n\
                [cache]\nttl_s = 60\n\
                [prompt]\nsystem = \"a\"\nuser = \"b\"\n[schema]\ninput = \"true\"\noutput = '{\"type\":\"object\"}'\n";
    let definition = Definition::parse("asker.toml", "asker", toml).unwrap();
    LlmAgent::new(definition, Arc::new(providers)).unwrap()
}

async fn run_with(purse: Purse, first: Does, second: Does) -> (Result<StepOutput, StepError>, Vec<String>) {
    let agent = asker(first, second);
    let purse = Arc::new(purse);
    let desk: Arc<dyn Desk> = Arc::clone(&purse) as _;
    let step = StepContext { desk, timeout: Duration::from_millis(200), ..step("asker", Value::Null) };
    let done = agent.run(step).await;
    let log = purse.log.lock().unwrap().clone();
    (done, log)
}

#[tokio::test]
async fn a_provider_that_fails_is_followed_by_the_next() {
    let failed = StepError::transient("provider_5xx", "the provider said 500");
    let (done, log) = run(None, vec![Err(failed)], vec![Ok("{}")]).await;
    let usage = done.unwrap().usage;
    // 15 tokens at a dollar a million.
    assert_eq!((usage.provider.as_deref(), usage.cost_micros), (Some("second"), 15));
    let note = usage.deliberation.unwrap();
    assert_eq!((note.model.as_str(), note.calls), ("first:m", 2));
    assert!(note.reason.contains("first:m failed (provider_5xx), so second:m was asked"), "{}", note.reason);
    assert_eq!(
        log,
        [
            "reserve 0 first",
            "settle 0 Some(0)",
            "learn first:m false",
            "reserve 1 second",
            "settle 1 Some(15)",
            "learn second:m true",
        ]
    );
}

#[tokio::test]
async fn a_refusal_is_nobody_elses_turn() {
    let refused = StepError::permanent("provider_auth", "the provider said 401");
    let (done, log) = run(None, vec![Err(refused)], vec![Ok("{}")]).await;
    assert_eq!(done.unwrap_err().class, "provider_auth");
    assert_eq!(log, ["reserve 0 first", "settle 0 Some(0)"]);
}

#[tokio::test]
async fn what_the_budget_has_no_room_for_is_not_chosen() {
    // The bound of the second fits, a tenth of the first's.
    let (done, _) = run(Some(2_000), Vec::new(), vec![Ok("{}")]).await;
    let note = done.unwrap().usage.deliberation.unwrap();
    assert_eq!(note.model, "second:m");
    assert_eq!(note.scores[0].why_not, Some(WhyNot::Budget), "{note:?}");

    let (done, log) = run(Some(5), Vec::new(), Vec::new()).await;
    let error = done.unwrap_err();
    assert!(matches!(error.failure, Failure::Unfunded { needed_micros: 101..2_000 }), "{error:?}");
    assert!(log.is_empty(), "nobody was asked: {log:?}");
}

#[tokio::test]
async fn a_call_that_is_never_answered_is_charged_at_its_bound() {
    let (done, log) = run(None, Vec::new(), Vec::new()).await;
    let error = done.unwrap_err();
    assert_eq!(error.class, "provider_timeout");
    assert!(error.usage.cost_micros > 1_000, "the bound is on the bill: {:?}", error.usage);
    assert_eq!(log, ["reserve 0 first", "settle 0 None", "learn first:m false"]);
}

/// Room that was there when the model was chosen is gone when its call is
/// reserved: one that costs less is asked, and if there is none, the step waits
/// for the money of the cheapest.
#[tokio::test]
async fn money_that_is_gone_by_then_leaves_the_cheaper_model() {
    let purse = |left| Purse { room: Some(1_000_000), left: Some(Mutex::new(left)), ..Purse::default() };
    let (done, log) = run_with(purse(2_000), vec![Ok("{}")], vec![Ok("{}")]).await;
    assert_eq!(log, ["reserve 0 second", "settle 0 Some(15)", "learn second:m true"]);
    let usage = done.unwrap().usage;
    assert_eq!((usage.provider.as_deref(), usage.deliberation.unwrap().calls), (Some("second"), 1));

    let (done, log) = run_with(purse(5), Vec::new(), Vec::new()).await;
    let error = done.unwrap_err();
    assert!(matches!(error.failure, Failure::Unfunded { needed_micros: 101..2_000 }), "{error:?}");
    assert!(log.is_empty(), "{log:?}");

    // What failed has cost nothing, so nothing is counted: it waits for money.
    let failed = StepError::transient("provider_5xx", "the provider said 500");
    let dear = Purse { left: Some(Mutex::new(4_500)), ..Purse::default() };
    let (done, _) = run_with(dear, vec![Err(failed)], vec![Ok("{}")]).await;
    assert!(matches!(done.unwrap_err().failure, Failure::Unfunded { .. }));
}

/// What was written and paid for is of no use and its repair has no money: that
/// is an attempt, or it would be paid for again each time there is some.
#[tokio::test]
async fn who_has_paid_for_nothing_useful_has_tried() {
    let purse = Purse { left: Some(Mutex::new(6_000)), ..Purse::default() };
    let (done, log) = run_with(purse, vec![Ok("[]")], Vec::new()).await;
    let error = done.unwrap_err();
    assert_eq!((error.class.as_str(), error.failure), ("bad_output", Failure::Transient), "{error}");
    assert!(error.message.contains("no money for its repair"), "{error}");
    assert_eq!(error.usage.cost_micros, 150);
    assert_eq!(log, ["reserve 0 first", "settle 0 Some(150)", "learn first:m false"]);
}

/// A kept answer is read like any other.
#[tokio::test]
async fn a_kept_answer_that_does_not_fit_is_not_given() {
    let kept = |kept| Purse { kept: Some(kept), ..Purse::default() };
    let (done, log) = run_with(kept("{\"a\": 1}"), Vec::new(), Vec::new()).await;
    let done = done.unwrap();
    assert_eq!((done.output.get(), done.usage.cache_hit), ("{\"a\":1}", true));
    assert!(log.is_empty(), "{log:?}");
    for unfit in ["[]", "no json"] {
        let (done, _) = run_with(kept(unfit), vec![Ok("{}")], Vec::new()).await;
        let done = done.unwrap();
        assert_eq!((done.output.get(), done.usage.cache_hit, done.usage.cost_micros), ("{}", false, 150));
    }
}

/// Providers are shared: steps that give them no time close them for nobody.
#[tokio::test]
async fn the_impatient_do_not_make_a_provider_rest() {
    let agent = asker(Vec::new(), Vec::new());
    for _ in 0..12 {
        let step = StepContext { timeout: Duration::from_millis(5), ..step("asker", Value::Null) };
        assert_eq!(agent.run(step).await.unwrap_err().class, "provider_timeout");
    }
}
