//! `query-jobs` and `query-block-jobs`: jobs as QEMU shows them, newest first.

use std::time::Duration;

use super::{JobStatus, Jobs};
use crate::{
    Release,
    qobject::{QObject, key, qdict},
};

impl Jobs {
    /// The reply to `query-jobs`.
    pub(crate) fn query(&self, now: Duration) -> QObject {
        self.newest_first()
            .map(|job| {
                let (current, total) = job.progress(now);
                let mut info = qdict! {
                    "id": job.id.clone(),
                    "type": job.kind,
                    "status": job.status.name(),
                    "current-progress": current,
                    "total-progress": total,
                };
                if let Some(error) = &job.error {
                    info.put(key!("error"), error.clone());
                }
                info.into()
            })
            .collect()
    }

    /// The reply to `query-block-jobs`.
    pub(crate) fn query_block(&self, now: Duration, release: Release) -> QObject {
        self.newest_first()
            .filter_map(|job| {
                let block = job.block.as_ref()?;
                let (current, total) = job.progress(now);
                // The source of a job that is in step with it stays drained until the job is finalized.
                let drained = job.status == JobStatus::Pending && block.keeps_in_step;
                let rests = matches!(job.status, JobStatus::Paused | JobStatus::Standby);
                let mut info = qdict! {
                    "type": job.kind,
                    "device": job.id.clone(),
                    "len": total,
                    "offset": current,
                    "busy": job.status == JobStatus::Running && block.speed == 0 && !block.endless,
                    "paused": rests || drained || job.paused_by_user,
                    "speed": block.speed,
                    "io-status": block.io_status,
                    "ready": matches!(job.status, JobStatus::Ready | JobStatus::Standby),
                    "status": job.status.name(),
                    "auto-finalize": job.auto_finalize,
                    "auto-dismiss": job.auto_dismiss,
                };
                if job.kind == "mirror" && release.mirrors_tell_whether_in_step() {
                    let ready = matches!(job.status, JobStatus::Ready | JobStatus::Standby);
                    info.put(key!("actively-synced"), block.write_blocking && ready);
                }
                if let Some(error) = &job.error {
                    info.put(key!("error"), error.clone());
                }
                Some(info.into())
            })
            .collect()
    }
}
