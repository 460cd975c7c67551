//! An [`Env`] around another that notes all that passes, and lets faults strike on the way.
//!
//! It sits where the driver meets the world, so the same recording and the same faults work in the simulator and on a
//! real QEMU. What it notes is what the driver saw.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::Future,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe_driver::{
    env::{Access, Ended, Endpoint, Env, FileId, FileKind, HostCommand, OpenFile, Ownership, Ran},
    journal,
};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

use crate::{
    interpose::{
        self, Faults,
        aim::{self, Side},
    },
    language::{FaultKind, HostError, Point},
    life::Life,
    transcript::{Entry, Record},
};

/// How much may be under way between driver and interposer.
const PIPE: usize = 64 << 10;

/// How long a line may get before it is noted in pieces: who never ends one must not fill the memory.
const LINE_MAX: usize = 4 << 20;

/// An [`Env`] around another that notes all that passes.
pub struct Recorded<E: Env> {
    inner: E,
    record: Record,
    /// None: nothing goes wrong, and nothing stands between.
    faults: Option<Faults<E>>,
    /// Where the guest's agent is reached: what is said there has a lane of its own.
    agent: Option<Endpoint>,
    ids: Rc<Cell<u32>>,
    /// The life of the driver whose world it is; none where nothing kills it.
    life: Option<Life>,
}

impl<E: Env> Clone for Recorded<E> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            record: self.record.clone(),
            faults: self.faults.clone(),
            agent: self.agent.clone(),
            ids: self.ids.clone(),
            life: self.life.clone(),
        }
    }
}

impl<E: Env> Recorded<E> {
    /// Around `inner`.
    pub fn new(inner: E, record: Record, faults: Option<Faults<E>>) -> Self {
        let life = faults.as_ref().map(Faults::new_driver);
        Self { inner, record, faults, agent: None, ids: Rc::default(), life }
    }

    /// The same world for a new driver, when the one before it was killed. No word that it gave away is given away again.
    #[must_use]
    pub(crate) fn for_a_new_driver(&self) -> Self {
        Self { life: self.faults.as_ref().map(Faults::new_driver), ..self.clone() }
    }

    /// Does something as long as the driver lives; none if it was killed at it.
    pub(crate) async fn during<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        match &self.life {
            Some(life) => life.during(work).await,
            None => Some(work.await),
        }
    }

    /// Kills the driver. Whoever calls this is a part of it, and does not come back.
    async fn die(&self) -> ! {
        if let Some(life) = &self.life {
            life.end();
        }
        std::future::pending().await
    }

    /// Changes a file of the host's, unless the host refuses, or the driver is killed before it or behind it.
    async fn change<T>(
        &self,
        action: &'static str,
        path: &Utf8Path,
        change: impl Future<Output = io::Result<T>>,
    ) -> io::Result<T> {
        let name = path.file_name().unwrap_or_default();
        self.record.tell(&Entry::Change(name.to_owned()));
        let struck = self.faults.as_ref().and_then(|faults| faults.file(name, action));
        let Some((kind, point)) = struck else { return change.await };
        if let FaultKind::Refuse(error) = kind {
            if point != Point::Before {
                change.await?;
            }
            return Err(refusal(error));
        }
        if point == Point::Before {
            self.note(Entry::Fault(format!("kill-driver: the driver dies before it can {action} {name}")));
            self.die().await
        }
        let _ = change.await;
        self.note(Entry::Fault(format!("kill-driver: the driver dies behind the {action} of {name}")));
        self.die().await
    }

    /// The same, in a world where the guest's agent is reached there.
    #[must_use]
    pub fn with_agent(self, agent: Endpoint) -> Self {
        Self { agent: Some(agent), ..self }
    }

    /// Notes what happened, now.
    pub fn note(&self, entry: Entry) {
        self.record.note(self.inner.now(), entry);
    }

    fn note_run(&self, command: &HostCommand, result: &io::Result<Ran>) {
        let outcome = match result {
            Ok(ran) => ran.ended.to_string(),
            Err(error) => error.kind().to_string(),
        };
        let program = command.program.file_name().unwrap_or_default().to_owned();
        self.note(Entry::Ran { program, arguments: command.arguments.clone(), outcome });
    }

    /// Of the driver's journal nothing is told unless it fails: it is written at every stage of every plan.
    fn note_host(&self, action: &'static str, path: &Utf8Path, result: &io::Result<()>) {
        if path.file_name() == Some(journal::FILE) && result.is_ok() {
            return;
        }
        // The system's words differ between worlds; the kind of error does not.
        let error = result.as_ref().err().map(|error| error.kind().to_string());
        self.note(Entry::Host { action, path: path.to_string(), error });
    }
}

