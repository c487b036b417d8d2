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
mod completions;
mod dead;
mod demo;
mod dev;
mod doctor;
mod migrate;
mod openapi;
mod post;
mod queue;
mod scheduler;
mod task;
mod template;
mod token;
mod top;
mod why;
mod worker;
mod workflow;
mod workspace;

use galley_api::views::Problem;
use reqwest::Method;
use secrecy::ExposeSecret;
use serde_json::Value;

use crate::cli::{Remote, Run, Settings};
use crate::config::Flags;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::found::DevFile;

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
    account::Account,
    dead::Dead,
    why::Why,
    top::Top,
    queue::Queue,
    agent::Agent,
    worker::Worker,
    api::Api,
    scheduler::Scheduler,
    migrate::Migrate,
    doctor::Doctor,
    bench::Bench,
    bench_worker::BenchWorker,
    workspace::Workspace,
    token::Token,
    audit::Audit,
    openapi::Openapi,
    completions::Completions,
}

/// PUT or DELETE: what `Client` has no methods for.
///
/// # Errors
/// What the API answered, or that it did not.
async fn change(
    settings: &Settings,
    method: Method,
    path: &[&str],
    body: Option<&Value>,
) -> Result<Value, Failure> {
    let client = Remote::client(settings)?;
    let mut url: reqwest::Url = client
        .url()
        .parse()
        .map_err(|error| Failure::unexpected("the URL of the API is none").detail(error))?;
    // Escapes what people typed: a name with a slash is no other path.
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path);
    }
    let wanted = &settings.config.client;
    let dev = if wanted.url.is_none() { DevFile::find() } else { None };
    let token = wanted.token.clone().or_else(|| dev.map(|(_, dev)| dev.token.into()));
    let http = reqwest::Client::builder()
        .connect_timeout(std::time::Duration::from_secs(5))
        .timeout(std::time::Duration::from_secs(30))
        .user_agent(concat!("galley/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| Failure::unexpected("the HTTP client cannot be made").detail(error))?;
    let mut request = http.request(method, url);
    if let Some(token) = &token {
        request = request.bearer_auth(token.expose_secret());
    }
    if let Some(body) = body {
        request = request.json(body);
    }
    let away = |error: reqwest::Error| {
        Failure::new(Exit::Unavailable, format!("the API at {} cannot be reached", client.url()))
            .detail(error)
            .hint("is `galley api` or `galley dev` running, and is --url (or GALLEY_URL) right?")
    };
    let response = request.send().await.map_err(away)?;
    let status = response.status();
    let bytes = response.bytes().await.map_err(away)?;
    if status.is_success() {
        return serde_json::from_slice(&bytes).map_err(|error| {
            Failure::new(Exit::Unavailable, "the API's answer is not JSON")
                .detail(error)
                .hint("check --url (or GALLEY_URL), and that the server is of this release")
        });
    }
    let exit = match status.as_u16() {
        401 | 403 => Exit::Unauthorized,
        404 => Exit::NotFound,
        409 => Exit::Conflict,
        408 | 429 | 502..=504 => Exit::Unavailable,
        400..=499 => Exit::Refused,
        _ => Exit::Unexpected,
    };
    let Ok(problem) = serde_json::from_slice::<Problem>(&bytes) else {
        return Err(Failure::new(exit, format!("the API answered {status}"))
            .hint("check --url (or GALLEY_URL), and that the server is of this release"));
    };
    if problem.problems.is_empty() {
        let failure = Failure::new(exit, &problem.detail);
        return Err(match exit {
            Exit::Unauthorized if status.as_u16() == 401 => {
                failure.hint("check --token or GALLEY_TOKEN; `galley token issue` makes a new one")
            }
            Exit::Unexpected => failure.hint(format!("look for {} in the server's log", problem.instance)),
            _ => failure,
        });
    }
    let failure = Failure::new(exit, problem.title.to_lowercase());
    Err(problem
        .problems
        .iter()
        .fold(failure, |failure, place| failure.detail(format!("- {}: {}", place.at, place.problem))))
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
