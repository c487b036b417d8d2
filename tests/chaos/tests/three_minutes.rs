//! Three minutes of every fault: no promise broken, every fault and every rescue
//! path seen. Its seed is in its output; the history of a run that failed stays
//! in the folder for temporary files, and the output says where.
//! GALLEY_CHAOS_MINUTES makes it longer, GALLEY_CHAOS_SEED repeats one.

use std::process::Command;

#[test]
fn three_minutes_of_every_fault_break_no_promise() {
    let minutes = std::env::var("GALLEY_CHAOS_MINUTES").unwrap_or_else(|_| "3".into());
    let mut run = Command::new(env!("CARGO_BIN_EXE_galley-chaos"));
    run.args(["run", "--demanding", "--minutes", &minutes]);
    if let Ok(seed) = std::env::var("GALLEY_CHAOS_SEED") {
        run.args(["--seed", &seed]);
    }
    // Its own account of what it broke and saw is what a failure is looked
    // into by.
    let ended = run.status().unwrap();
    assert!(ended.success(), "the last line above is the verdict; its history and logs are kept");
}
