//! How an agent defined as data runs: render, choose, call, read, repair once.

use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use galley_core::agent::AgentSpec;
use galley_core::report::{StepError, StepOutput, Usage};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::agent::{Agent, StepContext};
use crate::definition::Definition;
use crate::provider::{Answer, Message, Providers, Request, Role};
use crate::registry::RegisterError;
use crate::schema::Mismatch;

/// Calls of one attempt: the question, and one repair.
const CALLS: u8 = 2;

/// How much of an unreadable answer is shown back for repair, in bytes: enough
/// to see the mistake, not enough to double the bill.
const SHOWN_BACK: usize = 8 * 1024;

/// An agent defined as data.
#[derive(Debug)]
pub struct LlmAgent {
    definition: Definition,
    providers: Arc<Providers>,
}

impl LlmAgent {
    /// An agent that asks these providers.
    ///
    /// # Errors
    /// [`RegisterError::NoModel`]: better at the start than as a dead letter
    /// per step.
    pub fn new(definition: Definition, providers: Arc<Providers>) -> Result<Self, RegisterError> {
        if providers.choose(definition.models()).is_none() {
            let candidates: Vec<String> = definition.models().iter().map(ToString::to_string).collect();
            let configured: Vec<&str> = providers.names().collect();
            return Err(RegisterError::NoModel {
                agent: definition.spec().agent.clone(),
                candidates: candidates.join(", "),
                configured: if configured.is_empty() { "none".into() } else { configured.join(", ") },
            });
        }
        Ok(Self { definition, providers })
    }
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
        let Some(choice) = self.providers.choose(self.definition.models()) else {
            return Err(StepError::permanent(
                "no_model",
                "none of the agent's models has a configured provider",
            ));
        };
        let (system, user) = self.definition.render(&step.input)?;
        let mut messages = vec![Message::new(Role::System, system), Message::new(Role::User, user)];
        let mut bill = Usage {
            provider: Some(choice.provider.name().to_owned()),
            model: Some(choice.model.to_owned()),
            ..Usage::default()
        };
        // One deadline for all calls of the attempt: a repair does not get more time.
        let deadline = Instant::now() + step.timeout;

        let mut call = 0;
        loop {
            let request = Request {
                spec: self.spec(),
                output: self.definition.output(),
                model: choice.model,
                messages: &messages,
                sampling: self.definition.sampling(),
                input: &step.input,
                attempt: step.attempt,
                call,
                effect_key: &step.effect_key,
            };
            let answer = match within(deadline, &step.cancelled, choice.provider.complete(&request)).await {
                Ok(answer) => answer,
                Err(error) => return Err(error.with_usage(bill)),
            };
            bill.tokens_in = bill.tokens_in.saturating_add(answer.tokens_in);
            bill.tokens_out = bill.tokens_out.saturating_add(answer.tokens_out);
            bill.model = Some(answer.model.clone());

            let mismatch = match self.definition.read(&answer.text, &step.input) {
                Ok(output) => return Ok(StepOutput { output, usage: bill }),
                Err(mismatch) => mismatch,
            };
            if answer.cut {
                // The next answer would be cut at the same place.
                let message =
                    format!("the answer was cut at max_tokens; raise sampling.max_tokens: {mismatch}");
                return Err(StepError::transient("bad_output", message).with_usage(bill));
            }
            call += 1;
            if call == CALLS {
                let message =
                    format!("the answer does not fit the schema, also after one repair: {mismatch}");
                return Err(StepError::transient("bad_output", message).with_usage(bill));
            }
            tracing::debug!(agent = %step.agent, workflow = %step.workflow, "asking for a repair: {mismatch}");
            messages.extend(repair(&answer, &mismatch));
        }
    }
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

/// Awaits a call until it is done, the attempt is cancelled, or time is up.
/// The call is dropped in the last two cases, which closes its connection.
async fn within(
    deadline: Instant,
    cancelled: &CancellationToken,
    call: impl Future<Output = Result<Answer, StepError>>,
) -> Result<Answer, StepError> {
    tokio::select! {
        biased;
        () = cancelled.cancelled() => Err(StepError::transient("cancelled", "the attempt was cancelled during the call")),
        answer = call => answer,
        () = tokio::time::sleep_until(deadline) => {
            Err(StepError::transient("provider_timeout", "the provider did not answer within the step's timeout"))
        }
    }
}
