//! Lets the guest go.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Kind, Remains, freeze};
use crate::{env::Env, error::StepError, live::Live};

/// Thaws the guest's file systems, if [`super::Freeze`] has frozen them and nobody has thawed them here since.
///
/// A thaw that fails is tried again by itself, and what the guest says of it is told in the report: see
/// [`crate::agent::rest`].
///
/// Source: `guest-fsfreeze-thaw`; the agents of four releases, asked.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Thaw {}

impl Kind for Thaw {
    const ONLY_IN_QEMU: bool = true;

    fn lane(&self) -> String {
        "thaw".into()
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        Ok(live.rest().thaw().await?)
    }

    fn remains(&self) -> Remains {
        freeze::REMAINS.to_owned()
    }
}

impl fmt::Display for Thaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("thaw the guest's file systems")
    }
}
