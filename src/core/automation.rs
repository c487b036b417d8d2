//! A workspace's policy: what runs by itself, what a person has to approve,
//! and how many posts go out per day.

use std::borrow::Cow;

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::choice::Weights;
use crate::ids::AgentType;
use crate::plan::Problem;

/// The highest limit of posts per day.
pub const MOST_DAILY_POSTS: u32 = 1_000_000;

/// Who decides that work goes on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Agents run and posts go out by themselves.
    FullAutonomous,
    /// Agents run by themselves; each post waits for an approval.
    #[default]
    Assisted,
    /// Each step waits for a person's go, each post for an approval.
    Manual,
    /// Agents run by themselves; rules decide about posts. While there are no
    /// rules, each post waits for an approval.
    Hybrid,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 4] = [Self::FullAutonomous, Self::Assisted, Self::Manual, Self::Hybrid];

    /// The word used in the API, the CLI and the docs.
    pub fn word(self) -> &'static str {
        match self {
            Self::FullAutonomous => "full_autonomous",
            Self::Assisted => "assisted",
            Self::Manual => "manual",
            Self::Hybrid => "hybrid",
        }
    }
}

/// The policy of a workspace. The default is careful: every post waits for a
/// person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AutomationConfig {
    /// Who decides that work goes on.
    pub mode: Mode,
    /// Whether every post needs an approval whatever the mode says.
    pub content_approval_required: bool,
    /// Whether whoever approves must be somebody else than who wrote it and who
    /// submitted its workflow. Left out while false: an older release does not
    /// know it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub four_eyes: bool,
    /// The agent types that may run; absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled_agents: Option<Vec<AgentType>>,
    /// Whether recurring workflows are started.
    pub schedule_automation: bool,
    /// The platforms that may be published to; absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_platforms: Option<Vec<String>>,
    /// Most posts per day of the workspace's time zone; absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_daily_posts: Option<u32>,
    /// The workspace's IANA time zone: its days are what the limits count in.
    pub time_zone: String,
    /// Least minutes between two posts of one account.
    pub min_spacing_minutes: u32,
    /// Hours after which an approval that nobody gave expires.
    pub approval_expiry_hours: u32,
    /// What matters how much when a model is chosen. Left out while as usual:
    /// an older release does not know it.
    #[serde(skip_serializing_if = "is_usual")]
    pub model_weights: Weights,
}

fn is_usual(weights: &Weights) -> bool {
    *weights == Weights::default()
}

impl Default for AutomationConfig {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            content_approval_required: true,
            four_eyes: false,
            enabled_agents: None,
            schedule_automation: false,
            allowed_platforms: None,
            max_daily_posts: None,
            time_zone: "UTC".into(),
            min_spacing_minutes: 0,
            approval_expiry_hours: 72,
            model_weights: Weights::default(),
        }
    }
}

/// What the policy says about a post that could go out now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Not at all.
    Forbidden(String),
    /// When a person said yes to exactly these bytes; why.
    NeedsApproval(Cow<'static, str>),
    /// By itself.
    Free,
}

