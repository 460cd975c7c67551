//! `lvs`, `lvcreate --snapshot`, `lvremove` and `lvconvert --merge`.
//!
//! By LVM's sources and by what it does in a guest whose kernel has device-mapper: that a snapshot is made, merged, or put off, and how
//! an overflown one is told.

use camino::Utf8PathBuf;

use super::{Refusal, Said, Storage, Surroundings};

/// How a logical volume has its room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// From a pool.
    Thin,
    /// Its own.
    Thick,
}

/// A logical volume: a snapshot if it has an origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Logical {
    kind: Kind,
    origin: Option<String>,
    /// In bytes.
    size: u64,
    overflown: bool,
}

impl Logical {
    pub(super) fn volume(kind: Kind) -> Self {
        Self { kind, origin: None, size: SIZE, overflown: false }
    }

    pub(super) fn overflow(&mut self) {
        self.overflown = true;
    }

    /// The ten letters of `lv_attr`.
    fn attributes(&self, open: bool) -> String {
        let (kind, target) = match (self.kind, &self.origin) {
            (Kind::Thin, _) => ('V', "tz"),
            (Kind::Thick, Some(_)) => ('s', "s-"),
            (Kind::Thick, None) => ('-', "--"),
        };
        let state = if self.overflown { 'I' } else { 'a' };
        format!("{kind}wi-{state}{}{target}--", if open { 'o' } else { '-' })
    }
}

pub(super) fn run(program: &str, words: &[&str], around: &mut Surroundings<'_>) -> Said {
    match (program, words) {
        ("lvs", ["--reportformat", "json", "-o", "lv_name,origin,lv_attr,lv_device_open", group]) => {
            list(group, around)
        }
        (
            "lvs",
            [
                "--reportformat",
                "json",
                "--units",
                "b",
                "--nosuffix",
                "-o",
                "lv_size,origin_size,vg_free,vg_extent_size",
                name,
            ],
        ) => sizes(name, around),
        ("lvcreate", ["--yes", "--snapshot", "--name", name, "--extents", room, origin])
            if percent(room).is_some() =>
        {
            create(name, percent(room), origin, around)
        }
        ("lvcreate", ["--yes", "--snapshot", "--name", name, "--setactivationskip", "n", origin]) => {
            create(name, None, origin, around)
        }
        ("lvremove", ["--yes", name]) => remove(name, around),
        ("lvconvert", ["--yes", "--merge", name]) => merge(name, around),
        _ => Err(Refusal::not_simulated(program, words)),
    }
}

/// LVM's exit code for a command that failed.
const FAILED: i32 = 5;

fn refused(words: impl AsRef<str>) -> Refusal {
    Refusal::new(FAILED, format!("  {}", words.as_ref()))
}

fn device(name: &str) -> Utf8PathBuf {
    format!("/dev/{name}").into()
}

/// The report as LVM sets it, its errors on the other output.
fn report(lines: &[String]) -> String {
    let inside: String = if lines.is_empty() { String::new() } else { format!("{}\n", lines.join(",\n")) };
    format!(
        "  {{\n      \"report\": [\n          {{\n              \"lv\": [\n{inside}              ]\n          }}\n      ]\n  }}\n"
    )
}

fn list(group: &str, around: &Surroundings<'_>) -> Said {
    let within = format!("{group}/");
    let known = |name: &str| name.strip_prefix(&within).map(str::to_owned);
    let line = |(name, logical): (&String, &Logical)| {
        let open = around.open.contains(&device(name));
        let origin = logical.origin.as_deref().unwrap_or_default();
        let (attributes, device_open) = (logical.attributes(open), if open { "open" } else { "" });
        let name = known(name)?;
        Some(format!(
            r#"                  {{"lv_name":"{name}", "origin":"{origin}", "lv_attr":"{attributes}", "lv_device_open":"{device_open}"}}"#
        ))
    };
    let lines: Vec<String> = around.storage.logical.iter().filter_map(line).collect();
    if lines.is_empty() {
        let words = format!("Volume group \"{group}\" not found\n  Cannot process volume group {group}");
        return Err(Refusal { stdout: report(&[]), ..refused(words) });
    }
    Ok(report(&lines))
}

/// What every volume has, in bytes.
const SIZE: u64 = 1 << 30;

/// What room is given out in, in bytes.
const EXTENT: u64 = 4 << 20;

/// What a thick snapshot may take of its origin.
fn percent(room: &str) -> Option<u64> {
    room.strip_suffix("%ORIGIN")?.parse().ok()
}

/// What a thick snapshot has that may take so many percent, in bytes: of all that it could ever hold, chunks of 4 KiB with 16 bytes each
/// in its table, and what the table begins with. Where its group has less left it has that.
fn room(percent: u64, free: u64) -> u64 {
    let whole = (SIZE + SIZE / 256 + 8192).div_ceil(EXTENT);
    ((whole * percent).div_ceil(100) * EXTENT).min(free / EXTENT * EXTENT)
}

