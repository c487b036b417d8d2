//! A call that nobody waits for any more, at each of its stages: what was
//! reserved is given back or charged, never both and never neither.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use galley_core::choice::{Observed, Weights};
use galley_core::ids::WorkspaceId;
use serde_json::json;
use tokio::sync::Notify;

use super::*;
use crate::desk::{Kept, Known, LookUp};
use crate::provider::{Providers, Role};
use crate::testing::step;
use crate::{Candidate, Offline, OfflineConfig, Prices, ProviderConfig, Schema};

/// A desk that reserves when it is told to, and writes down what it books.
#[derive(Debug, Default)]
struct Slow {
    asked: Notify,
    go: Notify,
    booked: Mutex<Vec<Option<u64>>>,
    told: Notify,
}

#[async_trait]
impl Desk for Slow {
    async fn room(&self) -> Result<Option<u64>, StepError> {
        Ok(None)
    }
    async fn reserve(&self, _: PaidCall) -> Result<(), StepError> {
        self.asked.notify_one();
        self.go.notified().await;
        Ok(())
    }
    async fn settle(&self, _: u16, cost: Option<u64>, _: Tokens) {
        self.booked.lock().unwrap().push(cost);
        self.told.notify_one();
    }
    async fn known(&self, _: &[String]) -> Vec<Known> {
        Vec::new()
    }
    async fn weights(&self) -> Weights {
        Weights::default()
    }
    fn learn(&self, _: &str, _: bool, _: Observed) {}
    fn seed(&self) -> u64 {
        0
    }
    async fn look_up(&self, _: &[u8; 32], _: Duration) -> LookUp {
        LookUp::Yours
    }
    async fn keep(&self, _: &[u8; 32], _: Kept, _: Duration) {}
    async fn let_go(&self, _: &[u8; 32]) {}
}

/// The provider of sample copy, at a price.
fn priced() -> Configured {
    let prices = Prices::parse("x", "[\"offline:*\"]\ninput = 1.0\noutput = 1.0\nmax_output = 100").unwrap();
    let config: ProviderConfig = serde_json::from_value(json!({})).unwrap();
    let mut providers = Providers::new(config, prices).unwrap();
    providers.add(Offline::new(OfflineConfig::default()));
    let named = [Candidate::try_from("offline".to_owned()).unwrap()];
    providers.configured_for(WorkspaceId(Default::default()), &named, &[]).unwrap().remove(0)
}

#[tokio::test]
async fn a_reservation_that_comes_after_the_cancel_is_given_back() {
    let desk = Arc::new(Slow::default());
    let mut step = step("strategy", json!({}));
    step.desk = Arc::clone(&desk) as _;
    let cancelled = step.cancelled.clone();
    let calling = tokio::spawn(async move {
        let spec = serde_json::from_value(json!({ "agent": "strategy" })).unwrap();
        let (output, sampling) = (Schema::compile(&json!(true)).unwrap(), Sampling::default());
        let (messages, progress) = ([Message::new(Role::User, "hello")], Arc::default());
        let request = Request {
            spec: &spec,
            model: "sample",
            output: &output,
            messages: &messages,
            sampling: &sampling,
            input: &step.input,
            attempt: 1,
            call: 0,
            effect_key: "e",
            progress: &progress,
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        call(&step, &priced(), &request, 0, deadline).await.map(drop)
    });
    desk.asked.notified().await;
    cancelled.cancel();
    assert_eq!(calling.await.unwrap().unwrap_err().class, "cancelled");
    assert!(desk.booked.lock().unwrap().is_empty(), "it is not reserved yet: there is nothing to give back");
    desk.go.notify_one();
    desk.told.notified().await;
    assert_eq!(*desk.booked.lock().unwrap(), [Some(0)], "no call was made, so it cost nothing");
}
