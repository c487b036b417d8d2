//! `galley prompt`: what agents ask their models with in this workspace.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use galley_api::views;
use serde::{Deserialize, Serialize};

use super::listed_by;
use crate::cli::{self, Remote, Run, Settings};
use crate::client;
use crate::config::Flags;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::files;
use crate::print::style;
use crate::table::{Table, cell};
use crate::{print, time};

/// Show and replace the prompts of this workspace's agents
///
/// A prompt is two MiniJinja templates: `system`, which refers to nothing, and
/// `user`, which may refer to `brief`, `params`, `results` and `item`. Every text
/// of theirs that it prints comes out fenced, as material and no instruction.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  galley prompt list
  galley prompt show strategy > strategy.toml      what is in force, to be edited
  galley prompt preview strategy strategy.toml     what it makes of the agent's example; asks nobody
  galley prompt set strategy strategy.toml
  galley prompt show strategy --version 2 | galley prompt set strategy -
  galley prompt reset strategy                     the deployment's again")]
pub(crate) struct Prompt {
    #[command(subcommand)]
    command: PromptCommand,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum PromptCommand {
    /// List the agents that have a prompt, and whose is in force
    List,
    /// Print an agent's prompt, as a file that `set` takes
    Show {
        /// The agent
        agent: String,
        /// A version that this workspace set, instead of the one in force
        #[arg(long, value_name = "N")]
        version: Option<u32>,
    },
    /// Replace an agent's prompt for this workspace
    Set {
        /// The agent
        agent: String,
        /// A file as `show` prints it, `-` for stdin
        file: PathBuf,
    },
    /// Put the deployment's prompt in force again
    Reset {
        /// The agent
        agent: String,
    },
    /// Print what a prompt makes of an input, without asking a model
    Preview {
        /// The agent
        agent: String,
        /// A file as `show` prints it, `-` for stdin; without, the prompt in force
        file: Option<PathBuf>,
        /// A step's input as JSON; without, the agent's example
        #[arg(long, value_name = "FILE")]
        input: Option<PathBuf>,
    },
}

/// A prompt as a file.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    /// The version it was printed from: a newer one is a conflict.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    system: String,
    user: String,
}

impl Written {
    fn read(file: &Path) -> Result<Self, Failure> {
        let text = files::input(file)?;
        toml::from_str(&text).map_err(|error| {
            let name = if file.as_os_str() == "-" { "stdin".into() } else { file.display().to_string() };
            Failure::new(Exit::Refused, format!("{name} is no prompt"))
                .detail(error)
                .hint("begin with what `galley prompt show AGENT` prints")
        })
    }

    fn text(&self) -> Result<String, Failure> {
        let written = toml::to_string_pretty(self);
        written
            .map_err(|error| Failure::new(Exit::Unexpected, "the prompt could not be written").detail(error))
    }
}

impl Run for Prompt {
    fn flags(&self) -> Flags {
        self.remote.flags()
    }