/// What a group has left, in bytes.
fn free(storage: &Storage) -> u64 {
    if storage.full { 0 } else { storage.room.unwrap_or(1 << 40) }
}

/// How large a volume is, in bytes, and what its group has left.
fn sizes(name: &str, around: &Surroundings<'_>) -> Said {
    let Some(Logical { origin, size, .. }) = around.storage.logical.get(name) else {
        return Err(missing(name));
    };
    let of = origin.as_ref().map(|_| SIZE.to_string()).unwrap_or_default();
    let free = free(around.storage);
    Ok(report(&[format!(
        r#"                  {{"lv_size":"{size}", "origin_size":"{of}", "vg_free":"{free}", "vg_extent_size":"{EXTENT}"}}"#
    )]))
}

fn create(name: &str, percent: Option<u64>, origin: &str, around: &mut Surroundings<'_>) -> Said {
    let (group, volume) = origin.split_once('/').unwrap_or_default();
    let place = format!("{group}/{name}");
    if around.storage.logical.contains_key(&place) {
        return Err(refused(format!("Logical Volume \"{name}\" already exists in volume group \"{group}\"")));
    }
    let Some(&Logical { kind, .. }) = around.storage.logical.get(origin) else {
        return Err(refused(format!("Snapshot origin LV {volume} not found in Volume group {group}.")));
    };
    let thick = percent.is_some() || kind == Kind::Thick;
    if thick && percent.is_none() {
        return Err(refused("Please specify either size or extents with snapshots."));
    }
    let size = percent.map_or(SIZE, |percent| room(percent, free(around.storage)));
    if size == 0 || around.storage.full {
        return Err(refused(if thick {
            format!("Insufficient suitable allocatable extents found for logical volume {name}.")
        } else {
            format!("Cannot create new thin volume, free space in thin pool {group}/pool reached threshold.")
        }));
    }
    let contents = around.host.contents(&device(origin));
    around.host.put(&device(&place), &contents);
    let kind = if thick { Kind::Thick } else { Kind::Thin };
    let snapshot = Logical { kind, origin: Some(volume.to_owned()), size, overflown: false };
    if thick {
        around.storage.room = around.storage.room.map(|room| room - size);
    }
    around.storage.logical.insert(place, snapshot);
    Ok(format!("  Logical volume \"{name}\" created.\n"))
}

/// Lets a volume be gone. What a thick one had is its group's again.
fn forget(name: &str, storage: &mut Storage) {
    if let Some(Logical { kind: Kind::Thick, size, .. }) = storage.logical.remove(name) {
        storage.room = storage.room.map(|room| room + size);
    }
}

fn missing(name: &str) -> Refusal {
    refused(format!("Failed to find logical volume \"{name}\""))
}

fn remove(name: &str, around: &mut Surroundings<'_>) -> Said {
    if !around.storage.logical.contains_key(name) {
        return Err(missing(name));
    }
    if around.open.contains(&device(name)) {
        return Err(refused(format!("Logical volume {name} in use.")));
    }
    forget(name, around.storage);
    around.host.clear(&device(name));
    let volume = name.split_once('/').map_or(name, |(_, volume)| volume);
    Ok(format!("  Logical volume \"{volume}\" successfully removed.\n"))
}

fn merge(name: &str, around: &mut Surroundings<'_>) -> Said {
    let found = around.storage.logical.get(name).cloned().ok_or_else(|| missing(name))?;
    let group = name.split_once('/').map_or(name, |(group, _)| group);
    let Some(origin) = found.origin.map(|origin| format!("{group}/{origin}")) else {
        return Err(refused(format!("Logical volume {name} is not a snapshot.")));
    };
    if found.overflown {
        return Err(refused(format!("Unable to merge invalidated snapshot LV {name}.")));
    }
    let open = [(&*origin, "origin"), (name, "snapshot")]
        .into_iter()
        .find(|(name, _)| around.open.contains(&device(name)));
    if let Some((_, which)) = open {
        return Ok(format!(
            "  Delaying merge since {which} is open.\n  Merging of snapshot {name} will occur on next activation of {origin}.\n"
        ));
    }
    let contents = around.host.contents(&device(name));
    around.host.put(&device(&origin), &contents);
    around.host.clear(&device(name));
    forget(name, around.storage);
    if found.kind == Kind::Thin {
        forget_origin(&origin, around.storage);
    }
    Ok(format!("  Merging of volume {name} started.\n  {origin}: Merged: 100.00%\n"))
}

/// A thin snapshot that is merged takes its origin's place: the origin that the other snapshots were of is gone, and they stay, as volumes
/// of nothing.
fn forget_origin(origin: &str, storage: &mut Storage) {
    let Some((group, volume)) = origin.split_once('/') else { return };
    for (name, logical) in &mut storage.logical {
        let is_beside = name.split_once('/').is_some_and(|(its, _)| its == group);
        if is_beside && logical.origin.as_deref() == Some(volume) {
            logical.origin = None;
        }
    }
}
