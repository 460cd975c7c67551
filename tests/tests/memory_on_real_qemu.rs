//! A machine's memory saved to a file and loaded from it on real QEMUs, with the plans that `memory` carries out on the
//! simulator.
//!
//! Which QEMUs: see `freezeframe_tests::real::programs`.
//!
//! A test without libtest's harness, which hides what a passing test prints: what is skipped for want of a QEMU must
//! be seen.
#![allow(clippy::print_stdout, reason = "it has no harness to speak for it")]
#![allow(clippy::disallowed_methods, reason = "copies and spoils real files")]

use std::{error::Error, fs, process::ExitCode, rc::Rc, time::Duration};

use camino::Utf8Path;
use freezeframe::{
    language::{Fault, FaultKind, Moment, Point},
    play,
    world::{
        World as _,
        qemu::{Binary, Launch, QemuWorld},
    },
};
use freezeframe_driver::{
    commands::QueryBlock, env::Env as _, error::OperationError, save_image::Format, step::Meanwhile,
};
use freezeframe_sim::{Machine, Release, machine::Power};
use freezeframe_tests::{
    memory::{DOCUMENT, Rig, WITHIN, another_client_does, fault, slow_and_cancelled, ways},
    real,
    unharnessed::asked_for,
};
use tokio::{runtime::Builder, task::LocalSet};

type Failed = Box<dyn Error>;

/// What a test runner calls this test.
const NAME: &str = "memory_is_saved_and_loaded_by_real_qemu";

const DISKS: [&str; 2] = ["vda", "vdb"];

