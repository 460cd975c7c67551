//! The storage providers on real storages: each is made for the test and gone after it.
//!
//! Needs root and the storages' Debian packages (see `freezeframe_tests::storage`); what is missing is skipped and said.
//!
//! A test without libtest's harness, which hides what a passing test prints: what is skipped must be seen.
#![allow(clippy::print_stdout, reason = "it has no harness to speak for it")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "reads and writes real files")]

mod lvm;

use std::{env, error::Error, fs, os::unix::fs::symlink, process::ExitCode, time::Duration};

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe_driver::{
    disk::{Ask, DiskError, Disks, Taker as _},
    domain_xml::DomainXml,
    env::tokio::TokioEnv,
    request::Quiesce,
    step::Happened,
    storage::{BackupSource, Btrfs, Exec, Provider, Rbd, Reflink, Storage, StorageError, Zfs},
};
use freezeframe_tests::{
    fails,
    storage::{
        Ceph, FileSystem, Pool,
        appliance::SHELL,
        run,
        walk::{holds, listed, name, walk},
    },
    unharnessed::{asked_for, may_not_skip},
};
use tokio::{runtime::Builder, task::LocalSet};

/// What a machine of CI's may lack: the others need what the gate has installed or built itself.
const MAY_LACK: [&str; 3] = ["zfs", "rbd", "lvm"];

/// Why a test has not passed.
enum Not {
    /// This machine has not what it needs.
    Here(String),
    /// It failed.
    True(Box<dyn Error>),
}

impl<E: Into<Box<dyn Error>>> From<E> for Not {
    fn from(error: E) -> Self {
        Not::True(error.into())
    }
}

fn main() -> ExitCode {
    const TESTS: [&str; 12] = [
        "btrfs",
        "btrfs_puts_nothing_inside_what_has_the_name",
        "btrfs_holds_what_lies_in_it_and_not_what_is_called_so",
        "btrfs_takes_nothing_out_of_its_place",
        "reflink_on_xfs",
        "reflink_on_a_full_file_system",
        "reflink_on_a_frozen_file_system",
        "zfs",
        "rbd",
        "lvm",
        "lvm_in_a_guest",
        "exec",
    ];
    let asked = asked_for(&TESTS);
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    // The part of a test that has the guest's tools on its path is this program once more.
    if let Ok(shell) = env::var(SHELL) {
        let told = LocalSet::new().block_on(&runtime, lvm::in_the_guest(Utf8Path::new(&shell)));
        return match told {
            Ok(()) => ExitCode::SUCCESS,
            Err(Not::Here(error)) => failed(&error),
            Err(Not::True(error)) => failed(&error.to_string()),
        };
    }
    let (mut skipped, mut code) = (0, ExitCode::SUCCESS);
    for name in asked {
        let told = LocalSet::new().block_on(&runtime, async {
            match name {
                "btrfs" => btrfs().await,
                "btrfs_puts_nothing_inside_what_has_the_name" => btrfs_name_is_taken().await,
                "btrfs_holds_what_lies_in_it_and_not_what_is_called_so" => btrfs_holds().await,
                "btrfs_takes_nothing_out_of_its_place" => btrfs_whole().await,
                "reflink_on_xfs" => reflink().await,
                "reflink_on_a_full_file_system" => reflink_full().await,
                "reflink_on_a_frozen_file_system" => reflink_frozen().await,
                "zfs" => zfs().await,
                "rbd" => rbd().await,
                "lvm" => lvm::on_the_host().await,
                "lvm_in_a_guest" => lvm::in_a_guest(),
                _ => exec().await,
            }
        });
        match told {
            Ok(()) => println!("{name}: passed"),
            Err(Not::Here(why)) if !MAY_LACK.contains(&name) && may_not_skip() => {
                println!("{name}: FAILED: {why}; CI=true: it must be there");
                code = ExitCode::FAILURE;
            }
            Err(Not::Here(why)) => {
                skipped += 1;
                println!("{name}: skipped: {why}");
            }
            Err(Not::True(error)) => {
                println!("{name}: FAILED: {error}");
                code = ExitCode::FAILURE;
            }
        }
    }
    if skipped > 0 {
        println!("\nskipped {skipped}: this machine has not all storages");
    }
    code
}

