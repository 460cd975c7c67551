//! The images behind each disk of a machine that is off: from its document, or from the images' headers.
//!
//! A document that says `<backingStore>` says all of it, down to the empty one at the end. Where it says nothing, each header
//! is read with the format that the one above it states: what is in the data is never asked for its format.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;

use super::LaunchError;
use crate::{
    domain_snapshot::SourceType,
    domain_xml::DomainXml,
    env::Env,
    qemu_img::{Backing, QemuImg},
    xml::Element,
};

/// No chain is longer.
const DEEPEST: usize = 200;

/// The images behind disks, by target, from the one right behind the disk's own on down.
pub type Chains = BTreeMap<String, Vec<Backing>>;

/// What a document says of what is behind a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stated {
    /// The images that it names.
    pub chain: Vec<Backing>,
    /// That there are no others.
    pub whole: bool,
}

/// Finds the chains of all disks that are qcow2.
///
/// # Errors
/// [`LaunchError::Images`], [`LaunchError::FormatNotStated`], [`LaunchError::Endless`], [`LaunchError::CannotGive`].
pub async fn read<E: Env>(tool: &QemuImg<E>, domain: &DomainXml) -> Result<Chains, LaunchError> {
    let mut chains = Chains::new();
    for disk in domain.disks() {
        let Some(path) = disk.path().filter(|_| disk.format() == "qcow2") else { continue };
        let Stated { mut chain, whole } = stated(disk.element())?;
        if !whole {
            let top = Backing { file: path.to_owned(), format: disk.format().to_owned() };
            let last = chain.last().cloned().unwrap_or(top);
            chain.extend(behind(tool, disk.target, last).await?);
        }
        chains.insert(disk.target.to_owned(), chain);
    }
    Ok(chains)
}

/// The chain that the document states. libvirt ends each by an empty element.
///
/// # Errors
/// [`LaunchError::CannotGive`] if what is behind the disk is no file.
pub fn stated(disk: &Element) -> Result<Stated, LaunchError> {
    let mut chain = Vec::new();
    let mut above = disk;
    while let Some(store) = above.child("backingStore") {
        if store.elements().next().is_none() {
            return Ok(Stated { chain, whole: true });
        }
        let source = store.child("source");
        let kind = SourceType::of(store.attribute("type").unwrap_or("file"));
        let path = match kind {
            Some(kind @ (SourceType::File | SourceType::Block)) => kind.path(source),
            _ => None,
        };
        let format = store.child("format").and_then(|format| format.attribute("type"));
        let (Some(path), Some(format)) = (path, format) else {
            let what = "a `<backingStore>` that is no file with a `<format>`".to_owned();
            return Err(LaunchError::CannotGive { at: store.at, what });
        };
        chain.push(Backing { file: path.to_owned(), format: format.to_owned() });
        above = store;
    }
    Ok(Stated { chain, whole: false })
}

/// What the headers of an image and of those behind it name.
///
/// # Errors
/// As [`read`].
pub async fn behind<E: Env>(
    tool: &QemuImg<E>,
    target: &str,
    top: Backing,
) -> Result<Vec<Backing>, LaunchError> {
    let first = top.file.clone();
    let (mut chain, mut above) = (Vec::new(), top);
    while above.format != "raw" {
        if chain.len() == DEEPEST {
            return Err(LaunchError::Endless(first));
        }
        let info = tool.info(&above.file, &above.format).await;
        let info = info.map_err(|source| LaunchError::Images { target: target.to_owned(), source })?;
        let Some(behind) = info.full_backing_filename else { break };
        let Some(format) = info.backing_filename_format else {
            return Err(LaunchError::FormatNotStated { file: above.file, behind });
        };
        let file = Utf8PathBuf::from(behind);
        if !file.is_absolute() {
            return Err(LaunchError::Relative(file));
        }
        above = Backing { file, format };
        chain.push(above.clone());
    }
    Ok(chain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::{self, Limits};

    fn chain(inside: &str) -> Result<(Vec<String>, bool), LaunchError> {
        let disk = xml::read(format!("<disk>{inside}</disk>").as_bytes(), Limits::default()).unwrap();
        let Stated { chain, whole } = stated(&disk)?;
        Ok((chain.into_iter().map(|one| format!("{} {}", one.file, one.format)).collect(), whole))
    }

    #[test]
    fn a_stated_chain_is_taken_as_it_stands() {
        let end = "<backingStore/>";
        let two = "<backingStore type='file'><format type='qcow2'/><source file='/b'/><backingStore type='block'>\
                   <format type='raw'/><source dev='/dev/c'/><backingStore/></backingStore></backingStore>";
        let names = vec!["/b qcow2".to_owned(), "/dev/c raw".to_owned()];
        assert_eq!(chain(two).unwrap(), (names.clone(), true));
        assert_eq!(chain(&two.replace(end, "")).unwrap(), (names, false));
        assert_eq!(chain(end).unwrap(), (Vec::new(), true));
        assert_eq!(chain("").unwrap(), (Vec::new(), false));
    }

    #[test]
    fn what_is_behind_a_disk_has_to_be_a_file_of_a_stated_format() {
        for odd in [
            "<backingStore type='file'><source file='/b'/></backingStore>",
            "<backingStore type='network'><format type='raw'/><source name='b'/></backingStore>",
        ] {
            assert!(matches!(chain(odd), Err(LaunchError::CannotGive { .. })), "{odd}");
        }
    }
}
