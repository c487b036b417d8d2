//! Which agents this process can run, each with its schemas compiled.

use std::collections::BTreeMap;
use std::sync::Arc;

use galley_core::agent::AgentSpec;
use galley_core::ids::AgentType;
use galley_core::message::COORDINATOR;
use galley_core::report::{StepError, StepOutput};
use serde_json::Value;

use crate::agent::{Agent, StepContext};
use crate::analytics::{self, Analytics};
use crate::definitions::Definitions;
use crate::llm::LlmAgent;
use crate::provider::Providers;
use crate::schema::Schema;

/// The agents of one process, by type.
#[derive(Debug, Default)]
pub struct Registry {
    agents: BTreeMap<AgentType, Arc<Registered>>,
}

/// Why an agent was not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The type is taken. Two agents of one type would make a step's outcome
    /// depend on the order of registration.
    #[error("agent `{0}` is registered twice: give one of them another type name")]
    Duplicate(AgentType),
    /// The type is the engine's own name among agents.
    #[error("`{0}` is the engine's own name among agents: give yours another type name")]
    Reserved(AgentType),
    /// A schema does not compile.
    #[error("agent `{agent}`: its {which} schema is not a JSON Schema: {message}")]
    Schema {
        /// The agent.
        agent: AgentType,
        /// `input` or `output`.
        which: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// None of the agent's model candidates has a configured provider.
    #[error(
        "agent `{agent}`: none of its models ({candidates}) has a configured provider (configured: {configured}): \
         configure one, add a configured one to `models`, or say that workspaces bring their own \
         (GALLEY_PROVIDERS_FROM_WORKSPACES)"
    )]
    NoModel {
        /// The agent.
        agent: AgentType,
        /// Its candidates.
        candidates: String,
        /// The providers there are.
        configured: String,
    },
}

impl Registry {
    /// No agents yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an agent: `registry.register(MyAgent::new())?;`
    ///
    /// # Errors
    /// A taken type, the engine's own, or a schema that does not compile.
    pub fn register(&mut self, agent: impl Agent + 'static) -> Result<(), RegisterError> {
        let registered = Registered::new(Arc::new(agent))?;
        let name = registered.spec().agent.clone();
        if name.as_str() == COORDINATOR {
            return Err(RegisterError::Reserved(name));
        }
        if self.agents.contains_key(&name) {
            return Err(RegisterError::Duplicate(name));
        }
        self.agents.insert(name, Arc::new(registered));
        Ok(())
    }

    /// Adds an agent for every definition: an [`LlmAgent`], or the built-in one
    /// that only takes its prompt and limits from it.
    ///
    /// # Errors
    /// As [`Registry::register`], and [`RegisterError::NoModel`].
    pub fn register_definitions(
        &mut self,
        definitions: Definitions,
        providers: &Arc<Providers>,
    ) -> Result<(), RegisterError> {
        for definition in definitions {
            let providers = Arc::clone(providers);
            match definition.spec().agent.as_str() {
                analytics::NAME => self.register(Analytics::new(definition, providers)?)?,
                _ => self.register(LlmAgent::new(definition, providers)?)?,
            }
        }
        Ok(())
    }

    /// The agent of this type, if this process has it.
    pub fn get(&self, agent: &AgentType) -> Option<Arc<Registered>> {
        self.agents.get(agent).cloned()
    }

    /// Every agent's spec, sorted by type.
    pub fn specs(&self) -> impl Iterator<Item = &AgentSpec> {
        self.agents.values().map(|registered| registered.spec())
    }
}

/// An agent with its schemas compiled: the only way to run one, so that no
/// input or output goes unchecked.
pub struct Registered {
    agent: Arc<dyn Agent>,
    input: Schema,
    output: Schema,
}

impl std::fmt::Debug for Registered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registered").field("spec", self.spec()).finish_non_exhaustive()
    }
}

impl Registered {
    fn new(agent: Arc<dyn Agent>) -> Result<Self, RegisterError> {
        let spec = agent.spec();
        let compile = |which, schema: &Value| {
            Schema::compile(schema).map_err(|message| RegisterError::Schema {
                agent: spec.agent.clone(),
                which,
                message,
            })
        };
        let input = compile("input", &spec.input_schema)?;
        let output = compile("output", &spec.output_schema)?;
        Ok(Self { agent, input, output })
    }

    /// The agent's spec.
    pub fn spec(&self) -> &AgentSpec {
        self.agent.spec()
    }

    /// Most attempts at once in one worker process; `None` leaves it to the
    /// worker.
    pub fn concurrency(&self) -> Option<usize> {
        self.agent.concurrency()
    }

    /// Checks the input, runs one attempt, checks the output.
    ///
    /// # Errors
    /// What the agent reports; a permanent `bad_input` before it ran (the same
    /// input will not fit next time either); a transient `bad_output`, with
    /// the bill, when what came out does not fit.
    pub async fn run(&self, step: StepContext) -> Result<StepOutput, StepError> {
        self.input.check(&step.input).map_err(|mismatch| {
            StepError::permanent("bad_input", format!("the input does not fit the schema: {mismatch}"))
        })?;
        let done = self.agent.run(step).await?;
        if let Err(why) = done.says.check() {
            return Err(StepError::permanent("bad_message", why).with_usage(done.usage));
        }
        if self.output.is_anything() {
            return Ok(done);
        }
        let verdict = match serde_json::from_str::<Value>(done.output.get()) {
            Ok(value) => self.output.check(&value).map_err(|mismatch| mismatch.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match verdict {
            Ok(()) => Ok(done),
            Err(why) => {
                let message = format!("the output does not fit the schema: {why}");
                Err(StepError::transient("bad_output", message).with_usage(done.usage))
            }
        }
    }
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
