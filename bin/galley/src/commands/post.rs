//! `galley post`: what goes out, and its receipt.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use galley_api::views;
use galley_core::ids::WorkflowId;

use super::listed_by;
use crate::cli::{self, Remote, Run, Settings};
use crate::client::{self, Client};
use crate::config::Flags;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::files::{self, input};
use crate::table::{Table, cell, state};
use crate::{print, show, time};

/// See, edit, reschedule, reject and resolve posts
///
/// A post is content for one account. It can be changed until it is on its way
/// out; from then on its receipt says what is known.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  galley post list --state waiting_approval
  galley post show 5b7c9d0e-…                         text, approvals, where it went, what happened
  galley post edit 5b7c9d0e-…                         change its text in $EDITOR
  galley post edit 5b7c9d0e-… --file text.md --approve
  galley post reschedule 5b7c9d0e-… --at 2026-03-01T09:30:00+01:00
  galley post reject 5b7c9d0e-… --note 'not our voice'
  galley post resolve 5b7c9d0e-… --not-there          it is not there: send it")]
pub(crate) struct Post {
    #[command(subcommand)]
    command: PostCommand,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum PostCommand {
    /// List posts, newest first
    List {
        /// Only those in this state
        #[arg(long, value_name = "STATE", value_parser = ["draft", "waiting_approval", "scheduled", "publishing", "unknown", "in_doubt", "published", "rejected", "failed", "expired", "cancelled"])]
        state: Option<String>,
        /// Only of this workflow
        #[arg(long, value_name = "ID", value_parser = cli::workflow_id)]
        workflow: Option<WorkflowId>,
        /// Only for this account
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
        /// At most this many
        #[arg(long, default_value_t = 25, value_name = "N", value_parser = cli::limit)]
        limit: usize,
    },
    /// Show a post with its receipt
    Show {
        /// The post's id
        post: String,
    },
    /// Give a post a new text; it has to be approved anew
    Edit(Edit),
    /// Choose another time for a post
    #[command(group = clap::ArgGroup::new("when").required(true).args(["at", "any_time"]))]
    Reschedule {
        /// The post's id
        post: String,
        /// When it goes out: 2026-03-01T09:30:00+01:00
        #[arg(long, value_name = "RFC3339")]
        at: Option<String>,
        /// Let the account's slots and the limits choose
        #[arg(long)]
        any_time: bool,
    },
    /// Say no: the post does not go out
    Reject {
        /// The post's id
        post: String,
        /// Why: shown with the post
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
    },
    /// Say whether a post in doubt is out
    #[command(group = clap::ArgGroup::new("found").required(true).args(["published", "not_there", "give_up"]))]
    Resolve {
        /// The post's id
        post: String,
        /// It is there
        #[arg(long)]
        published: bool,
        /// The platform's id of it
        #[arg(long, value_name = "ID", requires = "published")]
        remote_id: Option<String>,
        /// Where it is
        #[arg(long, value_name = "URL", requires = "published")]
        link: Option<String>,
        /// It is not there: send it
        #[arg(long)]
        not_there: bool,
        /// It is not there, and shall not be
        #[arg(long)]
        give_up: bool,
    },
}

#[derive(Debug, Args)]
struct Edit {
    /// The post's id
    post: String,
    /// The new text; $EDITOR opens when neither this nor --file is given
    #[arg(long, value_name = "TEXT", conflicts_with = "file")]
    text: Option<String>,
    /// A file with the new text; `-` for stdin
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The new link; the old one stays when absent
    #[arg(long, value_name = "URL", conflicts_with = "no_link")]
    link: Option<String>,
    /// Without a link
    #[arg(long)]
    no_link: bool,
    /// Approve the new revision, too
    #[arg(long)]
    approve: bool,
}

impl Run for Post {
    fn flags(&self) -> Flags {
        self.remote.flags()
    }

