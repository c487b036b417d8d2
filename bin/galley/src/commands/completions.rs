//! `galley completions`: a script for the shell.

use clap::{Args, ValueEnum};
use clap_complete::Shell;

use crate::cli::{self, Run, Settings};
use crate::failure::Failure;
use crate::print;

/// Print a completion script for your shell
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  galley completions bash > ~/.local/share/bash-completion/completions/galley
  galley completions zsh > ~/.zfunc/_galley
  galley completions fish > ~/.config/fish/completions/galley.fish")]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: ShellName,
}

/// The shells there are scripts for.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ShellName {
    Bash,
    Zsh,
    Fish,
    Elvish,
}

impl Run for Completions {
    async fn run(self, _: Settings) -> Result<(), Failure> {
        let shell = match self.shell {
            ShellName::Bash => Shell::Bash,
            ShellName::Zsh => Shell::Zsh,
            ShellName::Fish => Shell::Fish,
            ShellName::Elvish => Shell::Elvish,
        };
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut cli::command(), "galley", &mut script);
        print::data(&String::from_utf8_lossy(&script))
    }
}
