//! Real QEMUs, where there are any, and how to play on one.
//!
//! Which: those in `FREEZEFRAME_QEMU`, binaries separated by `:` (set and empty: none). If it is not set, those that
//! `ci/install-qemu.sh` has put into `${XDG_CACHE_HOME:-~/.cache}/freezeframe/qemu`, and `qemu-system-x86_64` on the
//! path.
//!
//! Which guest boots on them: the one in the folder `FREEZEFRAME_GUEST` (set and empty: none). If it is not set, the one that
//! `ci/build-guest.sh` has put into `freezeframe/guest` beside them.
#![allow(clippy::disallowed_methods, reason = "finds programs in the surroundings")]

use std::{env, error::Error, rc::Rc};

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe::{
    language::Scenario,
    machine,
    play::{self, Run},
    world::{
        World as _,
        guest::{Guest, GuestError},
        qemu::{Binary, QemuWorld},
    },
};

/// The QEMUs that there are.
pub fn programs() -> Vec<Utf8PathBuf> {
    let split = |paths: String| paths.split(':').map(Utf8PathBuf::from).collect::<Vec<_>>();
    if let Ok(named) = env::var("FREEZEFRAME_QEMU") {
        return split(named).into_iter().filter(|program| program != "").collect();
    }
    let installed = cache().map(|cache| cache.join("qemu")).and_then(|folder| {
        let mut releases: Vec<_> = folder.read_dir_utf8().ok()?.flatten().collect();
        releases.sort_by(|one, other| one.file_name().cmp(other.file_name()));
        Some(releases.into_iter().map(|release| release.path().join("bin")).collect::<Vec<_>>())
    });
    let folders = installed.into_iter().flatten().chain(split(env::var("PATH").unwrap_or_default()));
    folders.map(|folder| folder.join("qemu-system-x86_64")).filter(|program| program.is_file()).collect()
}

/// The guest that there is, if there is one.
///
/// # Errors
/// What is wrong with it.
pub fn guest() -> Result<Option<Guest>, GuestError> {
    let folder = match env::var("FREEZEFRAME_GUEST") {
        Ok(named) => Some(Utf8PathBuf::from(named)).filter(|folder| folder != ""),
        Err(_) => cache().map(|cache| cache.join("guest/current")).filter(|folder| folder.exists()),
    };
    folder.map(|folder| Guest::open(&folder)).transpose()
}

/// Where what was installed for the tests is.
fn cache() -> Option<Utf8PathBuf> {
    let cache = env::var("XDG_CACHE_HOME").map(Utf8PathBuf::from);
    let cache = cache.or_else(|_| env::var("HOME").map(|home| Utf8Path::new(&home).join(".cache")));
    cache.map(|cache| cache.join("freezeframe")).ok()
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
