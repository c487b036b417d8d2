//! What a run tells people, on stdout; the verdict is the last line.

#![allow(clippy::print_stdout, reason = "this room talks to people")]

use std::collections::BTreeMap;
use std::process::ExitCode;

use crate::check::Violation;
use crate::history::History;
use crate::run::Done;

/// Violations that are told of each invariant; the history has them all.
const TOLD: usize = 8;

/// One line of progress.
pub fn say(text: &str) {
    println!("{text}");
}

/// The harness itself failed.
pub fn failed(error: &anyhow::Error) -> ExitCode {
    println!("the harness failed: {error:#}");
    println!("VERDICT: none");
    ExitCode::from(2)
}

/// What was broken, asked for, answered and walked.
pub fn counts(done: &Done) {
    let faults = &done.history.seen.faults;
    println!("\nfaults ({}; processes died {} times)", faults.values().sum::<u64>(), done.deaths);
    table(faults.iter().map(|(name, count)| (name.as_str(), count.to_string())));
    let ops = done.ops.values().flatten().sum::<u64>();
    println!("\noperations ({ops}): done, refused, unknown");
    let told = done
        .ops
        .iter()
        .map(|(name, [done, refused, unknown])| (*name, format!("{done:6} {refused:6} {unknown:6}")));
    table(told);
    println!("\nrescue paths");
    table(done.history.seen.paths.iter().map(|(name, count)| (name.as_str(), count.to_string())));
    let dump = &done.history.dump;
    let posts = tally(dump.posts.iter().map(|post| post.state.clone()));
    let finished = tally(dump.finished_runs.iter().map(|run| run.state.clone()));
    println!("\nworkflows: {} still open, finished {finished:?}", dump.runs.len());
    println!("posts: {posts:?}; the platform shows {}", done.history.effects.len());
    println!("calls of agents: {}; events: {}", done.history.calls.len(), done.history.events.len());
    for moving in &done.moving {
        println!("still moving: {moving}");
    }
    println!("took {:.0?}", done.took);
}

fn tally(words: impl Iterator<Item = String>) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for word in words {
        *counts.entry(word).or_default() += 1;
    }
    counts
}

fn table<'a>(rows: impl Iterator<Item = (&'a str, String)>) {
    for (name, value) in rows {
        println!("  {name:28} {value}");
    }
}

/// What was decided; true when every promise held.
pub fn verdict(history: &History, violations: &[Violation]) -> bool {
    let mut by_invariant: BTreeMap<&str, Vec<&Violation>> = BTreeMap::new();
    for violation in violations {
        by_invariant.entry(violation.invariant).or_default().push(violation);
    }
    println!();
    for (invariant, found) in &by_invariant {
        for violation in found.iter().take(TOLD) {
            println!("BROKEN {violation}");
        }
        if found.len() > TOLD {
            println!("BROKEN {invariant}: {} more", found.len() - TOLD);
        }
    }
    let seed = history.facts.seed;
    match violations.len() {
        0 => println!("VERDICT: held, 0 violations (seed {seed})"),
        count => println!("VERDICT: broken, {count} violations (seed {seed})"),
    }
    violations.is_empty()
}

/// Whether a planted bug was seen.
pub fn planted(bug: &str, seed: u64, violations: &[Violation]) {
    let told = tally(violations.iter().map(|violation| violation.invariant.to_owned()));
    if violations.is_empty() {
        println!("ESCAPED  {bug:24} seed {seed}");
    } else {
        println!("caught   {bug:24} seed {seed}  by {told:?}");
    }
}
