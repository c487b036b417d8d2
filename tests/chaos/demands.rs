//! What a demanding run has to have seen: a fault that was never injected and a
//! rescue that was never needed prove nothing.

use crate::history::NeededSum;

/// Kinds of faults, by the names in a history.
const FAULTS: &[&str] = &[
    "kill api",
    "kill scheduler",
    "kill worker",
    "kill gateway",
    "kill outside",
    "stop worker",
    "flush",
    "redis-restart",
    "redis-client-kill",
    "script-flush",
    "redis-hang",
    "postgres-crash",
    "terminate",
    "backend-hang",
    "rogue-lock",
    "delay",
    "cut",
    "half-open",
    "one-way",
    "client gone",
    "clock jump",
    "restore",
    "die-at-point",
    "stop-before-call",
    "proxy: cut",
    "proxy: cut at a byte",
    "proxy: delayed",
    "proxy: lost commit",
    "proxy: swallowed",
    "platform: lose_reply",
    "platform: late_effect",
];

/// Rescue paths, by the names of the probe's registry: those that three
/// minutes reach for sure.
const PATHS: &[&str] = &[
    "accept_found_first",
    "answer_lost",
    "approval_expired",
    "approval_voided",
    "batch_bisected",
    "cancel_waits_for_intent",
    "cancel_while_running",
    "claimed_elsewhere",
    "compare_and_set_lost",
    "day_full",
    "dead_by_attempts",
    "dead_by_crashes",
    "discard",
    "doubt_asked",
    "doubt_not_there",
    "doubt_published",
    "held_though_loosened",
    "intent_met_edit",
    "intent_met_policy",
    "absent_then_sent",
    "claim_was_mine",
    "not_sent_retried",
    "overdue",
    "paused_ticket",
    "place_freed",
    "published_by_look",
    "published_by_repeat",
    "reap",
    "rebuild",
    "reconcile_push",
    "replay",
    "result_was_mine",
    "script_reloaded",
    "session_fenced",
    "stale_claim",
    "stale_completion",
    "ticket_expired",
    "unknown",
    "unstorable_output",
];

/// What three minutes have to have broken at least: what, the beginnings of
/// the kinds' names, how many.
const SUMS: &[(&str, &[&str], u64)] = &[
    ("faults", &[], 200),
    ("kills", &["kill "], 60),
    ("times that Redis was emptied", &["flush", "redis-restart"], 10),
    ("crashes of PostgreSQL", &["postgres-crash"], 5),
    ("lost replies of COMMIT", &["proxy: lost commit"], 20),
];

/// How much has to be broken in so many minutes.
pub fn sums(minutes: f64) -> Vec<NeededSum> {
    // Small and positive.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let share = |count: u64| (count as f64 * minutes / 3.0) as u64;
    SUMS.iter()
        .map(|(what, kinds, least)| NeededSum {
            what: (*what).to_owned(),
            kinds: kinds.iter().map(ToString::to_string).collect(),
            least: share(*least),
        })
        .collect()
}

/// The faults that have to be seen.
pub fn faults() -> Vec<String> {
    FAULTS.iter().map(ToString::to_string).collect()
}

/// The rescue paths that have to be walked.
pub fn paths() -> Vec<String> {
    PATHS.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_is_in_the_registry() {
        for path in PATHS {
            assert!(galley_probe::Rescue::named(path).is_some(), "{path}");
        }
    }
}
