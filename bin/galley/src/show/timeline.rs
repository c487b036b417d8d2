//! Where a workflow's time went: in a line, and drawn to scale.

use std::collections::BTreeSet;

use galley_api::views::{Collaboration, Span, SpanKind, WorkflowDetail};
use unicode_width::UnicodeWidthStr;

use super::workflow::in_order;
use crate::print::style::{self, Paint};
use crate::table::shorten;
use crate::time::run_time;

/// How a kind is drawn, and called in the legend and among the losses.
fn of_kind(kind: SpanKind) -> (char, Paint, &'static str, &'static str) {
    match kind {
        SpanKind::Run => ('█', style::GOOD, "runs", "work"),
        SpanKind::Rework => ('▓', style::WARN, "does it over", "rework"),
        SpanKind::Retry => ('▒', style::BAD, "failed, waits for a retry", "retries"),
        SpanKind::People => ('═', style::WARN, "waits for people", "waiting for people"),
        SpanKind::Slot => ('─', style::DIM, "waits for its slot", "waiting for slots"),
        SpanKind::Money => ('$', style::WARN, "waits for money", "waiting for money"),
        SpanKind::Open => ('░', style::BUSY, "is held by a worker", "work that is not over"),
        SpanKind::Queue => ('·', style::DIM, "queues", "queueing"),
    }
}

/// How well the agents worked together, in a sentence; `None` while that is
/// not known.
pub(crate) fn collaboration(detail: &WorkflowDetail) -> Option<String> {
    let Collaboration { efficiency, wall_ms, useful_ms, losses, .. } =
        detail.result.collaboration.as_ref()?;
    let percent = match (100.0 * efficiency).round() {
        // Almost all is not all, and almost nothing is not nothing.
        percent if percent >= 100.0 && !losses.is_empty() => "99".into(),
        percent if percent < 1.0 && *useful_ms > 0 => "<1".into(),
        percent => format!("{percent:.0}"),
    };
    let mut text = format!(
        "collaboration {percent} %: {} of agents' work on the critical path in {}",
        exact(*useful_ms),
        exact(*wall_ms)
    );
    let lost = losses.iter().map(|loss| format!("{} {}", exact(loss.ms), of_kind(loss.kind).3));
    let lost: Vec<_> = lost.collect();
    if !lost.is_empty() {
        text.push_str(&format!("; lost: {}", lost.join(", ")));
    }
    Some(text)
}

/// A time among others that add up: people add the tenths, too.
fn exact(ms: u64) -> String {
    match ms {
        1_000..100_000 => format!("{:.1} s", ms as f64 / 1_000.0),
        _ => run_time(ms),
    }
}

/// Least cells of a bar: what is too narrow for it gets wider lines.
const NARROWEST: usize = 20;

/// Most cells of a step's name.
const NAME: usize = 24;

/// Every step as a bar along the time since the workflow was accepted, in
/// `width` cells.
pub(crate) fn timeline(detail: &WorkflowDetail, width: usize) -> String {
    let parts = in_order(detail);
    let ended = parts.iter().flat_map(|part| part.timeline.last()).map(|span| span.to_ms).max();
    let total_ms = detail.result.totals.total_ms.max(ended.unwrap_or(0)).max(1);
    let critical: BTreeSet<&str> = detail
        .result
        .collaboration
        .iter()
        .flat_map(|found| &found.critical_path)
        .map(|at| at.step.as_str())
        .collect();

    let name_cells = parts.iter().map(|part| part.step.width()).max().unwrap_or(0).clamp(4, NAME);
    let times: Vec<String> = parts.iter().map(|part| work(&part.timeline)).collect();
    let time_cells = times.iter().map(|time| time.width()).max().unwrap_or(0).max(4);
    // Mark, name, bar, time, and two cells between.
    let cells = width.saturating_sub(2 + name_cells + 2 + 2 + time_cells).max(NARROWEST);

    let head = format!("  {:<name_cells$}  {}  {:>time_cells$}", "STEP", axis(total_ms, cells), "WORK");
    let mut text = format!("{}\n", style::DIM.on(&head));
    let mut seen = BTreeSet::new();
    for (part, time) in parts.iter().zip(&times) {
        let on_path = critical.contains(part.step.as_str());
        let name = shorten(&part.step, name_cells);
        let pad = " ".repeat(name_cells - name.width());
        let name = if on_path { style::STRONG.on(&name) } else { name };
        let mark = if on_path { "*" } else { " " };
        let (bar, end) = if part.timeline.is_empty() {
            // Nothing to draw; say why.
            let prefix = format!("{}.", part.step);
            let pieces = parts.iter().filter(|other| other.step.starts_with(&prefix)).count();
            let word = match (pieces, part.state.word()) {
                (0, "succeeded") => "at once".to_owned(),
                (0, word) => word.to_owned(),
                (pieces, _) => super::counted(pieces as u64, "part"),
            };
            (style::DIM.on(&word), word.width().min(cells))
        } else {
            bar(&part.timeline, total_ms, cells)
        };
        let gap = " ".repeat(cells - end);
        let line = format!("{mark} {name}{pad}  {bar}{gap}  {time:>time_cells$}");
        text.push_str(line.trim_end());
        text.push('\n');
        seen.extend(part.timeline.iter().map(|span| span.kind));
    }
    let mut legend: Vec<String> = seen
        .into_iter()
        .map(|kind| {
            let (glyph, paint, word, _) = of_kind(kind);
            format!("{} {word}", paint.on(&glyph.to_string()))
        })
        .collect();
    if !critical.is_empty() {
        legend.push("* on the critical path".into());
    }
    text.push_str(&format!("\n{}\n", in_lines(&legend, width)));
    if let Some(told) = collaboration(detail) {
        let told = crate::table::wrap(&told, width);
        text.push_str(&format!("\n{}\n", told.join("\n")));
    }
    text
}