fn main() -> ExitCode {
    if asked_for(&[NAME]).is_empty() {
        return ExitCode::SUCCESS;
    }
    let programs = real::programs();
    if programs.is_empty() {
        println!("\nskipped 1: no real QEMU; `ci/install-qemu.sh` gets them, FREEZEFRAME_QEMU names them\n");
        return ExitCode::SUCCESS;
    }
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut code = ExitCode::SUCCESS;
    for program in programs {
        match LocalSet::new().block_on(&runtime, on(&program)) {
            Ok(cases) => println!("{NAME}: {cases} cases on {program}"),
            Err(error) => {
                println!("{NAME}: FAILED on {program}: {error}");
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

fn described() -> Machine {
    Machine::new().disk("vda").disk("vdb")
}

async fn on(program: &Utf8Path) -> Result<usize, Failed> {
    let binary = Binary::ask(program, &Launch::default()).await?;
    let kept = tempfile::tempdir()?;
    let kept = Utf8Path::from_path(kept.path()).ok_or("a folder whose name is no text")?;
    let mut cases = 0;
    for (guest, format) in ways(binary.release) {
        let copy = kept.join(format!("{guest:?}-{format:?}"));
        save(&binary, guest, format, &copy)
            .await
            .map_err(|error| format!("save {guest:?} {format:?}: {error}"))?;
        loaded(&binary, &copy).await.map_err(|error| format!("load {guest:?} {format:?}: {error}"))?;
        cases += 2;
        // 7.2 itself hangs of it now and then: the guest's processor waits for a page that is still to be written, and the main loop
        // for the processor. Then nobody can undo anything.
        if guest == Meanwhile::Background && binary.release == Release::V7_2 {
            println!("{NAME}: skipped on 7.2: a background save that is broken off");
            continue;
        }
        if guest == Meanwhile::Background {
            put_back(&binary, format).await.map_err(|error| format!("put back: {error}"))?;
            cases += 1;
        }
        // How the memory is laid out makes no difference to them.
        let faults = if format == Format::Raw { faults() } else { Vec::new() };
        for (what, faults, may_be_saved) in faults {
            let saved = save_with(&binary, (guest, format), &faults, may_be_saved).await;
            saved.map_err(|error| format!("save {guest:?} {format:?}, {what}: {error}"))?;
            cases += 1;
        }
    }
    let whole = kept.join(format!("{:?}-{:?}", Meanwhile::Paused, Format::Raw));
    for (what, spoil, says) in SPOILT {
        let mut bytes = fs::read(&whole)?;
        spoil(&mut bytes);
        let spoilt = kept.join("spoilt");
        fs::write(&spoilt, bytes)?;
        not_loaded(&binary, &spoilt, says).await.map_err(|error| format!("{what}: {error}"))?;
        cases += 1;
    }
    Ok(cases)
}

/// Faults, and whether the memory may be saved all the same.
fn faults() -> Vec<(&'static str, Vec<Fault>, bool)> {
    let at = |command: &str, point, kind| vec![fault(Moment::Command(command.into()), 1, point, kind)];
    vec![
        ("cancelled", slow_and_cancelled().into(), false),
        ("never begun", at("migrate", Point::Before, FaultKind::Disconnect), false),
        ("begun unheard", at("migrate", Point::Applied, FaultKind::Disconnect), true),
        ("reply lost", at("migrate", Point::Applied, FaultKind::LoseReply), true),
        ("command lost", at("migrate", Point::Before, FaultKind::LoseReply), false),
        ("no answer when it was asked", at("query-migrate", Point::Applied, FaultKind::LoseReply), true),
        ("lost when it was to go on", at("cont", Point::Before, FaultKind::Disconnect), true),
    ]
}

/// Saves memory while something goes wrong: whole or not at all, and the guest runs.
async fn save_with(
    binary: &Binary,
    (guest, format): (Meanwhile, Format),
    faults: &[Fault],
    may_be_saved: bool,
) -> Result<(), Failed> {
    let world = QemuWorld::start(binary, &described()).await?;
    let rig = rig(&world, faults).await?;
    let before = rig.settings().await;
    let result = rig.carry_out(&rig.saving(guest, format, &[]).await).await;
    let saved = rig.saved().await;
    match &result {
        Ok(()) => {
            check(may_be_saved && saved.is_ok_and(|(image, _)| image.complete), "it is saved", &rig.path())?
        }
        Err(OperationError::RolledBack { .. }) => check(saved.is_err(), "nothing is left", &result)?,
        Err(_) => check(false, "it is undone", &result)?,
    }
    check(rig.status().await.running, "the guest runs", &result)?;
    check(before == rig.settings().await, "the settings", &rig.settings().await)
}

/// The guest runs on in overlays when the saving of its memory in the background is cancelled: it goes back to its images.
async fn put_back(binary: &Binary, format: Format) -> Result<(), Failed> {
    let world = QemuWorld::start(binary, &described()).await?;
    let cancelled = another_client_does("migrate", r#"{"execute": "migrate_cancel"}"#);
    let rig = rig(&world, &[cancelled]).await?;
    let result = rig.carry_out(&rig.saving(Meanwhile::Background, format, &DISKS).await).await;
    check(matches!(result, Err(OperationError::RolledBack { .. })), "it is undone", &result)?;
    check(rig.status().await.running, "the guest runs", &result)?;
    let tops = tops(&world, &rig).await?;
    check(tops == DISKS, "the images are used", &tops)?;
    check(rig.saved().await.is_err(), "nothing is left", &result)
}

/// The nodes that the guest writes to.
async fn tops(world: &QemuWorld, rig: &Rig<'_, QemuWorld>) -> Result<Vec<String>, Failed> {
    let devices = rig.control.execute("test", &QueryBlock {}, deadline(world)).await?;
    Ok(devices.iter().filter_map(|device| device.inserted.as_ref()?.node_name.clone()).collect())
}

/// What may have become of a save image, and what is said of it: by the driver; nothing where QEMU says it.
type Spoilt = (&'static str, fn(&mut Vec<u8>), Option<&'static str>);

const SPOILT: [Spoilt; 6] = [
    ("never finished", |bytes| bytes[..16].copy_from_slice(b"LibvirtQemudPart"), Some("is incomplete")),
    ("no save image", |bytes| bytes.fill(0), Some("it is no save image")),
    ("cut by a byte", |bytes| bytes.truncate(bytes.len() - 1), Some("the last byte is missing")),
    ("cut in its memory", |bytes| bytes.truncate(300_000), Some("its memory is cut off, its end is missing")),
    ("no memory", |bytes| bytes[128 << 10..].fill(b'x'), Some("that begins with `QEVM`")),
    ("damaged in its memory", |bytes| bytes[(128 << 10) + 64..][..4096].fill(b'x'), None),
];

/// Saves the memory of a running machine whose disks go on in overlays, and keeps the file.
async fn save(binary: &Binary, guest: Meanwhile, format: Format, copy: &Utf8Path) -> Result<(), Failed> {
    let world = QemuWorld::start(binary, &described()).await?;
    let rig = rig(&world, &[]).await?;
    let before = rig.settings().await;
    let plan = rig.saving(guest, format, &DISKS).await;
    rig.carry_out(&plan).await?;
    let (image, _) = rig.saved().await?;
    check(image.complete && image.was_running && image.document == DOCUMENT, "the header", &image)?;
    check(before == rig.settings().await, "the settings", &rig.settings().await)?;
    check(rig.status().await.running, "the guest runs", &rig.status().await)?;
    let tops = tops(&world, &rig).await?;
    check(tops == ["vda-s1", "vdb-s1"], "the overlays are used", &tops)?;
    fs::copy(rig.path(), copy)?;
    Ok(())
}

/// A QEMU that waits for the memory of such a machine.
async fn waiting(binary: &Binary) -> Result<QemuWorld, Failed> {
    let machine = Machine { incoming: true, ..described().power(Power::Prelaunch) };
    Ok(QemuWorld::start(binary, &machine).await?)
}

async fn loaded(binary: &Binary, path: &Utf8Path) -> Result<(), Failed> {
    let world = waiting(binary).await?;
    let rig = rig(&world, &[]).await?;
    rig.carry_out(&rig.loading(path)).await?;
    let status = rig.status().await;
    check(status.status == "paused", "it stands still", &status)
}

async fn not_loaded(binary: &Binary, path: &Utf8Path, says: Option<&str>) -> Result<(), Failed> {
    let world = waiting(binary).await?;
    let rig = rig(&world, &[]).await?;
    let stays = rig.machine.capabilities().failed_loads_can_stay();
    let error = rig.carry_out(&rig.loading(path)).await.err().ok_or("it was loaded")?;
    let text = error.to_string();
    match says {
        Some(says) => check(text.contains(says), "what is said", &error),
        None if stays => {
            let failed = text.contains("could not be loaded: load of migration failed: ");
            check(failed && matches!(error, OperationError::RolledBack { .. }), "why it failed", &error)
        }
        None => {
            let gone = matches!(error, OperationError::MachineGone { .. } | OperationError::Unknown { .. });
            check(gone, "QEMU has ended", &error)
        }
    }
}

fn check(holds: bool, what: &str, found: &dyn std::fmt::Debug) -> Result<(), Failed> {
    if holds { Ok(()) } else { Err(format!("{what}: {found:?}").into()) }
}

async fn rig<'w>(world: &'w QemuWorld, faults: &[Fault]) -> Result<Rig<'w, QemuWorld>, Failed> {
    let capabilities = Rc::new(play::capabilities(world).await?);
    Ok(Rig::new(world, capabilities, &DISKS, faults).await)
}

fn deadline(world: &QemuWorld) -> Duration {
    world.env().now() + WITHIN
}
