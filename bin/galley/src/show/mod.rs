//! Workflows, tasks and what agents made, as text for people.

mod live;
mod output;
mod post;
mod talk;
mod timeline;
mod workflow;

use galley_api::views::{AgentTaskHistory, Attempt, DeadLetterDetail, ModelChoice};
use serde_json::Value;

pub(crate) use self::live::{ended, watch};
pub(crate) use self::post::{approval, post, posts};
pub(crate) use self::talk::{communication, context, messages};
pub(crate) use self::timeline::{collaboration, timeline};
pub(crate) use self::workflow::{compiled, contributions, verdict};
use crate::print::{self, style};
use crate::table::{Table, cell, state};
use crate::time;

/// Columns for prose: long lines are hard to read.
pub(crate) fn prose_width() -> usize {
    print::data_width().unwrap_or(80).min(100)
}

/// Money as people see it.
pub(crate) fn dollars(micros: u64) -> String {
    let micros = micros as f64 / 1_000_000.0;
    // Whole cents as they are written; fractions of them as far as they go.
    if (micros * 100.0).fract().abs() < 1e-9 { format!("${micros:.2}") } else { format!("${micros:.4}") }
}

/// So many of them, in words.
pub(crate) fn counted(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// One task with its input, output and attempts.
pub(crate) fn task(task: &AgentTaskHistory) -> String {
    let word = task.state.word();
    let mut text = format!("{}  {}\n", style::STRONG.on(&task.task_id), style::of_state(word).on(word));
    text.push_str(&format!("agent {}, accepted {}\n", task.agent_type, time::ago(&task.created_at)));
    if let Some(result) = &task.result {
        if let Some(error) = &result.error {
            text.push_str(&format!("{} {}: {}\n", style::BAD.on("error"), error.class, error.message));
        }
        if let (Some(provider), Some(model)) = (&result.provider, &result.model) {
            text.push_str(&format!(
                "answered by {provider}/{model}, {} tokens in, {} out, {}\n",
                result.tokens_in,
                result.tokens_out,
                dollars(result.cost_micros)
            ));
        }
    }
    text.push_str(&attempts(&task.attempts));
    text.push_str(&choices(&task.choices));
    text.push_str(&section("Input", &task.input));
    if !task.output.is_null() {
        text.push_str(&format!(
            "\n{}\n{}",
            style::STRONG.on("Output"),
            output::of(&task.output, prose_width())
        ));
    }
    text
}

/// How a task's attempts came to their models.
fn choices(choices: &[ModelChoice]) -> String {
    let Some(last) = choices.last() else { return String::new() };
    let mut text = format!("\n{}\n", style::STRONG.on("Model"));
    // The reason begins with the model's name.
    let calls = counted(last.calls.into(), "call");
    text.push_str(&format!(
        "{}\n{}\n",
        last.reason,
        style::DIM.on(&format!("prompt {}, {calls}", last.prompt))
    ));
    if last.scores.len() > 1 {
        let mut table =
            Table::new(&["CANDIDATE", ">RATING", ">SUCCESS", ">COST", ">TIME", ">UTILITY", "~NOTE"]);
        for score in &last.scores {
            let note = match (&score.why_not, score.explored) {
                (Some(why), _) => why.clone(),
                (None, true) => "to learn more about it".into(),
                (None, false) if score.name == last.model => "chosen".into(),
                _ => String::new(),
            };
            table.row(vec![
                cell(&score.name),
                cell(format!("{:.1}", score.quality)),
                cell(format!("{:.0} %", score.success * 100.0)),
                cell(dollars(score.cost_micros)),
                cell(time::run_time(score.latency_ms)),
                cell(format!("{:.3}", score.utility)),
                cell(note),
            ]);
        }
        text.push_str(&table.render(print::data_width()));
    }
    text
}

/// A dead letter with what is needed to repair it.
pub(crate) fn letter(detail: &DeadLetterDetail) -> String {
    let letter = &detail.letter;
    let mut text = format!(
        "{}  {}\n",
        style::STRONG.on(&letter.task_id),
        style::of_state(&letter.status).on(&letter.status)
    );
    text.push_str(&format!(
        "agent {}, died {} ({}), {} attempts, {} crashes, group {}\n",
        letter.agent,
        time::ago(&letter.died_at),
        letter.reason,
        letter.attempts,
        letter.crashes,
        letter.fingerprint
    ));
    text.push_str(&format!("{} {}: {}\n", style::BAD.on("error"), letter.class, letter.message));
    if let (Some(by), Some(at)) = (&letter.closed_by, &letter.closed_at) {
        text.push_str(&format!("{} by {by} {}\n", letter.status, time::ago(at)));
    }
    text.push_str(&attempts(&detail.attempt_log));
    text.push_str(&section("Input", &detail.input));
    text
}

fn attempts(attempts: &[Attempt]) -> String {
    if attempts.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&[">ATTEMPT", "OUTCOME", "ENDED", ">TIME", "WORKER SESSION", "~ERROR"]);
    for (number, attempt) in attempts.iter().enumerate() {
        table.row(vec![
            cell(number + 1),
            state(&attempt.outcome),
            cell(time::ago(&attempt.ended_at)),
            cell(attempt.duration_ms.map_or(String::new(), |ms| time::run_time(ms.into()))),
            cell(attempt.session.map_or(String::new(), |session| session.to_string())),
            cell(
                attempt
                    .error
                    .as_ref()
                    .map_or(String::new(), |error| format!("{}: {}", error.class, error.message)),
            ),
        ]);
    }
    format!("\n{}", table.render(print::data_width()))
}

fn section(title: &str, value: &Value) -> String {
    // Input is shown as JSON: it is what an edited retry takes.
    let json = serde_json::to_string_pretty(value).unwrap_or_default();
    format!("\n{}\n{json}\n", style::STRONG.on(title))
}
