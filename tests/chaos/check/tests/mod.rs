//! The checker itself, tested: a run in which everything was kept is clean,
//! and for every invariant there are runs that break it and are caught.

mod bad_log;
mod bad_money;
mod bad_posts;
mod bad_rows;
mod good;
mod story;

use std::collections::BTreeSet;

use galley_core::ids::StepIndex;
use galley_core::run::Run;

use super::{INVARIANTS, check};
use crate::history::{Bytes, History};
use good::{Good, good};
use story::Key;

/// What is broken, the invariant that has to notice, and how to break it.
type Break = (&'static str, &'static str, fn(&mut Good));

fn breaks() -> impl Iterator<Item = Break> {
    [bad_rows::BREAKS, bad_log::BREAKS, bad_posts::BREAKS, bad_money::BREAKS].into_iter().flatten().copied()
}

#[test]
fn a_run_in_which_everything_was_kept_is_clean() {
    let violations = check(&good().history);
    assert!(violations.is_empty(), "{violations:#?}");
}

#[test]
fn every_broken_promise_is_noticed_by_its_invariant() {
    let unnoticed = breaks().filter_map(|(invariant, what, break_it)| {
        let mut bad = good();
        break_it(&mut bad);
        let violations = check(&bad.history);
        let noticed = violations.iter().any(|violation| violation.invariant == invariant);
        (!noticed).then(|| format!("{what}: `{invariant}` did not notice; found: {violations:#?}"))
    });
    let unnoticed: Vec<_> = unnoticed.collect();
    assert!(unnoticed.is_empty(), "{}", unnoticed.join("\n"));
}

#[test]
fn every_invariant_has_a_history_that_breaks_it() {
    let registered: BTreeSet<_> = INVARIANTS.iter().map(|invariant| invariant.name).collect();
    assert_eq!(registered.len(), INVARIANTS.len(), "a name is there twice");
    let broken: BTreeSet<_> = breaks().map(|(invariant, ..)| invariant).collect();
    assert_eq!(registered, broken);
}

/// Judged again from the file, a history says the same.
#[test]
fn a_history_survives_its_file() {
    let mut bad = good();
    bad.history.dump.results.pop();
    let folder = std::env::temp_dir().join(format!("galley-history-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("history.jsonl");
    bad.history.write(&file).unwrap();
    let read = History::read(&file).unwrap();
    assert_eq!(read, bad.history);
    assert_eq!(check(&read), check(&bad.history));
    // What a killed harness leaves: half a line, which is not read.
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() - 3]).unwrap();
    let cut = History::read(&file).unwrap();
    assert_eq!(cut.dump, bad.history.dump);
    // Without its first line it is no history.
    let first = whole.iter().position(|byte| *byte == b'\n').unwrap();
    std::fs::write(&file, &whole[first + 1..]).unwrap();
    assert!(History::read(&file).is_err());
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Changes a stored run; whether it is live or over.
fn edit_run(good: &mut Good, key: Key, edit: impl Fn(&mut Run)) {
    let dump = &mut good.history.dump;
    let live = dump.runs.iter_mut().filter(|row| (row.workspace_id, row.id) == key).map(|row| &mut row.run);
    let over = dump.finished_runs.iter_mut().filter(|row| (row.workspace_id, row.id) == key);
    for bytes in live.chain(over.map(|row| &mut row.run)) {
        edit_bytes(bytes, &edit);
    }
}

/// Changes a version in a workflow's journal, counted from 0.
fn edit_journal(good: &mut Good, key: Key, version: usize, edit: impl Fn(&mut Run)) {
    let rows = good.history.dump.run_journal.iter_mut();
    let row = rows.filter(|row| (row.workspace_id, row.id) == key).nth(version).unwrap();
    edit_bytes(&mut row.run, &edit);
}

fn edit_bytes(bytes: &mut Bytes, edit: &impl Fn(&mut Run)) {
    let mut run = bytes.run().unwrap();
    edit(&mut run);
    *bytes = Bytes::of(&run.encode());
}

/// The row of a workflow's step.
macro_rules! row_of {
    ($rows:expr, $key:expr, $step:expr) => {{
        let (workspace, workflow) = $key;
        let step: galley_core::ids::StepIndex = $step;
        $rows
            .iter_mut()
            .find(|row| (row.workspace_id, row.workflow_id, row.step) == (workspace, workflow, step))
            .unwrap()
    }};
}
use row_of;

/// The step that publishes, in every workflow of the story that does.
const PUBLISH: StepIndex = 1;
