//! What a snapshot holds, served by the QEMU of the machine that runs: it has the image open already, below the overlay.
//!
//! ```text
//! find the nodes -> nbd-server-start -> block-export-add each ... block-export-del each -> nbd-server-stop
//! ```
//! A QEMU has one NBD server. One that somebody else has started is left alone: nobody could say where it listens. While this
//! serves, the machine's records are locked, so that no operation merges into what is read. Should whoever serves be killed, QEMU
//! serves on until it ends, is told `nbd-server-stop`, or the next export ends it.
//!
//! What it does not serve: what is inside an image under a name, and what storages hold; QEMU has neither open.
//!
//! Source: QEMU QAPI `nbd-server-start`, `block-export-add`.

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};

use super::Readable;
use crate::{
    Machine,
    client::{CommandError, Events, Silence},
    commands::{
        BlockExportAdd, BlockExportDel, BlockNode, ExportDeleted, NbdServerStart, NbdServerStop,
        QueryBlockExports, QueryNamedBlockNodes, ServerAddress,
    },
    disk::DiskError,
    env::{Env, FileKind},
    live::Live,
    mark,
    observed::file_of,
    patience::Patience,
    storage::BackupSource,
    wire,
};

/// What QEMU serves, until it is told to end.
pub struct Served<'m, E: Env> {
    machine: &'m Machine<E>,
    socket: Utf8PathBuf,
    /// The ids of the exports.
    ids: Vec<String>,
    events: Events<E>,
}

impl<'m, E: Env> Served<'m, E> {
    /// Lets the machine's QEMU serve these at a socket, where nothing may be.
    ///
    /// # Errors
    /// [`DiskError::NotExported`]: nothing is served. [`DiskError::ExportLeft`]: that failed, and something may be.
    pub async fn begin(
        machine: &'m Machine<E>,
        socket: &Utf8Path,
        readable: &[Readable],
    ) -> Result<Self, DiskError> {
        let target = readable.first().map(|disk| disk.target.clone()).unwrap_or_default();
        let refused = |why: String| DiskError::NotExported { target: target.clone(), why };
        let monitor = machine.monitor();
        if !socket.is_absolute() {
            return Err(refused(format!("`{socket}` is somewhere else to QEMU: name its whole path")));
        }
        let live = hold(machine);
        let asked = |error: CommandError| refused(mark::told(&error));
        let nodes = live.ask(&QueryNamedBlockNodes { flat: true }).await.map_err(asked)?;
        let nodes = readable.iter().map(|disk| node_of(disk, &nodes)).collect::<Result<Vec<_>, _>>()?;
        // Whether the server runs cannot be asked; what it exports can.
        let known = live.ask(&QueryBlockExports {}).await.map_err(asked)?;
        let known: Vec<_> = known.into_iter().filter(|export| export.kind == "nbd").map(|it| it.id).collect();
        if known.iter().any(|id| !id.starts_with(OURS)) {
            return Err(refused(SERVES_ALREADY.to_owned()));
        }
        if !known.is_empty() {
            end_all(&live, &known).await.map_err(asked)?;
        }
        // One that served there before is gone with that.
        if !matches!(monitor.env().file_kind(socket).await, Ok(FileKind::Absent)) {
            return Err(refused(format!("`{socket}` is there already, or cannot be looked at")));
        }
        let fresh = monitor.env().unique_id();
        let ids = (0..readable.len()).map(|index| format!("{OURS}{fresh}-{index}")).collect();
        let events = machine.client().events();
        let served = Self { machine, socket: socket.to_owned(), ids, events };
        let address = ServerAddress::Unix { path: socket.as_str() };
        match live.execute(&NbdServerStart { addr: address }).await {
            Ok(_) => {}
            Err(CommandError::Refused { error, .. }) if error.desc.contains("already running") => {
                return Err(refused(SERVES_ALREADY.to_owned()));
            }
            Err(error @ CommandError::Refused { .. }) => return Err(asked(error)),
            Err(error) => return Err(served.given_up(asked(error)).await),
        }
        for ((id, disk), node) in served.ids.iter().zip(readable).zip(&nodes) {
            let add = BlockExportAdd::Nbd { id, node_name: node, name: &disk.target, writable: false };
            if let Err(error) = live.execute(&add).await {
                let (target, why) = (disk.target.clone(), mark::told(&error));
                return Err(served.given_up(DiskError::NotExported { target, why }).await);
            }
        }
        Ok(served)
    }

    /// Where it listens.
    pub fn socket(&self) -> &Utf8Path {
        &self.socket
    }

