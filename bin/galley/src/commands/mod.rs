//! The registry of commands: one file each, and one line each in the two lists
//! below. A test compares the lists with the folder.

mod account;
mod agent;
mod api;
mod approval;
mod audit;
mod automation;
mod bench;
mod bench_worker;
mod budget;
mod completions;
mod dead;
mod demo;
mod dev;
mod doctor;
mod gateway;
mod key;
mod mcp;
mod migrate;
mod openapi;
mod post;
mod prompt;
mod provider;
mod queue;
mod schedule;
mod scheduler;
mod secret;
mod spend;
mod task;
mod template;
mod token;
mod top;
mod why;
mod worker;
mod workflow;
mod workspace;

use crate::cli::{Run, Settings};
use crate::config::Flags;
use crate::exit::Exit;
use crate::failure::Failure;

macro_rules! commands {
    ($($module:ident::$Command:ident,)+) => {
        /// Every command, in the order of `--help`.
        #[derive(Debug, clap::Subcommand)]
        pub(crate) enum Command {
            $($Command($module::$Command),)+
        }

        impl Run for Command {
            fn flags(&self) -> Flags {
                match self { $(Self::$Command(command) => command.flags(),)+ }
            }

            async fn run(self, settings: Settings) -> Result<(), Failure> {
                match self { $(Self::$Command(command) => Box::pin(command.run(settings)).await,)+ }
            }
        }
    };
}

commands! {
    dev::Dev,
    demo::Demo,
    workflow::Workflow,
    template::Template,
    task::Task,
    post::Post,
    approval::Approval,
    automation::Automation,
    budget::Budget,
    spend::Spend,
    account::Account,
    provider::Provider,
    prompt::Prompt,
    schedule::Schedule,
    dead::Dead,
    why::Why,
    top::Top,
    queue::Queue,
    agent::Agent,
    worker::Worker,
    api::Api,
    gateway::Gateway,
    scheduler::Scheduler,
    migrate::Migrate,
    doctor::Doctor,
    bench::Bench,
    bench_worker::BenchWorker,
    workspace::Workspace,
    token::Token,
    key::Key,
    audit::Audit,
    secret::Secret,
    mcp::Mcp,
    openapi::Openapi,
    completions::Completions,
}

/// What was not there is listed by this command.
fn listed_by(command: &'static str) -> impl Fn(Failure) -> Failure {
    move |failure| match failure.exit {
        Exit::NotFound => failure.hint(format!("`{command}` shows what there is")),
        _ => failure,
    }
}

#[cfg(test)]
mod tests;
