//! What a run tells people, on stdout; the verdict is the last line.

#![allow(clippy::print_stdout, reason = "this room talks to people")]

use std::collections::BTreeMap;
use std::process::ExitCode;

use galley_probe::Bug;

use crate::check::Violation;
use crate::history::History;
use crate::planted;
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

/// Whether a planted bug was caught by a promise it attacks, or held where
/// another wall is to hold it.
pub fn planted(bug: Bug, seed: u64, violations: &[Violation]) -> bool {
    let caught = planted::caught_by(bug, violations);
    let told = words(&tally(caught.iter().map(|violation| violation.invariant.to_owned())));
    let others = violations.iter().filter(|violation| !caught.contains(violation));
    let others = words(&tally(others.map(|violation| violation.invariant.to_owned())));
    let besides = if others.is_empty() { String::new() } else { format!("; besides: {others}") };
    match caught.first() {
        Some(first) => {
            println!("caught   {bug:24} seed {seed:6}  by {told}{besides}");
            println!("         {}", first.what.chars().take(160).collect::<String>());
        }
        None if planted::is_held(bug) && violations.is_empty() => {
            println!("held     {bug:24} seed {seed:6}  by the wall behind it");
        }
        None => println!("ESCAPED  {bug:24} seed {seed:6}{besides}"),
    }
    if planted::is_held(bug) { violations.is_empty() } else { !caught.is_empty() }
}

fn words(tally: &BTreeMap<String, u64>) -> String {
    let told: Vec<_> = tally.iter().map(|(word, count)| format!("{word} \u{d7}{count}")).collect();
    told.join(", ")
}

/// Several runs, one line each, and what they saw together.
#[derive(Debug, Default)]
pub struct Series {
    rows: Vec<Row>,
    faults: BTreeMap<String, u64>,
    paths: BTreeMap<String, u64>,
}

/// One run of a series; the numbers in the order of [`COLUMNS`].
#[derive(Debug)]
struct Row {
    seed: u64,
    numbers: [u64; COLUMNS.len()],
}

const COLUMNS: [&str; 12] = [
    "seconds",
    "faults",
    "kills",
    "Redis emptied",
    "PostgreSQL crashed",
    "COMMIT replies lost",
    "operations",
    "workflows",
    "posts out",
    "rescue paths",
    "still moving",
    "violations",
];

impl Series {
    /// Adds a run and tells it in a line; true when every promise held.
    pub fn add(&mut self, done: &Done, violations: &[Violation]) -> bool {
        let History { facts, seen, dump, effects, .. } = &done.history;
        let sum = |kinds: &[&str]| -> u64 {
            let counts = |name: &str| kinds.iter().any(|kind| name.starts_with(kind));
            seen.faults.iter().filter(|(name, _)| counts(name)).map(|(_, count)| count).sum()
        };
        let numbers = [
            done.took.as_secs(),
            seen.faults.values().sum(),
            sum(&["kill "]),
            sum(&["flush", "redis-restart"]),
            sum(&["postgres-crash"]),
            sum(&["proxy: lost commit"]),
            done.ops.values().flatten().sum(),
            dump.workflows.len() as u64,
            effects.len() as u64,
            seen.paths.len() as u64,
            done.moving.len() as u64,
            violations.len() as u64,
        ];
        let told: Vec<_> =
            COLUMNS.iter().zip(numbers).map(|(column, number)| format!("{column} {number}")).collect();
        println!("seed {}: {}", facts.seed, told.join(", "));
        for violation in violations.iter().take(TOLD) {
            println!("BROKEN {violation}");
        }
        for (mine, theirs) in [(&mut self.faults, &seen.faults), (&mut self.paths, &seen.paths)] {
            for (name, count) in theirs {
                *mine.entry(name.clone()).or_default() += count;
            }
        }
        self.rows.push(Row { seed: facts.seed, numbers });
        violations.is_empty()
    }

    /// Tells them all as a table; true when every promise held in each.
    pub fn verdict(&self) -> bool {
        println!("\n| seed | {} |", COLUMNS.join(" | "));
        println!("|---{}|", "|---:".repeat(COLUMNS.len()));
        let mut sums = [0; COLUMNS.len()];
        for Row { seed, numbers } in &self.rows {
            println!("| {seed} | {} |", numbers.map(|number| number.to_string()).join(" | "));
            for (sum, number) in sums.iter_mut().zip(numbers) {
                *sum += number;
            }
        }
        println!("| all | {} |", sums.map(|number| number.to_string()).join(" | "));
        println!("\nFaults: {}.", words(&self.faults));
        println!("\nRescue paths walked: {}.", words(&self.paths));
        let [.., violations] = sums;
        println!("\nVERDICT: {} runs, {violations} violations", self.rows.len());
        violations == 0
    }
}
