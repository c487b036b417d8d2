//! The coordinator: how an agent defined as data runs. Render the prompt, see
//! what the money allows, choose a model, look for a kept answer, reserve,
//! call, settle, read, repair once, and fall back to the next model where a
//! provider fails.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use galley_core::agent::AgentSpec;
use galley_core::choice::{self, Choice, Draws, Observed};
use galley_core::report::{Deliberation, Failure, StepError, StepOutput, Usage};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::agent::{Agent, StepContext};
use crate::call::{bound, call, capped, is_the_providers, within};
use crate::definition::Definition;
use crate::desk::{Kept, Known, LookUp};
use crate::own::OwnPrompts;
use crate::provider::{Answer, Configured, Message, Providers, Request, Role};
use crate::registry::RegisterError;
use crate::schema::Mismatch;

/// Calls to one model: the question, and one repair.
const CALLS: u8 = 2;

/// How much of an unreadable answer is shown back for repair, in bytes: enough
/// to see the mistake, not enough to double the bill.
const SHOWN_BACK: usize = 8 * 1024;

/// How often somebody looks whether another attempt got the answer.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The end of a step's time in which nothing is asked any more, at most; a tenth
/// of a short one. Whoever is cut off from outside cannot say what a call cost,
/// nor whose fault it was.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// An agent defined as data.
#[derive(Debug)]
pub struct LlmAgent {
    definition: Definition,
    providers: Arc<Providers>,
    prompts: OwnPrompts,
}

impl LlmAgent {
    /// An agent that asks these providers.
    ///
    /// # Errors
    /// [`RegisterError::NoModel`]: better at the start than as a dead letter
    /// per step.
    pub fn new(definition: Definition, providers: Arc<Providers>) -> Result<Self, RegisterError> {
        if !providers.may_answer(definition.models()) {
            let candidates = candidates(&definition);
            let configured: Vec<&str> = providers.names().collect();
            return Err(RegisterError::NoModel {
                agent: definition.spec().agent.clone(),
                candidates,
                configured: if configured.is_empty() { "none".into() } else { configured.join(", ") },
            });
        }
        Ok(Self { definition, providers, prompts: OwnPrompts::default() })
    }
}

/// An agent's models, for people.
fn candidates(definition: &Definition) -> String {
    let named: Vec<String> = definition.models().iter().map(ToString::to_string).collect();
    named.join(", ")
}

#[async_trait]
impl Agent for LlmAgent {
    fn spec(&self) -> &AgentSpec {
        self.definition.spec()
    }

    fn concurrency(&self) -> Option<usize> {
        self.definition.concurrency()
    }

    async fn run(&self, step: StepContext) -> Result<StepOutput, StepError> {
        // One deadline for all that the attempt waits for: a repair does not
        // get more time.
        let deadline = Instant::now() + (step.timeout - (step.timeout / 10).min(LAST_WORDS));
        // What is in force now holds for the whole attempt, its repair included.
        let own = step.desk.own_prompt().await?;
        let own = own.map(|own| self.prompts.of(step.workspace, own)).transpose()?;
        let (prompt, prompt_version) = match &own {
            Some(own) => (&own.prompt, own.version.as_str()),
            None => (self.definition.prompt(), self.definition.prompt_version()),
        };
        let (system, user) = self.definition.render(prompt, &step.input, &step.inbox)?;
        let own = step.desk.own_providers().await?;
        let candidates = self.providers.configured_for(step.workspace, self.definition.models(), &own)?;
        let mut attempt = Attempt {
            definition: &self.definition,
            prompt_version,
            candidates,
            question: vec![Message::new(Role::System, system), Message::new(Role::User, user)],
            deadline,
            step: &step,
            bill: Usage::default(),
            calls: 0,
        };
        let done = attempt.run().await;
        let usage = attempt.bill;
        match done {
            Ok(output) => {
                let says = self.definition.says(&output, &step.inbox);
                Ok(StepOutput { output, usage, says })
            }
            Err(error) => Err(error.with_usage(usage)),
        }
    }
}

/// One attempt, from the question to the answer.
struct Attempt<'a> {
    definition: &'a Definition,
    prompt_version: &'a str,
    step: &'a StepContext,
    candidates: Vec<Configured>,
    question: Vec<Message>,
    deadline: Instant,
    bill: Usage,
    calls: u16,
}

