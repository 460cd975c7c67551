//! The devices of a machine, one after the other as its document has them; the disks among them are in [`super::disks`].
//!
//! | element | what is understood |
//! | --- | --- |
//! | controller | PCI roots, root ports and the bridge to PCI; virtio-serial; virtio-scsi; the chipset's sata and ide; usb none, qemu-xhci |
//! | channel | unix sockets of virtio ports: `org.qemu.guest_agent.0` |
//! | serial, console | null, pty; a console that is a serial port |
//! | graphics | vnc without a password: see [`super::display`] |
//! | interface | user, without more than a model and a MAC address |
//! | video | none, vga, virtio, bochs, cirrus |
//! | input | PS/2; USB tablets |
//! | memballoon, rng, watchdog, audio | none, virtio; the host's random numbers; itco; none |
//!
//! Where they are on their buses is what the document says: a machine's state fits no other places.

use super::{
    LaunchError,
    arguments::{Line, Machine, cannot_give, escaped, number_or_zero, one_of, only},
    buses, disks, display,
};
use crate::xml::Element;

/// `-device`, and what it needs beside it, of every element of `<devices>`.
pub(super) fn of(line: &mut Line, all: &Element, machine: &Machine<'_>) -> Result<(), LaunchError> {
    let named = |name: &'static str| all.elements().filter(move |device| device.name == name);
    for device in in_order(named("controller"))? {
        controller(line, device)?;
    }
    let has_controller = named("controller").any(|device| device.attribute("type") == Some("virtio-serial"));
    if !has_controller && named("channel").next().is_some() {
        line.option("-device", "virtio-serial-pci,id=virtio-serial0");
        line.buses.add_serial(0, "virtio-serial0.0", None);
    }
    disks::of(line, machine)?;
    let mut counts = Counts::default();
    for device in all.elements() {
        match device.name.as_str() {
            "emulator" | "controller" | "disk" => {}
            "channel" => channel(line, device, machine, counts.next(Kind::Channel))?,
            "serial" => serial(line, device)?,
            "console" => console(device)?,
            "graphics" => display::of(line, device)?,
            "interface" => interface(line, device, counts.next(Kind::Interface))?,
            "video" => video(line, device, counts.next(Kind::Video))?,
            "input" => input(line, device, counts.next(Kind::Input))?,
            "memballoon" => balloon(line, device)?,
            "rng" => rng(line, device, counts.next(Kind::Rng))?,
            "watchdog" => watchdog(line, device)?,
            "audio" => {
                only(device, &["id", "type"], &[])?;
                one_of(device, "type", &["none"])?;
            }
            other => return Err(cannot_give(device, format!("`<{other}>`"))),
        }
    }
    Ok(())
}

/// Buses for PCI before what may sit on them: libvirt lists a USB controller in front of the port that it is in.
fn in_order<'d>(controllers: impl Iterator<Item = &'d Element>) -> Result<Vec<&'d Element>, LaunchError> {
    let (mut buses, others): (Vec<_>, Vec<_>) =
        controllers.partition(|device| device.attribute("type") == Some("pci"));
    for bus in &buses {
        number_or_zero(bus, "index")?;
    }
    buses.sort_by_key(|bus| number_or_zero(bus, "index").unwrap_or(0));
    Ok([buses, others].concat())
}

/// What is counted for the ids that the document does not give.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Channel,
    Interface,
    Video,
    Input,
    Rng,
}

#[derive(Debug, Default)]
struct Counts([usize; 5]);

impl Counts {
    fn next(&mut self, kind: Kind) -> usize {
        let count = &mut self.0[kind as usize];
        *count += 1;
        *count - 1
    }
}

/// The document's alias of a device, or the id that it has otherwise.
pub(super) fn id(device: &Element, otherwise: impl Into<String>) -> Result<String, LaunchError> {
    let stated = device.child("alias").and_then(|alias| alias.attribute("name"));
    let id = stated.map_or_else(|| otherwise.into(), str::to_owned);
    let is_one = id.starts_with(|c: char| c.is_ascii_alphabetic())
        && id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'));
    if is_one { Ok(id) } else { Err(cannot_give(device, format!("a device called `{id}`"))) }
}

