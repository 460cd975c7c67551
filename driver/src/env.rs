//! The one door between the driver and everything outside it.
//!
//! The driver never opens a socket, reads a clock, starts a task or touches a file by itself: it asks its
//! [`Env`]. That is what lets the same driver run on a real machine ([`tokio::TokioEnv`]) and inside a
//! simulated world, and lets a run be repeated bit for bit.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use ::tokio::io::{AsyncRead, AsyncWrite};
use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

mod command;
#[cfg(feature = "tokio-env")]
mod files;
#[cfg(feature = "tokio-env")]
mod image_lock;
#[cfg(feature = "tokio-env")]
pub mod tokio;

pub use command::{Ended, HostCommand, Ran};

/// Where a monitor or an agent listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A unix socket in the file system.
    Unix(Utf8PathBuf),
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(f, "{path}"),
        }
    }
}

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// Nothing.
    Absent,
    /// A regular file.
    File {
        /// Its size.
        bytes: u64,
    },
    /// A block device.
    Device,
    /// A folder.
    Folder,
    /// Something else: a socket, a pipe ...
    Other,
}

/// Which file of the host it is: two paths that have it in common lead to one, be it by a link of either kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileId {
    /// Where the file system keeps it.
    Inode {
        /// The file system's device.
        device: u64,
        /// The file's number there.
        inode: u64,
    },
    /// What it is called, on a host without hard links.
    Name(Utf8PathBuf),
}

/// For what a file of the host is opened. It is never made by opening it, and a symbolic link is not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// To be read.
    Read,
    /// To be read and written.
    Write,
}

/// Whose a file is that is made. QEMU need not run as the user who makes it: libvirt's runs as `libvirt-qemu`, and root drives it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ownership {
    /// It is its maker's, and nobody else may read it.
    #[default]
    Own,
    /// It is whose this image is, and who may read and write that may read and write it. Where that cannot be had, whoever has the
    /// image by its group or as anybody has the file too; or else it is not made. It is its maker's where no such image can be looked at.
    OfImage(Utf8PathBuf),
    /// The same, but only its owner and its group may read it, and it is made wherever a file can be made: it holds what the guest
    /// has in its memory, and QEMU may get it opened.
    OfMemory(Utf8PathBuf),
}

impl Ownership {
    /// Whether it is its maker's.
    pub fn is_own(&self) -> bool {
        *self == Ownership::Own
    }
}

/// An open file of the host. Clones are the same open file; it closes with the last of them.
#[allow(async_fn_in_trait, reason = "one thread: no caller wants a Send bound")]
pub trait OpenFile: Clone + 'static {
    /// Its length in bytes.
    async fn length(&self) -> io::Result<u64>;

    /// The bytes from `at` on, `most` at most; fewer only where the file ends.
    async fn read_at(&self, at: u64, most: usize) -> io::Result<Vec<u8>>;

    /// Writes all of `bytes` from `at` on.
    async fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes the file so long in bytes, or so short.
    async fn set_length(&self, length: u64) -> io::Result<()>;

    /// Where a program that is handed this file begins to read or write: all who share it share its position.
    async fn seek(&self, position: u64) -> io::Result<()>;

    /// Waits until all that was written to the file, by whomever, outlives the host's death.
    async fn sync(&self) -> io::Result<()>;
}

