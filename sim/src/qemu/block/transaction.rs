//! `transaction`: several actions, all of them or none.
//!
//! Each action sees what those before it did. If one is refused, graph and images are put back as they were and
//! its error is the reply; a file that `blockdev-snapshot-sync` made stays. Jobs are created with their actions and started
//! once all have succeeded; they may be a group that ends together. A bitmap that is removed is gone, and a node that got
//! an overlay read-only, only when all have succeeded. QEMU never answers if it has to undo two or more jobs of a group.
//!
//! Not here: that real QEMU crashes when a bitmap to enable or disable is not there.

use camino::Utf8Path;
use serde_json::Value;

use super::{Graph, backup, bitmap, drive_backup, internal_snapshot, snapshot};
use crate::{
    host::Host,
    qemu::{Context, QmpError, arguments::Arguments, job::Jobs, not_simulated, run_state::Cpus},
    qobject::QObject,
};

/// What the actions work on.
pub(crate) struct Machine<'a> {
    /// The block graph.
    pub(crate) graph: &'a mut Graph,
    /// Jobs, which may be in the way, and are created.
    pub(crate) jobs: &'a mut Jobs,
    /// The virtual processors.
    pub(crate) cpus: &'a Cpus,
}

/// `transaction`.
pub(crate) fn transaction(
    mut machine: Machine<'_>,
    arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<QObject, QmpError> {
    arguments.only(&["actions", "properties"])?;
    let grouped = match arguments.0.get("properties") {
        Some(_) => arguments.structure("properties")?.text("completion-mode") == "grouped",
        None => false,
    };
    let actions = arguments.list("actions");
    if grouped && cx.release().groups_are_checked_first() {
        let cannot =
            actions.iter().filter_map(|action| action["type"].as_str()).find(|kind| !can_be_grouped(kind));
        if let Some(kind) = cannot {
            return Err(cx.release().not_in_a_group(kind));
        }
    }
    let before = (machine.graph.clone(), cx.host().clone());
    let (mut created, mut overlaid) = (Vec::new(), Vec::new());
    for action in actions {
        match act(&mut machine, action, grouped, cx) {
            Ok(Done::Created(job)) => created.push(job),
            Ok(Done::Overlaid(node)) => overlaid.push(node),
            Ok(Done::All) => {}
            Err(error) => {
                machine.jobs.discard_created(&created, grouped, cx);
                let (graph, host) = before;
                machine.graph.go_back_to(graph);
                restore_images(machine.graph, &host, cx.host());
                return Err(error);
            }
        }
    }
    machine.graph.remove_marked_bitmaps(cx.host());
    overlaid.iter().for_each(|node| machine.graph.set_read_only(node, true));
    if grouped {
        machine.jobs.make_group(&created);
    }
    if !cx.release().transactions_start_jobs_in_order() {
        created.reverse();
    }
    machine.jobs.start_created(&created, cx);
    Ok(QObject::empty())
}

fn can_be_grouped(action: &str) -> bool {
    matches!(action, "blockdev-backup" | "drive-backup")
}

/// Puts the images of all nodes back; files that no node holds open stay as they are.
fn restore_images(graph: &Graph, before: &Host, now: &mut Host) {
    for file in graph.newest_first().filter_map(|node| graph.file_of(node)).map(Utf8Path::new) {
        if let (Some(before), Some(now)) = (before.image(file), now.image_mut(file)) {
            now.clone_from(before);
        }
    }
}

/// What an action has done, and so what is left to do once all have succeeded.
enum Done {
    /// All that it was to do.
    All,
    /// It has created this job.
    Created(u64),
    /// It has put an overlay on this node.
    Overlaid(String),
}

/// Carries an action out.
fn act(
    machine: &mut Machine<'_>,
    action: &Value,
    grouped: bool,
    cx: &mut Context<'_>,
) -> Result<Done, QmpError> {
    let action =
        Arguments(action.as_object().ok_or_else(|| not_simulated("an action that is no structure"))?);
    let (kind, data) = (action.text("type"), action.structure("data")?);
    if grouped && !can_be_grouped(kind) && kind != "abort" {
        return Err(cx.release().not_in_a_group(kind));
    }
    let (graph, jobs) = (&mut *machine.graph, &mut *machine.jobs);
    match kind {
        "abort" => Err(QmpError::generic("Transaction aborted using Abort action")),
        "blockdev-backup" => backup::create(graph, jobs, data, cx).map(|created| Done::Created(created.job)),
        "drive-backup" => {
            drive_backup::create(graph, jobs, data, cx).map(|created| Done::Created(created.job))
        }
        "blockdev-snapshot" => snapshot::put_overlay(graph, jobs, data, cx).map(Done::Overlaid),
        "blockdev-snapshot-sync" => snapshot::put_new_overlay(graph, jobs, data, cx).map(Done::Overlaid),
        "blockdev-snapshot-internal-sync" => {
            internal_snapshot::take(graph, jobs, machine.cpus, data, cx).map(|_| Done::All)
        }
        "block-dirty-bitmap-remove" => {
            graph.mark_bitmap_to_remove(data.text("node"), data.text("name"), cx.release()).map(|_| Done::All)
        }
        bitmap if bitmap.starts_with("block-dirty-bitmap-") => {
            bitmap::command(graph, bitmap, data, cx).map(|_| Done::All)
        }
        other => Err(not_simulated(&format!("transaction action `{other}`"))),
    }
}
