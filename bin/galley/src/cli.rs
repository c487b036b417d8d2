//! The command line: what all commands share.

use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches, Parser};

use crate::Changes;
use crate::client::Client;
use crate::commands::Command;
use crate::config::{Config, Flags, KEYS, Sources};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::print;

/// Runs a fleet of AI-agent workers: durable workflows, nothing lost, nothing twice
///
/// New here? `galley dev` starts everything on this machine (PostgreSQL, Redis,
/// API, workers), runs a sample campaign before your eyes, and says what to
/// try next.
#[derive(Debug, Parser)]
#[command(name = "galley", version, propagate_version = false, max_term_width = 100)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// The configuration file; ./galley.toml if there is one
    #[arg(long, global = true, value_name = "FILE", help_heading = "Options of every command")]
    config: Option<PathBuf>,
    /// What is logged: error, warn, info, debug, or directives
    #[arg(long, global = true, value_name = "FILTER", help_heading = "Options of every command")]
    log: Option<String>,
    /// How log lines look: human or json
    #[arg(long, global = true, value_name = "FORMAT", help_heading = "Options of every command")]
    log_format: Option<String>,
    #[command(subcommand)]
    command: Command,
}

/// What a command runs with.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The configuration.
    pub(crate) config: Config,
    /// Where it came from.
    pub(crate) sources: Sources,
    /// What a harness changes.
    pub(crate) changes: Changes,
}

/// What a subcommand has to offer.
pub(crate) trait Run {
    /// The settings its flags override.
    fn flags(&self) -> Flags {
        Flags::new()
    }

    /// Does it.
    async fn run(self, settings: Settings) -> Result<(), Failure>;
}

/// Where they stand in the help: apart from what a command is about.
const REACHED: &str = "Server and output";

/// Flags of the commands that talk to the API.
#[derive(Debug, Args)]
pub(crate) struct Remote {
    /// The API's URL; found by itself where `galley dev` runs
    #[arg(long, global = true, value_name = "URL", help_heading = REACHED)]
    url: Option<String>,
    /// The token to show it
    #[arg(long, global = true, value_name = "TOKEN", help_heading = REACHED)]
    token: Option<String>,
    /// Print the API's JSON instead of text for people
    #[arg(long, global = true, help_heading = REACHED)]
    pub(crate) json: bool,
}

impl Remote {
    /// See [`Run::flags`].
    pub(crate) fn flags(&self) -> Flags {
        let mut flags = Flags::new();
        flags.extend(self.url.clone().map(|url| ("client.url", "--url", url)));
        flags.extend(self.token.clone().map(|token| ("client.token", "--token", token)));
        flags
    }

    /// The client.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub(crate) fn client(settings: &Settings) -> Result<Client, Failure> {
        Client::new(&settings.config)
    }
}

/// The whole command line, for completions and the docs.
pub(crate) fn command() -> clap::Command {
    let width = KEYS.iter().map(|key| key.env.len()).max().unwrap_or(0);
    let settings: Vec<_> =
        KEYS.iter().map(|key| format!("  {:width$}  {}", key.env, key.about.trim())).collect();
    let codes = Exit::help();
    Cli::command().after_help(codes.clone()).after_long_help(format!(
        "Environment (docs/configuration.md has the same settings for galley.toml):\n{}\n\n{codes}",
        settings.join("\n")
    ))
}

/// Reads the command line. Help and version are printed here.
///
/// # Errors
/// The exit code, when there is nothing more to do.
pub(crate) fn parse() -> Result<Cli, Exit> {
    let parsed = command().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.map_err(|error| {
        let failed = error.use_stderr();
        // Nobody listening is no error.
        let _ = error.print();
        if failed { Exit::Usage } else { Exit::Done }
    })
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// What the command failed of.
    pub(crate) async fn run(self, changes: Changes) -> Result<(), Failure> {
        let mut flags = self.command.flags();
        flags.extend(self.log.map(|filter| ("log.filter", "--log", filter)));
        flags.extend(self.log_format.map(|format| ("log.format", "--log-format", format)));
        let sources = Sources::of_process(self.config.as_deref(), flags)?;
        let config = Config::read(&sources)?;
        self.command.run(Settings { config, sources, changes }).await
    }
}

/// Says what a command did, for people who did not ask for JSON.
pub(crate) fn done(json: bool, answer: &serde_json::Value, told: &str) -> Result<(), Failure> {
    if json {
        return print::json(answer);
    }
    print::say(told);
    Ok(())
}

/// A new idempotency key: what makes a repeated request the same request.
pub(crate) fn new_key() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// A number of items, at least one.
///
/// # Errors
/// What to write instead.
pub(crate) fn limit(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|limit| *limit > 0).ok_or_else(|| "write a number from 1".into())
}

/// Who did what was done on the database itself, in audit lines.
pub(crate) const DIRECT_ACTOR: &str = "galley --direct";

/// A value as JSON.
///
/// # Errors
/// A bug.
pub(crate) fn json_of(value: &impl serde::Serialize) -> Result<serde_json::Value, Failure> {
    serde_json::to_value(value)
        .map_err(|error| Failure::unexpected("a value does not serialize").detail(error))
}

/// A workflow's id.
///
/// # Errors
/// What an id looks like.
pub(crate) fn workflow_id(text: &str) -> Result<galley_core::ids::WorkflowId, String> {
    text.parse().map_err(|_| "a workflow's id looks like 0199d1c2-3f60-7c1e-8a52-5b7c9d0e1f23; `galley workflow list` shows them".into())
}
