//! A workflow as it runs: a table drawn in place on a terminal, a line per
//! change elsewhere. The event stream only says *that* something changed; what
//! is shown is always read anew, so a lost event costs a moment.

use std::collections::HashMap;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt};
use galley_api::views::{TaskState, WorkflowDetail, WorkflowState};
use galley_core::ids::WorkflowId;

use super::workflow::{contributions, verdict};
use crate::client::{self, Client};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::print;

/// Looks without an event: for what a lost one would have said.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Redraws of running times.
const DRAW_EVERY: Duration = Duration::from_millis(200);
/// Before trying again after an outage.
const PAUSE: Duration = Duration::from_secs(1);

/// Shows a workflow until it is over or cannot move by itself.
///
/// # Errors
/// What the API answered. An outage is waited out once the first look worked.
pub(crate) async fn watch(client: &Client, id: WorkflowId) -> Result<WorkflowDetail, Failure> {
    let text = id.to_string();
    let mut view = View::default();
    let mut detail = look(client, &text).await?;
    loop {
        // Dropped and opened again whenever it ends.
        let events = client.events(&["v1", "workflows", &text, "events"]).await;
        let mut events = pin!(match events {
            Ok(events) => events.left_stream(),
            Err(_) => futures::stream::pending().right_stream(),
        });
        loop {
            view.show(&detail);
            if detail.summary.state != WorkflowState::Running {
                return Ok(detail);
            }
            let next_look = tokio::time::sleep(LOOK_EVERY);
            let mut next_look = pin!(next_look);
            let ended = loop {
                tokio::select! {
                    event = events.next() => {
                        // One look for all that is here.
                        while let Some(Some(_)) = events.next().now_or_never() {}
                        break event.is_none();
                    }
                    () = &mut next_look => break false,
                    () = tokio::time::sleep(DRAW_EVERY) => view.show(&detail),
                }
            };
            detail = loop {
                match look(client, &text).await {
                    Ok(detail) => break detail,
                    Err(failure) if failure.exit == Exit::Unavailable => {
                        view.say(&format!("{}; trying again", failure.line()));
                        tokio::time::sleep(PAUSE).await;
                    }
                    Err(failure) => return Err(failure),
                }
            };
            if ended && detail.summary.state == WorkflowState::Running {
                break;
            }
        }
    }
}

async fn look(client: &Client, id: &str) -> Result<WorkflowDetail, Failure> {
    client::read(&client.get(&["v1", "workflows", id]).await?)
}

/// How a watched workflow ends the command.
///
/// # Errors
/// It did not succeed.
pub(crate) fn ended(detail: &WorkflowDetail) -> Result<(), Failure> {
    let id = detail.summary.id;
    let failed = |what: String| Failure::new(Exit::WorkflowFailed, what);
    match detail.summary.state {
        WorkflowState::Succeeded => Ok(()),
        // No failure: it goes on when a person said so, or at a post's slot.
        WorkflowState::Waiting => {
            print::say(&format!("it waits; `galley why {id}` says for what"));
            Ok(())
        }
        WorkflowState::Stalled => Err(failed(format!("workflow {id} stalled: a step is dead")).hint(
            format!("`galley why {id}` says more; `galley dead list --workflow {id}` shows what died"),
        )),
        state => {
            Err(failed(format!("workflow {id} {state}"))
                .hint(format!("`galley workflow show {id}` says more")))
        }
    }
}

#[derive(Default)]
struct View {
    /// Lines drawn last, to draw over.
    drawn: usize,
    /// Since when a step has been seen running.
    since: HashMap<String, Instant>,
    /// What was said last about a step.
    said: HashMap<String, (TaskState, u16)>,
}

impl View {
    fn show(&mut self, detail: &WorkflowDetail) {
        for part in &detail.result.contributions {
            if matches!(part.state, TaskState::Running) {
                self.since.entry(part.step.clone()).or_insert_with(Instant::now);
            } else {
                self.since.remove(&part.step);
            }
        }
        // What is higher than the terminal cannot be drawn over.
        let fits = detail.result.contributions.len() + 4 < print::terminal_height();
        if print::is_live() && fits { self.draw(detail) } else { self.tell(detail) }
    }

    fn draw(&mut self, detail: &WorkflowDetail) {
        let running = |step: &str| {
            self.since.get(step).map(|since| u64::try_from(since.elapsed().as_millis()).unwrap_or(0))
        };
        let table = contributions(detail, running).render(Some(print::terminal_width()));
        // A line that wraps would be two lines to draw over.
        let verdict = crate::table::wrap(&verdict(detail), print::terminal_width()).join("\n");
        let text = format!("{table}{verdict}\n");
        // Up over the last drawing, and clear from there.
        let over = if self.drawn > 0 { format!("\x1b[{}A\r\x1b[J", self.drawn) } else { String::new() };
        print::draw(&format!("{over}{text}"));
        self.drawn = text.lines().count();
    }

    fn tell(&mut self, detail: &WorkflowDetail) {
        for part in &detail.result.contributions {
            let now = (part.state, part.attempts);
            if self.said.insert(part.step.clone(), now) == Some(now) {
                continue;
            }
            let mut line = format!("{}  {}  {}", part.step, part.agent, part.state);
            if part.attempts > 1 {
                line.push_str(&format!(", attempt {}", part.attempts));
            }
            if let Some(millis) = part.duration_ms {
                line.push_str(&format!(" after {}", crate::time::run_time(millis.into())));
            }
            if let Some(error) = &part.error {
                let told = format!("{}: {}", error.class, error.message);
                let told = if error.class == part.state.word() { &error.message } else { &told };
                line.push_str(&format!(" ({told})"));
            }
            print::say(&line);
        }
        if detail.summary.state != WorkflowState::Running {
            print::say(&verdict(detail));
        }
    }

    fn say(&mut self, line: &str) {
        print::say(line);
        self.drawn = 0;
    }
}
