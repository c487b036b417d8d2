//! Agents that do what a test needs, and a log of everything they were asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use futures::FutureExt;
use futures::future::BoxFuture;
use galley_agents::{
    Analytics, Definition, FnAgent, LlmAgent, Prices, Providers, Registry, StepContext, output,
};
use galley_core::agent::AgentSpec;
use galley_core::ids::{AgentType, WorkspaceId};
use galley_core::report::{StepError, StepOutput};
use galley_core::retry::RetryPolicy;
use serde_json::{Value, json};
use tokio::sync::watch;

type Run = Arc<dyn Fn(StepContext) -> BoxFuture<'static, Result<StepOutput, StepError>> + Send + Sync>;

/// A set of agents; every worker of a test gets a registry of them.
#[derive(Clone, Default)]
pub(crate) struct Agents {
    agents: Vec<(AgentSpec, Run)>,
    /// Agents defined as data: name, TOML, and who they ask.
    defined: Vec<(String, String, Arc<Providers>)>,
    log: Arc<Mutex<Log>>,
}

#[derive(Default)]
struct Log {
    calls: Vec<StepContext>,
    running: HashMap<(AgentType, Option<WorkspaceId>), usize>,
    most: HashMap<(AgentType, Option<WorkspaceId>), usize>,
}

/// A policy that retries at once, for tests.
pub(crate) fn retry(max_attempts: u16) -> RetryPolicy {
    RetryPolicy { max_attempts, max_crashes: 3, backoff_ms: 10, max_backoff_ms: 50, timeout_ms: 30_000 }
}

/// A finished attempt.
pub(crate) fn answer(value: &Value) -> Result<StepOutput, StepError> {
    output(value)
}

impl Agents {
    /// `echo`: answers with its step's name, attempt and item.
    pub(crate) fn echo() -> Self {
        Self::default().with("echo", retry(3), |step| async move {
            let item = step.input.get("item").cloned().unwrap_or_default();
            answer(&json!({ "step": step.step_name, "item": item }))
        })
    }

    /// One more agent.
    pub(crate) fn with<F, Fut>(mut self, name: &str, retry: RetryPolicy, run: F) -> Self
    where
        F: Fn(StepContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<StepOutput, StepError>> + Send + 'static,
    {
        let spec = AgentSpec {
            agent: AgentType::new(name).unwrap(),
            description: String::new(),
            input_schema: Value::Bool(true),
            output_schema: Value::Bool(true),
            retry,
            example: None,
            prompt: None,
        };
        self.agents.push((spec, Arc::new(move |step| run(step).boxed())));
        self
    }

    /// One more agent, defined as data.
    pub(crate) fn with_definition(mut self, name: &str, toml: &str, providers: &Arc<Providers>) -> Self {
        self.defined.push((name.to_owned(), toml.to_owned(), Arc::clone(providers)));
        self
    }

    /// The built-in `strategy`, which asks nobody outside.
    pub(crate) fn with_strategist(self) -> Self {
        let config = serde_json::from_value(json!({})).unwrap();
        let offline = Arc::new(Providers::new(config, Prices::default()).unwrap());
        self.with_definition("strategy", include_str!("../../../agents/strategy.toml"), &offline)
    }

    /// The last agent's output must fit this schema.
    pub(crate) fn with_output_schema(mut self, schema: Value) -> Self {
        self.agents.last_mut().unwrap().0.output_schema = schema;
        self
    }

    /// The specs, to register them without a worker.
    pub(crate) fn specs(&self) -> Vec<AgentSpec> {
        let defined = self.registry();
        let defined =
            defined.specs().filter(|spec| self.defined.iter().any(|(name, ..)| name == spec.agent.as_str()));
        self.agents.iter().map(|(spec, _)| spec).chain(defined).cloned().collect()
    }

    /// A registry for one worker.
    pub(crate) fn registry(&self) -> Registry {
        let mut registry = Registry::new();
        for (spec, run) in &self.agents {
            let (run, log) = (Arc::clone(run), Arc::clone(&self.log));
            registry
                .register(FnAgent::new(spec.clone(), move |step: StepContext| {
                    let (run, log) = (Arc::clone(&run), Arc::clone(&log));
                    async move {
                        let _in = Inside::enter(log, &step);
                        run(step).await
                    }
                }))
                .unwrap();
        }
        for (name, toml, providers) in &self.defined {
            let (definition, providers) = (defined(name, toml), Arc::clone(providers));
            let registered = match name.as_str() {
                "analytics" => registry.register(Analytics::new(definition, providers).unwrap()),
                _ => registry.register(LlmAgent::new(definition, providers).unwrap()),
            };
            registered.unwrap();
        }
        registry
    }

    /// Every attempt that started, in order.
    pub(crate) fn calls(&self) -> Vec<StepContext> {
        self.log.lock().unwrap().calls.clone()
    }

    /// The attempts of steps with this name.
    pub(crate) fn calls_of(&self, step: &str) -> Vec<StepContext> {
        self.calls().into_iter().filter(|call| call.step_name == step).collect()
    }

    /// Attempts of an agent that run now.
    pub(crate) fn running(&self, agent: &str) -> usize {
        let name = (AgentType::new(agent).unwrap(), None);
        self.log.lock().unwrap().running.get(&name).copied().unwrap_or_default()
    }

    /// The most attempts of an agent that ran at once, in all, or of one
    /// workspace.
    pub(crate) fn most_at_once(&self, agent: &str, workspace: Option<WorkspaceId>) -> usize {
        let name = (AgentType::new(agent).unwrap(), workspace);
        self.log.lock().unwrap().most.get(&name).copied().unwrap_or_default()
    }
}

fn defined(name: &str, toml: &str) -> Definition {
    Definition::parse(&format!("{name}.toml"), name, toml).unwrap()
}

/// Counts an attempt while it runs, however it ends.
struct Inside {
    log: Arc<Mutex<Log>>,
    names: [(AgentType, Option<WorkspaceId>); 2],
}

impl Inside {
    fn enter(log: Arc<Mutex<Log>>, step: &StepContext) -> Self {
        let names = [(step.agent.clone(), None), (step.agent.clone(), Some(step.workspace))];
        let mut guard = log.lock().unwrap();
        guard.calls.push(step.clone());
        for name in &names {
            let running = guard.running.entry(name.clone()).or_default();
            *running += 1;
            let running = *running;
            let most = guard.most.entry(name.clone()).or_default();
            *most = running.max(*most);
        }
        drop(guard);
        Self { log, names }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let mut log = self.log.lock().unwrap();
        for name in &self.names {
            *log.running.get_mut(name).unwrap() -= 1;
        }
    }
}

/// Attempts wait here until the test lets them go, once and for all.
#[derive(Clone, Debug)]
pub(crate) struct Latch(Arc<watch::Sender<bool>>);

impl Latch {
    pub(crate) fn closed() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    pub(crate) fn open(&self) {
        self.0.send_replace(true);
    }

    pub(crate) async fn passed(&self) {
        let mut open = self.0.subscribe();
        // The sender lives in this very latch.
        open.wait_for(|open| *open).await.unwrap();
    }
}
