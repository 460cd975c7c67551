//! Stands on the wire between driver and QEMU and lets the scenario's faults strike.
//!
//! ```text
//! driver  --command-->  [ before | forward, remember the id ]  -->  QEMU
//! driver  <--reply----  [ applied: QEMU has done it, the driver does not know yet ]  <--  QEMU
//! driver  <--event----  [ before | forward | after ]  <--  QEMU
//! ```
//!
//! Lines go through in order; only a delayed one lets others pass. Which fault strikes when is decided in [`aim`],
//! without any I/O; this file carries it out. It knows nothing of snapshots, and whether QEMU is real.

pub(crate) mod aim;

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    io,
    pin::Pin,
    rc::Rc,
    time::Duration,
};

use freezeframe_driver::{
    client::Client,
    env::Env,
    race::{First, race},
    wire::{Band, Framer},
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, split};

use self::aim::{Aim, Side};
use crate::{
    language::{Fault, FaultKind, Point},
    recorded::Files,
    transcript::{Entry, Record},
};

/// How long a line that was cut waits for its rest, and how long another client may take meanwhile.
const PAUSE: Duration = Duration::from_millis(1);
const MEANWHILE: Duration = Duration::from_secs(5);

/// Something to be done to QEMU from outside.
pub type Kill = Rc<dyn Fn() -> Pin<Box<dyn Future<Output = ()>>>>;

/// The faults of one run, and the hands to carry them out. Clones share them, over all connections.
pub struct Faults<E: Env> {
    aim: Rc<RefCell<Aim>>,
    control: Client<E>,
    kill: Kill,
    /// Nothing goes to the driver any more, on any connection.
    silent: Rc<Cell<bool>>,
}

impl<E: Env> Clone for Faults<E> {
    fn clone(&self) -> Self {
        Self {
            aim: self.aim.clone(),
            control: self.control.clone(),
            kill: self.kill.clone(),
            silent: self.silent.clone(),
        }
    }
}

impl<E: Env> Faults<E> {
    /// Faults that act through a second monitor and by killing QEMU.
    pub fn new(faults: &[Fault], control: Client<E>, kill: Kill) -> Self {
        let aim = Rc::new(RefCell::new(Aim::new(faults)));
        Self { aim, control, kill, silent: Rc::default() }
    }

    /// What never struck as often as it should, in words.
    pub fn missed(&self) -> Vec<String> {
        self.aim.borrow().missed()
    }
}

/// Passes lines on between the driver (`near`) and QEMU (`far`) until either ends or a fault ends it.
///
/// `files` are those that the driver has sent along.
pub(crate) async fn run<E: Env>(
    near: DuplexStream,
    far: E::Io,
    files: Files<E>,
    faults: Faults<E>,
    env: E,
    record: Record,
) {
    let mut wire = Wire {
        near,
        far,
        files,
        file: None,
        env,
        record,
        faults,
        delayed: Vec::new(),
        from_near: Framer::default(),
        from_far: Framer::default(),
    };
    while wire.pass().await.is_some() {}
}

/// The way on which a line travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    ToQemu,
    ToDriver,
}

struct Wire<E: Env> {
    near: DuplexStream,
    far: E::Io,
    files: Files<E>,
    /// What goes with the command that the driver sent last, until it has gone.
    file: Option<E::File>,
    env: E,
    record: Record,
    faults: Faults<E>,
    /// Lines held back, and until when; the earliest first.
    delayed: Vec<(Duration, Way, Vec<u8>)>,
    from_near: Framer,
    from_far: Framer,
}

impl<E: Env> Wire<E> {
    /// Waits for bytes or for a delayed line, and handles them. None when the connection is over.
    async fn pass(&mut self) -> Option<()> {
        self.messages().await?;
        let (mut near, mut far) = ([0; 4096], [0; 16384]);
        let due = self.delayed.first().map_or(Duration::MAX, |delayed| delayed.0);
        let timer = async {
            match due {
                Duration::MAX => std::future::pending().await,
                due => self.env.sleep_until(due).await,
            }
        };
        match race(race(self.near.read(&mut near), self.far.read(&mut far)), timer).await {
            First::Right(()) => {
                let (_, way, line) = self.delayed.remove(0);
                self.send(way, &line).await
            }
            First::Left(First::Left(read)) => {
                let length = read.ok().filter(|length| *length > 0)?;
                self.from_near.push(&near[..length]);
                while let Some(line) = self.from_near.next_line().ok()?.map(<[u8]>::to_vec) {
                    self.command(line).await?;
                }
                Some(())
            }
            First::Left(First::Right(read)) => {
                let length = read.ok().filter(|length| *length > 0)?;
                self.from_far.push(&far[..length]);
                self.messages().await
            }
        }
    }

    /// Handles the lines that have come from QEMU.
    async fn messages(&mut self) -> Option<()> {
        while let Some(line) = self.from_far.next_line().ok()?.map(<[u8]>::to_vec) {
            self.message(line).await?;
        }
        Some(())
    }

