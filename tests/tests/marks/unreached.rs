//! The ways to fail that no scenario takes, and why not.

/// Ways that no scenario takes, for one reason.
pub(crate) struct Unreached {
    /// Their marks; `BadXml::*` is every one of that enum.
    pub(crate) marks: &'static [&'static str],
    /// Why not.
    pub(crate) why: &'static str,
    /// The test that takes one of them, `file::name`, if one does.
    pub(crate) test: &'static str,
}

const fn of(marks: &'static [&'static str], why: &'static str, test: &'static str) -> Unreached {
    Unreached { marks, why, test }
}

/// No scenario can reach these: the language has no words for what would lead there, on purpose or for want of need.
pub(crate) const CANNOT: &[Unreached] = &[
    // The command line's, of documents and words that a scenario has none of.
    of(
        &["BadRedefinition::*"],
        "a scenario hands in no record: `redefine` is the command line's",
        "driver/src/tree/tests.rs::a_record_that_does_not_fit_changes_nothing",
    ),
    of(
        &["BadHandOver::*"],
        "a scenario has one host, and records go nowhere",
        "tests/tests/cli/snapshot_hand_over.rs::records_are_not_handed_over_where_something_would_be_lost",
    ),
    of(
        &["Refusal::AnotherMachine", "Refusal::AnotherDescription"],
        "whose machine answers is looked at where a description is handed in, on the command line",
        "tests/tests/identity.rs::a_machine_of_another_uuid_is_left_alone",
    ),
    of(
        &["BadSnapshot::RelativeMemoryFile"],
        "a snapshot's file for its memory is one of the machine's folder; of a record it is not asked",
        "",
    ),
    of(
        &["BadSaveImage::Nul", "BadSaveImage::Long", "Refusal::SaveImage"],
        "no machine of the language has a document that could not be saved",
        "driver/src/save_image/tests.rs::what_could_not_be_read_is_not_written",
    ),
    of(
        &["BadXml::TooLong", "BadXml::TooMany"],
        "a scenario of many MiB",
        "driver/src/xml/tests.rs::every_dimension_has_its_bound",
    ),
    of(
        &["Refusal::NoSuchDisk", "Refusal::NoImage"],
        "a scenario that names a disk that there is not has a mistake",
        "driver/src/plan/tests.rs::what_must_not_or_cannot_be_done_is_refused_before_anything_is_sent",
    ),
    of(
        &["Refusal::TooManyDisks", "Refusal::DiskTwice", "DiskError::UnknownDisk", "DiskError::NoDisk"],
        "a scenario names each of the machine's disks once",
        "",
    ),
    of(
        &["Refusal::BadMemoryPath", "Refusal::BadOverlayPath", "Refusal::MemoryWithoutFile"],
        "a scenario's files are names in the machine's folder",
        "driver/src/plan/tests.rs::a_file_for_memory_is_one_that_can_hold_it",
    ),
    of(
        &["Refusal::OverlayType", "Refusal::DeviceMissing"],
        "a scenario's overlays are files",
        "driver/src/plan/tests.rs::a_block_device_for_an_overlay_is_there_and_is_one",
    ),
    of(
        &["Refusal::VhostUser"],
        "no machine of the language has a disk that another process serves",
        "driver/src/plan/tests.rs::a_disk_that_another_process_serves_takes_no_part",
    ),
    of(
        &["Refusal::Passthrough", "Refusal::ChainTooLong"],
        "no machine of the language has a SCSI device of the host's, nor a chain of 200 images",
        "driver/src/plan/tests.rs::an_overlay_is_not_put_where_none_can_be",
    ),
    of(
        &["Refusal::GuestSleeps", "Refusal::BadState"],
        "no guest of the language goes to sleep",
        "driver/src/align/tests.rs::a_machine_in_a_state_of_which_nothing_can_be_kept_is_refused",
    ),
    of(
        &["Refusal::MemoryBlocked"],
        "no machine of the language has a device that keeps its memory from leaving",
        "driver/src/plan/tests.rs::memory_that_qemu_will_not_let_go_of_is_refused_before_the_guest_stands_still",
    ),
    of(
        &["Refusal::NvramUnknown"],
        "a machine of the language has its firmware's variables where it is described to have them",
        "driver/src/plan/tests.rs::variables_of_the_firmware_are_kept_in_qcow2_alone",
    ),
    of(
        &["Step::ResetNvram failed", "Step::ResetNvram not put back"],
        "no machine of the language has a template for its firmware's variables",
        "tests/tests/inactive/nvram.rs::the_variables_of_the_firmware_are_made_anew_from_their_template",
    ),
    of(
        &["DiskError::ByQemu", "DiskError::UnknownMethod", "DiskError::Missing", "DiskError::OtherMethods"],
        "a disk of the language says of its storage all that this needs, and no more",
        "driver/src/disk/choice/tests.rs::what_does_not_say_enough_is_refused",
    ),
    of(
        &["DiskError::UnknownPlace"],
        "a step says whether QEMU takes a disk's snapshots inside its image, and not a word that could be wrong",
        "driver/src/disk/choice/tests.rs::a_disk_says_whether_qemu_takes_its_snapshots_inside_the_image",
    ),
    of(
        &["ImageRefusal::NotOpen"],
        "the device of each disk of the language has an alias, by which it is found",
        "driver/src/observed.rs::a_disk_whose_image_is_gone_is_found_by_what_its_device_is_called_as_a_rule",
    ),
    of(
        &["AgentError::NotConfigured"],
        "without an agent none is asked: `freezeframe fs` asks",
        "tests/tests/agent_errors.rs::without_a_port_none_is_configured",
    ),
    of(
        &["OffRefusal::NoMonitor", "OffRefusal::ManagedSave"],
        "a machine of the language that is off and may be started has a monitor, and no memory that libvirt has saved",
        "tests/tests/inactive/main.rs::memory_that_is_saved_is_not_loaded_over_other_disks",
    ),
    of(
        &["OffRefusal::QemuUnknown", "LaunchError::BrokenContract", "StepError::NotOpen"],
        "a machine of the language is started by the built-in launcher, and by no program",
        "tests/tests/launcher.rs::an_answer_that_is_none_leaves_a_doubt",
    ),
    of(
        &["UnusedRefusal::Provider"],
        "a step that takes a snapshot says nothing of who takes which disk below QEMU: the disk does",
        "driver/src/align/tests.rs::a_disk_that_is_said_to_be_taken_by_its_storage_is_no_disk_of_qemus",
    ),
    // What takes two drivers, or a host that the language does not describe.
    of(
        &["HoldError::*", "OperationError::Held"],
        "a scenario has one driver at a time",
        "tests/tests/two_drivers.rs::drivers_with_records_in_two_folders_are_kept_apart_on_one_machine",
    ),
    of(
        &["StoreError::Locked", "StoreError::Machine", "StoreError::Name"],
        "a scenario has one driver at a time, one machine, and names that are checked before they come to the records",
        "tests/tests/records.rs::records_outlive_who_wrote_them_on_a_real_file_system",
    ),
    of(
        &["StoreError::Linked"],
        "a scenario makes no symbolic links",
        "tests/tests/cli/snapshot_records.rs::records_behind_a_link_are_nobodys",
    ),
    of(
        &["WhyKept::Link"],
        "a scenario makes no symbolic links",
        "driver/src/step/remove_file.rs::a_link_is_kept_with_what_is_behind_it_and_told_and_a_file_in_a_linked_folder_goes",
    ),
    of(
        &["WhyKept::MayHaveRun"],
        "the machine of a scenario that is killed together with its driver has no description that was kept in step",
        "tests/tests/inactive/killed.rs::what_the_description_named_when_a_deletion_was_decided_is_kept_and_told",
    ),
    of(
        &["WhyKept::Another"],
        "a scenario's disk stands on its own image: none can be put in its place, nor a record be made to say so",
        "tests/tests/inactive/records.rs::what_a_record_was_made_to_name_and_may_be_another_disk_is_kept_by_a_revert",
    ),
    of(
        &["JournalError::StillRuns"],
        "a simulated program has ended when its driver is killed at it",
        "tests/tests/cli/snapshot_killed.rs::a_hook_that_outlives_its_driver_is_waited_for_before_anything_is_told",
    ),
    of(
        &["Passed::Unreadable", "WhyKept::Unclear", "Lost::Io"],
        "a host that does not let its files be read or asked about, and sockets that fail, are not simulated",
        "",
    ),
    of(
        &[
            "ToolError::CannotRun",
            "LaunchError::CannotRun",
            "StorageError::CannotRun",
            "StorageError::GaveWay",
        ],
        "a program of the simulated host is there and can be run, or is not there; nobody interrupts",
        "tests/tests/running.rs::one_that_gives_way_is_asked_to_end_as_soon_as_it_is_wanted_no_more",
    ),
    of(
        &["ToolError::Relative", "LaunchError::Relative"],
        "a description is refused for that before",
        "driver/src/qemu_img.rs::a_path_that_could_be_an_option_is_refused",
    ),
    of(
        &["LaunchError::Endless", "LaunchError::FormatNotStated"],
        "a scenario's images name what is behind them, and in which format",
        "driver/src/launch/chain.rs::what_is_behind_a_disk_has_to_be_a_file_of_a_stated_format",
    ),
    of(
        &["RestError::NoGuard"],
        "who thaws a guest when its driver has died is of `freezeframe fs` alone",
        "",
    ),
    // What no step comes to.
    of(&["Step::UseEmptyFile failed"], "it does nothing: it marks a file that is to be emptied again", ""),
    of(&["Step::KeepImage failed"], "it does nothing: it tells of an image that stays", ""),
    // What a wire carries that a fault cannot.
    of(
        &["WireError::ReplyBeforeGreeting"],
        "faults strike once a monitor has greeted",
        "tests/tests/connecting.rs::that_answers_before_it_greets_is_none",
    ),
    of(
        &["WireError::TooLong", "AgentWireError::TooLong"],
        "a line of many MiB",
        "tests/tests/connecting.rs::with_a_line_without_end_is_cut_off",
    ),
    of(
        &["CommandError::Unreadable"],
        "a fault puts a line of its own before a reply, and none in its place",
        "tests/tests/connecting.rs::answered_in_another_shape_is_unreadable",
    ),
    of(
        &["ToolError::Nonsense", "StorageError::Nonsense"],
        "a program that fails says why, and none says something else than it should",
        "driver/src/storage/tests.rs::snapshots_of_a_subvolume_are_those_beside_it_and_no_other",
    ),
];

