//! `galley automation`: the policy of the workspace.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use galley_api::views;
use serde_json::{Map, Value, json};

use crate::cli::{Remote, Run, Settings};
use crate::client;
use crate::config::Flags;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::files::{document, input};
use crate::print::{self, style};
use crate::time;

/// What the API says about a policy and does not take.
const ONLY_SAID: [&str; 5] =
    ["workspaceId", "updatedBy", "updatedAt", "timeZoneInForceFrom", "timeZoneUntilThen"];

/// See and set what runs by itself and what a person has to approve
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  galley automation get
  galley automation set --mode full_autonomous --approval-required false
  galley automation set --max-daily-posts 5 --time-zone Europe/Lisbon
  galley automation set --allowed-platforms bluesky,mastodon
  galley automation get --json > policy.json; galley automation set --file policy.json")]
pub(crate) struct Automation {
    #[command(subcommand)]
    command: AutomationCommand,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum AutomationCommand {
    /// Show the policy of the workspace
    Get,
    /// Change the policy: what is not given stays
    Set(Box<Set>),
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args([
    "mode", "max_daily_posts", "approval_required", "four_eyes", "time_zone", "min_spacing_minutes",
    "allowed_platforms", "enabled_agents", "schedule_automation", "approval_expiry_hours", "file",
]))]
struct Set {
    /// Who decides that work goes on
    #[arg(long, value_name = "MODE", value_parser = ["full_autonomous", "assisted", "manual", "hybrid"])]
    mode: Option<String>,
    /// Most posts per day of the workspace; `none` for no limit
    #[arg(long, value_name = "N|none", value_parser = number_or_none)]
    max_daily_posts: Option<Value>,
    /// Whether every post needs an approval whatever the mode says
    #[arg(long, value_name = "true|false")]
    approval_required: Option<bool>,
    /// Whether whoever approves must be neither who wrote the post nor who submitted its workflow
    #[arg(long, value_name = "true|false")]
    four_eyes: Option<bool>,
    /// The IANA time zone whose days the limits count in
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
    /// Least minutes between two posts of one account
    #[arg(long, value_name = "N")]
    min_spacing_minutes: Option<u32>,
    /// The platforms that may be published to; `all` for every one
    #[arg(long, value_name = "A,B|all", value_parser = names_or_all)]
    allowed_platforms: Option<Value>,
    /// The agent types that may run; `all` for every one
    #[arg(long, value_name = "A,B|all", value_parser = names_or_all)]
    enabled_agents: Option<Value>,
    /// Whether recurring workflows are started
    #[arg(long, value_name = "true|false")]
    schedule_automation: Option<bool>,
    /// Hours after which an approval that nobody gave expires
    #[arg(long, value_name = "N")]
    approval_expiry_hours: Option<u32>,
    /// The whole policy from a file (JSON, as `automation get --json` prints it); `-` for stdin
    #[arg(long, value_name = "FILE", conflicts_with_all = [
        "mode", "max_daily_posts", "approval_required", "four_eyes", "time_zone", "min_spacing_minutes",
        "allowed_platforms", "enabled_agents", "schedule_automation", "approval_expiry_hours",
    ])]
    file: Option<PathBuf>,
}

fn number_or_none(text: &str) -> Result<Value, String> {
    match text {
        "none" => Ok(Value::Null),
        number => number
            .parse::<u32>()
            .map(Value::from)
            .map_err(|_| "write a number, or `none` for no limit".into()),
    }
}

fn names_or_all(text: &str) -> Result<Value, String> {
    let names: Vec<&str> = text.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    match names[..] {
        [] => Err("write names with commas between them, or `all`".into()),
        ["all"] => Ok(Value::Null),
        _ => Ok(json!(names)),
    }
}

impl Run for Automation {
    fn flags(&self) -> Flags {
        self.remote.flags()
    }

    async fn run(self, settings: Settings) -> Result<(), Failure> {
        let client = Remote::client(&settings)?;
        let path = ["v1", "automation"];
        let answer = match self.command {
            AutomationCommand::Get => client.get(&path).await?,
            AutomationCommand::Set(set) => {
                let policy = match &set.file {
                    Some(file) => document(&input(file)?, file)?,
                    None => client.get(&path).await?,
                };
                let Value::Object(policy) = policy else {
                    return Err(Failure::new(Exit::Refused, "a policy is a JSON object")
                        .hint("`galley automation get --json` prints one"));
                };
                let policy = Value::Object(set.over(policy));
                client.put(&path, &policy).await.map_err(|failure| match failure.exit {
                    Exit::Conflict => failure.hint("`galley automation get` shows it as it is now"),
                    _ => failure,
                })?
            }
        };
        if self.remote.json {
            return print::json(&answer);
        }
        print::data(&shown(&client::read(&answer)?))
    }
}

