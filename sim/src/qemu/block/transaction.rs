//! `transaction`: several actions, all of them or none.
//!
//! Each action sees what those before it did. If one is refused, graph and images are put back as they were and
//! its error is the reply. No events. Actions other than those of snapshots are not simulated.

use serde_json::Value;

use super::{Graph, internal_snapshot, snapshot};
use crate::{
    qemu::{Context, QmpError, arguments::Arguments, not_simulated, run_state::Cpus},
    qobject::QObject,
};

/// `transaction`.
pub(crate) fn transaction(
    graph: &mut Graph,
    cpus: &Cpus,
    arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<QObject, QmpError> {
    arguments.only(&["actions"])?;
    let before = (graph.clone(), cx.host().clone());
    for action in arguments.list("actions") {
        if let Err(error) = act(graph, cpus, action, cx) {
            (*graph, *cx.host()) = before;
            return Err(error);
        }
    }
    Ok(QObject::empty())
}

fn act(graph: &mut Graph, cpus: &Cpus, action: &Value, cx: &mut Context<'_>) -> Result<QObject, QmpError> {
    let action =
        Arguments(action.as_object().ok_or_else(|| not_simulated("an action that is no structure"))?);
    let data = action.structure("data")?;
    match action.text("type") {
        "abort" => Err(QmpError::generic("Transaction aborted using Abort action")),
        "blockdev-snapshot" => snapshot::blockdev_snapshot(graph, data, cx),
        "blockdev-snapshot-internal-sync" => internal_snapshot::take(graph, cpus, data, cx),
        other => Err(not_simulated(&format!("transaction action `{other}`"))),
    }
}
