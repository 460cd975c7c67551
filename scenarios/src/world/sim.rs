//! The simulated world: gives the driver an [`Env`] whose sockets, time and files are the simulator's.
//!
//! Whose time it is, is left open ([`Time`]): the simulator's own executor by default, or any other runtime that lets
//! the world's time pass, such as tokio with a paused clock. What is said must be the same under each.

use std::{
    cell::{Cell, Ref, RefMut},
    collections::{BTreeMap, BTreeSet},
    future::Future,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use camino::{Utf8Component, Utf8Path, Utf8PathBuf};
use freezeframe_driver::{
    capabilities::Capabilities,
    env::{Access, Ended, Endpoint, Env, FileKind, HostCommand, OpenFile, Ran},
    launch::{BuiltIn, Launcher, arguments::Accelerator},
};
use freezeframe_sim::{
    Machine, Oracle, Port, Release, Simulation,
    exec::Spawner,
    host::{Backing, Descriptor, Host, Image},
    oracle::Trace,
    qemu::{GuestAct, GuestAction, run_state::RunState},
    stream::{Sockets, Stream},
};

use rustix::io::Errno;

use super::World;
use crate::{
    language::{self, Format, HostFile, Scenario},
    machine, oracle,
    play::{self, CannotPlay, Run, Watch},
    serve::qcow2,
};

/// Where the simulated monitors seem to listen: `/monitor0`, ..., beside the folder of the images.
const MONITOR: &str = "/monitor";

/// Where the simulated agent's port seems to listen: where QEMU says that it does, beside the folder of the images.
const AGENT: &str = "/port-agent";

/// The driver's runtime folder on the simulated host, which holds its locks.
pub(crate) const RUNTIME: &str = "/run/freezeframe";

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

/// Time and tasks in a simulated world.
pub trait Time: Clone + Unpin + 'static {
    /// The time since the world began.
    fn now(&self) -> Duration;

    /// Waits until [`Time::now`] has reached `deadline`.
    fn sleep_until(&self, deadline: Duration) -> impl Future<Output = ()> + 'static;

    /// Starts a task on this thread.
    fn spawn_local(&self, task: impl Future<Output = ()> + 'static);
}

impl Time for Spawner {
    fn now(&self) -> Duration {
        Spawner::now(self)
    }

    fn sleep_until(&self, deadline: Duration) -> impl Future<Output = ()> + 'static {
        Spawner::sleep_until(self, deadline)
    }

    fn spawn_local(&self, task: impl Future<Output = ()> + 'static) {
        Spawner::spawn_local(self, "driver", task);
    }
}

/// The driver's door to a simulated world.
#[derive(Debug, Clone)]
pub struct SimEnv<T> {
    sockets: Sockets,
    time: T,
}

/// A lock on a file of the simulated host.
#[derive(Debug)]
pub struct SimLock {
    sockets: Sockets,
    path: Utf8PathBuf,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.sockets.world_mut().host_mut().unlock(&self.path);
    }
}

/// An open file of the simulated host. What has been removed meanwhile is not there any more.
#[derive(Debug, Clone)]
pub struct SimFile {
    sockets: Sockets,
    path: Utf8PathBuf,
    position: Rc<Cell<u64>>,
}

impl OpenFile for SimFile {
    async fn length(&self) -> io::Result<u64> {
        let length = self.sockets.world().host().length(&self.path);
        length.ok_or_else(|| in_the_systems_words(io::ErrorKind::NotFound.into()))
    }

    async fn read_at(&self, at: u64, most: usize) -> io::Result<Vec<u8>> {
        let world = self.sockets.world();
        // An image has a header and says where it holds data, as a program would find it.
        let header = match world.host().image(&self.path) {
            Some(image @ Image::Qcow2(inside)) => qcow2::bytes_with_parts(inside, image.blocks()),
            _ => None,
        };
        let Some(header) = header else { return Ok(world.host().read_at(&self.path, at, most)) };
        let rest = usize::try_from(at).ok().and_then(|at| header.get(at..)).unwrap_or_default();
        Ok(rest[..rest.len().min(most)].to_owned())
    }

