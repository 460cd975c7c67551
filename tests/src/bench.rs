//! What the benchmarks against `virsh` share: turns, medians, and how the two are told.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "measures real programs")]

use std::{error::Error, fs, process::Command, time::Duration};

use camino::{Utf8Path, Utf8PathBuf};

use crate::libvirt::Libvirt;

/// Why a measurement failed.
pub type Failed = Box<dyn Error>;

/// Who takes a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// This project's command.
    Driver,
    /// libvirt's.
    Virsh,
}

/// What both took, in the order of the rounds.
#[derive(Debug)]
pub struct Turns<T> {
    /// This project's command.
    pub driver: Vec<T>,
    /// libvirt's.
    pub virsh: Vec<T>,
}

/// Measures both by turns, so that what else the host does strikes both.
///
/// # Errors
/// Who failed, in which round and why.
pub fn by_turns<T>(
    rounds: usize,
    mut measure: impl FnMut(Who) -> Result<T, Failed>,
) -> Result<Turns<T>, String> {
    let mut turns = Turns { driver: Vec::new(), virsh: Vec::new() };
    for round in 0..rounds {
        for (who, all) in [(Who::Driver, &mut turns.driver), (Who::Virsh, &mut turns.virsh)] {
            all.push(measure(who).map_err(|error| format!("{who:?}, round {round}: {error}"))?);
        }
    }
    Ok(turns)
}

impl<T> Turns<T> {
    /// Tells the medians of one value, and how many times as long as `virsh` this project takes: none if one of them has no such
    /// value.
    #[expect(clippy::print_stdout, reason = "a benchmark tells what it has measured")]
    pub fn tell(&self, what: &str, value: fn(&T) -> Option<Duration>) -> Option<f64> {
        let (driver, virsh) = (median(&self.driver, value), median(&self.virsh, value));
        let Some((driver, virsh)) = driver.zip(virsh) else {
            println!("{what:<44} driver {driver:?}   virsh {virsh:?}");
            return None;
        };
        let ratio = driver.as_secs_f64() / virsh.as_secs_f64();
        println!("{what:<44} driver {driver:>9.1?}   virsh {virsh:>9.1?}   ratio {ratio:.3}");
        Some(ratio)
    }
}

fn median<T>(all: &[T], value: fn(&T) -> Option<Duration>) -> Option<Duration> {
    let mut values: Vec<_> = all.iter().filter_map(value).collect();
    values.sort();
    values.get(values.len() / 2).copied()
}

/// A new folder, and in it two empty images of 64 MiB, `a` and `b`.
///
/// # Errors
/// The folder cannot be made, or `qemu-img` makes no image.
pub fn folder(libvirt: &Libvirt) -> Result<Utf8PathBuf, Failed> {
    let folder = libvirt.path("play");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir(&folder)?;
    for disk in ["a", "b"] {
        let made = Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2", folder.join(disk).as_str(), "64M"])
            .status()?;
        if !made.success() {
            return Err("qemu-img makes no image".into());
        }
    }
    Ok(folder)
}

/// Defines a machine and starts it.
///
/// # Errors
/// libvirt's.
pub fn start(libvirt: &Libvirt, machine: &str) -> Result<(), Failed> {
    let machine = libvirt.file("machine.xml", machine)?;
    libvirt.virsh(&["define", machine.as_str()])?;
    libvirt.virsh(&["start", "vm"]).map(drop)
}

/// The machine's end, whatever became of it.
///
/// # Errors
/// It does not end.
pub fn end(libvirt: &Libvirt) -> Result<(), Failed> {
    let ended = libvirt.virsh(&["destroy", "vm"]);
    let _ = libvirt.virsh(&["undefine", "vm", "--snapshots-metadata"]);
    ended.map(drop)
}

/// The folder of the driver's records, without any. What is known of QEMU is kept, as the other's daemon keeps it; the machine is a
/// new one each time.
pub fn state(libvirt: &Libvirt) -> Utf8PathBuf {
    let state = libvirt.path("state");
    for record in ["s1.xml", "current"] {
        let _ = fs::remove_file(state.join("vm").join(record));
    }
    state
}

/// The options of `snapshot-create-as` that both commands take, `DIR` being a new folder.
pub fn options(options: &[&str], folder: &Utf8Path) -> Vec<String> {
    options.iter().map(|option| option.replace("DIR", folder.as_str())).collect()
}

/// A disk of the machine's description.
pub fn disk(folder: &Utf8Path, name: &str, target: &str) -> String {
    format!(
        "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{folder}/{name}'/>\
         <target dev='{target}' bus='virtio'/><serial>{target}</serial></disk>"
    )
}

/// QEMU's arguments for a further monitor on a socket of this name in the folder.
pub fn monitor(folder: &Utf8Path, name: &str) -> String {
    format!(
        "<qemu:arg value='-chardev'/><qemu:arg value='socket,id=ff-{name},path={folder}/{name},server=on,wait=off'/>\
         <qemu:arg value='-mon'/><qemu:arg value='chardev=ff-{name},mode=control'/>"
    )
}