    /// Waits until then, unless it ends before.
    ///
    /// # Errors
    /// [`DiskError::NotExported`]: QEMU is gone, or somebody has ended it.
    pub async fn until(&mut self, deadline: Duration) -> Result<(), DiskError> {
        let ended = |why: String| DiskError::NotExported { target: "what was served".to_owned(), why };
        loop {
            match self.events.next(deadline).await {
                Err(Silence::TimedOut) => return Ok(()),
                Err(Silence::Lost(lost)) => return Err(ended(format!("the monitor was lost: {lost}"))),
                Err(Silence::Lagged) => {}
                Ok(event) if event.name == "BLOCK_EXPORT_DELETED" => {
                    let data = event.data.as_deref();
                    let gone = data.and_then(|data| wire::payload::<ExportDeleted>(data).ok());
                    if gone.is_some_and(|gone| self.ids.contains(&gone.id)) {
                        return Err(ended("somebody else has ended it".to_owned()));
                    }
                }
                Ok(_) => {}
            }
        }
    }

    /// Ends it: the exports, with whoever reads them, and the server.
    ///
    /// # Errors
    /// [`DiskError::ExportLeft`].
    pub async fn end(self) -> Result<(), DiskError> {
        let ended = self.end_in_qemu().await;
        let env = self.machine.monitor().env();
        // One that was killed leaves it.
        if ended.is_ok() && !matches!(env.file_kind(&self.socket).await, Ok(FileKind::Absent)) {
            let _ = env.remove_file(&self.socket).await;
        }
        ended
    }

    async fn end_in_qemu(&self) -> Result<(), DiskError> {
        let left = |why: String| DiskError::ExportLeft { socket: self.socket.clone(), why };
        match self.machine.monitor().reconnect(Patience::default().connect).await {
            // What it served went with it.
            Err(error) if error.is_gone() => return Ok(()),
            reached => reached.map_err(|error| left(mark::told(&error)))?,
        }
        end_all(&hold(self.machine), &self.ids).await.map_err(|error| left(mark::told(&error)))
    }

    /// What has failed, once what was begun is ended; what is left of it otherwise.
    async fn given_up(self, error: DiskError) -> DiskError {
        self.end().await.err().unwrap_or(error)
    }
}

/// How the ids of exports begin that are ours. One that is there before an export is begun is left by a driver that was killed: the
/// machine's records are locked as long as somebody serves, and by us now.
const OURS: &str = "ff-";

/// Ends exports, with whoever reads them, and the server.
async fn end_all<E: Env>(live: &Live<E>, ids: &[String]) -> Result<(), CommandError> {
    for id in ids {
        match live.execute(&BlockExportDel { id, mode: "hard" }).await {
            // It is gone, or never was.
            Ok(_) | Err(CommandError::Refused { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    match live.execute(&NbdServerStop {}).await {
        Ok(_) | Err(CommandError::Refused { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Why nothing is served by a QEMU that serves something.
const SERVES_ALREADY: &str = "an NBD server runs in this QEMU already, which has only one: whoever started it ends it by \
                              nbd-server-stop; a storage daemon can serve beside it";

fn hold<E: Env>(machine: &Machine<E>) -> Live<E> {
    let (monitor, patience) = (machine.monitor(), Patience::default());
    monitor.live("export".to_owned(), monitor.env().now() + patience.command, patience)
}

/// The node that has the image of a snapshot open. One that is written to is no snapshot.
fn node_of(disk: &Readable, nodes: &[BlockNode]) -> Result<String, DiskError> {
    let refused = |why: String| DiskError::NotExported { target: disk.target.clone(), why };
    let file = match (&disk.source, &disk.tag) {
        (_, Some(tag)) => {
            let why = "is inside an image, and QEMU serves whole images: a program reads it when nobody writes there";
            return Err(refused(format!("{tag} {why}")));
        }
        (BackupSource::File(path) | BackupSource::Block(path), None) => path,
        (BackupSource::Rbd(name), None) => {
            return Err(refused(format!("QEMU has {name} not open: a storage daemon can serve it")));
        }
    };
    let has_it = |node: &&BlockNode| {
        !node.is_protocol() && node.drv == disk.format && file_of(&node.image.filename) == *file
    };
    let mut open = nodes.iter().filter(has_it);
    let node = open.find(|node| node.ro).and_then(|node| node.node_name.clone());
    node.ok_or_else(|| match nodes.iter().any(|node| has_it(&node)) {
        true => refused(format!("QEMU writes to `{file}`, so that it holds the snapshot no more")),
        false => refused(format!("QEMU has `{file}` not open: a storage daemon can serve it")),
    })
}
