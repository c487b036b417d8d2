//! The `galley` program.

use std::process::ExitCode;

/// A fifth of a worker's CPU time was glibc's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    galley_bin::main(galley_bin::Changes::default())
}
