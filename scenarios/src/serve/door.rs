//! Carries bytes between real sockets and the simulated machine, whichever way, untouched.
//!
//! A second program that connects to a busy monitor is let in and hears nothing until the first has left: that is the
//! world's doing, not ours. With a real folder, what stands in it is told to the machine before each piece from the
//! program, and what the machine made is put there before each piece to it.

use std::{cell::RefCell, io, rc::Rc, time::Duration};

use freezeframe_driver::{
    env::Env as _,
    race::{First, race},
};
use freezeframe_sim::{Port, stream::Sockets};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split},
    sync::watch,
    task::JoinSet,
};

use super::{
    clock::Clock,
    images::Images,
    listener::{Connection, Listener},
};
use crate::{
    recorded::Recorded,
    world::sim::{SimEnv, agent, monitor},
};

/// How long a program may take to read what QEMU said last, and how long a listener rests after a failure.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How much is carried at once, in bytes.
const PIECE: usize = 16 << 10;

/// The way into one machine. Clones lead to the same.
#[derive(Clone)]
pub(super) struct Door {
    sockets: Sockets,
    images: Option<Rc<RefCell<Images>>>,
}

impl Door {
    pub(super) fn new(sockets: Sockets, images: Option<Images>) -> Self {
        Self { sockets, images: images.map(|images| Rc::new(RefCell::new(images))) }
    }

    pub(super) fn sockets(&self) -> Sockets {
        self.sockets.clone()
    }

    /// Lets programs in until QEMU has ended; then the socket is removed. With a record, all is noted.
    pub(super) async fn serve(
        self,
        listener: Listener,
        port: Port,
        recorded: Option<Recorded<SimEnv<Clock>>>,
        mut over: watch::Receiver<bool>,
    ) {
        let mut connections = JoinSet::new();
        while !*over.borrow() {
            match race(over.changed(), listener.accept()).await {
                First::Left(_) => break,
                First::Right(Ok(program)) => {
                    let (door, recorded) = (self.clone(), recorded.clone());
                    connections.spawn_local(async move {
                        let _ = door.connect(program, port, recorded).await;
                    });
                }
                // Out of file descriptors, as a rule: others have to leave first.
                First::Right(Err(_)) => rest().await,
            }
            while connections.try_join_next().is_some() {}
        }
        drop(listener);
        race(connections.join_all(), rest()).await;
    }

    /// One program's connection, until either end closes it.
    async fn connect(
        &self,
        program: Box<dyn Connection>,
        port: Port,
        recorded: Option<Recorded<SimEnv<Clock>>>,
    ) -> io::Result<()> {
        match (port, recorded) {
            (Port::Monitor(number), Some(env)) => {
                self.carry(program, env.connect(&monitor(number)).await?).await
            }
            (Port::Agent, Some(env)) => self.carry(program, env.connect(&agent()).await?).await,
            _ => {
                let stream = self.sockets.connect(port);
                self.carry(program, stream.map_err(|_| io::ErrorKind::ConnectionRefused)?).await
            }
        }
    }

    /// Carries both ways until one is at its end. QEMU takes the end of what a program sends for the end of all.
    async fn carry(&self, program: impl Connection, qemu: impl Connection) -> io::Result<()> {
        let (mut from_program, mut to_program) = split(program);
        let (mut from_qemu, mut to_qemu) = split(qemu);
        let out = pump(&mut from_qemu, &mut to_program, || self.images_out());
        let into = pump(&mut from_program, &mut to_qemu, || self.images_in());
        match race(out, into).await {
            First::Left(ended) => ended.and(to_program.shutdown().await),
            First::Right(ended) => ended.and(to_qemu.shutdown().await),
        }
    }

    /// Tells the machine what stands in its real folder.
    fn images_in(&self) {
        if let Some(images) = &self.images {
            images.borrow_mut().take_in(self.sockets.world_mut().host_mut());
        }
    }

    /// Puts what the machine made into its real folder.
    pub(super) fn images_out(&self) {
        if let Some(images) = &self.images {
            images.borrow_mut().give_out(self.sockets.world().host());
        }
    }
}

/// Carries bytes to the end; `before` is done before each piece arrives.
async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    before: impl Fn(),
) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let length = from.read(&mut piece).await?;
        before();
        if length == 0 {
            return Ok(());
        }
        to.write_all(&piece[..length]).await?;
    }
}

/// As long as a program may take to read what QEMU said last.
#[allow(clippy::disallowed_methods, reason = "a real program is waited for, in real time")]
pub async fn rest() {
    tokio::time::sleep(LAST_WORDS).await;
}
