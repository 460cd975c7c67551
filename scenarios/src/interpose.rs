//! Stands on the wire between driver and QEMU and lets the scenario's faults strike.
//!
//! ```text
//! driver  --command-->  [ before | forward, remember the id ]  -->  QEMU
//! driver  <--reply----  [ applied: QEMU has done it, the driver does not know yet ]  <--  QEMU
//! driver  <--event----  [ before | forward | after ]  <--  QEMU
//! ```
//!
//! The connection to the guest's agent is the same, but that its requests have no ids ([`asked`]).
//!
//! Lines go through in order; only a delayed reply or event lets others pass: a client's commands stay in line, for no stream lets
//! them overtake each other. Which fault strikes when is decided in [`aim`],
//! without any I/O; this file carries it out. It knows nothing of snapshots, and whether QEMU is real.

pub(crate) mod aim;
mod asked;
mod message;
pub(crate) use asked::{bytes_of, name_of as name_of_request};
pub(crate) use message::Message;

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

use self::{
    aim::{Aim, Side},
    asked::Asked,
};
use crate::{
    language::{Fault, FaultKind, GuestAct, Point},
    life::Life,
    play::CannotPlay,
    recorded::{Files, Peer},
    transcript::{Entry, Record},
    world::World,
};

/// How long a line that was cut waits for its rest, and how long another client may take meanwhile.
const PAUSE: Duration = Duration::from_millis(1);
const MEANWHILE: Duration = Duration::from_secs(5);

/// Something that is being done.
type Doing<T> = Pin<Box<dyn Future<Output = T>>>;

/// What is done to QEMU, or its guest, past the monitors.
#[derive(Clone)]
pub struct Hands {
    /// Kills QEMU.
    pub kill: Rc<dyn Fn() -> Doing<()>>,
    /// Lets the guest's next write to a disk fail.
    pub fail_guest_write: Rc<dyn Fn(&str)>,
    /// Leaves the host no space for a file.
    pub fill: Rc<dyn Fn(&str)>,
    /// Lets something happen inside of the guest.
    pub in_guest: Rc<dyn Fn(GuestAct) -> Doing<Result<(), CannotPlay>>>,
}

impl Hands {
    /// The hands in a world.
    pub fn in_world<W: World + Clone + 'static>(world: &W) -> Self {
        let (killed, failed, filled, within) = (world.clone(), world.clone(), world.clone(), world.clone());
        Self {
            kill: Rc::new(move || {
                let world = killed.clone();
                Box::pin(async move { world.kill_qemu().await })
            }),
            fail_guest_write: Rc::new(move |disk| failed.fail_guest_write(disk)),
            fill: Rc::new(move |file| filled.fill(file)),
            in_guest: Rc::new(move |act| {
                let world = within.clone();
                Box::pin(async move { world.in_guest(act).await })
            }),
        }
    }
}

/// The faults of one run, and the hands to carry them out. Clones share them, over all connections.
pub struct Faults<E: Env> {
    aim: Rc<RefCell<Aim>>,
    /// None of a machine that is off.
    control: Option<Client<E>>,
    hands: Hands,
    /// The driver that is at work.
    driver: Rc<RefCell<Life>>,
    /// Nothing goes to the driver any more, on any connection to a monitor.
    silent: Rc<Cell<bool>>,
    /// Nor on one to the agent.
    silent_agent: Rc<Cell<bool>>,
}

impl<E: Env> Clone for Faults<E> {
    fn clone(&self) -> Self {
        Self {
            aim: self.aim.clone(),
            control: self.control.clone(),
            hands: self.hands.clone(),
            driver: self.driver.clone(),
            silent: self.silent.clone(),
            silent_agent: self.silent_agent.clone(),
        }
    }
}

impl<E: Env> Faults<E> {
    /// Faults that act through a second monitor, where there is one, and past it.
    pub fn new(faults: &[Fault], control: impl Into<Option<Client<E>>>, hands: Hands) -> Self {
        let aim = Rc::new(RefCell::new(Aim::new(faults)));
        let (silent, silent_agent) = (Rc::default(), Rc::default());
        Self { aim, control: control.into(), hands, driver: Rc::default(), silent, silent_agent }
    }

    /// A new driver begins to work. Gives its life.
    pub(crate) fn new_driver(&self) -> Life {
        self.driver.take();
        self.driver.borrow().clone()
    }

    /// Whether this peer is not to be heard.
    fn silent(&self, peer: Peer) -> &Cell<bool> {
        match peer {
            Peer::Monitor => &self.silent,
            Peer::Agent => &self.silent_agent,
        }
    }

    /// What strikes at a program that is about to be run.
    pub(crate) fn program(&self, name: &str, arguments: &str) -> Option<(FaultKind, Point)> {
        self.aim.borrow_mut().program(name, arguments)
    }

