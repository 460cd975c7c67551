//! The `freezeframe` command; see the library's `cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    freezeframe::cli::main()
}
