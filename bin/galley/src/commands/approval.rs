//! `galley approval`: questions to people.

use clap::{Args, Subcommand};
use galley_api::views;
use galley_core::ids::WorkflowId;
use serde_json::Value;

use super::listed_by;
use crate::cli::{self, Remote, Run, Settings};
use crate::client::{self, Client, Listed};
use crate::config::Flags;
use crate::failure::Failure;
use crate::table::{Table, cell, state};
use crate::{print, show, time};

/// Most questions that `approve --all` answers at once.
const MOST: usize = 1_000;

/// Approve or reject what waits for a person
///
/// An approval holds for exactly the bytes that were shown: whatever is edited
/// afterwards is asked about anew.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  galley approval list
  galley approval show 0199d1c2-…                          exactly what would go out
  galley approval approve 0199d1c2-… --note 'go'
  galley approval approve --workflow 0199d1c2-…            every open one of a workflow
  galley approval approve --all                            every open one of the workspace
  galley approval reject 0199d1c2-… --note 'not our voice'
  galley post edit 5b7c9d0e-… --approve                    change the text, and approve that")]
pub(crate) struct Approval {
    #[command(subcommand)]
    command: ApprovalCommand,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum ApprovalCommand {
    /// List what waits for a person, oldest first
    List {
        /// Those with this status
        #[arg(long, value_name = "STATUS", default_value = "pending", value_parser = ["pending", "approved", "rejected", "expired", "void"])]
        status: String,
        /// Only about this workflow
        #[arg(long, value_name = "ID", value_parser = cli::workflow_id)]
        workflow: Option<WorkflowId>,
        /// At most this many
        #[arg(long, default_value_t = 25, value_name = "N", value_parser = cli::limit)]
        limit: usize,
    },
    /// Show a question with exactly what it is about
    Show {
        /// The approval's id
        approval: String,
    },
    /// Say yes to exactly what was shown
    #[command(group = clap::ArgGroup::new("which").required(true).multiple(true)
        .args(["approvals", "all", "workflow"]))]
    Approve {
        /// The approvals' ids
        #[arg(value_name = "APPROVAL", conflicts_with_all = ["all", "workflow"])]
        approvals: Vec<String>,
        /// Every open one, after showing it
        #[arg(long)]
        all: bool,
        /// Every open one of this workflow, after showing it
        #[arg(long, value_name = "ID", value_parser = cli::workflow_id)]
        workflow: Option<WorkflowId>,
        /// What to say along with it
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
    },
    /// Say no: a post does not go out, a step does not run
    Reject {
        /// The approval's id
        approval: String,
        /// Why: shown with the post
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
    },
}

impl Run for Approval {
    fn flags(&self) -> Flags {
        self.remote.flags()
    }

    async fn run(self, settings: Settings) -> Result<(), Failure> {
        let client = Remote::client(&settings)?;
        let json = self.remote.json;
        let known = listed_by("galley approval list");
        match self.command {
            ApprovalCommand::List { status, workflow, limit } => {
                list(&client, status, workflow, limit, json).await
            }
            ApprovalCommand::Show { approval } => {
                let answer = client.get(&["v1", "approvals", &approval]).await.map_err(known)?;
                if json {
                    return print::json(&answer);
                }
                let detail: views::ApprovalDetail = client::read(&answer)?;
                print::data(&show::approval(&detail))?;
                if detail.approval.status == "pending" {
                    let edit = detail.approval.post_id;
                    let edit = edit.map(|post| format!("; `galley post edit {post}` changes it"));
                    print::say(&format!(
                        "\n`galley approval approve {approval}` or `galley approval reject {approval}`{}",
                        edit.unwrap_or_default()
                    ));
                }
                Ok(())
            }
            ApprovalCommand::Approve { approvals, all: _, workflow, note } => {
                let questions = if approvals.is_empty() {
                    shown(&client, workflow, json).await?
                } else {
                    approvals.into_iter().map(|id| (id, None)).collect()
                };
                approve(&client, questions, note, json).await
            }
            ApprovalCommand::Reject { approval, note } => {
                let body = views::Reject { note };
                let answer =
                    client.post(&["v1", "approvals", &approval, "reject"], &body).await.map_err(known)?;
                let answered: views::Approval = client::read(&answer)?;
                let told = match answered.post_id {
                    Some(post) => format!("rejected: post {post} does not go out"),
                    None => format!("rejected: task {} does not run; its workflow fails", answered.task_id),
                };
                cli::done(json, &answer, &told)
            }
        }
    }
}

