//! What a snapshot of disks holds, served as NBD for a backup program to read, read-only: by a program of its own for as long as
//! that runs, or by the QEMU of the machine ([`live`]).
//!
//! ```text
//! backup source -> its chain, each format as stated -> one --blockdev and one --export each -> nbd+unix:///vda?socket=...
//!                                    inside an image -> qemu-nbd --load-snapshot
//! ```
//! No QEMU of a machine has a part in what a program serves, so that nothing of it can be left there. It opens what nobody writes
//! any more: the storage's snapshot, the image below an overlay, or what an image that nobody has open holds under a name. What is
//! in an image is never asked for its format.
//!
//! Source: qemu-storage-daemon(1), qemu-nbd(1), QEMU QAPI `BlockdevOptionsRbd`.

pub mod live;

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Value, json};

use super::DiskError;
use crate::{
    domain_snapshot::SourceType,
    env::{Env, HostCommand},
    launch::{LaunchError, chain},
    mark,
    name::SnapshotName,
    qemu_img::{Backing, QemuImg},
    storage::BackupSource,
    xml::Element,
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
    /// What is behind it, where that is not what its header says.
    pub behind: Option<Vec<Backing>>,
    /// The snapshot inside that image; none if the image is the snapshot.
    pub tag: Option<SnapshotName>,
    /// Where the cluster is that has it, where one does.
    pub cluster: Cluster,
}

/// A Ceph cluster, as the machine's document and its `<diskSnapshot>` tell of it. What is not said there, Ceph's own settings say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cluster {
    /// Its monitors: each host with its port.
    pub hosts: Vec<(String, String)>,
    /// Who asks it.
    pub user: Option<String>,
    /// Its `ceph.conf`.
    pub settings: Option<String>,
}

impl Cluster {
    /// That of a `<disk>`.
    pub(super) fn of(disk: &Element, settings: Option<&str>) -> Self {
        let source = disk.child("source");
        let hosts = source.into_iter().flat_map(Element::elements).filter(|element| element.name == "host");
        let host = |host: &Element| {
            let port = host.attribute("port").unwrap_or("6789").to_owned();
            Some((host.attribute("name")?.to_owned(), port))
        };
        let auth = source.and_then(|source| source.child("auth")).or_else(|| disk.child("auth"));
        Self {
            hosts: hosts.filter_map(host).collect(),
            user: auth.and_then(|auth| auth.attribute("username")).map(str::to_owned),
            settings: settings.map(str::to_owned),
        }
    }
}

/// How it is served by a program of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// `qemu-storage-daemon`.
    pub daemon: Utf8PathBuf,
    /// `qemu-nbd`, which alone can read what is inside an image under a name.
    pub nbd: Utf8PathBuf,
    /// Where it is to listen; nothing may be there.
    pub socket: Utf8PathBuf,
    /// How long.
    pub within: Duration,
}

impl Export {
    /// The program that serves these. It serves until it is killed, which its time does too.
    ///
    /// # Errors
    /// [`DiskError::NotExported`]: one of them cannot be served.
    pub async fn command<E: Env>(
        &self,
        tool: &QemuImg<E>,
        readable: &[Readable],
    ) -> Result<HostCommand, DiskError> {
        let mut opened = Vec::new();
        for disk in readable {
            opened.push(node(tool, disk).await?);
        }
        match (readable, opened.as_slice()) {
            ([Readable { target, tag: Some(tag), .. }], [node]) => Ok(self.by_nbd(target, tag, node)),
            _ => match readable.iter().find(|disk| disk.tag.is_some()) {
                Some(disk) => {
                    let why = "what is inside an image is exported disk by disk: name this one alone";
                    Err(DiskError::NotExported { target: disk.target.clone(), why: why.to_owned() })
                }
                None => Ok(self.by_daemon(readable, opened)),
            },
        }
    }

