//! `galley task`: the history of steps.

use clap::{Args, Subcommand};
use galley_api::views;
use galley_core::ids::WorkflowId;

use crate::cli::{self, Remote, Run, Settings};
use crate::client;
use crate::config::Flags;
use crate::failure::Failure;
use crate::show;
use crate::table::{Table, cell, state};
use crate::{print, time};

/// Show what single steps got, made and went through
#[derive(Debug, Args)]
#[command(after_help = "A task is one step of one workflow: WORKFLOW_ID.STEP

Examples:
  galley task list 0199d1c2-…               the tasks of a workflow
  galley task show 0199d1c2-….content.0     input, output and every attempt")]
pub(crate) struct Task {
    #[command(subcommand)]
    command: TaskCommand,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum TaskCommand {
    /// List tasks: those of a workflow, or of the workspace, newest workflow first
    List {
        /// The workflow's id; all workflows when absent
        #[arg(value_parser = cli::workflow_id)]
        workflow: Option<WorkflowId>,
        /// Only of this agent type
        #[arg(long, value_name = "AGENT")]
        agent: Option<String>,
        /// Only in this status
        #[arg(long, value_name = "STATUS", value_parser = ["pending", "running", "completed", "failed"])]
        status: Option<String>,
        /// At most this many
        #[arg(long, default_value_t = 50, value_name = "N", value_parser = cli::limit)]
        limit: usize,
    },
    /// Show one task: input, output and every attempt
    Show {
        /// The task's id: WORKFLOW_ID.STEP
        task: String,
    },
}

impl Run for Task {
    fn flags(&self) -> Flags {
        self.remote.flags()
    }

    async fn run(self, settings: Settings) -> Result<(), Failure> {
        let client = Remote::client(&settings)?;
        match self.command {
            TaskCommand::List { workflow, agent, status, limit } => {
                let mut query = Vec::new();
                query.extend(workflow.map(|workflow| ("workflow", workflow.to_string())));
                query.extend(agent.map(|agent| ("agent", agent)));
                query.extend(status.map(|status| ("status", status)));
                let listed = client.list(&["v1", "tasks"], &query, limit).await?;
                if self.remote.json {
                    return print::json(&listed);
                }
                if listed.items.is_empty() {
                    print::say("no tasks");
                    return Ok(());
                }
                let mut table = Table::new(&["TASK", "AGENT", "STATE", ">ATTEMPTS", ">TIME", "~ERROR"]);
                for task in listed.items::<views::AgentTaskHistory>()? {
                    let result = task.result.as_ref();
                    let error = result.and_then(|result| result.error.as_ref()).or_else(|| {
                        let last = task.attempts.last().filter(|_| result.is_none());
                        last.and_then(|attempt| attempt.error.as_ref())
                    });
                    table.row(vec![
                        cell(&task.task_id),
                        cell(&task.agent_type),
                        state(task.state.word()),
                        cell(task.attempts.len()),
                        cell(
                            result
                                .and_then(|result| result.duration_ms)
                                .map_or(String::new(), |ms| time::run_time(ms.into())),
                        ),
                        cell(
                            error
                                .map_or(String::new(), |error| format!("{}: {}", error.class, error.message)),
                        ),
                    ]);
                }
                print::data(&table.render(print::data_width()))?;
                if listed.next_cursor.is_some() {
                    print::say("more follow; --limit shows more");
                }
                Ok(())
            }
            TaskCommand::Show { task } => {
                let answer = client.get(&["v1", "tasks", &task]).await?;
                if self.remote.json {
                    return print::json(&answer);
                }
                print::data(&show::task(&client::read(&answer)?))
            }
        }
    }
}
