//! How a disk is plugged into a machine that runs: its node is opened, then its device is added.

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::json;

use crate::language::{Plug, Qmp};

/// The commands, in order.
pub(super) fn commands(plug: &Plug, folder: &Utf8Path) -> [Qmp; 2] {
    let Plug { target, root_port, format, readonly, relative } = plug;
    let format = format.name();
    let name = Utf8PathBuf::from(format!("{target}.{format}"));
    let filename = if *relative { name } else { folder.join(name) };
    let file = json!({ "driver": "file", "filename": filename, "read-only": readonly });
    let node = json!({ "driver": format, "node-name": target, "file": file, "read-only": readonly });
    let id = format!("{target}-device");
    let device = json!({ "driver": "virtio-blk-pci", "id": id, "drive": target, "bus": root_port });
    [("blockdev-add", node), ("device_add", device)].map(|(command, arguments)| Qmp {
        json: json!({ "execute": command, "arguments": arguments }).to_string(),
    })
}
