//! In what the releases differ where a machine's state leaves or comes, and in the run states around it.

use std::time::Duration;

use crate::{Release, host::Unfit, qemu::QmpError};

/// Why a state was not loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unloadable {
    /// It is none.
    NoStream,
    /// It ends too early.
    Short,
    /// It was written with other capabilities.
    Capabilities,
    /// It is of other hardware.
    Unfit {
        /// What does not fit.
        unfit: Unfit,
        /// Memory of the machine that it is of, in bytes.
        saved: u64,
        /// Memory of the machine that it was to be loaded into, in bytes.
        here: u64,
    },
}

/// Texts.
impl Release {
    /// `migrate` to what no release knows.
    pub(crate) fn unknown_protocol(self, uri: &str) -> QmpError {
        QmpError::generic(if self.protocols_are_checked_first() {
            format!("unknown migration protocol: {uri}")
        } else {
            "Parameter 'uri' expects a valid migration protocol".into()
        })
    }

    /// `migrate-pause` of what is no postcopy.
    pub(crate) fn no_postcopy_to_pause(self) -> QmpError {
        QmpError::generic(match self {
            Release::V5_2 | Release::V7_2 => {
                "migrate-pause is currently only supported during postcopy-active state"
            }
            Release::V10_0 | Release::V11_1 => {
                "migrate-pause is currently only supported during postcopy-active or postcopy-recover state"
            }
        })
    }

    /// `migrate-incoming` on a machine that waits for no state.
    pub(crate) fn not_started_to_wait(self) -> QmpError {
        QmpError::generic(match self {
            Release::V5_2 => "For use with '-incoming defer'",
            _ => "'-incoming' was not specified on the command line",
        })
    }

    /// What `query-migrate` gives as the reason when the command at the other end of a pipe ends during the switchover.
    pub(crate) fn pipe_broke_at_the_switchover(self) -> Option<&'static str> {
        match self {
            Release::V5_2 | Release::V7_2 => None,
            Release::V10_0 => Some("Unable to write to command: Broken pipe"),
            Release::V11_1 => Some("Failed to flush QEMUFile: Unable to write to command: Broken pipe"),
        }
    }

    /// What `query-migrate` gives as the reason when a migration was cancelled while it waited before the switchover.
    pub(crate) fn cancelled_before_the_switchover(self) -> Option<&'static str> {
        match self {
            Release::V5_2 | Release::V7_2 => None,
            Release::V10_0 => Some("Channel error: Input/output error"),
            Release::V11_1 => Some("Switchover is interrupted"),
        }
    }

    /// The machine state did not fit on the host's disk.
    pub(crate) fn state_cut_short(self) -> &'static str {
        match self {
            Release::V5_2 => "Error while writing VM state: No space left on device",
            _ => "Error while writing VM state: Input/output error",
        }
    }

    /// Why a snapshot was not loaded.
    pub(crate) fn not_loaded(self, why: &Unloadable) -> String {
        match self {
            Release::V11_1 => detail_of_newest(why),
            _ if *why == Unloadable::Short => "Error -5 while loading VM state".into(),
            _ => "Error -22 while loading VM state".into(),
        }
    }

    /// What the human monitor shows before that: the details that are printed instead of returned.
    pub(crate) fn not_loaded_detail(self, why: &Unloadable) -> String {
        let printed = self < Release::V11_1;
        match why {
            Unloadable::NoStream if printed => "Not a migration stream\r\n".into(),
            Unloadable::Short if printed => "error while loading state section id 2(ram)\r\n".into(),
            Unloadable::Unfit { unfit: Unfit::Section(section), .. } if printed => {
                format!("Unknown savevm section or instance '{section}' 0. {MAKE_SURE}\r\n")
            }
            Unloadable::Unfit { unfit: Unfit::Memory, saved, here } => {
                let rest = if printed {
                    "error while loading state for instance 0x0 of device 'ram'\r\n"
                } else {
                    ""
                };
                format!("Size mismatch: pc.ram: {saved:#x} != {here:#x}: Invalid argument\r\n{rest}")
            }
            _ => String::new(),
        }
    }

    /// Why a state that was to come in was not loaded.
    pub(crate) fn not_taken_in(self, why: &Unloadable) -> String {
        let error = if *why == Unloadable::Short { "Input/output error" } else { "Invalid argument" };
        match self {
            Release::V11_1 => format!("load of migration failed: {error}: {}", detail_of_newest(why)),
            _ => format!("load of migration failed: {error}"),
        }
    }
}

const MAKE_SURE: &str =
    "Make sure that your current VM setup matches your saved VM setup, including any hotplugged devices";

fn detail_of_newest(why: &Unloadable) -> String {
    match why {
        Unloadable::NoStream => "Not a migration stream, magic: 0 != 5145564d".into(),
        Unloadable::Short => "Failed to load vmstate version_id: 4, ret: -5".into(),
        Unloadable::Capabilities => {
            "post load hook failed for: configuration, version_id: 1, minimum_version: 0: Failed to validate \
             capabilities"
                .into()
        }
        Unloadable::Unfit { unfit: Unfit::Memory, .. } => {
            "error while loading state for instance 0x0 of device \
             'ram': Failed to load vmstate version_id: 4, ret: -22"
                .into()
        }
        Unloadable::Unfit { unfit: Unfit::Section(section), .. } => {
            format!("Unknown section or instance '{section}' 0. {MAKE_SURE}")
        }
    }
}