impl AutomationConfig {
    /// What is wrong with the config; empty when it can be used.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if let Err(problem) = time_zone(&self.time_zone) {
            problems.push(Problem::new("timeZone", problem));
        }
        problems.extend(
            self.model_weights
                .problems()
                .into_iter()
                .map(|problem| Problem::new(format!("modelWeights.{}", problem.at), problem.problem)),
        );
        if self.max_daily_posts == Some(0) {
            problems.push(Problem::new(
                "maxDailyPosts",
                "at least 1; to stop all posts pause the queue of `publisher`, or allow no platform",
            ));
        }
        if self.max_daily_posts.is_some_and(|limit| limit > MOST_DAILY_POSTS) {
            problems.push(Problem::new("maxDailyPosts", format!("at most {MOST_DAILY_POSTS}")));
        }
        if self.min_spacing_minutes > 24 * 60 {
            problems.push(Problem::new("minSpacingMinutes", "at most 1440 (a day)"));
        }
        if !(1..=24 * 90).contains(&self.approval_expiry_hours) {
            problems.push(Problem::new("approvalExpiryHours", "1 to 2160 (90 days)"));
        }
        problems
    }

    /// Whether posts may follow each other closer than under `before`: those
    /// that wait for a slot can go out sooner then.
    pub fn leaves_more_room_than(&self, before: &Self) -> bool {
        let more = match (self.max_daily_posts, before.max_daily_posts) {
            (None, limit) => limit.is_some(),
            (Some(now), Some(then)) => now > then,
            (Some(_), None) => false,
        };
        more || self.min_spacing_minutes < before.min_spacing_minutes
    }

    /// Whether an agent type may run.
    pub fn is_enabled(&self, agent: &AgentType) -> bool {
        self.enabled_agents.as_ref().is_none_or(|agents| agents.contains(agent))
    }

    /// Whether an agent's step waits for a person's go. A publish step does
    /// not: the approval of its post is its go.
    pub fn needs_go(&self, agent: &AgentType) -> bool {
        self.mode == Mode::Manual && agent.as_str() != crate::publish::PUBLISHER
    }

    /// What the policy says about a post. `held`: it waited for an approval
    /// before; loosening the policy does not release it. `refused`: why its
    /// review does not let it out; whatever the mode, a person decides then.
    pub fn gate(&self, publisher: &AgentType, platform: &str, held: bool, refused: Option<String>) -> Gate {
        if !self.is_enabled(publisher) {
            return Gate::Forbidden(format!("the agent `{publisher}` is not enabled in this workspace"));
        }
        if self.allowed_platforms.as_ref().is_some_and(|allowed| !allowed.iter().any(|p| p == platform)) {
            return Gate::Forbidden(format!("the platform `{platform}` is not allowed in this workspace"));
        }
        if let Some(why) = refused {
            return Gate::NeedsApproval(why.into());
        }
        let why = match self.mode {
            // The first two win over any rule that may come.
            _ if self.content_approval_required => "every post needs an approval here",
            _ if held => "it waited for an approval before the policy was loosened",
            Mode::Assisted => "in the mode `assisted` every post needs an approval",
            Mode::Manual => "in the mode `manual` every post needs an approval",
            Mode::Hybrid => "no rule lets it out by itself",
            Mode::FullAutonomous => return Gate::Free,
        };
        Gate::NeedsApproval(why.into())
    }
}

/// The time zone of an IANA name.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn time_zone(name: &str) -> Result<TimeZone, String> {
    TimeZone::get(name).map_err(|_| format!("`{name}` is no IANA time zone: Europe/Lisbon, Asia/Tokyo, UTC"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(name: &str) -> AgentType {
        AgentType::new(name).expect("name")
    }

    /// The whole table of the product: mode × approval × agents × platforms × held.
    #[test]
    fn only_full_autonomy_lets_a_post_out_by_itself() {
        let publisher = agent("publisher");
        for mode in Mode::ALL {
            for approval in [false, true] {
                for agents in [None, Some(vec![publisher.clone()]), Some(vec![agent("strategy")])] {
                    for platforms in [None, Some(vec!["x".to_owned()]), Some(vec!["y".to_owned()])] {
                        for held in [false, true] {
                            let config = AutomationConfig {
                                mode,
                                content_approval_required: approval,
                                enabled_agents: agents.clone(),
                                allowed_platforms: platforms.clone(),
                                ..AutomationConfig::default()
                            };
                            let forbidden = agents == Some(vec![agent("strategy")])
                                || platforms == Some(vec!["y".to_owned()]);
                            let free = mode == Mode::FullAutonomous && !approval && !held;
                            let gate = config.gate(&publisher, "x", held, None);
                            assert_eq!(matches!(gate, Gate::Forbidden(_)), forbidden, "{config:?}");
                            assert_eq!(gate == Gate::Free, free && !forbidden, "{config:?}");
                            let gate = config.gate(&publisher, "x", held, Some("no".into()));
                            assert_eq!(gate == Gate::NeedsApproval("no".into()), !forbidden, "{config:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn room_is_a_higher_limit_none_or_less_spacing() {
        let of = |max_daily_posts, min_spacing_minutes| AutomationConfig {
            max_daily_posts,
            min_spacing_minutes,
            ..AutomationConfig::default()
        };
        let before = of(Some(3), 10);
        for (after, more) in [
            (of(Some(4), 10), true),
            (of(None, 10), true),
            (of(Some(3), 9), true),
            (of(Some(2), 9), true),
            (of(Some(3), 10), false),
            (of(Some(2), 10), false),
            (of(Some(3), 11), false),
        ] {
            assert_eq!(after.leaves_more_room_than(&before), more, "{after:?}");
        }
        assert!(!of(Some(3), 0).leaves_more_room_than(&of(None, 0)));
    }

    #[test]
    fn problems_name_their_place() {
        let config = AutomationConfig {
            time_zone: "Mars/Olympus".into(),
            max_daily_posts: Some(0),
            approval_expiry_hours: 0,
            min_spacing_minutes: 1441,
            ..AutomationConfig::default()
        };
        let places: Vec<_> = config.problems().into_iter().map(|problem| problem.at).collect();
        assert_eq!(places, ["timeZone", "maxDailyPosts", "minSpacingMinutes", "approvalExpiryHours"]);
        assert!(AutomationConfig::default().problems().is_empty());
    }
}
