//! The automation config: the policy of a workspace.

use galley_core::automation::{AutomationConfig, Mode};
use galley_core::choice::Weights;
use galley_core::ids::{AgentType, WorkspaceId};
use galley_engine::Policy;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::posts::nullable;
use super::words::AutomationMode;

/// A workspace's policy: what runs by itself, what a person has to approve, how
/// many posts go out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Automation {
    /// The workspace.
    #[schema(value_type = Uuid)]
    pub workspace_id: WorkspaceId,
    /// Who decides that work goes on.
    pub mode: AutomationMode,
    /// What decides per post in the mode `hybrid`. Always empty in this release.
    pub rules: Vec<Value>,
    /// The agent types that may run; null: all.
    pub enabled_agents: Option<Vec<String>>,
    /// Whether recurring workflows are started.
    pub schedule_automation: bool,
    /// Whether every post needs an approval whatever the mode says.
    pub content_approval_required: bool,
    /// Whether whoever approves must be somebody else than who wrote the
    /// revision and who submitted the workflow; a key never is.
    pub four_eyes: bool,
    /// Most posts per day of the workspace; null: no limit.
    pub max_daily_posts: Option<u32>,
    /// The platforms that may be published to; null: all.
    pub allowed_platforms: Option<Vec<String>>,
    /// The IANA time zone whose days the limits count in.
    pub time_zone: String,
    /// Least minutes between two posts of one account.
    pub min_spacing_minutes: u32,
    /// Hours after which an approval that nobody gave expires.
    pub approval_expiry_hours: u32,
    /// What matters how much when a model is chosen.
    pub model_weights: ModelWeights,
    /// Rises with every change; 0: nobody set one, this is the careful default.
    pub version: u64,
    /// From when days count in `timeZone`, while that is still to come.
    #[schema(format = DateTime)]
    pub time_zone_in_force_from: Option<String>,
    /// The time zone days count in until then.
    pub time_zone_until_then: Option<String>,
    /// Who set it.
    pub updated_by: Option<String>,
    /// When.
    #[schema(format = DateTime)]
    pub updated_at: Option<String>,
}

impl Automation {
    /// The policy of a workspace.
    pub(crate) fn of(workspace_id: WorkspaceId, policy: Policy) -> Self {
        let Policy { config, version, row } = policy;
        let is_pending = |since: &str| match (row.now.parse::<Timestamp>(), since.parse::<Timestamp>()) {
            (Ok(now), Ok(since)) => now < since,
            _ => false,
        };
        let pending = row.previous.clone().filter(|(_, since)| is_pending(since));
        let (time_zone_until_then, time_zone_in_force_from) = pending.unzip();
        let agents = |agents: Vec<AgentType>| agents.iter().map(ToString::to_string).collect();
        Self {
            workspace_id,
            mode: config.mode.into(),
            rules: Vec::new(),
            enabled_agents: config.enabled_agents.map(agents),
            schedule_automation: config.schedule_automation,
            content_approval_required: config.content_approval_required,
            four_eyes: config.four_eyes,
            max_daily_posts: config.max_daily_posts,
            allowed_platforms: config.allowed_platforms,
            time_zone: config.time_zone,
            min_spacing_minutes: config.min_spacing_minutes,
            approval_expiry_hours: config.approval_expiry_hours,
            model_weights: config.model_weights.into(),
            version: version.unsigned_abs(),
            time_zone_in_force_from,
            time_zone_until_then,
            updated_by: row.updated_by,
            updated_at: row.updated_at,
        }
    }
}

/// What matters how much when a model is chosen, each 0 (not at all) to 5.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModelWeights {
    /// Rating × success rate.
    #[schema(minimum = 0, maximum = 5)]
    pub quality: f64,
    /// Cost per run.
    #[schema(minimum = 0, maximum = 5)]
    pub cost: f64,
    /// Run time.
    #[schema(minimum = 0, maximum = 5)]
    pub latency: f64,
    /// How curious the choice is; 0: it never tries what looks worse.
    #[schema(minimum = 0, maximum = 5)]
    pub exploration: f64,
}