    async fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut world = self.sockets.world_mut();
        world.host_mut().write_document(&self.path, at, bytes).map_err(in_the_systems_words)
    }

    async fn set_length(&self, length: u64) -> io::Result<()> {
        let mut world = self.sockets.world_mut();
        world.host_mut().set_length(&self.path, length).map_err(in_the_systems_words)
    }

    async fn seek(&self, position: u64) -> io::Result<()> {
        self.position.set(position);
        Ok(())
    }

    async fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

impl<T: Time> Env for SimEnv<T> {
    type Io = Stream;
    type Lock = SimLock;
    type File = SimFile;

    async fn connect(&self, endpoint: &Endpoint) -> io::Result<Stream> {
        let Endpoint::Unix(path) = endpoint;
        // A QEMU that is only asked what it can do listens beside: of that one, too, the number alone counts.
        let number = path.as_str().strip_prefix(MONITOR).map(|number| number.trim_end_matches(".asked"));
        let number = number.and_then(|number| number.parse().ok());
        let port = match number {
            Some(number) => Port::Monitor(number),
            None if path == AGENT => Port::Agent,
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        self.sockets
            .connect(port)
            .map_err(|refused| io::Error::new(io::ErrorKind::ConnectionRefused, refused))
    }

    fn now(&self) -> Duration {
        self.time.now()
    }

    fn sleep_until(&self, deadline: Duration) -> impl Future<Output = ()> + 'static {
        self.time.sleep_until(deadline)
    }

    fn spawn_local(&self, task: impl Future<Output = ()> + 'static) {
        self.time.spawn_local(task);
    }

    fn unique_id(&self) -> String {
        // The runner's record hands out its own, the same in every world.
        "sim".to_owned()
    }

    /// The day on which every simulated world begins: 2026-01-01.
    fn seconds(&self) -> i64 {
        1_767_225_600 + i64::try_from(self.time.now().as_secs()).unwrap_or(i64::MAX / 2)
    }

    async fn file_kind(&self, path: &Utf8Path) -> io::Result<FileKind> {
        let world = self.sockets.world();
        let host = world.host();
        Ok(match (host.image(path), host.document(path)) {
            (Some(_), _) if Host::is_device(path) => FileKind::Device,
            (Some(image), _) => FileKind::File { bytes: image.file_length() },
            (_, Some(document)) => FileKind::File { bytes: document.len() as u64 },
            _ if host.is_folder(path) => FileKind::Folder,
            _ => FileKind::Absent,
        })
    }

    /// The simulated host has no links, so that `..` takes back what stands before it.
    async fn canonical(&self, path: &Utf8Path) -> io::Result<Utf8PathBuf> {
        let world = self.sockets.world();
        let host = world.host();
        let mut real = Utf8PathBuf::new();
        for part in host.resolve(path).components() {
            match part {
                Utf8Component::ParentDir => drop(real.pop()),
                part => real.push(part),
            }
        }
        match host.length(&real).is_some() || host.is_folder(&real) {
            true => Ok(real),
            false => Err(Errno::NOENT.into()),
        }
    }

    async fn image_in_use(&self, path: &Utf8Path) -> io::Result<bool> {
        let world = self.sockets.world();
        match world.host().length(path) {
            Some(_) => Ok(world.image_in_use(path)),
            None => Err(Errno::NOENT.into()),
        }
    }

    async fn run(&self, command: &HostCommand) -> io::Result<Ran> {
        let ran = self
            .sockets
            .run_program(&command.program, &command.arguments, command.input.as_deref().unwrap_or_default())
            .ok_or(Errno::NOENT)?;
        self.time.sleep_until(self.time.now() + ran.takes.min(command.within)).await;
        let ended = if ran.takes > command.within { Ended::TooLate } else { Ended::Exited(ran.exit) };
        Ok(Ran { ended, stdout: ran.stdout.into_bytes(), stderr: ran.stderr.into_bytes() })
    }

