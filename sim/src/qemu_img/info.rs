//! `qemu-img info`: what the headers of an image and of those behind it say.

use std::collections::BTreeSet;

use super::{
    Refusal, Run, json,
    open::{Access, Layer, combined, protocol},
    options::Options,
};
use crate::{
    host::{Image, Qcow2},
    qemu::block::{internal_snapshot::snapshot_info, query::qcow2_specific},
    qobject::{QDict, QObject, key, qdict},
};

/// What a file is a multiple of, as the protocol sees it.
const SECTOR: u64 = 512;

pub(super) fn info(run: &mut Run<'_>, options: &Options<'_>) -> Result<(), Refusal> {
    options.in_json()?;
    let access = if options.has("-U") { Access::Shared } else { Access::Read };
    let mut infos = Vec::new();
    let mut seen = BTreeSet::new();
    let mut next = Some((options.name()?.to_owned(), options.value("-f").map(str::to_owned)));
    while let Some((name, format)) = next {
        if !seen.insert(name.clone()) {
            return Err(Refusal::new(format!("Backing file '{name}' creates an infinite loop.")));
        }
        let layer = run.open_one(&name, format.as_deref(), access)?;
        infos.push(QObject::from(run.of_image(&layer)));
        next = options.has("--backing-chain").then(|| run.behind(&layer)).flatten();
    }
    let all = if options.has("--backing-chain") { Some(QObject::List(infos)) } else { infos.pop() };
    run.stdout += &json::pretty(&all.unwrap_or_else(QObject::empty));
    Ok(())
}

impl Run<'_> {
    /// QAPI's `BlockGraphInfo`, or `ImageInfo` where the release knows none.
    fn of_image(&self, layer: &Layer) -> QDict {
        let image = self.image(layer);
        let mut info = qdict! {
            "filename": layer.name.clone(),
            "format": layer.format.driver(),
            "virtual-size": image.map_or(0, Image::virtual_size),
            "actual-size": image.map_or(0, Image::on_disk),
            "dirty-flag": false,
        };
        if let Some(qcow2) = image.and_then(Image::as_qcow2) {
            of_qcow2(&mut info, qcow2, &layer.name);
        }
        if self.around.release.image_info_has_children() {
            let file = self.of_file(layer);
            let child = QObject::from(qdict! { "name": "file", "info": file });
            info.put(key!("children"), QObject::List(vec![child]));
        }
        info
    }

    fn of_file(&self, layer: &Layer) -> QDict {
        let image = self.image(layer);
        qdict! {
            "filename": layer.name.clone(),
            "format": protocol(&layer.name),
            "virtual-size": image.map_or(0, Image::file_length).next_multiple_of(SECTOR),
            "actual-size": image.map_or(0, Image::on_disk),
            "dirty-flag": false,
            "format-specific": qdict! { "type": "file", "data": qdict! {} },
            "children": QObject::List(Vec::new()),
        }
    }
}

fn of_qcow2(info: &mut QDict, qcow2: &Qcow2, name: &str) {
    info.put(key!("cluster-size"), Qcow2::CLUSTER);
    info.put(key!("format-specific"), qcow2_specific(Some(qcow2), true));
    if !qcow2.snapshots.is_empty() {
        let snapshots = qcow2.snapshots.iter().map(|known| QObject::from(snapshot_info(known)));
        info.put(key!("snapshots"), snapshots.collect::<QObject>());
    }
    if let Some(backing) = &qcow2.backing {
        info.put(key!("backing-filename"), backing.file.clone());
        info.put(key!("full-backing-filename"), combined(name, &backing.file));
        if let Some(format) = &backing.format {
            info.put(key!("backing-filename-format"), format.clone());
        }
    }
}