/// `,bus=pci.1,addr=0x0`, or nothing where QEMU is to choose.
pub(super) fn place(line: &mut Line, device: &Element) -> Result<String, LaunchError> {
    let Some(address) = device.child("address") else { return Ok(String::new()) };
    only(address, &["type", "domain", "bus", "slot", "function", "multifunction"], &[])?;
    if address.attribute("type") != Some("pci") || number_or_zero(address, "domain")? != 0 {
        return Err(cannot_give(address, format!("an address of type {:?}", address.attribute("type"))));
    }
    let [bus, slot, function] = ["bus", "slot", "function"].map(|name| number_or_zero(address, name));
    let (bus, slot, function) = (bus?, slot?, function?);
    let more = one_of(address, "multifunction", &["on", "off"])?;
    let taken = line.buses.plug(buses::Kind::Pci, bus, [slot, function, 0], more == Some("on"));
    let bus = taken.map_err(|why| cannot_give(address, why))?;
    let function = if function == 0 { String::new() } else { format!(".{function:#x}") };
    let more = more.map(|state| format!(",multifunction={state}")).unwrap_or_default();
    Ok(format!(",bus={bus}{more},addr={slot:#x}{function}"))
}

/// How many ports QEMU gives an xhci controller that is not told.
const XHCI_PORTS: u32 = 4;

fn controller(line: &mut Line, device: &Element) -> Result<(), LaunchError> {
    let attributes = ["type", "index", "model", "ports", "vectors"];
    only(device, &attributes, &["model", "target", "address", "alias"])?;
    let (kind, model) = (device.attribute("type").unwrap_or_default(), device.attribute("model"));
    let index = number_or_zero(device, "index")?;
    let unknown =
        || cannot_give(device, format!("the controller `{kind}` of model `{}`", model.unwrap_or_default()));
    match (kind, model) {
        ("pci", Some("pcie-root" | "pci-root")) => {}
        ("pci", Some("pcie-root-port")) => {
            let target = device.child("target");
            let number = |name| target.map_or(Ok(0), |target| number_or_zero(target, name));
            let (chassis, port) = (number("chassis")?, number("port")?);
            let chassis = if chassis == 0 { index } else { chassis };
            let port = if port == 0 { String::new() } else { format!(",port={port}") };
            let id = id(device, format!("pci.{index}"))?;
            let place = place(line, device)?;
            line.buses.add_pci(index, &*id, 0..=0);
            line.option("-device", format!("pcie-root-port{port},chassis={chassis},id={id}{place}"));
        }
        ("pci", Some("pcie-to-pci-bridge")) => {
            let id = id(device, format!("pci.{index}"))?;
            let place = place(line, device)?;
            // Its slot 0 is that of its own hot plugging.
            line.buses.add_pci(index, &*id, 1..=31);
            line.option("-device", format!("pcie-pci-bridge,id={id}{place}"));
        }
        ("virtio-serial", None | Some("virtio")) => {
            let id = id(device, format!("virtio-serial{index}"))?;
            let mut said = format!("virtio-serial-pci,id={id}");
            for (attribute, property) in [("ports", "max_ports"), ("vectors", "vectors")] {
                if device.attribute(attribute).is_some() {
                    said += &format!(",{property}={}", number_or_zero(device, attribute)?);
                }
            }
            let ports = device.attribute("ports").map(|_| number_or_zero(device, "ports")).transpose()?;
            line.buses.add_serial(index, format!("{id}.0"), ports);
            let place = place(line, device)?;
            line.option("-device", said + &place);
        }
        ("scsi", Some("virtio-scsi")) => {
            let id = id(device, format!("scsi{index}"))?;
            line.buses.add(buses::Kind::Scsi, index, format!("{id}.0"), [0..=0, 0..=255, 0..=16383]);
            let place = place(line, device)?;
            line.option("-device", format!("virtio-scsi-pci,id={id}{place}"));
        }
        ("usb", Some("none")) => {}
        ("usb", Some("qemu-xhci")) => {
            let count = number_or_zero(device, "ports")?;
            let ports = if count == 0 { String::new() } else { format!(",p2={count},p3={count}") };
            let id = id(device, if index == 0 { "usb".to_owned() } else { format!("usb{index}") })?;
            let count = if count == 0 { XHCI_PORTS } else { count };
            line.buses.add(buses::Kind::Usb, index, format!("{id}.0"), [1..=count, 0..=0, 0..=0]);
            let place = place(line, device)?;
            line.option("-device", format!("qemu-xhci,id={id}{ports}{place}"));
        }
        // They are part of the chipset.
        ("sata" | "ide", None | Some("piix3")) if index == 0 => {}
        _ => return Err(unknown()),
    }
    Ok(())
}

