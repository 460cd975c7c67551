//! `qemu-img check`: how the clusters of a qcow2 image are used. Simulated images are never broken.

use super::{Refusal, Run, json, open::Access, options::Options};
use crate::{
    host::{Image, Qcow2},
    qobject::{QObject, key, qdict},
};

/// The exit code for a format that has nothing to check.
const NOT_SUPPORTED: i32 = 63;

pub(super) fn check(run: &mut Run<'_>, options: &Options<'_>) -> Result<(), Refusal> {
    options.in_json()?;
    let access = if options.has("-U") { Access::Shared } else { Access::Read };
    let name = options.name()?;
    let chain = run.open_chain(name, options.value("-f"), access)?;
    let Some(qcow2) = run.image(&chain[0]).and_then(Image::as_qcow2) else {
        let text = "This image format does not support checks\n".to_owned();
        return Err(Refusal { exit: NOT_SUPPORTED, text });
    };
    let usage = qcow2.usage();
    let mut found = qdict! {
        "filename": name.to_owned(),
        "format": "qcow2",
        "check-errors": 0,
        "image-end-offset": usage.end,
        "total-clusters": qcow2.size.div_ceil(Qcow2::CLUSTER),
    };
    if usage.allocated > 0 {
        found.put(key!("allocated-clusters"), usage.allocated);
    }
    if usage.fragmented > 0 {
        found.put(key!("fragmented-clusters"), usage.fragmented);
    }
    run.stdout += &json::pretty(&QObject::from(found));
    Ok(())
}
