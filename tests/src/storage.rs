//! Real storages of one's own, where there are any: file systems in files, a pool of ZFS, a Ceph. Dropped, each is gone.
//!
//! All of them need root, and the Debian package that each names when it is missing.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "starts real programs and writes real files, in real time"
)]

pub mod appliance;
pub mod walk;

use std::{
    fs,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use camino::{Utf8Path, Utf8PathBuf};
use tempfile::TempDir;

/// Runs a program; what it says.
///
/// # Errors
/// Its words if it fails, or why it cannot be run.
pub fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let ran = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let ran = ran.map_err(|error| format!("{program}: {error}"))?;
    if !ran.status.success() {
        let words = String::from_utf8_lossy(&ran.stderr);
        return Err(format!("{program} {}: {}", arguments.join(" "), words.trim()));
    }
    Ok(String::from_utf8_lossy(&ran.stdout).into_owned())
}

/// A temporary folder, by a path that is text.
fn folder() -> Result<(TempDir, Utf8PathBuf), String> {
    let folder = TempDir::new().map_err(|error| error.to_string())?;
    let path =
        Utf8Path::from_path(folder.path()).ok_or("the folder for temporary files is no text")?.to_owned();
    Ok((folder, path))
}

/// Waits until no other process has a storage of this name, which the whole host shares. Let go when it is dropped.
fn alone(name: &str) -> Result<fs::File, String> {
    let lock = fs::File::create(std::env::temp_dir().join(format!("freezeframe-test-{name}.lock")));
    let lock = lock.map_err(|error| error.to_string())?;
    lock.lock().map_err(|error| error.to_string())?;
    Ok(lock)
}

/// Whether the program that a package brings is here.
fn needs(program: &str, package: &str) -> Result<(), String> {
    match Command::new(program).arg("--version").stdin(Stdio::null()).output() {
        Err(_) => Err(format!("no `{program}`: apt-get install {package}")),
        Ok(_) if !rustix::process::geteuid().is_root() => Err("it needs root".to_owned()),
        Ok(_) => Ok(()),
    }
}

/// A file system in a file, mounted.
#[derive(Debug)]
pub struct FileSystem {
    _folder: TempDir,
    /// Where it is mounted.
    pub root: Utf8PathBuf,
}

impl FileSystem {
    /// One of btrfs, of so many MiB.
    ///
    /// # Errors
    /// Why it cannot be here.
    pub fn btrfs(mebibytes: u64) -> Result<Self, String> {
        needs("mkfs.btrfs", "btrfs-progs")?;
        Self::made(mebibytes, "mkfs.btrfs", &["--quiet"])
    }

    /// One of xfs, of so many MiB.
    ///
    /// # Errors
    /// Why it cannot be here.
    pub fn xfs(mebibytes: u64) -> Result<Self, String> {
        needs("mkfs.xfs", "xfsprogs")?;
        Self::made(mebibytes, "mkfs.xfs", &["-q"])
    }

    fn made(mebibytes: u64, program: &str, arguments: &[&str]) -> Result<Self, String> {
        let (keep, path) = folder()?;
        let (image, root) = (path.join("image"), path.join("root"));
        let file = fs::File::create(&image).and_then(|file| file.set_len(mebibytes << 20));
        file.and_then(|()| fs::create_dir(&root)).map_err(|error| error.to_string())?;
        run(program, &[arguments, &[image.as_str()]].concat())?;
        run("mount", &["-o", "loop", image.as_str(), root.as_str()])?;
        Ok(Self { _folder: keep, root })
    }
}

impl Drop for FileSystem {
    fn drop(&mut self) {
        // A test that has failed may have left it frozen: an error says that it was not.
        let _ = run("fsfreeze", &["--unfreeze", self.root.as_str()]);
        let _ = run("umount", &["--recursive", self.root.as_str()]);
    }
}

/// A block device of the host that holds nothing: a file behind a loop.
#[derive(Debug)]
pub struct LoopDevice {
    /// Where it is: `/dev/loop0`.
    pub path: Utf8PathBuf,
    _folder: TempDir,
}

impl LoopDevice {
    /// Makes it, of so many MiB.
    ///
    /// # Errors
    /// Why it cannot be here.
    pub fn new(mib: u64) -> Result<Self, String> {
        let (keep, path) = folder()?;
        let image = path.join("image");
        let file = fs::File::create(&image).and_then(|file| file.set_len(mib << 20));
        file.map_err(|error| error.to_string())?;
        let device = run("losetup", &["--find", "--show", image.as_str()])?;
        Ok(Self { path: device.trim().into(), _folder: keep })
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = run("losetup", &["--detach", self.path.as_str()]);
    }
}

/// A volume group of LVM in a file, by the name of `freezeframe-test`, with a logical volume `vm1` of 32 MiB. The volume is made
/// where the kernel has no device-mapper too, without a device then.
#[derive(Debug)]
pub struct VolumeGroup {
    device: LoopDevice,
    _alone: fs::File,
}

impl VolumeGroup {
    /// Its name.
    pub const NAME: &str = "freezeframe-test";

