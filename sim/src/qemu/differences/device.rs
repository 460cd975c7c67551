//! The differences of devices, processors and the guest's firmware.

use std::{borrow::Cow, time::Duration};

use serde_json::Value;

use crate::{
    Release,
    machine::Chipset,
    qemu::{QmpError, job::is_well_formed, qdev},
};

/// Texts.
impl Release {
    /// A disk on a node that another device, `present`, writes; `id` is that of the disk.
    pub(crate) fn device_conflict(self, node: &str, present: &str, id: &str) -> QmpError {
        QmpError::generic(match self {
            Release::V5_2 => {
                format!("Conflicts with use by {present} as 'root', which does not allow 'write' on {node}")
            }
            _ => format!(
                "Permission conflict on node '{node}': permissions 'write' are both required by block device \
                 '{present}' (uses node '{node}' as 'root' child) and unshared by block device \
                 '/machine/peripheral/{id}/virtio-backend' (uses node '{node}' as 'root' child)."
            ),
        })
    }

    /// The id of a new device, as far as it is looked at before all else.
    pub(crate) fn check_device_id_first(self, id: Option<&str>, taken: bool) -> Result<(), QmpError> {
        match id {
            Some(id) if self <= Release::V7_2 && !is_well_formed(id) => {
                Err(QmpError::generic("Parameter 'id' expects an identifier"))
            }
            Some(id) if self == Release::V5_2 && taken => {
                Err(QmpError::generic(format!("Duplicate ID '{id}' for device")))
            }
            _ => Ok(()),
        }
    }

    /// The id of a new device, once its bus is known.
    pub(crate) fn check_device_id(self, id: Option<&str>, taken: bool) -> Result<(), QmpError> {
        match id {
            Some(id) if taken => Err(QmpError::generic(format!("Duplicate device ID '{id}'"))),
            Some(id) if self >= Release::V11_1 && !is_well_formed(id) => {
                Err(QmpError::generic(format!("Invalid qdev ID '{id}'")))
            }
            _ => Ok(()),
        }
    }

    /// `qom-set` of a property that can only be read.
    pub(crate) fn property_not_writable(self, kind: &str, property: &str) -> QmpError {
        QmpError::generic(match self {
            Release::V5_2 => "Insufficient permission to perform this operation".into(),
            _ => format!("Property '{kind}.{property}' is not writable"),
        })
    }

    /// `device_del` of nothing: the empty path is that of the root of all objects.
    pub(crate) fn root_is_no_device(self) -> QmpError {
        match self {
            Release::V5_2 => qdev::not_found(""),
            Release::V7_2 => QmpError::generic(" is not a hotpluggable device"),
            Release::V10_0 | Release::V11_1 => QmpError::generic(" is not a device"),
        }
    }
}

/// What is taken.
impl Release {
    /// An argument of `device_add` that is a text, but for its `id`. The older releases make an option of what is neither a list nor an object.
    pub(crate) fn device_argument(self, value: Option<&Value>) -> Option<Cow<'_, str>> {
        match value? {
            Value::String(text) => Some(Cow::Borrowed(text)),
            Value::Bool(on) if self <= Release::V7_2 => Some(Cow::Borrowed(if *on { "on" } else { "off" })),
            Value::Number(number) if self <= Release::V7_2 => Some(Cow::Owned(number.to_string())),
            _ => None,
        }
    }
}

/// Order.
impl Release {
    /// `VSERPORT_CHANGE` that `cont` or the human monitor's `loadvm` brings comes before the reply.
    pub(crate) fn ports_report_before_the_reply(self) -> bool {
        self >= Release::V7_2
    }

    /// A request of the guest that has failed is tried again before the reply to `cont`.
    pub(crate) fn requests_are_tried_again_before_the_reply(self) -> bool {
        self == Release::V7_2
    }
}

/// Devices.
impl Release {
    /// How often the guest's firmware resets the machine after a reset from outside; the usual number first.
    pub(crate) fn firmware_resets(self, chipset: Chipset, boots_a_system: bool) -> &'static [u32] {
        match (self, chipset) {
            (Release::V5_2, Chipset::Q35) if !boots_a_system => &[u32::MAX],
            (Release::V5_2 | Release::V7_2, _) => &[1, 2, 4, 6],
            (Release::V10_0 | Release::V11_1, _) => &[1],
        }
    }

    /// PCIe root ports of `q35` ask the guest to let go of a device as `pc` does, by ACPI: a reset removes it. Before,
    /// a guest that never answers keeps it for ever.
    pub(crate) fn root_ports_unplug_by_acpi(self) -> bool {
        self >= Release::V7_2
    }

    /// A slot that is taken is found before a disk that is.
    pub(crate) fn slots_are_checked_before_disks(self) -> bool {
        self >= Release::V10_0
    }

    /// From a device's end to its `DEVICE_DELETED`: QEMU waits until no thread uses it any more.
    pub(crate) fn ports_leave_after(self) -> Duration {
        self.devices_leave_after()[0].unwrap_or_default()
    }

    /// From the end of what a device of a running `pc` held inside to its own `DEVICE_DELETED`; none for at once. The usual
    /// one first.
    pub(crate) fn devices_leave_after(self) -> [Option<Duration>; 3] {
        let later = Some(Duration::from_millis(50));
        match self {
            Release::V11_1 => [None, Some(Duration::ZERO), later],
            _ => [later, None, Some(Duration::ZERO)],
        }
    }
}

/// Shape of replies.
impl Release {
    /// `BLOCK_IO_ERROR` has `qom-path`.
    pub(crate) fn io_errors_tell_the_device(self) -> bool {
        self >= Release::V10_0
    }

    /// `query-cpus-fast` has `arch`.
    pub(crate) fn processors_have_arch(self) -> bool {
        self == Release::V5_2
    }

    /// `query-cpus-fast` has `qom-type`.
    pub(crate) fn processors_have_qom_type(self) -> bool {
        self >= Release::V11_1
    }
}
