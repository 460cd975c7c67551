//! `snapshot-save`, `snapshot-load` and `snapshot-delete`: snapshots of the whole machine, as jobs.
//!
//! ```text
//! created running [STOP RESUME] | reply | [VSERPORT_CHANGE] waiting pending concluded
//! created running [STOP [RESUME]] | reply | aborting concluded
//! ```
//! The work is done before the reply, in one go: nothing can come in between, and no verb ever meets such a job in
//! another state than `concluded`. The command itself succeeds; why a job failed stands in `query-jobs` alone.
//! QEMU 5.2 has no such jobs (its schema refuses the commands).

use std::time::Duration;

use super::{
    Context, QmpError, Timer,
    arguments::Arguments,
    vm_snapshot::{Disks, Machine},
    work::Work,
};
use crate::qobject::QObject;

/// Which of the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `snapshot-save`
    Save,
    /// `snapshot-load`
    Load,
    /// `snapshot-delete`
    Delete,
}

impl Kind {
    /// The job's type, which is also the command's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Save => "snapshot-save",
            Kind::Load => "snapshot-load",
            Kind::Delete => "snapshot-delete",
        }
    }
}

/// Carries out one of the three commands.
pub(crate) fn start(
    kind: Kind,
    mut machine: Machine<'_>,
    arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<QObject, QmpError> {
    let job = machine.jobs.start(arguments.text("job-id"), kind.name(), cx)?;
    let tag = arguments.text("tag");
    let devices = arguments.texts("devices");
    let disks = Disks::Named { devices: &devices, vmstate: arguments.text("vmstate") };
    let outcome = match kind {
        Kind::Save => machine.save(tag, disks, cx),
        Kind::Load => machine.load(tag, disks, cx).map_err(|error| error.text),
        Kind::Delete => machine.delete(tag, disks, cx),
    };
    machine.jobs.give_work(job, Work::Done(outcome), Vec::new());
    cx.schedule(Duration::ZERO, Timer::Job { serial: job });
    Ok(QObject::empty())
}
