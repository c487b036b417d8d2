//! `galley queue`: how full the queues are; pause, resume, limit.

use clap::{Args, Subcommand};
use galley_api::views;

use crate::cli::{self, Remote, Run, Settings};
use crate::client;
use crate::config::Flags;
use crate::failure::Failure;
use crate::print::{self, style};
use crate::table::{Cell, Table, cell, painted, state};

/// See, pause, resume and limit the queues: one per agent type
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  galley queue list
  galley queue pause content_creator --reason \"the provider is down\"
  galley queue resume content_creator
  galley queue limit content_creator --running 20 --per-workspace 5
  galley queue limit content_creator --running none")]
pub(crate) struct Queue {
    #[command(subcommand)]
    command: QueueCommand,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum QueueCommand {
    /// List the queues: what waits, what runs, who works
    List,
    /// Start no more steps of an agent type, anywhere; running ones finish
    Pause {
        /// The agent type
        agent: String,
        /// Why: shown to everybody who asks why nothing moves
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Let a paused queue go on
    Resume {
        /// The agent type
        agent: String,
    },
    /// Limit how many steps of an agent type run at once
    #[command(group = clap::ArgGroup::new("limits").required(true).multiple(true))]
    Limit {
        /// The agent type
        agent: String,
        /// Most steps at once in the whole fleet; `none` lifts the limit
        #[arg(long, value_name = "N", value_parser = limit, group = "limits")]
        running: Option<Limit>,
        /// Most steps at once for one workspace; `none` lifts the limit
        #[arg(long, value_name = "N", value_parser = limit, group = "limits")]
        per_workspace: Option<Limit>,
    },
}

/// A limit that is set or lifted.
#[derive(Clone, Copy, Debug)]
struct Limit(Option<u32>);

fn limit(text: &str) -> Result<Limit, String> {
    match text.parse::<u32>() {
        _ if text == "none" => Ok(Limit(None)),
        Ok(most) if most > 0 => Ok(Limit(Some(most))),
        Ok(_) => Err("a limit is at least 1; `galley queue pause` stops a queue".into()),
        Err(_) => Err("write a number or `none`".into()),
    }
}

impl Run for Queue {
    fn flags(&self) -> Flags {
        self.remote.flags()
    }

    async fn run(self, settings: Settings) -> Result<(), Failure> {
        let client = Remote::client(&settings)?;
        let json = self.remote.json;
        match self.command {
            QueueCommand::List => {
                let listed = client.list_all(&["v1", "queues"]).await?;
                if json {
                    return print::json(&listed);
                }
                let queues: Vec<views::Queue> = listed.items()?;
                if queues.is_empty() {
                    print::say("no queues yet; the first `galley worker` registers its agent types");
                    return Ok(());
                }
                print::data(&table(&queues).render(print::data_width()))
            }
            QueueCommand::Pause { agent, reason } => {
                let body = views::PauseQueue { reason };
                let answer = client.post(&["v1", "queues", &agent, "pause"], &body).await?;
                cli::done(
                    json,
                    &answer,
                    &format!("queue {agent} is paused; `galley queue resume {agent}` lets it go on"),
                )
            }
            QueueCommand::Resume { agent } => {
                let answer = client.post(&["v1", "queues", &agent, "resume"], &serde_json::json!({})).await?;
                cli::done(json, &answer, &format!("queue {agent} goes on"))
            }
            QueueCommand::Limit { agent, running, per_workspace } => {
                let body = views::LimitQueue {
                    max_running: running.map(|limit| limit.0),
                    max_running_per_workspace: per_workspace.map(|limit| limit.0),
                };
                let answer = client.post(&["v1", "queues", &agent, "limit"], &body).await?;
                let queue: views::Queue = client::read(&answer)?;
                cli::done(json, &answer, &format!("queue {agent} runs {}", limits_in_words(&queue)))
            }
        }
    }
}

fn limits_in_words(queue: &views::Queue) -> String {
    match (queue.max_running, queue.max_running_per_workspace) {
        (None, None) => "without limits".into(),
        (Some(all), None) => format!("at most {all} steps at once"),
        (None, Some(each)) => format!("at most {each} steps at once per workspace"),
        (Some(all), Some(each)) => format!("at most {all} steps at once, {each} per workspace"),
    }
}

/// The queues as people see them; also on the live screen.
pub(crate) fn table(queues: &[views::Queue]) -> Table {
    let mut table =
        Table::new(&["AGENT", "STATE", ">READY", ">IN FLIGHT", ">WORKERS", "LIMITS", "~WAITS FOR"]);
    let count = |count: Option<u64>| cell(count.map_or("?".into(), |count| count.to_string()));
    for queue in queues {
        table.row(vec![
            cell(&queue.agent),
            state(condition(queue)),
            count(queue.ready),
            count(queue.in_flight),
            cell(queue.workers),
            limits(queue),
            note(queue),
        ]);
    }
    table
}

/// A queue's condition in one word.
pub(crate) fn condition(queue: &views::Queue) -> &'static str {
    if queue.paused {
        "paused"
    } else if queue.in_flight.unwrap_or(0) > 0 {
        "running"
    } else if queue.ready.unwrap_or(0) > 0 {
        "waiting"
    } else {
        "idle"
    }
}

fn limits(queue: &views::Queue) -> Cell {
    match (queue.max_running, queue.max_running_per_workspace) {
        (None, None) => painted("-", style::DIM),
        (Some(all), None) => cell(all),
        (None, Some(each)) => cell(format!("{each} per workspace")),
        (Some(all), Some(each)) => cell(format!("{all}, {each} per workspace")),
    }
}

fn note(queue: &views::Queue) -> Cell {
    let text = waits_for(queue);
    match queue.ready {
        None => painted(text, style::BAD),
        Some(_) if queue.paused || queue.workers == 0 => painted(text, style::WARN),
        Some(_) => cell(text),
    }
}

/// What keeps a queue from moving, in a few words; empty when nothing does.
pub(crate) fn waits_for(queue: &views::Queue) -> String {
    let Some(ready) = queue.ready else { return "Redis does not answer".into() };
    if queue.paused {
        let by = queue.paused_by.as_deref().unwrap_or("somebody");
        let why = queue.paused_reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        return format!("paused by {by}{why}");
    }
    let in_flight = queue.in_flight.unwrap_or(0);
    if ready > 0 && queue.workers == 0 {
        format!("no live worker: galley worker --agents {}", queue.agent)
    } else if ready > 0 && queue.max_running.is_some_and(|most| in_flight >= u64::from(most)) {
        "its limit is reached".into()
    } else {
        String::new()
    }
}
