//! What `info snapshots` and `info block` print. Times of day are UTC.

use std::{fmt::Write, time::Duration};

use crate::{
    Release,
    host::{Host, InternalSnapshot},
    qemu::{
        Context, Qemu,
        block::{Graph, Node, filename::filename, query::Query},
        vm_snapshot::{is_qcow2, snapshots_of},
    },
    qobject::{QDict, QObject},
    wire::qdict,
};

/// A moment of the calendar.
pub(super) struct Civil {
    year: u64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
}

/// The calendar's name for a time since the Unix epoch. Days are counted from 1 March, so that a leap day is the
/// last of its year; 400 years have 146,097 days.
pub(super) fn civil(since_epoch: Duration) -> Civil {
    let seconds = since_epoch.as_secs();
    let days = seconds / 86400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    Civil {
        year: era * 400 + year_of_era + u64::from(month <= 2),
        month,
        day: day_of_year - (153 * from_march + 2) / 5 + 1,
        hour: seconds / 3600 % 24,
        minute: seconds / 60 % 60,
        second: seconds % 60,
    }
}

impl Civil {
    /// The name that `savevm` gives a snapshot that was given none.
    pub(super) fn tag(&self) -> String {
        let Civil { year, month, day, hour, minute, second } = self;
        format!("vm-{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}")
    }

    fn date(&self) -> String {
        let Civil { year, month, day, hour, minute, second } = self;
        format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
    }
}

/// `info snapshots`: those that all disks have, then those that only some have, disk by disk. A disk that takes no
/// snapshots has none, and so makes all of the others' partial.
pub(super) fn snapshots(qemu: &mut Qemu, cx: &mut Context<'_>) -> String {
    let release = cx.release();
    let nodes = super::machine(qemu).writable_roots(release);
    let host: &Host = cx.host();
    let of = |node: &str| snapshots_of(&qemu.graph, node, host);
    let takes_snapshots = |node: &&String| is_qcow2(&qemu.graph, node);
    let Some(vmstate) = nodes.iter().find(takes_snapshots) else {
        return format!("{}\r\n", release.no_disk_to_list());
    };
    let everywhere =
        |name: &str| nodes.iter().all(|node| of(node).iter().any(|snapshot| snapshot.name == name));
    if nodes.iter().all(|node| of(node).is_empty()) {
        return "There is no snapshot available.\r\n".into();
    }
    let mut text = "List of snapshots present on all disks:\r\n".to_owned();
    let common: Vec<_> = of(vmstate).iter().filter(|snapshot| everywhere(&snapshot.name)).collect();
    if common.is_empty() {
        text += "None\r\n";
    } else {
        text += &header(release);
        text.extend(common.iter().map(|snapshot| row(release, "--", snapshot)));
    }
    for node in &nodes {
        let partial: Vec<_> = of(node).iter().filter(|snapshot| !everywhere(&snapshot.name)).collect();
        if !partial.is_empty() {
            let device = qemu.graph.device_on(node).map_or("", |device| &device.drive);
            let _ = write!(text, "\r\nList of partial (non-loadable) snapshots on '{device}':\r\n");
            text += &header(release);
            text.extend(partial.iter().map(|snapshot| row(release, &snapshot.id, snapshot)));
        }
    }
    text
}

/// `info block`: all devices; the drive or node that is named; with `-n` all nodes.
pub(super) fn block(qemu: &Qemu, words: &[String], cx: &mut Context<'_>) -> String {
    let (flags, names): (Vec<_>, Vec<_>) = words.iter().partition(|word| word.starts_with('-'));
    let [nodes, details] = ["-n", "-v"].map(|flag| flags.iter().any(|known| *known == flag));
    let mut text = String::new();
    let named = names.first();
    if !nodes {
        let blocks = devices(qemu, named.map(|name| name.as_str()), details, cx);
        if named.is_none() || !blocks.is_empty() {
            return blocks.join("\r\n");
        }
    }
    for (place, node) in qemu.graph.newest_first().enumerate() {
        if named.is_none_or(|name| *name == &node.name) {
            let apart = if place > 0 { "\r\n" } else { "" };
            let cache = cache_mode(true, node);
            let (title, rest) = (title("", node, &qemu.graph, cx.host()), below(qemu, node, cx.host()));
            let details = if details { images(qemu, node, cx) } else { String::new() };
            let _ = write!(text, "{apart}{title}    Cache mode:       {cache}\r\n{rest}{details}");
        }
    }
    text
}

