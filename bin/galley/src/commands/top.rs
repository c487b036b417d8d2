//! `galley top`: what moves and what does not, live.

use std::time::Duration;

use clap::Args;
use galley_api::views;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Paragraph, Row, Table};
use ratatui::{Frame, Terminal};

use super::queue;
use crate::cli::{Remote, Run, Settings};
use crate::client::Client;
use crate::config::Flags;
use crate::failure::Failure;
use crate::{print, time};

/// Between two readings.
const READ_EVERY: Duration = Duration::from_secs(1);
/// How long a key may wait to be seen.
const KEY_WAIT: Duration = Duration::from_millis(100);
/// Lines and columns of a frame nobody watches.
const ONCE: (u16, u16) = (100, 40);

/// Watch queues, workers, workflows and dead letters live
///
/// Keys: q quits.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  galley top
  galley top --once      one frame as text, for a report")]
pub(crate) struct Top {
    /// Print one frame as text and stop
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    remote: Remote,
}

/// One reading of everything on the screen.
struct Reading {
    url: String,
    queues: Vec<views::Queue>,
    workers: Vec<views::Worker>,
    active: Vec<views::WorkflowSummary>,
    stalled: Vec<views::WorkflowSummary>,
    waiting: Vec<views::WorkflowSummary>,
    dead: Vec<views::DeadLetterGroup>,
}

/// Workflows that are read to be counted; more are shown as "or more".
const COUNTED: usize = 100;

impl Reading {
    async fn take(client: &Client) -> Result<Self, Failure> {
        let in_state = |state: &str| vec![("state", state.to_owned())];
        let (running, stalled, waiting) = (in_state("running"), in_state("stalled"), in_state("waiting"));
        let (queues, workers, active, stalled, waiting, dead) = tokio::try_join!(
            client.list_all(&["v1", "queues"]),
            client.list_all(&["v1", "workers"]),
            client.list(&["v1", "workflows"], &running, COUNTED),
            client.list(&["v1", "workflows"], &stalled, COUNTED),
            client.list(&["v1", "workflows"], &waiting, COUNTED),
            client.list_all(&["v1", "dead-letters", "groups"]),
        )?;
        Ok(Self {
            url: client.url().to_owned(),
            queues: queues.items()?,
            workers: workers.items()?,
            active: active.items()?,
            stalled: stalled.items()?,
            waiting: waiting.items()?,
            dead: dead.items()?,
        })
    }
}

impl Run for Top {
    fn flags(&self) -> Flags {
        self.remote.flags()
    }

    async fn run(self, settings: Settings) -> Result<(), Failure> {
        let client = Remote::client(&settings)?;
        // Told before the screen is taken over.
        let first = Reading::take(&client).await?;
        if self.once || self.remote.json {
            return print::data(&as_text(&first)?);
        }
        watch(&client, first).await
    }
}

async fn watch(client: &Client, first: Reading) -> Result<(), Failure> {
    let broken = |error| Failure::unexpected("the terminal does not do what it should").detail(error);
    let mut terminal = ratatui::try_init().map_err(broken)?;
    let (tell, mut told) = tokio::sync::watch::channel((first, None));
    let reader = client.clone();
    let reading = tokio::spawn(async move {
        loop {
            tokio::time::sleep(READ_EVERY).await;
            match Reading::take(&reader).await {
                Ok(reading) => drop(tell.send_replace((reading, None))),
                // The last reading stays on the screen, and says so.
                Err(failure) => tell.send_modify(|(_, problem)| *problem = Some(failure.line())),
            }
            if tell.is_closed() {
                return;
            }
        }
    });
    let done = tokio::task::spawn_blocking(move || -> std::io::Result<()> {
        loop {
            {
                let seen = told.borrow_and_update();
                terminal.draw(|frame| draw(frame, &seen.0, seen.1.as_deref()))?;
            }
            if ratatui::crossterm::event::poll(KEY_WAIT)? && is_quit(&ratatui::crossterm::event::read()?) {
                return Ok(());
            }
        }
    })
    .await;
    reading.abort();
    ratatui::restore();
    match done {
        Ok(done) => done.map_err(broken),
        Err(error) => Err(Failure::unexpected("the screen ended by itself").detail(error)),
    }
}