fn failed(error: &str) -> ExitCode {
    println!("lvm, in the guest: {error}");
    ExitCode::FAILURE
}

fn storage(provider: impl Provider + 'static) -> Storage<TokioEnv> {
    Storage::new(TokioEnv::new(), provider)
}

fn write_to(file: &Utf8Path) -> impl Fn(&str) -> Result<(), String> {
    let file = file.to_owned();
    move |words| fs::write(&file, words).map_err(|error| error.to_string())
}

fn read_from(file: &Utf8Path) -> impl Fn() -> Result<String, String> {
    let file = file.to_owned();
    move || fs::read_to_string(&file).map_err(|error| error.to_string())
}

/// The names in a folder, sorted.
fn names(folder: &Utf8Path) -> Result<Vec<String>, String> {
    let entries = fs::read_dir(folder).map_err(|error| error.to_string())?;
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    Ok(names)
}

/// A file system of btrfs with a subvolume `vm1` and a disk in it.
fn subvolume() -> Result<(FileSystem, Storage<TokioEnv>), Not> {
    let system = FileSystem::btrfs(300).map_err(Not::Here)?;
    let volume = system.root.join("vm1");
    run("btrfs", &["subvolume", "create", volume.as_str()])?;
    fs::write(volume.join("vda.raw"), "old")?;
    let storage = storage(Btrfs::new(&volume)?);
    Ok((system, storage))
}

async fn btrfs() -> Result<(), Not> {
    let (system, storage) = subvolume()?;
    let file = system.root.join("vm1/vda.raw");
    walk(&storage, write_to(&file), read_from(&file)).await?;
    holds(names(&system.root)? == ["vm1"], "nothing is left beside it")?;
    storage.snapshot(&name("s1")).await?;
    let source = storage.backup_source(&name("s1"), Some(&file)).await?;
    let BackupSource::File(source) = source else { return Err("a file is expected".into()) };
    holds(fs::read_to_string(&source)? == "old", "the backup is read where it says")?;
    holds(fs::write(&source, "x").is_err(), "nobody can write to it")?;
    let missing = self::storage(Btrfs::new(system.root.join("nope"))?);
    fails!(missing.list(), StorageError::Gone { .. }, "No such file")?;
    fs::create_dir(system.root.join("folder"))?;
    let folder = self::storage(Btrfs::new(system.root.join("folder"))?);
    fails!(folder.snapshot(&name("s1")), StorageError::NotSupported { .. }, "Not a Btrfs subvolume")?;
    let whole = self::storage(Btrfs::new(&system.root)?);
    fails!(whole.snapshot(&name("s1")), StorageError::NotSupported { .. }, "mounted")?;
    let elsewhere = self::storage(Btrfs::new("/tmp")?);
    fails!(elsewhere.list(), StorageError::NotSupported { .. }, "Not a Btrfs filesystem")?;
    Ok(())
}

/// The tool itself would make its snapshot inside of a folder that has the name, and say that it is done.
async fn btrfs_name_is_taken() -> Result<(), Not> {
    let (system, storage) = subvolume()?;
    let taken = system.root.join("vm1@s1");
    fs::create_dir(&taken)?;
    fs::write(taken.join("something"), "of somebody's")?;
    fails!(storage.snapshot(&name("s1")), StorageError::Exists { .. }, "Directory not empty")?;
    holds(names(&taken)? == ["something"], "nothing is put inside")?;
    holds(names(&system.root)? == ["vm1", "vm1@s1"], "nothing is left beside it")?;
    Ok(())
}

