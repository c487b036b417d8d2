//! `galley dead`: steps whose attempts or crashes are used up.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use galley_api::views;
use galley_core::ids::WorkflowId;
use serde_json::Value;

use crate::cli::{self, Remote, Run, Settings};
use crate::client::{self, Client};
use crate::config::Flags;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::files::{self, document, input};
use crate::table::{Table, cell, state};
use crate::{print, show, time};

/// Find, retry and discard dead letters
///
/// A step whose attempts are used up is kept as a dead letter with everything
/// that is needed to repair it. Its workflow waits until you retry or discard.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  galley dead groups                                   what died of the same thing
  galley dead list --agent reviewer
  galley dead show 0199d1c2-….review                   error, attempts, input
  galley dead retry 0199d1c2-….review                  once more, with fresh attempts
  galley dead retry 0199d1c2-….review --edit           change its input in $EDITOR first
  galley dead retry --fingerprint 5f2c… --dry-run      what would be retried
  galley dead discard --workflow 0199d1c2-…            give up")]
pub(crate) struct Dead {
    #[command(subcommand)]
    command: DeadCommand,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum DeadCommand {
    /// List dead letters, oldest workflow first
    List {
        #[command(flatten)]
        filter: Filter,
        /// Those in this status
        #[arg(long, value_name = "STATUS", default_value = "open", value_parser = ["open", "replayed", "discarded", "cancelled"])]
        status: String,
        /// At most this many
        #[arg(long, default_value_t = 25, value_name = "N", value_parser = cli::limit)]
        limit: usize,
    },
    /// Group the open dead letters by what they died of
    Groups,
    /// Show one: its error, every attempt, its input
    Show {
        /// The task's id: WORKFLOW_ID.STEP
        task: String,
    },
    /// Send dead steps back to their queue, with fresh attempts
    Retry {
        #[command(flatten)]
        which: Which,
        /// Replace the step's input by this file (JSON, as `dead show --json` prints it); `-` for stdin
        #[arg(long, value_name = "FILE", requires = "task", conflicts_with = "edit")]
        input: Option<PathBuf>,
        /// Change the step's input in $EDITOR first
        #[arg(long, requires = "task")]
        edit: bool,
    },
    /// Give dead steps up: they fail, and with them their workflows
    Discard {
        #[command(flatten)]
        which: Which,
    },
}

#[derive(Debug, Args)]
struct Filter {
    /// Only of this agent type
    #[arg(long, value_name = "AGENT")]
    agent: Option<String>,
    /// Only of this group (`galley dead groups`)
    #[arg(long, value_name = "FINGERPRINT")]
    fingerprint: Option<String>,
    /// Only of this workflow
    #[arg(long, value_name = "ID", value_parser = cli::workflow_id)]
    workflow: Option<WorkflowId>,
}

/// One task, or those that a filter names.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(true)
    .args(["task", "agent", "fingerprint", "workflow", "all"]))]
struct Which {
    /// The task's id: WORKFLOW_ID.STEP
    #[arg(conflicts_with_all = ["agent", "fingerprint", "workflow", "all", "dry_run"])]
    task: Option<String>,
    #[command(flatten)]
    filter: Filter,
    /// All of the workspace
    #[arg(long)]
    all: bool,
    /// Only list what would be touched
    #[arg(long)]
    dry_run: bool,
}

impl Run for Dead {
    fn flags(&self) -> Flags {
        self.remote.flags()
    }

    async fn run(self, settings: Settings) -> Result<(), Failure> {
        let client = Remote::client(&settings)?;
        let json = self.remote.json;
        match self.command {
            DeadCommand::List { filter, status, limit } => list(&client, filter, status, limit, json).await,
            DeadCommand::Groups => groups(&client, json).await,
            DeadCommand::Show { task } => {
                let answer = client.get(&["v1", "dead-letters", &task]).await?;
                if json {
                    return print::json(&answer);
                }
                let detail: views::DeadLetterDetail = client::read(&answer)?;
                print::data(&show::letter(&detail))?;
                if detail.letter.status == "open" {
                    print::say(&format!(
                        "\n`galley dead retry {task}` tries it again; --edit changes its input first"
                    ));
                }
                Ok(())
            }
            DeadCommand::Retry { which, input: file, edit } => {
                let Some(task) = which.task else { return repair(&client, "retry", which, json).await };
                let edited = match file {
                    Some(file) => Some(document::<Value>(&input(&file)?, &file)?),
                    None if edit => Some(edited(&client, &task).await?),
                    None => None,
                };
                let body = views::RetryDeadLetter { input: edited };
                let answer = client.post(&["v1", "dead-letters", &task, "retry"], &body).await?;
                let workflow = task.split('.').next().unwrap_or(&task);
                cli::done(
                    json,
                    &answer,
                    &format!(
                        "task {task} is back in its queue; `galley workflow watch {workflow}` shows how it goes"
                    ),
                )
            }
            DeadCommand::Discard { which } => {
                let Some(task) = which.task else { return repair(&client, "discard", which, json).await };
                let answer =
                    client.post(&["v1", "dead-letters", &task, "discard"], &serde_json::json!({})).await?;
                cli::done(json, &answer, &format!("task {task} is given up"))
            }
        }
    }
}

