//! What QEMU says of itself and the machine that no command and no event ever changes.
//!
//! Machines have one processor, no name, no UUID and no I/O threads, and run under TCG. Source: recordings of the four
//! releases.

use super::{QmpError, not_simulated};
use crate::{
    qobject::{QObject, key, qdict},
    release::Release,
};

/// The thread of the processor, as the host numbers it: any will do, and real ones differ from start to start.
const PROCESSOR_THREAD: u64 = 4_711;

/// Answers a query for something that never changes.
pub(crate) fn query(query: &str, release: Release) -> Result<QObject, QmpError> {
    Ok(match query {
        "query-name" => QObject::empty(),
        "query-uuid" => qdict! { "UUID": "00000000-0000-0000-0000-000000000000" }.into(),
        "query-target" => qdict! { "arch": "x86_64" }.into(),
        "query-kvm" => qdict! { "enabled": false, "present": true }.into(),
        "query-current-machine" => qdict! { "wakeup-suspend-support": true }.into(),
        "query-cpus-fast" => QObject::List(vec![processor(release)]),
        other => return Err(not_simulated(&format!("command `{other}`"))),
    })
}

/// The one processor.
fn processor(release: Release) -> QObject {
    let mut processor = qdict! {
        "thread-id": PROCESSOR_THREAD,
        "props": qdict! { "core-id": 0, "thread-id": 0, "socket-id": 0 },
        "qom-path": "/machine/unattached/device[0]",
        "cpu-index": 0,
        "target": "x86_64",
    };
    if release.processors_have_arch() {
        processor.put(key!("arch"), "x86");
    }
    if release.processors_have_qom_type() {
        processor.put(key!("qom-type"), "qemu64-x86_64-cpu");
    }
    processor.into()
}
