//! `qemu-img rebase -u`: another backing file is written into an image's header, and nothing is looked at.

use super::{Refusal, Run, open::Access, options::Options};
use crate::{host::Backing, machine::Format, qemu::block::OTHER_FORMATS};

pub(super) fn rebase(run: &mut Run<'_>, options: &Options<'_>) -> Result<(), Refusal> {
    let name = options.name()?;
    if !options.has("-u") {
        return Err(Refusal::not_simulated("a rebase that copies what differs"));
    }
    let layer = run.open_one(name, options.value("-f"), Access::Write)?;
    let base = options.value("-b").filter(|base| !base.is_empty());
    let format = options.value("-F");
    if let Some(unknown) = format.filter(|format| !["qcow2", "raw", "file"].contains(format)) {
        return Err(if OTHER_FORMATS.contains(&unknown) {
            Refusal::not_simulated(&format!("an image of format `{unknown}`"))
        } else {
            Refusal::new(format!("Invalid format name: '{unknown}'"))
        });
    }
    if layer.format == Format::Raw {
        let Some(base) = base else { return Err(Refusal::not_simulated("a raw image without backing file")) };
        return Err(refused(base, "Operation not supported"));
    }
    if let (Some(base), None) = (base, format) {
        match run.around.release.rebase_without_format() {
            Some(warning) => run.stderr += &format!("qemu-img: {warning}\n"),
            None => return Err(refused(base, "backing format must be specified")),
        }
    }
    if let Some(qcow2) = run.around.host.image_mut(&layer.path).and_then(|image| image.as_qcow2_mut()) {
        qcow2.backing = base.map(|base| Backing { file: base.to_owned(), format: format.map(str::to_owned) });
    }
    Ok(())
}

fn refused(base: &str, why: &str) -> Refusal {
    Refusal::new(format!("Could not change the backing file to '{base}': {why}"))
}
