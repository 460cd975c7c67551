//! The states of a job, which may follow which, and which verbs each accepts: QEMU's two tables.

/// QAPI's `JobStatus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobStatus {
    /// Before it was created; never seen.
    Undefined,
    /// It exists.
    Created,
    /// It works.
    Running,
    /// It rests, by a client's wish or because its nodes are drained.
    Paused,
    /// It waits for `job-complete`, in step with its source.
    Ready,
    /// Ready, and resting.
    Standby,
    /// It is done, others of its transaction are not.
    Waiting,
    /// All are done; `job-finalize` is next.
    Pending,
    /// It failed or was cancelled, and cleans up.
    Aborting,
    /// It has ended; only its record is left.
    Concluded,
    /// It is forgotten.
    Null,
}

impl JobStatus {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            JobStatus::Undefined => "undefined",
            JobStatus::Created => "created",
            JobStatus::Running => "running",
            JobStatus::Paused => "paused",
            JobStatus::Ready => "ready",
            JobStatus::Standby => "standby",
            JobStatus::Waiting => "waiting",
            JobStatus::Pending => "pending",
            JobStatus::Aborting => "aborting",
            JobStatus::Concluded => "concluded",
            JobStatus::Null => "null",
        }
    }

    /// Whether it has not ended.
    pub fn is_alive(self) -> bool {
        !matches!(self, JobStatus::Concluded | JobStatus::Null)
    }

    /// Whether a job may go from here to there in one step.
    pub fn may_become(self, next: JobStatus) -> bool {
        use JobStatus::*;
        matches!(
            (self, next),
            (Undefined, Created)
                | (Created, Running | Aborting | Null)
                | (Running, Paused | Ready | Waiting | Aborting)
                | (Paused, Running)
                | (Ready, Standby | Waiting | Aborting)
                | (Standby, Ready)
                | (Waiting, Pending | Aborting)
                | (Pending, Aborting | Concluded)
                | (Aborting, Aborting | Concluded)
                | (Concluded, Null)
        )
    }

    /// Whether a client may ask this of a job that stands here.
    pub fn accepts(self, verb: Verb) -> bool {
        use JobStatus::*;
        match verb {
            Verb::Cancel => matches!(self, Created | Running | Paused | Ready | Standby | Waiting | Pending),
            Verb::Pause | Verb::Resume | Verb::SetSpeed | Verb::Change => {
                matches!(self, Created | Running | Paused | Ready | Standby)
            }
            Verb::Complete => matches!(self, Ready | Standby),
            Verb::Finalize => self == Pending,
            Verb::Dismiss => self == Concluded,
        }
    }
}

/// What a client may ask of a job, by QAPI's `JobVerb`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// `job-cancel`: always by force.
    Cancel,
    /// `job-pause`.
    Pause,
    /// `job-resume`.
    Resume,
    /// `job-complete`.
    Complete,
    /// `job-finalize`.
    Finalize,
    /// `job-dismiss`.
    Dismiss,
    /// `block-job-set-speed`.
    SetSpeed,
    /// `block-job-change`.
    Change,
}

impl Verb {
    /// The name in QEMU's texts.
    pub fn name(self) -> &'static str {
        match self {
            Verb::Cancel => "cancel",
            Verb::Pause => "pause",
            Verb::Resume => "resume",
            Verb::Complete => "complete",
            Verb::Finalize => "finalize",
            Verb::Dismiss => "dismiss",
            Verb::SetSpeed => "set-speed",
            Verb::Change => "change",
        }
    }
}
