//! The firmware's variables, made anew from their template: while no machine has them, between the end of the one and the start of
//! the other.
//!
//! Source: libvirt's `VIR_DOMAIN_SNAPSHOT_REVERT_RESET_NVRAM`, and `qemuPrepareNVRAM` for what they are copied from.

use super::Way;
use crate::{
    domain::Nvram,
    env::FileKind,
    error::RevertRefusal,
    launch::Launcher,
    plan::Facts,
    request::{Revert, RevertFlag},
    step::ResetNvram,
};

const OPEN: &str =
    "the machine goes back within its QEMU, which has them open: end it, and go back while it is off";

/// Refuses it of a snapshot that the images alone know, which is gone back to within the process that runs.
pub(super) fn check_unrecorded(revert: &Revert, facts: Facts<'_>) -> Result<(), RevertRefusal> {
    match facts.domain.nvram.as_ref().filter(|_| revert.flags.has(RevertFlag::ResetNvram)) {
        Some(nvram) => Err(cannot(nvram, OPEN)),
        None => Ok(()),
    }
}

fn cannot(nvram: &Nvram, why: impl Into<String>) -> RevertRefusal {
    RevertRefusal::CannotResetNvram { file: nvram.file.clone(), why: why.into() }
}

impl Way<'_> {
    /// The variables that are to be made anew; none if nobody asks, or there are none.
    fn nvram_to_reset(&self) -> Option<Nvram> {
        self.domain.nvram().filter(|_| self.revert.flags.has(RevertFlag::ResetNvram))
    }

    /// Refuses it within the process that runs.
    pub(super) fn check_nvram_is_closed(&self) -> Result<(), RevertRefusal> {
        self.nvram_to_reset().map_or(Ok(()), |nvram| Err(cannot(&nvram, OPEN)))
    }

    /// How they are made anew, if they are.
    pub(super) fn reset_nvram(&self) -> Result<Option<ResetNvram>, RevertRefusal> {
        let Some(nvram) = self.nvram_to_reset() else { return Ok(None) };
        let (template, format) = self
            .domain
            .nvram_template()
            .ok_or_else(|| cannot(&nvram, "<nvram> names no template that they could be copied from"))?;
        if let Some(Launcher::Program(_)) = self.facts.launcher {
            return Err(cannot(&nvram, "the machine is started by a program, which may make them itself"));
        }
        if format != nvram.format {
            let formats = format!("they are {}, and their template `{template}` is {format}", nvram.format);
            return Err(cannot(&nvram, format!("{formats}: convert it into `{}` yourself", nvram.file)));
        }
        let found = self.facts.observed.nvram.as_ref().filter(|found| found.file == nvram.file);
        if let Some(held) = found.and_then(|found| found.snapshots.first()) {
            let why = format!("their file holds the internal snapshot `{}`, which would be lost", held.name);
            return Err(cannot(&nvram, why));
        }
        if nvram.keeps_snapshots() && found.is_none() {
            return Err(cannot(&nvram, "nobody can tell whether their file holds internal snapshots"));
        }
        if !matches!(self.facts.files.get(&template), Some(FileKind::File { .. })) {
            return Err(cannot(
                &nvram,
                format!("their template `{template}` is not there, or is no regular file"),
            ));
        }
        let kept = format!("{}.ff-{}", nvram.file, self.facts.unique).into();
        Ok(Some(ResetNvram { template, file: nvram.file, kept }))
    }
}
