//! Writes the description of a machine that is off anew.

use std::fmt;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use super::{Begun, Happened, Kind, Remains, file_error, file_name};
use crate::{domain_xml::DomainXml, env::Env, error::StepError, live::Live, xml::Limits};

/// Writes the description of a machine that is off into its file, whole and durably: from then on it is started from other images.
/// Undoing writes back what was there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WriteDocument {
    /// Its file.
    pub path: Utf8PathBuf,
    /// What it shall say.
    pub document: DomainXml,
    /// What it said.
    pub before: String,
}

impl WriteDocument {
    /// Does it, where there is no machine to do it beside.
    pub(crate) async fn write<E: Env>(&self, env: &E) -> Result<(), StepError> {
        let document = self.document.element().document();
        env.replace_file(&self.path, document.as_bytes()).await.map_err(file_error("write", &self.path))
    }
}

impl Kind for WriteDocument {
    const UNDO: Option<&'static str> = Some("write back");

    fn lane(&self) -> String {
        "document".into()
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        self.write(live.env()).await
    }

    async fn probe<E: Env>(&self, live: &Live<E>) -> Result<Happened, StepError> {
        let document = self.document.element().document();
        let held = live.env().read_file(&self.path, Limits::default().bytes).await;
        let held = held.map_err(file_error("read", &self.path))?;
        Ok(if held == document.as_bytes() { Happened::Yes } else { Happened::No })
    }

    async fn look_back<E: Env>(&self, live: &Live<E>) -> Result<Option<Begun>, Remains> {
        match self.probe(live).await {
            Ok(Happened::No) => Ok(None),
            _ => Ok(Some(Begun::Whole)),
        }
    }

    /// One that has failed may be in its place all the same: the host has not made that durable, say. What stands there tells.
    async fn undo_outside<E: Env>(&self, env: &E, begun: Begun) -> Result<(), Remains> {
        let held = env.read_file(&self.path, Limits::default().bytes).await;
        let written = self.document.element().document();
        if begun != Begun::Whole && held.is_ok_and(|held| held != written.as_bytes()) {
            return Ok(());
        }
        let back = env.replace_file(&self.path, self.before.as_bytes()).await;
        back.map_err(|error| format!("{}: {error}", self.remains()))
    }

    fn remains(&self) -> Remains {
        format!(
            "`{}` may not name the images that the machine is to be started from: look before it is started",
            self.path
        )
    }
}

impl fmt::Display for WriteDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "write {}", file_name(&self.path))
    }
}
