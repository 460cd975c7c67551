//! What a step calls the nodes that it works on.

use serde::{Deserialize, Serialize};

use crate::{
    commands::{BlockNode, QueryNamedBlockNodes},
    env::Env,
    error::StepError,
    live::Live,
    observed::file_of,
};

/// What a step calls the nodes that it works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Naming {
    /// As QEMU does.
    #[default]
    Nodes,
    /// By the files of their qcow2 images. A program starts the machine, and what the nodes are called there is asked when the step's
    /// turn comes.
    Files,
}

impl Naming {
    /// Whether it is QEMU's own, of which no journal needs a word.
    pub(super) fn is_qemus(&self) -> bool {
        *self == Naming::Nodes
    }

    /// What QEMU calls them.
    ///
    /// # Errors
    /// [`StepError::NotOpen`]: an image is open in no node, or in several. [`StepError::Command`].
    pub(super) async fn nodes<E: Env>(
        self,
        live: &Live<E>,
        called: &[String],
    ) -> Result<Vec<String>, StepError> {
        if self.is_qemus() {
            return Ok(called.to_vec());
        }
        let all = live.ask(&QueryNamedBlockNodes { flat: true }).await?;
        let node = |file: &String| {
            let has_it = |node: &&BlockNode| node.drv == "qcow2" && file_of(&node.image.filename) == *file;
            let mut found = all.iter().filter(has_it);
            match (found.next().and_then(|node| node.node_name.clone()), found.next()) {
                (Some(name), None) => Ok(name),
                _ => Err(StepError::NotOpen(file.into())),
            }
        };
        called.iter().map(node).collect()
    }
}
