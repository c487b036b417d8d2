//! `galley budget`: what the workspace may spend.

use clap::{Args, Subcommand};
use galley_api::views;
use galley_core::ids::WorkflowId;
use serde_json::{Map, Value, json};

use crate::cli::{self, Remote, Run, Settings};
use crate::client;
use crate::config::Flags;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::print::{self, style};
use crate::show::dollars;
use crate::table::{Table, cell, painted};
use crate::time;

/// See and set what the workspace may spend
#[derive(Debug, Args)]
#[command(
    after_help = "A step whose next call has no room in a budget waits, and goes on by itself when the budget is
raised or the day or month turns. Amounts are US dollars.

Examples:
  galley budget show
  galley budget set --day 5 --month 100 --workflow 0.50
  galley budget set --day none
  galley budget set --only 0199d1c2-… --workflow 2.00    one workflow's own limit"
)]
pub(crate) struct Budget {
    #[command(subcommand)]
    command: BudgetCommand,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum BudgetCommand {
    /// Show the limits, and what was spent of them
    Show {
        /// With what this workflow spent
        #[arg(value_parser = cli::workflow_id)]
        workflow: Option<WorkflowId>,
    },
    /// Change limits: what is not given stays
    Set(Box<Set>),
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args([
    "day", "month", "workflow", "warn",
]))]
struct Set {
    /// Most per day of the workspace's time zone; `none` for no limit
    #[arg(long, value_name = "DOLLARS|none", value_parser = dollars_or_none, allow_negative_numbers = true, conflicts_with = "only")]
    day: Option<Value>,
    /// Most per calendar month; `none` for no limit
    #[arg(long, value_name = "DOLLARS|none", value_parser = dollars_or_none, allow_negative_numbers = true, conflicts_with = "only")]
    month: Option<Value>,
    /// Most per workflow; `none` for no limit
    #[arg(long, value_name = "DOLLARS|none", value_parser = dollars_or_none, allow_negative_numbers = true)]
    workflow: Option<Value>,
    /// Warn when this share of a limit is spent
    #[arg(long, value_name = "PERCENT", conflicts_with = "only")]
    warn: Option<u8>,
    /// Set --workflow for this one alone; `none` gives it the workspace's limit again
    #[arg(long, value_name = "WORKFLOW", value_parser = cli::workflow_id, requires = "workflow")]
    only: Option<WorkflowId>,
}

