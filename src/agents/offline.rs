//! The built-in provider: sample copy without any service.
//!
//! Deterministic (the same agent, brief and item give the same bytes), always
//! labelled `[sample…]` where people read it, and made from the brief, so that
//! all of Galley can be seen and tested with no key. On order it is slow,
//! fails, or answers rubbish. It never claims to be a model: it knows nothing
//! that is not in the brief.

mod brief;
mod copy;
mod plan;
mod platform;
mod reply;
mod report;
mod review;
mod sampler;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use galley_core::agent::AgentSpec;
use galley_core::report::StepError;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::provider::{Answer, CallError, Provider, Request};
use crate::schema::Schema;
use brief::Brief;

/// The field of a step's `params` that holds its orders.
pub(crate) use galley_prompts::ORDERS_KEY;

const NAME: &str = "offline";
const MODEL: &str = "sample";

/// Steps whose throttles are remembered at once; past it all are forgotten, so
/// that cancelled steps do not fill the memory.
const MOST_THROTTLED: usize = 10_000;

/// The offline provider's part of a configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OfflineConfig {
    /// Whether there is one. A deployment that must never show sample copy
    /// switches it off.
    pub enabled: bool,
    /// Orders for every step that does not give its own.
    pub defaults: OfflineOrders,
}

impl Default for OfflineConfig {
    fn default() -> Self {
        Self { enabled: true, defaults: OfflineOrders::default() }
    }
}

/// What to do other than answer well at once. A step gives its own in
/// `params.offline`; each field it leaves out is taken from the configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct OfflineOrders {
    /// Milliseconds to wait before anything else.
    #[serde(alias = "delay_ms")]
    pub delay_ms: Option<u64>,
    /// Fail this way: every time, or `failFirst` times.
    pub fail: Option<Fault>,
    /// Fail this many attempts of a step, then answer. Throttled attempts are
    /// counted per process, because a throttle burns no attempt.
    #[serde(alias = "fail_first")]
    pub fail_first: Option<u32>,
    /// What a throttle asks to wait, milliseconds; 1,000 if absent.
    #[serde(alias = "retry_after_ms")]
    pub retry_after_ms: Option<u64>,
    /// Answer with something that is no JSON.
    pub rubbish: Option<Rubbish>,
}

/// A way to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Worth another attempt.
    Transient,
    /// Not worth one.
    Permanent,
    /// "Later."
    Throttled,
}

/// When to answer rubbish: `true`, `false` or `"once"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Value")]
pub enum Rubbish {
    /// Not at all.
    Never,
    /// The first call of an attempt: the repair call gets a good answer.
    Once,
    /// Every call.
    Always,
}

impl TryFrom<Value> for Rubbish {
    type Error = &'static str;

    fn try_from(value: Value) -> Result<Self, &'static str> {
        match value {
            Value::Bool(true) => Ok(Self::Always),
            Value::Bool(false) => Ok(Self::Never),
            Value::String(word) if word == "once" => Ok(Self::Once),
            _ => Err("`rubbish` is true, false or \"once\""),
        }
    }
}

impl OfflineOrders {
    /// These orders, with the gaps filled from `fallback`.
    fn or(self, fallback: &Self) -> Self {
        Self {
            delay_ms: self.delay_ms.or(fallback.delay_ms),
            fail: self.fail.or(fallback.fail),
            fail_first: self.fail_first.or(fallback.fail_first),
            retry_after_ms: self.retry_after_ms.or(fallback.retry_after_ms),
            rubbish: self.rubbish.or(fallback.rubbish),
        }
    }
}

/// The offline provider.
#[derive(Debug)]
pub struct Offline {
    defaults: OfflineOrders,
    /// Throttles given so far, by effect key; an entry goes when its step is
    /// answered.
    throttled: Mutex<HashMap<String, u32>>,
}

impl Offline {
    /// A provider with these defaults.
    pub fn new(config: OfflineConfig) -> Self {
        Self { defaults: config.defaults, throttled: Mutex::default() }
    }

    /// The failure that is ordered for this call, if one is.
    fn ordered_failure(&self, orders: &OfflineOrders, request: &Request<'_>) -> Option<StepError> {
        let fault = orders.fail.or(orders.fail_first.map(|_| Fault::Transient))?;
        let mut throttled = self.throttled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(times) = orders.fail_first {
            let given = throttled.get(request.effect_key).copied().unwrap_or(0);
            if u32::from(request.attempt.saturating_sub(1)).saturating_add(given) >= times {
                throttled.remove(request.effect_key);
                return None;
            }
        }
        let message = "the offline provider was told to fail";
        Some(match fault {
            Fault::Transient => StepError::transient("offline_transient", message),
            Fault::Permanent => StepError::permanent("offline_permanent", message),
            Fault::Throttled => {
                if throttled.len() >= MOST_THROTTLED {
                    throttled.clear();
                }
                *throttled.entry(request.effect_key.to_owned()).or_default() += 1;
                StepError::throttled("provider_throttled", message, orders.retry_after_ms.unwrap_or(1_000))
            }
        })
    }
}