    /// Makes it, of 100 MiB.
    ///
    /// # Errors
    /// Why it cannot be here.
    pub fn new() -> Result<Self, String> {
        needs("lvm", "lvm2")?;
        let alone = alone("lvm")?;
        let group = Self { device: LoopDevice::new(100)?, _alone: alone };
        run("vgcreate", &["--quiet", Self::NAME, group.device.path.as_str()])?;
        let volume = ["--yes", "--size", "32M", "--name", "vm1", Self::NAME];
        let without = ["--driverloaded", "n", "--activate", "n", "--zero", "n"];
        run("lvcreate", &volume).or_else(|_| run("lvcreate", &[&without[..], &volume].concat()))?;
        Ok(group)
    }
}

impl Drop for VolumeGroup {
    fn drop(&mut self) {
        let _ = run("vgremove", &["--yes", "--quiet", Self::NAME]);
    }
}

/// A pool of ZFS in a file, by the name of `freezeframe-test`.
#[derive(Debug)]
pub struct Pool {
    /// zfs-fuse, where nothing else was there.
    daemon: Option<Child>,
    _folder: TempDir,
    _alone: fs::File,
    /// Below which its file systems are mounted.
    pub root: Utf8PathBuf,
}

impl Pool {
    /// Its name.
    pub const NAME: &str = "freezeframe-test";

    /// Makes it, of 128 MiB; starts zfs-fuse first if no ZFS answers.
    ///
    /// # Errors
    /// Why it cannot be here.
    pub fn new() -> Result<Self, String> {
        needs("zpool", "zfs-fuse")?;
        let alone = alone("zfs")?;
        let (keep, path) = folder()?;
        let mut pool = Self { daemon: None, _folder: keep, _alone: alone, root: path.join("root") };
        if run("zpool", &["list"]).is_err() {
            let pid = path.join("pid");
            let started = Command::new("zfs-fuse").args(["--no-daemon", "--pidfile", pid.as_str()]).spawn();
            pool.daemon = Some(started.map_err(|error| format!("zfs-fuse: {error}"))?);
            let answers = (0..100).any(|_| {
                thread::sleep(Duration::from_millis(100));
                run("zpool", &["list"]).is_ok()
            });
            if !answers {
                return Err("zfs-fuse does not answer".to_owned());
            }
        }
        let image = path.join("image");
        let file = fs::File::create(&image).and_then(|file| file.set_len(128 << 20));
        file.map_err(|error| error.to_string())?;
        run("zpool", &["create", "-m", pool.root.as_str(), Self::NAME, image.as_str()])?;
        Ok(pool)
    }

    /// Makes a file system in it; where that is mounted.
    ///
    /// # Errors
    /// The tool's words.
    pub fn file_system(&self, name: &str) -> Result<Utf8PathBuf, String> {
        run("zfs", &["create", &format!("{}/{name}", Self::NAME)])?;
        Ok(self.root.join(name))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // It is busy until the last of its file systems is unmounted, which takes a moment.
        for _ in 0..40 {
            if run("zpool", &["destroy", "-f", Self::NAME]).is_ok() {
                break;
            }
            thread::sleep(Duration::from_millis(250));
        }
        if let Some(daemon) = &mut self.daemon {
            let _ = run("kill", &[&daemon.id().to_string()]);
            let _ = daemon.wait();
        }
    }
}

/// A Ceph with one monitor and one OSD, and a pool `rbd`.
#[derive(Debug)]
pub struct Ceph {
    folder: TempDir,
    /// Its file of settings.
    pub settings: Utf8PathBuf,
}

impl Ceph {
    /// Starts it by `ci/private-ceph.sh`; takes ten seconds.
    ///
    /// # Errors
    /// Why it cannot be here.
    pub fn start() -> Result<Self, String> {
        let (folder, path) = folder()?;
        // Two that run at once must not share a port.
        let port = 20_000 + rustix::process::getpid().as_raw_nonzero().get() % 10_000;
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../ci/private-ceph.sh");
        let settings = run(script, &[path.as_str(), &port.to_string()])?;
        Ok(Self { folder, settings: settings.trim().into() })
    }

    /// What `rbd` says.
    ///
    /// # Errors
    /// Its words.
    pub fn rbd(&self, arguments: &[&str]) -> Result<String, String> {
        run("rbd", &[arguments, &["--conf", self.settings.as_str()]].concat())
    }

    /// Stops one of its processes in its tracks, or lets it go on: `mon.a`, `osd.0`.
    ///
    /// # Errors
    /// The system's words.
    pub fn signal(&self, process: &str, signal: &str) -> Result<(), String> {
        let pid = fs::read_to_string(self.folder.path().join(format!("{process}.pid")));
        let pid = pid.map_err(|error| format!("{process}: {error}"))?;
        run("kill", &[signal, pid.trim()]).map(drop)
    }
}

impl Drop for Ceph {
    fn drop(&mut self) {
        for process in ["osd.0", "mon.a"] {
            let _ = self.signal(process, "-CONT");
            let _ = self.signal(process, "-KILL");
        }
    }
}
