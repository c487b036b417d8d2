//! `galley workflow`: submit, list, show, watch, cancel; what its agents said.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use galley_api::views;
use galley_core::definition::Definition;
use galley_core::ids::WorkflowId;
use serde_json::Value;

use crate::cli::{self, Remote, Run, Settings};
use crate::client::{self, Client};
use crate::config::Flags;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::files::{document, input};
use crate::print::{self, style};
use crate::table::{Table, cell, state};
use crate::{show, time};

/// Submit workflows, watch them, read what came out
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  galley workflow submit examples/launch-campaign.json --watch
  galley workflow submit --template campaign --input brief.json
  galley workflow list --state stalled
  galley workflow show 0199d1c2-…
  galley workflow show --timeline 0199d1c2-…
  galley workflow messages 0199d1c2-…
  galley workflow cancel 0199d1c2-…")]
pub(crate) struct Workflow {
    #[command(subcommand)]
    command: WorkflowCommand,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum WorkflowCommand {
    /// Submit a workflow; prints its id
    Submit(Submit),
    /// List workflows, newest first
    List {
        /// Only those in this state: running, waiting, stalled, succeeded, failed or cancelled
        #[arg(long, value_name = "STATE", value_parser = ["running", "waiting", "stalled", "succeeded", "failed", "cancelled"])]
        state: Option<String>,
        /// At most this many
        #[arg(long, default_value_t = 25, value_name = "N", value_parser = cli::limit)]
        limit: usize,
    },
    /// Show a workflow: its steps, and what each agent made
    Show {
        /// The workflow's id
        workflow: String,
        /// Draw when each step ran and what it waited for, instead of what it made
        #[arg(long)]
        timeline: bool,
    },
    /// Show what its agents said to each other, in order
    Messages {
        /// The workflow's id
        workflow: String,
        /// With what the engine tells of every step: that it begins, and that it succeeded
        #[arg(long)]
        all: bool,
    },
    /// Show what its agents remember together, and who wrote it last
    Context {
        /// The workflow's id
        workflow: String,
    },
    /// Watch a workflow until it is over (exit code 8 unless it succeeded)
    Watch {
        /// The workflow's id
        #[arg(value_parser = cli::workflow_id)]
        workflow: WorkflowId,
    },
    /// Cancel a workflow: nothing of it starts any more
    Cancel {
        /// The workflow's id
        workflow: String,
    },
}

#[derive(Debug, Args)]
struct Submit {
    /// A file with the submission ({"template": …, "input": …}) or with a
    /// definition ({"name": …, "steps": […]}); `-` for stdin
    #[arg(required_unless_present = "template", conflicts_with = "template")]
    file: Option<PathBuf>,
    /// Run this template: NAME, or NAME@VERSION
    #[arg(long, value_name = "TEMPLATE")]
    template: Option<String>,
    /// A file with the workflow's input, the brief (JSON); `-` for stdin
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// 0 (first) to 9 (last) within the workspace
    #[arg(long, value_name = "0-9", value_parser = clap::value_parser!(u8).range(0..=9))]
    priority: Option<u8>,
    /// What makes a repeated submit the same workflow; made when absent
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Watch it until it is over (exit code 8 unless it succeeds)
    #[arg(long)]
    watch: bool,
}

impl Run for Workflow {
    fn flags(&self) -> Flags {
        self.remote.flags()
    }

    async fn run(self, settings: Settings) -> Result<(), Failure> {
        let client = Remote::client(&settings)?;
        let json = self.remote.json;
        match self.command {
            WorkflowCommand::Submit(submit) => submit.run(&client, json).await,
            WorkflowCommand::List { state, limit } => list(&client, state, limit, json).await,
            WorkflowCommand::Show { workflow, timeline } => {
                let answer = client.get(&["v1", "workflows", &workflow]).await?;
                if json {
                    return print::json(&answer);
                }
                let detail = client::read(&answer)?;
                if timeline {
                    let width = print::data_width().unwrap_or(80);
                    let head = format!("{}\n\n", show::verdict(&detail));
                    return print::data(&format!("{head}{}", show::timeline(&detail, width)));
                }
                print::data(&shown(&detail))
            }
            WorkflowCommand::Messages { workflow, all } => {
                let listed = client.list_all(&["v1", "workflows", &workflow, "messages"]).await?;
                if json {
                    return print::json(&listed);
                }
                let messages: Vec<views::AgentMessage> = listed.items()?;
                print::data(&show::messages(&messages, all))
            }
            WorkflowCommand::Context { workflow } => {
                let listed = client.list_all(&["v1", "workflows", &workflow, "context"]).await?;
                if json {
                    return print::json(&listed);
                }
                let entries: Vec<views::SharedEntry> = listed.items()?;
                print::data(&show::context(&entries))
            }
            WorkflowCommand::Watch { workflow } => {
                let detail = show::watch(&client, workflow).await?;
                if json {
                    print::json(&detail)?;
                }
                show::ended(&detail)
            }
            WorkflowCommand::Cancel { workflow } => {
                let answer =
                    client.post(&["v1", "workflows", &workflow, "cancel"], &serde_json::json!({})).await?;
                cli::done(json, &answer, &format!("workflow {workflow} is cancelled"))
            }
        }
    }
}

impl Submit {
    async fn run(self, client: &Client, json: bool) -> Result<(), Failure> {
        let submission = self.submission()?;
        let key = self.idempotency_key.clone().unwrap_or_else(|| {
            let key = cli::new_key();
            // Before the request: whoever loses the answer can repeat it.
            print::say(&format!("idempotency key {key}"));
            key
        });
        let answer = client.create(&["v1", "workflows"], &submission, &key).await?;
        let submitted: views::SubmittedWorkflow = client::read(&answer)?;
        let id = submitted.workflow_id;
        if json {
            print::json(&answer)?;
        } else {
            if !submitted.new {
                print::say("this key was used before, for the same request: it is the same workflow");
            }
            print::data(&format!("{id}\n"))?;
        }
        if self.watch {
            return show::ended(&show::watch(client, id).await?);
        }
        if !json {
            print::say(&format!("accepted; `galley workflow watch {id}` shows how it goes"));
        }
        Ok(())
    }