/// What is told of each device, or of the drive of that name.
fn devices(qemu: &Qemu, drive: Option<&str>, details: bool, cx: &mut Context<'_>) -> Vec<String> {
    let started = qemu.disks_are_started(cx.now());
    let mut blocks = Vec::new();
    for device in qemu.graph.devices().iter().filter(|device| drive.is_none_or(|drive| device.drive == drive))
    {
        let removable = device.model.tray_open().map(|open| {
            let tray = if open { "open" } else { "closed" };
            format!("    Removable device: not locked, tray {tray}\r\n")
        });
        let removable = removable.unwrap_or_default();
        let Some(node) = qemu.graph.shown(&device.node) else {
            let id = &device.id;
            blocks.push(format!("{id}: [not inserted]\r\n    Attached to:      {id}\r\n{removable}"));
            continue;
        };
        let mut text = title(&device.drive, node, &qemu.graph, cx.host());
        let cache = cache_mode(device.write_cache(started), node);
        let _ = write!(text, "    Attached to:      {}\r\n{removable}", device.qdev());
        let _ = write!(text, "    Cache mode:       {cache}\r\n{}", below(qemu, node, cx.host()));
        text += &qemu.graph.throttling_line(&device.qdev());
        if details {
            text += &images(qemu, node, cx);
        }
        blocks.push(text);
    }
    blocks
}

/// The first line: a node, its drive if it has one, its file and driver.
fn title(drive: &str, node: &Node, graph: &Graph, host: &Host) -> String {
    let read_only = if node.read_only { ", read-only" } else { "" };
    let (name, file, driver) = (&node.name, filename(graph, node, host), node.driver.name());
    let title = if drive.is_empty() { name.clone() } else { format!("{drive} ({name})") };
    format!("{title}: {file} ({driver}{read_only})\r\n")
}

fn cache_mode(write_cache: bool, node: &Node) -> String {
    let mode = if write_cache { "writeback" } else { "writethrough" };
    let direct = if node.caching.direct { ", direct" } else { "" };
    let no_flush = if node.caching.no_flush { ", ignore flushes" } else { "" };
    format!("{mode}{direct}{no_flush}")
}

/// What a node is backed by.
fn below(qemu: &Qemu, node: &Node, host: &Host) -> String {
    let Some(backing) = node.driver.backing().and_then(|backing| qemu.graph.node(backing)) else {
        return String::new();
    };
    let file = filename(&qemu.graph, backing, host);
    let depth = qemu.graph.chain(&node.name).count() - 1;
    format!("    Backing file:     {file} (chain depth: {depth})\r\n")
}

/// What is told of an image and those that it is backed by, where details are asked for.
fn images(qemu: &Qemu, node: &Node, cx: &mut Context<'_>) -> String {
    let (release, now) = (cx.release(), cx.now());
    let blocks = Query { graph: &qemu.graph, jobs: &qemu.jobs, now, host: cx.host(), release, flat: true };
    let mut text = "\r\nImages:\r\n".to_owned();
    for node in std::iter::successors(Some(node), |node| blocks.below(node, true)) {
        image_details(&blocks.image(node, true), blocks.snapshots(node), release, &mut text);
    }
    text
}

fn image_details(image: &QDict, snapshots: &[InternalSnapshot], release: Release, text: &mut String) {
    let number = |name: &str| match image.get(name) {
        Some(QObject::Number(number)) => Some(*number),
        _ => None,
    };
    let size = number("virtual-size").unwrap_or(0);
    let on_disk = number("actual-size").map_or("unavailable".to_owned(), human_size);
    let (file, format) = (image.text("filename").unwrap_or(""), image.text("format").unwrap_or(""));
    let _ = write!(text, "image: {file}\r\nfile format: {format}\r\n");
    let _ = write!(text, "virtual size: {} ({size} bytes)\r\ndisk size: {on_disk}\r\n", human_size(size));
    if let Some(cluster) = number("cluster-size") {
        let _ = write!(text, "cluster_size: {cluster}\r\n");
    }
    if let Some(backing) = image.text("backing-filename") {
        let full = image.text("full-backing-filename").filter(|full| *full != backing);
        let full = full.map_or(String::new(), |full| format!(" (actual path: {full})"));
        let _ = write!(text, "backing file: {backing}{full}\r\n");
    }
    if let Some(format) = image.text("backing-filename-format") {
        let _ = write!(text, "backing file format: {format}\r\n");
    }
    if let Some(QObject::Dict(limits)) = image.get("limits") {
        *text += "Block limits:\r\n";
        describe(limits, text);
    }
    if !snapshots.is_empty() {
        *text += "Snapshot list:\r\n";
        *text += &header(release);
        text.extend(snapshots.iter().map(|snapshot| row(release, &snapshot.id, snapshot)));
    }
    if let Some(QObject::Dict(specific)) = image.get("format-specific")
        && let Some(QObject::Dict(data)) = specific.get("data")
        && !data.members().is_empty()
    {
        *text += "Format specific information:\r\n";
        describe(data, text);
    }
}