async fn list(
    client: &Client,
    status: String,
    workflow: Option<WorkflowId>,
    limit: usize,
    json: bool,
) -> Result<(), Failure> {
    let mut query = vec![("status", status.clone())];
    query.extend(workflow.map(|workflow| ("workflow", workflow.to_string())));
    let listed = client.list(&["v1", "approvals"], &query, limit).await?;
    if json {
        return print::json(&listed);
    }
    let approvals: Vec<views::Approval> = listed.items()?;
    if approvals.is_empty() {
        print::say(match status.as_str() {
            "pending" => "nothing waits for an approval",
            _ => "no such approvals",
        });
        return Ok(());
    }
    let mut table = Table::new(&["ID", "ABOUT", ">REVISION", "STATUS", "ASKED", "EXPIRES", "~REASON"]);
    for asked in &approvals {
        table.row(vec![
            cell(asked.id),
            cell(asked.post_id.map_or(format!("task {}", asked.task_id), |post| format!("post {post}"))),
            cell(asked.revision.map_or(String::new(), |revision| revision.to_string())),
            state(&asked.status),
            cell(time::ago(&asked.asked_at)),
            cell(time::ago(&asked.expires_at)),
            cell(asked.note.as_deref().unwrap_or(&asked.reason)),
        ]);
    }
    print::data(&table.render(print::data_width()))?;
    if listed.next_cursor.is_some() {
        print::say(&format!("more follow; --limit {} shows them", limit * 4));
    }
    if status == "pending" {
        print::say("\n`galley approval show ID` shows what it is about");
    }
    Ok(())
}

/// The open questions, each shown to the person, with the hash of what was
/// shown.
async fn shown(
    client: &Client,
    workflow: Option<WorkflowId>,
    json: bool,
) -> Result<Vec<(String, Option<String>)>, Failure> {
    if let Some(id) = workflow {
        // A workflow that is not there asks nothing, either: a wrong id must
        // not look like one.
        let known = listed_by("galley workflow list");
        client.get(&["v1", "workflows", &id.to_string()]).await.map_err(known)?;
    }
    let query: Vec<_> = workflow.into_iter().map(|id| ("workflow", id.to_string())).collect();
    let listed = client.list(&["v1", "approvals"], &query, MOST).await?;
    let mut questions = Vec::new();
    for asked in listed.items::<views::Approval>()? {
        let id = asked.id.to_string();
        if !json {
            let detail: views::ApprovalDetail = client::read(&client.get(&["v1", "approvals", &id]).await?)?;
            print::talk(&format!("{}\n", show::approval(&detail)));
        }
        questions.push((id, Some(asked.content_hash)));
    }
    if listed.next_cursor.is_some() {
        print::say(&format!("there are more than {MOST}: run the same command again"));
    }
    Ok(questions)
}

/// Answers each; what cannot be answered does not keep the others waiting.
async fn approve(
    client: &Client,
    questions: Vec<(String, Option<String>)>,
    note: Option<String>,
    json: bool,
) -> Result<(), Failure> {
    let single = questions.len() == 1;
    let mut answers: Vec<Value> = Vec::new();
    let mut refused: Vec<(String, Failure)> = Vec::new();
    for (id, content_hash) in questions {
        let body = views::Approve { content_hash, note: note.clone() };
        let answer = client.post(&["v1", "approvals", &id, "approve"], &body).await;
        match answer.map_err(listed_by("galley approval list")) {
            Ok(answer) => {
                if !json {
                    print::say(&then(&client::read(&answer)?));
                }
                answers.push(answer);
            }
            Err(failure) if single => return Err(failure),
            Err(failure) => refused.push((id, failure)),
        }
    }
    let done = answers.len();
    match (json, single) {
        (true, true) => answers.iter().try_for_each(print::json)?,
        (true, false) => print::json(&Listed { items: answers, next_cursor: None })?,
        (false, _) if done == 0 && refused.is_empty() => print::say("nothing waits for an approval"),
        (false, _) => {}
    }
    let Some((_, first)) = refused.first() else { return Ok(()) };
    let what = format!("{} of {} were not approved", refused.len(), done + refused.len());
    let failure = Failure::new(first.exit, what).hint("`galley approval list` shows what is open now");
    Err(refused.iter().fold(failure, |failure, (id, why)| failure.detail(format!("- {id}: {}", why.line()))))
}

/// What happens next, in a line.
fn then(answered: &views::Approval) -> String {
    match answered.post_id {
        Some(post) => {
            format!(
                "approved: post {post} goes out when its turn comes; `galley post show {post}` shows when and where"
            )
        }
        None => format!("approved: task {0} runs; `galley why {0}` says how it goes", answered.task_id),
    }
}
