//! Where a scenario is played: the simulator, or a real QEMU. The same play runs in both.

pub mod guest;
pub(crate) mod process;
pub mod qemu;
mod reader;
pub mod sim;

use std::{collections::BTreeSet, io};

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe_driver::{
    env::{Endpoint, Env},
    launch::Launcher,
};

use crate::{
    language::{GuestAct, HostAct, HostFile},
    play::CannotPlay,
};

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

    /// The `qemu-img` of its release.
    fn tool(&self) -> Utf8PathBuf;

    /// Kills QEMU, as SIGKILL does, and waits until it is dead.
    async fn kill_qemu(&self);

    /// Lets the guest write to a disk as if the host had no space left. A real guest would have to be told to: scenarios with
    /// it are for the simulator alone.
    fn fail_guest_write(&self, disk: &str);

    /// Leaves the host no space for a file of that folder. A real host would need a file system of its own for it: scenarios
    /// with it are for the simulator alone.
    fn fill(&self, file: &str);

    /// Lets something happen on the host. A real one would have to be given storages for it: scenarios with it are for the simulator
    /// alone.
    fn on_host(&self, act: &HostAct);

    /// Another program opens an image of that folder, only to read it, and has it open as long as the world is there.
    ///
    /// # Errors
    /// When it cannot.
    async fn hold(&self, file: &str) -> Result<(), CannotPlay>;

    /// Lets something happen inside of the guest.
    ///
    /// # Errors
    /// When nobody in the guest could do it.
    async fn in_guest(&self, act: GuestAct) -> Result<(), CannotPlay>;

    /// Whether a file system of the guest is frozen, by whomever.
    ///
    /// # Errors
    /// When it cannot be found out.
    async fn is_frozen(&self) -> Result<bool, CannotPlay>;
}