    async fn create_new(&self, path: &Utf8Path) -> io::Result<()> {
        self.sockets.world_mut().host_mut().create_new(path, Image::raw(0)).map_err(in_the_systems_words)
    }

    async fn remove_file(&self, path: &Utf8Path) -> io::Result<()> {
        self.sockets.world_mut().host_mut().remove(path).map_err(in_the_systems_words)
    }

    async fn create_folder(&self, path: &Utf8Path) -> io::Result<()> {
        self.sockets.world_mut().host_mut().add_folder(path);
        Ok(())
    }

    async fn list_folder(&self, path: &Utf8Path) -> io::Result<Vec<String>> {
        self.sockets.world_mut().host_mut().names(path).map_err(in_the_systems_words)
    }

    async fn read_file(&self, path: &Utf8Path, most: usize) -> io::Result<Vec<u8>> {
        let mut world = self.sockets.world_mut();
        match world.host_mut().document(path) {
            None => Err(in_the_systems_words(io::ErrorKind::NotFound.into())),
            Some(bytes) if bytes.len() > most => Err(io::ErrorKind::FileTooLarge.into()),
            Some(bytes) => Ok(bytes.to_owned()),
        }
    }

    async fn replace_file(&self, path: &Utf8Path, bytes: &[u8]) -> io::Result<()> {
        self.sockets.world_mut().host_mut().replace_document(path, bytes).map_err(in_the_systems_words)
    }

    async fn lock(&self, path: &Utf8Path) -> io::Result<SimLock> {
        self.sockets.world_mut().host_mut().lock(path).map_err(in_the_systems_words)?;
        Ok(SimLock { sockets: self.sockets.clone(), path: path.to_owned() })
    }

    /// What a simulated program does it has done at once: none outlives its driver.
    async fn lock_with_programs(&self, path: &Utf8Path) -> io::Result<SimLock> {
        self.lock(path).await
    }

    async fn runtime_folder(&self) -> io::Result<Utf8PathBuf> {
        self.sockets.world_mut().host_mut().add_folder(Utf8Path::new(RUNTIME));
        Ok(RUNTIME.into())
    }

    async fn open(&self, path: &Utf8Path, _: Access) -> io::Result<SimFile> {
        if self.sockets.world().host().length(path).is_none() {
            return Err(in_the_systems_words(io::ErrorKind::NotFound.into()));
        }
        Ok(SimFile { sockets: self.sockets.clone(), path: path.to_owned(), position: Rc::default() })
    }

    fn poll_write_with_file(
        &self,
        io: Pin<&mut Stream>,
        cx: &mut Context<'_>,
        bytes: &[u8],
        file: &SimFile,
    ) -> Poll<io::Result<usize>> {
        let descriptor = Descriptor::File { path: file.path.clone(), position: file.position.get() };
        io.poll_write_with_descriptor(cx, bytes, descriptor)
    }
}

/// A backing file beside the overlay, by its name alone.
fn backing(name: &str) -> Backing {
    Backing { file: name.into(), format: Some("qcow2".into()) }
}

/// The simulated host knows kinds of errors; a real one has a number and words for each.
fn in_the_systems_words(error: io::Error) -> io::Error {
    let number = match error.kind() {
        io::ErrorKind::NotFound => Errno::NOENT,
        io::ErrorKind::AlreadyExists => Errno::EXIST,
        io::ErrorKind::IsADirectory => Errno::ISDIR,
        io::ErrorKind::StorageFull => Errno::NOSPC,
        _ => return error,
    };
    io::Error::from(number)
}

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
        Self { env: SimEnv { sockets, time }, folder: machine.folder.clone(), disks }
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