fn is_quit(event: &Event) -> bool {
    let Event::Key(KeyEvent { code, modifiers, .. }) = event else { return false };
    match code {
        KeyCode::Char('q') | KeyCode::Esc => true,
        KeyCode::Char('c') => modifiers.contains(KeyModifiers::CONTROL),
        _ => false,
    }
}

/// A frame as text.
fn as_text(reading: &Reading) -> Result<String, Failure> {
    let broken = |error| Failure::unexpected("the screen cannot be drawn").detail(error);
    let width = print::data_width().and_then(|width| u16::try_from(width).ok()).unwrap_or(ONCE.0);
    let mut terminal = Terminal::new(TestBackend::new(width, ONCE.1)).map_err(broken)?;
    let frame = terminal.draw(|frame| draw(frame, reading, None)).map_err(broken)?;
    let mut lines: Vec<String> = Vec::new();
    for y in 0..frame.buffer.area.height {
        let mut line = String::new();
        for x in 0..frame.buffer.area.width {
            line.push_str(frame.buffer.cell((x, y)).map_or(" ", |cell| cell.symbol()));
        }
        lines.push(line.trim_end().to_owned());
    }
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    Ok(format!("{}\n", lines.join("\n")))
}

fn draw(frame: &mut Frame<'_>, reading: &Reading, problem: Option<&str>) {
    let rows = |count: usize, most: usize| u16::try_from(count.clamp(1, most)).unwrap_or(u16::MAX) + 2;
    let live: Vec<_> = reading.workers.iter().filter(|worker| worker.closed_at.is_none()).collect();
    let [head, queues, workers, workflows, dead, foot] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(rows(reading.queues.len(), 14)),
        Constraint::Length(rows(live.len(), 8)),
        Constraint::Length(rows(reading.stalled.len() + reading.active.len() + reading.waiting.len(), 8)),
        Constraint::Length(rows(reading.dead.len(), 6)),
        Constraint::Min(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(summary(reading, live.len(), problem)), head);
    draw_queues(frame, queues, &reading.queues);
    draw_workers(frame, workers, &live);
    draw_workflows(frame, workflows, reading);
    draw_dead(frame, dead, &reading.dead);
    frame.render_widget(Paragraph::new("q quits").dim(), foot);
}

fn summary<'a>(reading: &Reading, live: usize, problem: Option<&'a str>) -> Vec<Line<'a>> {
    let sum = |of: fn(&views::Queue) -> Option<u64>| reading.queues.iter().filter_map(of).sum::<u64>();
    let count = |count: usize| if count >= COUNTED { format!("{COUNTED}+") } else { count.to_string() };
    let dead: u64 = reading.dead.iter().map(|group| group.count).sum();
    let facts = format!(
        "workflows {} running, {} waiting, {} stalled · steps {} ready, {} in flight · workers {live} · dead letters {dead}",
        count(reading.active.len()),
        count(reading.waiting.len()),
        count(reading.stalled.len()),
        sum(|queue| queue.ready),
        sum(|queue| queue.in_flight),
    );
    let status = match problem {
        Some(problem) => Line::from(problem).red(),
        None => Line::from(format!("galley top  {}", reading.url)).dim(),
    };
    vec![Line::from(facts).bold(), status]
}

fn table<'a>(title: &'a str, headings: &[&'a str], widths: Vec<Constraint>, rows: Vec<Row<'a>>) -> Table<'a> {
    let style = Style::new().add_modifier(Modifier::DIM);
    let block =
        Block::new().title(Span::styled(format!("{title} "), Style::new().add_modifier(Modifier::BOLD)));
    // The title's line is the block's; the headings' is the table's.
    Table::new(rows, widths).header(Row::new(headings.to_vec()).style(style)).block(block).column_spacing(2)
}

