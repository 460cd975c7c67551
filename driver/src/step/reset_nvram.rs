//! Makes the firmware's variables anew.

use std::{fmt, io};

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::{Begun, Kind, Remains, file_error, file_name};
use crate::{env::Env, error::StepError, live::Live};

/// The largest file of variables, in bytes: what QEMU's boards take of flash is far below.
const LARGEST: usize = 64 << 20;

/// Makes the firmware's variables anew from their template, while no machine has them. What they were is kept in a file beside
/// them until all is done, and put back from there where it is undone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResetNvram {
    /// What they are copied from, in the same format.
    pub template: Utf8PathBuf,
    /// Their file. It need not be there.
    pub file: Utf8PathBuf,
    /// Where they are kept meanwhile.
    pub kept: Utf8PathBuf,
}

/// What a file holds; nothing if it is not there.
async fn content<E: Env>(env: &E, path: &Utf8Path) -> io::Result<Option<Vec<u8>>> {
    match env.read_file(path, LARGEST).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

impl ResetNvram {
    async fn put_back<E: Env>(&self, env: &E) -> io::Result<()> {
        match content(env, &self.kept).await? {
            Some(old) => {
                env.replace_file(&self.file, &old).await?;
                env.remove_file(&self.kept).await
            }
            // There were none, or nothing was done; those that were made are what QEMU begins with.
            None => Ok(()),
        }
    }
}

impl Kind for ResetNvram {
    const UNDO: Option<&'static str> = Some("put back");

    fn lane(&self) -> String {
        "nvram".into()
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        let env = live.env();
        let new = env.read_file(&self.template, LARGEST).await.map_err(file_error("read", &self.template))?;
        let old = content(env, &self.file).await.map_err(file_error("read", &self.file))?;
        if let Some(old) = old {
            env.replace_file(&self.kept, &old).await.map_err(file_error("write", &self.kept))?;
        }
        env.replace_file(&self.file, &new).await.map_err(file_error("write", &self.file))
    }

    async fn undo_outside<E: Env>(&self, env: &E, _begun: Begun) -> Result<(), Remains> {
        self.put_back(env).await.map_err(|error| format!("{}: {error}", self.remains()))
    }

    fn remains(&self) -> Remains {
        format!(
            "the firmware's variables `{}` may have been made anew; what they were is in `{}`",
            self.file, self.kept
        )
    }
}

impl fmt::Display for ResetNvram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "make {} anew from {}", file_name(&self.file), file_name(&self.template))
    }
}
