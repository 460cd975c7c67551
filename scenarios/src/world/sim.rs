//! The simulated world: the simulator's machine, guest, storage and host as the runner acts on them.
//!
//! | module | what it has |
//! | --- | --- |
//! | [`env`] | the driver's door to it: sockets, time and files |
//! | [`simulator`] | playing scenarios in it, one after the other |

mod env;
mod simulator;

use std::{
    cell::{Ref, RefMut},
    collections::BTreeSet,
    io,
    rc::Rc,
    time::Duration,
};

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe_driver::{
    env::Endpoint,
    launch::{BuiltIn, Launcher, arguments::Accelerator},
};
use freezeframe_sim::{
    Machine,
    host::{Backing, Image},
    qemu::{GuestAct, GuestAction, run_state::RunState},
    stream::Sockets,
};

pub(crate) use self::env::RUNTIME;
pub use self::{
    env::{SimEnv, Time},
    simulator::Simulator,
};
use super::World;
use crate::{
    language::{self, Format, HostFile},
    oracle,
    play::CannotPlay,
};

/// Where the simulated monitors seem to listen: `/monitor0`, ..., beside the folder of the images.
const MONITOR: &str = "/monitor";

/// Where the simulated agent's port seems to listen: where QEMU says that it does, beside the folder of the images.
const AGENT: &str = "/port-agent";

/// What the simulated host knows as QEMU.
const QEMU: &str = "/simulated/bin/qemu-system-x86_64";

/// Where a simulated monitor listens, counted from 0.
pub(crate) fn monitor(number: usize) -> Endpoint {
    Endpoint::Unix(format!("{MONITOR}{number}").into())
}

/// Where the guest's agent is reached.
pub(crate) fn agent() -> Endpoint {
    Endpoint::Unix(AGENT.into())
}

/// What a guest writes where a scenario has it write.
const GUEST_WRITE: u64 = u64::MAX;

/// A simulated machine and the world around it.
#[derive(Debug, Clone)]
pub struct SimWorld<T> {
    env: SimEnv<T>,
    folder: Utf8PathBuf,
    /// The targets of the machine's disks.
    disks: Rc<[String]>,
}

impl<T: Time> SimWorld<T> {
    /// The world behind these sockets, with this time.
    pub fn new(machine: &Machine, sockets: Sockets, time: T) -> Self {
        let disks = machine.disks.iter().map(|disk| disk.target.clone()).collect();
        Self { env: SimEnv::new(sockets, time), folder: machine.folder.clone(), disks }
    }
}

impl<T: Time> World for SimWorld<T> {
    type Env = SimEnv<T>;

    fn env(&self) -> &SimEnv<T> {
        &self.env
    }

    fn monitor(&self) -> Endpoint {
        monitor(0)
    }

    fn control(&self) -> Endpoint {
        monitor(1)
    }

    fn agent(&self) -> Endpoint {
        agent()
    }

    fn folder(&self) -> &Utf8Path {
        &self.folder
    }

    async fn files(&self) -> io::Result<BTreeSet<String>> {
        let world = self.env.sockets.world();
        let files = world.host().files().filter_map(|(path, _)| path.strip_prefix(&self.folder).ok());
        Ok(files.map(ToString::to_string).collect())
    }

    async fn add_file(&self, file: &HostFile) -> Result<(), CannotPlay> {
        let image = match (file.format, file.size) {
            (_, None) => Image::raw(0),
            (Format::Raw, Some(size)) => Image::raw(size.bytes()),
            (Format::Qcow2, Some(size)) => Image::overlay(size.bytes(), file.backing.as_deref().map(backing)),
        };
        let path = self.folder.join(&file.name);
        let made = self.env.sockets.world_mut().host_mut().create_new(&path, image);
        made.map_err(|error| CannotPlay::new(format!("{path}: {error}")))
    }

    fn launcher(&self) -> Launcher {
        Launcher::BuiltIn(BuiltIn { binary: Some(QEMU.into()), accelerator: Some(Accelerator::Tcg) })
    }

    fn tool(&self) -> Utf8PathBuf {
        Utf8Path::new(QEMU).with_file_name("qemu-img")
    }

    async fn kill_qemu(&self) {
        self.env.sockets.kill_qemu();
    }

