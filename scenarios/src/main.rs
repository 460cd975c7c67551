//! The `freezeframe` command; see the library's `cli`.

use std::process::ExitCode;

/// A scenario is thousands of small allocations: this one plays a third more of them a second than the system's. It asks for no huge
/// pages: until the host has found and cleared one, a command that lives for 20 ms may stand still for as long.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    freezeframe::cli::main()
}
