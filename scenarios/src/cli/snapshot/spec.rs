//! `--diskspec` and `--memspec`: one disk, and the memory, of a snapshot in one argument each, as virsh has them; and
//! `--provider`: who takes a disk below QEMU.
//!
//! ```text
//! vda,snapshot=external,driver=qcow2,stype=file,file=/images/vda.s1
//! file=/images/vm.mem,snapshot=external
//! ```
//!
//! A comma that belongs to a value is written twice.

use std::{collections::BTreeMap, str::FromStr};

use freezeframe_driver::{disk::ELEMENT, xml::Element};

use crate::cli::CliError;

/// One `<disk>`.
#[derive(Debug, Clone)]
pub(super) struct DiskSpec(pub(super) Element);

/// The `<memory>`.
#[derive(Debug, Clone)]
pub(super) struct MemSpec(pub(super) Element);

/// Who takes a disk below QEMU.
#[derive(Debug, Clone)]
pub(super) struct ProviderSpec {
    /// The disk.
    pub(super) target: String,
    /// Its `<diskSnapshot>`.
    pub(super) said: Element,
}

/// What is said of each disk.
pub(super) fn stated(providers: &[ProviderSpec]) -> Result<BTreeMap<String, Element>, CliError> {
    let mut stated = BTreeMap::new();
    for ProviderSpec { target, said } in providers {
        if stated.insert(target.clone(), said.clone()).is_some() {
            return Err(CliError::Usage(format!("--provider says twice who takes {target}")));
        }
    }
    Ok(stated)
}

/// What is wrong with an argument.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadSpec {
    /// It does not begin with a disk.
    #[error("it must begin with a disk: `vda,snapshot=external`")]
    NoDisk,
    /// A part of it is not known.
    #[error("`{part}` is not understood; there are {known}")]
    Unknown {
        /// The part.
        part: String,
        /// What is.
        known: &'static str,
    },
    /// A part of it stands there twice.
    #[error("`{0}` is said twice")]
    Twice(&'static str),
    /// Neither file nor block device.
    #[error("an overlay is in a `file` or on a `block` device, not on a `{0}`")]
    Type(String),
}

const OF_A_DISK: &str = "snapshot=, driver=, stype= and file=";
const OF_A_PROVIDER: &str = "method=, volume=, group=, settings=, program= and room=";
const OF_MEMORY: &str = "file= and snapshot=";

impl FromStr for DiskSpec {
    type Err = BadSpec;

    fn from_str(text: &str) -> Result<Self, BadSpec> {
        let parts = split(text);
        let (name, options) =
            parts.split_first().filter(|(name, _)| !name.is_empty()).ok_or(BadSpec::NoDisk)?;
        let known = ["snapshot", "driver", "stype", "file"];
        let [snapshot, driver, stype, file] = values(options, known, OF_A_DISK)?;
        let attribute = match stype.as_deref() {
            None | Some("file") => "file",
            Some("block") => "dev",
            Some(other) => return Err(BadSpec::Type(other.into())),
        };
        let mut disk = Element::new("disk").with("name", name);
        for (attribute, value) in [("snapshot", snapshot), ("type", stype)] {
            if let Some(value) = value {
                disk.set(attribute, &value);
            }
        }
        if let Some(format) = driver {
            disk.push(Element::new("driver").with("type", &format));
        }
        if let Some(path) = file {
            disk.push(Element::new("source").with(attribute, &path));
        }
        Ok(Self(disk))
    }
}

impl FromStr for ProviderSpec {
    type Err = BadSpec;

    fn from_str(text: &str) -> Result<Self, BadSpec> {
        let parts = split(text);
        let (target, options) =
            parts.split_first().filter(|(name, _)| !name.is_empty()).ok_or(BadSpec::NoDisk)?;
        let known = ["method", "volume", "group", "settings", "program", "room"];
        let mut said = Element::new(ELEMENT);
        for (name, value) in known.iter().zip(values(options, known, OF_A_PROVIDER)?) {
            if let Some(value) = value {
                said.set(name, &value);
            }
        }
        Ok(Self { target: target.clone(), said })
    }
}

impl FromStr for MemSpec {
    type Err = BadSpec;

