//! Images that a command makes and opens by itself: the overlay of `blockdev-snapshot-sync`, the target of
//! `drive-mirror` and `drive-backup`.
//!
//! Their nodes belong to who uses them and not to the client. A file that was made stays, whatever fails later.
//! Source of the order of checks: recordings and probes of all four releases.

use camino::Utf8Path;
use serde_json::json;

use super::{
    Caching, DetectZeroes, Graph,
    create::make_file,
    filename::filename,
    open::{Inherited, open},
};
use crate::{
    host::{Backing, Image},
    qemu::{Context, QmpError, arguments::Arguments, not_simulated},
};

/// Names that QEMU makes up while it writes the header of an image.
const NAMES_USED_UP: u64 = 3;

/// Formats of QEMU's that are not simulated.
pub(crate) const OTHER_FORMATS: [&str; 12] =
    ["bochs", "cloop", "dmg", "luks", "parallels", "qcow", "qed", "vdi", "vhdx", "vmdk", "vpc", "vvfat"];

/// An image as a command names it.
#[derive(Debug, Clone, Copy)]
pub(super) struct NamedImage<'a> {
    /// The name of its file.
    pub(super) file: &'a str,
    /// The name of its format.
    pub(super) format: &'a str,
    /// What its node is to be called; QEMU makes up a name otherwise.
    pub(super) node_name: Option<&'a str>,
}

impl NamedImage<'_> {
    /// Makes the file, for a disk of so many bytes. Its header names the image of the node `backing`.
    ///
    /// # Errors
    /// QEMU's text.
    pub(super) fn make(
        self,
        graph: &mut Graph,
        size: u64,
        backing: Option<&str>,
        cx: &mut Context<'_>,
    ) -> Result<(), QmpError> {
        self.check_simulated()?;
        let backing = backing.and_then(|name| graph.node(name));
        let image = match (self.format, backing) {
            ("qcow2", Some(below)) if filename(graph, below, cx.host()) == self.file => {
                let text = "Error: Trying to create an image with the same filename as the backing file";
                return Err(QmpError::generic(text));
            }
            ("qcow2", below) => {
                let backing = below.map(|below| Backing {
                    file: filename(graph, below, cx.host()),
                    format: Some(below.driver.name().into()),
                });
                Image::overlay(size, backing)
            }
            ("raw", None) => Image::raw(size),
            ("raw", Some(_)) => {
                return Err(QmpError::generic("Backing file not supported for file format 'raw'"));
            }
            (unknown, _) => return Err(QmpError::generic(format!("Unknown file format '{unknown}'"))),
        };
        make_file(graph, self.file, image, cx).map_err(QmpError::generic)?;
        graph.skip_names(NAMES_USED_UP);
        Ok(())
    }

    /// Opens it for writing; returns the node's name. A backing file that its header names is opened too, if that is
    /// asked for.
    ///
    /// # Errors
    /// QEMU's text.
    pub(super) fn open(
        self,
        graph: &mut Graph,
        caching: Caching,
        with_backing: bool,
        cx: &mut Context<'_>,
    ) -> Result<String, QmpError> {
        self.check_simulated()?;
        if !matches!(self.format, "qcow2" | "raw") {
            return Err(QmpError::generic(format!("Unknown driver '{}'", self.format)));
        }
        let mut options = json!({
            "driver": self.format,
            "file": { "driver": "file", "filename": self.file },
        });
        if let Some(name) = self.node_name {
            options["node-name"] = name.into();
        }
        let Some(options) = options.as_object() else { return Ok(String::new()) };
        let inherited = Inherited { owned_by_monitor: false, read_only: false, caching, with_backing };
        open(graph, Arguments(options), inherited, cx)
    }

    fn check_simulated(self) -> Result<(), QmpError> {
        match self.format {
            "file" => Err(not_simulated("an image that is no more than its file")),
            other if OTHER_FORMATS.contains(&other) => {
                Err(not_simulated(&format!("an image of format `{other}`")))
            }
            _ => Ok(()),
        }
    }
}

/// The target of a `drive-mirror` or a `drive-backup`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a> {
    /// The node that is copied.
    pub(super) source: &'a str,
    /// What the node of the target is to be called.
    pub(super) node_name: Option<&'a str>,
    /// The node whose image a new target's header names.
    pub(super) backing: Option<&'a str>,
    /// What the header names is opened too.
    pub(super) with_backing: bool,
}

impl Target<'_> {
    /// Opens the target, after it was made if it is to be new; returns the node's name.
    ///
    /// # Errors
    /// QEMU's text.
    pub(super) fn open(
        self,
        graph: &mut Graph,
        arguments: Arguments<'_>,
        cx: &mut Context<'_>,
    ) -> Result<String, QmpError> {
        let source = graph.lookup(self.source, cx.release())?;
        let (own_format, caching) = (source.driver.name(), source.caching);
        let file = arguments.text("target");
        let is_new = is_new(arguments);
        let usual = || if is_new { own_format } else { probed_format(file, cx) };
        let format = arguments.optional_text("format").unwrap_or_else(usual);
        let image = NamedImage { file, format, node_name: self.node_name };
        if is_new {
            let size = graph.size(self.source, cx.host());
            image.make(graph, size, self.backing, cx)?;
        }
        image.open(graph, Caching { detect_zeroes: DetectZeroes::Off, ..caching }, self.with_backing, cx)
    }
}

/// Whether a command is to make the image that it names.
pub(super) fn is_new(arguments: Arguments<'_>) -> bool {
    arguments.optional_text("mode") != Some("existing")
}

/// The format of an image that nobody has named: that of its header, if it has one.
fn probed_format(file: &str, cx: &mut Context<'_>) -> &'static str {
    let image = cx.host().image(Utf8Path::new(file));
    if image.is_some_and(|image| image.as_qcow2().is_some()) { "qcow2" } else { "raw" }
}