/// How long a step's result took to make.
fn work(spans: &[Span]) -> String {
    let runs = spans.iter().filter(|span| matches!(span.kind, SpanKind::Run | SpanKind::Rework));
    let mut runs = runs.map(|span| span.to_ms - span.from_ms).peekable();
    if runs.peek().is_none() { String::new() } else { run_time(runs.sum()) }
}

/// The bar in colours, and how many cells it takes up to its last one.
fn bar(spans: &[Span], total_ms: u64, cells: usize) -> (String, usize) {
    let edge = |cell: usize| cell as u128 * u128::from(total_ms);
    // In units of total/cells, so that nothing is rounded.
    let scaled = |ms: u64| u128::from(ms) * cells as u128;
    let mut row: Vec<Option<SpanKind>> = (0..cells)
        .map(|cell| {
            let overlap = |span: &&Span| {
                let to = scaled(span.to_ms).min(edge(cell + 1));
                to.saturating_sub(scaled(span.from_ms).max(edge(cell)))
            };
            let most = spans.iter().max_by_key(overlap).filter(|span| overlap(span) > 0);
            most.map(|span| span.kind)
        })
        .collect();
    // What is too short for a cell is shown all the same, the work last.
    for kind in SpanKind::ALL.into_iter().rev() {
        let longest =
            spans.iter().filter(|span| span.kind == kind).max_by_key(|span| span.to_ms - span.from_ms);
        if let Some(span) = longest
            && !row.contains(&Some(kind))
        {
            let middle = (scaled(span.from_ms) + scaled(span.to_ms)) / 2 / u128::from(total_ms);
            let middle = usize::try_from(middle).unwrap_or(cells).min(cells - 1);
            row[middle] = Some(kind);
        }
    }
    let end = row.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
    let mut text = String::new();
    let mut at = 0;
    while at < end {
        let kind = row[at];
        let run = row[at..end].iter().take_while(|other| **other == kind).count();
        match kind {
            Some(kind) => {
                let (glyph, paint, ..) = of_kind(kind);
                text.push_str(&paint.on(&glyph.to_string().repeat(run)));
            }
            None => text.push_str(&" ".repeat(run)),
        }
        at += run;
    }
    (text, end)
}

/// Times along the top, as many as there is room for: each begins over the
/// cell it stands for.
fn axis(total_ms: u64, cells: usize) -> String {
    /// Cells between two times.
    const APART: u64 = 12;
    let least = total_ms.saturating_mul(APART).div_ceil(cells as u64).max(1);
    let step = round_steps().find(|step| *step >= least).unwrap_or(least);
    let mut line = String::new();
    for tick in (0_u64..).map(|number| number.saturating_mul(step)).take_while(|at| *at <= total_ms) {
        let cell = (u128::from(tick) * cells as u128 / u128::from(total_ms)) as usize;
        let label = format!("╷{}", mark(tick, step));
        if cell + label.width() > cells {
            break;
        }
        line.push_str(&" ".repeat(cell.saturating_sub(line.width())));
        line.push_str(&label);
    }
    line.push_str(&" ".repeat(cells.saturating_sub(line.width())));
    line
}

/// A time along the top, in the unit of the steps between two of them.
fn mark(at_ms: u64, step_ms: u64) -> String {
    const DAY: u64 = 86_400_000;
    match step_ms {
        _ if at_ms == 0 => "0".into(),
        0..1_000 if at_ms < 1_000 => format!("{at_ms} ms"),
        0..1_000 => format!("{:.1} s", at_ms as f64 / 1_000.0),
        1_000..60_000 => format!("{} s", at_ms / 1_000),
        60_000..3_600_000 => format!("{} min", at_ms / 60_000),
        3_600_000..DAY => format!("{} h", at_ms / 3_600_000),
        _ => format!("{} d", at_ms / DAY),
    }
}

