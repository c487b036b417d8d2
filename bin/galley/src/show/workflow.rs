//! A workflow: its steps as a table, its compiled result as text.

use galley_api::views::{Contribution, WorkflowDetail, WorkflowState};

use super::{counted, dollars, output, prose_width};
use crate::print::style;
use crate::table::{Table, cell, painted, state};
use crate::time;

/// The steps of a workflow as a table; `running_ms` says for how long a step
/// has been seen running.
pub(crate) fn contributions(detail: &WorkflowDetail, running_ms: impl Fn(&str) -> Option<u64>) -> Table {
    let mut table = Table::new(&["STEP", "AGENT", "STATE", ">ATTEMPTS", ">TIME", "~NOTE"]);
    for part in in_order(detail) {
        let prefix = format!("{}.", part.step);
        let parts =
            detail.result.contributions.iter().filter(|other| other.step.starts_with(&prefix)).count();
        let millis = part.duration_ms.map(u64::from).or_else(|| running_ms(&part.step));
        table.row(vec![
            cell(&part.step),
            cell(&part.agent),
            state(part.state.word()),
            // A step that was expanded is run by its parts.
            if parts == 0 { cell(part.attempts) } else { cell("") },
            cell(millis.map_or(String::new(), time::run_time)),
            if parts == 0 { note(detail, part) } else { painted(counted(parts as u64, "part"), style::DIM) },
        ]);
    }
    table
}

fn note(detail: &WorkflowDetail, part: &Contribution) -> crate::table::Cell {
    let error = part.error.as_ref().map(|error| format!("{}: {}", error.class, error.message));
    let post = detail.posts.iter().find(|post| post.step == part.step);
    let reason = post.and_then(|post| post.reason.as_deref());
    match (part.state.word(), &part.due_at, error) {
        ("in_doubt", ..) => painted("nobody knows whether it is out: look, then resolve it", style::BAD),
        ("waiting_approval", ..) => painted(reason.unwrap_or("waits for a person"), style::WARN),
        ("waiting_budget", _, error) => {
            let told = error.unwrap_or_else(|| "there is no money for its next call".into());
            painted(told.trim_start_matches("waiting_budget: ").to_owned(), style::WARN)
        }
        ("unknown", due, _) => {
            let when = due.as_deref().map_or("soon".into(), time::ago);
            painted(format!("perhaps out; Galley finds out {when}"), style::WARN)
        }
        ("scheduled", Some(due), None) if post.is_some() => {
            let reason = reason.map_or(String::new(), |reason| format!(", {reason}"));
            painted(format!("goes on {}{reason}", time::ago(due)), style::WARN)
        }
        ("skipped", ..) if reason.is_some() => painted(reason.unwrap_or_default(), style::DIM),
        ("skipped", ..) => painted("its condition was false", style::DIM),
        ("scheduled", Some(due), error) => {
            let after = error.map(|error| format!(" after {error}")).unwrap_or_default();
            painted(format!("tried again {}{after}", time::ago(due)), style::WARN)
        }
        (_, _, Some(error)) => painted(error, style::BAD),
        ("blocked", ..) => painted(format!("needs {}", part.needs.join(", ")), style::DIM),
        _ => cell(""),
    }
}

/// The steps in reading order: the parts of an expanded step behind it, not at
/// the end where they were added.
pub(super) fn in_order(detail: &WorkflowDetail) -> Vec<&Contribution> {
    let mut parts: Vec<_> = detail.result.contributions.iter().collect();
    let place = |part: &Contribution| {
        let base = part.step.split('.').next().unwrap_or_default();
        detail.result.contributions.iter().position(|other| other.step == base)
    };
    // Stable: parts stay in their own order.
    parts.sort_by_key(|part| place(part));
    parts
}

/// The workflow in a line.
pub(crate) fn verdict(detail: &WorkflowDetail) -> String {
    let summary = &detail.summary;
    let word = summary.state.to_string();
    let totals = &detail.result.totals;
    let after = match summary.state {
        WorkflowState::Running | WorkflowState::Waiting | WorkflowState::Stalled => {
            format!(": {} of {} steps done", summary.steps.done, summary.steps.total)
        }
        _ => format!(
            " after {}: {}, {}, {} tokens, {}{}",
            time::run_time(totals.total_ms),
            counted(summary.steps.total as u64, "step"),
            counted(totals.attempts, "attempt"),
            totals.tokens_in + totals.tokens_out,
            dollars(totals.cost_micros),
            match totals.saved_micros {
                0 => String::new(),
                saved => format!(" ({} saved by kept answers)", dollars(saved)),
            }
        ),
    };
    format!(
        "workflow {} ({}) {}{after}",
        summary.id,
        summary.template.as_deref().unwrap_or(&summary.name),
        style::of_state(&word).on(&word)
    )
}

/// What each agent made, readable from top to bottom.
pub(crate) fn compiled(detail: &WorkflowDetail) -> String {
    let width = prose_width();
    let mut text = String::new();
    for part in in_order(detail) {
        if part.output.is_null() {
            continue;
        }
        let mut facts = Vec::new();
        facts.extend(part.duration_ms.map(|ms| time::run_time(ms.into())));
        facts.extend(part.provider.as_ref().map(|provider| {
            let model = part.model.as_deref().unwrap_or("?");
            format!("{provider}/{model}")
        }));
        if part.attempts > 1 {
            facts.push(format!("{} attempts", part.attempts));
        }
        let step = style::STRONG.on(&part.step);
        let by = if part.step == part.agent { String::new() } else { format!(" by {}", part.agent) };
        text.push_str(&format!("{step}{by} {}\n", style::DIM.on(&format!("({})", facts.join(", ")))));
        // An expanded step's own output is the list of its parts, which follow.
        if part.output.is_array() {
            text.push_str(&format!("  {} parts, below\n\n", part.output.as_array().map_or(0, Vec::len)));
            continue;
        }
        text.push_str(&output::of(&part.output, width));
        text.push('\n');
    }
    text
}
