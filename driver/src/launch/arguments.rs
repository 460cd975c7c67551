//! QEMU's arguments for a machine, from its document.
//!
//! Every element and attribute must be known here, with all that is in it: one that is not is refused, by its name and place,
//! so that no machine differs from its description in what the guest sees, or in what the user has asked for.
//!
//! | element | what is understood |
//! | --- | --- |
//! | `<domain type=>` | `kvm`, `qemu` |
//! | name, uuid, title, description, metadata, resource, seclabel, on_crash | the last five say nothing to QEMU |
//! | memory, currentMemory | in any unit; no ballooning |
//! | vcpu, cpu | a number; `custom` and its features, `host-passthrough`, `maximum`, topology |
//! | os | `<type>`, `<boot>`, `<loader type='pflash'>` and `<nvram>` |
//! | features | acpi, apic, pae, smm, vmport |
//! | clock, pm, on_poweroff, on_reboot | utc, localtime; timers rtc, pit, hpet; S3 and S4; restart and destroy |
//! | devices | see [`devices`](super::devices); disks in [`disks`](super::disks) |
//!
//! Ids of devices are the document's aliases, or those that libvirt would give. Nodes of disks are called by their targets
//! ([`super::disks`]). Source: QEMU's documentation of its invocation; what libvirt starts QEMU with.

use camino::Utf8Path;
use serde::{Deserialize, Serialize};

use super::{LaunchError, buses::Buses, chain::Chains, devices, disks};
use crate::{
    domain_xml::{DomainXml, size},
    xml::{Element, Node},
};

/// What runs the guest's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Accelerator {
    /// The host's kernel.
    Kvm,
    /// QEMU itself.
    Tcg,
}

/// How a machine stands when it has been started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Power {
    /// The guest runs.
    Running,
    /// The guest has not begun: `prelaunch`, until `cont`.
    Paused,
    /// It waits for a machine's state, by `migrate-incoming`, and does not run by itself then.
    Incoming,
}

/// A machine, and all that its arguments are made of.
#[derive(Debug, Clone, Copy)]
pub struct Machine<'a> {
    /// Its document.
    pub domain: &'a DomainXml,
    /// The images behind its disks.
    pub chains: &'a Chains,
    /// Where its monitor listens.
    pub monitor: &'a Utf8Path,
    /// How it stands at the start.
    pub power: Power,
    /// What runs the guest's code, if not what the document says.
    pub accelerator: Option<Accelerator>,
}

/// Whether a document can be understood.
///
/// # Errors
/// [`LaunchError::CannotGive`], [`LaunchError::Relative`].
pub fn check(
    domain: &DomainXml,
    monitor: &Utf8Path,
    accelerator: Option<Accelerator>,
) -> Result<(), LaunchError> {
    let chains = Chains::new();
    for disk in domain.disks() {
        super::chain::stated(disk.element())?;
    }
    of(&Machine { domain, chains: &chains, monitor, power: Power::Paused, accelerator }).map(drop)
}

/// QEMU's arguments, without its name. QEMU becomes a daemon once its monitor listens.
///
/// # Errors
/// [`LaunchError::CannotGive`], [`LaunchError::Relative`].
pub fn of(machine: &Machine<'_>) -> Result<Vec<String>, LaunchError> {
    let root = machine.domain.element();
    let mut line = Line { words: Vec::new(), buses: Buses::of_chipset(is_q35(root)) };
    line.word("-nodefaults");
    line.word("-no-user-config");
    line.option("-display", "none");
    line.option("-msg", "timestamp=on");
    only(root, &["type", "id"], ELEMENTS)?;
    let accelerator = accelerator(machine, root)?;
    line.option("-accel", accelerator);
    line.option("-name", format!("guest={}", escaped(&machine.domain.name())));
    if let Some(uuid) = machine.domain.uuid() {
        line.option("-uuid", uuid);
    }
    board(&mut line, root)?;
    memory(&mut line, root)?;
    processors(&mut line, root, machine)?;
    clock(&mut line, root, accelerator == "kvm")?;
    ends(&mut line, root)?;
    let monitor = escaped(machine.monitor.as_str());
    line.option("-chardev", format!("socket,id=charmonitor,path={monitor},server=on,wait=off"));
    line.option("-mon", "chardev=charmonitor,id=monitor,mode=control");
    line.option("-boot", "strict=on");
    if let Some(all) = root.child("devices") {
        devices::of(&mut line, all, machine)?;
    }
    if machine.power != Power::Running {
        line.word("-S");
    }
    if machine.power == Power::Incoming {
        line.option("-incoming", "defer");
    }
    line.option("-pidfile", format!("{}.pid", machine.monitor));
    line.word("-daemonize");
    Ok(line.words)
}

