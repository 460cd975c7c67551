//! Closes an image that no chain uses any more and removes its file.

use std::fmt;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use super::{
    Happened, KeepImage, Kind, Remains, end_commit::out_of_every_chain, file_name, remove_file::remove_image,
};
use crate::{
    commands::{BlockNode, BlockdevDel, QueryNamedBlockNodes},
    env::{Env, FileKind},
    error::StepError,
    kept::{KeptFile, WhyKept},
    live::Live,
    observed::file_of,
};

/// Closes an image that no chain uses any more and removes its file. A file that is not there is removed already.
///
/// QEMU has the last word: it refuses to close what is in use, and what is open is not removed, be it in another process. What was open
/// in one that has ended went with it.
///
/// Source: QEMU QAPI `blockdev-del`; what libvirt sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RemoveImage {
    /// Its file.
    pub file: Utf8PathBuf,
    /// Whether that is a block device, which stays.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub device: bool,
    /// Whether it is an overlay that the guest wrote to and that was merged before, by an operation that was broken off. It is removed by the
    /// QEMU alone that has it open since: the machine may have been started in it by another one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub merged_before: bool,
}

impl RemoveImage {
    /// Whether a node has it open.
    pub(crate) async fn is_open<E: Env>(&self, live: &Live<E>) -> Result<bool, StepError> {
        Ok(self.outermost(live).await?.is_some())
    }

    /// The node that has the file open and is to be closed next: those of the format in front of the file's own, which QEMU
    /// may close together with them.
    async fn outermost<E: Env>(&self, live: &Live<E>) -> Result<Option<String>, StepError> {
        let nodes = live.execute(&QueryNamedBlockNodes { flat: true }).await?;
        let opens = |node: &&BlockNode| file_of(&node.image.filename) == self.file;
        let node = nodes.iter().filter(opens).min_by_key(|node| node.is_protocol());
        Ok(node.and_then(|node| node.node_name.clone()))
    }
}

impl Kind for RemoveImage {
    fn lane(&self) -> String {
        format!("remove-{}", file_name(&self.file))
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        if self.merged_before && (live.is_gone() || !self.is_open(live).await?) {
            let keep = KeepImage { file: self.file.clone(), why: WhyKept::MayHaveRun };
            return keep.act(live).await;
        }
        while !live.is_gone()
            && let Some(node_name) = self.outermost(live).await?
        {
            let closed = live.execute(&BlockdevDel { node_name: &node_name }).await;
            if closed.is_err() && matches!(out_of_every_chain(live, &self.file).await, Ok(Happened::No)) {
                let failed =
                    vec![format!("`{}` is in the chain of a disk of the machine, and is kept", self.file)];
                return Err(StepError::DoneButFor { failed });
            }
            closed?;
        }
        if self.device {
            return Ok(());
        }
        remove_image(live, &self.file).await
    }

    async fn probe<E: Env>(&self, live: &Live<E>) -> Result<Happened, StepError> {
        let gone = self.device || matches!(live.env().file_kind(&self.file).await, Ok(FileKind::Absent));
        let closed = self.outermost(live).await?.is_none();
        Ok(if gone && closed { Happened::Yes } else { Happened::No })
    }

    fn remains(&self) -> Remains {
        match self.device {
            _ if self.merged_before => {
                KeptFile { file: self.file.clone(), why: WhyKept::MayHaveRun }.to_string()
            }
            true => format!(
                "`{}` is not in use any more and may still be open: close it with blockdev-del",
                self.file
            ),
            false => format!("`{}` is not in use any more and may still be there: remove it", self.file),
        }
    }
}

impl fmt::Display for RemoveImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "remove {}", file_name(&self.file))
    }
}
