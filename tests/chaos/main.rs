//! `galley-chaos`: the fault harness, and, started again by itself, every role
//! of Galley.

use std::process::ExitCode;

fn main() -> ExitCode {
    galley_bin::main(|_| Ok(()))
}
