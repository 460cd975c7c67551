//! `change-backing-file`: what an image's header says of the image below it. The nodes stay as they are.
//!
//! Source: the four releases, asked.

use super::{Graph, commit::rebase};
use crate::{
    qemu::{Context, QmpError, arguments::Arguments, job::Jobs},
    qobject::QObject,
};

/// `change-backing-file`. Its checks are in QEMU's order.
pub(crate) fn change_backing_file(
    graph: &mut Graph,
    jobs: &Jobs,
    arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<QObject, QmpError> {
    let (device, image) = (arguments.text("device"), arguments.text("image-node-name"));
    let top = graph.node(device).ok_or_else(|| cx.release().cannot_find_either(device, device))?;
    graph.check_root(&top.name, jobs)?;
    let node = graph.node(image).ok_or_else(|| cx.release().cannot_find_either("", image))?;
    let Some(backing) = node.driver.backing().map(str::to_owned) else {
        let text = "not allowing backing file change on an image without a backing file";
        return Err(QmpError::generic(text));
    };
    jobs.check_not_busy(image)?;
    if !graph.chain(device).any(|below| below.name == image) {
        return Err(QmpError::generic(format!("'{device}' and image file are not in the same chain")));
    }
    if !graph.is_active(image) {
        // It writes the header all the same.
        cx.abort();
    }
    let stated = arguments.text("backing-file").to_owned();
    rebase(graph, image, Some(&backing), Some(stated), cx);
    Ok(QObject::empty())
}
