//! A Rust program with an agent of its own in the fleet.
//!
//! With `galley dev` running in another terminal:
//!
//! ```text
//! DATABASE_URL=… REDIS_URL=… cargo run --example custom_agent
//! galley workflow submit examples/custom-agent.json --watch
//! ```
//!
//! (`galley dev` prints both addresses.) Ctrl-C drains and ends it.

use galley::{AgentSpec, FnAgent, StepContext, StepError, Stop, Worker, output};
use serde_json::json;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let spec: AgentSpec = serde_json::from_value(json!({
        "agent": "haiku_counter",
        "description": "counts the syllables that a haiku would need",
        "outputSchema": { "type": "object", "required": ["words", "lines"] },
        "retry": { "maxAttempts": 3 }
    }))?;
    let agent = FnAgent::new(spec, async |step: StepContext| {
        let Some(text) = step.input["brief"]["text"].as_str() else {
            // The same input would fail again: a dead letter at once.
            return Err(StepError::permanent("no_text", "the brief has no `text`"));
        };
        // Hand `step.effect_key` to whatever you change outside: an attempt
        // may run twice, and the key is the same both times.
        output(&json!({ "words": text.split_whitespace().count(), "lines": text.lines().count() }))
    });

    let stop = Stop::default();
    let soft = stop.soft.clone();
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        soft.cancel();
    });
    let address =
        |name: &str| std::env::var(name).map_err(|_| anyhow::anyhow!("set {name}; `galley dev` prints it"));
    Worker::connect(&address("DATABASE_URL")?, &address("REDIS_URL")?)?
        .agent(agent)?
        .concurrency(8)
        .name("custom-agent-example")
        .run(stop)
        .await?;
    Ok(())
}
