//! `galley spend`: what was spent, by day, agent, model, workflow or account.

use clap::Args;
use galley_api::views;

use crate::cli::{Remote, Run, Settings};
use crate::client;
use crate::config::Flags;
use crate::failure::Failure;
use crate::print::{self, style};
use crate::show::dollars;
use crate::table::{Table, cell};

/// See what was spent, by day, agent, model, workflow or account
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  galley spend                              this month, day by day
  galley spend --by agent --since 2026-11-01
  galley spend --by workflow                the dearest first
  galley spend --by account                 posts that cost something")]
pub(crate) struct Spend {
    /// What to sum up by
    #[arg(long, default_value = "day", value_name = "WHAT", value_parser = ["day", "agent", "model", "workflow", "account"])]
    by: String,
    /// The first day, of the workspace's time zone; the first of this month when absent
    #[arg(long, value_name = "YYYY-MM-DD")]
    since: Option<String>,
    /// The last day; today when absent
    #[arg(long, value_name = "YYYY-MM-DD")]
    until: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

impl Run for Spend {
    fn flags(&self) -> Flags {
        self.remote.flags()
    }

    async fn run(self, settings: Settings) -> Result<(), Failure> {
        let client = Remote::client(&settings)?;
        let mut query = vec![("by", self.by.clone())];
        query.extend(self.since.map(|since| ("since", since)));
        query.extend(self.until.map(|until| ("until", until)));
        let answer = client.find(&["v1", "spend"], &query).await?;
        if self.remote.json {
            return print::json(&answer);
        }
        print::data(&shown(&client::read(&answer)?, &self.by))
    }
}

fn shown(spend: &views::Spend, by: &str) -> String {
    let period = format!("{} to {}", spend.since, spend.until);
    if spend.items.is_empty() {
        // Agents' calls have no account: they may well have cost something.
        let what = if by == "account" { "no post cost anything" } else { "nothing was spent" };
        return format!("{what} from {period}\n");
    }
    let head = match by {
        "agent" => "AGENT",
        "model" => "MODEL",
        "workflow" => "WORKFLOW",
        "account" => "ACCOUNT",
        _ => "DAY",
    };
    let mut table = Table::new(&[head, ">CALLS", ">TOKENS IN", ">OUT", ">COST", ">ESTIMATED"]);
    for item in &spend.items {
        table.row(vec![
            cell(&item.name),
            cell(item.calls),
            cell(item.tokens_in),
            cell(item.tokens_out),
            cell(dollars(item.cost_micros)),
            cell(if item.estimated_micros > 0 { dollars(item.estimated_micros) } else { String::new() }),
        ]);
    }
    let reserved: u64 = spend.items.iter().map(|item| item.reserved_micros).sum();
    let under_way = if reserved > 0 {
        format!("; calls under way may cost {} more", dollars(reserved))
    } else {
        String::new()
    };
    format!(
        "{}\n{} from {}{under_way}\n",
        table.render(print::data_width()),
        style::STRONG.on(&dollars(spend.total_micros)),
        period
    )
}