/// A scenario could, and none does yet.
pub(crate) const NOT_YET: &[Unreached] = &[
    of(
        &["DeleteRefusal::Branches"],
        "two overlays on one image while the machine runs, whose records lead nowhere else",
        "driver/src/plan/merge/tests.rs::what_stands_in_the_way_is_refused_before_anything_is_touched",
    ),
    of(
        &["DeleteRefusal::ExternalAmongMany"],
        "external ones among several that are not deleted one by one",
        "driver/src/plan/merge/tests.rs::several_external_ones_are_no_plan_of_their_own",
    ),
    of(
        &["ImageRefusal::Unknown"],
        "a record that leaves out in which image a disk was",
        "driver/src/plan/branches/tests.rs::what_else_stands_in_the_way_is_refused_before_anything_is_touched",
    ),
    of(
        &["DiskError::NotHeld", "DiskError::NotRead"],
        "a disk that has come since, past its storage's snapshot",
        "tests/tests/simulated_storage.rs::a_disk_that_has_come_since_is_not_in_a_snapshot",
    ),
    of(
        &["StorageError::NotCaught"],
        "a disk whose image is in another volume",
        "tests/tests/simulated_storage.rs::what_a_subvolume_does_not_hold_is_not_called_caught",
    ),
    of(
        &["StorageError::Stale"],
        "a tool that says that it is done and has done nothing",
        "tests/tests/simulated_storage.rs::a_tool_that_lies_is_not_believed",
    ),
    of(
        &["StorageError::StaysBehind"],
        "a subvolume within the one that goes back",
        "tests/tests/simulated_storage.rs::a_subvolume_takes_nothing_out_of_its_place_when_it_goes_back",
    ),
    of(
        &["StorageError::Unfinished"],
        "what follows in a storage, behind what is done, is told as a step's",
        "driver/src/storage/tests.rs::a_logical_volume_goes_back_to_its_only_snapshot_and_while_nobody_has_either_open",
    ),
    of(
        &["OffRefusal::MonitorListens"],
        "a machine that is taken for off and has been started",
        "tests/tests/inactive/main.rs::one_whose_monitor_answers_is_left_alone",
    ),
    of(
        &["OffRefusal::WhereUnknown"],
        "records that say what cannot be so are somebody's work, and a driver that has read them reads them once",
        "tests/tests/inactive/records.rs::where_a_disk_went_on_is_not_known_if_what_the_records_say_cannot_be",
    ),
    of(&["OffRefusal::OtherFormat"], "the simulated tool reads no qcow2 image as a raw one", ""),
    of(&["OffRefusal::ImageInUse"], "another program that writes to the image of a machine that is off", ""),
    of(
        &["OffRefusal::MayHaveMoved"],
        "a deletion that was broken off at the pivot, and a machine that is off since",
        "",
    ),
    of(
        &["OffRefusal::QemuNotEnded"],
        "a QEMU that is started to be asked what it can do, and does not end",
        "",
    ),
    of(
        &["DiskError::Beside"],
        "an image beside the disks, of which the tool cannot tell what is behind it",
        "",
    ),
    of(&["JournalError::AnotherMachine"], "a journal of another machine of the same name", ""),
    of(
        &["RestError::FrozenMeanwhile", "RestError::LetGo"],
        "somebody else asks the guest's agent meanwhile",
        "",
    ),
    of(
        &["StepError::JobUnfinished", "StepError::MigrationUnfinished"],
        "what is not done in its time: how long the simulator takes for it is a matter of order",
        "",
    ),
    of(&["ToolError::NoSnapshot"], "a tag that is gone from an image between the look and the deletion", ""),
    of(&["Step::ProviderMerge failed"], "a storage that does not merge its part", ""),
    of(
        &[
            "Step::BeginSaveImage not put back",
            "Step::CommitImage not put back",
            "Step::StreamImage not put back",
            "Step::UseEmptyFile not put back",
        ],
        "a second failure, while the first is put right",
        "",
    ),
];