/// What came of asking one model.
enum Asked {
    /// An output that fits.
    Output(Box<RawValue>),
    /// Another model may do better.
    Next(StepError),
    /// There was no money for it any more; another may cost less.
    Unfunded {
        /// In which budget.
        error: StepError,
        /// What it may cost at most.
        needed_micros: u64,
    },
    /// This attempt is over.
    Over(StepError),
}

impl Attempt<'_> {
    async fn run(&mut self) -> Result<Box<RawValue>, StepError> {
        let choice = self.choose().await?;
        let order = order(&choice);
        let chosen = &self.candidates[choice.index];
        self.bill.deliberation = Some(Box::new(Deliberation {
            prompt: self.prompt_version.to_owned(),
            model: chosen.name.clone(),
            reason: choice.reason,
            scores: choice.scores,
            calls: 0,
            saved_micros: 0,
        }));
        self.bill.provider = Some(chosen.provider.name().to_owned());
        self.bill.model = Some(chosen.model.clone());

        let mut ttl = self.definition.cache_ttl().filter(|_| !chosen.provider.is_stand_in());
        let key = self.key(choice.index);
        if ttl.is_some()
            && let Some(kept) = self.kept(&key).await?
        {
            match self.definition.read(&kept.output, &self.step.input) {
                Ok(output) => {
                    self.bill.model = Some(kept.model);
                    self.bill.cache_hit = true;
                    if let Some(deliberation) = &mut self.bill.deliberation {
                        deliberation.saved_micros = kept.cost_micros;
                    }
                    return Ok(output);
                }
                // The same text may be asked for inputs that differ in what the
                // prompt does not show, and the definition may be a newer one.
                Err(mismatch) => {
                    tracing::debug!(agent = %self.step.agent, "a kept answer is for another input: {mismatch}");
                    ttl = None;
                }
            }
        }
        let done = self.ask_in_order(&order).await;
        if let Some(ttl) = ttl {
            match &done {
                Ok(output) => {
                    let kept = Kept {
                        output: output.get().to_owned(),
                        model: self.bill.model.clone().unwrap_or_default(),
                        cost_micros: self.bill.cost_micros,
                    };
                    self.step.desk.keep(&key, kept, ttl).await;
                }
                Err(_) => self.step.desk.let_go(&key).await,
            }
        }
        done
    }

    /// Chooses among the candidates that the money allows and whose providers
    /// answer.
    async fn choose(&self) -> Result<Choice, StepError> {
        if self.candidates.is_empty() {
            return Err(StepError::permanent(
                "no_model",
                format!(
                    "none of its models ({}) has a provider here; bring the workspace's own with `galley provider \
                     set`, then replay the dead letter",
                    candidates(self.definition)
                ),
            ));
        }
        let asks = match self.candidates.as_slice() {
            // Whether there is room for the only one its reservation says.
            [only] => only.price.is_none(),
            many => many.iter().any(|one| one.price.is_none_or(|price| !price.is_free())),
        };
        let room = if asks { self.step.desk.room().await? } else { None };
        let bounds: Vec<Option<u64>> = self
            .candidates
            .iter()
            .map(|one| bound(one, &self.question, &capped(self.definition.sampling(), one)))
            .collect();
        let affordable = |bound: Option<u64>| match (bound, room) {
            (_, None) => true,
            // With a budget, what nobody knows the price of is not free: it is
            // not for sale.
            (None, Some(_)) => false,
            (Some(bound), Some(room)) => bound <= room,
        };
        if !bounds.iter().any(|bound| affordable(*bound)) {
            return Err(match bounds.iter().flatten().min() {
                Some(least) => StepError::unfunded(
                    "the budget has no room for the next call of any of its models",
                    *least,
                ),
                None => StepError::permanent(
                    "unknown_price",
                    format!(
                        "no price is known for {}, and the workspace has a budget; add it to a models.toml in GALLEY_AGENTS_DIR",
                        self.candidates.iter().map(|one| one.name.as_str()).collect::<Vec<_>>().join(", ")
                    ),
                ),
            });
        }
        let now = Instant::now().into_std();
        let rests: Vec<Option<Duration>> = self.candidates.iter().map(|one| one.breaker.rests(now)).collect();
        let names: Vec<String> = self.candidates.iter().map(|one| one.name.clone()).collect();
        // Nothing to choose, nothing to remember.
        let known = match names.len() {
            1 => Vec::new(),
            _ => self.step.desk.known(&names).await,
        };
        let nothing = Known::default();
        let candidates: Vec<choice::Candidate<'_>> = names
            .iter()
            .enumerate()
            .map(|(at, name)| {
                let known = known.get(at).unwrap_or(&nothing);
                choice::Candidate {
                    name,
                    own: &known.own,
                    global: &known.global,
                    expected_cost_micros: bounds[at],
                    affordable: affordable(bounds[at]),
                    healthy: rests[at].is_none(),
                }
            })
            .collect();
        let weights = self.step.desk.weights().await;
        let mut draws = Draws::seeded(self.step.desk.seed());
        choice::choose(&candidates, &weights, &mut draws).ok_or_else(|| {
            let rest = rests.iter().flatten().min().copied().unwrap_or(LOOK_EVERY);
            StepError::throttled(
                "provider_resting",
                "the providers of its models failed again and again; they are left alone for a moment",
                u64::try_from(rest.as_millis()).unwrap_or(u64::MAX),
            )
        })
    }

    /// What makes two questions the same: model, prompt, text and sampling.
    fn key(&self, index: usize) -> [u8; 32] {
        let one = &self.candidates[index];
        let sampling = serde_json::to_string(self.definition.sampling()).unwrap_or_default();
        let mut digest = Sha256::new();
        for part in [one.name.as_str(), self.prompt_version, sampling.as_str()]
            .into_iter()
            .chain(self.question.iter().map(|message| &*message.text))
        {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        digest.finalize().into()
    }

    /// A kept answer; `None`: this attempt is the one that asks.
    async fn kept(&self, key: &[u8; 32]) -> Result<Option<Kept>, StepError> {
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            let looked = within(self.deadline, &self.step.cancelled, async {
                Ok(self.step.desk.look_up(key, left).await)
            });
            match looked.await? {
                LookUp::Kept(kept) => return Ok(Some(kept)),
                LookUp::Yours => return Ok(None),
                LookUp::Busy => {
                    let pause = async {
                        tokio::time::sleep(LOOK_EVERY).await;
                        Ok(())
                    };
                    within(self.deadline, &self.step.cancelled, pause).await?;
                }
            }
        }
    }

    /// Asks the models one after the other until one answers.
    async fn ask_in_order(&mut self, order: &[usize]) -> Result<Box<RawValue>, StepError> {
        let (mut last, mut unfunded) = (None, None);
        for (place, index) in order.iter().enumerate() {
            match self.ask(*index).await {
                Asked::Output(output) => return Ok(output),
                Asked::Over(error) => return Err(error),
                Asked::Unfunded { error, needed_micros } => {
                    // It goes on when there is money for the cheapest.
                    if unfunded.as_ref().is_none_or(|(_, least)| needed_micros < *least) {
                        unfunded = Some((error, needed_micros));
                    }
                }
                Asked::Next(error) => {
                    if let Some(next) = order.get(place + 1).map(|next| &self.candidates[*next].name) {
                        let failed = &self.candidates[*index].name;
                        tracing::info!(agent = %self.step.agent, "{failed} failed ({}); asking {next}", error.class);
                        if let Some(deliberation) = &mut self.bill.deliberation {
                            let told = format!("; {failed} failed ({}), so {next} was asked", error.class);
                            deliberation.reason.push_str(&told);
                        }
                    }
                    last = Some(error);
                }
            }
        }
        let unfunded = unfunded.map(|(error, _)| error);
        // Waiting for money is no attempt. One that has paid is: it would pay
        // again each time it goes on, and nobody would count how often.
        let error = if self.bill.cost_micros == 0 { unfunded.or(last) } else { last.or(unfunded) };
        Err(error.unwrap_or_else(|| StepError::permanent("no_model", "there was no model to ask")))
    }

    /// Asks one model, with one repair.
    async fn ask(&mut self, index: usize) -> Asked {
        let to = self.candidates[index].clone();
        let sampling = capped(self.definition.sampling(), &to);
        let mut messages = self.question.clone();
        let (mut cost_micros, mut latency) = (0, Duration::ZERO);
        self.bill.provider = Some(to.provider.name().to_owned());
        self.bill.model = Some(to.model.clone());
        let mut round = 0;
        let mut wrong: Option<Mismatch> = None;
        let ended = loop {
            let progress = Arc::default();
            let request = Request {
                spec: self.definition.spec(),
                output: self.definition.output(),
                model: &to.model,
                messages: &messages,
                sampling: &sampling,
                input: &self.step.input,
                attempt: self.step.attempt,
                call: round,
                effect_key: &self.step.effect_key,
                progress: &progress,
            };
            let number = self.calls;
            let called = match call(self.step, &to, &request, number, self.deadline).await {
                Ok(called) => called,
                Err(error) => match (error.failure, &wrong) {
                    (Failure::Unfunded { needed_micros }, None) => {
                        return Asked::Unfunded { error, needed_micros };
                    }
                    // What it wrote is paid for and of no use: an attempt.
                    (Failure::Unfunded { .. }, Some(mismatch)) => {
                        let told = error.message;
                        let message = format!(
                            "the answer does not fit the schema, and there is no money for its repair ({told}): {mismatch}"
                        );
                        break Err(StepError::transient("bad_output", message));
                    }
                    _ => return Asked::Over(error),
                },
            };
            self.calls += 1;
            if let Some(deliberation) = &mut self.bill.deliberation {
                deliberation.calls = self.calls;
            }
            cost_micros += called.cost_micros;
            latency += called.took;
            self.bill.tokens_in = self.bill.tokens_in.saturating_add(called.tokens.input);
            self.bill.tokens_out = self.bill.tokens_out.saturating_add(called.tokens.output);
            self.bill.cost_micros = self.bill.cost_micros.saturating_add(called.cost_micros);
            let answer = match called.answer {
                Ok(answer) => answer,
                Err(error) => break Err(error),
            };
            self.bill.model = Some(answer.model.clone());
            let mismatch = match self.definition.read(&answer.text, &self.step.input) {
                Ok(output) => break Ok(output),
                Err(mismatch) => mismatch,
            };
            if answer.cut {
                // The next answer would be cut at the same place.
                let message =
                    format!("the answer was cut at max_tokens; raise sampling.max_tokens: {mismatch}");
                break Err(StepError::transient("bad_output", message));
            }
            round += 1;
            if round == CALLS {
                let message =
                    format!("the answer does not fit the schema, also after one repair: {mismatch}");
                break Err(StepError::transient("bad_output", message));
            }
            tracing::debug!(agent = %self.step.agent, workflow = %self.step.workflow, "asking for a repair: {mismatch}");
            messages.extend(repair(&answer, &mismatch));
            wrong = Some(mismatch);
        };
        let latency_ms = u64::try_from(latency.as_millis()).unwrap_or(u64::MAX);
        let learn = |succeeded| {
            let seen = Observed { succeeded, rating: None, cost_micros, latency_ms };
            self.step.desk.learn(&to.name, to.own, seen);
        };
        match ended {
            Ok(output) => {
                learn(true);
                Asked::Output(output)
            }
            Err(error) => {
                // A refusal or a throttle says nothing about what it writes.
                if is_the_providers(&error) || error.class == "bad_output" {
                    learn(false);
                }
                let in_time = Instant::now() < self.deadline && !self.step.cancelled.is_cancelled();
                let may_be_better = is_the_providers(&error)
                    || matches!(error.failure, Failure::Throttled { .. })
                    || error.class == "provider_quota";
                if in_time && may_be_better { Asked::Next(error) } else { Asked::Over(error) }
            }
        }
    }
}

/// The chosen one, then whoever else may be asked, the most useful first.
fn order(choice: &Choice) -> Vec<usize> {
    let mut others: Vec<usize> = (0..choice.scores.len())
        .filter(|at| *at != choice.index && choice.scores[*at].why_not.is_none())
        .collect();
    others.sort_by(|a, b| choice.scores[*b].utility.total_cmp(&choice.scores[*a].utility));
    std::iter::once(choice.index).chain(others).collect()
}

/// The conversation goes on: what came, and what is wrong with it.
fn repair(answer: &Answer, mismatch: &Mismatch) -> [Message; 2] {
    let shown = &answer.text[..answer.text.floor_char_boundary(SHOWN_BACK)];
    let mut wrong = String::new();
    for problem in &mismatch.problems {
        wrong.push_str(&format!("- {problem}\n"));
    }
    let request = format!(
        "That answer cannot be used:\n{wrong}\
         Answer again with the whole JSON value, corrected, and nothing else."
    );
    [
        Message::new(Role::Assistant, if shown.is_empty() { "(empty)" } else { shown }),
        Message::new(Role::User, request),
    ]
}

#[cfg(test)]
#[path = "llm_tests.rs"]
mod tests;