async fn list(
    client: &Client,
    filter: Filter,
    status: String,
    limit: usize,
    json: bool,
) -> Result<(), Failure> {
    let mut query = vec![("status", status.clone())];
    query.extend(filter.agent.map(|agent| ("agent", agent)));
    query.extend(filter.fingerprint.map(|group| ("fingerprint", group)));
    query.extend(filter.workflow.map(|workflow| ("workflow", workflow.to_string())));
    let listed = client.list(&["v1", "dead-letters"], &query, limit).await?;
    if json {
        return print::json(&listed);
    }
    let letters: Vec<views::DeadLetter> = listed.items()?;
    if letters.is_empty() {
        print::say(&format!("no {status} dead letters"));
        return Ok(());
    }
    let mut table = Table::new(&["TASK", "AGENT", "STATUS", "DIED", ">ATTEMPTS", ">CRASHES", "~ERROR"]);
    for letter in &letters {
        table.row(vec![
            cell(&letter.task_id),
            cell(&letter.agent),
            state(&letter.status),
            cell(time::ago(&letter.died_at)),
            cell(letter.attempts),
            cell(letter.crashes),
            cell(format!("{}: {}", letter.class, letter.message)),
        ]);
    }
    print::data(&table.render(print::data_width()))?;
    if listed.next_cursor.is_some() {
        print::say("more follow; --limit shows more, `galley dead groups` sums them up");
    }
    Ok(())
}

async fn groups(client: &Client, json: bool) -> Result<(), Failure> {
    let listed = client.list_all(&["v1", "dead-letters", "groups"]).await?;
    if json {
        return print::json(&listed);
    }
    let groups: Vec<views::DeadLetterGroup> = listed.items()?;
    if groups.is_empty() {
        print::say("no open dead letters");
        return Ok(());
    }
    let mut table = Table::new(&["FINGERPRINT", ">OPEN", "AGENT", "REASON", "FIRST", "LAST", "~ERROR"]);
    for group in &groups {
        table.row(vec![
            cell(&group.fingerprint),
            cell(group.count),
            cell(&group.agent),
            cell(&group.reason),
            cell(time::ago(&group.first_at)),
            cell(time::ago(&group.last_at)),
            cell(format!("{}: {}", group.class, group.message)),
        ]);
    }
    print::data(&table.render(print::data_width()))
}

async fn repair(client: &Client, what: &str, which: Which, json: bool) -> Result<(), Failure> {
    let Filter { agent, fingerprint, workflow } = which.filter;
    let body = views::RepairFilter { agent, fingerprint, workflow, all: which.all, dry_run: which.dry_run };
    let answer = client.post(&["v1", "dead-letters", what], &body).await?;
    if json {
        return print::json(&answer);
    }
    let outcome: views::RepairOutcome = client::read(&answer)?;
    let mut text: String = outcome.tasks.iter().map(|task| format!("{task}\n")).collect();
    for refused in &outcome.refused {
        text.push_str(&format!("{}  left alone: {}\n", refused.task_id, refused.reason));
    }
    print::data(&text)?;
    let count = outcome.tasks.len();
    let verb = match (what, outcome.dry_run) {
        ("retry", true) => "would be retried; nothing was done",
        ("retry", false) => "sent back to the queue",
        (_, true) => "would be discarded; nothing was done",
        (_, false) => "discarded",
    };
    let letters = if count == 1 { "dead letter" } else { "dead letters" };
    print::say(&format!("{count} {letters} {verb}"));
    if outcome.more {
        print::say("there are more: run the same command again");
    }
    Ok(())
}

/// The step's input as the person left it in the editor.
async fn edited(client: &Client, task: &str) -> Result<Value, Failure> {
    let detail: views::DeadLetterDetail = client::read(&client.get(&["v1", "dead-letters", task]).await?)?;
    let before = serde_json::to_string_pretty(&detail.input)
        .map_err(|error| Failure::unexpected("a value does not serialize").detail(error))?;
    let file = std::env::temp_dir().join(format!("galley-{}.json", cli::new_key()));
    crate::found::write_private(&file, &format!("{before}\n"))?;
    let after = files::edit(&file, "--input FILE").await.and_then(|()| input(&file));
    let value = after.and_then(|after| {
        if after.trim() == before.trim() {
            return Err(Failure::new(Exit::Refused, "the input was not changed; nothing was done")
                .hint(format!("`galley dead retry {task}` retries it as it is")));
        }
        document(&after, &file)
            .map_err(|failure| failure.hint(format!("your text is kept in {}", file.display())))
    });
    // A text that does not parse is somebody's work.
    let kept = value.as_ref().is_err_and(|failure| failure.line().contains("is kept in"));
    if !kept {
        let _ = std::fs::remove_file(&file);
    }
    value
}