/// A disk `vda` of this file, said to lie in a subvolume.
fn disk_in(file: &Utf8Path, format: &str, volume: &Utf8Path) -> Result<Disks<TokioEnv>, Box<dyn Error>> {
    let disk = format!(
        "<disk type='file' device='disk'><driver name='qemu' type='{format}'/><source file='{file}'/><target dev='vda'/>\
         <diskSnapshot method='btrfs' volume='{volume}'/></disk>"
    );
    let domain = format!("<domain><name>vm</name><devices>{disk}</devices></domain>");
    let domain = DomainXml::read(domain.as_bytes())?;
    Ok(Disks::of(TokioEnv::new(), &domain, &["vda".to_owned()], None)?)
}

/// Links, subvolumes within it, names that lead out of it by `..`, and data files beside.
async fn btrfs_holds() -> Result<(), Not> {
    let (system, storage) = subvolume()?;
    let at = |path: &str| system.root.join(path);
    let volume = at("vm1");
    for more in ["vm2", "vm1/nested"] {
        run("btrfs", &["subvolume", "create", at(more).as_str()])?;
    }
    for file in ["vm2/vda.raw", "vm1/nested/vda.raw"] {
        fs::write(at(file), "of another subvolume")?;
    }
    symlink("vda.raw", at("vm1/inside.raw"))?;
    symlink(at("vm2/vda.raw"), at("vm1/outside.raw"))?;
    symlink(at("vm1"), at("vm2/vm1"))?;
    let img = |words: &[&str]| run("qemu-img", words).map(drop).map_err(Not::Here);
    let (below, dots) = (at("vm2/base.qcow2"), "../vm2/base.qcow2");
    img(&["create", "-q", "-f", "qcow2", below.as_str(), "1M"])?;
    img(&["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", dots, at("vm1/dots.qcow2").as_str()])?;
    for (image, data) in [("vm1/apart.qcow2", "vm2/data"), ("vm1/within.qcow2", "vm1/data")] {
        let data = format!("data_file={}", at(data));
        img(&["create", "-q", "-f", "qcow2", "-o", &data, at(image).as_str(), "1M"])?;
    }
    let elsewhere = [
        ("vm1/outside.raw", "raw", "vm2/vda.raw"),
        ("vm1/nested/vda.raw", "raw", "in a subvolume or a file system of its own"),
        ("vm1/../vm2/vda.raw", "raw", "vm2/vda.raw"),
        ("vm1/apart.qcow2", "qcow2", "vm2/data"),
    ];
    for (file, format, why) in elsewhere {
        let disks = disk_in(&at(file), format, &volume)?;
        fails!(
            disks.snapshot(&name("s1"), Quiesce::Off),
            DiskError::Storage(StorageError::NotCaught { .. }),
            why
        )?;
    }
    let missing = disk_in(&at("vm1/nope.raw"), "raw", &volume)?;
    fails!(
        missing.snapshot(&name("s1"), Quiesce::Off),
        DiskError::Storage(StorageError::Gone { .. }),
        "nope.raw"
    )?;
    let by_link = disk_in(&at("vm2/vm1/vda.raw"), "raw", &at("vm2/vm1"))?;
    fails!(
        by_link.snapshot(&name("s1"), Quiesce::Off),
        DiskError::Storage(StorageError::NotCaught { .. }),
        "that is a link; name"
    )?;
    holds(storage.list().await?.is_empty(), "nothing was caught")?;
    btrfs_reads(&at, &volume).await?;
    // Taken before, when nobody looked.
    let outside = disk_in(&at("vm1/outside.raw"), "raw", &volume)?;
    let revert = Ask::Revert(name("held0"));
    fails!(outside.perform(&revert), DiskError::Storage(StorageError::NotCaught { .. }), "vm2/vda.raw")?;
    fails!(outside.readable(&name("held0")), DiskError::NotRead { .. }, "was not caught")?;
    Ok(())
}