#[async_trait]
impl Provider for Offline {
    fn name(&self) -> &str {
        NAME
    }

    fn default_model(&self) -> &str {
        MODEL
    }

    fn is_stand_in(&self) -> bool {
        true
    }

    async fn complete(&self, request: &Request<'_>) -> Result<Answer, CallError> {
        self.answer(request).await.map_err(CallError::free)
    }
}

impl Offline {
    async fn answer(&self, request: &Request<'_>) -> Result<Answer, StepError> {
        let orders = match request.input.pointer("/params").and_then(|params| params.get(ORDERS_KEY)) {
            Some(orders) => OfflineOrders::deserialize(orders).map_err(|error| {
                StepError::permanent("bad_input", format!("at `/params/{ORDERS_KEY}`: {error}"))
            })?,
            None => OfflineOrders::default(),
        }
        .or(&self.defaults);

        if let Some(millis) = orders.delay_ms {
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
        if let Some(failure) = self.ordered_failure(&orders, request) {
            return Err(failure);
        }
        let rubbish = match orders.rubbish.unwrap_or(Rubbish::Never) {
            Rubbish::Never => false,
            Rubbish::Once => request.call == 0,
            Rubbish::Always => true,
        };
        let text = if rubbish {
            "Sure! Here is what you asked for: {\"platforms\": [ and so on, you get the idea".to_owned()
        } else {
            written(request.spec, request.output, request.input)?.to_string()
        };
        Ok(Answer {
            model: request.model.to_owned(),
            tokens_in: estimate(request.messages.iter().map(|message| message.text.len()).sum()),
            tokens_out: estimate(text.len()),
            tokens_cached: 0,
            text,
            cut: false,
        })
    }
}

/// Tokens of so many bytes, by the usual rule of thumb of four bytes each.
fn estimate(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(4)).unwrap_or(u32::MAX)
}

/// The answer in the agent's shape. An agent nobody wrote a writer for gets
/// whatever its output schema asks for.
fn written(spec: &AgentSpec, output: &Schema, input: &Value) -> Result<Value, StepError> {
    let brief = Brief::read(input);
    let chance = Chance::of(spec, input);
    let answer = match spec.agent.as_str() {
        "strategy" => plan::strategy(&brief, chance),
        "content_creator" if brief.round > 1 => {
            let refused = review::refused_words(&brief);
            copy::post(&brief.without(|text| refused(text)), chance)
        }
        "content_creator" => copy::post(&brief, chance),
        "reviewer" => review::review(&brief, &input["results"]),
        "trend_detection" => plan::trends(&brief),
        "competitor_analysis" => plan::competitors(&brief),
        "analytics" => report::summary(&input["results"]["figures"]),
        "engagement" => reply::replies(&brief, &input["params"]["comments"], chance),
        _ => return sampler::sample(&spec.output_schema, output, &brief),
    };
    // A deployment may have replaced a built-in definition by one with another
    // shape; then its schema says what to write.
    match output.check(&answer) {
        Ok(()) => Ok(answer),
        Err(_) => sampler::sample(&spec.output_schema, output, &Brief::read(input)),
    }
}

/// Variation without randomness: drawn from what the answer is about.
#[derive(Clone, Copy)]
struct Chance(u64);

impl Chance {
    fn of(spec: &AgentSpec, input: &Value) -> Self {
        let mut digest = Sha256::new();
        digest.update(spec.agent.as_str());
        feed(&mut digest, &input["brief"]);
        feed(&mut digest, &input["item"]);
        let hash = digest.finalize();
        Self(hash.iter().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte)))
    }

    /// One of several; a `salt` per question keeps the answers independent.
    fn pick<T>(self, salt: u32, from: &[T]) -> Option<&T> {
        let len = u64::try_from(from.len()).ok().filter(|len| *len > 0)?;
        usize::try_from(self.0.rotate_left(salt.wrapping_mul(7)) % len).ok().and_then(|index| from.get(index))
    }
}

/// Hashes a value so that the order of an object's keys does not matter: a
/// store may change it.
fn feed(digest: &mut Sha256, value: &Value) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            digest.update(b"{");
            for (key, value) in entries {
                digest.update(key);
                digest.update([0]);
                feed(digest, value);
            }
            digest.update(b"}");
        }
        Value::Array(elements) => {
            digest.update(b"[");
            for element in elements {
                feed(digest, element);
            }
            digest.update(b"]");
        }
        scalar => {
            digest.update(scalar.to_string());
            digest.update([0]);
        }
    }
}

#[cfg(test)]
#[path = "offline_tests.rs"]
mod tests;