impl<E: Env> Env for Recorded<E> {
    type Io = RecordedIo<E>;
    type Lock = E::Lock;
    type File = RecordedFile<E>;

    async fn connect(&self, endpoint: &Endpoint) -> io::Result<Self::Io> {
        let peer = if self.agent.as_ref() == Some(endpoint) { Peer::Agent } else { Peer::Monitor };
        let io = self.inner.connect(endpoint).await.inspect_err(|_| self.note(peer.connection("refused")))?;
        self.note(peer.connection("connected"));
        let link = match &self.faults {
            None => Link::Direct(io),
            Some(faults) => {
                let (near, far) = tokio::io::duplex(PIPE);
                let files = Rc::new(RefCell::new(VecDeque::new()));
                self.inner.spawn_local(interpose::run(
                    peer,
                    far,
                    io,
                    files.clone(),
                    faults.clone(),
                    self.inner.clone(),
                    self.record.clone(),
                ));
                Link::Interposed { near, files }
            }
        };
        Ok(RecordedIo { peer, link, env: self.clone(), sent: Vec::new(), received: Vec::new(), ended: false })
    }

    fn now(&self) -> Duration {
        self.inner.now()
    }

    fn sleep_until(&self, deadline: Duration) -> impl Future<Output = ()> + 'static {
        self.inner.sleep_until(deadline)
    }

    fn spawn_local(&self, task: impl Future<Output = ()> + 'static) {
        match &self.life {
            None => self.inner.spawn_local(task),
            Some(life) => {
                let life = life.clone();
                self.inner.spawn_local(async move {
                    life.during(task).await;
                });
            }
        }
    }

    /// Counts from 1 in every run: each run has a machine of its own, and its names are then the same in every world.
    fn unique_id(&self) -> String {
        self.ids.set(self.ids.get() + 1);
        self.ids.get().to_string()
    }

    fn seconds(&self) -> i64 {
        self.inner.seconds()
    }

    async fn file_kind(&self, path: &Utf8Path) -> io::Result<FileKind> {
        self.inner.file_kind(path).await
    }

    async fn image_in_use(&self, path: &Utf8Path) -> io::Result<bool> {
        self.inner.image_in_use(path).await
    }

    async fn canonical(&self, path: &Utf8Path) -> io::Result<Utf8PathBuf> {
        self.inner.canonical(path).await
    }

    async fn identity(&self, path: &Utf8Path) -> io::Result<FileId> {
        self.inner.identity(path).await
    }

    async fn run(&self, command: &HostCommand) -> io::Result<Ran> {
        let name = command.program.file_name().unwrap_or_default();
        let struck =
            self.faults.as_ref().and_then(|faults| faults.program(name, &command.arguments.join(" ")));
        let result = match struck {
            None => self.inner.run(command).await,
            Some((kind, point)) => {
                self.note(Entry::Fault(aim::told(&kind, Side::Command)));
                let applied =
                    if point == Point::Before { None } else { Some(self.inner.run(command).await?) };
                if kind == FaultKind::HangProgram {
                    self.inner.sleep_until(self.inner.now() + command.within).await;
                }
                if kind == FaultKind::KillDriver {
                    self.die().await
                }
                match kind {
                    FaultKind::MissingProgram => Err(io::ErrorKind::NotFound.into()),
                    _ => Ok(struck_program(&kind, applied)),
                }
            }
        };
        self.note_run(command, &result);
        result
    }

    async fn create_new(&self, path: &Utf8Path, ownership: &Ownership) -> io::Result<()> {
        let result = self.change("create", path, self.inner.create_new(path, ownership)).await;
        self.note_host("create", path, &result);
        result
    }

    async fn remove_file(&self, path: &Utf8Path) -> io::Result<()> {
        let result = self.change("remove", path, self.inner.remove_file(path)).await;
        self.note_host("remove", path, &result);
        result
    }

    async fn create_folder(&self, path: &Utf8Path) -> io::Result<()> {
        self.inner.create_folder(path).await
    }

    async fn list_folder(&self, path: &Utf8Path) -> io::Result<Vec<String>> {
        self.inner.list_folder(path).await
    }

    async fn read_file(&self, path: &Utf8Path, most: usize) -> io::Result<Vec<u8>> {
        self.inner.read_file(path, most).await
    }

    async fn replace_file(&self, path: &Utf8Path, bytes: &[u8]) -> io::Result<()> {
        let result = self.change("write", path, self.inner.replace_file(path, bytes)).await;
        self.note_host("write", path, &result);
        result
    }

    async fn lock(&self, path: &Utf8Path) -> io::Result<Self::Lock> {
        self.inner.lock(path).await
    }

    async fn lock_with_programs(&self, path: &Utf8Path) -> io::Result<Self::Lock> {
        self.inner.lock_with_programs(path).await
    }

    async fn runtime_folder(&self) -> io::Result<Utf8PathBuf> {
        self.inner.runtime_folder().await
    }

    async fn open(&self, path: &Utf8Path, access: Access) -> io::Result<Self::File> {
        let result = self.inner.open(path, access).await;
        let result = result.map(|inner| RecordedFile { inner, path: path.to_owned(), env: self.clone() });
        if path.file_name() == Some(journal::FILE) {
            return result;
        }
        let action = match access {
            Access::Read => "open to read",
            Access::Write => "open to write",
        };
        let error = result.as_ref().err().map(|error| error.kind().to_string());
        self.note(Entry::Host { action, path: path.to_string(), error });
        result
    }

    fn poll_write_with_file(
        &self,
        io: Pin<&mut Self::Io>,
        cx: &mut Context<'_>,
        bytes: &[u8],
        file: &Self::File,
    ) -> Poll<io::Result<usize>> {
        let this = io.get_mut();
        let written = ready!(match &mut this.link {
            Link::Direct(io) => self.inner.poll_write_with_file(Pin::new(io), cx, bytes, &file.inner),
            Link::Interposed { near, files } => {
                let written = ready!(Pin::new(near).poll_write(cx, bytes));
                files.borrow_mut().push_back(file.inner.clone());
                Poll::Ready(written)
            }
        })?;
        take_lines(&mut this.sent, &bytes[..written], |line| this.env.note(this.peer.sent(line)));
        Poll::Ready(Ok(written))
    }
}