impl From<Weights> for ModelWeights {
    fn from(weights: Weights) -> Self {
        let Weights { quality, cost, latency, exploration } = weights;
        Self { quality, cost, latency, exploration }
    }
}

impl From<ModelWeights> for Weights {
    fn from(weights: ModelWeights) -> Self {
        let ModelWeights { quality, cost, latency, exploration } = weights;
        Self { quality, cost, latency, exploration }
    }
}

/// The whole policy anew. What can be null may not be left out: a forgotten
/// limit would be no limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SetAutomation {
    /// Who decides that work goes on.
    pub mode: AutomationMode,
    /// Empty: rules come in a later release.
    #[serde(default)]
    pub rules: Vec<Value>,
    /// The agent types that may run; null: all.
    #[serde(deserialize_with = "nullable")]
    #[schema(required, value_type = Option<Vec<String>>)]
    pub enabled_agents: Option<Vec<AgentType>>,
    /// Whether recurring workflows are started.
    pub schedule_automation: bool,
    /// Whether every post needs an approval whatever the mode says.
    pub content_approval_required: bool,
    /// Most posts per day of the workspace; null: no limit.
    #[serde(deserialize_with = "nullable")]
    #[schema(required, minimum = 1, maximum = 1_000_000)]
    pub max_daily_posts: Option<u32>,
    /// The platforms that may be published to; null: all.
    #[serde(deserialize_with = "nullable")]
    #[schema(required)]
    pub allowed_platforms: Option<Vec<String>>,
    /// The IANA time zone whose days the limits count in; absent: as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// Least minutes between two posts of one account; absent: as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 1440)]
    pub min_spacing_minutes: Option<u32>,
    /// Whether whoever approves must be somebody else than who wrote the
    /// revision and who submitted the workflow; absent: as it is. It holds for
    /// answers from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub four_eyes: Option<bool>,
    /// Hours after which an approval that nobody gave expires; absent: as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 2160)]
    pub approval_expiry_hours: Option<u32>,
    /// What matters how much when a model is chosen; absent: as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_weights: Option<ModelWeights>,
    /// The version that was looked at: refused with 409 when there is a newer
    /// one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

impl SetAutomation {
    /// The config it asks for, where `current` holds now.
    pub(crate) fn over(self, current: AutomationConfig) -> AutomationConfig {
        AutomationConfig {
            mode: self.mode.into(),
            content_approval_required: self.content_approval_required,
            four_eyes: self.four_eyes.unwrap_or(current.four_eyes),
            enabled_agents: self.enabled_agents,
            schedule_automation: self.schedule_automation,
            allowed_platforms: self.allowed_platforms,
            max_daily_posts: self.max_daily_posts,
            time_zone: self.time_zone.unwrap_or(current.time_zone),
            min_spacing_minutes: self.min_spacing_minutes.unwrap_or(current.min_spacing_minutes),
            approval_expiry_hours: self.approval_expiry_hours.unwrap_or(current.approval_expiry_hours),
            model_weights: self.model_weights.map_or(current.model_weights, Into::into),
        }
    }
}

impl From<Mode> for AutomationMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::FullAutonomous => Self::FullAutonomous,
            Mode::Assisted => Self::Assisted,
            Mode::Manual => Self::Manual,
            Mode::Hybrid => Self::Hybrid,
        }
    }
}

impl From<AutomationMode> for Mode {
    fn from(mode: AutomationMode) -> Self {
        match mode {
            AutomationMode::FullAutonomous => Self::FullAutonomous,
            AutomationMode::Assisted => Self::Assisted,
            AutomationMode::Manual => Self::Manual,
            AutomationMode::Hybrid => Self::Hybrid,
        }
    }
}
