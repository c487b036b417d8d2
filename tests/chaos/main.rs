//! `galley-chaos`: the fault harness, and, started again by itself, every role
//! of Galley.

use std::process::ExitCode;

/// As in the product.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let command = std::env::args().nth(1).unwrap_or_default();
    if galley_chaos::cli::is_ours(&command) {
        galley_chaos::cli::main()
    } else {
        galley_chaos::fleet::be_galley()
    }
}