    async fn run(self, settings: Settings) -> Result<(), Failure> {
        let client = Remote::client(&settings)?;
        let json = self.remote.json;
        let known = listed_by("galley post list");
        let path = |post: &str, what: &str| ["v1".to_owned(), "posts".into(), post.into(), what.into()];
        match self.command {
            PostCommand::List { state, workflow, account, limit } => {
                list(&client, state, workflow, account, limit, json).await
            }
            PostCommand::Show { post } => {
                let answer = client.get(&["v1", "posts", &post]).await.map_err(known)?;
                if json {
                    return print::json(&answer);
                }
                let detail: views::PostDetail = client::read(&answer)?;
                print::data(&show::post(&detail))?;
                print::say(&next(&detail));
                Ok(())
            }
            PostCommand::Edit(edit) => edit.run(&client, json).await,
            PostCommand::Reschedule { post, at, any_time: _ } => {
                let path = path(&post, "reschedule");
                let body = views::ReschedulePost { at: at.clone() };
                let answer = client.post(&texts(&path), &body).await.map_err(known)?;
                let changed: views::Post = client::read(&answer)?;
                let when = match at {
                    Some(at) => format!("at {at}, unless a limit moves it on"),
                    None => "at the next free slot".into(),
                };
                let told = match changed.state.as_str() {
                    "waiting_approval" => format!("post {post}, once approved, goes out {when}"),
                    _ => format!("post {post} goes out {when}"),
                };
                cli::done(json, &answer, &format!("{told}; `galley why {post}` says what it waits for"))
            }
            PostCommand::Reject { post, note } => {
                let path = path(&post, "reject");
                let answer = client.post(&texts(&path), &views::Reject { note }).await.map_err(known)?;
                cli::done(json, &answer, &format!("post {post} is rejected; it does not go out"))
            }
            PostCommand::Resolve { post, published, remote_id, link, not_there, give_up: _ } => {
                let (resolution, told) = if published {
                    (views::Resolution::Published, "is published; its workflow goes on")
                } else if not_there {
                    (views::Resolution::NotThere, "goes out once more")
                } else {
                    (views::Resolution::GivenUp, "is given up: it does not go out")
                };
                let path = path(&post, "resolve");
                // Read once and told along: however often the request is made,
                // it is about this doubt.
                let seen = client.get(&["v1", "posts", &post]).await.map_err(&known)?;
                let seen: views::PostDetail = client::read(&seen)?;
                let sends = seen.publication.map_or(0, |publication| publication.sends);
                let body = views::ResolvePost { resolution, sends, remote_id, link };
                let answer = client.post(&texts(&path), &body).await.map_err(known)?;
                cli::done(
                    json,
                    &answer,
                    &format!("post {post} {told}; `galley post show {post}` is its receipt"),
                )
            }
        }
    }
}

fn texts(path: &[String]) -> Vec<&str> {
    path.iter().map(String::as_str).collect()
}

async fn list(
    client: &Client,
    state_: Option<String>,
    workflow: Option<WorkflowId>,
    account: Option<String>,
    limit: usize,
    json: bool,
) -> Result<(), Failure> {
    let mut query = Vec::new();
    query.extend(state_.map(|state| ("state", state)));
    query.extend(workflow.map(|workflow| ("workflow", workflow.to_string())));
    query.extend(account.map(|account| ("account", account)));
    let listed = client.list(&["v1", "posts"], &query, limit).await?;
    if json {
        return print::json(&listed);
    }
    let posts: Vec<views::Post> = listed.items()?;
    if posts.is_empty() {
        let which = if query.is_empty() { "no posts" } else { "no such posts" };
        print::say(&format!("{which}; a workflow with a step of the agent `publisher` makes them"));
        return Ok(());
    }
    let mut table = Table::new(&["ID", "ACCOUNT", "STATE", "SLOT", "CHANGED", "~REASON", "~TEXT"]);
    for post in &posts {
        table.row(vec![
            cell(post.id),
            cell(&post.account),
            state(&post.state),
            cell(post.slot_at.as_deref().map_or(String::new(), time::ago)),
            cell(time::ago(&post.updated_at)),
            cell(post.reason.as_deref().unwrap_or_default()),
            cell(&post.content.text),
        ]);
    }
    print::data(&table.render(print::data_width()))?;
    if listed.next_cursor.is_some() {
        print::say(&format!("more follow; --limit {} shows them", limit * 4));
    }
    Ok(())
}

/// What can be done about a post now.
fn next(detail: &views::PostDetail) -> String {
    let post = &detail.post;
    let id = post.id;
    let asked = detail.approvals.iter().find(|asked| asked.status == "pending");
    let settled = detail.publication.as_ref().is_some_and(|publication| publication.settled_by.is_some());
    match (post.state.as_str(), asked) {
        (_, Some(asked)) => {
            format!(
                "\n`galley approval approve {0}` lets it out, `galley approval reject {0}` does not",
                asked.id
            )
        }
        ("in_doubt", _) => format!(
            "\nlook at the account, then `galley post resolve {id} --published`, `--not-there` (sends it) or `--give-up`"
        ),
        ("unknown", _) => "\nnothing to do: Galley finds out whether it is out".into(),
        ("failed", _) if settled => "\na person gave it up: it is not out and will not be".into(),
        ("failed", _) => format!("\n`galley dead show {}` says why, if it can be tried again", post.task_id),
        ("draft" | "scheduled", _) => {
            format!(
                "\n`galley why {id}` says what it waits for; `galley post edit` and `reschedule` change it"
            )
        }
        _ => format!("\n`galley workflow show {}` shows where it came from", post.workflow_id),
    }
}

impl Edit {
    async fn run(self, client: &Client, json: bool) -> Result<(), Failure> {
        let known = listed_by("galley post list");
        let answer = client.get(&["v1", "posts", &self.post]).await.map_err(&known)?;
        let seen: views::PostDetail = client::read(&answer)?;
        let seen = seen.post;
        let link = match (self.link, self.no_link) {
            (_, true) => None,
            (Some(link), false) => Some(link),
            (None, false) => seen.content.link.clone(),
        };
        let mut kept = None;
        let text = match (self.text, &self.file) {
            (Some(text), _) => text,
            // What an editor puts at the end of a file is not part of the post.
            (None, Some(file)) => input(file)?.trim_end_matches(['\r', '\n']).to_owned(),
            (None, None) if link != seen.content.link => seen.content.text.clone(),
            (None, None) => {
                let (text, file) = edited(&self.post, &seen.content.text).await?;
                kept = Some(file);
                text
            }
        };
        let body = views::EditPost { text, link, revision: Some(seen.revision), approve: self.approve };
        let changed = client.put(&["v1", "posts", &self.post], &body).await;
        let answer = match (changed, &kept) {
            (Ok(answer), _) => answer,
            // A text that was refused is somebody's work.
            (Err(failure), Some(file)) => {
                return Err(failure.hint(format!(
                    "your text is kept: `galley post edit {} --file {}`",
                    self.post,
                    file.display()
                )));
            }
            (Err(failure), None) => return Err(known(failure)),
        };
        if let Some(file) = kept {
            let _ = std::fs::remove_file(file);
        }
        let edited: views::EditedPost = client::read(&answer)?;
        let revision = edited.post.revision;
        let then = match (edited.approval_id, edited.post.state.as_str()) {
            (Some(approval), _) => format!("it waits for an approval: `galley approval approve {approval}`"),
            (None, "failed") => {
                format!("it is a dead letter: `galley dead retry {}` sends it", edited.post.task_id)
            }
            (None, _) if self.approve => "it is approved and goes out when its turn comes".into(),
            (None, _) => "it goes out when its turn comes".into(),
        };
        cli::done(json, &answer, &format!("post {} is at revision {revision}; {then}", self.post))
    }
}

/// The text as the person left it in the editor, and where it is.
async fn edited(post: &str, before: &str) -> Result<(String, PathBuf), Failure> {
    let file = std::env::temp_dir().join(format!("galley-{}.txt", cli::new_key()));
    crate::found::write_private(&file, &format!("{before}\n"))?;
    let left = match files::edit(&file, "--text or --file").await {
        Ok(()) => input(&file),
        Err(failure) => Err(failure),
    };
    let after = left.map(|text| text.trim_end_matches(['\r', '\n']).to_owned());
    match after {
        Ok(after) if after != before.trim_end_matches(['\r', '\n']) => Ok((after, file)),
        Ok(_) => {
            let _ = std::fs::remove_file(&file);
            Err(Failure::new(Exit::Refused, "the text was not changed; nothing was done")
                .hint(format!("`galley post show {post}` says what can be done with it as it is")))
        }
        Err(failure) => {
            let _ = std::fs::remove_file(&file);
            Err(failure)
        }
    }
}
