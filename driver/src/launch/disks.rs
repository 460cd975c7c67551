//! Disks: for each image of a chain a file node and a format node, and on top of them the device that the guest sees.
//!
//! ```text
//! virtio-disk0 (virtio-blk-pci) -> vda (qcow2) -backing-> vda-1 (qcow2) -backing-> vda-2 (raw)
//!                                    | file                 | file                   | file
//!                                  vda-file               vda-1-file               vda-2-file
//! ```
//! A `<transient/>` disk has its overlay ([`super::transient`]) on top of that, which has the name of the disk then.
//!
//! Every node has a name, and every node says what is behind it: QEMU opens nothing because a header names it. File nodes
//! may be reopened for writing, so that a later commit can write into an image that is only read until then.

use serde_json::{Map, Value, json};

use super::{
    LaunchError, NVRAM_NODE,
    arguments::{Line, Machine, cannot_give, escaped, number_or_zero, one_of, only},
    buses::{Kind, Place},
    devices::{id, place},
    transient::{self, TransientOverlay},
};
use crate::{
    domain_snapshot::SourceType,
    domain_xml::{Disk, number_of},
    qemu_img::Backing,
    xml::Element,
};

/// What a disk may say.
const ELEMENTS: &[&str] = &[
    "driver",
    "source",
    "backingStore",
    "target",
    "address",
    "alias",
    "readonly",
    "shareable",
    "transient",
    "boot",
    "serial",
    // Who takes its snapshots is nothing to QEMU.
    crate::disk::ELEMENT,
];

/// The nodes and the device of every disk.
pub(super) fn of(line: &mut Line, machine: &Machine<'_>) -> Result<(), LaunchError> {
    let chosen = boot_devices(machine)?;
    let overlays = transient::overlays(machine.domain)?;
    for disk in machine.domain.disks() {
        let element = disk.element();
        only(element, &["type", "device", "snapshot", "model"], ELEMENTS)?;
        one_of(element, "device", &["disk", "cdrom"])?;
        one_of(element, "model", &["virtio"])?;
        let overlay = overlays.iter().find(|overlay| overlay.target == disk.target);
        let image = image(line, &disk, overlay, machine)?;
        let order = chosen.iter().find(|(target, _)| *target == disk.target).map(|(_, order)| *order);
        device(line, &disk, image, order)?;
    }
    Ok(())
}

/// How a disk's driver is told to treat the image.
struct Treatment {
    cache: Option<Value>,
    write_cache: Option<&'static str>,
    aio: Option<String>,
    discard: Option<String>,
    policies: String,
}

fn treatment(disk: &Disk<'_>) -> Result<Treatment, LaunchError> {
    let mut treatment =
        Treatment { cache: None, write_cache: None, aio: None, discard: None, policies: String::new() };
    let Some(driver) = disk.element().child("driver") else { return Ok(treatment) };
    only(driver, &["name", "type", "cache", "io", "discard", "error_policy", "rerror_policy"], &[])?;
    one_of(driver, "name", &["qemu"])?;
    let modes = ["default", "none", "writeback", "writethrough", "directsync", "unsafe"];
    let (direct, no_flush, writes_back) = match one_of(driver, "cache", &modes)? {
        None | Some("default") => (None, false, None),
        Some("none") => (Some(true), false, Some("on")),
        Some("writeback") => (Some(false), false, Some("on")),
        Some("writethrough") => (Some(false), false, Some("off")),
        Some("directsync") => (Some(true), false, Some("off")),
        Some(_) => (Some(false), true, Some("on")),
    };
    treatment.cache = direct.map(|direct| json!({ "direct": direct, "no-flush": no_flush }));
    treatment.write_cache = writes_back;
    treatment.aio = one_of(driver, "io", &["threads", "native", "io_uring"])?.map(str::to_owned);
    treatment.discard = one_of(driver, "discard", &["unmap", "ignore"])?.map(str::to_owned);
    for (attribute, property, ways) in [
        ("error_policy", "werror", &["stop", "report", "ignore", "enospace"][..]),
        ("rerror_policy", "rerror", &["stop", "report", "ignore"]),
    ] {
        if let Some(way) = one_of(driver, attribute, ways)? {
            let way = if way == "enospace" { "enospc" } else { way };
            treatment.policies += &format!(",{property}={way}");
        }
    }
    Ok(treatment)
}

/// What a device stands on.
struct Opened {
    /// The format node's name; none for an empty drive.
    node: Option<String>,
    properties: String,
}