impl Set {
    /// The policy with the given fields changed; its version stays in it, so
    /// that a change that was not seen is not undone.
    fn over(self, mut policy: Map<String, Value>) -> Map<String, Value> {
        policy.retain(|field, _| !ONLY_SAID.contains(&field.as_str()));
        let given = [
            ("mode", self.mode.map(Value::from)),
            ("maxDailyPosts", self.max_daily_posts),
            ("contentApprovalRequired", self.approval_required.map(Value::from)),
            ("fourEyes", self.four_eyes.map(Value::from)),
            ("timeZone", self.time_zone.map(Value::from)),
            ("minSpacingMinutes", self.min_spacing_minutes.map(Value::from)),
            ("allowedPlatforms", self.allowed_platforms),
            ("enabledAgents", self.enabled_agents),
            ("scheduleAutomation", self.schedule_automation.map(Value::from)),
            ("approvalExpiryHours", self.approval_expiry_hours.map(Value::from)),
        ];
        for (field, value) in given {
            if let Some(value) = value {
                policy.insert(field.to_owned(), value);
            }
        }
        policy
    }
}

/// The policy, and in a line what it means for a post.
fn shown(policy: &views::Automation) -> String {
    let names = |names: &Option<Vec<String>>| match names {
        None => "all".to_owned(),
        Some(names) if names.is_empty() => "none".into(),
        Some(names) => names.join(", "),
    };
    let yes = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    let mut zone = policy.time_zone.clone();
    if let Some(from) = &policy.time_zone_in_force_from {
        let until = policy.time_zone_until_then.as_deref().unwrap_or("the old one");
        zone.push_str(&format!(" from {from}; until then {until}"));
    }
    let limit = policy.max_daily_posts.map_or("no limit".into(), |limit| limit.to_string());
    let set = match (&policy.updated_by, &policy.updated_at) {
        (Some(by), Some(at)) => format!("version {}, set by {by} {}", policy.version, time::ago(at)),
        _ => "nobody set one: this is the careful default".into(),
    };
    let facts = [
        ("mode", policy.mode.word().to_owned()),
        ("approval for every post", yes(policy.content_approval_required)),
        ("four eyes", yes(policy.four_eyes)),
        ("posts per day", limit),
        ("time zone", zone),
        ("minutes between posts", policy.min_spacing_minutes.to_string()),
        ("platforms", names(&policy.allowed_platforms)),
        ("agents", names(&policy.enabled_agents)),
        ("recurring workflows", yes(policy.schedule_automation)),
        ("approvals expire after", format!("{} h", policy.approval_expiry_hours)),
        ("rules", policy.rules.len().to_string()),
    ];
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, value) in facts {
        let pad = " ".repeat(width - name.len());
        text.push_str(&format!("{}{pad}  {value}\n", style::DIM.on(name)));
    }
    let free = policy.mode == views::AutomationMode::FullAutonomous && !policy.content_approval_required;
    let means = if free {
        style::WARN.on("posts go out by themselves")
    } else {
        style::GOOD.on("every post waits for an approval")
    };
    text.push_str(&format!("\n{means}\n{}\n", style::DIM.on(&set)));
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Set, names_or_all, number_or_none};

    fn nothing() -> Set {
        Set {
            mode: None,
            max_daily_posts: None,
            approval_required: None,
            four_eyes: None,
            time_zone: None,
            min_spacing_minutes: None,
            allowed_platforms: None,
            enabled_agents: None,
            schedule_automation: None,
            approval_expiry_hours: None,
            file: None,
        }
    }

    #[test]
    fn what_is_not_given_stays_and_the_version_goes_along() {
        let seen = json!({
            "workspaceId": "w", "mode": "assisted", "maxDailyPosts": 5, "version": 3, "updatedBy": "ana",
            "timeZoneInForceFrom": null,
        });
        let set = Set {
            mode: Some("manual".into()),
            allowed_platforms: Some(names_or_all("a, b").unwrap()),
            max_daily_posts: Some(number_or_none("none").unwrap()),
            ..nothing()
        };
        let changed = set.over(seen.as_object().unwrap().clone());
        assert_eq!(
            serde_json::Value::Object(changed),
            json!({ "mode": "manual", "maxDailyPosts": null, "allowedPlatforms": ["a", "b"], "version": 3 })
        );
    }

    #[test]
    fn no_limit_and_all_are_said() {
        assert_eq!(number_or_none("7"), Ok(json!(7)));
        assert!(number_or_none("many").is_err());
        assert_eq!(names_or_all("all"), Ok(json!(null)));
        assert!(names_or_all(" , ").is_err());
    }
}
