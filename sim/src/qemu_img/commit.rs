//! `qemu-img commit`: what was written to an image goes into one behind it.

use std::time::Duration;

use super::{
    Refusal, Run,
    open::{Access, Layer, uses},
    options::Options,
};
use crate::host::Blocks;

/// How long a block takes.
const A_BLOCK: Duration = Duration::from_micros(200);

pub(super) fn commit(run: &mut Run<'_>, options: &Options<'_>) -> Result<(), Refusal> {
    let name = options.name()?;
    let chain = run.open_chain(name, options.value("-f"), Access::Write)?;
    let base = match options.value("-b") {
        None if chain.len() == 1 => return Err(Refusal::new("Image does not have a backing file")),
        None => 1,
        Some(base) => {
            let found = chain.iter().skip(1).position(|layer| layer.name == base);
            let missing = || format!("Did not find '{base}' in the backing chain of '{name}'");
            found.ok_or_else(|| Refusal::new(missing()))? + 1
        }
    };
    let Layer { name: below, path, format, .. } = &chain[base];
    if let Some(lock) = run.lock_on(below, path, uses(*format, Access::Write)) {
        return Err(Refusal::new(lock));
    }
    run.write_into(&chain[..base], &chain[base]);
    // With a base that is stated it is as if `-d` were: images in between would lose what they have of the topmost.
    let keeps = options.has("-d") || options.value("-b").is_some();
    if !keeps && let Some(top) = run.around.host.image_mut(&chain[0].path).and_then(|top| top.as_qcow2_mut())
    {
        top.make_empty();
    }
    if !options.has("-q") {
        run.stdout += "Image committed.\n";
    }
    Ok(())
}

impl Run<'_> {
    /// Writes what is in `upper`, topmost first, into the image below them, which gets as big as the topmost.
    fn write_into(&mut self, upper: &[Layer], base: &Layer) {
        let mut blocks = Blocks::new();
        for layer in upper.iter().rev() {
            blocks.extend(self.image(layer).map_or(&Blocks::new(), |image| image.blocks()));
        }
        let size = upper.first().and_then(|top| self.image(top)).map_or(0, |top| top.virtual_size());
        self.takes += A_BLOCK * blocks.len() as u32;
        if let Some(image) = self.around.host.image_mut(&base.path) {
            image.grow(size);
            blocks.into_iter().for_each(|(block, write)| image.write(block, write));
        }
    }
}
