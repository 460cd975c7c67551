//! How `qemu-img` opens an image: its format, the locks that others hold on it, and the images behind it.

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;

use super::{Refusal, Run};
use crate::{
    host::{Backing, Host, Image},
    machine::Format,
    qemu::block::{OTHER_FORMATS, permissions::Permissions},
};

/// So long a chain is none that the real one would come to the end of either.
const DEEPEST: usize = 100;

/// How an image is to be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// To be changed.
    Write,
    /// The same, of a raw image: what is in it is not looked at.
    WriteUnread,
    /// To be read while nobody writes.
    Read,
    /// To be read whoever writes: `-U`, and what is only asked for its size.
    Shared,
}

impl Access {
    fn writes(self) -> bool {
        matches!(self, Access::Write | Access::WriteUnread)
    }
}

/// An image that is open.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    /// The name by which it was opened.
    pub(super) name: String,
    /// Its file, from the root.
    pub(super) path: Utf8PathBuf,
    /// Its format.
    pub(super) format: Format,
    /// It was taken for a raw one because it is no other.
    pub(super) guessed: bool,
}

/// A name, with what it states of the image.
struct Named<'a> {
    name: &'a str,
    file: String,
    format: Option<&'a str>,
    /// `"backing": null`: what the header names is not opened.
    alone: bool,
}

impl Run<'_> {
    /// Opens one image.
    ///
    /// # Errors
    /// QEMU's text, without the name that it was to be opened by.
    pub(super) fn open_one(
        &mut self,
        name: &str,
        format: Option<&str>,
        access: Access,
    ) -> Result<Layer, Refusal> {
        let named = named(name, format)?;
        self.open_named(&named, access).map_err(|text| could_not_open(name, text))
    }

    /// Opens an image and all behind it, topmost first.
    ///
    /// # Errors
    /// QEMU's text.
    pub(super) fn open_chain(
        &mut self,
        name: &str,
        format: Option<&str>,
        access: Access,
    ) -> Result<Vec<Layer>, Refusal> {
        let named = named(name, format)?;
        let opened = self
            .open_named(&named, access)
            .and_then(|top| if named.alone { Ok(vec![top]) } else { self.open_behind(top, access) });
        opened.map_err(|text| could_not_open(name, text))
    }

    /// Opens what is behind an image.
    fn open_behind(&mut self, top: Layer, access: Access) -> Result<Vec<Layer>, Text> {
        let access = if access.writes() { Access::Read } else { access };
        let mut chain = vec![top];
        while let Some((name, format)) = chain.last().and_then(|last| self.behind(last)) {
            if chain.len() == DEEPEST {
                return Err(Text::NotSimulated("a chain that has no end".into()));
            }
            let named = Named { name: &name, file: name.clone(), format: format.as_deref(), alone: false };
            let layer = self.open_named(&named, access);
            chain.push(layer.map_err(|text| {
                let depth = chain.len();
                (0..depth)
                    .fold(text, |text, _| text.map(|text| format!("Could not open backing file: {text}")))
            })?);
        }
        Ok(chain)
    }

    /// The name and the format of the image behind another, as its header has them.
    pub(super) fn behind(&self, layer: &Layer) -> Option<(String, Option<String>)> {
        let Backing { file, format } = self.image(layer)?.as_qcow2()?.backing.as_ref()?;
        (layer.format == Format::Qcow2).then(|| (combined(&layer.name, file), format.clone()))
    }

    /// What a layer holds.
    pub(super) fn image(&self, layer: &Layer) -> Option<&Image> {
        self.around.host.image(&layer.path)
    }

    /// Says that an image that is to be written was taken for a raw one.
    pub(super) fn warn_of_guess(&mut self, name: &str) {
        self.stderr += &format!(
            "WARNING: Image format was not specified for '{name}' and probing guessed raw.\n         \
             Automatically detecting the format is dangerous for raw images, write operations on block 0 will \
             be restricted.\n         Specify the 'raw' format explicitly to remove the restrictions.\n"
        );
    }

    fn open_named(&mut self, named: &Named<'_>, access: Access) -> Result<Layer, Text> {
        let host = &self.around.host;
        let file = &named.file;
        let stated = match named.format {
            None => None,
            Some("qcow2") => Some(Format::Qcow2),
            Some("raw") => Some(Format::Raw),
            Some(other) if other == "file" || OTHER_FORMATS.contains(&other) => {
                return Err(Text::NotSimulated(format!("an image of format `{other}`")));
            }
            Some(unknown) => return Err(Text::Said(format!("Unknown driver '{unknown}'"))),
        };
        if file.split('/').next().is_some_and(|first| first.contains(':')) {
            return Err(Text::NotSimulated(format!("the image `{file}`")));
        }
        let path = host.resolve(file.as_str().into());
        let unread = access == Access::WriteUnread && stated == Some(Format::Raw);
        let image = match host.image(&path) {
            Some(image) => image,
            None if unread && host.document(&path).is_some() => {
                return Ok(Layer { name: named.name.to_owned(), path, format: Format::Raw, guessed: false });
            }
            None if host.is_folder(&path) && !access.writes() => {
                return Err(Text::NotSimulated("a folder in the place of an image".into()));
            }
            None if host.document(&path).is_some() => {
                return Err(Text::NotSimulated("a file that holds no image".into()));
            }
            None => {
                let why = if host.is_folder(&path) { "Is a directory" } else { "No such file or directory" };
                return Err(Text::Said(format!("Could not open '{file}': {why}")));
            }
        };
        let holds = match image {
            Image::Qcow2(_) => Format::Qcow2,
            Image::Raw { .. } => Format::Raw,
            Image::MachineState(_) if unread => Format::Raw,
            Image::MachineState(_) => return Err(Text::NotSimulated("a machine's state as an image".into())),
        };
        let format = stated.unwrap_or(holds);
        let guessed = stated.is_none() && holds == Format::Raw;
        if guessed && access.writes() {
            self.warn_of_guess(file);
        }
        if let Some(lock) = self.lock_on(file, &path, uses(format, access)) {
            return Err(Text::Said(lock));
        }
        match (format, holds) {
            (Format::Qcow2, Format::Raw) => Err(Text::Said("Image is not in qcow2 format".into())),
            (Format::Raw, Format::Qcow2) if !unread => {
                Err(Text::NotSimulated("a qcow2 image read as a raw one".into()))
            }
            _ => Ok(Layer { name: named.name.to_owned(), path, format, guessed }),
        }
    }
}

