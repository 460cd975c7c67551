//! Programs of the simulated host that a client runs, known by their names in whatever folder.

use std::time::Duration;

use camino::Utf8Path;

use super::World;
use crate::{host::Host, qemu_img};

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
    /// Runs a program; there are `qemu-img` and QEMU, and no others.
    pub fn run_program(&mut self, now: Duration, program: &Utf8Path, arguments: &[String]) -> Option<Ran> {
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
            name if name.starts_with("qemu-system-") => Some(self.run_qemu(now, name, arguments)),
            _ => None,
        }
    }
}