    fn fail_guest_write(&self, disk: &str) {
        if let Some(number) = self.disks.iter().position(|known| known == disk) {
            self.env.sockets.guest_does(GuestAct::WriteFails(number));
        }
    }

    fn fill(&self, file: &str) {
        self.env.sockets.world_mut().host_mut().set_full(&self.folder.join(file), true);
    }

    fn on_host(&self, act: &language::HostAct) {
        let mut world = self.env.sockets.world_mut();
        let storage = world.storage_mut();
        match act {
            language::HostAct::FillStorages => storage.set_full(true),
            language::HostAct::LeaveRoom(room) => storage.leave_room(room.bytes()),
            language::HostAct::Overflow(volume) => storage.overflow(volume),
            language::HostAct::Remove(volume) => storage.lose(volume),
        }
    }

    async fn hold(&self, file: &str) -> Result<(), CannotPlay> {
        let path = self.folder.join(file);
        let held = self.env.sockets.world_mut().host_mut().read_by_another(&path);
        held.map_err(|error| CannotPlay::new(format!("{path}: {error}")))
    }

    async fn in_guest(&self, act: language::GuestAct) -> Result<(), CannotPlay> {
        self.env.sockets.in_guest(match act {
            language::GuestAct::KillAgent => GuestAction::KillAgent,
            language::GuestAct::LoseAgent => GuestAction::LoseAgent,
            language::GuestAct::StartAgent => GuestAction::StartAgent,
            language::GuestAct::MuteAgent => GuestAction::MuteAgent,
            language::GuestAct::LetGo => GuestAction::LetGo,
            language::GuestAct::Write => {
                self.guest_writes();
                return Ok(());
            }
        });
        Ok(())
    }

    async fn is_frozen(&self) -> Result<bool, CannotPlay> {
        let world = self.env.sockets.world();
        let guest = world.qemu().guest().filter(|_| world.qemu_is_running());
        Ok(guest.is_some_and(|guest| guest.file_systems().iter().any(|known| known.frozen)))
    }
}

impl<T> SimWorld<T> {
    /// The simulated machine and its host, to be looked at. It must not be held across an `await`.
    pub fn world(&self) -> Ref<'_, freezeframe_sim::world::World> {
        self.env.sockets.world()
    }

    /// The same, to be changed.
    pub fn world_mut(&self) -> RefMut<'_, freezeframe_sim::world::World> {
        self.env.sockets.world_mut()
    }

    /// The time since the world began.
    pub fn now(&self) -> Duration
    where
        T: Time,
    {
        self.env.time.now()
    }

    /// The guest writes to each of its disks, if it runs and can.
    fn guest_writes(&self) {
        let mut world = self.world_mut();
        if !world.qemu_is_running() || world.qemu().run_state() != RunState::Running {
            return;
        }
        let (qemu, host) = (world.qemu(), world.host());
        let is_frozen = |disk: &str| qemu.guest().is_some_and(|guest| guest.is_frozen(disk));
        let devices = qemu.graph().devices().iter().filter(|device| !device.read_only);
        let devices = devices.filter(|device| !is_frozen(oracle::disk_of(&device.id)));
        let tops = devices.filter_map(|device| {
            qemu.graph().chain(&device.node).find_map(|node| qemu.graph().file_of(node))
        });
        let tops: Vec<_> = tops.map(|file| host.resolve(Utf8Path::new(file))).collect();
        for path in tops {
            if let Some(image) = world.host_mut().image_mut(&path) {
                image.write(0, GUEST_WRITE);
            }
        }
    }

    /// Lets something happen inside of the guest.
    pub(crate) fn guest_acts(&self, action: GuestAction) {
        self.env.sockets.in_guest(action);
    }

    /// Puts an image into a file of the host that was not there.
    ///
    /// # Panics
    /// If something is there.
    pub fn add_image(&self, path: &Utf8Path, image: Image) {
        let made = self.env.sockets.world_mut().host_mut().create_new(path, image);
        made.expect("nothing is there");
    }
}

/// A backing file beside the overlay, by its name alone.
fn backing(name: &str) -> Backing {
    Backing { file: name.into(), format: Some("qcow2".into()) }
}
