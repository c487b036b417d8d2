//! `galley agent`: the agent types of the fleet.

use clap::{Args, Subcommand};
use galley_api::views;
use serde_json::Value;

use crate::cli::{Remote, Run, Settings};
use crate::client::{self, Client};
use crate::config::Flags;
use crate::failure::Failure;
use crate::print::style;
use crate::table::{Table, cell};
use crate::{print, show, time};

/// List and show the agent types that workers registered; see who talks to whom
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  galley agent list
  galley agent show reviewer                       what it takes, what it makes, an example
  galley agent show reviewer --json | jq .example  begin a step's input from it")]
pub(crate) struct Agent {
    #[command(subcommand)]
    command: AgentCommand,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum AgentCommand {
    /// List the agent types and how their steps are retried
    List,
    /// See who talks to whom: messages per pair, and how fast requests are answered
    Communication {
        /// Messages sent from then on, such as 2026-11-26T00:00:00Z; from the beginning when absent
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// Messages sent before then; up to now when absent
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
    },
    /// Show an agent type: its schemas, and an example of what it takes
    Show {
        /// The agent type
        agent: String,
    },
}

impl Run for Agent {
    fn flags(&self) -> Flags {
        self.remote.flags()
    }

    async fn run(self, settings: Settings) -> Result<(), Failure> {
        let client = Remote::client(&settings)?;
        match self.command {
            AgentCommand::List => list(&client, self.remote.json).await,
            AgentCommand::Show { agent } => show_agent(&client, &agent, self.remote.json).await,
            AgentCommand::Communication { since, until } => {
                communication(&client, since, until, self.remote.json).await
            }
        }
    }
}

async fn communication(
    client: &Client,
    since: Option<String>,
    until: Option<String>,
    json: bool,
) -> Result<(), Failure> {
    let times = [("since", since), ("until", until)];
    let query: Vec<_> = times.into_iter().filter_map(|(name, time)| Some((name, time?))).collect();
    let answer = client.find(&["v1", "communication"], &query).await?;
    if json {
        return print::json(&answer);
    }
    let page: views::Page<views::CommunicationPattern> = client::read(&answer)?;
    print::data(&show::communication(&page.items))
}

async fn list(client: &Client, json: bool) -> Result<(), Failure> {
    let listed = client.list_all(&["v1", "agents"]).await?;
    if json {
        return print::json(&listed);
    }
    let agents: Vec<views::Agent> = listed.items()?;
    if agents.is_empty() {
        print::say("no agent types are registered; the first `galley worker` registers them");
        return Ok(());
    }
    let mut table = Table::new(&["AGENT", ">ATTEMPTS", ">TIMEOUT", "BACK-OFF", "~DESCRIPTION"]);
    for agent in agents {
        let retry = &agent.retry;
        table.row(vec![
            cell(&agent.agent),
            cell(retry.max_attempts),
            cell(time::run_time(retry.timeout_ms)),
            cell(back_off(retry)),
            cell(&agent.description),
        ]);
    }
    print::data(&table.render(print::data_width()))
}

async fn show_agent(client: &Client, name: &str, json: bool) -> Result<(), Failure> {
    let answer = client.get(&["v1", "agents", name]).await?;
    if json {
        return print::json(&answer);
    }
    let agent: views::Agent = client::read(&answer)?;
    let retry = &agent.retry;
    let mut text = format!(
        "{}  {}\n{} attempts of at most {}, {} crashes, back-off {}\n",
        style::STRONG.on(&agent.agent),
        agent.description,
        retry.max_attempts,
        time::run_time(retry.timeout_ms),
        retry.max_crashes,
        back_off(retry)
    );
    for (head, value) in [
        ("What it takes (JSON Schema)", Some(&agent.input_schema)),
        ("What it makes (JSON Schema)", Some(&agent.output_schema)),
        ("An example of what it takes", agent.example.as_ref()),
    ] {
        let Some(value) = value else { continue };
        let value = match value {
            Value::Bool(true) => "anything".to_owned(),
            value => serde_json::to_string_pretty(value).unwrap_or_default(),
        };
        text.push_str(&format!("\n{}\n{value}\n", style::STRONG.on(head)));
    }
    print::data(&text)
}

fn back_off(retry: &views::RetryPolicy) -> String {
    format!("{} to {}", time::run_time(retry.backoff_ms), time::run_time(retry.max_backoff_ms))
}