fn colour(state: &str) -> Style {
    match state {
        "running" | "open" => Style::new().fg(Color::Cyan),
        "paused" | "waiting" | "stalled" => Style::new().fg(Color::Yellow),
        "dead" => Style::new().fg(Color::Red),
        _ => Style::new().add_modifier(Modifier::DIM),
    }
}

fn draw_queues(frame: &mut Frame<'_>, area: Rect, queues: &[views::Queue]) {
    let count = |count: Option<u64>| count.map_or("?".into(), |count| count.to_string());
    let rows = queues.iter().map(|queue| {
        let condition = queue::condition(queue);
        let waits = queue::waits_for(queue);
        Row::new(vec![
            Cell::from(queue.agent.clone()),
            Cell::from(condition).style(colour(condition)),
            Cell::from(count(queue.ready)),
            Cell::from(count(queue.in_flight)),
            Cell::from(queue.workers.to_string()),
            Cell::from(waits),
        ])
    });
    let widths = vec![
        Constraint::Length(22),
        Constraint::Length(8),
        Constraint::Length(7),
        Constraint::Length(9),
        Constraint::Length(7),
        Constraint::Min(10),
    ];
    let headings = ["AGENT", "STATE", "READY", "IN FLIGHT", "WORKERS", "WAITS FOR"];
    frame.render_widget(table("Queues", &headings, widths, rows.collect()), area);
}

fn draw_workers(frame: &mut Frame<'_>, area: Rect, workers: &[&views::Worker]) {
    let rows = workers.iter().map(|worker| {
        Row::new(vec![
            Cell::from(worker.name.clone()),
            Cell::from(worker.host.clone()),
            Cell::from(format!("{} of {}", worker.running, worker.concurrency)),
            Cell::from(time::ago(&worker.renewed_at)),
            Cell::from(worker.agents.join(",")),
        ])
    });
    let widths = vec![
        Constraint::Length(22),
        Constraint::Length(16),
        Constraint::Length(10),
        Constraint::Length(9),
        Constraint::Min(10),
    ];
    let headings = ["WORKER", "HOST", "RUNNING", "SEEN", "AGENTS"];
    frame.render_widget(table("Workers", &headings, widths, rows.collect()), area);
}

fn draw_workflows(frame: &mut Frame<'_>, area: Rect, reading: &Reading) {
    // What needs a person comes first.
    let rows = reading.stalled.iter().chain(&reading.active).chain(&reading.waiting).map(|workflow| {
        let state = workflow.state.to_string();
        Row::new(vec![
            Cell::from(workflow.id.to_string()),
            Cell::from(state.clone()).style(colour(&state)),
            Cell::from(format!("{} of {}", workflow.steps.done, workflow.steps.total)),
            Cell::from(time::ago(&workflow.created_at)),
            Cell::from(workflow.template.clone().unwrap_or_else(|| workflow.name.clone())),
        ])
    });
    let widths = vec![
        Constraint::Length(36),
        Constraint::Length(8),
        Constraint::Length(11),
        Constraint::Length(12),
        Constraint::Min(8),
    ];
    let headings = ["WORKFLOW", "STATE", "STEPS DONE", "ACCEPTED", "NAME"];
    frame.render_widget(table("Workflows under way", &headings, widths, rows.collect()), area);
}

fn draw_dead(frame: &mut Frame<'_>, area: Rect, groups: &[views::DeadLetterGroup]) {
    let rows = groups.iter().map(|group| {
        Row::new(vec![
            Cell::from(group.count.to_string()).style(colour("dead")),
            Cell::from(group.agent.clone()),
            Cell::from(time::ago(&group.last_at)),
            Cell::from(format!("{}: {}", group.class, group.message)),
        ])
    });
    let widths =
        vec![Constraint::Length(6), Constraint::Length(22), Constraint::Length(12), Constraint::Min(10)];
    let headings = ["OPEN", "AGENT", "LAST DIED", "ERROR"];
    frame.render_widget(table("Dead letters", &headings, widths, rows.collect()), area);
}
