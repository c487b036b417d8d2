//! `galley schedule`: workflows that are submitted again and again.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use galley_api::views;

use super::listed_by;
use super::workflow::{from_file, with_input};
use crate::cli::{self, Remote, Run, Settings};
use crate::client::{self, Client};
use crate::config::Flags;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::print::{self, style};
use crate::table::{Table, cell, painted, state};
use crate::{show, time};

/// Submit workflows again and again, by cron patterns in time zones
///
/// A pattern has five fields: minute, hour, day of month, month, day of week. A
/// time that a clock change skips runs right behind the gap, one that it repeats
/// runs once. Schedules run while the policy says `--schedule-automation true`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  galley schedule add weekly --cron '30 9 * * MON' --time-zone Europe/Lisbon examples/launch-campaign.json
  galley schedule add daily --cron '0 18 * * MON-FRI' --template campaign --input brief.json --missed skip
  galley schedule show weekly                             its next times, and what it waits for
  galley schedule set weekly --cron '0 10 * * MON'        what is not given stays
  galley schedule run weekly --watch                      now, whatever its times are
  galley automation set --schedule-automation true        lets schedules run")]
pub(crate) struct Schedule {
    #[command(subcommand)]
    command: ScheduleCommand,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum ScheduleCommand {
    /// Add a schedule; what it submits is checked now
    Add(Add),
    /// List the schedules
    List {
        /// At most this many
        #[arg(long, default_value_t = 100, value_name = "N", value_parser = cli::limit)]
        limit: usize,
    },
    /// Show a schedule: its next times, and what it waits for
    Show {
        /// The schedule's name
        name: String,
    },
    /// Change a schedule: what is not given stays
    Set(Set),
    /// Pause a schedule: its times pass by until it is resumed
    Pause {
        /// The schedule's name
        name: String,
    },
    /// Let a paused schedule go on with its next time
    Resume {
        /// The schedule's name
        name: String,
    },
    /// Submit it now, paused or not; prints the workflow's id
    Run(RunNow),
    /// Remove a schedule; the workflows it made stay
    Remove {
        /// The schedule's name
        name: String,
    },
}

#[derive(Debug, Args)]
struct Add {
    /// What people call it: 1-48 of a-z, 0-9 and `_`
    name: String,
    /// When: minute, hour, day of month, month, day of week (quote it)
    #[arg(long, value_name = "PATTERN")]
    cron: String,
    #[command(flatten)]
    how: How,
    /// A file with the submission or a definition, as `workflow submit` takes it; `-` for stdin
    #[arg(required_unless_present = "template", conflicts_with = "template")]
    file: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args([
    "cron", "time_zone", "missed", "template", "input", "priority", "file",
]))]
struct Set {
    /// The schedule's name
    name: String,
    /// When: minute, hour, day of month, month, day of week (quote it)
    #[arg(long, value_name = "PATTERN")]
    cron: Option<String>,
    #[command(flatten)]
    how: How,
    /// A file with the new submission or definition; `-` for stdin
    #[arg(conflicts_with = "template")]
    file: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct How {
    /// The IANA time zone the pattern is meant in; of a new one the workspace's when absent
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
    /// Times that passed while no scheduler looked: skip them, or run the last one (of a new one, when absent)
    #[arg(long, value_name = "skip|run_last", value_parser = missed)]
    missed: Option<views::MissedRuns>,
    /// Submit this template: NAME, or NAME@VERSION
    #[arg(long, value_name = "TEMPLATE")]
    template: Option<String>,
    /// A file with the workflow's input, the brief (JSON); `-` for stdin
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// 0 (first) to 9 (last) within the workspace
    #[arg(long, value_name = "0-9", value_parser = clap::value_parser!(u8).range(0..=9))]
    priority: Option<u8>,
}

#[derive(Debug, Args)]
struct RunNow {
    /// The schedule's name
    name: String,
    /// What makes a repeated request the same workflow; made when absent
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Watch it until it is over (exit code 8 unless it succeeds)
    #[arg(long)]
    watch: bool,
}

fn missed(text: &str) -> Result<views::MissedRuns, String> {
    match text {
        "skip" => Ok(views::MissedRuns::Skip),
        "run_last" => Ok(views::MissedRuns::RunLast),
        _ => Err("write `skip` or `run_last`".into()),
    }
}

impl Run for Schedule {
    fn flags(&self) -> Flags {
        self.remote.flags()
    }

