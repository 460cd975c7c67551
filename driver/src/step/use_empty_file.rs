//! Takes an empty file of the caller's for an overlay.

use std::fmt;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use super::{Begun, Kind, Remains, file_name};
use crate::{
    env::{Access, Env, OpenFile},
    error::StepError,
    live::Live,
};

/// Takes a file that the caller has made, and that is empty. There is nothing to do for it, but to empty it again when the
/// snapshot is not taken: a file that holds an overlay would be refused the next time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UseEmptyFile {
    /// Which.
    pub path: Utf8PathBuf,
}

impl Kind for UseEmptyFile {
    const UNDO: Option<&'static str> = Some("empty");

    fn lane(&self) -> String {
        format!("empty-{}", file_name(&self.path))
    }

    async fn act<E: Env>(&self, _live: &Live<E>) -> Result<(), StepError> {
        Ok(())
    }

    /// What writes to it comes behind: nothing in it is of this operation.
    async fn look_back<E: Env>(&self, _live: &Live<E>) -> Result<Option<Begun>, Remains> {
        Ok(None)
    }

    async fn undo_outside<E: Env>(&self, env: &E, _begun: Begun) -> Result<(), Remains> {
        let emptied = async {
            let file = env.open(&self.path, Access::Write).await?;
            file.set_length(0).await
        };
        emptied.await.map_err(|error: std::io::Error| format!("{}: {error}", self.remains()))
    }

    fn remains(&self) -> Remains {
        format!("the file `{}`, which was empty, holds an unused overlay: empty it", self.path)
    }
}

impl fmt::Display for UseEmptyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "use the empty file {}", file_name(&self.path))
    }
}
