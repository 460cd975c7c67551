//! External disk-only snapshots: the images stay as they are, and the guest goes on in overlays.
//!
//! Files are reserved and overlays prepared beforehand, side by side; the snapshot itself is one transaction.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};

use super::{Facts, Plan, Stage, selected, targets};
use crate::{
    error::Refusal,
    name::SnapshotName,
    observed::ObservedDisk,
    request::Create,
    step::{PrepareOverlay, ReserveFile, Switch, SwitchOverlays},
};

/// Plans the taking of one.
pub(super) fn create(
    create: &Create,
    files: &BTreeMap<String, Utf8PathBuf>,
    facts: Facts<'_>,
) -> Result<Plan, Refusal> {
    let missing = facts.capabilities.missing_for_external();
    if !missing.is_empty() {
        return Err(Refusal::Unsupported(missing));
    }
    for target in files.keys() {
        facts.known(target)?;
    }
    let disks = selected(create, facts)?;
    let files = overlay_files(&create.name, files, &disks)?;

    let reserve = files.iter().map(|file| ReserveFile { path: file.clone() });
    let prepare = disks.iter().zip(&files).enumerate().map(|(index, (disk, file))| PrepareOverlay {
        target: disk.target.clone(),
        job: format!("ff-{}-create-{index}", facts.unique),
        file: file.clone(),
        file_node: format!("ff-{}-{index}-file", facts.unique),
        node: overlay_node(facts.unique, index),
        size: disk.size,
        backing_file: disk.file.clone(),
        backing_format: disk.format.clone(),
    });
    let switches = disks.iter().enumerate().map(|(index, disk)| Switch {
        target: disk.target.clone(),
        node: disk.node.clone(),
        overlay: overlay_node(facts.unique, index),
        file: files[index].clone(),
    });
    let title = format!(
        "snapshot {} of {}: disk-only, disks {}",
        create.name,
        facts.domain.name,
        targets(&disks).join(" ")
    );
    Ok(Plan {
        title,
        disks: targets(&disks),
        stages: vec![
            Stage::all(reserve),
            Stage::all(prepare),
            Stage::one(SwitchOverlays { switches: switches.collect() }),
        ],
        no_return: 2,
    })
}

/// The name of a disk's overlay node. Node names have at most 31 bytes in QEMU, so a target cannot be in it.
fn overlay_node(unique: &str, index: usize) -> String {
    format!("ff-{unique}-{index}")
}

/// One overlay file for each disk, no two the same.
fn overlay_files(
    name: &SnapshotName,
    wanted: &BTreeMap<String, Utf8PathBuf>,
    disks: &[&ObservedDisk],
) -> Result<Vec<Utf8PathBuf>, Refusal> {
    let mut files: Vec<Utf8PathBuf> = Vec::new();
    for disk in disks {
        let file = wanted.get(&disk.target).cloned().unwrap_or_else(|| beside(&disk.file, name));
        let plain = file.is_absolute() && file.file_name().is_some() && !file.as_str().ends_with('/');
        if !plain {
            return Err(Refusal::BadOverlayPath(file));
        }
        if let Some(other) = files.iter().position(|taken| *taken == file) {
            return Err(Refusal::SameFile(disks[other].target.clone(), disk.target.clone(), file));
        }
        files.push(file);
    }
    Ok(files)
}

/// `/images/vda.qcow2` and `s1` make `/images/vda.s1`, as libvirt names it.
fn beside(image: &Utf8Path, name: &SnapshotName) -> Utf8PathBuf {
    let stem = image.file_stem().unwrap_or_default();
    image.with_file_name(format!("{stem}.{name}"))
}
