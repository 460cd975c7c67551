//! How everything must be after the last step.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Deserialize;

use super::forms::FileName;

/// How everything must be after the last step. What is not named is not compared, but for `jobs` and
/// `nodes`: none of either may be left unless it is named.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Expect {
    /// How the guest stands: a run state of QEMU, or gone.
    #[serde(default)]
    pub guest: Option<GuestState>,
    /// For a disk, the files of its backing chain, base first, the one that the guest writes to last.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Vec<FileName>>")]
    pub chain: BTreeMap<String, Vec<String>>,
    /// For a disk, the names of the internal snapshots in the image that the guest writes to, oldest first.
    #[serde(default)]
    pub internal: BTreeMap<String, Vec<String>>,
    /// All the files of the machine's folder, in any order.
    #[serde(default)]
    #[schemars(with = "Option<BTreeSet<FileName>>")]
    pub files: Option<BTreeSet<String>>,
    /// The names of all snapshots that are recorded, in any order.
    #[serde(default)]
    pub records: Option<BTreeSet<String>>,
    /// The name of the snapshot that is recorded as the current one.
    #[serde(default)]
    pub current: Option<String>,
    /// For a recorded snapshot, words that stand in its record, as they are written there.
    #[serde(default)]
    pub record_holds: BTreeMap<String, Vec<String>>,
    /// Whether the guest was at rest for the last snapshot that was taken, as the driver tells.
    #[serde(default)]
    pub quiesced: Option<Quiesced>,
    /// Whether the steps leave file systems of the guest frozen on purpose. Default: false.
    #[serde(default)]
    pub frozen: bool,
    /// Jobs that the steps leave on purpose, by id. Default: none.
    #[serde(default)]
    pub jobs: BTreeSet<String>,
    /// Block nodes that the steps leave on purpose, by node name. Default: none.
    #[serde(default)]
    pub nodes: BTreeSet<String>,
}

/// Whether a guest was at rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Quiesced {
    /// It was.
    Yes,
    /// It was not.
    No,
    /// The driver does not know, and says so.
    Unknown,
}

/// How the guest stands: QEMU's `RunState` (QAPI `run-state.json`), or `gone`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GuestState {
    /// The guest runs.
    Running,
    /// A client stopped it.
    Paused,
    /// It has not run yet: QEMU was started with `-S`.
    Prelaunch,
    /// Its state is being, or was being, restored from a snapshot.
    RestoreVm,
    /// Its state is being saved to a snapshot.
    SaveVm,
    /// An I/O error stopped it.
    IoError,
    /// It waits for an incoming migration.
    Inmigrate,
    /// It was migrated away.
    Postmigrate,
    /// Its migration is being finished.
    FinishMigrate,
    /// QEMU failed and cannot go on.
    InternalError,
    /// A debugger stopped it.
    Debug,
    /// It shut down, QEMU still runs.
    Shutdown,
    /// It sleeps (S3).
    Suspended,
    /// Its watchdog stopped it.
    Watchdog,
    /// It panicked.
    GuestPanicked,
    /// It is held by COLO replication.
    Colo,
    /// There is no QEMU any more.
    Gone,
}

impl GuestState {
    /// The word that QEMU has for it, or `gone`.
    pub fn name(self) -> &'static str {
        match self {
            GuestState::Running => "running",
            GuestState::Paused => "paused",
            GuestState::Prelaunch => "prelaunch",
            GuestState::RestoreVm => "restore-vm",
            GuestState::SaveVm => "save-vm",
            GuestState::IoError => "io-error",
            GuestState::Inmigrate => "inmigrate",
            GuestState::Postmigrate => "postmigrate",
            GuestState::FinishMigrate => "finish-migrate",
            GuestState::InternalError => "internal-error",
            GuestState::Debug => "debug",
            GuestState::Shutdown => "shutdown",
            GuestState::Suspended => "suspended",
            GuestState::Watchdog => "watchdog",
            GuestState::GuestPanicked => "guest-panicked",
            GuestState::Colo => "colo",
            GuestState::Gone => "gone",
        }
    }
}
