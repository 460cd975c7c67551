//! Real QEMUs, where there are any, and how to play on one.
//!
//! Which: those in `FREEZEFRAME_QEMU`, binaries separated by `:` (set and empty: none). If it is not set, those that
//! `ci/install-qemu.sh` has put into `${XDG_CACHE_HOME:-~/.cache}/freezeframe/qemu`, and `qemu-system-x86_64` on the
//! path.
#![allow(clippy::disallowed_methods, reason = "finds programs in the surroundings")]

use std::{env, error::Error, rc::Rc};

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe::{
    language::Scenario,
    machine,
    play::{self, Run},
    world::{
        World as _,
        qemu::{Binary, QemuWorld},
    },
};

/// The QEMUs that there are.
pub fn programs() -> Vec<Utf8PathBuf> {
    let split = |paths: String| paths.split(':').map(Utf8PathBuf::from).collect::<Vec<_>>();
    if let Ok(named) = env::var("FREEZEFRAME_QEMU") {
        return split(named).into_iter().filter(|program| program != "").collect();
    }
    let cache = env::var("XDG_CACHE_HOME").map(Utf8PathBuf::from);
    let cache = cache.or_else(|_| env::var("HOME").map(|home| Utf8Path::new(&home).join(".cache")));
    let installed = cache.map(|cache| cache.join("freezeframe/qemu")).ok().and_then(|folder| {
        let mut releases: Vec<_> = folder.read_dir_utf8().ok()?.flatten().collect();
        releases.sort_by(|one, other| one.file_name().cmp(other.file_name()));
        Some(releases.into_iter().map(|release| release.path().join("bin")).collect::<Vec<_>>())
    });
    let folders = installed.into_iter().flatten().chain(split(env::var("PATH").unwrap_or_default()));
    folders.map(|folder| folder.join("qemu-system-x86_64")).filter(|program| program.is_file()).collect()
}

/// Plays a scenario on a real QEMU of its own.
///
/// # Errors
/// When QEMU cannot be started or does not answer the runner.
pub async fn play(binary: &Binary, scenario: &Scenario) -> Result<Run, Box<dyn Error>> {
    let world = QemuWorld::start(binary, &machine::of(scenario)).await?;
    let capabilities = Rc::new(play::capabilities(&world).await?);
    let run = play::play(scenario, &world, capabilities).await;
    world.kill_qemu().await;
    Ok(run?)
}
