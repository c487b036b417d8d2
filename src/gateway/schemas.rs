//! What agents may be given and may answer: the registered JSON Schemas,
//! compiled, and believed for as long as the engine believes a reading.

use std::sync::Arc;
use std::time::Duration;

use galley_agents::Schema;
use galley_core::ids::AgentType;
use galley_core::report::{StepError, StepOutput};
use galley_edge::ApiError;
use galley_edge::memory::Memory;
use galley_engine::{Claimed, Engine, Outcome};
use serde_json::Value;
use tokio::time::Instant;

/// How long a compiled schema is believed to be the registered one.
const BELIEVED: Duration = Duration::from_secs(2);

/// The schemas of agents.
#[derive(Debug)]
pub(crate) struct Schemas {
    engine: Engine,
    known: Memory<AgentType, Arc<Pair>>,
}

/// An agent's schemas.
#[derive(Debug)]
pub(crate) struct Pair {
    input: Schema,
    output: Schema,
}

impl Pair {
    /// Why a step's input does not fit, as an error of its attempt: the same
    /// input will not fit next time either.
    pub(crate) fn refuse(&self, claim: &Claimed) -> Option<StepError> {
        let mismatch = self.input.check(&claim.input).err()?;
        let told = format!("the input does not fit the schema: {mismatch}");
        Some(StepError::permanent("bad_input", told))
    }

    /// How an attempt ended that answered this: an output that does not fit is
    /// worth another attempt, and its bill is real.
    pub(crate) fn judge(&self, done: StepOutput) -> Outcome {
        if let Err(why) = done.says.check() {
            return Outcome::Failed(StepError::permanent("bad_message", why).with_usage(done.usage));
        }
        if self.output.is_anything() {
            return Outcome::Succeeded(done);
        }
        let fits = match serde_json::from_str::<Value>(done.output.get()) {
            Ok(value) => self.output.check(&value).map_err(|mismatch| mismatch.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match fits {
            Ok(()) => Outcome::Succeeded(done),
            Err(why) => {
                let told = format!("the output does not fit the schema: {why}");
                Outcome::Failed(StepError::transient("bad_output", told).with_usage(done.usage))
            }
        }
    }
}

impl Schemas {
    pub(crate) fn new(engine: Engine) -> Self {
        Self { engine, known: Memory::new(BELIEVED) }
    }

    /// An agent's schemas, as they are registered.
    pub(crate) async fn of(&self, agent: &AgentType) -> Result<Arc<Pair>, ApiError> {
        if let Some(known) = self.known.get(agent) {
            return Ok(known);
        }
        let asked = Instant::now();
        let spec = self.engine.registered(agent).await?;
        // A session that serves it registered it, and nothing unregisters.
        let spec = spec.ok_or_else(|| ApiError::internal(format!("agent {agent} is not registered")))?;
        let compile = |which: &str, schema: &Value| {
            Schema::compile(schema)
                .map_err(|why| ApiError::internal(format!("the {which} schema of agent {agent}: {why}")))
        };
        let pair = Arc::new(Pair {
            input: compile("input", &spec.input_schema)?,
            output: compile("output", &spec.output_schema)?,
        });
        self.known.put(agent.clone(), asked, Arc::clone(&pair));
        Ok(pair)
    }

    /// Asks anew.
    pub(crate) fn forget(&self, agent: &AgentType) {
        self.known.forget(agent);
    }
}
