//! A real libvirt of one's own, where there is one: for tests of what it and this driver hand to each other.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "starts a real daemon and speaks to it by its own client, in real time"
)]

use std::{error::Error, fs, process::Command, thread, time::Duration};

use camino::{Utf8Path, Utf8PathBuf};
use tempfile::TempDir;

use crate::real;

type Failed = Box<dyn Error>;

/// A libvirtd with all its state in a temporary folder. Dropped, it ends.
pub struct Libvirt {
    folder: TempDir,
    uri: String,
    /// A QEMU that its machines run on.
    pub qemu: Utf8PathBuf,
}

impl Libvirt {
    /// Starts one; if that cannot be, says why not.
    ///
    /// # Errors
    /// What is missing.
    pub fn start() -> Result<Self, String> {
        let programs = real::programs();
        // libvirt 9.0 is as old as QEMU 7.2.
        let of_its_time = programs.iter().find(|program| program.as_str().contains("7.2"));
        let qemu = of_its_time.or(programs.first()).ok_or("there is no real QEMU")?.clone();
        let folder = TempDir::new().map_err(|error| error.to_string())?;
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../ci/private-libvirtd.sh");
        let started = Command::new(script).arg(folder.path()).output().map_err(|error| error.to_string())?;
        if !started.status.success() {
            return Err(String::from_utf8_lossy(&started.stderr).trim().to_owned());
        }
        let uri = String::from_utf8_lossy(&started.stdout).trim().to_owned();
        Ok(Self { folder, uri, qemu })
    }

    /// A path in its folder.
    ///
    /// # Panics
    /// If the folder for temporary files has a name that is no text.
    pub fn path(&self, name: &str) -> Utf8PathBuf {
        Utf8Path::from_path(self.folder.path())
            .expect("temporary folders have names that are text")
            .join(name)
    }

    /// Where it keeps the records of snapshots, each machine's in a folder of its own.
    pub fn snapshots(&self) -> Utf8PathBuf {
        self.path("lib/qemu/snapshot")
    }

    /// What `virsh` prints.
    ///
    /// # Errors
    /// Its words, if it fails.
    pub fn virsh(&self, arguments: &[&str]) -> Result<String, Failed> {
        let ran = Command::new("virsh").args(["-c", &self.uri]).args(arguments).env("TZ", "UTC").output()?;
        if !ran.status.success() {
            let words = String::from_utf8_lossy(&ran.stderr);
            return Err(format!("virsh {}: {}", arguments.join(" "), words.trim()).into());
        }
        Ok(String::from_utf8(ran.stdout)?)
    }

    /// Writes a file into its folder, and tells where that is.
    ///
    /// # Errors
    /// The system's.
    pub fn file(&self, name: &str, text: &str) -> Result<Utf8PathBuf, Failed> {
        let path = self.path(name);
        fs::write(&path, text)?;
        Ok(path)
    }
}

impl Drop for Libvirt {
    fn drop(&mut self) {
        let Ok(pid) = fs::read_to_string(self.path("libvirtd.pid")) else { return };
        let pid = pid.trim();
        let _ = Command::new("kill").arg(pid).status();
        // Its folder goes with it.
        for _ in 0..100 {
            if !Utf8Path::new("/proc").join(pid).exists() {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}
