//! Where a scenario is played: the simulator, or a real QEMU. The same play runs in both.

pub(crate) mod process;
pub mod qemu;
pub mod sim;

use std::{collections::BTreeSet, io};

use camino::Utf8Path;
use freezeframe_driver::{
    env::{Endpoint, Env},
    launch::Launcher,
};

use crate::{language::HostFile, play::CannotPlay};

/// A machine that stands ready, and the world around it.
#[allow(async_fn_in_trait, reason = "one thread: no caller wants a Send bound")]
pub trait World {
    /// How the driver reaches it.
    type Env: Env;

    /// How the driver reaches it.
    fn env(&self) -> &Self::Env;

    /// The monitor that the driver uses.
    fn monitor(&self) -> Endpoint;

    /// A second monitor: for what another client does meanwhile, and to look at the end.
    fn control(&self) -> Endpoint;

    /// The host's side of the guest agent's port.
    fn agent(&self) -> Endpoint;

    /// The folder that holds the machine's images.
    fn folder(&self) -> &Utf8Path;

    /// The names of the files in that folder.
    ///
    /// # Errors
    /// When the folder cannot be read.
    async fn files(&self) -> io::Result<BTreeSet<String>>;

    /// Puts a file into that folder that was not there.
    ///
    /// # Errors
    /// When it cannot be made.
    async fn add_file(&self, file: &HostFile) -> Result<(), CannotPlay>;

    /// Who starts and stops the machine for the driver.
    fn launcher(&self) -> Launcher;

    /// Kills QEMU, as SIGKILL does, and waits until it is dead.
    async fn kill_qemu(&self);
}
