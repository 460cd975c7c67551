//! Byte streams to the ports of a [`World`], in the same process: tokio's `AsyncRead` and `AsyncWrite`.
//!
//! The streams know no runtime: they take the time from a clock that they were given, and wake whoever reads.
//! Somebody has to let the world's time pass, though:
//!
//! * the executor of [`crate::exec`], to which [`Sockets`] are the surroundings; or
//! * a task on any other runtime that runs [`Sockets::drive`], such as tokio with paused time.
//!
//! How what QEMU has said is cut into reads is a choice, by default all at once. What is written arrives at
//! once and whole: a client that wants it cut writes it in pieces. A client that writes much more than QEMU takes up has
//! to wait, and one that does not read is not answered: see [`World::takes_input`] and [`World::consume`].

use std::{
    cell::{Cell, Ref, RefCell, RefMut},
    collections::BTreeMap,
    fmt,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use camino::Utf8Path;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    exec::Surroundings,
    host::Descriptor,
    qemu::{GuestAct, GuestAction},
    world::{Connection, Port, Ran, Refused, World},
};

/// A world, and the client's ends of its connections. Cheap to clone.
#[derive(Clone)]
pub struct Sockets {
    shared: Rc<Shared>,
}

struct Shared {
    world: RefCell<World>,
    now: Box<dyn Fn() -> Duration>,
    /// Who waits for something to read.
    readers: RefCell<BTreeMap<Connection, Waker>>,
    /// Who waits until what was written is taken.
    writers: RefCell<BTreeMap<Connection, Waker>>,
    /// A client has done something since [`Sockets::drive`] last looked.
    touched: Cell<bool>,
    driver: RefCell<Option<Waker>>,
}

impl fmt::Debug for Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sockets").field("now", &(self.shared.now)()).finish_non_exhaustive()
    }
}

impl Sockets {
    /// The sockets of a world, under a clock that begins at 0 with it.
    pub fn new(world: World, now: impl Fn() -> Duration + 'static) -> Self {
        let shared = Shared {
            world: RefCell::new(world),
            now: Box::new(now),
            readers: RefCell::default(),
            writers: RefCell::default(),
            touched: Cell::new(false),
            driver: RefCell::default(),
        };
        Self { shared: Rc::new(shared) }
    }

    /// Connects to a port.
    ///
    /// # Errors
    /// [`Refused`] if nobody listens there.
    pub fn connect(&self, port: Port) -> Result<Stream, Refused> {
        let connection = self.world_mut().connect(self.now(), port)?;
        self.touch();
        Ok(Stream { sockets: self.clone(), connection })
    }

    /// Ends QEMU as the host's SIGKILL does.
    pub fn kill_qemu(&self) {
        self.world_mut().kill_qemu();
        self.wake();
        self.touch();
    }

    /// Ends QEMU as the host's SIGTERM does.
    pub fn terminate_qemu(&self) {
        let now = self.now();
        self.world_mut().terminate_qemu(now);
        self.touch();
    }

    /// Lets the guest do something.
    pub fn guest_does(&self, act: GuestAct) {
        let now = self.now();
        self.world_mut().guest_does(now, act);
        self.touch();
    }

    /// Does something inside of the guest; nothing if the machine knows of no guest.
    pub fn in_guest(&self, action: GuestAction) {
        let now = self.now();
        self.world_mut().in_guest(now, action);
        self.wake();
        self.touch();
    }

    /// Runs a program of the host's; nothing if there is none of that name. It has ended once `takes` has passed.
    pub fn run_program(&self, program: &Utf8Path, arguments: &[String], input: &[u8]) -> Option<Ran> {
        let now = self.now();
        let ran = self.world_mut().run_program(now, program, arguments, input);
        self.touch();
        ran
    }

