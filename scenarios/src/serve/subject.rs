//! What is served: the machine and the faults of a scenario, a file with a `[machine]` alone, or QEMU's arguments.
//!
//! Arguments stand in a file as they would behind QEMU's name, on one line or on many; blanks part them, so that no path
//! may hold one. A line that begins with `#` is a remark, and QEMU's name in front may stay.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "it reads the one file that is served, and how large its images are"
)]

use std::{
    fs::{self, File},
    io::{self, Read as _},
};

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe_driver::error::Code;
use freezeframe_sim::{
    Machine, Release,
    machine::{Agent, Chardev, Disk, Format, Frontend, Unknown},
};

use super::{address::Address, qcow2};
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
    /// It holds nothing.
    #[error("error: {0} holds none of QEMU's arguments")]
    Empty(Utf8PathBuf),
    /// There is no QEMU of its machine.
    #[error("error: the machine of {0} is off: there is nothing of it that could be served")]
    Off(Utf8PathBuf),
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
            if words(&text).next().is_none() {
                return Err(SubjectError::Empty(path.to_owned()));
            }
            let mut machine = Machine::from_arguments(words(&text))?;
            machine.disks.iter_mut().for_each(measure);
            return Ok(Self::of(machine, false));
        }
        let off = |machine: &language::Machine| machine.state == language::Power::Off;
        if let Some(machine) = language::Machine::alone(path, &text)? {
            if off(&machine) {
                return Err(SubjectError::Off(path.to_owned()));
            }
            return Ok(Self::of(machine::in_folder(&machine, &Machine::new().folder), true));
        }
        let scenario = Scenario::parse_with_codes(path, &text, &Code::ALL.map(Code::name))?;
        if off(&scenario.machine) {
            return Err(SubjectError::Off(path.to_owned()));
        }
        Ok(Self::from(&scenario))
    }

    fn of(machine: Machine, moves: bool) -> Self {
        Self { machine, moves, faults: Vec::new(), releases: Release::ALL.to_vec() }
    }

    /// The machine with its images in this folder, with monitors that listen there, and with an agent if one is wanted.
    /// `query-chardev` shows the unix sockets among them alone: of TCP it would tell who is at the other end.
    pub(super) fn machine(&self, folder: Option<&Utf8Path>, monitors: &[Address], agent: bool) -> Machine {
        // One monitor more than is served: the faults' own.
        let mut machine = Machine { monitors: monitors.len(), private_monitors: 1, ..self.machine.clone() };
        for (number, address) in monitors.iter().enumerate() {
            let frontend = Some(Frontend::Monitor(number));
            let Address::Unix(path) = address else { continue };
            if machine.chardevs.iter().all(|known| known.frontend != frontend) {
                // As QEMU names what `-qmp` stands for.
                let label = format!("compat_monitor{number}");
                machine.chardevs.push(Chardev { label, path: path.clone(), frontend, connected: false });
            }
        }
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

/// Gives a disk the size of its image, which arguments do not tell; says so if there is none.
fn measure(disk: &mut Disk) {
    match size(disk) {
        Some(size) => disk.size = size,
        None => eprintln!("{}: no such image, one of {} MiB is assumed", disk.path, disk.size >> 20),
    }
}

fn size(disk: &Disk) -> Option<u64> {
    let mut beginning = [0; 32];
    match disk.format {
        Format::Raw => Some(fs::metadata(&disk.path).ok()?.len()),
        Format::Qcow2 => {
            File::open(&disk.path).and_then(|mut file| file.read_exact(&mut beginning)).ok()?;
            qcow2::size(&beginning)
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
    use freezeframe_sim::host::Image;

    use super::*;

    fn served(name: &str, text: &str) -> Result<Subject, SubjectError> {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(folder.path()).unwrap().join(name);
        fs::write(&path, text).unwrap();
        Subject::load(&path)
    }

    #[test]
    fn a_machine_that_is_off_is_not_served() {
        let off = served("vm.toml", "[machine]\nstate = 'off'\n").unwrap_err();
        assert!(off.to_string().contains("is off: there is nothing of it"), "{off}");
        assert!(served("vm.toml", "[machine]\nstate = 'paused'\n").is_ok());
    }

    #[test]
    fn arguments_may_stand_on_one_line_or_on_many() {
        let one = served("vm", "qemu-system-x86_64 -nodefaults -S -m 128").unwrap();
        let many = served("vm", "# a machine\n-nodefaults\n-S\n-m\n128\n").unwrap();
        assert_eq!(one, many);
        assert_eq!(one.machine.memory, 128 << 20);
    }

    #[test]
    fn a_disk_of_arguments_is_as_large_as_the_image_that_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| Utf8PathBuf::from_path_buf(folder.path().join(name)).unwrap();
        let image = Image::qcow2(64 << 20);
        fs::write(path("disk.qcow2"), qcow2::bytes(image.as_qcow2().unwrap()).unwrap()).unwrap();
        fs::write(path("disk.raw"), [0; 4096]).unwrap();
        let size = |format: &str, name: &str| {
            let arguments = format!(
                "-nodefaults -blockdev driver=file,node-name=f,filename={} -blockdev driver={format},node-name=d,file=f \
                 -device virtio-blk-pci,id=v,drive=d",
                path(name)
            );
            served("vm", &arguments).unwrap().machine.disks[0].size
        };
        assert_eq!(size("qcow2", "disk.qcow2"), 64 << 20);
        assert_eq!(size("raw", "disk.raw"), 4096);
        assert_eq!(size("qcow2", "not-there"), Machine::DISK_SIZE);
    }

    #[test]
    fn a_machine_alone_needs_no_steps() {
        let subject = served("vm.toml", "[machine]\ndisks = [{ target = \"vda\" }]\n").unwrap();
        assert_eq!(subject.machine.disks[0].target, "vda");
        let moved = subject.machine(Some("/elsewhere".into()), &[], true);
        assert_eq!(moved.disks[0].path, "/elsewhere/vda.qcow2");
        assert!(moved.agent.is_some());
    }

    #[test]
    fn the_sockets_of_its_monitors_are_the_machines_own() {
        let address = Address::Unix("/run/m".into());
        let plain = served("vm", "-nodefaults").unwrap().machine(None, std::slice::from_ref(&address), false);
        assert_eq!((plain.monitors, plain.private_monitors), (1, 1));
        assert_eq!(
            (plain.chardevs[0].label.as_str(), plain.chardevs[0].path.as_str()),
            ("compat_monitor0", "/run/m")
        );
        let own =
            "-nodefaults -chardev socket,id=mon,path=/own,server=on,wait=off -mon chardev=mon,mode=control";
        let own = served("vm", own).unwrap().machine(None, &[address], false);
        assert_eq!(own.chardevs.len(), 1);
        assert_eq!(own.chardevs[0].label, "mon");
    }

    #[test]
    fn what_cannot_be_served_says_why() {
        let unknown = served("vm", "-nodefaults -device vfio-pci").unwrap_err().to_string();
        assert!(unknown.contains("-device vfio-pci"), "{unknown}");
        let bogus = served("vm", "-bogus -machine pc").unwrap_err().to_string();
        assert_eq!(bogus, "error: the simulator cannot be a machine with `-bogus`");
        for nothing in ["", "# a remark\n", "qemu-system-x86_64\n"] {
            let empty = served("vm", nothing).unwrap_err().to_string();
            assert!(empty.ends_with("holds none of QEMU's arguments"), "{empty}");
        }
        let mistake = served("vm.toml", "[machine]\ndisk = []\n").unwrap_err().to_string();
        assert!(mistake.contains("disk"), "{mistake}");
    }
}
