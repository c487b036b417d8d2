//! What agents said to each other, and what they remember together.

use galley_api::views::{AgentMessage, CommunicationPattern, MessageState, SharedEntry};
use galley_core::message::COORDINATOR;
use serde_json::Value;

use crate::print;
use crate::table::{Table, cell, state};
use crate::time;

/// What a workflow's agents said; `all`: with what the engine told of its steps.
pub(crate) fn messages(messages: &[AgentMessage], all: bool) -> String {
    let shown: Vec<_> = messages.iter().filter(|message| all || message.from_agent != COORDINATOR).collect();
    if shown.is_empty() {
        return "its agents said nothing to each other; --all shows what the engine told of each step\n"
            .into();
    }
    let mut table = Table::new(&["SENT", "FROM", "TO", "TYPE", "STATE", "~WHAT"]);
    for message in shown {
        let word = message.state.map(word).unwrap_or_default();
        table.row(vec![
            cell(time::exact(&message.timestamp)),
            cell(format!("{} ({})", message.from_agent, step(&message.metadata.task_id))),
            cell(message.to_agent.as_deref().unwrap_or("all")),
            cell(of(&message.message_type)),
            state(&word),
            cell(if message.from_agent == COORDINATOR { of_engine(message) } else { said(&message.content) }),
        ]);
    }
    table.render(print::data_width())
}

/// A workflow's shared context.
pub(crate) fn context(entries: &[SharedEntry]) -> String {
    if entries.is_empty() {
        return "its agents remember nothing together\n".into();
    }
    let mut table = Table::new(&["KEY", ">VERSION", "BY", "WHEN", "~VALUE"]);
    for entry in entries {
        table.row(vec![
            cell(&entry.key),
            cell(entry.version),
            cell(format!("{} ({})", entry.by_agent, step(&entry.by_task))),
            cell(time::exact(&entry.updated_at)),
            cell(said(&entry.value)),
        ]);
    }
    table.render(print::data_width())
}

/// Who talks to whom.
pub(crate) fn communication(patterns: &[CommunicationPattern]) -> String {
    if patterns.is_empty() {
        return "no agent said anything to another in that time\n".into();
    }
    let mut table = Table::new(&[
        "FROM",
        "TO",
        ">NOTIFICATIONS",
        ">FEEDBACK",
        ">REQUESTS",
        ">ANSWERED",
        ">UNANSWERED",
        ">RESPONSES",
        ">MEDIAN ANSWER",
    ]);
    for pattern in patterns {
        table.row(vec![
            cell(&pattern.from_agent),
            cell(pattern.to_agent.as_deref().unwrap_or("all")),
            cell(pattern.notifications),
            cell(pattern.feedback),
            cell(pattern.requests),
            cell(pattern.answered),
            cell(pattern.unanswered),
            cell(pattern.responses),
            cell(pattern.median_response_ms.map_or_else(|| "-".to_owned(), time::run_time)),
        ]);
    }
    table.render(print::data_width())
}

/// The step in a task's id.
fn step(task: &str) -> &str {
    task.split_once('.').map_or(task, |(_, step)| step)
}

fn of(kind: &impl serde::Serialize) -> String {
    serde_json::to_value(kind).ok().and_then(|word| Some(word.as_str()?.to_owned())).unwrap_or_default()
}

fn word(state: MessageState) -> String {
    of(&state)
}

/// What the engine tells of a step.
fn of_engine(message: &AgentMessage) -> String {
    let step = step(&message.metadata.task_id);
    match message.content["outcome"].as_str() {
        None => format!("{step} begins"),
        Some(outcome) => format!("{step} {outcome}"),
    }
}

fn said(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