    /// A line from the driver.
    async fn command(&mut self, line: Vec<u8>) -> Option<()> {
        // One that was lost on the way takes its file with it.
        self.file = if aim::takes_a_file(&line) { self.files.borrow_mut().pop_front() } else { None };
        let Some((kind, point)) = self.faults.aim.borrow_mut().command(&line) else {
            return self.send(Way::ToQemu, &line).await;
        };
        match point {
            Point::Before => self.strike(&kind, Side::Command, line).await,
            // Its reply is what is waited for.
            Point::Applied | Point::After => self.send(Way::ToQemu, &line).await,
        }
    }

    /// A line from QEMU.
    async fn message(&mut self, line: Vec<u8>) -> Option<()> {
        let struck = self.faults.aim.borrow_mut().message(&line);
        match struck {
            None => self.send(Way::ToDriver, &line).await,
            Some((kind, Point::After)) => {
                self.send(Way::ToDriver, &line).await?;
                self.strike(&kind, Side::After, line).await
            }
            Some((kind, Point::Before | Point::Applied)) => self.strike(&kind, Side::Message, line).await,
        }
    }

    /// Lets a fault strike at a line that was not yet sent on, or just was ([`Side::After`]).
    async fn strike(&mut self, kind: &FaultKind, side: Side, line: Vec<u8>) -> Option<()> {
        self.note(aim::told(kind, side));
        let way = if side == Side::Command { Way::ToQemu } else { Way::ToDriver };
        match kind {
            FaultKind::Disconnect => None,
            FaultKind::KillQemu => {
                (self.faults.kill)().await;
                None
            }
            // At a command it is the command that is lost: QEMU never hears of it.
            FaultKind::LoseReply => Some(()),
            FaultKind::Silence => {
                self.faults.silent.set(true);
                if side == Side::Command { self.send(way, &line).await } else { Some(()) }
            }
            FaultKind::Duplicate => {
                self.send(way, &line).await?;
                if side == Side::After { Some(()) } else { self.send(way, &line).await }
            }
            FaultKind::Delay(time) => {
                self.delayed.push((self.env.now() + time.duration(), way, line));
                self.delayed.sort_by_key(|(due, ..)| *due);
                Some(())
            }
            FaultKind::Error(error) => {
                let id = aim::id_of(&line);
                let error = json!({"id": id, "error": {"class": error.class.name(), "desc": error.desc}});
                self.send(Way::ToDriver, error.to_string().as_bytes()).await
            }
            FaultKind::Garbage(text) => {
                self.send(way, text.as_bytes()).await?;
                if side == Side::After { Some(()) } else { self.send(way, &line).await }
            }
            FaultKind::Split(at) => self.send_in_two(way, &line, at.get() as usize).await,
            FaultKind::Qmp(json) => {
                self.meanwhile(json).await;
                if side == Side::After { Some(()) } else { self.send(way, &line).await }
            }
        }
    }

    /// Another client does something on the second monitor.
    async fn meanwhile(&self, json: &str) {
        let request: Value = serde_json::from_str(json).expect("the scenario was checked");
        let command = request["execute"].as_str().unwrap_or_default();
        let deadline = self.env.now() + MEANWHILE;
        let called =
            self.faults.control.call(Band::In, "meanwhile", command, request.get("arguments"), deadline);
        if let Err(error) = called.await {
            self.note(format!("meanwhile: {error}"));
        }
    }

    fn note(&self, what: String) {
        self.record.note(self.env.now(), Entry::Fault(what));
    }

    async fn send(&mut self, way: Way, line: &[u8]) -> Option<()> {
        let mut bytes = line.to_vec();
        bytes.extend_from_slice(b"\r\n");
        self.write(way, &bytes).await
    }

    async fn send_in_two(&mut self, way: Way, line: &[u8], at: usize) -> Option<()> {
        let at = at.min(line.len());
        self.write(way, &line[..at]).await?;
        self.env.sleep_until(self.env.now() + PAUSE).await;
        self.send(way, &line[at..]).await
    }

    async fn write(&mut self, way: Way, bytes: &[u8]) -> Option<()> {
        match way {
            Way::ToDriver if self.faults.silent.get() => Some(()),
            Way::ToDriver => self.near.write_all(bytes).await.ok(),
            Way::ToQemu => {
                // QEMU may have gone; what it said before is still to be passed on.
                let _ = self.write_to_qemu(bytes).await;
                Some(())
            }
        }
    }

    /// Writes to QEMU. One that takes no more until somebody reads what it says is read from.
    async fn write_to_qemu(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        if let Some(file) = self.file.take() {
            let far = &mut self.far;
            let sent = poll_fn(|cx| self.env.poll_write_with_file(Pin::new(far), cx, bytes, &file));
            bytes = &bytes[sent.await?..];
        }
        while !bytes.is_empty() {
            // Whoever takes all at once is not asked what it says.
            if let First::Left(written) = race(self.far.write(bytes), std::future::ready(())).await {
                bytes = &bytes[written?..];
                continue;
            }
            let mut said = [0; 4096];
            let (mut from, mut to) = split(&mut self.far);
            match race(to.write(bytes), from.read(&mut said)).await {
                First::Left(written) => bytes = &bytes[written?..],
                First::Right(read) => match read? {
                    0 => return Err(io::ErrorKind::BrokenPipe.into()),
                    length => self.from_far.push(&said[..length]),
                },
            }
        }
        Ok(())
    }
}