/// What is held by whatever name is, and is read by its own.
async fn btrfs_reads(at: &impl Fn(&str) -> Utf8PathBuf, volume: &Utf8Path) -> Result<(), Not> {
    for (number, file) in ["vm1/inside.raw", "vm2/vm1/vda.raw", "vm1/../vm1/vda.raw"].into_iter().enumerate()
    {
        let (disks, name) = (disk_in(&at(file), "raw", volume)?, name(&format!("held{number}")));
        disks.snapshot(&name, Quiesce::Off).await?;
        let readable = disks.readable(&name).await?;
        let expected = BackupSource::File(at(&format!("vm1@{name}/vda.raw")).canonicalize_utf8()?);
        holds(readable[0].source == expected, &format!("{file} is read from {:?}", readable[0].source))?;
    }
    for (file, why) in
        [("vm1/dots.qcow2", "vm2/base.qcow2, which was not caught"), ("vm1/within.qcow2", "its data in")]
    {
        let disks = disk_in(&at(file), "qcow2", volume)?;
        let name = name(&format!("of-{}", at(file).file_stem().unwrap_or_default()));
        let taken = disks.snapshot(&name, Quiesce::Off).await?;
        let told = taken.backups[0].1.as_ref().err().ok_or("a backup is told")?;
        holds(told.contains(why), told)?;
        fails!(disks.readable(&name), DiskError::NotRead { .. }, why)?;
    }
    Ok(())
}

/// Another subvolume, and something that is mounted: neither `disk revert` nor the machine's own goes back.
async fn btrfs_whole() -> Result<(), Not> {
    let (system, storage) = subvolume()?;
    let at = |path: &str| system.root.join(path);
    let (volume, file) = (at("vm1"), at("vm1/vda.raw"));
    storage.snapshot(&name("s1")).await?;
    let document = at("vm.xml");
    let of_machine = |verb: &[&str]| {
        let (domain, state) = (document.as_str(), at("state"));
        let places = ["--domain", domain, "--state", state.as_str(), "--provider", "vda,method=btrfs"];
        let command = env!("CARGO_BIN_EXE_freezeframe-command");
        run(command, &[&["snapshot"], verb, &places].concat()).map(drop)
    };
    fs::write(&document, machine_of(&file))?;
    of_machine(&["create-as", "m1", "--disk-only", "--off"])?;
    fs::write(&file, "new")?;
    for place in ["vm1/folder", "vm1/a b"] {
        fs::create_dir(at(place))?;
    }
    let (inner, mounted) = (at("vm1/folder/inner"), at("vm1/a b"));
    run("btrfs", &["subvolume", "create", inner.as_str()])?;
    run("mount", &["-t", "tmpfs", "none", mounted.as_str()])?;
    let disks = disk_in(&file, "raw", &volume)?;
    for (place, what) in [(&inner, "the subvolume vm1/folder/inner"), (&mounted, mounted.as_str())] {
        fs::write(place.join("data"), "precious")?;
        let ask = Ask::Revert(name("s1"));
        fails!(disks.plan(&ask), DiskError::Storage(StorageError::StaysBehind { .. }), what)?;
        fails!(disks.perform(&ask), DiskError::Storage(StorageError::StaysBehind { .. }), what)?;
        fails!(storage.revert(&name("s1")), StorageError::StaysBehind { .. }, what)?;
        let told = of_machine(&["revert", "m1"]).err().unwrap_or_default();
        holds(told.contains(what) && told.contains("lies within"), &told)?;
        holds(fs::read_to_string(place.join("data"))? == "precious", "it is where it was")?;
        holds(fs::read_to_string(&file)? == "new", "the disk is untouched")?;
        let there = names(&system.root)?;
        holds(there == ["state", "vm.xml", "vm1", "vm1@m1", "vm1@s1"], &format!("{there:?}"))?;
        match place == &inner {
            true => run("btrfs", &["subvolume", "delete", inner.as_str()])?,
            false => run("umount", &[mounted.as_str()])?,
        };
    }
    of_machine(&["revert", "m1"])?;
    holds(fs::read_to_string(&file)? == "old", "without them it goes back")?;
    Ok(())
}