    /// What strikes at a file that is about to be made, written or removed.
    pub(crate) fn file(&self, name: &str, action: &str) -> Option<(FaultKind, Point)> {
        self.aim.borrow_mut().file(name, action)
    }

    /// Nothing goes wrong any more, and whoever was silent speaks.
    pub(crate) fn lift(&self) {
        *self.aim.borrow_mut() = Aim::default();
        self.silent.set(false);
        self.silent_agent.set(false);
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
    peer: Peer,
    near: DuplexStream,
    far: E::Io,
    files: Files<E>,
    faults: Faults<E>,
    env: E,
    record: Record,
) {
    let mut wire = Wire {
        peer,
        near,
        far,
        files,
        file: None,
        env,
        record,
        faults,
        delayed: Vec::new(),
        asked: Asked::default(),
        from_near: Framer::default(),
        from_far: Framer::default(),
        piece: (vec![0; 4096].into(), vec![0; 16384].into()),
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
    peer: Peer,
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
    /// What the agent has not answered, of a connection to it.
    asked: Asked,
    from_near: Framer,
    from_far: Framer,
    /// Where bytes are read to. On the heap: what runs would be moved with them.
    piece: (Box<[u8]>, Box<[u8]>),
}

impl<E: Env> Wire<E> {
    /// Waits for bytes or for a delayed line, and handles them. None when the connection is over.
    async fn pass(&mut self) -> Option<()> {
        self.messages().await?;
        let (near, far) = &mut self.piece;
        let due = self.delayed.first().map_or(Duration::MAX, |delayed| delayed.0);
        let timer = async {
            match due {
                Duration::MAX => std::future::pending().await,
                due => self.env.sleep_until(due).await,
            }
        };
        match race(race(self.near.read(near), self.far.read(far)), timer).await {
            First::Right(()) => {
                let (_, way, line) = self.delayed.remove(0);
                self.send_now(way, &line).await
            }
            First::Left(First::Left(read)) => {
                let length = read.ok().filter(|length| *length > 0)?;
                self.from_near.push(&self.piece.0[..length]);
                while let Some(line) = self.from_near.next_line().ok()?.map(<[u8]>::to_vec) {
                    match self.peer {
                        Peer::Monitor => self.command(line).await?,
                        Peer::Agent => self.request(line).await?,
                    }
                }
                Some(())
            }
            First::Left(First::Right(read)) => {
                let length = read.ok().filter(|length| *length > 0)?;
                self.from_far.push(&self.piece.1[..length]);
                self.messages().await
            }
        }
    }

    /// Handles the lines that have come from QEMU.
    async fn messages(&mut self) -> Option<()> {
        while let Some(line) = self.from_far.next_line().ok()?.map(<[u8]>::to_vec) {
            match self.peer {
                Peer::Monitor => self.message(line).await?,
                Peer::Agent => match self.asked.answer(&line) {
                    None => self.send(Way::ToDriver, &line).await?,
                    Some(kind) => self.strike(&kind, Side::Message, line).await?,
                },
            }
        }
        Some(())
    }

    /// A line from the driver to the agent.
    async fn request(&mut self, line: Vec<u8>) -> Option<()> {
        let name = asked::name_of(&line).unwrap_or_default();
        let struck = self.faults.aim.borrow_mut().request(&name, &line);
        match struck {
            Some((kind @ (FaultKind::LoseReply | FaultKind::Error(_)), Point::Before)) => {
                self.strike(&kind, Side::Command, line).await
            }
            Some((kind, Point::Before)) => {
                self.asked.ask(name, None);
                self.strike(&kind, Side::Command, line).await
            }
            struck => {
                // Its reply is what is waited for.
                self.asked.ask(name, struck.map(|(kind, _)| kind));
                self.send(Way::ToQemu, &line).await
            }
        }
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
        self.note(match (kind, self.peer) {
            (FaultKind::Silence, Peer::Agent) => "silence: from now on the agent says nothing".to_owned(),
            _ => aim::told(kind, side),
        });
        let way = if side == Side::Command { Way::ToQemu } else { Way::ToDriver };
        match kind {
            FaultKind::Disconnect => None,
            FaultKind::KillQemu => {
                (self.faults.hands.kill)().await;
                None
            }
            FaultKind::KillDriver => {
                self.faults.driver.borrow().end();
                None
            }
            // At a command it is the command that is lost: QEMU never hears of it.
            FaultKind::LoseReply => Some(()),
            FaultKind::Silence => {
                self.faults.silent(self.peer).set(true);
                if side == Side::Command { self.send(way, &line).await } else { Some(()) }
            }
            FaultKind::Duplicate => {
                self.send(way, &line).await?;
                self.still_send(side, way, &line).await
            }
            FaultKind::Delay(time) => {
                self.delayed.push((self.env.now() + time.duration(), way, line));
                self.delayed.sort_by_key(|(due, ..)| *due);
                Some(())
            }
            FaultKind::Error(error) => {
                let mut answer = json!({"error": {"class": error.class.name(), "desc": error.desc}});
                if self.peer == Peer::Monitor {
                    answer["id"] = aim::id_of(&line);
                }
                self.send(Way::ToDriver, &self.bytes(&answer.to_string())).await
            }
            FaultKind::Garbage(text) => {
                self.send(way, &self.bytes(text)).await?;
                self.still_send(side, way, &line).await
            }
            FaultKind::Split(at) => self.send_in_two(way, &line, at.get() as usize).await,
            FaultKind::Qmp(json) => {
                self.meanwhile(json).await;
                self.still_send(side, way, &line).await
            }
            FaultKind::GuestPanics | FaultKind::WatchdogFires | FaultKind::GuestWriteFails(_) => {
                self.in_the_guest(kind).await;
                self.still_send(side, way, &line).await
            }
            FaultKind::NoSpace(file) => {
                (self.faults.hands.fill)(file);
                self.still_send(side, way, &line).await
            }
            FaultKind::Guest(act) => {
                if let Err(error) = (self.faults.hands.in_guest)(*act).await {
                    self.note(error.to_string());
                }
                self.still_send(side, way, &line).await
            }
            // They are at a program, and a scenario that has them elsewhere is refused.
            FaultKind::Fail(_)
            | FaultKind::MissingProgram
            | FaultKind::KillProgram
            | FaultKind::HangProgram
            | FaultKind::Refuse(_) => self.send(way, &line).await,
        }
    }

    /// The guest does something: the human monitor writes to the ports that its processor would write to.
    async fn in_the_guest(&self, kind: &FaultKind) {
        let line = match kind {
            FaultKind::GuestPanics => "o /b 0x505 1",
            FaultKind::WatchdogFires => "o /b 0x443 15",
            FaultKind::GuestWriteFails(disk) => {
                (self.faults.hands.fail_guest_write)(disk);
                return self.env.sleep_until(self.env.now() + PAUSE).await;
            }
            _ => return,
        };
        let (deadline, arguments) = (self.env.now() + MEANWHILE, json!({ "command-line": line }));
        let Some(control) = &self.faults.control else { return };
        // QEMU may end of it, before or behind its reply.
        let _ = control.call(Band::In, "guest", "human-monitor-command", Some(&arguments), deadline).await;
    }

    /// Another client does something on the second monitor.
    async fn meanwhile(&self, json: &str) {
        let request: Value = serde_json::from_str(json).expect("the scenario was checked");
        let command = request["execute"].as_str().unwrap_or_default();
        let deadline = self.env.now() + MEANWHILE;
        let Some(control) = &self.faults.control else { return };
        let called = control.call(Band::In, "meanwhile", command, request.get("arguments"), deadline);
        if let Err(error) = called.await {
            self.note(format!("meanwhile: {error}"));
        }
    }

    /// A text of the scenario as it goes over this connection.
    fn bytes(&self, text: &str) -> Vec<u8> {
        match self.peer {
            Peer::Monitor => text.as_bytes().to_vec(),
            Peer::Agent => asked::bytes_of(text),
        }
    }

    fn note(&self, what: String) {
        self.record.note(self.env.now(), Entry::Fault(what));
    }

    /// Sends the line beside which something has happened, unless that came behind it.
    async fn still_send(&mut self, side: Side, way: Way, line: &[u8]) -> Option<()> {
        if side == Side::After { Some(()) } else { self.send(way, line).await }
    }

    async fn send(&mut self, way: Way, line: &[u8]) -> Option<()> {
        let held = self.delayed.iter().rfind(|(_, other, _)| *other == way && way == Way::ToQemu);
        if let Some((due, ..)) = held {
            self.delayed.push((*due, way, line.to_vec()));
            self.delayed.sort_by_key(|(due, ..)| *due);
            return Some(());
        }
        self.send_now(way, line).await
    }

    async fn send_now(&mut self, way: Way, line: &[u8]) -> Option<()> {
        let mut bytes = line.to_vec();
        bytes.extend_from_slice(if self.peer == Peer::Monitor { b"\r\n" } else { b"\n" });
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
            Way::ToDriver if self.faults.silent(self.peer).get() => Some(()),
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
            let said = &mut self.piece.1;
            let (mut from, mut to) = split(&mut self.far);
            match race(to.write(bytes), from.read(said)).await {
                First::Left(written) => bytes = &bytes[written?..],
                First::Right(read) => match read? {
                    0 => return Err(io::ErrorKind::BrokenPipe.into()),
                    length => self.from_far.push(&self.piece.1[..length]),
                },
            }
        }
        Ok(())
    }
}
