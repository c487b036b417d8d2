//! What agents are made of: TOML files and their prompt templates.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use galley_agents::{
    Agent, Answer, CallError, Definition, LlmAgent, NoDesk, Provider, Providers, Request, StepContext,
};
use galley_core::ids::{AgentType, WorkflowId};
use galley_prompts::{Author, Prompt};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use crate::{WORKSPACE, halves, uuid};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_current_thread().enable_time().build().unwrap_or_else(|error| panic!("{error}"))
});

/// Answers whatever it is asked.
struct Echo;

#[async_trait]
impl Provider for Echo {
    fn name(&self) -> &str {
        "echo"
    }

    fn default_model(&self) -> &str {
        "echo"
    }

    async fn complete(&self, request: &Request<'_>) -> Result<Answer, CallError> {
        let asked = request.messages.iter().map(|message| message.text.len()).sum::<usize>();
        Ok(Answer {
            text: json!({ "asked": asked }).to_string(),
            model: request.model.to_owned(),
            tokens_in: 0,
            tokens_out: 0,
            tokens_cached: 0,
            cut: false,
        })
    }
}

/// An agent as a file defines it. Its name is the file's.
pub fn agent_toml(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let table = text.parse::<toml::Table>().unwrap_or_default();
    let name = table.get("name").and_then(toml::Value::as_str).unwrap_or("agent");
    if let Ok(definition) = Definition::parse("fuzz.toml", name, text) {
        assert!(!definition.models().is_empty() && definition.spec().retry.max_attempts > 0);
    }
}

/// What stands in every text of the input of a workspace's template.
const CANARY: &str = "canaryOfAnotherHand";

/// A template of a workspace lets no text of its input out of the fence.
fn of_a_workspace(template: &str) {
    let Ok(prompt) = Prompt::parse("Be brief.".into(), template.to_owned(), Author::Workspace) else {
        return;
    };
    // Of a template that says it itself nothing is known.
    if template.contains(&CANARY[..6]) {
        return;
    }
    let (list, map) = (json!([CANARY, CANARY]), json!({ CANARY: CANARY, "n": 3 }));
    let input = json!({ "brief": { "topic": CANARY, "platforms": list, "map": map }, "params": map, "results": { "a": list }, "item": CANARY });
    let Ok((_, user)) = prompt.try_on(&input) else { return };
    let mut rest = user.as_str();
    let mut outside = String::new();
    while let Some(start) = rest.find("<data name=\"") {
        outside.push_str(&rest[..start]);
        let id =
            rest[start..].split("id=\"").nth(1).and_then(|tail| tail.split('"').next()).unwrap_or("none");
        let close = format!("</data id=\"{id}\">");
        // A marker that the template wrote itself closes nothing.
        let Some(end) = rest[start..].find(&close) else { return };
        rest = &rest[start + end + close.len()..];
    }
    outside.push_str(rest);
    assert!(!outside.contains(CANARY), "{template}\n->\n{user}");
}

/// A prompt template, and a step's input as JSON: it is rendered, or the file
/// or the input is refused.
pub fn template(data: &[u8]) {
    let (template, input) = halves(data);
    let Ok(template) = std::str::from_utf8(template) else { return };
    of_a_workspace(template);
    let input = serde_json::from_slice::<Value>(input).unwrap_or_else(|_| {
        json!({ "brief": { "topic": "a", "platforms": ["x", "y"] }, "params": { "n": 3 }, "results": {} })
    });
    let prompt: toml::Table = [("system", "Be brief."), ("user", template)]
        .into_iter()
        .map(|(key, text)| (key.to_owned(), toml::Value::from(text)))
        .collect();
    let file = format!(
        "name = \"fuzz\"\ndescription = \"A trial.\"\nmodels = [\"echo\"]\n[schema]\ninput = \"true\"\noutput = \"true\"\n[prompt]\n{prompt}"
    );
    let Ok(definition) = Definition::parse("fuzz.toml", "fuzz", &file) else { return };
    let mut providers = Providers::default();
    providers.add(Echo);
    let agent = LlmAgent::new(definition, Arc::new(providers)).unwrap_or_else(|error| panic!("{error}"));
    let step = StepContext {
        workspace: WORKSPACE,
        workflow: WorkflowId(uuid(2)),
        step_name: "fuzz".into(),
        agent: AgentType::new("fuzz").unwrap_or_else(|error| panic!("{error}")),
        attempt: 1,
        effect_key: "key".into(),
        input: Arc::new(input),
        inbox: Arc::default(),
        cancelled: CancellationToken::new(),
        timeout: Duration::from_secs(60),
        desk: Arc::new(NoDesk),
    };
    if let Err(error) = RUNTIME.block_on(agent.run(step)) {
        assert_eq!(error.class, "bad_prompt", "{error:?}");
    }
}