/// Order.
impl Release {
    /// `migrate` looks at its target before it says `setup`.
    pub(crate) fn protocols_are_checked_first(self) -> bool {
        self >= Release::V10_0
    }

    /// `MIGRATION_PASS` comes at the beginning of each pass over the memory, and before `active` for the first. Later only
    /// the passes that follow are told.
    pub(crate) fn every_pass_is_told(self) -> bool {
        self <= Release::V10_0
    }

    /// The status `device` is told by every migration, not by those alone that waited before the switchover.
    pub(crate) fn every_switchover_is_told(self) -> bool {
        self >= Release::V10_0
    }

    /// The status `failing` is told before `failed`, and the guest goes on between the two.
    pub(crate) fn failing_is_told(self) -> bool {
        self >= Release::V11_1
    }
}

/// Behaviour.
impl Release {
    /// `stop` stops a guest that sleeps, too.
    pub(crate) fn sleeping_guests_are_stopped(self) -> bool {
        self >= Release::V10_0
    }

    /// A machine whose state has left may be migrated again.
    pub(crate) fn a_state_may_leave_twice(self) -> bool {
        self == Release::V5_2
    }

    /// Images that were given away are not given away a second time: QEMU aborts over it.
    pub(crate) fn giving_images_away_twice_aborts(self) -> bool {
        self <= Release::V7_2
    }

    /// QEMU aborts over saving a machine into images that were given away; later it refuses to.
    pub(crate) fn writing_given_images_aborts(self) -> bool {
        self == Release::V5_2
    }

    /// A machine that waits for a state does not use its images before.
    pub(crate) fn waiting_machines_hold_no_images(self) -> bool {
        self >= Release::V10_0
    }

    /// A guest that did not run is as before when the switchover fails.
    pub(crate) fn a_failed_switchover_restores_the_state(self) -> bool {
        self >= Release::V10_0
    }

    /// A background snapshot lets the guest run, even one that did not run before.
    pub(crate) fn background_snapshots_start_the_guest(self) -> bool {
        self == Release::V7_2
    }

    /// A descriptor of a plain file is refused, as a target and as a source.
    pub(crate) fn plain_files_are_no_descriptors(self) -> bool {
        self >= Release::V11_1
    }

    /// An incoming migration says `setup` even to who has not asked for its events.
    pub(crate) fn incoming_setup_is_always_told(self) -> bool {
        self < Release::V10_0
    }

    /// The state of an incoming migration is `setup` from the command on.
    pub(crate) fn incoming_setup_is_kept(self) -> bool {
        self >= Release::V10_0
    }

    /// A panic is told a second time when it ends QEMU.
    pub(crate) fn a_fatal_panic_is_told_twice(self) -> bool {
        self == Release::V5_2
    }
}

/// Shape of replies.
impl Release {
    /// `query-migrate` tells how much remains beside what it tells of the memory.
    pub(crate) fn migrations_tell_what_remains(self) -> bool {
        self >= Release::V11_1
    }

    /// `query-migrate` has `skipped` pages.
    pub(crate) fn memory_has_skipped_pages(self) -> bool {
        self <= Release::V7_2
    }

    /// `query-migrate` counts the bytes of each phase.
    pub(crate) fn memory_is_counted_by_phase(self) -> bool {
        self >= Release::V7_2
    }

    /// Levels of compression that `migrate-set-parameters` takes and forgets.
    pub(crate) fn compression_levels_are_forgotten(self) -> bool {
        self <= Release::V7_2
    }

    /// How long an idle machine's memory takes at most, however little may be sent in a second: from 10.0 on pages of
    /// zeroes are not held back, about 15 MiB of them go out every 100 ms. 0.7 s were seen for 64 MiB at 32 to 300 kB/s,
    /// 2 s for 256 MiB; 7.2 took 8.4 s at 64 kB/s. Nothing if only the bandwidth decides.
    pub(crate) fn slowest_migration(self, memory: u64) -> Option<Duration> {
        (self >= Release::V10_0).then(|| Duration::from_millis(270 + memory / 155_000))
    }

    /// Pages that are not empty in an idle machine whose firmware has run.
    pub(crate) fn pages_in_use(self) -> u64 {
        match self {
            Release::V5_2 => 124,
            Release::V7_2 => 127,
            Release::V10_0 => 129,
            Release::V11_1 => 123,
        }
    }

    /// What a migration that is held to a few bytes a second sends each second tenth of a second: pages that are empty,
    /// and others.
    pub(crate) fn slowest_pages(self) -> (u64, u64) {
        match self {
            Release::V5_2 | Release::V7_2 => (157, 4),
            Release::V10_0 => (3860, 34),
            Release::V11_1 => (3864, 32),
        }
    }
}
