//! `transaction`: several actions, all of them or none.
//!
//! Each action sees what those before it did. If one is refused, graph and images are put back as they were and
//! its error is the reply. No events. Actions other than those of snapshots are not simulated.

use serde_json::Value;

use super::{Graph, internal_snapshot, snapshot};
use crate::{
    qemu::{Context, QmpError, arguments::Arguments, job::Jobs, not_simulated, run_state::Cpus},
    qobject::QObject,
};

/// What the actions work on.
pub(crate) struct Machine<'a> {
    /// The block graph.
    pub(crate) graph: &'a mut Graph,
    /// Jobs that may be in the way.
    pub(crate) jobs: &'a Jobs,
    /// The virtual processors.
    pub(crate) cpus: &'a Cpus,
}

/// `transaction`.
pub(crate) fn transaction(
    mut machine: Machine<'_>,
    arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<QObject, QmpError> {
    arguments.only(&["actions"])?;
    let before = (machine.graph.clone(), cx.host().clone());
    for action in arguments.list("actions") {
        if let Err(error) = act(&mut machine, action, cx) {
            (*machine.graph, *cx.host()) = before;
            return Err(error);
        }
    }
    Ok(QObject::empty())
}

fn act(machine: &mut Machine<'_>, action: &Value, cx: &mut Context<'_>) -> Result<QObject, QmpError> {
    let action =
        Arguments(action.as_object().ok_or_else(|| not_simulated("an action that is no structure"))?);
    let data = action.structure("data")?;
    match action.text("type") {
        "abort" => Err(QmpError::generic("Transaction aborted using Abort action")),
        "blockdev-snapshot" => snapshot::blockdev_snapshot(machine.graph, machine.jobs, data, cx),
        "blockdev-snapshot-internal-sync" => internal_snapshot::take(machine.graph, machine.cpus, data, cx),
        other => Err(not_simulated(&format!("transaction action `{other}`"))),
    }
}