    /// The world. It must not be held while another task runs.
    pub fn world(&self) -> Ref<'_, World> {
        self.shared.world.borrow()
    }

    /// The world. It must not be held while another task runs.
    pub fn world_mut(&self) -> RefMut<'_, World> {
        self.shared.world.borrow_mut()
    }

    /// Lets the world's time pass, on whatever runtime this is run, until QEMU has ended. `sleep_until` waits until the
    /// clock of these sockets shows a time. Whether the world or a client's timer of the same instant goes first
    /// is that runtime's affair; with [`crate::exec`] it is the world.
    pub async fn drive<S: Future<Output = ()>>(self, sleep_until: impl Fn(Duration) -> S) {
        loop {
            let next = self.next_event();
            match next {
                Some(at) if at <= self.now() => self.advance(self.now()),
                Some(at) => {
                    let mut sleep = pin!(sleep_until(at));
                    let first = |cx: &mut Context<'_>| match self.poll_touched(cx) {
                        Poll::Ready(()) => Poll::Ready(()),
                        Poll::Pending => sleep.as_mut().poll(cx),
                    };
                    poll_fn(first).await;
                }
                None if !self.world().qemu_is_running() => return,
                None => poll_fn(|cx| self.poll_touched(cx)).await,
            }
        }
    }

    /// Waits, after one QEMU has ended, until the host runs another.
    pub async fn started(&self) {
        while !self.world().qemu_is_running() {
            poll_fn(|cx| self.poll_touched(cx)).await;
        }
    }

    fn now(&self) -> Duration {
        (self.shared.now)()
    }

    /// Tells [`Sockets::drive`] that the world's next event may be another now.
    fn touch(&self) {
        self.shared.touched.set(true);
        if let Some(driver) = self.shared.driver.borrow_mut().take() {
            driver.wake();
        }
    }

    fn poll_touched(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.shared.touched.take() {
            return Poll::Ready(());
        }
        *self.shared.driver.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Wakes those who have something to read, and those who can write again.
    fn wake(&self) {
        let world = self.world();
        let has_news =
            |connection: Connection| !world.output(connection).is_empty() || world.at_end(connection);
        wake_where(&self.shared.readers, has_news);
        wake_where(&self.shared.writers, |connection| world.takes_input(connection));
    }
}

/// Wakes those for whom it is true.
fn wake_where(waiting: &RefCell<BTreeMap<Connection, Waker>>, ready: impl Fn(Connection) -> bool) {
    waiting.borrow_mut().retain(|connection, waker| {
        let ready = ready(*connection);
        if ready {
            waker.wake_by_ref();
        }
        !ready
    });
}

impl Surroundings for Sockets {
    fn next_event(&self) -> Option<Duration> {
        self.world().next_event()
    }

    fn advance(&self, now: Duration) {
        self.world_mut().advance(now);
        self.wake();
    }

    fn choose(&self, label: &'static str, n: usize) -> usize {
        if n < 2 { 0 } else { self.world_mut().oracle_mut().choose(label, n) }
    }
}

/// The client's end of a connection. Dropping it closes the connection.
#[derive(Debug)]
pub struct Stream {
    sockets: Sockets,
    connection: Connection,
}

impl Stream {
    /// How much of `available` bytes one read gives: all, or by choice all but one, half, or one.
    fn cut(&self, available: usize) -> usize {
        let cuts = [available, available - 1, available / 2, 1];
        match self.sockets.choose("read", cuts.len().min(available)) {
            0 => available,
            cut => cuts[cut].max(1),
        }
    }
}

impl Stream {
    /// Writes as `poll_write` does, and sends an open file along with the first byte, as `SCM_RIGHTS` does: the next `getfd`
    /// takes it up.
    pub fn poll_write_with_descriptor(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
        descriptor: Descriptor,
    ) -> Poll<io::Result<usize>> {
        if self.sockets.world().takes_input(self.connection) {
            self.sockets.world_mut().pass_descriptor(self.connection, descriptor);
        }
        self.poll_write(cx, bytes)
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let available = self.sockets.world().output(self.connection).len().min(buf.remaining());
        if available > 0 {
            let count = self.cut(available);
            let mut world = self.sockets.world_mut();
            buf.put_slice(&world.output(self.connection)[..count]);
            if world.consume(self.connection, count) {
                drop(world);
                self.sockets.touch();
            }
            return Poll::Ready(Ok(()));
        }
        if buf.remaining() == 0 || self.sockets.world().at_end(self.connection) {
            return Poll::Ready(Ok(()));
        }
        self.sockets.shared.readers.borrow_mut().insert(self.connection, cx.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !self.sockets.world().takes_input(self.connection) {
            self.sockets.shared.writers.borrow_mut().insert(self.connection, cx.waker().clone());
            return Poll::Pending;
        }
        let now = self.sockets.now();
        let received = self.sockets.world_mut().receive(now, self.connection, bytes);
        self.sockets.touch();
        let written = received.map(|()| bytes.len());
        Poll::Ready(written.map_err(|error| io::Error::new(io::ErrorKind::BrokenPipe, error)))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// QEMU takes the end of what a client sends for the end of the connection.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.close();
        Poll::Ready(Ok(()))
    }
}

impl Stream {
    fn close(&self) {
        let now = self.sockets.now();
        self.sockets.world_mut().close(now, self.connection);
        self.sockets.wake();
        self.sockets.shared.readers.borrow_mut().remove(&self.connection);
        self.sockets.shared.writers.borrow_mut().remove(&self.connection);
        self.sockets.touch();
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests;