    fn from_str(text: &str) -> Result<Self, BadSpec> {
        let mut parts = split(text);
        // `file=` may be left out of the first, and as by virsh of any path from the root.
        for (place, part) in parts.iter_mut().enumerate() {
            if part.starts_with('/') || place == 0 && !part.contains('=') {
                *part = format!("file={part}");
            }
        }
        let [file, snapshot] = values(&parts, ["file", "snapshot"], OF_MEMORY)?;
        let mut memory = Element::new("memory");
        for (attribute, value) in [("snapshot", snapshot), ("file", file)] {
            if let Some(value) = value {
                memory.set(attribute, &value);
            }
        }
        Ok(Self(memory))
    }
}

/// The values of `name=value`, in the order of `names`.
fn values<const N: usize>(
    parts: &[String],
    names: [&'static str; N],
    known: &'static str,
) -> Result<[Option<String>; N], BadSpec> {
    let mut values = [const { None }; N];
    for part in parts {
        let unknown = || BadSpec::Unknown { part: part.clone(), known };
        let (name, value) =
            part.split_once('=').filter(|(_, value)| !value.is_empty()).ok_or_else(unknown)?;
        let place = names.iter().position(|known| *known == name).ok_or_else(unknown)?;
        if values[place].replace(value.to_owned()).is_some() {
            return Err(BadSpec::Twice(names[place]));
        }
    }
    Ok(values)
}

/// Splits at commas; two commas are one that belongs to the text.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            ',' if characters.next_if_eq(&',').is_none() => parts.push(String::new()),
            character => parts.last_mut().expect("there is a first").push(character),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(text: &str) -> String {
        text.parse::<DiskSpec>().map_or_else(|error| error.to_string(), |spec| spec.0.document())
    }

    fn memory(text: &str) -> String {
        text.parse::<MemSpec>().map_or_else(|error| error.to_string(), |spec| spec.0.document())
    }

    #[test]
    fn a_disk_is_said_in_one_argument() {
        assert_eq!(disk("vda"), "<disk name='vda'/>\n");
        assert_eq!(disk("vda,snapshot=no"), "<disk name='vda' snapshot='no'/>\n");
        assert_eq!(
            disk("vda,file=/a,,b=c,driver=qcow2"),
            "<disk name='vda'>\n  <driver type='qcow2'/>\n  <source file='/a,b=c'/>\n</disk>\n"
        );
        assert_eq!(
            disk("vda,stype=block,file=/dev/b"),
            "<disk name='vda' type='block'>\n  <source dev='/dev/b'/>\n</disk>\n"
        );
    }

    #[test]
    fn memory_is_said_in_one_argument() {
        assert_eq!(memory("/m"), "<memory file='/m'/>\n");
        assert_eq!(memory("m"), "<memory file='m'/>\n");
        assert_eq!(memory("/m=1"), "<memory file='/m=1'/>\n");
        assert_eq!(memory("snapshot=external,/m"), "<memory snapshot='external' file='/m'/>\n");
        assert_eq!(memory("snapshot=no"), "<memory snapshot='no'/>\n");
        assert_eq!(memory("file=/m,,1,snapshot=external"), "<memory snapshot='external' file='/m,1'/>\n");
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        assert_eq!(disk(""), BadSpec::NoDisk.to_string());
        assert_eq!(disk(",snapshot=no"), BadSpec::NoDisk.to_string());
        assert_eq!(disk("vda,size=1"), format!("`size=1` is not understood; there are {OF_A_DISK}"));
        assert_eq!(disk("vda,file="), format!("`file=` is not understood; there are {OF_A_DISK}"));
        assert_eq!(disk("vda,file=/a,file=/b"), BadSpec::Twice("file").to_string());
        assert_eq!(disk("vda,stype=network"), BadSpec::Type("network".into()).to_string());
        assert_eq!(memory("snapshot=no,m"), format!("`m` is not understood; there are {OF_MEMORY}"));
        assert_eq!(memory("m=1"), format!("`m=1` is not understood; there are {OF_MEMORY}"));
        assert_eq!(memory("/m,file=/n"), BadSpec::Twice("file").to_string());
    }
}
