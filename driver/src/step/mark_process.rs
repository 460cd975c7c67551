//! Leaves a mark in the QEMU process.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Begun, Happened, Kind, Remains, is_open};
use crate::{
    commands::{BlockdevAdd, BlockdevDel},
    env::Env,
    error::StepError,
    live::Live,
};

/// Leaves a mark in the QEMU process: a node that holds nothing and that nobody may write to. It is gone with the process, so that who
/// finds it knows that it is the same one, and that what is not there was never begun there.
///
/// Source: QEMU QAPI `blockdev-add`, `null-co`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MarkProcess {
    /// The node's name.
    pub node: String,
}

impl Kind for MarkProcess {
    const UNDO: Option<&'static str> = Some("drop the mark");
    const ONLY_IN_QEMU: bool = true;

    fn lane(&self) -> String {
        "mark".into()
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        live.execute(&BlockdevAdd::Null { node_name: &self.node, read_only: true }).await?;
        Ok(())
    }

    async fn probe<E: Env>(&self, live: &Live<E>) -> Result<Happened, StepError> {
        Ok(if is_open(live, &self.node).await? { Happened::Yes } else { Happened::No })
    }

    async fn undo<E: Env>(
        &self,
        live: &Live<E>,
        _begun: Begun,
        _why: Option<&StepError>,
    ) -> Result<(), Remains> {
        drop_mark(live, &self.node).await.map_err(|error| format!("{}: {error}", self.remains()))
    }

    fn remains(&self) -> Remains {
        format!(
            "the node `{}`, which holds nothing, may still be open: close it with blockdev-del",
            self.node
        )
    }
}

impl fmt::Display for MarkProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("mark the process")
    }
}

/// Removes a mark, if it is there.
pub(super) async fn drop_mark<E: Env>(live: &Live<E>, node: &str) -> Result<(), StepError> {
    if is_open(live, node).await? {
        live.ask(&BlockdevDel { node_name: node }).await?;
    }
    Ok(())
}