    /// The request, put together from file and flags.
    fn submission(&self) -> Result<views::SubmitWorkflow, Failure> {
        let base = match (&self.file, &self.template) {
            (Some(file), _) => from_file(file)?,
            (None, template) => views::SubmitWorkflow { template: template.clone(), ..Default::default() },
        };
        with_input(base, self.file.as_deref(), self.input.as_deref(), self.priority)
    }
}

/// A submission with the input of another file and a priority, where given.
pub(super) fn with_input(
    mut submission: views::SubmitWorkflow,
    file: Option<&Path>,
    brief: Option<&Path>,
    priority: Option<u8>,
) -> Result<views::SubmitWorkflow, Failure> {
    if let Some(brief) = brief {
        if file == Some(Path::new("-")) && brief == Path::new("-") {
            return Err(Failure::usage("stdin cannot be both the submission and its input"));
        }
        submission.input = document(&input(brief)?, brief)?;
    }
    submission.priority = priority.or(submission.priority);
    Ok(submission)
}

/// A submission, or a definition that becomes one.
pub(super) fn from_file(file: &Path) -> Result<views::SubmitWorkflow, Failure> {
    let text = input(file)?;
    let value: Value = document(&text, file)?;
    let hint =
        "a submission has `template` or `definition`, and `input`; a definition has `name` and `steps`";
    let read = if value.get("steps").is_some() {
        document::<Definition>(&text, file)
            .map(|definition| views::SubmitWorkflow { definition: Some(definition), ..Default::default() })
    } else {
        document(&text, file)
    };
    let submission = read.map_err(|failure| failure.hint(hint))?;
    if submission.template.is_none() && submission.definition.is_none() {
        return Err(Failure::new(
            Exit::Refused,
            format!("{} names neither a template nor a definition", file.display()),
        )
        .hint(hint));
    }
    Ok(submission)
}

async fn list(client: &Client, state_: Option<String>, limit: usize, json: bool) -> Result<(), Failure> {
    let query: Vec<_> = state_.into_iter().map(|state| ("state", state)).collect();
    let listed = client.list(&["v1", "workflows"], &query, limit).await?;
    if json {
        return print::json(&listed);
    }
    let workflows: Vec<views::WorkflowSummary> = listed.items()?;
    if workflows.is_empty() {
        print::say("no workflows; `galley workflow submit --help` shows how to begin");
        return Ok(());
    }
    let mut table = Table::new(&["ID", "NAME", "STATE", "STEPS", "ACCEPTED", ">TIME", "~BY"]);
    for workflow in &workflows {
        let took = match &workflow.finished_at {
            Some(end) => time::between_texts(&workflow.created_at, end),
            None => time::since(&workflow.created_at),
        };
        let counts = &workflow.steps;
        let dead = if counts.dead > 0 { format!(", {} dead", counts.dead) } else { String::new() };
        table.row(vec![
            cell(workflow.id),
            cell(workflow.template.as_deref().unwrap_or(&workflow.name)),
            state(&workflow.state.to_string()),
            cell(format!("{} of {}{dead}", counts.done, counts.total)),
            cell(time::ago(&workflow.created_at)),
            cell(time::run_time(u64::try_from(took.as_millis()).unwrap_or(0))),
            cell(&workflow.created_by),
        ]);
    }
    print::data(&table.render(print::data_width()))?;
    if listed.next_cursor.is_some() {
        print::say(&format!("more follow; --limit {} shows them", limit * 4));
    }
    Ok(())
}

fn shown(detail: &views::WorkflowDetail) -> String {
    let mut text = format!("{}\n", show::verdict(detail));
    let summary = &detail.summary;
    let by = format!("submitted {} by {}", time::ago(&summary.created_at), summary.created_by);
    text.push_str(&format!("{}\n\n", style::DIM.on(&by)));
    text.push_str(&show::contributions(detail, |_| None).render(print::data_width()));
    if let Some(told) = show::collaboration(detail) {
        text.push_str(&format!("\n{told}\n"));
    }
    let compiled = show::compiled(detail);
    if !compiled.is_empty() {
        text.push_str(&format!("\n{}", compiled.trim_end()));
        text.push('\n');
    }
    if !detail.posts.is_empty() {
        text.push_str(&format!("\n{}", show::posts(&detail.posts).render(print::data_width())));
    }
    if !summary.state.is_final() {
        let hint = format!("galley why {} says what it waits for", summary.id);
        text.push_str(&format!("\n{}\n", style::DIM.on(&hint)));
    }
    text
}