/// What a guest writes where a scenario has it write.
const GUEST_WRITE: u64 = u64::MAX;

/// Plays scenarios on the simulator, one after the other. It remembers what each release can do, as it remembers it of
/// a real binary.
#[derive(Debug, Default)]
pub struct Simulator {
    capabilities: BTreeMap<Release, Rc<Capabilities>>,
    /// The release of every guest's agent, where it is not QEMU's own.
    agent: Option<Release>,
}

impl Simulator {
    /// A simulator that has asked nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives every guest an agent of this release instead of QEMU's own.
    #[must_use]
    pub fn with_agent(mut self, release: Release) -> Self {
        self.agent = Some(release);
        self
    }

    /// Plays a scenario on a release.
    ///
    /// # Errors
    /// [`CannotPlay`].
    pub fn play(&mut self, scenario: &Scenario, release: Release, oracle: Oracle) -> Result<Run, CannotPlay> {
        self.play_traced(scenario, release, oracle).map(|(run, _)| run)
    }

    /// Plays a scenario on a release, and tells what made this run differ from the default.
    ///
    /// # Errors
    /// [`CannotPlay`].
    pub fn play_traced(
        &mut self,
        scenario: &Scenario,
        release: Release,
        oracle: Oracle,
    ) -> Result<(Run, Trace), CannotPlay> {
        let capabilities = self.capabilities(release)?;
        let machine = self.machine(scenario);
        let simulation = Simulation::new(&machine, release, oracle);
        let mut run =
            within(&simulation, &machine, async |world| play::play(scenario, &world, capabilities).await)?;
        run.findings
            .extend(simulation.world().check_invariants().err().into_iter().flat_map(|broken| broken.0));
        Ok((run, simulation.trace()))
    }

    /// Plays a scenario on a release while somebody looks on, who is made of the world that it is played in. The oracle stays
    /// in that world.
    ///
    /// # Errors
    /// [`CannotPlay`].
    pub fn play_watched(
        &mut self,
        scenario: &Scenario,
        release: Release,
        oracle: Oracle,
        watch: impl FnOnce(SimWorld<Spawner>) -> Rc<dyn Watch>,
    ) -> Result<Run, CannotPlay> {
        let capabilities = self.capabilities(release)?;
        let machine = self.machine(scenario);
        let simulation = Simulation::new(&machine, release, oracle);
        within(&simulation, &machine, async |world| {
            let watch = watch(world.clone());
            play::play_watched(scenario, &world, capabilities, Some(watch)).await
        })
    }

    fn machine(&self, scenario: &Scenario) -> Machine {
        let mut machine = machine::of(scenario);
        if let Some(agent) = &mut machine.agent {
            agent.release = self.agent.or(agent.release);
        }
        machine
    }

    /// What a release can do, asked once.
    ///
    /// # Errors
    /// [`CannotPlay`].
    pub fn capabilities(&mut self, release: Release) -> Result<Rc<Capabilities>, CannotPlay> {
        if let Some(known) = self.capabilities.get(&release) {
            return Ok(known.clone());
        }
        let machine = Machine::new();
        let simulation = Simulation::new(&machine, release, Oracle::default_order());
        let asked = within(&simulation, &machine, async |world| play::capabilities(&world).await)?;
        Ok(self.capabilities.entry(release).or_insert(Rc::new(asked)).clone())
    }
}

/// Runs something in a simulated world until it is done.
fn within<R>(
    simulation: &Simulation,
    machine: &Machine,
    act: impl AsyncFnOnce(SimWorld<Spawner>) -> Result<R, CannotPlay>,
) -> Result<R, CannotPlay> {
    let handle = simulation.handle();
    let world = SimWorld::new(machine, handle.sockets(), handle.spawner());
    simulation.run(act(world)).map_err(|deadlock| CannotPlay::new(deadlock.to_string()))?
}