/// Where the host's side of a channel listens: where the document says, or beside the monitor.
pub(super) fn channel_socket(device: &Element, machine: &Machine<'_>) -> Result<String, LaunchError> {
    let source = device.child("source");
    if let Some(source) = source {
        only(source, &["mode", "path"], &[])?;
        one_of(source, "mode", &["bind"])?;
    }
    let name = device.child("target").and_then(|target| target.attribute("name")).unwrap_or_default();
    let stated = source.and_then(|source| source.attribute("path"));
    match stated {
        Some(path) if !path.starts_with('/') => Err(LaunchError::Relative(path.into())),
        Some(path) => Ok(path.to_owned()),
        None => Ok(format!("{}.{}", machine.monitor, name.replace('/', "_"))),
    }
}

fn channel(
    line: &mut Line,
    device: &Element,
    machine: &Machine<'_>,
    number: usize,
) -> Result<(), LaunchError> {
    only(device, &["type"], &["source", "target", "address", "alias"])?;
    one_of(device, "type", &["unix"])?;
    let Some(target) = device.child("target") else {
        return Err(cannot_give(device, "a channel without `<target>`"));
    };
    only(target, &["type", "name", "state"], &[])?;
    one_of(target, "type", &["virtio"])?;
    let id = id(device, format!("channel{number}"))?;
    let (bus, port) = match device.child("address") {
        None => (0, number as u32 + 1),
        Some(address) => {
            only(address, &["type", "controller", "bus", "port"], &[])?;
            one_of(address, "type", &["virtio-serial"])?;
            (number_or_zero(address, "controller")?, number_or_zero(address, "port")?)
        }
    };
    let taken = line.buses.plug(buses::Kind::Serial, bus, [port, 0, 0], false);
    let bus = taken.map_err(|why| cannot_give(device, why))?.to_owned();
    let socket = escaped(&channel_socket(device, machine)?);
    let name = escaped(target.attribute("name").unwrap_or_default());
    line.option("-chardev", format!("socket,id=char{id},path={socket},server=on,wait=off"));
    line.option(
        "-device",
        format!("virtserialport,bus={bus},nr={port},chardev=char{id},id={id},name={name}"),
    );
    Ok(())
}

fn serial(line: &mut Line, device: &Element) -> Result<(), LaunchError> {
    only(device, &["type", "tty"], &["source", "target", "alias", "address"])?;
    // Which terminal it was the last time is of no use: the host gives another.
    let backend = one_of(device, "type", &["null", "pty"])?.unwrap_or("pty");
    let port = match device.child("target") {
        None => 0,
        Some(target) => {
            only(target, &["type", "port"], &["model"])?;
            one_of(target, "type", &["isa-serial"])?;
            number_or_zero(target, "port")?
        }
    };
    let id = id(device, format!("serial{port}"))?;
    line.option("-chardev", format!("{backend},id=char{id}"));
    line.option("-device", format!("isa-serial,chardev=char{id},id={id},index={port}"));
    Ok(())
}

/// It is the first serial port by another name.
fn console(device: &Element) -> Result<(), LaunchError> {
    only(device, &["type", "tty"], &["source", "target", "alias"])?;
    one_of(device, "type", &["null", "pty"])?;
    device.child("target").map_or(Ok(()), |target| one_of(target, "type", &["serial"]).map(drop))
}

fn interface(line: &mut Line, device: &Element, number: usize) -> Result<(), LaunchError> {
    only(device, &["type"], &["mac", "model", "address", "alias", "boot"])?;
    one_of(device, "type", &["user"])?;
    let model = device
        .child("model")
        .map_or(Ok(None), |model| one_of(model, "type", &["virtio", "e1000", "e1000e", "rtl8139"]))?;
    let driver = match model {
        Some("virtio") => "virtio-net-pci",
        Some(driver) => driver,
        None => "rtl8139",
    };
    let Some(mac) = device.child("mac").and_then(|mac| mac.attribute("address")) else {
        return Err(cannot_give(device, "a network card without a `<mac>` of its own"));
    };
    if !mac.chars().all(|c| c.is_ascii_hexdigit() || c == ':') {
        return Err(cannot_give(device, format!("the MAC address `{mac}`")));
    }
    let id = id(device, format!("net{number}"))?;
    line.option("-netdev", format!("user,id=host{id}"));
    let boot = disks::boot_order(device)?;
    let place = place(line, device)?;
    line.option("-device", format!("{driver},netdev=host{id},id={id},mac={mac}{boot}{place}"));
    Ok(())
}

