//! `lvs`, `lvcreate` and their like, whichever name it is called by: runs that tool of LVM in the guest whose shell is at
//! `$FREEZEFRAME_GUEST_SHELL`. See [`freezeframe_tests::storage::appliance`].
#![allow(clippy::disallowed_methods, reason = "a command that is called by others")]

use std::{
    env,
    error::Error,
    io::{self, Write as _},
    process::ExitCode,
};

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe_tests::storage::appliance::{SHELL, quoted, says};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut words = env::args();
    let called = Utf8PathBuf::from(words.next().unwrap_or_default());
    let tool = called.file_name().ok_or("it is called by no name")?;
    let words: Vec<_> = words.map(|word| quoted(&word)).collect();
    let said = says(Utf8Path::new(&env::var(SHELL)?), &format!("lvm {tool} {}", words.join(" ")))?;
    io::stdout().write_all(&said.output)?;
    io::stderr().write_all(&said.errors)?;
    Ok(ExitCode::from(u8::try_from(said.code)?))
}