fn image(
    line: &mut Line,
    disk: &Disk<'_>,
    overlay: Option<&TransientOverlay>,
    machine: &Machine<'_>,
) -> Result<Opened, LaunchError> {
    let element = disk.element();
    let treatment = treatment(disk)?;
    let mut properties = treatment.policies.clone();
    if let Some(state) = treatment.write_cache {
        properties += &format!(",write-cache={state}");
    }
    if let Some(source) = element.child("source") {
        only(source, &["file", "dev", "index"], &[])?;
    }
    if !disk.is_on_the_host() {
        return Err(cannot_give(element, format!("a disk of type {:?}", element.attribute("type"))));
    }
    let Some(path) = disk.path() else {
        if disk.device() != "cdrom" {
            return Err(cannot_give(element, format!("disk {} without an image", disk.target)));
        }
        return Ok(Opened { node: None, properties });
    };
    if !matches!(disk.format(), "qcow2" | "raw") {
        return Err(cannot_give(element, format!("an image of format `{}`", disk.format())));
    }
    if disk.shareable() {
        properties += ",share-rw=on";
    }
    let node = id(&Element::new("disk"), disk.target)
        .map_err(|_| cannot_give(element, format!("a disk called `{}`", disk.target)))?;
    let image = Backing { file: path.to_owned(), format: disk.format().to_owned() };
    let mut chain = Vec::new();
    chain.extend(
        overlay.map(|overlay| (Backing { file: overlay.file.clone(), format: "qcow2".into() }, "file")),
    );
    chain.push((image, file_driver(disk.source_type() == Some(SourceType::Block))));
    let behind = machine.chains.get(disk.target).into_iter().flatten();
    let is_device = |image: &Backing| SourceType::of_path(&image.file) == SourceType::Block;
    chain.extend(behind.map(|image| (image.clone(), file_driver(is_device(image)))));
    let mut below: Option<String> = None;
    for (number, (image, file_driver)) in chain.iter().enumerate().rev() {
        let name = if number == 0 { node.clone() } else { format!("{node}-{number}") };
        nodes(
            line,
            &Nodes {
                name: &name,
                image,
                file_driver,
                read_only: number > 0 || disk.read_only(),
                backing: below.as_deref(),
                treatment: &treatment,
            },
        )?;
        below = Some(name);
    }
    Ok(Opened { node: Some(node), properties })
}

fn file_driver(is_block_device: bool) -> &'static str {
    if is_block_device { "host_device" } else { "file" }
}

/// The two nodes of an image.
struct Nodes<'a> {
    name: &'a str,
    image: &'a Backing,
    file_driver: &'static str,
    read_only: bool,
    backing: Option<&'a str>,
    treatment: &'a Treatment,
}

fn nodes(line: &mut Line, nodes: &Nodes<'_>) -> Result<(), LaunchError> {
    let Nodes { name, image, read_only, treatment, .. } = nodes;
    if !image.file.is_absolute() {
        return Err(LaunchError::Relative(image.file.clone()));
    }
    let mut file = json!({
        "driver": nodes.file_driver,
        "filename": image.file,
        "node-name": format!("{name}-file"),
        "auto-read-only": true,
        "discard": "unmap",
    });
    let mut format = json!({
        "driver": image.format,
        "node-name": name,
        "read-only": read_only,
        "file": format!("{name}-file"),
    });
    if let (Some(aio), Some(file)) = (&treatment.aio, file.as_object_mut()) {
        file.insert("aio".to_owned(), aio.as_str().into());
    }
    for options in [&mut file, &mut format] {
        set(options, "cache", treatment.cache.clone());
    }
    set(&mut format, "discard", treatment.discard.clone().map(Value::from));
    if image.format == "qcow2" {
        set(&mut format, "backing", Some(nodes.backing.map_or(Value::Null, Value::from)));
    }
    line.option("-blockdev", file.to_string());
    line.option("-blockdev", format.to_string());
    Ok(())
}

fn set(options: &mut Value, name: &str, value: Option<Value>) {
    if let (Some(value), Some(options)) = (value, options.as_object_mut()) {
        options.insert(name.to_owned(), value);
    }
}

fn device(line: &mut Line, disk: &Disk<'_>, image: Opened, order: Option<u32>) -> Result<(), LaunchError> {
    let element = disk.element();
    let target = element.child("target").unwrap_or(element);
    only(target, &["dev", "bus"], &[])?;
    let is_cd = disk.device() == "cdrom";
    let (driver, name, place) = match target.attribute("bus") {
        Some("virtio") if !is_cd => {
            let name = format!("virtio-disk{}", number_of(disk.target));
            ("virtio-blk-pci", name, place(line, element)?)
        }
        Some("sata") => {
            let (_, [_, _, unit], ide) = drive(line, element, disk, Kind::Sata)?;
            (if is_cd { "ide-cd" } else { "ide-hd" }, format!("sata0-0-{unit}"), format!(",bus={ide}.{unit}"))
        }
        Some("ide") => {
            let (_, [bus, _, unit], ide) = drive(line, element, disk, Kind::Ide)?;
            let name = format!("ide0-{bus}-{unit}");
            (if is_cd { "ide-cd" } else { "ide-hd" }, name, format!(",bus={ide}.{bus},unit={unit}"))
        }
        Some("scsi") => {
            let (controller, [bus, goal, unit], scsi) = drive(line, element, disk, Kind::Scsi)?;
            let place = format!(",bus={scsi},channel={bus},scsi-id={goal},lun={unit}");
            (
                if is_cd { "scsi-cd" } else { "scsi-hd" },
                format!("scsi{controller}-{bus}-{goal}-{unit}"),
                place,
            )
        }
        bus => return Err(cannot_give(target, format!("a {} on {bus:?}", disk.device()))),
    };
    let id = id(element, name)?;
    let drive = image.node.map(|node| format!(",drive={node}")).unwrap_or_default();
    let mut said = format!("{driver}{place}{drive},id={id}");
    let stated = boot_order(element)?;
    match order {
        Some(order) if stated.is_empty() => said += &format!(",bootindex={order}"),
        _ => said += &stated,
    }
    if let Some(serial) = element.text_of("serial") {
        said += &format!(",serial={}", escaped(serial.trim()));
    }
    line.option("-device", said + &image.properties);
    Ok(())
}