fn video(line: &mut Line, device: &Element, number: usize) -> Result<(), LaunchError> {
    only(device, &[], &["model", "address", "alias"])?;
    let Some(model) = device.child("model") else {
        return Err(cannot_give(device, "a video card without a `<model>`"));
    };
    only(model, &["type", "vram", "heads", "primary"], &[])?;
    one_of(model, "heads", &["1"])?;
    let driver = match one_of(model, "type", &["none", "vga", "virtio", "bochs", "cirrus"])? {
        Some("none") => return Ok(()),
        Some("virtio") => "virtio-vga",
        Some("bochs") => "bochs-display",
        Some("cirrus") => "cirrus-vga",
        _ => "VGA",
    };
    let memory = match (driver, number_or_zero(model, "vram")? >> 10) {
        (_, 0) | ("virtio-vga", _) => String::new(),
        ("bochs-display", mib) => format!(",vgamem={}", mib << 20),
        (_, mib) => format!(",vgamem_mb={mib}"),
    };
    let id = id(device, format!("video{number}"))?;
    let place = place(line, device)?;
    line.option("-device", format!("{driver},id={id}{memory}{place}"));
    Ok(())
}

fn input(line: &mut Line, device: &Element, number: usize) -> Result<(), LaunchError> {
    only(device, &["type", "bus"], &["address", "alias"])?;
    match (device.attribute("type"), device.attribute("bus")) {
        // They are part of the chipset.
        (Some("mouse" | "keyboard"), Some("ps2")) => Ok(()),
        (Some("tablet"), Some("usb")) => {
            let id = id(device, format!("input{number}"))?;
            let refused = |why| cannot_give(device, why);
            let place = match device.child("address") {
                None => format!(",bus={}", line.buses.name(buses::Kind::Usb, 0).map_err(refused)?),
                Some(address) => {
                    only(address, &["type", "bus", "port"], &[])?;
                    one_of(address, "type", &["usb"])?;
                    let [bus, port] = ["bus", "port"].map(|name| number_or_zero(address, name));
                    let (bus, port) = (bus?, port?);
                    let taken = line.buses.plug(buses::Kind::Usb, bus, [port, 0, 0], false);
                    format!(",bus={},port={port}", taken.map_err(refused)?)
                }
            };
            line.option("-device", format!("usb-tablet,id={id}{place}"));
            Ok(())
        }
        (kind, bus) => Err(cannot_give(device, format!("the input {kind:?} on {bus:?}"))),
    }
}

fn balloon(line: &mut Line, device: &Element) -> Result<(), LaunchError> {
    only(device, &["model"], &["address", "alias", "stats"])?;
    if one_of(device, "model", &["none", "virtio"])? == Some("virtio") {
        let id = id(device, "balloon0")?;
        let place = place(line, device)?;
        line.option("-device", format!("virtio-balloon-pci,id={id}{place}"));
    }
    Ok(())
}

fn rng(line: &mut Line, device: &Element, number: usize) -> Result<(), LaunchError> {
    only(device, &["model"], &["backend", "address", "alias"])?;
    one_of(device, "model", &["virtio"])?;
    let backend = device.child("backend").filter(|backend| backend.attribute("model") == Some("random"));
    let Some(backend) = backend else {
        return Err(cannot_give(device, "random numbers that are not the host's"));
    };
    only(backend, &["model"], &[])?;
    let file = escaped(Some(backend.text().trim()).filter(|file| !file.is_empty()).unwrap_or("/dev/urandom"));
    let id = id(device, format!("rng{number}"))?;
    line.option("-object", format!("rng-random,id=obj{id},filename={file}"));
    let place = place(line, device)?;
    line.option("-device", format!("virtio-rng-pci,rng=obj{id},id={id}{place}"));
    Ok(())
}

/// The one of the q35 chipset, which libvirt lists of itself.
fn watchdog(line: &mut Line, device: &Element) -> Result<(), LaunchError> {
    only(device, &["model", "action"], &["alias"])?;
    one_of(device, "model", &["itco"])?;
    let action =
        one_of(device, "action", &["reset", "shutdown", "poweroff", "pause", "none"])?.unwrap_or("reset");
    line.option("-global", "ICH9-LPC.noreboot=off");
    line.option("-watchdog-action", action);
    Ok(())
}
