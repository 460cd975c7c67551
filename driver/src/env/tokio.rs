//! The real world through tokio: what names `tokio::{time, net, process, fs, task}` is here and below.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "this is the shell that the rest of the driver is kept from"
)]

use std::{
    cell::{Cell, RefCell},
    fs::File,
    future::Future,
    hash::{BuildHasher, RandomState},
    io::{self, IoSlice, Seek as _, SeekFrom},
    mem::MaybeUninit,
    os::{
        fd::AsFd as _,
        unix::fs::{FileExt as _, MetadataExt as _},
    },
    pin::Pin,
    rc::{Rc, Weak},
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, SystemTime},
};

use ::tokio::{
    fs,
    io::Interest,
    net::UnixStream,
    sync::watch,
    task,
    time::{Instant, sleep_until},
};
use camino::{Utf8Path, Utf8PathBuf};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::{
    Access, Endpoint, Env, FileId, FileKind, HostCommand, OpenFile, Ownership, Ran, files, image_lock,
};

mod group;
mod run;
mod runtime;

/// The real world. Use it inside a `tokio::task::LocalSet` or a local runtime.
#[derive(Debug, Clone)]
pub struct TokioEnv {
    start: Instant,
    /// Tells one process, and one start of it, from another.
    seed: u32,
    ids: Rc<Cell<u32>>,
    /// What programs hold too.
    with_programs: Rc<RefCell<Vec<Weak<File>>>>,
    /// Where the runtime folder may be, if not where the user's is.
    runtime: Option<Rc<[Utf8PathBuf]>>,
    /// Whether what is done is wanted no more.
    unwanted: Option<watch::Receiver<bool>>,
}

impl TokioEnv {
    /// The world as of now.
    pub fn new() -> Self {
        // The standard library's hasher is seeded by the system: enough for names, and no dependency.
        let seed = RandomState::new().hash_one(std::process::id());
        Self {
            start: Instant::now(),
            seed: seed as u32,
            ids: Rc::default(),
            with_programs: Rc::default(),
            runtime: None,
            unwanted: None,
        }
    }

    /// The same, in which programs that give way are ended as soon as this says that what is done is wanted no more.
    #[must_use]
    pub fn until_unwanted(self, unwanted: watch::Receiver<bool>) -> Self {
        Self { unwanted: Some(unwanted), ..self }
    }

    async fn is_unwanted(&self) {
        if let Some(unwanted) = &self.unwanted
            && unwanted.clone().wait_for(|unwanted| *unwanted).await.is_ok()
        {
            return;
        }
        // Nobody is left who could say so.
        std::future::pending().await
    }

    /// The same with a runtime folder of its own, the first of these that can be made and is the user's alone: for machines that
    /// nobody else can know of.
    #[must_use]
    pub fn with_runtime_folder(self, candidates: &[Utf8PathBuf]) -> Self {
        Self { runtime: Some(candidates.into()), ..self }
    }
}

impl Default for TokioEnv {
    fn default() -> Self {
        Self::new()
    }
}

/// Does what blocks beside the runtime's thread.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    task::spawn_blocking(work).await?
}

/// An open file of the real host.
#[derive(Debug, Clone)]
pub struct HostFile(Arc<File>);

impl HostFile {
    /// Does what blocks beside the runtime's thread.
    async fn beside<T: Send + 'static>(
        &self,
        work: impl FnOnce(&File) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let file = self.0.clone();
        beside(move || work(&file)).await
    }
}

impl OpenFile for HostFile {
    async fn length(&self) -> io::Result<u64> {
        // Seeking would tell it of a block device too, and move the position under whom the file was handed to.
        self.beside(|file| Ok(file.metadata()?.len())).await
    }

    async fn read_at(&self, at: u64, most: usize) -> io::Result<Vec<u8>> {
        self.beside(move |file| files::read_at(file, at, most)).await
    }

    async fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let bytes = bytes.to_owned();
        self.beside(move |file| file.write_all_at(&bytes, at)).await
    }

    async fn set_length(&self, length: u64) -> io::Result<()> {
        self.beside(move |file| file.set_len(length)).await
    }

    async fn seek(&self, position: u64) -> io::Result<()> {
        self.beside(move |mut file| file.seek(SeekFrom::Start(position)).map(drop)).await
    }

    async fn sync(&self) -> io::Result<()> {
        self.beside(File::sync_all).await
    }
}

impl Env for TokioEnv {
    type Io = UnixStream;
    type Lock = Rc<File>;
    type File = HostFile;