/// Dollars with up to six decimals, as millionths.
pub(super) fn dollars_or_none(text: &str) -> Result<Value, String> {
    if text == "none" {
        return Ok(Value::Null);
    }
    let wrong = || "write dollars below a hundred million, such as 2.50, or `none` for no limit".to_owned();
    let (whole, part) =
        text.strip_prefix('$').unwrap_or(text).split_once('.').unwrap_or((text.trim_start_matches('$'), ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 8 || part.len() > 6 || !digits(whole) || !digits(part) {
        return Err(wrong());
    }
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let part: u64 = format!("{part:0<6}").parse().map_err(|_| wrong())?;
    Ok(json!(whole * 1_000_000 + part))
}

impl Run for Budget {
    fn flags(&self) -> Flags {
        self.remote.flags()
    }

    async fn run(self, settings: Settings) -> Result<(), Failure> {
        let client = Remote::client(&settings)?;
        let path = ["v1", "budget"];
        let answer = match self.command {
            BudgetCommand::Show { workflow } => {
                let query: Vec<_> =
                    workflow.map(|workflow| ("workflow", workflow.to_string())).into_iter().collect();
                client.find(&path, &query).await?
            }
            BudgetCommand::Set(set) if set.only.is_some() => {
                let workflow = set.only.map(|workflow| workflow.to_string()).unwrap_or_default();
                let path = ["v1", "workflows", &workflow, "budget"];
                client.put(&path, &json!({ "limitMicros": set.workflow })).await?
            }
            BudgetCommand::Set(set) => {
                let Value::Object(now) = client.get(&path).await? else {
                    return Err(Failure::unexpected("a budget is a JSON object"));
                };
                client.put(&path, &Value::Object(set.over(&now))).await.map_err(|failure| {
                    match failure.exit {
                        Exit::Conflict => failure.hint("`galley budget show` shows it as it is now"),
                        _ => failure,
                    }
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
    /// All limits, with those given changed; the version goes along, so that a
    /// change that was not seen is not undone.
    fn over(self, now: &Map<String, Value>) -> Map<String, Value> {
        let kept = ["dayMicros", "monthMicros", "workflowMicros", "warnPercent", "version"];
        let mut set: Map<String, Value> = kept
            .into_iter()
            .map(|field| (field.to_owned(), now.get(field).cloned().unwrap_or(Value::Null)))
            .collect();
        let given = [
            ("dayMicros", self.day),
            ("monthMicros", self.month),
            ("workflowMicros", self.workflow),
            ("warnPercent", self.warn.map(Value::from)),
        ];
        for (field, value) in given {
            if let Some(value) = value {
                set.insert(field.to_owned(), value);
            }
        }
        set
    }
}

fn shown(budget: &views::Budget) -> String {
    let limit = |limit: Option<u64>| limit.map_or("no limit".to_owned(), dollars);
    let mut table = Table::new(&["PERIOD", ">SPENT", ">RESERVED", ">LIMIT", ">LEFT"]);
    for counter in &budget.counters {
        let period = match counter.period {
            views::BudgetPeriod::Day => format!("day {}", counter.name),
            views::BudgetPeriod::Month => format!("month {}", counter.name),
            views::BudgetPeriod::Workflow => format!("workflow {}", counter.name),
        };
        let left = match (counter.room_micros, counter.limit_micros) {
            (Some(room), Some(limit))
                if room * 100 <= limit * u64::from(100 - budget.warn_percent.min(100)) =>
            {
                painted(dollars(room), style::WARN)
            }
            (Some(room), _) => cell(dollars(room)),
            (None, _) => cell(""),
        };
        table.row(vec![
            cell(period),
            cell(dollars(counter.spent_micros)),
            cell(dollars(counter.reserved_micros)),
            cell(limit(counter.limit_micros)),
            left,
        ]);
    }
    let mut text = table.render(print::data_width());
    if !budget.counters.iter().any(|counter| counter.period == views::BudgetPeriod::Workflow) {
        text.push_str(&format!("\neach workflow: {}\n", limit(budget.workflow_micros)));
    }
    if budget.saved.hits > 0 {
        text.push_str(&format!(
            "kept answers: given again {} times, which saved {}\n",
            budget.saved.hits,
            dollars(budget.saved.saved_micros)
        ));
    }
    if budget.waiting_steps > 0 {
        let told = format!(
            "{} when a budget is raised or its period turns",
            if budget.waiting_steps == 1 {
                "1 step waits for money; it goes on by itself".into()
            } else {
                format!("{} steps wait for money; they go on by themselves", budget.waiting_steps)
            }
        );
        text.push_str(&format!("{}\n", style::WARN.on(&told)));
    }
    let set = match (&budget.updated_by, &budget.updated_at) {
        (Some(by), Some(at)) => format!("set by {by} {}", time::ago(at)),
        _ => "nobody set a budget: `galley budget set --day 5 --month 100` does".into(),
    };
    text.push_str(&format!("{}\n", style::DIM.on(&set)));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_are_read_to_the_millionth() {
        for (text, micros) in [
            ("5", json!(5_000_000)),
            ("$2.50", json!(2_500_000)),
            ("0.000001", json!(1)),
            ("0", json!(0)),
            ("none", json!(null)),
        ] {
            assert_eq!(dollars_or_none(text), Ok(micros), "{text}");
        }
        for text in ["", "-1", "1.0000001", "five", "1e3", ".5", "$", "999999999"] {
            assert!(dollars_or_none(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_not_given_stays_and_the_version_goes_along() {
        let now = json!({ "dayMicros": 5, "monthMicros": null, "workflowMicros": 7, "warnPercent": 80, "version": 3, "counters": [] });
        let set = Set { day: Some(json!(null)), month: None, workflow: None, warn: Some(90), only: None };
        assert_eq!(
            Value::Object(set.over(now.as_object().unwrap())),
            json!({ "dayMicros": null, "monthMicros": null, "workflowMicros": 7, "warnPercent": 90, "version": 3 })
        );
    }
}