/// An open file whose changes the host may refuse, or at which the driver may be killed.
pub struct RecordedFile<E: Env> {
    inner: E::File,
    path: Utf8PathBuf,
    env: Recorded<E>,
}

impl<E: Env> Clone for RecordedFile<E> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), path: self.path.clone(), env: self.env.clone() }
    }
}

impl<E: Env> OpenFile for RecordedFile<E> {
    async fn length(&self) -> io::Result<u64> {
        self.inner.length().await
    }

    async fn read_at(&self, at: u64, most: usize) -> io::Result<Vec<u8>> {
        self.inner.read_at(at, most).await
    }

    async fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let result = self.env.change("write", &self.path, self.inner.write_at(at, bytes)).await;
        if result.is_err() {
            self.env.note_host("write", &self.path, &result);
        }
        result
    }

    async fn set_length(&self, length: u64) -> io::Result<()> {
        self.inner.set_length(length).await
    }

    async fn seek(&self, position: u64) -> io::Result<()> {
        self.inner.seek(position).await
    }

    async fn sync(&self) -> io::Result<()> {
        self.inner.sync().await
    }
}

/// What is told of a program that a fault has struck; `applied` is what it has done before.
fn struck_program(kind: &FaultKind, applied: Option<Ran>) -> Ran {
    let (ended, stderr) = match kind {
        FaultKind::Fail(text) => (Ended::Exited(1), format!("{text}\n").into_bytes()),
        FaultKind::HangProgram => (Ended::TooLate, Vec::new()),
        _ => (Ended::Killed(9), Vec::new()),
    };
    Ran { ended, stderr, stdout: applied.map(|ran| ran.stdout).unwrap_or_default() }
}