/// The elements of a machine that are understood.
const ELEMENTS: &[&str] = &[
    "name",
    "uuid",
    "title",
    "description",
    "metadata",
    "resource",
    "seclabel",
    "memory",
    "currentMemory",
    "vcpu",
    "os",
    "features",
    "cpu",
    "clock",
    "pm",
    "on_poweroff",
    "on_reboot",
    "on_crash",
    "devices",
];

/// What is collected for the command line.
#[derive(Debug)]
pub(super) struct Line {
    words: Vec<String>,
    /// What the devices are plugged into.
    pub(super) buses: Buses,
}

impl Line {
    pub(super) fn word(&mut self, word: &str) {
        self.words.push(word.to_owned());
    }

    pub(super) fn option(&mut self, name: &str, value: impl Into<String>) {
        self.words.extend([name.to_owned(), value.into()]);
    }
}

/// A refusal of an element for what it asks.
pub(super) fn cannot_give(at: &Element, what: impl Into<String>) -> LaunchError {
    LaunchError::CannotGive { at: at.at, what: what.into() }
}

/// Refuses an element that has other attributes, or other elements in it.
pub(super) fn only(element: &Element, attributes: &[&str], elements: &[&str]) -> Result<(), LaunchError> {
    let name = &element.name;
    let is_known = |attribute: &str| attributes.contains(&attribute) || attribute.starts_with("xmlns");
    if let Some((attribute, value)) = element.attributes.iter().find(|(attribute, _)| !is_known(attribute)) {
        return Err(cannot_give(element, format!("`<{name} {attribute}='{value}'>`")));
    }
    let other = element.children.iter().find_map(|node| match node {
        Node::Element(inner) if !elements.contains(&inner.name.as_str()) => Some(inner),
        _ => None,
    });
    other.map_or(Ok(()), |inner| Err(cannot_give(inner, format!("`<{}>` in `<{name}>`", inner.name))))
}

/// An attribute that has to be one of these, if it is there.
pub(super) fn one_of<'e>(
    element: &'e Element,
    attribute: &str,
    values: &[&str],
) -> Result<Option<&'e str>, LaunchError> {
    match element.attribute(attribute) {
        Some(value) if !values.contains(&value) => {
            Err(cannot_give(element, format!("`<{} {attribute}='{value}'>`", element.name)))
        }
        value => Ok(value),
    }
}

/// A value inside a comma-separated option: QEMU reads two commas as one.
pub(super) fn escaped(value: &str) -> String {
    value.replace(',', ",,")
}

/// An attribute that is a number in decimal or, behind `0x`, in hexadecimal; 0 if it is not there.
pub(super) fn number_or_zero(element: &Element, attribute: &str) -> Result<u32, LaunchError> {
    let Some(text) = element.attribute(attribute) else { return Ok(0) };
    let number = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number.map_err(|_| cannot_give(element, format!("`<{} {attribute}='{text}'>`", element.name)))
}

/// An attribute that is a number from 1 on; 1 if it is not there.
fn number(element: &Element, attribute: &str) -> Result<u32, LaunchError> {
    if element.attribute(attribute).is_none() {
        return Ok(1);
    }
    let none = || cannot_give(element, format!("`<{} {attribute}='0'>`", element.name));
    Some(number_or_zero(element, attribute)?).filter(|number| *number > 0).ok_or_else(none)
}

