//! `galley agent`: the agent types of the fleet.

use clap::{Args, Subcommand};
use galley_api::views;

use crate::cli::{Remote, Run, Settings};
use crate::config::Flags;
use crate::failure::Failure;
use crate::table::{Table, cell};
use crate::{print, time};

/// List the agent types that workers registered
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
}

impl Run for Agent {
    fn flags(&self) -> Flags {
        self.remote.flags()
    }

    async fn run(self, settings: Settings) -> Result<(), Failure> {
        let AgentCommand::List = self.command;
        let listed = Remote::client(&settings)?.list_all(&["v1", "agents"]).await?;
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