/// A machine with one disk.
fn machine_of(file: &Utf8Path) -> String {
    format!(
        "<domain><name>vm</name><uuid>4dea22b3-1d52-d8f3-2516-782e98ab3fa0</uuid><devices>\
         <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{file}'/>\
         <target dev='vda'/></disk></devices></domain>"
    )
}

async fn reflink() -> Result<(), Not> {
    let system = FileSystem::xfs(400).map_err(Not::Here)?;
    let file = system.root.join("vda.raw");
    fs::write(&file, "old")?;
    let storage = storage(Reflink::new(&file)?);
    walk(&storage, write_to(&file), read_from(&file)).await?;
    holds(names(&system.root)? == ["vda.raw"], "nothing is left beside it")?;
    let missing = self::storage(Reflink::new(system.root.join("nope"))?);
    fails!(missing.snapshot(&name("s1")), StorageError::Gone { .. }, "nope")?;
    // What is no file has the name: it is not listed, and not lost.
    fs::create_dir(system.root.join("vda.raw@s1"))?;
    fails!(storage.snapshot(&name("s1")), StorageError::Exists { .. }, "File exists")?;
    holds(names(&system.root)? == ["vda.raw", "vda.raw@s1"], "nothing is left beside it")?;
    // The folder for temporary files is on a file system without the ability, or on one that has it.
    let (plain, shared) = (tempfile::tempdir()?, tempfile::tempdir_in("/dev/shm")?);
    for folder in [plain, shared] {
        let file = Utf8Path::from_path(folder.path()).ok_or("no text")?.join("a");
        fs::write(&file, "old")?;
        let storage = self::storage(Reflink::new(&file)?);
        match storage.snapshot(&name("s1")).await {
            Err(StorageError::NotSupported { .. }) => {
                holds(names(file.parent().ok_or("a folder")?)? == ["a"], "nothing is left beside it")?;
            }
            told => told?,
        }
    }
    Ok(())
}

async fn reflink_full() -> Result<(), Not> {
    let system = FileSystem::xfs(400).map_err(Not::Here)?;
    let file = system.root.join("vda.raw");
    fs::write(&file, "old")?;
    let storage = storage(Reflink::new(&file)?);
    // Until not even a file of one block can be made.
    for (number, size) in [64 << 20, 1 << 20, 64 << 10, 4 << 10, 1].into_iter().enumerate() {
        let block = vec![1; size];
        (0..)
            .take_while(|more| fs::write(system.root.join(format!("fill{number}-{more}")), &block).is_ok())
            .count();
    }
    fails!(storage.snapshot(&name("s1")), StorageError::NoSpace { .. }, "No space left")?;
    let left = names(&system.root)?;
    holds(
        !left.iter().any(|name| name.contains("freezeframe") || name.contains('@')),
        "nothing is left of it",
    )?;
    holds(fs::read_to_string(&file)? == "old", "the disk is untouched")?;
    Ok(())
}

/// A copy on a frozen file system waits where no signal reaches it.
async fn reflink_frozen() -> Result<(), Not> {
    let system = FileSystem::xfs(400).map_err(Not::Here)?;
    let file = system.root.join("vda.raw");
    fs::write(&file, "old")?;
    let storage = storage(Reflink::new(&file)?).within(Duration::from_millis(500));
    run("fsfreeze", &["--freeze", system.root.as_str()])?;
    let told = storage.snapshot(&name("s1")).await;
    run("fsfreeze", &["--unfreeze", system.root.as_str()])?;
    // The clearing away waited as well, and that is told.
    let Err(StorageError::Left { error, left }) = told else {
        return Err(format!("expected that something is left: {told:?}").into());
    };
    holds(matches!(*error, StorageError::TimedOut { happened: Happened::No, .. }), "it has not happened")?;
    holds(left.len() == 1 && left[0].contains("vda.raw.freezeframe-"), "what is left is named")?;
    Ok(())
}

