//! `qemu-img rebase`: an image gets another backing file, or none.
//!
//! What it would show otherwise then is copied into it before, while it still names the old one: whatever ends it half way
//! leaves an image that reads the same. With `-u` nothing is looked at.

use std::time::Duration;

use super::{
    Refusal, Run,
    open::{Access, Layer},
    options::Options,
};
use crate::{
    host::{Backing, Blocks},
    machine::Format,
    qemu::block::OTHER_FORMATS,
};

/// How long a block takes.
const A_BLOCK: Duration = Duration::from_micros(200);

pub(super) fn rebase(run: &mut Run<'_>, options: &Options<'_>) -> Result<(), Refusal> {
    let name = options.name()?;
    let chain = match options.has("-u") {
        true => vec![run.open_one(name, options.value("-f"), Access::Write)?],
        false => run.open_chain(name, options.value("-f"), Access::Write)?,
    };
    let layer = &chain[0];
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
    if !options.has("-u") {
        copy(run, &chain, base, format)?;
    }
    if let Some(qcow2) = run.around.host.image_mut(&layer.path).and_then(|image| image.as_qcow2_mut()) {
        qcow2.backing = base.map(|base| Backing { file: base.to_owned(), format: format.map(str::to_owned) });
    }
    Ok(())
}

/// Copies what the images behind the first one show otherwise than those that are to be behind it.
fn copy(run: &mut Run<'_>, chain: &[Layer], base: Option<&str>, format: Option<&str>) -> Result<(), Refusal> {
    let new = match base {
        Some(base) => {
            run.open_chain(base, format, Access::Read).map_err(|refusal| refusal.of_new_backing())?
        }
        None => Vec::new(),
    };
    let (old, new) = (run.shown(&chain[1..]), run.shown(&new));
    let Some(image) = run.around.host.image_mut(&chain[0].path) else { return Ok(()) };
    let own = image.blocks().clone();
    if new.keys().any(|block| !old.contains_key(block) && !own.contains_key(block)) {
        return Err(Refusal::not_simulated("a rebase that writes zeroes"));
    }
    for (block, write) in old {
        if new.get(&block) != Some(&write) && !own.contains_key(&block) {
            image.write(block, write);
            run.takes += A_BLOCK;
        }
    }
    Ok(())
}

impl Run<'_> {
    /// What a chain shows.
    fn shown(&self, chain: &[Layer]) -> Blocks {
        let layers = chain.iter().rev().filter_map(|layer| self.image(layer));
        layers.flat_map(|image| image.blocks()).map(|(block, write)| (*block, *write)).collect()
    }
}

impl Refusal {
    /// The new backing file cannot be opened.
    fn of_new_backing(self) -> Self {
        let text = match self.text.strip_prefix("Could not open ") {
            Some(rest) => format!("Could not open new backing file {rest}"),
            None => self.text,
        };
        Self { text, ..self }
    }
}

fn refused(base: &str, why: &str) -> Refusal {
    Refusal::new(format!("Could not change the backing file to '{base}': {why}"))
}