    async fn connect(&self, endpoint: &Endpoint) -> io::Result<UnixStream> {
        match endpoint {
            Endpoint::Unix(path) => UnixStream::connect(path.as_std_path()).await,
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep_until(&self, deadline: Duration) -> impl Future<Output = ()> + 'static {
        sleep_until(self.start + deadline)
    }

    fn spawn_local(&self, task: impl Future<Output = ()> + 'static) {
        task::spawn_local(task);
    }

    fn unique_id(&self) -> String {
        let number = self.ids.get();
        self.ids.set(number.wrapping_add(1));
        format!("{:08x}", self.seed.wrapping_add(number))
    }

    fn seconds(&self) -> i64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
    }

    async fn file_kind(&self, path: &Utf8Path) -> io::Result<FileKind> {
        let path = path.to_owned();
        beside(move || files::kind(&path)).await
    }

    async fn canonical(&self, path: &Utf8Path) -> io::Result<Utf8PathBuf> {
        Utf8PathBuf::try_from(fs::canonicalize(path).await?).map_err(|error| error.into_io_error())
    }

    async fn identity(&self, path: &Utf8Path) -> io::Result<FileId> {
        let found = fs::metadata(path).await?;
        Ok(FileId::Inode { device: found.dev(), inode: found.ino() })
    }

    async fn run(&self, command: &HostCommand) -> io::Result<Ran> {
        let held = self.with_programs.borrow().iter().filter_map(Weak::upgrade).collect();
        match command.gives_way {
            true => run::run(command, held, self.is_unwanted()).await,
            false => run::run(command, held, std::future::pending()).await,
        }
    }

    async fn create_new(&self, path: &Utf8Path, ownership: &Ownership) -> io::Result<()> {
        let (path, ownership) = (path.to_owned(), ownership.clone());
        beside(move || files::create_new(&path, &ownership)).await
    }

    async fn image_in_use(&self, path: &Utf8Path) -> io::Result<bool> {
        let path = path.to_owned();
        beside(move || image_lock::is_held(&path)).await
    }

    async fn remove_file(&self, path: &Utf8Path) -> io::Result<()> {
        fs::remove_file(path).await
    }

    async fn create_folder(&self, path: &Utf8Path) -> io::Result<()> {
        let path = path.to_owned();
        beside(move || files::create_folder(&path)).await
    }

    async fn list_folder(&self, path: &Utf8Path) -> io::Result<Vec<String>> {
        let path = path.to_owned();
        beside(move || files::list_folder(&path)).await
    }

    async fn read_file(&self, path: &Utf8Path, most: usize) -> io::Result<Vec<u8>> {
        let path = path.to_owned();
        beside(move || files::read_file(&path, most)).await
    }

    async fn replace_file(&self, path: &Utf8Path, bytes: &[u8]) -> io::Result<()> {
        let (path, bytes) = (path.to_owned(), bytes.to_owned());
        beside(move || files::replace_file(&path, &bytes)).await
    }

    async fn lock(&self, path: &Utf8Path) -> io::Result<Self::Lock> {
        let path = path.to_owned();
        beside(move || files::lock(&path)).await.map(Rc::new)
    }

    async fn lock_with_programs(&self, path: &Utf8Path) -> io::Result<Self::Lock> {
        let lock = self.lock(path).await?;
        let mut held = self.with_programs.borrow_mut();
        held.retain(|other| other.strong_count() > 0);
        held.push(Rc::downgrade(&lock));
        Ok(lock)
    }

    async fn runtime_folder(&self) -> io::Result<Utf8PathBuf> {
        let candidates = self.runtime.as_ref().map_or_else(runtime::candidates, |own| own.to_vec());
        beside(move || runtime::first_of(&candidates)).await
    }

    async fn open(&self, path: &Utf8Path, access: Access) -> io::Result<HostFile> {
        let path = path.to_owned();
        beside(move || files::open(&path, access)).await.map(|file| HostFile(Arc::new(file)))
    }

    fn poll_write_with_file(
        &self,
        io: Pin<&mut UnixStream>,
        cx: &mut Context<'_>,
        bytes: &[u8],
        file: &HostFile,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(io.poll_write_ready(cx))?;
            let sent = io.try_io(Interest::WRITABLE, || {
                let descriptors = [file.0.as_fd()];
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                control.push(SendAncillaryMessage::ScmRights(&descriptors));
                Ok(sendmsg(&*io, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
            });
            match sent {
                // It was not ready after all.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }
}
