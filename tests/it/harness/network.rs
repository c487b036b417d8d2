//! A platform that does what a test needs, with a ledger of its own: what
//! really went out, whatever Galley believes.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use galley_core::plan::Problem;
use galley_core::publish::{Capability, Looked, PostContent, Receipt, Sent};
use galley_publishers::{Account, Outgoing, Publisher};
use secrecy::SecretString;
use serde_json::Value;

/// What goes wrong with one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The post is there; the answer is lost.
    LoseReply,
    /// Nothing happened; the answer is lost.
    LoseRequest,
    /// Definitely not sent.
    NotSent,
    /// Definitely refused.
    Refuse,
    /// The post is there; no answer ever comes.
    HangAfter,
    /// No answer ever comes, and nothing happened.
    Hang,
}

/// The platform `network`. Clones are the same platform.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    ledger: Mutex<Ledger>,
}

#[derive(Debug, Default)]
struct Ledger {
    /// Key and text of every post that is really there.
    posts: Vec<(String, String)>,
    faults: VecDeque<Fault>,
}

impl Network {
    pub(crate) fn new() -> Self {
        Self { inner: Arc::new(Inner { ledger: Mutex::default() }) }
    }

    /// The next calls go wrong like this.
    pub(crate) fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.inner.ledger.lock().unwrap().faults.extend(faults);
    }

    /// The texts that are there, in order.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.inner.ledger.lock().unwrap().posts.iter().map(|(_, text)| text.clone()).collect()
    }

    /// Keys that are there more than once.
    pub(crate) fn duplicates(&self) -> usize {
        let ledger = self.inner.ledger.lock().unwrap();
        let mut keys: HashMap<&str, usize> = HashMap::new();
        for (key, _) in &ledger.posts {
            *keys.entry(key).or_default() += 1;
        }
        keys.values().filter(|count| **count > 1).count()
    }
}

fn receipt(index: usize) -> Receipt {
    Receipt {
        remote_id: format!("n{index}"),
        link: Some(format!("https://network.example/{index}")),
        cost_micros: None,
    }
}

#[async_trait::async_trait]
impl Publisher for Network {
    fn platform(&self) -> &'static str {
        "network"
    }

    fn description(&self) -> &'static str {
        "the tests' platform"
    }

    fn capability(&self, settings: &Value) -> Capability {
        match settings["kind"].as_str() {
            Some("verifiable") => {
                Capability::Verifiable { settle_s: settings["settleSeconds"].as_u64().unwrap_or(0) }
            }
            Some("blind") => Capability::Blind,
            _ => Capability::Idempotent { window_s: 3_600 },
        }
    }

    fn check_account(&self, _: &Value, _: &SecretString) -> Result<(), Vec<Problem>> {
        Ok(())
    }

    fn check_post(&self, _: &Value, post: &PostContent) -> Result<(), String> {
        if post.text.len() > 280 { Err("too long".into()) } else { Ok(()) }
    }

    async fn publish(&self, account: &Account, out: &Outgoing) -> Sent {
        let keeps_keys = matches!(self.capability(&account.settings), Capability::Idempotent { .. });
        let (fault, index) = {
            let mut ledger = self.inner.ledger.lock().unwrap();
            let fault = ledger.faults.pop_front();
            let lost = [Fault::LoseRequest, Fault::NotSent, Fault::Refuse, Fault::Hang];
            let known = ledger.posts.iter().position(|(key, _)| *key == out.key).filter(|_| keeps_keys);
            let index = match known {
                Some(index) => index,
                None if fault.is_some_and(|fault| lost.contains(&fault)) => 0,
                None => {
                    ledger.posts.push((out.key.clone(), out.payload.text.clone()));
                    ledger.posts.len() - 1
                }
            };
            (fault, index)
        };
        // A real platform takes a moment; a future that is dropped here is a
        // worker that died while it waited for the answer.
        tokio::task::yield_now().await;
        match fault {
            None => Sent::Published(receipt(index)),
            Some(Fault::LoseReply | Fault::LoseRequest) => Sent::Unknown("the reply was lost".into()),
            Some(Fault::NotSent) => Sent::NotSent { why: "no connection".into(), retry_after_ms: None },
            Some(Fault::Refuse) => Sent::Refused("422 no".into()),
            Some(Fault::Hang | Fault::HangAfter) => std::future::pending().await,
        }
    }

    async fn look(&self, _: &Account, out: &Outgoing) -> Looked {
        let ledger = self.inner.ledger.lock().unwrap();
        match ledger.posts.iter().position(|(key, _)| *key == out.key) {
            Some(index) => Looked::Found(receipt(index)),
            None => Looked::Absent,
        }
    }

    async fn test(&self, account: &Account) -> Result<String, String> {
        if account.settings["broken"] == true {
            return Err("the network does not take it".into());
        }
        Ok("the network takes it".into())
    }
}
