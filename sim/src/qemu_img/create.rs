//! `qemu-img create`: a new image, on another one if that is asked for.

use std::io;

use super::{
    Refusal, Run,
    open::{Access, combined},
    options::Options,
    size,
};
use crate::{
    host::{Backing, Image},
    qemu::block::{OTHER_FORMATS, permissions::Permissions},
};

pub(super) fn create(run: &mut Run<'_>, options: &Options<'_>) -> Result<(), Refusal> {
    let (name, stated) = match options.names[..] {
        [name] => (name, None),
        [name, stated] => (name, Some(stated)),
        _ => return Err(Refusal::not_simulated("a usage error")),
    };
    let stated = match stated.map(size::read) {
        Some(None) => return Err(Refusal::not_simulated("a size that is none")),
        size => size.flatten(),
    };
    let of_image = |text: String| Refusal::new(format!("{name}: {text}"));
    let format = options.value("-f").unwrap_or("raw");
    let base = options.value("-b").filter(|base| !base.is_empty());
    match format {
        "qcow2" => {}
        "raw" if base.is_some() => {
            return Err(of_image("Backing file not supported for file format 'raw'".into()));
        }
        "raw" => {}
        other if OTHER_FORMATS.contains(&other) || other == "file" => {
            return Err(Refusal::not_simulated(&format!("an image of format `{other}`")));
        }
        unknown => return Err(of_image(format!("Unknown file format '{unknown}'"))),
    }
    if base == Some(name) {
        let text = "Error: Trying to create an image with the same filename as the backing file";
        return Err(of_image(text.into()));
    }
    let (backing, inherited) = match base {
        None => (None, None),
        Some(base) if options.has("-u") => (Some(unopened(base, options)?), None),
        Some(base) => run.opened_backing(name, base, options.value("-F"))?,
    };
    let Some(bytes) = stated.or(inherited) else {
        return Err(of_image("Image creation needs a size parameter".into()));
    };
    if !options.has("-q") {
        run.stdout += &formatting(name, format, bytes, backing.as_ref(), options.value("-F"));
    }
    run.make(name, format, bytes, backing, options.value("-F"))
}

impl Run<'_> {
    /// The backing file of a new image, and its size.
    fn opened_backing(
        &mut self,
        name: &str,
        base: &str,
        format: Option<&str>,
    ) -> Result<(Option<Backing>, Option<u64>), Refusal> {
        let path = combined(name, base);
        let chain = self.open_chain(&path, format, Access::Shared).map_err(|refusal| {
            let text = refusal.text.trim_end();
            if text.starts_with("not simulated") {
                return refusal;
            }
            // It tells what is wrong with the image, and not once more which.
            let text = text.strip_prefix(&format!("Could not open '{path}': ")).unwrap_or(text);
            Refusal::new(format!("{name}: {text}\nCould not open backing image."))
        })?;
        let size = self.image(&chain[0]).map(Image::virtual_size);
        let probed = chain[0].format.driver();
        if format.is_none() {
            match self.around.release.refuses_backing_without_format(probed) {
                Some(hint) => {
                    let text = format!("{name}: Backing file specified without backing format\n{hint}");
                    return Err(Refusal { exit: 1, text });
                }
                None => {
                    self.stderr += &format!(
                        "qemu-img: warning: Deprecated use of backing file without explicit backing format \
                         (detected format of {probed})\n"
                    );
                }
            }
        }
        let backing = Backing { file: base.to_owned(), format: Some(format.unwrap_or(probed).to_owned()) };
        Ok((Some(backing), size))
    }

    fn make(
        &mut self,
        name: &str,
        format: &str,
        bytes: u64,
        backing: Option<Backing>,
        backing_format: Option<&str>,
    ) -> Result<(), Refusal> {
        let of_image = |text: String| Refusal::new(format!("{name}: {text}"));
        let path = self.around.host.resolve(name.into());
        let does = Permissions::WRITE.and(Permissions::RESIZE);
        if let Some(lock) = self.lock_on(name, &path, (does, Permissions::ALL.without(Permissions::RESIZE))) {
            return Err(of_image(lock));
        }
        if self.around.host.is_full(&path) || self.around.host.document(&path).is_some() {
            return Err(Refusal::not_simulated("a host without space, and a file that is no image"));
        }
        let size = bytes.next_multiple_of(512);
        let image = if format == "raw" { Image::raw(size) } else { Image::overlay(size, backing.clone()) };
        if format == "qcow2" && backing.is_none() && backing_format.is_some() {
            return Err(Refusal::not_simulated("a backing format without a backing file"));
        }
        let created = self.around.host.create(&path, image);
        created.map_err(|error| {
            let why = match error.kind() {
                io::ErrorKind::IsADirectory => "Is a directory",
                _ => "No such file or directory",
            };
            of_image(format!("Could not create '{name}': {why}"))
        })
    }
}

/// The backing file of a new image that is not looked at.
fn unopened(base: &str, options: &Options<'_>) -> Result<Backing, Refusal> {
    match options.value("-F") {
        Some(format @ ("qcow2" | "raw")) => {
            Ok(Backing { file: base.to_owned(), format: Some(format.to_owned()) })
        }
        _ => Err(Refusal::not_simulated("a backing file that is neither opened nor of a known format")),
    }
}

/// What it says before it begins.
fn formatting(
    name: &str,
    format: &str,
    bytes: u64,
    backing: Option<&Backing>,
    backing_format: Option<&str>,
) -> String {
    if format == "raw" {
        return format!("Formatting '{name}', fmt=raw size={bytes}\n");
    }
    let file = backing.map(|backing| format!(" backing_file={}", backing.file)).unwrap_or_default();
    let stated = backing.and_then(|backing| backing.format.as_deref()).or(backing_format);
    let stated = stated.map(|format| format!(" backing_fmt={format}")).unwrap_or_default();
    format!(
        "Formatting '{name}', fmt=qcow2 cluster_size=65536 extended_l2=off compression_type=zlib size={bytes}\
         {file}{stated} lazy_refcounts=off refcount_bits=16\n"
    )
}