    fn by_daemon(&self, readable: &[Readable], opened: Vec<Value>) -> HostCommand {
        let nodes = opened.into_iter().enumerate().flat_map(|(index, mut node)| {
            node["node-name"] = json!(format!("export-{index}"));
            ["--blockdev".to_owned(), node.to_string()]
        });
        let address = format!("addr.type=unix,addr.path={}", value(self.socket.as_str()));
        let server = ["--nbd-server".to_owned(), address];
        let exports = readable.iter().enumerate().flat_map(|(index, disk)| {
            let name = value(&disk.target);
            let of = format!("type=nbd,id=export-{index},node-name=export-{index},name={name},writable=off");
            ["--export".to_owned(), of]
        });
        HostCommand::new(&self.daemon, nodes.chain(server).chain(exports), self.within)
    }

    fn by_nbd(&self, target: &str, tag: &SnapshotName, node: &Value) -> HostCommand {
        let arguments = [
            "--read-only".to_owned(),
            // As many clients as come, one after the other or at once.
            "--persistent".to_owned(),
            "--shared=0".to_owned(),
            format!("--socket={}", self.socket),
            format!("--export-name={target}"),
            format!("--load-snapshot=snapshot.name={}", value(tag.as_str())),
            format!("json:{node}"),
        ];
        HostCommand::new(&self.nbd, arguments, self.within)
    }
}

/// Where a disk is read that is served at a socket.
pub fn uri(target: &str, socket: &Utf8Path) -> String {
    format!("nbd+unix:///{target}?socket={socket}")
}

/// How a disk of a snapshot is opened, with all that is behind it.
async fn node<E: Env>(tool: &QemuImg<E>, disk: &Readable) -> Result<Value, DiskError> {
    let Readable { target, source, format, behind, tag, cluster } = disk;
    let refused = |why: String| DiskError::NotExported { target: target.clone(), why };
    let file = match source {
        BackupSource::File(path) | BackupSource::Block(path) => path.clone(),
        BackupSource::Rbd(name) if format == "raw" => {
            let image = rbd(name, cluster);
            return image.ok_or_else(|| refused(format!("`{name}` names no snapshot of an image")));
        }
        BackupSource::Rbd(name) => {
            return Err(refused(format!("{name} is {format} in an RBD image, whose chain nobody knows")));
        }
    };
    let top = Backing { file, format: format.clone() };
    if let Some(behind) = behind {
        return Ok(opening(&top, behind));
    }
    let behind = chain::behind(tool, target, top.clone()).await.map_err(|error| match (tag, &error) {
        (Some(tag), LaunchError::Images { source, .. }) if source.is_locked() => refused(format!(
            "{tag} is inside an image that somebody writes to: read it when the machine is off, or take a snapshot in an overlay, \
             which is read at any time ({source})"
        )),
        _ => refused(mark::told(&error)),
    })?;
    Ok(opening(&top, &behind))
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

/// A snapshot of an RBD image, `pool/image@snapshot` or `pool/namespace/image@snapshot`, read-only.
fn rbd(name: &str, cluster: &Cluster) -> Option<Value> {
    let (place, snapshot) = name.split_once('@')?;
    let (above, image) = place.rsplit_once('/')?;
    let (pool, namespace) = match above.split_once('/') {
        Some((pool, namespace)) => (pool, Some(namespace)),
        None => (above, None),
    };
    let mut file =
        json!({ "driver": "rbd", "pool": pool, "image": image, "snapshot": snapshot, "read-only": true });
    let said =
        [("namespace", namespace), ("user", cluster.user.as_deref()), ("conf", cluster.settings.as_deref())];
    for (key, value) in said {
        if let Some(value) = value {
            file[key] = json!(value);
        }
    }
    if !cluster.hosts.is_empty() {
        let server = cluster.hosts.iter().map(|(host, port)| json!({ "host": host, "port": port }));
        file["server"] = server.collect();
    }
    Some(json!({ "driver": "raw", "read-only": true, "file": file }))
}

/// A value among options that commas part.
fn value(text: &str) -> String {
    text.replace(',', ",,")
}

#[cfg(test)]
mod tests;
