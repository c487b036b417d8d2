//! Prompts of a workspace's own: checked and set, shown, tried, and opened by
//! whoever runs its agents. What is in force when an attempt renders its prompt
//! holds for that attempt.

use std::collections::BTreeMap;
use std::sync::Arc;

use galley_core::agent::{AgentSpec, PromptSpec};
use galley_core::hash;
use galley_core::ids::{AgentType, WorkspaceId};
use galley_core::plan::Problem;
use galley_prompts::{Author, BadTemplate, Prompt, standing_rules, version};
use galley_store::{PromptRow, PromptWrite, StoreError};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cache::fresh;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::vault::Row;

/// The two templates of a prompt, MiniJinja.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Templates {
    /// Of the system text.
    pub system: String,
    /// Of the user text.
    pub user: String,
}

/// An agent's prompt in a workspace.
#[derive(Clone, Debug)]
pub struct PromptView {
    /// The agent.
    pub agent: String,
    /// Whether it is the workspace's own.
    pub own: bool,
    /// Rises with every change by the workspace; 0: it never set one.
    pub version: i64,
    /// What results know it by: equal templates have equal ones.
    pub prompt: String,
    /// Who changed it last.
    pub set_by: Option<String>,
    /// When, RFC 3339.
    pub set_at: Option<String>,
}

/// A workspace's own prompt, ready to be rendered.
#[derive(Clone, Debug)]
pub struct OwnPrompt {
    /// Rises with every change.
    pub version: i64,
    /// The templates; `Err`: they cannot be opened, and why.
    pub templates: Result<Templates, String>,
}

/// What a prompt makes of an input.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// What results would know the prompt by.
    pub prompt: String,
    /// The system text, with the rules that every one ends with.
    pub system: String,
    /// The user text.
    pub user: String,
}

fn no_agent(agent: &str) -> EngineError {
    EngineError::NotFound { kind: "agent", id: agent.to_owned() }
}

impl PromptView {
    fn of(row: PromptRow, deployments: Option<&PromptSpec>) -> Self {
        let known_by = deployments.map(|spec| version(&spec.system, &spec.user));
        Self {
            agent: row.agent,
            own: row.prompt.is_some(),
            version: row.version,
            prompt: row.prompt.or(known_by).unwrap_or_default(),
            set_by: Some(row.set_by),
            set_at: Some(row.set_at),
        }
    }

    fn of_the_deployment(agent: &AgentType, spec: &PromptSpec) -> Self {
        Self {
            agent: agent.to_string(),
            own: false,
            version: 0,
            prompt: version(&spec.system, &spec.user),
            set_by: None,
            set_at: None,
        }
    }
}

impl From<&PromptSpec> for Templates {
    fn from(spec: &PromptSpec) -> Self {
        Self { system: spec.system.clone(), user: spec.user.clone() }
    }
}

/// What is wrong with templates, at their field of a request.
fn problem(bad: &BadTemplate) -> EngineError {
    let at = bad.key.rsplit('.').next().unwrap_or(bad.key);
    EngineError::Invalid(vec![Problem::new(at, format!("{bad}; {}", bad.hint))])
}

/// Reads templates and renders them, away from the threads that answer: a
/// template may do some work.
async fn rendered(
    templates: Templates,
    author: Author,
    input: Option<Value>,
) -> Result<Option<(String, String)>, EngineError> {
    let work = move || {
        let prompt = Prompt::parse(templates.system, templates.user, author)?;
        input.map(|input| prompt.try_on(&input)).transpose()
    };
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|error| EngineError::Internal(format!("a prompt was not rendered: {error}")))?;
    done.map_err(|bad| problem(&bad))
}

