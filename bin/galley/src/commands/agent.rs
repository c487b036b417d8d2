//! `galley agent`: the agent types of the fleet.

use clap::{Args, Subcommand};
use galley_api::views;

use crate::cli::{Remote, Run, Settings};
use crate::config::Flags;
use crate::failure::Failure;
use crate::table::{Table, cell};
use crate::{client, print, show, time};

/// List the agent types that workers registered; see who talks to whom
#[derive(Debug, Args)]
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
}

impl Run for Agent {
    fn flags(&self) -> Flags {
        self.remote.flags()
    }

    async fn run(self, settings: Settings) -> Result<(), Failure> {
        let client = Remote::client(&settings)?;
        if let AgentCommand::Communication { since, until } = self.command {
            let times = [("since", since), ("until", until)];
            let query: Vec<_> = times.into_iter().filter_map(|(name, time)| Some((name, time?))).collect();
            let answer = client.find(&["v1", "communication"], &query).await?;
            if self.remote.json {
                return print::json(&answer);
            }
            let page: views::Page<views::CommunicationPattern> = client::read(&answer)?;
            return print::data(&show::communication(&page.items));
        }
        let listed = client.list_all(&["v1", "agents"]).await?;
        if self.remote.json {
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
                cell(format!(
                    "{} to {}",
                    time::run_time(retry.backoff_ms),
                    time::run_time(retry.max_backoff_ms)
                )),
                cell(&agent.description),
            ]);
        }
        print::data(&table.render(print::data_width()))
    }
}