/// Times between two marks that people count in, milliseconds.
fn round_steps() -> impl Iterator<Item = u64> {
    let below_a_minute = (0..5).flat_map(|power| [1, 2, 5].map(|by| by * 10_u64.pow(power)));
    let minutes = [1, 2, 5, 10, 15, 30].map(|minutes| minutes * 60_000);
    let hours = [1, 2, 3, 6, 12].map(|hours| hours * 3_600_000);
    let days = (0..5).flat_map(|power| [1, 2, 5].map(|by| by * 10_u64.pow(power) * 86_400_000));
    below_a_minute.filter(|step| *step < 60_000).chain(minutes).chain(hours).chain(days)
}

/// Pieces side by side, in as many lines as they need.
fn in_lines(pieces: &[String], width: usize) -> String {
    let cells = |text: &str| anstream::adapter::strip_str(text).to_string().width();
    let mut text = String::new();
    let mut used = 0;
    for piece in pieces {
        let wants = cells(piece);
        if used > 0 && used + 3 + wants > width {
            text.push('\n');
            used = 0;
        } else if used > 0 {
            text.push_str("   ");
            used += 3;
        }
        text.push_str(piece);
        used += wants;
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn part(step: &str, agent: &str, state: &str, timeline: &[(&str, u64, u64)]) -> Value {
        let timeline: Vec<Value> = timeline
            .iter()
            .map(|(kind, from, to)| json!({ "kind": kind, "fromMs": from, "toMs": to }))
            .collect();
        json!({
            "taskId": "x", "step": step, "agent": agent, "state": state, "needs": [], "attempts": 1, "crashes": 0,
            "output": null, "model": null, "provider": null, "tokensIn": 0, "tokensOut": 0, "costMicros": 0,
            "cacheHit": false, "durationMs": null, "finishedAt": null, "dueAt": null, "error": null,
            "timeline": timeline,
        })
    }

    fn detail(parts: Vec<Value>, total_ms: u64, collaboration: Value) -> WorkflowDetail {
        let id = "0199d1c2-0000-7000-8000-000000000000";
        serde_json::from_value(json!({
            "id": id, "workspaceId": id, "name": "launch", "template": null, "state": "succeeded", "priority": 5,
            "createdBy": "ada", "createdAt": "2026-11-26T10:00:00Z", "finishedAt": "2026-11-26T10:00:06.5Z", "seq": 9,
            "steps": { "total": parts.len(), "done": parts.len(), "pending": 0, "running": 0, "dead": 0 },
            "input": {}, "definition": { "name": "launch", "steps": [] }, "traceparent": null,
            "result": {
                "contributions": parts,
                "totals": { "attempts": 0, "crashes": 0, "tokensIn": 0, "tokensOut": 0, "costMicros": 0,
                    "cacheHits": 0, "agentMs": 0, "criticalPathMs": 0, "totalMs": total_ms },
                "collaboration": collaboration,
            },
        }))
        .unwrap()
    }

    fn launch() -> WorkflowDetail {
        let parts = vec![
            part("strategy", "strategy", "succeeded", &[("queue", 0, 20), ("run", 20, 1_500)]),
            part("content", "content_creator", "succeeded", &[]),
            part("review", "reviewer", "succeeded", &[("queue", 3_900, 3_950), ("run", 3_950, 4_400)]),
            part(
                "content_2",
                "content_creator",
                "succeeded",
                &[("queue", 4_400, 4_410), ("rework", 4_410, 4_700)],
            ),
            part(
                "publish",
                "publisher",
                "succeeded",
                &[
                    ("queue", 4_700, 4_720),
                    ("people", 4_720, 5_920),
                    ("slot", 5_920, 6_300),
                    ("queue", 6_300, 6_310),
                    ("run", 6_310, 6_500),
                ],
            ),
            part(
                "content.0",
                "content_creator",
                "succeeded",
                &[("queue", 1_500, 1_510), ("run", 1_510, 2_900)],
            ),
            part(
                "content.1",
                "content_creator",
                "succeeded",
                &[("queue", 1_500, 1_700), ("retry", 1_700, 2_600), ("run", 2_600, 3_900)],
            ),
            part("ein_sehr_langer_name_短い理由", "x", "skipped", &[]),
        ];
        let path = |step: &str, from: u64, to: u64, useful: u64| json!({ "step": step, "fromMs": from, "toMs": to, "usefulMs": useful });
        let collaboration = json!({
            "efficiency": 3_420.0 / 6_500.0, "wallMs": 6_500, "usefulMs": 3_420,
            "losses": [
                { "kind": "people", "ms": 1_200 }, { "kind": "retry", "ms": 900 }, { "kind": "slot", "ms": 380 },
                { "kind": "queue", "ms": 310 }, { "kind": "rework", "ms": 290 },
            ],
            "criticalPath": [
                path("strategy", 0, 1_500, 1_480), path("content.1", 1_500, 3_900, 1_300),
                path("review", 3_900, 4_400, 450), path("content_2", 4_400, 4_700, 0),
                path("publish", 4_700, 6_500, 190),
            ],
        });
        detail(parts, 6_500, collaboration)
    }

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn the_timeline_is_drawn_to_scale() {
        let drawn = plain(&timeline(&launch(), 80));
        assert_eq!(
            drawn,
            "  STEP                      ╷0           ╷2 s          ╷4 s         ╷6 s    WORK
* strategy                  ·██████████                                    1.5 s
  content                   2 parts
  content.0                           ·█████████                           1.4 s
* content.1                           ··▒▒▒▒▒▒█████████                    1.3 s
* review                                              ·███                450 ms
* content_2                                              ·▓▓              290 ms
* publish                                                  ·════════───█  190 ms
  ein_sehr_langer_name_短…  skipped

█ runs   ▓ does it over   ▒ failed, waits for a retry   ═ waits for people
─ waits for its slot   · queues   * on the critical path

collaboration 53 %: 3.4 s of agents' work on the critical path in 6.5 s; lost:
1.2 s waiting for people, 900 ms retries, 380 ms waiting for slots, 310 ms
queueing, 290 ms rework
"
        );
    }

    #[test]
    fn every_line_fits_whatever_the_terminal() {
        for width in [40, 60, 80, 120, 200] {
            let drawn = plain(&timeline(&launch(), width));
            let rows = drawn.lines().take_while(|line| !line.is_empty());
            // A name and a bar need their room; below that, lines are longer.
            let most = width.max(2 + NAME + 2 + NARROWEST + 2 + 6);
            assert!(
                rows.clone().count() == 9 && rows.clone().all(|line| line.width() <= most),
                "{width}\n{drawn}"
            );
        }
    }

    #[test]
    fn short_stretches_are_seen_and_odd_times_do_no_harm() {
        let day = 86_400_000;
        let parts = vec![
            part("a", "a", "succeeded", &[("queue", 0, 5), ("run", 5, 900)]),
            part(
                "publish",
                "publisher",
                "succeeded",
                &[("queue", 900, 910), ("slot", 910, 3 * day), ("run", 3 * day, 3 * day + 200)],
            ),
        ];
        let drawn = plain(&timeline(&detail(parts, 3 * day + 200, Value::Null), 80));
        let rows: Vec<&str> = drawn.lines().collect();
        assert!(rows[0].contains("╷1 d") && rows[0].contains("╷2 d"), "{drawn}");
        assert!(rows[1].contains('█') && rows[2].ends_with("█  200 ms"), "{drawn}");
        assert!(!drawn.contains("critical path"), "{drawn}");

        let beyond = vec![part("a", "a", "running", &[("open", 0, u64::MAX)])];
        plain(&timeline(&detail(beyond, 0, Value::Null), 80));
        plain(&timeline(&detail(vec![], 0, Value::Null), 40));
    }

    #[test]
    fn the_sentence_says_what_was_lost_to_what() {
        let found = |efficiency: f64, useful_ms: u64, losses: Value| {
            let collaboration = json!({ "efficiency": efficiency, "wallMs": 6_500, "usefulMs": useful_ms,
                "losses": losses, "criticalPath": [] });
            collaboration_of(collaboration).unwrap()
        };
        fn collaboration_of(value: Value) -> Option<String> {
            collaboration(&detail(vec![], 6_500, value))
        }
        assert_eq!(
            found(
                0.63,
                4_100,
                json!([{ "kind": "people", "ms": 1_200 }, { "kind": "retry", "ms": 900 },
                { "kind": "queue", "ms": 300 }])
            ),
            "collaboration 63 %: 4.1 s of agents' work on the critical path in 6.5 s; \
             lost: 1.2 s waiting for people, 900 ms retries, 300 ms queueing"
        );
        assert!(
            found(0.998, 6_487, json!([{ "kind": "queue", "ms": 13 }])).starts_with("collaboration 99 %")
        );
        assert!(found(0.001, 6, json!([{ "kind": "queue", "ms": 6_494 }])).starts_with("collaboration <1 %"));
        assert!(found(1.0, 6_500, json!([])).ends_with("in 6.5 s"));
        assert_eq!(collaboration_of(Value::Null), None);
    }
}
