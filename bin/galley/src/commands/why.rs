//! `galley why`: one sentence that says what something waits for.

use clap::Args;
use galley_api::views;

use crate::cli::{Remote, Run, Settings};
use crate::client;
use crate::config::Flags;
use crate::failure::Failure;
use crate::print::{self, style};

/// Say in one sentence what something waits for, and what to do
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  galley why 0199d1c2-…            a workflow, by its id
  galley why 0199d1c2-….review     a task: the workflow's id, a dot, the step's name
  galley why content_creator       an agent's queue
  galley why 5b7c9d0e-…            a post, an approval or a schedule, by its id")]
pub(crate) struct Why {
    /// The id of a workflow, a post, an approval, a schedule or a task, or an agent type
    id: String,
    #[command(flatten)]
    remote: Remote,
}

impl Run for Why {
    fn flags(&self) -> Flags {
        self.remote.flags()
    }

    async fn run(self, settings: Settings) -> Result<(), Failure> {
        let answer = Remote::client(&settings)?.get(&["v1", "why", &self.id]).await?;
        if self.remote.json {
            return print::json(&answer);
        }
        let why: views::Why = client::read(&answer)?;
        let paint = if why.needs_action { style::WARN } else { style::PLAIN };
        print::data(&format!("{}\n", paint.on(&why.sentence)))
    }
}
