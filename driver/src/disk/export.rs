//! What a snapshot of disks holds, served as NBD for a backup program to read: by `qemu-storage-daemon`, read-only, for as long as
//! it runs.
//!
//! ```text
//! backup source -> its chain, each format as stated -> one --blockdev and one --export each -> nbd+unix:///vda?socket=...
//! ```
//! No QEMU of a machine has a part in it, so that nothing of it can be left there. The daemon opens what nobody writes any more:
//! the storage's snapshot, or the image below an overlay. What is in an image is never asked for its format.
//!
//! Source: qemu-storage-daemon(1).

use std::time::Duration;

use camino::Utf8PathBuf;
use serde_json::{Value, json};

use super::DiskError;
use crate::{
    domain_snapshot::SourceType,
    env::{Env, HostCommand},
    launch::chain,
    qemu_img::{Backing, QemuImg},
    storage::BackupSource,
};

/// What a backup can read of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readable {
    /// The disk.
    pub target: String,
    /// Where it is.
    pub source: BackupSource,
    /// Its format.
    pub format: String,
}

/// How it is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// `qemu-storage-daemon`.
    pub program: Utf8PathBuf,
    /// Where it is to listen; nothing may be there.
    pub socket: Utf8PathBuf,
    /// How long.
    pub within: Duration,
}

impl Export {
    /// The daemon that serves these. It serves until it is killed, which its time does too.
    ///
    /// # Errors
    /// [`DiskError::NotExported`]: one of them cannot be served.
    pub async fn command<E: Env>(
        &self,
        tool: &QemuImg<E>,
        readable: &[Readable],
    ) -> Result<HostCommand, DiskError> {
        let address = format!("addr.type=unix,addr.path={}", value(self.socket.as_str()));
        let (mut opened, mut exported) = (Vec::new(), Vec::new());
        for (index, Readable { target, source, format }) in readable.iter().enumerate() {
            let refused = |why: String| DiskError::NotExported { target: target.clone(), why };
            let file = match source {
                BackupSource::File(path) | BackupSource::Block(path) => path.clone(),
                BackupSource::Rbd(name) => {
                    return Err(refused(format!("{name} is read from its cluster by who needs it")));
                }
            };
            let top = Backing { file, format: format.clone() };
            let behind = chain::behind(tool, target, top.clone()).await;
            let behind = behind.map_err(|error| refused(error.to_string()))?;
            let mut node = opening(&top, &behind);
            node["node-name"] = json!(format!("export-{index}"));
            opened.extend(["--blockdev".to_owned(), node.to_string()]);
            let name = value(target);
            let of = format!("type=nbd,id=export-{index},node-name=export-{index},name={name},writable=off");
            exported.extend(["--export".to_owned(), of]);
        }
        let server = ["--nbd-server".to_owned(), address];
        let arguments = opened.into_iter().chain(server).chain(exported);
        Ok(HostCommand::new(&self.program, arguments, self.within))
    }

    /// Where a disk of them is read.
    pub fn uri(&self, target: &str) -> String {
        format!("nbd+unix:///{target}?socket={}", self.socket)
    }
}

/// An image with all that is behind it, read-only.
fn opening(image: &Backing, behind: &[Backing]) -> Value {
    let file = match SourceType::of_path(&image.file) {
        SourceType::Block => "host_device",
        _ => "file",
    };
    let mut node = json!({
        "driver": image.format,
        "read-only": true,
        "file": { "driver": file, "filename": image.file, "read-only": true },
    });
    match behind.split_first() {
        Some((next, rest)) => node["backing"] = opening(next, rest),
        None if image.format != "raw" => node["backing"] = Value::Null,
        None => {}
    }
    node
}

/// A value among options that commas part.
fn value(text: &str) -> String {
    text.replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_image_of_a_chain_is_opened_read_only_with_its_stated_format() {
        let image = |file: &str, format: &str| Backing { file: file.into(), format: format.into() };
        let node = opening(&image("/i/a.s1", "qcow2"), &[image("/dev/vg/a", "raw")]);
        assert_eq!(
            node,
            json!({
                "driver": "qcow2", "read-only": true,
                "file": { "driver": "file", "filename": "/i/a.s1", "read-only": true },
                "backing": {
                    "driver": "raw", "read-only": true,
                    "file": { "driver": "host_device", "filename": "/dev/vg/a", "read-only": true },
                },
            })
        );
        assert_eq!(opening(&image("/i/a", "qcow2"), &[])["backing"], Value::Null);
    }

    #[test]
    fn a_comma_in_a_path_begins_no_option() {
        assert_eq!(value("/run/a,addr.type=inet"), "/run/a,,addr.type=inet");
    }
}
