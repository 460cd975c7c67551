//! What is served: the machine and the faults of a scenario, a file with a `[machine]` alone, or QEMU's arguments.
//!
//! Arguments stand in a file as they would behind QEMU's name, on one line or on many; blanks part them, so that no path
//! may hold one. A line that begins with `#` is a remark, and QEMU's name in front may stay.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "it reads the one file that is served"
)]

use std::{fs, io};

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe_driver::error::Code;
use freezeframe_sim::{
    Machine, Release,
    machine::{Agent, Unknown},
};

use crate::{
    language::{self, Diagnostics, Fault, Scenario},
    machine,
};

/// What is served.
#[derive(Debug, Clone, PartialEq)]
pub struct Subject {
    machine: Machine,
    /// Its images are the scenario's to name; those of arguments have paths of their own.
    moves: bool,
    /// What goes wrong at the first monitor.
    pub faults: Vec<Fault>,
    /// The releases that it is for, oldest first.
    pub releases: Vec<Release>,
}

/// Why a file cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum SubjectError {
    /// It cannot be read.
    #[error("error: cannot read {path}: {source}")]
    Unreadable {
        /// Which.
        path: Utf8PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It has mistakes.
    #[error(transparent)]
    Mistakes(#[from] Diagnostics),
    /// Its arguments make a machine that the simulator cannot be.
    #[error("error: the simulator cannot be {0}")]
    Unknown(#[from] Unknown),
}

impl Subject {
    /// Reads a file: `.toml` is a scenario or a machine, anything else QEMU's arguments.
    ///
    /// # Errors
    /// [`SubjectError`].
    pub fn load(path: &Utf8Path) -> Result<Self, SubjectError> {
        let text = fs::read_to_string(path)
            .map_err(|source| SubjectError::Unreadable { path: path.to_owned(), source })?;
        if path.extension() != Some("toml") {
            return Ok(Self::of(Machine::from_arguments(words(&text))?, false));
        }
        if let Some(machine) = language::Machine::alone(path, &text)? {
            return Ok(Self::of(machine::in_folder(&machine, &Machine::new().folder), true));
        }
        let scenario = Scenario::parse_with_codes(path, &text, &Code::ALL.map(Code::name))?;
        Ok(Self::from(&scenario))
    }

    fn of(machine: Machine, moves: bool) -> Self {
        Self { machine, moves, faults: Vec::new(), releases: Release::ALL.to_vec() }
    }

    /// The machine with its images in this folder, with so many monitors, and with an agent if one is wanted.
    pub(super) fn machine(&self, folder: Option<&Utf8Path>, monitors: usize, agent: bool) -> Machine {
        let mut machine = Machine { monitors, ..self.machine.clone() };
        if let Some(folder) = folder {
            for disk in machine.disks.iter_mut().filter(|_| self.moves) {
                disk.path = folder.join(disk.path.file_name().unwrap_or(&disk.target));
            }
            machine.folder = folder.to_owned();
        }
        if agent && machine.agent.is_none() {
            machine.agent = Some(Agent::linux());
        }
        machine
    }
}

impl From<&Scenario> for Subject {
    fn from(scenario: &Scenario) -> Self {
        Self {
            faults: scenario.faults.clone(),
            releases: scenario.releases.iter().map(|release| Release::from(*release)).collect(),
            ..Self::of(machine::of(scenario), true)
        }
    }
}

/// The words of a command line.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let words = lines.flat_map(str::split_ascii_whitespace).filter(|word| *word != "\\");
    words.skip_while(|word| !word.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(name: &str, text: &str) -> Result<Subject, SubjectError> {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(folder.path()).unwrap().join(name);
        fs::write(&path, text).unwrap();
        Subject::load(&path)
    }

    #[test]
    fn arguments_may_stand_on_one_line_or_on_many() {
        let one = served("vm", "qemu-system-x86_64 -nodefaults -S -m 128").unwrap();
        let many = served("vm", "# a machine\n-nodefaults\n-S\n-m\n128\n").unwrap();
        assert_eq!(one, many);
        assert_eq!(one.machine.memory, 128 << 20);
    }

    #[test]
    fn a_machine_alone_needs_no_steps() {
        let subject = served("vm.toml", "[machine]\ndisks = [{ target = \"vda\" }]\n").unwrap();
        assert_eq!(subject.machine.disks[0].target, "vda");
        let moved = subject.machine(Some("/elsewhere".into()), 1, true);
        assert_eq!(moved.disks[0].path, "/elsewhere/vda.qcow2");
        assert!(moved.agent.is_some());
    }

    #[test]
    fn what_cannot_be_served_says_why() {
        let unknown = served("vm", "-nodefaults -device vfio-pci").unwrap_err().to_string();
        assert!(unknown.contains("-device vfio-pci"), "{unknown}");
        let mistake = served("vm.toml", "[machine]\ndisk = []\n").unwrap_err().to_string();
        assert!(mistake.contains("disk"), "{mistake}");
    }
}