fn accelerator(machine: &Machine<'_>, root: &Element) -> Result<&'static str, LaunchError> {
    let stated = one_of(root, "type", &["kvm", "qemu"])?;
    Ok(match machine.accelerator {
        Some(Accelerator::Kvm) => "kvm",
        Some(Accelerator::Tcg) => "tcg",
        None if stated == Some("kvm") => "kvm",
        None => "tcg",
    })
}

/// Whether the machine is one with PCI Express.
fn is_q35(root: &Element) -> bool {
    let kind = root.child("os").and_then(|os| os.child("type")?.attribute("machine"));
    kind.is_some_and(|kind| kind.contains("q35"))
}

/// `-machine`, with the firmware.
fn board(line: &mut Line, root: &Element) -> Result<(), LaunchError> {
    let Some(os) = root.child("os") else { return Err(cannot_give(root, "a machine without `<os>`")) };
    only(os, &["firmware"], &["type", "boot", "loader", "nvram", "bootmenu", "firmware"])?;
    let Some(kind) = os.child("type") else { return Err(cannot_give(os, "a machine without `<type>`")) };
    only(kind, &["arch", "machine"], &[])?;
    one_of(kind, "arch", &["x86_64"])?;
    if kind.text().trim() != "hvm" {
        return Err(cannot_give(kind, format!("a machine of type `{}`", kind.text().trim())));
    }
    let board_type = kind.attribute("machine").unwrap_or("pc");
    let mut board = format!("{},usb=off,dump-guest-core=off", escaped(board_type));
    if let Some(menu) = os.child("bootmenu") {
        only(menu, &["enable"], &[])?;
        one_of(menu, "enable", &["no"])?;
    }
    board += &features(root)?;
    if os.child("loader").is_some() {
        board += disks::firmware(line, os)?;
    } else if os.attribute("firmware").is_some() || os.child("nvram").is_some() {
        return Err(cannot_give(os, "a firmware that the document does not name by its file"));
    }
    if let Some(timer) = timers(root).find(|timer| timer.attribute("name") == Some("hpet"))
        && timer.attribute("present") == Some("no")
    {
        board += ",hpet=off";
    }
    line.option("-machine", board);
    Ok(())
}

fn features(root: &Element) -> Result<String, LaunchError> {
    let Some(features) = root.child("features") else { return Ok(",acpi=off".to_owned()) };
    only(features, &[], &["acpi", "apic", "pae", "smm", "vmport"])?;
    let mut said = String::new();
    for feature in features.elements() {
        only(feature, if matches!(feature.name.as_str(), "smm" | "vmport") { &["state"] } else { &[] }, &[])?;
        if let Some(state) = one_of(feature, "state", &["on", "off"])? {
            said += &format!(",{}={state}", feature.name);
        }
    }
    if features.child("acpi").is_none() {
        said += ",acpi=off";
    }
    Ok(said)
}

/// A size in bytes.
fn bytes(element: &Element) -> Result<u64, LaunchError> {
    only(element, &["unit", "dumpCore"], &[])?;
    one_of(element, "dumpCore", &["off"])?;
    let bytes = size::bytes(element).filter(|bytes| *bytes > 0);
    bytes.ok_or_else(|| cannot_give(element, format!("`<{}>` of `{}`", element.name, element.text().trim())))
}

fn memory(line: &mut Line, root: &Element) -> Result<(), LaunchError> {
    let Some(memory) = root.child("memory") else {
        return Err(cannot_give(root, "a machine without `<memory>`"));
    };
    // As libvirt: whole MiB, rounded up.
    let whole = bytes(memory)?.div_ceil(1 << 20);
    if let Some(current) = root.child("currentMemory")
        && bytes(current)?.div_ceil(1 << 20) != whole
    {
        return Err(cannot_give(current, "a machine that begins with less memory than it has"));
    }
    line.option("-m", format!("size={}k", whole << 10));
    Ok(())
}

fn processors(line: &mut Line, root: &Element, machine: &Machine<'_>) -> Result<(), LaunchError> {
    let count: u32 = match root.child("vcpu") {
        None => 1,
        Some(vcpu) => {
            only(vcpu, &["placement"], &[])?;
            one_of(vcpu, "placement", &["static"])?;
            let count = vcpu.text().trim().parse().ok().filter(|count| *count > 0);
            count.ok_or_else(|| cannot_give(vcpu, "a number of processors that is none"))?
        }
    };
    let mut topology = format!("sockets={count},cores=1,threads=1");
    if let Some(cpu) = root.child("cpu") {
        only(cpu, &["mode", "match", "check", "migratable"], &["model", "feature", "topology"])?;
        if let Some(stated) = cpu.child("topology") {
            only(stated, &["sockets", "dies", "cores", "threads"], &[])?;
            one_of(stated, "dies", &["1"])?;
            let [sockets, cores, threads] = ["sockets", "cores", "threads"].map(|name| number(stated, name));
            topology = format!("sockets={},cores={},threads={}", sockets?, cores?, threads?);
        }
        line.option("-cpu", model(cpu, machine)?);
    }
    line.option("-smp", format!("{count},{topology}"));
    Ok(())
}

fn model(cpu: &Element, machine: &Machine<'_>) -> Result<String, LaunchError> {
    let mode = one_of(cpu, "mode", &["custom", "host-passthrough", "maximum"])?;
    one_of(cpu, "match", &["exact"])?;
    one_of(cpu, "migratable", &["on"])?;
    let mut model = match (mode, cpu.child("model")) {
        (Some("host-passthrough"), None) if machine.accelerator != Some(Accelerator::Tcg) => {
            "host".to_owned()
        }
        (Some("host-passthrough" | "maximum"), None) => "max".to_owned(),
        (None | Some("custom"), Some(model)) => {
            only(model, &["fallback"], &[])?;
            escaped(model.text().trim())
        }
        _ => return Err(cannot_give(cpu, "a processor without a model of its own")),
    };
    for feature in cpu.elements().filter(|inner| inner.name == "feature") {
        only(feature, &["policy", "name"], &[])?;
        let policy = one_of(feature, "policy", &["require", "force", "disable", "forbid"])?;
        let state = if matches!(policy, Some("disable" | "forbid")) { "off" } else { "on" };
        let name = feature.attribute("name").unwrap_or_default();
        if name.is_empty() || name.contains([',', '=']) {
            return Err(cannot_give(feature, "a feature without a name"));
        }
        model += &format!(",{name}={state}");
    }
    Ok(model)
}

fn timers(root: &Element) -> impl Iterator<Item = &Element> {
    root.child("clock").into_iter().flat_map(Element::elements)
}

fn clock(line: &mut Line, root: &Element, is_kvm: bool) -> Result<(), LaunchError> {
    let mut rtc = "base=utc".to_owned();
    if let Some(clock) = root.child("clock") {
        only(clock, &["offset"], &["timer"])?;
        if one_of(clock, "offset", &["utc", "localtime"])? == Some("localtime") {
            rtc = "base=localtime".to_owned();
        }
    }
    for timer in timers(root) {
        match timer.attribute("name") {
            Some("rtc") => {
                only(timer, &["name", "tickpolicy"], &[])?;
                let slews = one_of(timer, "tickpolicy", &["catchup", "delay"])? == Some("catchup");
                rtc += if slews { ",driftfix=slew" } else { "" };
            }
            Some("pit") => {
                only(timer, &["name", "tickpolicy"], &[])?;
                // Only KVM's can do otherwise, and then has to be told not to.
                one_of(timer, "tickpolicy", &["delay"])?;
                if is_kvm {
                    line.option("-global", "kvm-pit.lost_tick_policy=delay");
                }
            }
            Some("hpet") => {
                only(timer, &["name", "present"], &[])?;
                one_of(timer, "present", &["no", "yes"])?;
            }
            _ => return Err(cannot_give(timer, format!("the timer `{:?}`", timer.attribute("name")))),
        }
    }
    line.option("-rtc", rtc);
    Ok(())
}

/// What becomes of a machine that the guest ends, and how it may sleep.
fn ends(line: &mut Line, root: &Element) -> Result<(), LaunchError> {
    let text = |name: &str| root.child(name).map(|element| (element, element.text().trim().to_owned()));
    if let Some((element, action)) = text("on_poweroff").filter(|(_, action)| action != "destroy") {
        return Err(cannot_give(element, format!("`<on_poweroff>` of `{action}`")));
    }
    match text("on_reboot") {
        Some((_, action)) if action == "destroy" => line.word("-no-reboot"),
        Some((element, action)) if action != "restart" => {
            return Err(cannot_give(element, format!("`<on_reboot>` of `{action}`")));
        }
        _ => {}
    }
    let Some(pm) = root.child("pm") else { return Ok(()) };
    only(pm, &[], &["suspend-to-mem", "suspend-to-disk"])?;
    let chip = if is_q35(root) { "ICH9-LPC" } else { "PIIX4_PM" };
    for (name, property) in [("suspend-to-mem", "disable_s3"), ("suspend-to-disk", "disable_s4")] {
        let Some(sleep) = pm.child(name) else { continue };
        only(sleep, &["enabled"], &[])?;
        let disabled = u8::from(one_of(sleep, "enabled", &["yes", "no"])? == Some("no"));
        line.option("-global", format!("{chip}.{property}={disabled}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