    async fn run(self, settings: Settings) -> Result<(), Failure> {
        let client = Remote::client(&settings)?;
        let json = self.remote.json;
        let known = listed_by("galley schedule list");
        match self.command {
            ScheduleCommand::Add(add) => add.run(&client, json).await,
            ScheduleCommand::List { limit } => list(&client, limit, json).await,
            ScheduleCommand::Show { name } => {
                let answer = client.get(&["v1", "schedules", &name]).await.map_err(known)?;
                if json {
                    return print::json(&answer);
                }
                print::data(&shown(&client::read(&answer)?))
            }
            ScheduleCommand::Set(set) => set.run(&client, json).await,
            ScheduleCommand::Pause { name } => {
                let answer = post(&client, &name, "pause").await.map_err(known)?;
                cli::done(
                    json,
                    &answer,
                    &format!("schedule {name} is paused; `galley schedule resume {name}` lets it go on"),
                )
            }
            ScheduleCommand::Resume { name } => {
                let answer = post(&client, &name, "resume").await.map_err(known)?;
                told(json, &answer)
            }
            ScheduleCommand::Run(now) => now.run(&client, json).await,
            ScheduleCommand::Remove { name } => {
                let answer = client.delete(&["v1", "schedules", &name]).await.map_err(known)?;
                cli::done(json, &answer, &format!("schedule {name} is removed; the workflows it made stay"))
            }
        }
    }
}

async fn post(client: &Client, name: &str, what: &str) -> Result<serde_json::Value, Failure> {
    client.post(&["v1", "schedules", name, what], &serde_json::json!({})).await
}

/// What a changed schedule waits for now.
fn told(json: bool, answer: &serde_json::Value) -> Result<(), Failure> {
    if json {
        return print::json(answer);
    }
    let detail: views::ScheduleDetail = client::read(answer)?;
    print::say(&detail.sentence);
    Ok(())
}

impl Add {
    async fn run(self, client: &Client, json: bool) -> Result<(), Failure> {
        let How { time_zone, missed, template, input, priority } = self.how;
        let base = match &self.file {
            Some(file) => from_file(file)?,
            None => views::SubmitWorkflow { template, ..Default::default() },
        };
        let submit = with_input(base, self.file.as_deref(), input.as_deref(), priority)?;
        let missed = missed.unwrap_or_default();
        let body = views::AddSchedule { name: self.name, cron: self.cron, time_zone, missed, submit };
        let answer =
            client.create(&["v1", "schedules"], &body, &cli::new_key()).await.map_err(|failure| {
                let name = &body.name;
                match failure.exit {
                    Exit::Conflict => failure.hint(format!("`galley schedule set {name}` changes it")),
                    _ => failure,
                }
            })?;
        told(json, &answer)
    }
}

impl Set {
    async fn run(self, client: &Client, json: bool) -> Result<(), Failure> {
        let path = ["v1", "schedules", &self.name];
        let known = listed_by("galley schedule list");
        let seen: views::ScheduleDetail = client::read(&client.get(&path).await.map_err(&known)?)?;
        let seen = seen.schedule;
        let How { time_zone, missed, template, input, priority } = self.how;
        let base = match (&self.file, template) {
            (Some(file), _) => from_file(file)?,
            (None, Some(template)) => {
                views::SubmitWorkflow { template: Some(template), definition: None, ..seen.submit }
            }
            (None, None) => seen.submit,
        };
        let body = views::SetSchedule {
            cron: self.cron.unwrap_or(seen.cron),
            time_zone,
            missed,
            submit: with_input(base, self.file.as_deref(), input.as_deref(), priority)?,
            version: Some(seen.version),
        };
        let answer = client.put(&path, &body).await.map_err(|failure| match failure.exit {
            Exit::Conflict => {
                failure.hint(format!("`galley schedule show {}` shows it as it is now", self.name))
            }
            _ => known(failure),
        })?;
        told(json, &answer)
    }
}

impl RunNow {
    async fn run(self, client: &Client, json: bool) -> Result<(), Failure> {
        let key = self.idempotency_key.unwrap_or_else(|| {
            let key = cli::new_key();
            // Before the request: whoever loses the answer can repeat it.
            print::say(&format!("idempotency key {key}"));
            key
        });
        let path = ["v1", "schedules", &self.name, "run"];
        let answer = client
            .create(&path, &serde_json::json!({}), &key)
            .await
            .map_err(listed_by("galley schedule list"))?;
        let submitted: views::SubmittedWorkflow = client::read(&answer)?;
        let id = submitted.workflow_id;
        if json {
            print::json(&answer)?;
        } else {
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
}

async fn list(client: &Client, limit: usize, json: bool) -> Result<(), Failure> {
    let listed = client.list(&["v1", "schedules"], &[], limit).await?;
    if json {
        return print::json(&listed);
    }
    let schedules: Vec<views::Schedule> = listed.items()?;
    if schedules.is_empty() {
        print::say("no schedules; `galley schedule add NAME --cron PATTERN FILE` adds one");
        return Ok(());
    }
    let mut table =
        Table::new(&["NAME", "CRON", "TIME ZONE", "STATE", "NEXT", "LAST", "WORKFLOW", "~PROBLEM"]);
    for schedule in &schedules {
        table.row(vec![
            cell(&schedule.name),
            cell(&schedule.cron),
            cell(&schedule.time_zone),
            state(schedule.state.word()),
            cell(schedule.next_at.as_deref().map_or(String::new(), time::ago)),
            cell(schedule.last_at.as_deref().map_or(String::new(), time::ago)),
            cell(schedule.last_workflow_id.map_or(String::new(), |id| id.to_string())),
            painted(schedule.last_problem.as_deref().unwrap_or_default(), style::BAD),
        ]);
    }
    print::data(&table.render(print::data_width()))?;
    if schedules.iter().any(|schedule| schedule.state == views::ScheduleState::Off) {
        print::say(
            "schedules are off here: `galley automation set --schedule-automation true` lets them run",
        );
    }
    if listed.next_cursor.is_some() {
        print::say(&format!("more follow; --limit {} shows them", limit * 4));
    }
    Ok(())
}

/// The schedule, what it waits for, and its next times.
fn shown(detail: &views::ScheduleDetail) -> String {
    let schedule = &detail.schedule;
    let word = schedule.state.word();
    let mut text = format!("{}  {}\n", style::STRONG.on(&schedule.name), style::of_state(word).on(word));
    let paint = if detail.needs_action { style::WARN } else { style::PLAIN };
    text.push_str(&format!("{}\n\n", paint.on(&detail.sentence)));
    let submits = match (&schedule.submit.template, &schedule.submit.definition) {
        (Some(template), _) => format!("template {template}"),
        (None, Some(definition)) => format!("definition {}", definition.name),
        (None, None) => String::new(),
    };
    let missed = match schedule.missed {
        views::MissedRuns::Skip => "skipped",
        views::MissedRuns::RunLast => "the last one runs",
    };
    let by =
        format!("{} {}, version {}", schedule.updated_by, time::ago(&schedule.updated_at), schedule.version);
    let last = schedule.last_workflow_id.map_or("none yet".into(), |id| {
        format!("{id}, {}", schedule.last_at.as_deref().map_or(String::new(), time::ago))
    });
    let facts = [
        ("times", format!("{} in {}", schedule.cron, schedule.time_zone)),
        ("missed times", missed.to_owned()),
        ("submits", submits),
        ("last workflow", last),
        ("changed by", by),
        ("id", schedule.id.to_string()),
    ];
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in facts {
        let pad = " ".repeat(width - name.len());
        text.push_str(&format!("{}{pad}  {value}\n", style::DIM.on(name)));
    }
    let title = match schedule.state {
        views::ScheduleState::Active => "Next times",
        _ => "Its times, if it ran",
    };
    text.push_str(&format!("\n{}\n", style::STRONG.on(title)));
    for at in &detail.upcoming {
        text.push_str(&format!(
            "  {}  {}\n",
            time::local(at, &schedule.time_zone),
            style::DIM.on(&time::ago(at))
        ));
    }
    text.push_str(&format!("\n{}\n", style::STRONG.on("Input")));
    text.push_str(&serde_json::to_string_pretty(&schedule.submit.input).unwrap_or_default());
    text.push('\n');
    text
}