async fn zfs() -> Result<(), Not> {
    let pool = Pool::new().map_err(Not::Here)?;
    let file = pool.file_system("vm1")?.join("vda.raw");
    pool.file_system("vm2")?;
    let set = |name: &str| format!("{}/{name}", Pool::NAME);
    let storage = storage(Zfs::new(&[&set("vm1")])?);
    walk(&storage, write_to(&file), read_from(&file)).await?;
    let missing = self::storage(Zfs::new(&[&set("nope")])?);
    fails!(missing.snapshot(&name("s1")), StorageError::Gone { .. }, "does not exist")?;
    storage.snapshot(&name("s1")).await?;
    storage.snapshot(&name("s2")).await?;
    fails!(storage.revert(&name("s1")), StorageError::Busy { .. }, "more recent snapshots")?;
    run("zfs", &["clone", &set("vm1@s2"), &set("clone")])?;
    fails!(storage.delete(&name("s2")), StorageError::Busy { .. }, "dependent clones")?;
    holds(listed(&storage).await? == ["s1", "s2"], "both are there still")?;
    let both = self::storage(Zfs::new(&[&set("vm1"), &set("vm2")])?);
    match both.snapshot(&name("s3")).await {
        // zfs-fuse takes one name alone.
        Err(StorageError::NotSupported { words }) => {
            holds(words.contains("too many arguments"), "it says why")?
        }
        told => told?,
    }
    let one_has_it = both.snapshot(&name("s1")).await;
    holds(
        matches!(one_has_it, Err(StorageError::NotSupported { .. } | StorageError::Exists { .. })),
        "all or none",
    )?;
    fails!(both.delete(&name("s1")), StorageError::Gone { .. }, "no snapshot `s1`")?;
    Ok(())
}

async fn rbd() -> Result<(), Not> {
    let ceph = Ceph::start().map_err(Not::Here)?;
    for image in ["rbd/vda", "rbd/vdb"] {
        ceph.rbd(&["create", image, "--size", "8M"])?;
    }
    let of = |rbd: Rbd| -> Result<_, StorageError> { Ok(storage(rbd.in_cluster(&ceph.settings)?)) };
    let image = of(Rbd::image("rbd/vda")?)?;
    holds(image.list().await?.is_empty(), "there is nothing at first")?;
    image.snapshot(&name("s1")).await?;
    fails!(image.snapshot(&name("s1")), StorageError::Exists { .. }, "s1")?;
    let full = ceph.rbd(&["export", "rbd/vda", "-"])?;
    ceph.rbd(&["bench", "--io-type", "write", "--io-size", "4096", "--io-total", "65536", "rbd/vda"])?;
    holds(ceph.rbd(&["export", "rbd/vda", "-"])? != full, "something is written")?;
    image.revert(&name("s1")).await?;
    holds(ceph.rbd(&["export", "rbd/vda", "-"])? == full, "it is what it was")?;
    ceph.rbd(&["snap", "protect", "rbd/vda@s1"])?;
    fails!(image.delete(&name("s1")), StorageError::Busy { .. }, "is protected from removal")?;
    ceph.rbd(&["snap", "unprotect", "rbd/vda@s1"])?;
    image.delete(&name("s1")).await?;
    fails!(image.delete(&name("s1")), StorageError::Gone { .. }, "no snapshot `s1`")?;
    let missing = of(Rbd::image("rbd/nope")?)?;
    fails!(missing.snapshot(&name("s1")), StorageError::Gone { .. }, "error opening image nope")?;

    let both = ["rbd/vda", "rbd/vdb"];
    let group = of(Rbd::group("rbd/g", &both)?)?;
    fails!(group.snapshot(&name("g1")), StorageError::Gone { .. }, "there is no group rbd/g")?;
    ceph.rbd(&["group", "create", "rbd/g"])?;
    ceph.rbd(&["group", "image", "add", "rbd/g", "rbd/vda"])?;
    fails!(group.snapshot(&name("g1")), StorageError::Gone { .. }, "was asked for")?;
    ceph.rbd(&["group", "image", "add", "rbd/g", "rbd/vdb"])?;
    group.snapshot(&name("g1")).await?;
    fails!(group.snapshot(&name("g1")), StorageError::Exists { .. }, "g1")?;
    group.revert(&name("g1")).await?;
    holds(listed(&group).await? == ["g1"] && image.list().await?.is_empty(), "it is the group's alone")?;
    group.delete(&name("g1")).await?;
    holds(group.list().await?.is_empty(), "there is nothing at last")?;

    // A cluster that does not answer.
    ceph.signal("osd.0", "-STOP")?;
    let slow = of(Rbd::image("rbd/vda")?)?.within(Duration::from_secs(2));
    fails!(slow.snapshot(&name("s2")), StorageError::TimedOut { .. }, "cannot be told")?;
    ceph.signal("osd.0", "-CONT")?;
    Ok(())
}