/// What an opening does with the file, and bears others to do with it.
pub(super) fn uses(format: Format, access: Access) -> (Permissions, Permissions) {
    let changes = Permissions::WRITE.and(Permissions::RESIZE);
    match (access, format) {
        (Access::Shared, _) => (Permissions::NONE, Permissions::ALL),
        (Access::Read, Format::Raw) => (Permissions::READ, Permissions::ALL),
        (Access::Read, Format::Qcow2) => (Permissions::READ, Permissions::ALL.without(changes)),
        (Access::Write | Access::WriteUnread, Format::Raw) => {
            (Permissions::READ.and(changes), Permissions::ALL)
        }
        (Access::Write | Access::WriteUnread, Format::Qcow2) => {
            (Permissions::READ.and(changes), Permissions::ALL.without(changes))
        }
    }
}

/// Why an image could not be opened: QEMU's words, or ours.
enum Text {
    Said(String),
    NotSimulated(String),
}

impl Text {
    fn map(self, change: impl FnOnce(String) -> String) -> Self {
        match self {
            Text::Said(text) => Text::Said(change(text)),
            ours => ours,
        }
    }
}

fn could_not_open(name: &str, text: Text) -> Refusal {
    match text {
        Text::Said(text) => Refusal::new(format!("Could not open '{name}': {text}")),
        Text::NotSimulated(what) => Refusal::not_simulated(&what),
    }
}

/// What a name states: a plain one leads to a file and says nothing more.
fn named<'a>(name: &'a str, format: Option<&'a str>) -> Result<Named<'a>, Refusal> {
    let Some(description) = name.strip_prefix("json:") else {
        return Ok(Named { name, file: name.to_owned(), format, alone: false });
    };
    let not_simulated = || Refusal::not_simulated(&format!("the image `{name}`"));
    let description: Value = serde_json::from_str(description).map_err(|_| not_simulated())?;
    let known = ["driver", "file", "backing"];
    let of_file = ["driver", "filename"];
    let has_only = |value: &Value, known: &[&str]| {
        value.as_object().is_some_and(|members| members.keys().all(|key| known.contains(&key.as_str())))
    };
    let file = &description["file"];
    let is_known = has_only(&description, &known)
        && has_only(file, &of_file)
        && file["filename"].as_str().is_some_and(|name| file["driver"] == protocol(name))
        && description.get("backing").is_none_or(Value::is_null);
    let format =
        [Format::Qcow2, Format::Raw].into_iter().find(|format| description["driver"] == format.driver());
    match (file["filename"].as_str(), format) {
        (Some(filename), Some(format)) if is_known => Ok(Named {
            name,
            file: filename.to_owned(),
            format: Some(format.driver()),
            alone: description.get("backing").is_some(),
        }),
        _ => Err(not_simulated()),
    }
}

/// What QEMU calls the way to what lies there.
pub(super) fn protocol(name: &str) -> &'static str {
    if Host::is_device(Utf8Path::new(name)) { "host_device" } else { "file" }
}

/// A name from a header: a relative one starts in the folder of the image.
pub(super) fn combined(image: &str, name: &str) -> String {
    match image.rsplit_once('/') {
        Some((folder, _)) if !name.starts_with('/') => format!("{folder}/{name}"),
        _ => name.to_owned(),
    }
}
