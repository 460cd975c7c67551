//! The driver's door to the simulated world: an [`Env`] whose sockets, time and files are the simulator's.
//!
//! Whose time it is, is left open ([`Time`]): the simulator's own executor by default, or any other runtime that lets
//! the world's time pass, such as tokio with a paused clock. What is said must be the same under each.

use std::{
    cell::Cell,
    future::Future,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use camino::{Utf8Component, Utf8Path, Utf8PathBuf};
use freezeframe_driver::env::{
    Access, Ended, Endpoint, Env, FileId, FileKind, HostCommand, OpenFile, Ownership, Ran,
};
use freezeframe_sim::{
    Port,
    exec::Spawner,
    host::{Descriptor, Host, Image},
    stream::{Sockets, Stream},
};
use rustix::io::Errno;

use super::{AGENT, MONITOR};
use crate::serve::qcow2;

/// The driver's runtime folder on the simulated host, which holds its locks.
pub(crate) const RUNTIME: &str = "/run/freezeframe";

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
    pub(super) sockets: Sockets,
    pub(super) time: T,
}

impl<T> SimEnv<T> {
    pub(super) fn new(sockets: Sockets, time: T) -> Self {
        Self { sockets, time }
    }
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

    async fn identity(&self, path: &Utf8Path) -> io::Result<FileId> {
        self.canonical(path).await.map(FileId::Name)
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

    async fn create_new(&self, path: &Utf8Path, _ownership: &Ownership) -> io::Result<()> {
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