/// A program that keeps its snapshots as lines of a file.
const PROGRAM: &str = r#"#!/bin/sh
read -r asked
kept=$(dirname "$0")/kept
touch "$kept"
name=$(printf '%s' "$asked" | sed -n 's/.*"name":"\([^"]*\)".*/\1/p')
case $asked in
*'"operation":"list"'*)
  printf '{"snapshots":[%s],"more":"than is asked"}' "$(sed 's/.*/"&"/' "$kept" | paste -sd,)" ;;
*'"operation":"snapshot"'*)
  case $name in
  full) printf '{"error":{"kind":"no-space","message":"the array is full"}}' ;;
  new-kind) printf '{"error":{"kind":"on-fire","message":"the array burns"}}' ;;
  lie) printf '{"done":{}}' ;;
  empty) printf '{}' ;;
  garbled) printf 'done!' ;;
  crash) echo 'Traceback: ...' >&2; exit 1 ;;
  late) echo "$name" >>"$kept"; sleep 20 ;;
  never) sleep 20 ;;
  *) echo "$name" >>"$kept"; printf '{"done":{}}' ;;
  esac ;;
*) sed -i "/^$name\$/d" "$kept"; printf '{"done":{}}' ;;
esac
"#;

async fn exec() -> Result<(), Not> {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir()?;
    let program = Utf8Path::from_path(folder.path()).ok_or("no text")?.join("program");
    fs::write(&program, PROGRAM)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700))?;
    let storage = storage(Exec::new(&program, &["volume-1", "volume-2"])?);
    storage.snapshot(&name("s1")).await?;
    fails!(storage.snapshot(&name("s1")), StorageError::Exists { .. }, "s1")?;
    holds(listed(&storage).await? == ["s1"], "it is listed")?;
    fails!(storage.snapshot(&name("full")), StorageError::NoSpace { .. }, "the array is full")?;
    fails!(storage.snapshot(&name("new-kind")), StorageError::Refused { .. }, "the array burns")?;
    fails!(storage.snapshot(&name("lie")), StorageError::Stale { .. }, "has no `lie`")?;
    fails!(storage.snapshot(&name("empty")), StorageError::Nonsense { .. }, "without `done`")?;
    fails!(storage.snapshot(&name("garbled")), StorageError::Nonsense { .. }, "cannot be understood")?;
    fails!(storage.snapshot(&name("crash")), StorageError::Refused { .. }, "Traceback")?;
    storage.delete(&name("s1")).await?;
    holds(storage.list().await?.is_empty(), "there is nothing at last")?;
    let hurried = storage.within(Duration::from_millis(500));
    // It has done its work when its time is up: what the list shows is what counts.
    hurried.snapshot(&name("late")).await?;
    holds(hurried.list().await?.iter().any(|found| found.name == name("late")), "what came late is there")?;
    fails!(
        hurried.snapshot(&name("never")),
        StorageError::TimedOut { happened: Happened::No, .. },
        "is not done"
    )?;
    let missing = self::storage(Exec::new("/no/such/program", &["volume-1"])?);
    fails!(missing.list(), StorageError::ToolMissing { .. }, "/no/such/program")?;
    Ok(())
}
