//! A step that is done by the storage below the disks, or by QEMU for some disks alone.

use camino::Utf8Path;
use freezeframe_driver::{
    Machine,
    disk::{Ask, DiskError, Disks, QemuDisks, Taken, Taker, export::live::Served},
    env::{Endpoint, Env},
    name::SnapshotName,
    report::Verdict,
    request::Quiesce,
    storage::Snapshot,
    xml::Element,
};

use crate::{
    language::{self, StorageStep, StorageVerb},
    machine,
};

/// What is told of it; of a snapshot that was taken, whether the guest had come to rest too.
type Words = (String, Option<Verdict>);

/// Lets the storage below the disks do it; what is told of it, and whether the guest may stand frozen by it.
pub(super) async fn by_storage<E: Env>(
    step: &StorageStep,
    described: &language::Machine,
    (env, tool, agent): (E, &Utf8Path, Endpoint),
    folder: &Utf8Path,
) -> (Result<Words, DiskError>, bool) {
    let domain = machine::document(described, folder);
    let disks = match Disks::of(env, &domain, &step.disks, None) {
        Ok(disks) => disks.with_tool(tool),
        Err(error) => return (Err(error), false),
    };
    let disks = match described.agent {
        Some(_) => disks.with_agent(agent),
        None => disks,
    };
    let done = perform(step, &disks).await;
    let frozen = *disks.guard().watch_frozen().borrow();
    (done, frozen)
}

/// Lets QEMU do it; what is told of it.
pub(super) async fn by_qemu<E: Env>(
    step: &StorageStep,
    machine: &Machine<E>,
    folder: &Utf8Path,
) -> Result<Words, DiskError> {
    let disks = QemuDisks::of(machine, &step.disks)?.inside(step.internal);
    match step.verb {
        StorageVerb::Export => export(step, machine, &disks, folder).await,
        _ => perform(step, &disks).await,
    }
}

async fn perform(step: &StorageStep, disks: &impl Taker) -> Result<Words, DiskError> {
    let Some(ask) = asked(step)? else { return Ok((listed(&disks.list().await?), None)) };
    if step.dry_run {
        return Ok((disks.plan(&ask).await?.to_string(), None));
    }
    if let Ask::Snapshot { name, quiesce } = &ask {
        return Ok(taken(name, step, &disks.snapshot(name, *quiesce).await?));
    }
    disks.perform(&ask).await?;
    Ok((done(&ask, step), None))
}

/// Lets the machine's QEMU serve a snapshot, and ends that at once: nobody reads here.
async fn export<E: Env>(
    step: &StorageStep,
    machine: &Machine<E>,
    disks: &QemuDisks<'_, E>,
    folder: &Utf8Path,
) -> Result<Words, DiskError> {
    let name = SnapshotName::new(step.name.as_deref().unwrap_or_default())?;
    let readable = disks.readable(&name).await?;
    Served::begin(machine, &folder.join("export.sock"), &readable).await?.end().await?;
    Ok((format!("snapshot {name} of {} was served", step.disks.join(" ")), None))
}

/// What the driver is asked for; nothing to list.
fn asked(step: &StorageStep) -> Result<Option<Ask>, DiskError> {
    let name = || SnapshotName::new(step.name.as_deref().unwrap_or_default());
    let quiesce = if step.quiesce { Quiesce::Required } else { Quiesce::Off };
    Ok(Some(match step.verb {
        StorageVerb::List | StorageVerb::Export => return Ok(None),
        StorageVerb::Snapshot => Ask::Snapshot { name: name()?, quiesce },
        StorageVerb::Delete => Ask::Delete(name()?),
        StorageVerb::Merge => Ask::Merge(name()?),
        StorageVerb::Revert => Ask::Revert(name()?),
    }))
}

fn done(ask: &Ask, step: &StorageStep) -> String {
    let of = step.disks.join(" ");
    match ask {
        Ask::Snapshot { name, .. } => format!("snapshot {name} of {of} taken"),
        Ask::Delete(name) => format!("snapshot {name} of {of} deleted"),
        Ask::Merge(name) => format!("snapshot {name} of {of} merged"),
        Ask::Revert(name) => format!("{of} reverted to {name}"),
    }
}

fn taken(name: &SnapshotName, step: &StorageStep, taken: &Taken) -> Words {
    let place = |disk: &Element| Some(disk.child("source")?.attributes.last()?.1.clone());
    let backups = taken.backups.iter().map(|(target, backup)| match backup.as_ref().map(place) {
        Ok(place) => format!("; {target} is read from {}", place.unwrap_or_default()),
        Err(why) => format!("; no backup reads {target}: {why}"),
    });
    let modified = taken.modified.iter().filter_map(|(target, disk)| Some((target, place(disk)?)));
    let modified = modified.map(|(target, place)| format!("; {target} is in {place} now"));
    let more: String = backups.chain(modified).collect();
    let (method, of, quiesced) = (taken.method, step.disks.join(" "), &taken.quiesced);
    (format!("{method} snapshot {name} of {of} taken{more}; quiesced: {quiesced}"), Some(quiesced.verdict))
}

fn listed(found: &[Snapshot]) -> String {
    let names: Vec<&str> = found.iter().map(|snapshot| snapshot.name.as_str()).collect();
    if names.is_empty() { "no snapshots".to_owned() } else { format!("snapshots: {}", names.join(" ")) }
}
