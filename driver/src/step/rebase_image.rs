//! Copies into an image that no machine uses what the one below it holds, and bases it on what is below that.

use std::fmt;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use super::{Begun, Kind, Remains, create_overlay::tool, file_name};
use crate::{env::Env, error::StepError, live::Live, qemu_img::Backing};

/// Copies into an image that no machine uses what the one below it holds, and bases it on what is below that, or on nothing, by
/// `qemu-img`.
///
/// Nothing but the image is written to, and it reads the same at every moment: what ends this half way has done no harm, and
/// there is nothing to be undone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RebaseImage {
    /// `qemu-img`.
    pub program: Utf8PathBuf,
    /// The disk.
    pub target: String,
    /// The image.
    pub file: Utf8PathBuf,
    /// What it is based on then: file and format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<(Utf8PathBuf, String)>,
}

impl Kind for RebaseImage {
    fn lane(&self) -> String {
        format!("rebase-{}", file_name(&self.file))
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        let base = self.base.clone().map(|(file, format)| Backing { file, format });
        tool(live, &self.program).rebase(&self.file, base.as_ref()).await.map_err(StepError::Tool)
    }

    async fn undo_outside<E: Env>(&self, _env: &E, _begun: Begun) -> Result<(), Remains> {
        Ok(())
    }

    fn remains(&self) -> Remains {
        format!("`{}` shows what it showed, and may take more room", self.file)
    }
}

impl fmt::Display for RebaseImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.base {
            Some((base, _)) => write!(f, "base {} on {}", file_name(&self.file), file_name(base)),
            None => write!(f, "base {} on nothing", file_name(&self.file)),
        }
    }
}
