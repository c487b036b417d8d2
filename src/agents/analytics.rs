//! The agent `analytics`: a workspace's own figures over some days, as the
//! engine has them on record, and, if asked, what a model makes of them. The
//! figures never come from a model.

use std::sync::Arc;

use async_trait::async_trait;
use galley_core::agent::AgentSpec;
use galley_core::figures::{Figures, MOST_DAYS, USUAL_DAYS};
use galley_core::report::{StepError, StepOutput};
use serde_json::{Value, json};

use crate::agent::{Agent, StepContext, output};
use crate::definition::Definition;
use crate::llm::LlmAgent;
use crate::provider::Providers;
use crate::registry::RegisterError;

/// The name of the definition whose prompt and schema the summary has.
pub(crate) const NAME: &str = "analytics";

/// Figures, and a summary on request.
#[derive(Debug)]
pub struct Analytics {
    spec: AgentSpec,
    /// Writes the summary.
    writer: LlmAgent,
}

impl Analytics {
    /// An agent whose summaries are written as a definition says, by these
    /// providers.
    ///
    /// # Errors
    /// As [`LlmAgent::new`].
    pub fn new(definition: Definition, providers: Arc<Providers>) -> Result<Self, RegisterError> {
        let mut spec = definition.spec().clone();
        if let Some(prompt) = &mut spec.prompt {
            // The writer is handed the figures as one of the step's results.
            let figures = serde_json::to_value(Figures::default()).unwrap_or_default();
            prompt.example = spec.example.clone().map(|mut input| {
                input["results"]["figures"] = figures;
                input
            });
            prompt.answer_schema = Some(spec.output_schema.clone());
        }
        spec.output_schema = json!({
            "type": "object",
            "required": ["figures"],
            "additionalProperties": false,
            "properties": { "figures": figures_schema(), "summary": spec.output_schema },
        });
        Ok(Self { spec, writer: LlmAgent::new(definition, providers)? })
    }
}

#[async_trait]
impl Agent for Analytics {
    fn spec(&self) -> &AgentSpec {
        &self.spec
    }

    fn concurrency(&self) -> Option<usize> {
        self.writer.concurrency()
    }

    async fn run(&self, step: StepContext) -> Result<StepOutput, StepError> {
        let figures = step.desk.figures(days(&step.input)).await?;
        if step.input.pointer("/params/summary") != Some(&Value::Bool(true)) {
            return output(&json!({ "figures": figures }));
        }
        let figures = serde_json::to_value(&figures).map_err(|error| {
            StepError::permanent("bad_output", format!("the figures have no JSON form: {error}"))
        })?;
        let mut input = Value::clone(&step.input);
        input["results"]["figures"] = figures.clone();
        let StepOutput { output: summary, usage, says } =
            self.writer.run(StepContext { input: Arc::new(input), ..step }).await?;
        match output(&json!({ "summary": summary, "figures": figures })) {
            Ok(done) => Ok(StepOutput { usage, says, ..done }),
            Err(error) => Err(error.with_usage(usage)),
        }
    }
}

/// The days asked for: by the step, else by the brief. The input schema bounds
/// them.
fn days(input: &Value) -> u16 {
    let asked = ["/params/days", "/brief/days"].into_iter().find_map(|place| input.pointer(place)?.as_u64());
    asked.and_then(|days| u16::try_from(days).ok()).unwrap_or(USUAL_DAYS).clamp(1, MOST_DAYS)
}

/// [`galley_core::figures::Figures`] as a JSON Schema.
fn figures_schema() -> Value {
    let integer = || json!({ "type": "integer", "minimum": 0 });
    let share = || json!({ "type": "number", "minimum": 0, "maximum": 1 });
    let text = || json!({ "type": "string" });
    let object = |required: &[(&str, Value)], optional: &[(&str, Value)]| {
        let properties: serde_json::Map<String, Value> = required
            .iter()
            .chain(optional)
            .map(|(name, schema)| ((*name).to_owned(), schema.clone()))
            .collect();
        let required: Vec<&str> = required.iter().map(|(name, _)| *name).collect();
        json!({ "type": "object", "required": required, "additionalProperties": false, "properties": properties })
    };
    let list = |of: Value| json!({ "type": "array", "items": of });
    let period =
        object(&[("from", text()), ("until", text()), ("days", integer()), ("timeZone", text())], &[]);
    let posts = object(
        &[
            ("published", integer()),
            ("byPlatform", list(object(&[("platform", text()), ("published", integer())], &[]))),
            ("byHour", list(object(&[("hour", integer()), ("published", integer())], &[]))),
        ],
        &[],
    );
    let decisions = object(
        &["made", "approved", "rejected", "expired", "edited"].map(|name| (name, integer())),
        &[("approvalRate", share())],
    );
    let spend = object(
        &["micros", "estimatedMicros", "keptSavedMicros"].map(|name| (name, integer())),
        &[("perPostMicros", integer())],
    );
    let workflows =
        object(&["succeeded", "failed", "cancelled", "withRework"].map(|name| (name, integer())), &[]);
    let counts = ["steps", "succeeded", "failed", "rework", "cacheHits", "tokens", "costMicros"];
    let mut agent: Vec<(&str, Value)> = counts.iter().map(|name| (*name, integer())).collect();
    agent.extend([("agent", text()), ("failureRate", share()), ("reworkRate", share())]);
    let mut model: Vec<(&str, Value)> =
        ["results", "cacheHits", "tokens", "costMicros"].iter().map(|name| (*name, integer())).collect();
    model.extend([("provider", text()), ("model", text())]);
    object(
        &[
            ("period", period),
            ("posts", posts),
            ("decisions", decisions),
            ("spend", spend),
            ("workflows", workflows),
            ("agents", list(object(&agent, &[("averageMs", integer())]))),
            ("models", list(object(&model, &[("averageMs", integer())]))),
        ],
        &[],
    )
}