/// The members of a dictionary, a line each, with blanks for dashes: in the order of QEMU's table.
fn describe(dict: &QDict, text: &mut String) {
    for (name, value) in qdict::members_in_order(dict) {
        let value = match value {
            QObject::Bool(value) => value.to_string(),
            QObject::Number(value) => value.to_string(),
            QObject::Text(value) => value.to_string(),
            _ => continue,
        };
        let _ = write!(text, "    {}: {value}\r\n", name.replace('-', " "));
    }
}

fn header(release: Release) -> String {
    if release >= Release::V10_0 {
        columns(release, ["ID", "TAG", "VM_SIZE", "DATE", "VM_CLOCK", "ICOUNT"])
    } else {
        format!(
            "{:<10}{:<17}{:>8}{:>20}{:>13}{:>11}\r\n",
            "ID", "TAG", "VM SIZE", "DATE", "VM CLOCK", "ICOUNT"
        )
    }
}

fn row(release: Release, id: &str, snapshot: &InternalSnapshot) -> String {
    let (seconds, ms) = (snapshot.vm_clock.as_secs(), snapshot.vm_clock.subsec_millis());
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let (clock, uncounted) = if release >= Release::V10_0 {
        (format!("{hours:04}:{minutes:02}:{seconds:02}.{ms:03}"), "--")
    } else {
        (format!("{hours:02}:{minutes:02}:{seconds:02}.{ms:03}"), "")
    };
    let icount = snapshot.icount.map_or(uncounted.to_owned(), |icount| icount.to_string());
    let (size, date) = (human_size(snapshot.vm_state_size), civil(snapshot.date).date());
    columns(release, [id, &snapshot.name, &size, &date, &clock, &icount])
}

/// The widths of the columns: they differ where a tag is longer than its own. A tag's bytes are counted, not its letters.
fn columns(release: Release, [id, tag, size, date, clock, icount]: [&str; 6]) -> String {
    let width: usize = if release == Release::V5_2 { 17 } else { 16 };
    let tag = format!("{tag}{:1$}", "", width.saturating_sub(tag.len()));
    match release {
        Release::V5_2 => format!("{id:<10}{tag}{size:>8}{date:>20}{clock:>13}{icount:>11}\r\n"),
        Release::V7_2 => format!("{id:<9} {tag} {size:>8}{date:>20}{clock:>13}{icount:>11}\r\n"),
        Release::V10_0 | Release::V11_1 => {
            format!("{id:<7} {tag} {size:>8} {date:>19} {clock:>15} {icount:>10}\r\n")
        }
    }
}

/// A size to three digits in the unit that suits it.
fn human_size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut divisor = 1u64;
    while unit + 1 < UNITS.len() && bytes >= divisor * 1000 {
        unit += 1;
        divisor *= 1024;
    }
    let hundredths = (bytes * 100 + divisor / 2) / divisor;
    let digits = match hundredths {
        10_000.. => ((bytes + divisor / 2) / divisor).to_string(),
        1_000.. => trim(format!("{}.{}", (hundredths + 5) / 100, (hundredths + 5) / 10 % 10)),
        _ => trim(format!("{}.{:02}", hundredths / 100, hundredths % 100)),
    };
    format!("{digits} {}", UNITS[unit])
}

fn trim(digits: String) -> String {
    digits.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_counts_leap_days() {
        assert_eq!(civil(Duration::from_secs(1_709_164_800)).date(), "2024-02-29 00:00:00");
        assert_eq!(civil(Duration::from_secs(1_795_212_680)).date(), "2026-11-20 22:11:20");
        assert_eq!(civil(Host::EPOCH).tag(), "vm-20260101000000");
    }

    #[test]
    fn a_size_has_three_digits_at_most() {
        let shown: Vec<_> = [0, 999, 900_350, 868_137, 1_258_291, 16 << 20].map(human_size).into();
        assert_eq!(shown, ["0 B", "999 B", "879 KiB", "848 KiB", "1.2 MiB", "16 MiB"]);
    }
}