impl Engine {
    /// Every agent that has a prompt, by name, with whose is in force.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn prompts(&self, workspace: WorkspaceId) -> Result<Vec<PromptView>, EngineError> {
        let mut all = BTreeMap::new();
        let mut specs = BTreeMap::new();
        for row in self.store().list_agents().await? {
            let AgentSpec { agent, prompt: Some(spec), .. } = row.spec else { continue };
            all.insert(agent.to_string(), PromptView::of_the_deployment(&agent, &spec));
            specs.insert(agent.to_string(), spec);
        }
        for row in self.store().prompts(workspace).await? {
            // One that was reset, of an agent that is no more, says nothing.
            if row.prompt.is_some() || specs.contains_key(&row.agent) {
                let spec = specs.get(&row.agent);
                all.insert(row.agent.clone(), PromptView::of(row, spec));
            }
        }
        Ok(all.into_values().collect())
    }

    /// An agent's prompt with its templates: the one in force, or a version that
    /// the workspace set.
    ///
    /// # Errors
    /// [`EngineError::NotFound`]; [`EngineError::Sealed`].
    pub async fn prompt(
        &self,
        workspace: WorkspaceId,
        agent: &AgentType,
        version: Option<i64>,
    ) -> Result<(PromptView, Templates), EngineError> {
        let spec = self.registered(agent).await?.and_then(|spec| spec.prompt);
        let row = self.store().prompt(workspace, agent, version).await?;
        match (row, &spec) {
            (Some(row), _) if row.prompt.is_some() => {
                let templates =
                    self.opened_prompt(workspace, agent, &row).await?.map_err(EngineError::Sealed)?;
                Ok((PromptView::of(row, spec.as_ref()), templates))
            }
            (None, _) if version.is_some() => {
                let id = format!("{agent} version {}", version.unwrap_or_default());
                Err(EngineError::NotFound { kind: "prompt", id })
            }
            (Some(row), Some(spec)) => Ok((PromptView::of(row, Some(spec)), spec.into())),
            (None, Some(spec)) => Ok((PromptView::of_the_deployment(agent, spec), spec.into())),
            (_, None) => Err(no_agent(agent.as_str())),
        }
    }

    /// Sets the workspace's own prompt of an agent, if it is still at the version
    /// that was seen.
    ///
    /// # Errors
    /// [`EngineError::NotFound`]: no such agent. [`EngineError::Invalid`]: it has
    /// no prompt, or this one does not read or render. [`EngineError::Conflict`]:
    /// it was changed meanwhile.
    pub async fn set_prompt(
        &self,
        workspace: WorkspaceId,
        agent: &AgentType,
        new: Templates,
        seen: Option<i64>,
        actor: &str,
    ) -> Result<(PromptView, Templates), EngineError> {
        let (spec, prompt) = self.with_prompt(agent).await?;
        let example = prompt.example.or(spec.example);
        rendered(new.clone(), Author::Workspace, example).await?;
        let unwritable = |error| EngineError::Internal(format!("a prompt does not serialize: {error}"));
        let content = serde_json::to_string(&new).map_err(unwritable)?;
        let known_by = (version(&new.system, &new.user), hash::of_text(&content));
        self.write_prompt(workspace, agent, Some((known_by, content)), seen, actor).await?;
        self.prompt(workspace, agent, None).await
    }

    /// Puts the deployment's prompt in force again.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] when the workspace has none of its own;
    /// [`EngineError::Conflict`]: it was changed meanwhile.
    pub async fn reset_prompt(
        &self,
        workspace: WorkspaceId,
        agent: &AgentType,
        actor: &str,
    ) -> Result<PromptView, EngineError> {
        let old = self.store().prompt(workspace, agent, None).await?;
        let Some(old) = old.filter(|row| row.prompt.is_some()) else {
            return Err(EngineError::NotFound { kind: "prompt of its own for", id: agent.to_string() });
        };
        self.write_prompt(workspace, agent, None, Some(old.version), actor).await?;
        let row = self.store().prompt(workspace, agent, None).await?;
        let spec = self.registered(agent).await?.and_then(|spec| spec.prompt);
        row.map(|row| PromptView::of(row, spec.as_ref())).ok_or_else(|| no_agent(agent.as_str()))
    }

    async fn write_prompt(
        &self,
        workspace: WorkspaceId,
        agent: &AgentType,
        new: Option<((String, String), String)>,
        seen: Option<i64>,
        actor: &str,
    ) -> Result<(), EngineError> {
        let old = self.store().prompt(workspace, agent, None).await?;
        let newest = old.as_ref().map_or(0, |row| row.version);
        if seen.is_some_and(|seen| seen != newest) {
            return Err(EngineError::Conflict(format!(
                "the prompt was changed meanwhile: it is at version {newest}; look at it and try again"
            )));
        }
        let (known_by, content, sealed) = match new {
            Some((known_by, content)) => {
                let sealed = self.seal(Row::prompt(workspace, agent, newest + 1), &content).await?;
                (Some(known_by), content, sealed)
            }
            None => (None, "null".to_owned(), None),
        };
        let before = old.and_then(|row| row.hash);
        let actor = actor.to_owned();
        let write =
            PromptWrite { agent: agent.clone(), seen: newest, known_by, content, sealed, actor, before };
        match self.store().set_prompt(workspace, write).await {
            Err(StoreError::Overtaken(_)) => Err(EngineError::Conflict(
                "the prompt was changed by somebody else at the same moment; look at it and try again".into(),
            )),
            done => Ok(done?),
        }
    }

    /// What templates make of an input, without a call: those in force, on the
    /// agent's example, unless others are given.
    ///
    /// # Errors
    /// As [`Engine::set_prompt`]; [`EngineError::Invalid`] when there is no input.
    pub async fn preview_prompt(
        &self,
        workspace: WorkspaceId,
        agent: &AgentType,
        given: Option<Templates>,
        input: Option<Value>,
    ) -> Result<Rendered, EngineError> {
        let (spec, prompt) = self.with_prompt(agent).await?;
        let (templates, author) = match given {
            Some(templates) => (templates, Author::Workspace),
            None => {
                let (view, templates) = self.prompt(workspace, agent, None).await?;
                (templates, if view.own { Author::Workspace } else { Author::Deployment })
            }
        };
        let Some(input) = input.or(prompt.example).or(spec.example) else {
            return Err(EngineError::invalid("input", "the agent has no example: give an input"));
        };
        let known_by = version(&templates.system, &templates.user);
        let (system, user) = rendered(templates, author, Some(input)).await?.unwrap_or_default();
        let rules = standing_rules(prompt.answer_schema.as_ref().unwrap_or(&spec.output_schema));
        Ok(Rendered { prompt: known_by, system: format!("{system}\n\n{rules}"), user })
    }

    /// An agent's registration, and its prompt as the deployment has it.
    async fn with_prompt(&self, agent: &AgentType) -> Result<(AgentSpec, PromptSpec), EngineError> {
        let mut spec = self.registered(agent).await?.ok_or_else(|| no_agent(agent.as_str()))?;
        match spec.prompt.take() {
            Some(prompt) => Ok((spec, prompt)),
            None => Err(EngineError::invalid(
                "agent",
                format!("`{agent}` has no prompt: only agents that are defined as data have one"),
            )),
        }
    }

    async fn opened_prompt(
        &self,
        workspace: WorkspaceId,
        agent: &AgentType,
        row: &PromptRow,
    ) -> Result<Result<Templates, String>, StoreError> {
        let opened = self.open(Row::prompt(workspace, agent, row.version), row.content.clone()).await?;
        Ok(opened.and_then(|json| {
            serde_json::from_str(&json)
                .map_err(|error| format!("the prompt of {agent} does not read: {error}"))
        }))
    }

    /// The workspace's own prompt of an agent, as it was at most
    /// [`EngineConfig::policy_memory`](crate::EngineConfig) ago. For whoever runs
    /// the agent.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn own_prompt(
        &self,
        workspace: WorkspaceId,
        agent: &AgentType,
    ) -> Result<Option<Arc<OwnPrompt>>, EngineError> {
        let read = async {
            let row = self.store().prompt(workspace, agent, None).await?.filter(|row| row.prompt.is_some());
            let Some(row) = row else { return Ok(None) };
            let templates = self.opened_prompt(workspace, agent, &row).await?;
            Ok(Some(Arc::new(OwnPrompt { version: row.version, templates })))
        };
        fresh(&self.caches().prompts, &(workspace, agent.clone()), self.config().policy_memory, read).await
    }
}
