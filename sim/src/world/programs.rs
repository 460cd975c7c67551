//! Programs of the simulated host that a client runs, known by their names in whatever folder.

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};

use super::World;
use crate::{
    host::Host,
    qemu::block::permissions::{Permissions, locked_by_reader},
    qemu_img, storage,
};

/// What a program said, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// Its exit code.
    pub exit: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// How long it takes. What it changes is changed at once.
    pub takes: Duration,
}

impl World {
    /// Whether QEMU, or another program that reads it, has a file open and has locked it: a write lock over all that QEMU locks would
    /// be refused.
    pub fn image_in_use(&self, path: &Utf8Path) -> bool {
        let path = self.host.resolve(path);
        let everything = (Permissions::ALL, Permissions::NONE);
        match self.alive {
            true => self.qemu.graph().lock_on(&path, everything, &self.host, self.release),
            false => locked_by_reader(&self.host, &path, everything),
        }
        .is_some()
    }

    /// Runs a program; there are `qemu-img`, QEMU and the tools of the storages, and no others. `input` is what it can read.
    pub fn run_program(
        &mut self,
        now: Duration,
        program: &Utf8Path,
        arguments: &[String],
        input: &[u8],
    ) -> Option<Ran> {
        match program.file_name()? {
            "qemu-img" => {
                let around = qemu_img::Surroundings {
                    graph: self.alive.then(|| self.qemu.graph()),
                    host: &mut self.host,
                    release: self.release,
                    clock: Host::EPOCH + now,
                };
                Some(qemu_img::run(arguments, around))
            }
            name if name.starts_with("qemu-system-") => Some(self.run_qemu(now, name, arguments, input)),
            _ => {
                let graph = self.alive.then(|| self.qemu.graph());
                let nodes =
                    graph.into_iter().flat_map(|graph| graph.newest_first().map(move |node| (graph, node)));
                let open =
                    nodes.filter_map(|(graph, node)| graph.file_of(node)).map(Utf8PathBuf::from).collect();
                let around = storage::Surroundings { host: &mut self.host, storage: &mut self.storage, open };
                storage::run(program, arguments, input, around)
            }
        }
    }
}
