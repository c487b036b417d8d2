//! The one binary: roles and commands as subcommands. This package puts the
//! rooms together and talks to people; it decides nothing. It is a library so
//! that the fault harness can be the same roles under test (`tests/chaos`);
//! [`main`] is all of its face.
//!
//! The way of every command: parse ([`cli`]), read the configuration
//! ([`config`]), run ([`commands`]), and tell a failure in three parts
//! ([`failure`]) with one of the exit codes of [`exit`].

mod assistant;
mod cli;
mod client;
mod commands;
mod config;
mod defaults;
mod demo;
#[cfg(test)]
mod deploy;
mod deployment;
#[cfg(test)]
mod docs;
mod exit;
mod failure;
mod files;
mod found;
mod home;
mod print;
mod secrets;
mod show;
mod site;
mod stop;
mod table;
mod telemetry;
mod time;

use std::process::ExitCode;

use galley_agents::{RegisterError, Registry};
use galley_engine::EngineConfig;

use crate::exit::Exit;
use crate::failure::Failure;

/// What a harness changes of the roles it runs. [`Changes::default`] changes
/// nothing: that is the product.
#[derive(Clone, Copy, Debug)]
pub struct Changes {
    /// Adds agents to those a worker has.
    pub agents: fn(&mut Registry) -> Result<(), RegisterError>,
    /// Changes times that people have no business with.
    pub engine: fn(&mut EngineConfig),
}

impl Default for Changes {
    fn default() -> Self {
        Self { agents: |_| Ok(()), engine: |_| {} }
    }
}

/// Runs the command that this process was started with, to its end.
pub fn main(changes: Changes) -> ExitCode {
    // The one crypto provider: reqwest is built without one.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return tell(&Failure::unexpected("the TLS crypto provider was installed twice")).into();
    }
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(exit) => return exit.into(),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return tell(&Failure::unexpected("the runtime cannot be started").detail(error)).into();
        }
    };
    let done = runtime.block_on(cli.run(changes));
    // Nothing that runs on after the command's end is waited for: whatever had
    // to be finished was awaited by the command.
    runtime.shutdown_background();
    match done {
        Ok(()) => Exit::Done.into(),
        Err(failure) => tell(&failure).into(),
    }
}

fn tell(failure: &Failure) -> Exit {
    print::talk(&failure.render());
    failure.exit
}