    async fn run(self, settings: Settings) -> Result<(), Failure> {
        let client = Remote::client(&settings)?;
        let json = self.remote.json;
        let listed = listed_by("galley prompt list");
        match self.command {
            PromptCommand::List => {
                let all = client.list_all(&["v1", "prompts"]).await?;
                if json {
                    return print::json(&all);
                }
                list(&all.items()?)
            }
            PromptCommand::Show { agent, version } => {
                let version = version.map(|version| ("version", version.to_string()));
                let query: Vec<_> = version.into_iter().collect();
                let answer = client.find(&["v1", "prompts", &agent], &query).await.map_err(listed)?;
                if json {
                    return print::json(&answer);
                }
                print::data(&shown(&client::read(&answer)?)?)
            }
            PromptCommand::Set { agent, file } => {
                let Written { version, system, user } = Written::read(&file)?;
                let set = views::SetPrompt { system, user, version };
                let answer = client.put(&["v1", "prompts", &agent], &set).await.map_err(listed)?;
                let now: views::Prompt = client::read(&answer)?;
                let told = format!(
                    "{agent} runs with this workspace's own prompt {} (version {}) within two seconds; \
                     `galley prompt reset {agent}` goes back",
                    now.prompt, now.version
                );
                cli::done(json, &answer, &told)
            }
            PromptCommand::Reset { agent } => {
                let answer = client.delete(&["v1", "prompts", &agent]).await.map_err(listed)?;
                let now: views::PromptInForce = client::read(&answer)?;
                let told =
                    format!("{agent} runs with the deployment's prompt {} within two seconds", now.prompt);
                cli::done(json, &answer, &told)
            }
            PromptCommand::Preview { agent, file, input } => {
                let templates = file.as_deref().map(Written::read).transpose()?;
                let templates =
                    templates.map(|Written { system, user, .. }| views::PromptTemplates { system, user });
                let read = |path: PathBuf| files::document(&files::input(&path)?, &path);
                let preview = views::PreviewPrompt { templates, input: input.map(read).transpose()? };
                let path = ["v1", "prompts", &agent, "preview"];
                let answer = client.post(&path, &preview).await.map_err(listed)?;
                if json {
                    return print::json(&answer);
                }
                let made: views::RenderedPrompt = client::read(&answer)?;
                let head = |text: &str| style::STRONG.on(text);
                print::data(&format!(
                    "{}\n{}\n\n{}\n{}\n",
                    head("System"),
                    made.system,
                    head("User"),
                    made.user
                ))
            }
        }
    }
}

fn whose(own: bool) -> &'static str {
    if own { "this workspace's" } else { "the deployment's" }
}

/// The prompt as a file, headed by whose it is.
fn shown(prompt: &views::Prompt) -> Result<String, Failure> {
    let set = match (&prompt.set_by, &prompt.set_at) {
        (Some(by), Some(at)) if prompt.own => format!(", set by {by} at {at}"),
        _ => String::new(),
    };
    let written =
        Written { version: Some(prompt.version), system: prompt.system.clone(), user: prompt.user.clone() };
    Ok(format!(
        "# The prompt of {}: {} ({}){set}.\n# `galley prompt set {} FILE` sets it for this workspace.\n{}",
        prompt.agent,
        whose(prompt.own),
        prompt.prompt,
        prompt.agent,
        written.text()?
    ))
}

fn list(prompts: &[views::PromptInForce]) -> Result<(), Failure> {
    if prompts.is_empty() {
        print::say("no agent with a prompt is registered; the first `galley worker` registers them");
        return Ok(());
    }
    let mut table = Table::new(&["AGENT", "IN FORCE", "PROMPT", ">VERSION", "CHANGED", "~BY"]);
    for prompt in prompts {
        table.row(vec![
            cell(&prompt.agent),
            cell(whose(prompt.own)),
            cell(&prompt.prompt),
            cell(if prompt.version == 0 { String::new() } else { prompt.version.to_string() }),
            cell(prompt.set_at.as_deref().map(time::ago).unwrap_or_default()),
            cell(prompt.set_by.as_deref().unwrap_or_default()),
        ]);
    }
    print::data(&table.render(print::data_width()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_can_be_set() {
        let prompt = views::Prompt {
            agent: "strategy".into(),
            own: true,
            version: 3,
            prompt: "0123456789ab".into(),
            set_by: Some("ada # \"x\"".into()),
            set_at: Some("2026-11-27T03:00:00Z".into()),
            system: "Plan.\n".into(),
            user: "\n'''\"\"\"\\n{{ brief|fence(\"brief\") }}\n\u{1f600}\ttab\r\nend".into(),
        };
        let read: Written = toml::from_str(&shown(&prompt).unwrap()).unwrap();
        assert_eq!(read.version, Some(3));
        assert_eq!((read.system, read.user), (prompt.system, prompt.user));
    }
}
