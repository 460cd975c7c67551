//! What a transcript says of a step before it is done.

use std::collections::BTreeMap;

use freezeframe_driver::request::Quiesce;

use super::request::{delete_flags, flags, quiesce, revert_flags};
use crate::language::{
    Action, Describe, DiskStorage, Hold, MemoryFormat, MemoryPlace, Shorten, Snapshot, Tamper,
};

fn providers(said: &BTreeMap<String, DiskStorage>) -> String {
    said.iter().map(|(disk, storage)| format!(", {disk} by {}", storage.name())).collect()
}

fn dry(dry_run: bool) -> &'static str {
    if dry_run { ", dry run" } else { "" }
}

fn title_of_snapshot(snapshot: &Snapshot) -> String {
    let flags: String = flags(snapshot).iter().map(|flag| format!(", {flag}")).collect();
    let memory = match &snapshot.memory {
        Some(MemoryPlace::File(name)) => {
            let sparse = if snapshot.memory_format == MemoryFormat::Sparse { ", sparse" } else { "" };
            let how = if snapshot.in_background { ", in the background" } else { "" };
            format!(", memory in {name}{sparse}{how}")
        }
        _ => String::new(),
    };
    let quiesce = match quiesce(snapshot) {
        Quiesce::Off => "",
        Quiesce::Required => ", quiesce required",
        Quiesce::BestEffort => ", quiesce if possible",
        Quiesce::AlreadyFrozen => ", already frozen",
    };
    let frozen_by = snapshot.frozen_by.as_ref();
    let part = if snapshot.frozen_in_part.is_some() { " in part" } else { "" };
    let frozen_by = frozen_by.map(|by| format!(", frozen by {by}{part}")).unwrap_or_default();
    let hooks = match (snapshot.thaw_hooks, snapshot.hook) {
        (true, true) => ", thaw hooks, with a hook",
        (true, false) => ", thaw hooks",
        (false, true) => ", with a hook",
        (false, false) => "",
    };
    format!(
        "snapshot {}{flags}{quiesce}{frozen_by}{hooks}{memory}{}",
        snapshot.name.escape_debug(),
        dry(snapshot.dry_run)
    )
}

/// What the transcript calls a step.
pub(super) fn title(action: &Action) -> String {
    match action {
        Action::Snapshot(snapshot) => title_of_snapshot(snapshot),
        Action::Revert(revert) => {
            let flags: String = revert_flags(revert).iter().map(|flag| format!(", {flag}")).collect();
            let back = if revert.storage_is_back { ", storage is back" } else { "" };
            let by = providers(&revert.providers);
            format!("revert to {}{flags}{back}{by}{}", revert.name.escape_debug(), dry(revert.dry_run))
        }
        Action::Delete(delete) => {
            let flags: String = delete_flags(delete).iter().map(|flag| format!(", {flag}")).collect();
            let stays = if delete.storage_stays { ", storage stays" } else { "" };
            let by = providers(&delete.providers);
            format!("delete {}{flags}{stays}{by}{}", delete.name.escape_debug(), dry(delete.dry_run))
        }
        Action::Recover(recover) if recover.forget => "recover, forget".into(),
        Action::Recover(_) => "recover".into(),
        Action::Probe(_) => "probe".into(),
        Action::Qmp(_) => "qmp".into(),
        Action::Agent(_) => "agent".into(),
        Action::Storage(step) => {
            let name = step.name.as_deref().map(|name| format!(" {}", name.escape_debug()));
            let (verb, disks) = (step.verb.name(), step.disks.join(" "));
            let rest = if step.quiesce { ", quiesced" } else { "" };
            let by = match (step.method.is_some(), step.internal) {
                (true, true) => " by qemu, internal",
                (true, false) => " by qemu",
                (false, _) => "",
            };
            let name = name.unwrap_or_default();
            format!("storage {verb}{name} of {disks}{by}{rest}{}", dry(step.dry_run))
        }
        Action::Guest(act) => format!("guest {}", act.name()),
        Action::Host(act) => format!("host {act}"),
        Action::Shorten(Shorten { file, by }) => format!("shorten {file} by {by}"),
        Action::Tamper(Tamper { file, with: None, .. }) => format!("somebody removes {file}"),
        Action::Tamper(Tamper { file, at: Some(at), .. }) => {
            format!("somebody changes {file} from byte {at} on")
        }
        Action::Tamper(Tamper { file, .. }) => format!("somebody writes {file} anew"),
        Action::Hold(Hold { file }) => format!("another program reads {file}"),
        Action::Plug(plug) => format!("plug {} into {}", plug.target, plug.root_port),
        Action::Describe(anew) => title_of_description(anew),
    }
}

fn title_of_description(Describe { memory, cpu, tpm, disks, formats }: &Describe) -> String {
    let memory = memory.map(|memory| format!(", memory of {} bytes", memory.bytes()));
    let cpu = cpu.as_ref().map(|cpu| format!(", processor {cpu}"));
    let tpm = tpm.then(|| ", a TPM".to_owned());
    let disks = disks.iter().map(|disk| format!(", disk {}", disk.target));
    let formats = formats.iter().map(|(disk, format)| format!(", {disk} as {}", format.name()));
    let said: String = memory.into_iter().chain(cpu).chain(tpm).chain(disks).chain(formats).collect();
    format!("described anew{said}")
}