/// The system's error, as its kind: its words differ between hosts.
fn refusal(error: HostError) -> io::Error {
    match error {
        HostError::NoSpace => io::ErrorKind::StorageFull.into(),
        HostError::Denied => io::ErrorKind::PermissionDenied.into(),
        HostError::IoError => io::Error::other("input/output error"),
    }
}

/// Open files that are under way from the driver to the interposer, beside the bytes.
pub(crate) type Files<E> = Rc<RefCell<VecDeque<<E as Env>::File>>>;

/// A byte stream that is written down line by line.
pub struct RecordedIo<E: Env> {
    peer: Peer,
    link: Link<E>,
    env: Recorded<E>,
    sent: Vec<u8>,
    received: Vec<u8>,
    ended: bool,
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// QEMU's monitor.
    Monitor,
    /// The guest's agent.
    Agent,
}

impl Peer {
    fn connection(self, what: &'static str) -> Entry {
        match self {
            Peer::Monitor => Entry::Connection(what),
            Peer::Agent => Entry::AgentConnection(what),
        }
    }

    fn sent(self, line: Vec<u8>) -> Entry {
        match self {
            Peer::Monitor => Entry::Sent(line),
            Peer::Agent => Entry::AgentSent(line),
        }
    }

    fn received(self, line: Vec<u8>) -> Entry {
        match self {
            Peer::Monitor => Entry::Received(line),
            Peer::Agent => Entry::AgentReceived(line),
        }
    }
}

/// What lies behind: the world, or the interposer in front of it.
enum Link<E: Env> {
    Direct(E::Io),
    Interposed { near: DuplexStream, files: Files<E> },
}

impl<E: Env> RecordedIo<E> {
    fn end(&mut self, how: &'static str) {
        if !std::mem::replace(&mut self.ended, true) {
            self.env.note(self.peer.connection(how));
        }
    }
}

/// Hands on each whole line of a stream; `rest` keeps what has no end yet, up to [`LINE_MAX`].
fn take_lines(rest: &mut Vec<u8>, mut bytes: &[u8], mut each: impl FnMut(Vec<u8>)) {
    while let Some(end) = memchr::memchr(b'\n', bytes) {
        rest.extend_from_slice(&bytes[..end]);
        rest.truncate(rest.trim_ascii_end().len());
        each(std::mem::take(rest));
        bytes = &bytes[end + 1..];
    }
    rest.extend_from_slice(bytes);
    if rest.len() >= LINE_MAX {
        each(std::mem::take(rest));
    }
}

impl<E: Env> AsyncRead for RecordedIo<E> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let result = ready!(match &mut this.link {
            Link::Direct(io) => Pin::new(io).poll_read(cx, buffer),
            Link::Interposed { near, .. } => Pin::new(near).poll_read(cx, buffer),
        });
        let new = &buffer.filled()[before..];
        match result {
            Ok(()) if new.is_empty() => this.end("closed by QEMU"),
            Ok(()) => take_lines(&mut this.received, new, |line| this.env.note(this.peer.received(line))),
            Err(_) => this.end("closed by QEMU"),
        }
        Poll::Ready(result)
    }
}

impl<E: Env> AsyncWrite for RecordedIo<E> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(match &mut this.link {
            Link::Direct(io) => Pin::new(io).poll_write(cx, bytes),
            Link::Interposed { near, .. } => Pin::new(near).poll_write(cx, bytes),
        })?;
        take_lines(&mut this.sent, &bytes[..written], |line| this.env.note(this.peer.sent(line)));
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().link {
            Link::Direct(io) => Pin::new(io).poll_flush(cx),
            Link::Interposed { near, .. } => Pin::new(near).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().link {
            Link::Direct(io) => Pin::new(io).poll_shutdown(cx),
            Link::Interposed { near, .. } => Pin::new(near).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_never_ends_is_noted_in_pieces() {
        let (mut rest, mut pieces) = (Vec::new(), 0);
        for _ in 0..3 {
            take_lines(&mut rest, &vec![b'x'; LINE_MAX], |_| pieces += 1);
        }
        assert_eq!((pieces, rest.len()), (3, 0));
    }
}
