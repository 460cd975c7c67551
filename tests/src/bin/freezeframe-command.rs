//! The `freezeframe` command once more, where cargo tells this crate's tests its path.

use std::process::ExitCode;

fn main() -> ExitCode {
    freezeframe::cli::main()
}
