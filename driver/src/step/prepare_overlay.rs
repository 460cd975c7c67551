//! Writes an overlay image and opens it, ready to be put under a disk.

use std::fmt;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use super::{Begun, Happened, Kind, Remains, file_name};
use crate::{
    commands::{BlockdevAdd, BlockdevCreate, BlockdevDel, Command, CreateOptions, QueryNamedBlockNodes},
    env::Env,
    error::StepError,
    job,
    live::Live,
    qemu_img::Clusters,
};

/// Writes an overlay image into a reserved file and opens it without its backing file, ready to be put under a disk.
///
/// Source: QEMU QAPI `blockdev-add`, `blockdev-create`, and `blockdev-snapshot`, which wants an overlay without a
/// backing node; what libvirt sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PrepareOverlay {
    /// The disk that it is for.
    pub target: String,
    /// The id of the job that writes it.
    pub job: String,
    /// Its file, already reserved or there before.
    pub file: Utf8PathBuf,
    /// Whether that is a block device.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub device: bool,
    /// Whether the image is there already, and only opened.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reuse: bool,
    /// The protocol node.
    pub file_node: String,
    /// The format node.
    pub node: String,
    /// Bytes that the guest sees.
    pub size: u64,
    /// The image under it.
    pub backing_file: Utf8PathBuf,
    /// That image's format.
    pub backing_format: String,
    /// How it is laid out: as that image.
    #[serde(default, skip_serializing_if = "Clusters::are_qemus_own")]
    pub clusters: Clusters,
    /// How much memory QEMU may take for its tables, in bytes; none is QEMU's own choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata_cache: Option<u64>,
}

impl PrepareOverlay {
    async fn create<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        let options = CreateOptions::Qcow2 {
            file: &self.file_node,
            size: self.size,
            backing_file: self.backing_file.as_str(),
            backing_fmt: &self.backing_format,
            cluster_size: self.clusters.size,
            extended_l2: self.clusters.extended_l2,
        };
        job::run(live, &self.job, &BlockdevCreate { job_id: &self.job, options }).await
    }

    /// Closes what is open of it. The names are ours alone, and QEMU closes nothing that is in use.
    pub(crate) async fn close<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        job::remove(live, &self.job, BlockdevCreate::NAME).await?;
        for node in self.open_nodes(live).await? {
            live.ask(&BlockdevDel { node_name: node }).await?;
        }
        Ok(())
    }

    /// Those of its nodes that exist, the one that must be closed first in front.
    async fn open_nodes<'a, E: Env>(&'a self, live: &Live<E>) -> Result<Vec<&'a str>, StepError> {
        let nodes = live.ask(&QueryNamedBlockNodes { flat: true }).await?;
        let open = |name: &&str| nodes.iter().any(|node| node.node_name.as_deref() == Some(*name));
        Ok([self.node.as_str(), self.file_node.as_str()].into_iter().filter(open).collect())
    }
}

impl Kind for PrepareOverlay {
    const UNDO: Option<&'static str> = Some("drop nodes");
    const ONLY_IN_QEMU: bool = true;

    fn lane(&self) -> String {
        format!("overlay-{}", self.target)
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        let (node_name, filename) = (self.file_node.as_str(), self.file.as_str());
        let protocol = match self.device {
            true => BlockdevAdd::HostDevice { node_name, filename },
            false => BlockdevAdd::File { node_name, filename },
        };
        live.execute(&protocol).await?;
        if !self.reuse {
            self.create(live).await?;
        }
        live.execute(&BlockdevAdd::Qcow2 {
            node_name: &self.node,
            file: &self.file_node,
            backing: None,
            cache_size: self.metadata_cache,
        })
        .await?;
        Ok(())
    }

    /// The format node is the last thing made.
    async fn probe<E: Env>(&self, live: &Live<E>) -> Result<Happened, StepError> {
        let open = self.open_nodes(live).await?;
        Ok(if open.contains(&self.node.as_str()) { Happened::Yes } else { Happened::No })
    }

    /// Closes what is open. The names are ours alone, so whatever bears them is ours to close.
    async fn undo<E: Env>(
        &self,
        live: &Live<E>,
        _begun: Begun,
        _why: Option<&StepError>,
    ) -> Result<(), Remains> {
        self.close(live).await.map_err(|error| format!("{}: {error}", self.remains()))
    }

    fn remains(&self) -> Remains {
        let job = match self.reuse {
            true => String::new(),
            false => format!("the job `{}` may still be there: dismiss it with job-dismiss; ", self.job),
        };
        format!(
            "{job}nodes `{}` and `{}` may still be open: close them with blockdev-del",
            self.node, self.file_node
        )
    }
}

impl fmt::Display for PrepareOverlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "prepare overlay {} -> {}", self.target, file_name(&self.file))
    }
}