/// What the driver needs of the world. One thread: nothing here is `Send`.
#[allow(async_fn_in_trait, reason = "one thread: no caller wants a Send bound")]
pub trait Env: Clone + Unpin + 'static {
    /// A connected byte stream. Dropping it closes the connection.
    type Io: AsyncRead + AsyncWrite + Unpin + 'static;

    /// A lock on a file, held until it is dropped or its process ends.
    type Lock: 'static;

    /// An open file.
    type File: OpenFile;

    /// Connects to a monitor or an agent.
    async fn connect(&self, endpoint: &Endpoint) -> io::Result<Self::Io>;

    /// The time since some fixed moment. Never goes back.
    fn now(&self) -> Duration;

    /// Waits until [`Env::now`] has reached `deadline`.
    fn sleep_until(&self, deadline: Duration) -> impl Future<Output = ()> + 'static;

    /// Starts a task on this thread. It is dropped, wherever it stands, with the world it runs in.
    fn spawn_local(&self, task: impl Future<Output = ()> + 'static);

    /// A short word, `[a-z0-9]+`, that this call alone returns: for names of jobs, nodes and files.
    fn unique_id(&self) -> String;

    /// The time of day, in seconds since 1970 (UTC): for records, never for waiting.
    fn seconds(&self) -> i64;

    /// What is at a path; symbolic links are followed, for the question is what QEMU would open.
    async fn file_kind(&self, path: &Utf8Path) -> io::Result<FileKind>;

    /// The one name of what is at a path: from the root, and without symbolic links. Two paths that have it in common lead to one file.
    ///
    /// # Errors
    /// Nothing is there, or nobody may look.
    async fn canonical(&self, path: &Utf8Path) -> io::Result<Utf8PathBuf>;

    /// Which file is at a path, by whatever name; symbolic links are followed.
    ///
    /// # Errors
    /// Nothing is there, or nobody may look.
    async fn identity(&self, path: &Utf8Path) -> io::Result<FileId>;

    /// Runs a program to its end, and ends it if its time is up; or, one that gives way, as soon as whoever wants the operation has
    /// asked for its end. It is asked first, and killed later: [`HostCommand::within`]. What it has left running in the background lives on.
    ///
    /// If this is dropped, nobody is left who could wait: a program that acts is asked to end, and keeps its locks until it has
    /// ([`Env::lock_with_programs`]); another one is killed.
    ///
    /// # Errors
    /// If it cannot be started, [`io::ErrorKind::NotFound`] above all, or says more than [`HostCommand::OUTPUT_MAX`].
    async fn run(&self, command: &HostCommand) -> io::Result<Ran>;

    /// Creates an empty file that nobody else has: fails with [`io::ErrorKind::AlreadyExists`] rather than
    /// open what is there, a dangling symbolic link included. Of one that cannot be made what `ownership` says nothing is left.
    async fn create_new(&self, path: &Utf8Path, ownership: &Ownership) -> io::Result<()>;

    /// Whether a process has an image open, this one's QEMU or another's, be it only to read it: QEMU and its tools lock what they open,
    /// and it is asked for any such lock. None is taken. Who opens a file without a lock is not seen.
    ///
    /// # Errors
    /// Nothing is there, or nobody may look.
    async fn image_in_use(&self, path: &Utf8Path) -> io::Result<bool>;

    /// Removes one file, and nothing else.
    async fn remove_file(&self, path: &Utf8Path) -> io::Result<()>;

    /// Makes a folder that only its owner may enter, and those above it; one that is there stays as it is.
    async fn create_folder(&self, path: &Utf8Path) -> io::Result<()>;

    /// The names in a folder, in their order as texts. Names that are no text are passed over: none of ours is.
    async fn list_folder(&self, path: &Utf8Path) -> io::Result<Vec<String>>;

    /// What a file holds. A symbolic link is not followed, and one that holds more than `most` bytes is
    /// [`io::ErrorKind::FileTooLarge`].
    async fn read_file(&self, path: &Utf8Path, most: usize) -> io::Result<Vec<u8>>;

    /// Puts `bytes` in the place of what a file holds, whole and durably: whenever the host dies, the file then holds the one
    /// or the other. Whose it is and who may read or write it stays as it was, as far as may be; a new one is its owner's alone.
    async fn replace_file(&self, path: &Utf8Path, bytes: &[u8]) -> io::Result<()>;

    /// Locks a file, made for it if need be, against every other that asks: [`io::ErrorKind::WouldBlock`] if somebody has it.
    async fn lock(&self, path: &Utf8Path) -> io::Result<Self::Lock>;

    /// The same; and each program that is run with [`HostCommand::acts`] while it is held, by this process, holds it too, with all that it
    /// starts in turn. Should the process be killed, the lock is free when the last of them has ended.
    async fn lock_with_programs(&self, path: &Utf8Path) -> io::Result<Self::Lock>;

    /// A folder of this user's alone, the same for all of the user's processes and made if it is not there. What is in it need not
    /// outlive the host.
    async fn runtime_folder(&self) -> io::Result<Utf8PathBuf>;

    /// Opens a file that is there.
    async fn open(&self, path: &Utf8Path, access: Access) -> io::Result<Self::File>;

    /// Writes to a connection as `poll_write` does, and hands over an open file with the first byte (`SCM_RIGHTS`).
    fn poll_write_with_file(
        &self,
        io: Pin<&mut Self::Io>,
        cx: &mut Context<'_>,
        bytes: &[u8],
        file: &Self::File,
    ) -> Poll<io::Result<usize>>;
}

/// Which file it is; of what is not there, or may not be looked at, the name that it is called by.
pub(crate) async fn identity<E: Env>(env: &E, path: &Utf8Path) -> FileId {
    env.identity(path).await.unwrap_or_else(|_| FileId::Name(path.to_owned()))
}

/// The one name of a file that may have several; of what is not there, or may not be looked for, the name that it is called by.
pub(crate) async fn one_name<E: Env>(env: &E, path: &Utf8Path) -> Utf8PathBuf {
    env.canonical(path).await.unwrap_or_else(|_| path.to_owned())
}
