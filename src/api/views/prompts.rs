//! The prompts of agents: the deployment's, or the workspace's own.

use galley_engine::{PromptView, Rendered, Templates};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// Whose prompt an agent runs with here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PromptInForce {
    /// The agent.
    pub agent: String,
    /// Whether it is the workspace's own.
    pub own: bool,
    /// Rises with every change by the workspace; 0: it never changed it.
    pub version: u64,
    /// What the results of tasks know it by: equal templates have equal ones.
    pub prompt: String,
    /// Who changed it last; null: nobody of this workspace.
    pub set_by: Option<String>,
    /// When.
    #[schema(format = DateTime)]
    pub set_at: Option<String>,
}

/// A prompt with its templates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Prompt {
    /// The agent.
    pub agent: String,
    /// Whether it is the workspace's own.
    pub own: bool,
    /// Rises with every change by the workspace; 0: it never changed it.
    pub version: u64,
    /// What the results of tasks know it by: equal templates have equal ones.
    pub prompt: String,
    /// Who changed it last; null: nobody of this workspace.
    pub set_by: Option<String>,
    /// When.
    #[schema(format = DateTime)]
    pub set_at: Option<String>,
    /// The template of the system text, MiniJinja.
    pub system: String,
    /// The template of the user text.
    pub user: String,
}

impl From<PromptView> for PromptInForce {
    fn from(view: PromptView) -> Self {
        let PromptView { agent, own, version, prompt, set_by, set_at } = view;
        Self { agent, own, version: version.unsigned_abs(), prompt, set_by, set_at }
    }
}

impl From<(PromptView, Templates)> for Prompt {
    fn from((view, templates): (PromptView, Templates)) -> Self {
        let PromptView { agent, own, version, prompt, set_by, set_at } = view;
        let Templates { system, user } = templates;
        Self { agent, own, version: version.unsigned_abs(), prompt, set_by, set_at, system, user }
    }
}

/// A request to set a prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SetPrompt {
    /// The template of the system text, MiniJinja. It refers to nothing: nobody
    /// else writes the system text.
    #[schema(max_length = 32_768)]
    pub system: String,
    /// The template of the user text. It may refer to `brief`, `params`, `results`
    /// and `item`; every text of theirs that it prints comes out fenced.
    #[schema(max_length = 32_768)]
    pub user: String,
    /// The version that was looked at; a newer one is a conflict. Absent: whatever
    /// it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

/// A request to see what a prompt makes of an input.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PreviewPrompt {
    /// Templates to try; absent: those in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub templates: Option<PromptTemplates>,
    /// A step input (`brief`, `params`, `results`, `item`); absent: the agent's
    /// example.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
}

/// The two templates of a prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PromptTemplates {
    /// Of the system text.
    pub system: String,
    /// Of the user text.
    pub user: String,
}

impl From<PromptTemplates> for Templates {
    fn from(templates: PromptTemplates) -> Self {
        let PromptTemplates { system, user } = templates;
        Self { system, user }
    }
}

/// What a prompt makes of an input. Nobody was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RenderedPrompt {
    /// What results would know the prompt by.
    pub prompt: String,
    /// The system text, with the rules that every one ends with.
    pub system: String,
    /// The user text. What others said to the step would stand behind it.
    pub user: String,
}

impl From<Rendered> for RenderedPrompt {
    fn from(Rendered { prompt, system, user }: Rendered) -> Self {
        Self { prompt, system, user }
    }
}
