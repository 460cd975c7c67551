//! What a snapshot of a guest at rest holds, on real QEMUs with a guest that boots and writes all the time: the images that it
//! keeps need no recovery, their numbers are of one moment, and a guest that is started from them goes on from there.
//!
//! The guest writes a growing number to one disk after the other: to `synced`, which is on the disk before the next one is
//! written to, and to `buffered` before, which is there when the kernel sees fit (`ci/guest/writer`). So with a guest at rest
//! both are there, and in any snapshot that is of one moment the first disk is ahead of the second by one at most.
//!
//! Which QEMUs, and which guest: see `freezeframe_tests::real`.
//!
//! A test without libtest's harness, which hides what a passing test prints: what is skipped for want of a guest must be
//! seen.
#![allow(clippy::print_stdout, reason = "it has no harness to speak for it")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "reads real images")]

use std::{
    error::Error,
    fs::{self, File},
    os::unix::fs::FileExt as _,
    process::ExitCode,
    rc::Rc,
    time::Duration,
};

use camino::Utf8Path;
use freezeframe::{
    language::Scenario,
    machine, play,
    world::{
        World as _,
        guest::Guest,
        qemu::{Binary, Launch, QemuWorld},
    },
};
use freezeframe_driver::capabilities::Capabilities;
use freezeframe_tests::{
    real,
    unharnessed::{asked_for, skipped_without_guest, skipped_without_qemu},
};
use tokio::{runtime::Builder, task::LocalSet, time::sleep};

type Failed = Box<dyn Error>;

/// What a test runner calls this test.
const NAME: &str = "a_snapshot_of_a_guest_at_rest_is_whole";

const DISKS: [&str; 2] = ["vda", "vdb"];

/// A machine whose images can be read as they are, to which steps are added.
const MACHINE: &str = r#"
id = "real-guest"
title = "a guest that writes"
why = "see the test"
targets = ["guest"]
machine = { disks = [{ target = "vda", format = "raw" }, { target = "vdb", format = "raw" }], agent = "linux" }
"#;

/// How far the guest is to have counted before it is disturbed.
const ENOUGH: u64 = 5;