/// Takes a drive's place: its controller, its bus, target and unit, and what QEMU calls the controller's bus. Without an address it
/// is that of its target among its like.
fn drive(
    line: &mut Line,
    element: &Element,
    disk: &Disk<'_>,
    kind: Kind,
) -> Result<(u32, Place, String), LaunchError> {
    let (controller, place) = match element.child("address") {
        None => {
            let number = number_of(disk.target);
            (0, if kind == Kind::Ide { [number / 2, 0, number % 2] } else { [0, 0, number] })
        }
        Some(address) => {
            only(address, &["type", "controller", "bus", "target", "unit"], &[])?;
            one_of(address, "type", &["drive"])?;
            let number = |name| number_or_zero(address, name);
            (number("controller")?, [number("bus")?, number("target")?, number("unit")?])
        }
    };
    let taken = line.buses.plug(kind, controller, place, false);
    Ok((controller, place, taken.map_err(|why| cannot_give(element, why))?.to_owned()))
}

/// `,bootindex=1` where the device says its place.
pub(super) fn boot_order(device: &Element) -> Result<String, LaunchError> {
    let Some(boot) = device.child("boot") else { return Ok(String::new()) };
    only(boot, &["order"], &[])?;
    Ok(format!(",bootindex={}", number_or_zero(boot, "order")?))
}

/// The disks that `<os><boot dev=>` means, each with its place.
fn boot_devices<'m>(machine: &Machine<'m>) -> Result<Vec<(&'m str, u32)>, LaunchError> {
    let root = machine.domain.element();
    let boots = root.child("os").into_iter().flat_map(Element::elements).filter(|inner| inner.name == "boot");
    let mut chosen = Vec::new();
    for (order, boot) in (1..).zip(boots) {
        only(boot, &["dev"], &[])?;
        let kind = one_of(boot, "dev", &["hd", "cdrom"])?;
        let wanted = if kind == Some("cdrom") { "cdrom" } else { "disk" };
        let first = machine.domain.disks().find(|disk| disk.device() == wanted);
        chosen.extend(first.map(|disk| (disk.target, order)));
    }
    Ok(chosen)
}

/// The nodes of the firmware and its variables; the properties of the board that take them up.
pub(super) fn firmware(line: &mut Line, os: &Element) -> Result<&'static str, LaunchError> {
    let Some(loader) = os.child("loader") else { return Ok("") };
    only(loader, &["readonly", "type", "secure", "format"], &[])?;
    one_of(loader, "type", &["pflash"])?;
    one_of(loader, "secure", &["no"])?;
    one_of(loader, "readonly", &["yes"])?;
    if loader.attribute("type").is_none() {
        return Err(cannot_give(loader, "a firmware that is no pflash"));
    }
    flash(line, loader, "pflash0", true)?;
    let Some(nvram) = os.child("nvram") else { return Ok(",pflash0=pflash0") };
    only(nvram, &["template", "templateFormat", "format", "type"], &["source"])?;
    one_of(nvram, "type", &["file"])?;
    flash(line, nvram, NVRAM_NODE, false)?;
    Ok(",pflash0=pflash0,pflash1=pflash1")
}

fn flash(line: &mut Line, element: &Element, name: &str, read_only: bool) -> Result<(), LaunchError> {
    let format = one_of(element, "format", &["raw", "qcow2"])?.unwrap_or("raw");
    let source = element.child("source").and_then(|source| source.attribute("file"));
    let path = source.map_or_else(|| element.text().trim().to_owned(), str::to_owned);
    if !path.starts_with('/') {
        return Err(LaunchError::Relative(path.into()));
    }
    let file = json!({
        "driver": "file",
        "filename": path,
        "node-name": format!("{name}-file"),
        "auto-read-only": true,
        "discard": "unmap",
    });
    let mut node = Map::new();
    node.insert("node-name".to_owned(), name.into());
    node.insert("read-only".to_owned(), read_only.into());
    node.insert("driver".to_owned(), format.into());
    node.insert("file".to_owned(), format!("{name}-file").into());
    if format == "qcow2" {
        node.insert("backing".to_owned(), Value::Null);
    }
    line.option("-blockdev", file.to_string());
    line.option("-blockdev", Value::from(node).to_string());
    Ok(())
}
