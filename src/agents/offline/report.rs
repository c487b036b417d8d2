//! A sample summary of a workspace's figures: sentences around the numbers.

use galley_core::figures::Figures;
use serde_json::{Value, json};

/// Most agents that get a sentence.
const MOST: usize = 3;

pub(super) fn summary(figures: &Value) -> Value {
    let figures: Figures = serde_json::from_value(figures.clone()).unwrap_or_default();
    let Figures { period, posts, decisions, spend, workflows, agents, .. } = figures;
    let headline = format!(
        "[sample] {} in {}, for {}.",
        many(posts.published, "post went out", "posts went out"),
        many(period.days.into(), "day", "days"),
        dollars(spend.micros)
    );
    let ended = workflows.succeeded + workflows.failed + workflows.cancelled;
    let mut findings = vec![format!(
        "[sample] {}: {} succeeded, {} failed, {} cancelled; {} did something over.",
        many(ended, "workflow ended", "workflows ended"),
        workflows.succeeded,
        workflows.failed,
        workflows.cancelled,
        workflows.with_rework
    )];
    if let Some(most) = posts.by_platform.first() {
        let hour = posts.by_hour.iter().max_by_key(|hour| (hour.published, std::cmp::Reverse(hour.hour)));
        let hour = hour.map_or(String::new(), |hour| format!("; the busiest hour was {} o'clock", hour.hour));
        findings.push(format!("[sample] Most went to {} ({}){hour}.", most.platform, most.published));
    }
    if decisions.made > 0 {
        findings.push(format!(
            "[sample] Of {}, people approved {}, rejected {} and edited {}.",
            many(decisions.made, "post", "posts"),
            decisions.approved,
            decisions.rejected,
            decisions.edited
        ));
    }
    let failing = agents.iter().filter(|agent| agent.failed > 0).take(MOST);
    let suggestions: Vec<String> = failing
        .map(|agent| {
            format!(
                "[sample] Look at {}: {} of {} failed.",
                agent.agent,
                agent.failed,
                many(agent.steps, "step", "steps")
            )
        })
        .collect();
    json!({ "headline": headline, "findings": findings, "suggestions": suggestions, "sample": true })
}

fn many(count: u64, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

fn dollars(micros: u64) -> String {
    format!("{:.2} US dollars", micros as f64 / 1e6)
}
