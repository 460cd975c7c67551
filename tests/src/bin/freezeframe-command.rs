//! The `freezeframe` command once more, where cargo tells this crate's tests and benchmarks its path.

use std::process::ExitCode;

/// As the command itself has it: what is measured is what is used.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    freezeframe::cli::main()
}