fn main() -> ExitCode {
    if asked_for(&[NAME]).is_empty() {
        return ExitCode::SUCCESS;
    }
    let programs = real::programs();
    if programs.is_empty() {
        return if skipped_without_qemu(1) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let guest = match real::guest() {
        Ok(Some(guest)) => guest,
        Ok(None) => {
            return if skipped_without_guest(1) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        Err(error) => {
            println!("{NAME}: FAILED: {error}");
            return ExitCode::FAILURE;
        }
    };
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut code = ExitCode::SUCCESS;
    for program in programs {
        match LocalSet::new().block_on(&runtime, on(&program, &guest)) {
            Ok(()) => println!("{NAME}: {program}"),
            Err(error) => {
                println!("{NAME}: FAILED on {program}: {error}");
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

/// What every case needs.
struct Bench {
    binary: Binary,
    guest: Guest,
}

async fn on(program: &Utf8Path, guest: &Guest) -> Result<(), Failed> {
    let bench = Bench { binary: Binary::ask(program, &Launch::default()).await?, guest: guest.clone() };
    let (at_rest, running, coordinated) = tokio::join!(bench.at_rest(), bench.running(), bench.coordinated());
    at_rest.map_err(|error| format!("at rest: {error}"))?;
    running.map_err(|error| format!("running: {error}"))?;
    coordinated.map_err(|error| format!("coordinated with the caller's storage: {error}"))?;
    Ok(())
}

impl Bench {
    /// The driver freezes for the switch: nothing is to be recovered, and everything that was written is there.
    async fn at_rest(&self) -> Result<(), Failed> {
        let mut subject = self.subject().await?;
        let before = subject.written().await?;
        let snapshot = "snapshot = { name = 's1', disk-only = true, quiesce = 'required' }";
        subject.play(&format!("[[step]]\n{snapshot}\n[expect]\nquiesced = 'yes'\n")).await?;
        let after = subject.goes_on().await?;
        let kept = subject.end_with_images(&DISKS).await?;
        for disk in DISKS {
            let image = kept.path(disk);
            ensure(!needs_recovery(&image)?, &format!("the journal of {disk} is to be recovered"))?;
        }
        let numbers = self.found_in(&kept).await?;
        ensure(numbers.is_one_moment(), &format!("two moments: {numbers:?}"))?;
        ensure(numbers.is_complete(), &format!("something that was written is not there: {numbers:?}"))?;
        ensure(
            (before..=after).contains(&numbers.synced[0]),
            &format!("not of the moment of the snapshot, from {before} to {after}: {numbers:?}"),
        )
    }

    /// Nobody freezes: it is one moment all the same, and a journal that is to be recovered. This is how the other cases
    /// would look if the freeze were none.
    async fn running(&self) -> Result<(), Failed> {
        let mut subject = self.subject().await?;
        let snapshot = "snapshot = { name = 's1', disk-only = true }";
        subject.play(&format!("[[step]]\n{snapshot}\n[expect]\nquiesced = 'no'\n")).await?;
        subject.goes_on().await?;
        let kept = subject.end_with_images(&DISKS).await?;
        for disk in DISKS {
            ensure(needs_recovery(&kept.path(disk))?, &format!("{disk} was mounted, and does not look so"))?;
        }
        let numbers = self.found_in(&kept).await?;
        ensure(numbers.is_one_moment(), &format!("two moments: {numbers:?}"))
    }

    /// The caller freezes, takes one disk by other means and lets the driver take the other: they agree.
    async fn coordinated(&self) -> Result<(), Failed> {
        let mut subject = self.subject().await?;
        let ask = |command: &str, says: &str| {
            let json = format!("{{\"execute\": \"guest-fsfreeze-{command}\"}}");
            format!("[[step]]\nagent = {{ json = '{json}', says = '{says}', close = true }}\n")
        };
        let frozen = "[expect]\nfrozen = true\n";
        subject.play(&(ask("freeze", "2") + frozen)).await?;
        // The storage's own snapshot.
        let images = subject.world.folder();
        fs::copy(images.join("vdb.raw"), subject.kept.path("vdb"))?;
        let snapshot = "snapshot = { name = 's1', disk-only = true, disks = ['vda'], already-frozen = true }";
        let snapshot = format!("[[step]]\n{snapshot}\n{frozen}quiesced = 'yes'\n");
        subject.play(&snapshot).await?;
        subject.play(&ask("thaw", "2")).await?;
        subject.goes_on().await?;
        let kept = subject.end_with_images(&["vda"]).await?;
        for disk in DISKS {
            ensure(!needs_recovery(&kept.path(disk))?, &format!("the journal of {disk} is to be recovered"))?;
        }
        let numbers = self.found_in(&kept).await?;
        ensure(numbers.is_one_moment() && numbers.is_complete(), &format!("they do not agree: {numbers:?}"))
    }

    /// A guest that has booted and counts.
    async fn subject(&self) -> Result<Subject, Failed> {
        let scenario = scenario("[[step]]\nprobe = {}\n")?;
        let world = QemuWorld::boot(&self.binary, &machine::of(&scenario), &self.guest).await?;
        let capabilities = Rc::new(play::capabilities(&world).await?);
        let subject = Subject { world, capabilities, kept: Kept::new()? };
        subject.counts_to(ENOUGH).await?;
        Ok(subject)
    }

    /// Boots a guest from these images: the numbers that it finds there. It must go on from them.
    async fn found_in(&self, kept: &Kept) -> Result<Numbers, Failed> {
        let described = machine::of(&scenario("[[step]]\nprobe = {}\n")?);
        let folder = Utf8Path::from_path(kept.0.path()).ok_or("a folder whose name is no text")?;
        let world = QemuWorld::boot_from(&self.binary, &described, &self.guest, folder).await?;
        let found =
            world.tell_guest("until [ -e /run/began ]; do usleep 10000; done; cat /run/began").await?;
        let numbers = Numbers::read(&found).ok_or_else(|| format!("the guest found: {found}"))?;
        let next = numbers.synced[0] + 1;
        let subject =
            Subject { capabilities: Rc::new(play::capabilities(&world).await?), world, kept: Kept::new()? };
        subject.counts_to(next).await?;
        subject.world.kill_qemu().await;
        Ok(numbers)
    }
}

/// Images that outlive their machine, `<disk>.raw`.
struct Kept(tempfile::TempDir);

impl Kept {
    fn new() -> Result<Self, Failed> {
        Ok(Self(tempfile::tempdir()?))
    }

    fn path(&self, disk: &str) -> std::path::PathBuf {
        self.0.path().join(format!("{disk}.raw"))
    }
}

/// A machine whose guest counts, and the images that are to be kept of it.
struct Subject {
    world: QemuWorld,
    capabilities: Rc<Capabilities>,
    kept: Kept,
}

impl Subject {
    /// Plays steps, all of which must go as they are to.
    async fn play(&mut self, steps: &str) -> Result<(), Failed> {
        let run = play::play(&scenario(steps)?, &self.world, self.capabilities.clone()).await?;
        ensure(run.findings.is_empty(), &run.findings.join("; "))
    }

    /// The number that is on all disks by now.
    async fn written(&self) -> Result<u64, Failed> {
        let said = self.world.tell_guest("cat /run/written 2>/dev/null || echo 0").await?;
        Ok(said.trim().parse().unwrap_or(0))
    }

    /// Waits until the guest has counted so far; it has two minutes.
    async fn counts_to(&self, number: u64) -> Result<(), Failed> {
        for _ in 0..600 {
            if self.written().await? >= number {
                return Ok(());
            }
            sleep(Duration::from_millis(200)).await;
        }
        Err(format!("the guest does not count to {number}").into())
    }

    /// The number that the guest has reached, and that it counts on from there.
    async fn goes_on(&self) -> Result<u64, Failed> {
        let reached = self.written().await?;
        self.counts_to(reached + 2).await?;
        Ok(reached)
    }

    /// Kills QEMU and keeps these images.
    async fn end_with_images(self, disks: &[&str]) -> Result<Kept, Failed> {
        self.world.kill_qemu().await;
        for disk in disks {
            fs::copy(self.world.folder().join(format!("{disk}.raw")), self.kept.path(disk))?;
        }
        Ok(self.kept)
    }
}

/// The last numbers of each disk.
#[derive(Debug)]
struct Numbers {
    synced: [u64; 2],
    buffered: [u64; 2],
}

impl Numbers {
    /// `vda 17 17`, and so for `vdb`.
    fn read(found: &str) -> Option<Self> {
        let of = |disk: &str| {
            let line = found.lines().find_map(|line| line.strip_prefix(disk))?;
            let mut numbers = line.split_whitespace().map(str::parse);
            Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
        };
        let ((first, first_buffered), (second, second_buffered)) = (of(DISKS[0])?, of(DISKS[1])?);
        Some(Self { synced: [first, second], buffered: [first_buffered, second_buffered] })
    }

    /// The first disk is written to before the second.
    fn is_one_moment(&self) -> bool {
        let [first, second] = self.synced;
        (0..=1).contains(&(first.cast_signed() - second.cast_signed()))
    }

    /// What was in the guest's memory alone is there, too.
    fn is_complete(&self) -> bool {
        self.synced[0] >= ENOUGH
            && self.synced.iter().zip(self.buffered).all(|(synced, buffered)| buffered >= *synced)
    }
}

/// Whether the journal of the ext4 file system in a raw image is to be recovered: bit 2 of `s_feature_incompat`, in the
/// superblock that begins at byte 1024.
fn needs_recovery(image: &std::path::Path) -> Result<bool, Failed> {
    let mut superblock = [0; 0x64];
    File::open(image)?.read_exact_at(&mut superblock, 1024)?;
    ensure(superblock[0x38..0x3a] == [0x53, 0xef], "there is no ext4 file system")?;
    Ok(superblock[0x60] & 0x04 != 0)
}

fn scenario(steps: &str) -> Result<Scenario, Failed> {
    Ok(Scenario::parse("real-guest.toml".into(), &format!("{MACHINE}{steps}"))?)
}

fn ensure(holds: bool, otherwise: &str) -> Result<(), Failed> {
    if holds { Ok(()) } else { Err(otherwise.into()) }
}
