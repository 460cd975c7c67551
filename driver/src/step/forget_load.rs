//! Removes what tells of a load.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Happened, Kind, Remains, is_open, mark_process::drop_mark};
use crate::{
    commands::{Command, SnapshotLoad},
    env::Env,
    error::StepError,
    job::{self, End},
    live::Live,
};

/// Removes what tells of a load: the mark in the process, and then the job. It comes behind the mark in the journal that the load is
/// done, and in this order, so that at no moment it looks as if the load had never begun.
///
/// Source: QEMU QAPI `job-dismiss`, `blockdev-del`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ForgetLoad {
    /// The mark, by its node.
    pub mark: String,
    /// The job.
    pub job: String,
}

impl ForgetLoad {
    pub(super) async fn forget<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        drop_mark(live, &self.mark).await?;
        job::settle(live, &self.job, SnapshotLoad::NAME).await.map(drop)
    }
}

impl Kind for ForgetLoad {
    const ONLY_IN_QEMU: bool = true;

    fn lane(&self) -> String {
        "forget".into()
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        self.forget(live).await
    }

    async fn probe<E: Env>(&self, live: &Live<E>) -> Result<Happened, StepError> {
        let is_there = is_open(live, &self.mark).await?
            || job::ended(live, &self.job, SnapshotLoad::NAME).await? != End::Absent;
        Ok(if is_there { Happened::No } else { Happened::Yes })
    }

    fn remains(&self) -> Remains {
        format!(
            "the node `{}` and the job `{}` may still be there: close the one with blockdev-del, and dismiss the other with job-dismiss",
            self.mark, self.job
        )
    }
}

impl fmt::Display for ForgetLoad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("dismiss the load's job")
    }
}
