//! The real world through tokio: what names `tokio::{time, net, process, fs, task}` is here and below.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "this is the shell that the rest of the driver is kept from"
)]

use std::{
    cell::Cell,
    future::Future,
    hash::{BuildHasher, RandomState},
    io,
    rc::Rc,
    time::{Duration, SystemTime},
};

use ::tokio::{
    fs,
    net::UnixStream,
    task,
    time::{Instant, sleep_until},
};
use camino::Utf8Path;

use super::{Endpoint, Env, FileKind, HostCommand, Ran, files};

mod run;

/// The real world. Use it inside a `tokio::task::LocalSet` or a local runtime.
#[derive(Debug, Clone)]
pub struct TokioEnv {
    start: Instant,
    /// Tells one process, and one start of it, from another.
    seed: u32,
    ids: Rc<Cell<u32>>,
}

impl TokioEnv {
    /// The world as of now.
    pub fn new() -> Self {
        // The standard library's hasher is seeded by the system: enough for names, and no dependency.
        let seed = RandomState::new().hash_one(std::process::id());
        Self { start: Instant::now(), seed: seed as u32, ids: Rc::default() }
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

impl Env for TokioEnv {
    type Io = UnixStream;
    type Lock = std::fs::File;

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

    async fn run(&self, command: &HostCommand) -> io::Result<Ran> {
        run::run(command).await
    }

    async fn create_new(&self, path: &Utf8Path) -> io::Result<()> {
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true).mode(0o600).open(path).await.map(drop)
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
        beside(move || files::lock(&path)).await
    }
}
