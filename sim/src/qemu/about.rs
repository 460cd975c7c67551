//! What QEMU says of itself and the machine that no command and no event ever changes.
//!
//! Machines have one processor and run under TCG. Source: recordings of the four
//! releases.

use super::{QmpError, not_simulated};
use crate::{
    machine::{Chipset, Machine},
    qobject::{QObject, key, qdict},
    release::Release,
};

/// The thread of the processor, as the host numbers it: any will do, and real ones differ from start to start.
const PROCESSOR_THREAD: u64 = 4_711;

/// The UUID of a machine that was given none.
const NO_UUID: &str = "00000000-0000-0000-0000-000000000000";

/// What is fixed when QEMU is started.
#[derive(Debug)]
pub(crate) struct About {
    name: Option<String>,
    uuid: Option<String>,
    /// Bytes.
    memory: u64,
    chipset: Chipset,
    version: Option<String>,
}

impl About {
    /// Of this machine.
    pub(crate) fn of(machine: &Machine) -> Self {
        Self {
            name: machine.name.clone(),
            uuid: machine.uuid.clone(),
            memory: machine.memory,
            chipset: machine.chipset,
            version: machine.version.clone(),
        }
    }

    /// The type of the machine among QEMU's objects.
    pub(crate) fn machine_type(&self, release: Release) -> String {
        match (&self.version, self.chipset) {
            (Some(version), _) => format!("pc-{version}-machine"),
            (None, Chipset::Pc) => format!("pc-i440fx-{release}-machine"),
            (None, Chipset::Q35) => format!("pc-q35-{release}-machine"),
        }
    }

    fn uuid(&self) -> &str {
        self.uuid.as_deref().unwrap_or(NO_UUID)
    }

    /// What the human monitor says of the name: nothing if there is none.
    pub(crate) fn name_line(&self) -> String {
        self.name.as_ref().map_or(String::new(), |name| format!("{name}\r\n"))
    }

    /// What the human monitor says of the UUID.
    pub(crate) fn uuid_line(&self) -> String {
        format!("{}\r\n", self.uuid())
    }

    /// Answers a query for something that never changes.
    pub(crate) fn query(&self, query: &str, release: Release) -> Result<QObject, QmpError> {
        Ok(match query {
            "query-name" => {
                self.name.as_ref().map_or(QObject::empty(), |name| qdict! { "name": name.clone() }.into())
            }
            "query-uuid" => qdict! { "UUID": self.uuid().to_owned() }.into(),
            "query-memory-size-summary" => qdict! { "base-memory": self.memory, "plugged-memory": 0 }.into(),
            "query-target" => qdict! { "arch": "x86_64" }.into(),
            "query-kvm" => qdict! { "enabled": false, "present": true }.into(),
            "query-current-machine" => qdict! { "wakeup-suspend-support": true }.into(),
            "query-memdev" => QObject::List(vec![self.memory_device(release)]),
            "query-cpus-fast" => QObject::List(vec![processor(release)]),
            other => return Err(not_simulated(&format!("command `{other}`"))),
        })
    }
}

impl About {
    /// The memory that every machine has.
    fn memory_device(&self, release: Release) -> QObject {
        let nodes = QObject::List(Vec::new());
        let mut memory = qdict! {
            "prealloc": false, "host-nodes": nodes, "size": self.memory, "merge": true, "dump": true,
            "policy": "default", "id": "pc.ram",
        };
        if release.memory_may_be_shared() {
            memory.put(key!("share"), false);
            memory.put(key!("reserve"), true);
        }
        memory.into()
    }
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
