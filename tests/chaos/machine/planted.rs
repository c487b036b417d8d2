//! The machine is worth something if it notices what it is for.

use std::process::Command;

use galley_probe::{Bug, PLANTED};

/// Bugs of store and queue that need no crash to show. By hand it noticed
/// `drop_epoch`, `id_only_guard`, `stale_is_mine`, `mark_before_push` and
/// `audit_outside`, too.
const BUGS: [Bug; 3] = [Bug::EpochReset, Bug::DropVersion, Bug::NoReconciler];

/// A bug is planted when a process starts: each has a process of its own.
#[test]
fn planted_bugs_are_noticed() {
    for bug in BUGS {
        let machine = std::env::current_exe().unwrap();
        let run = Command::new(machine)
            .args(["--exact", "random_operations_do_what_the_model_says", "--nocapture"])
            .env(PLANTED, bug.name())
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&run.stderr);
        assert!(!run.status.success(), "{bug} was not noticed");
        assert!(told.contains("after these operations:"), "{bug}: it failed of something else:\n{told}");
    }
}
