//! The marks of errors: each enum with its variants, and in brackets where a variant holds what it came of.
//!
//! The compiler holds the list whole: a variant that is missing here is a match that is not exhaustive.

use super::Marked;
use crate::{
    agent::{AgentError, rest::RestError},
    client::{CommandError, ConnectError, Lost},
    disk::DiskError,
    domain_snapshot::{BadDefinition, Why as BadSnapshot},
    domain_xml::{BadDomain, Why as BadMachine},
    error::{
        DeleteRefusal, ImageRefusal, OffRefusal, OperationError, QuiesceRefusal, Refusal, RevertRefusal,
        StepError, StorageRefusal, UnusedRefusal,
    },
    journal::JournalError,
    kept::WhyKept,
    launch::LaunchError,
    machine::HoldError,
    name::BadName,
    qemu_img::ToolError,
    recover::Turn,
    save_image::BadSaveImage,
    storage::StorageError,
    store::{Passed, StoreError},
    tree::{BadHandOver, BadRedefinition, Inconsistent},
    wire::{AgentWireError, WireError},
    xml::Why as BadXml,
};

macro_rules! marks {
    ($($error:ident { $($variant:ident $(($cause:tt))?,)+ })+) => {
        /// The marks of each enum.
        pub(super) const ALL: &[&[&str]] =
            &[$(&[$(concat!(stringify!($error), "::", stringify!($variant)),)+],)+];

        $(impl Marked for $error {
            fn marks(&self, reach: &mut dyn FnMut(&'static str)) {
                match self {
                    $($error::$variant { $($cause: cause,)? .. } => {
                        reach(concat!(stringify!($error), "::", stringify!($variant)));
                        $(of_cause!($cause, cause, reach);)?
                    })+
                }
            }
        })+
    };
}

macro_rules! of_cause {
    ($place:tt, $cause:ident, $reach:ident) => {
        $cause.marks($reach)
    };
}

impl Marked for BadDefinition {
    fn marks(&self, reach: &mut dyn FnMut(&'static str)) {
        self.why.marks(reach);
    }
}

impl Marked for BadDomain {
    fn marks(&self, reach: &mut dyn FnMut(&'static str)) {
        self.why.marks(reach);
    }
}

marks! {
    OperationError {
        Refused(0), Held(0), Unreachable(0), Unobserved(0), RolledBack(cause), MachineGone(cause),
        NotRolledBack(cause), Unfinished(cause), Journal(0), Pending(0), Partly(cause),
        Unknown(cause),
    }
    StepError {
        Command(0), JobFailed, JobUnfinished, JobUnread(cause), JobVanished, HumanMonitor,
        MigrationFailed, MigrationCancelled, MigrationUnfinished, SaveImage(cause),
        SaveImageIncomplete, NoMemory, File, Records(0), Tool(0), Launch(0), NotOpen, StillRunning,
        Rest(0), Storage(0), DoneButFor, Torn,
    }
    Refusal {
        Name(0), AnotherMachine, AnotherDescription, RecordsOfAnother, FlagsExclude, FlagNeeds,
        HaltOfTransient, NoAgent, LiveWithoutMemory, GuestSleeps, BadState, MemoryWithoutMachine,
        InternalWithoutMemory, TooManyDisks, MustBeInternal, FileUnused, OverlayFormat, OverlayType,
        NameNotGenerated, Mixed, InternalDiskOnly, BlockJob, Passthrough, Shared, FileExists,
        FileMissing, DeviceMissing, OtherKind, ChainTooLong, NvramKeepsNone, NvramUnknown, Recorded,
        AllDigits, NoSuchDisk, NoImage, DiskTwice, SameFile, ReadOnly, NothingSelected, MustTakeAll,
        FormatKeepsNone, VmstateElsewhere, Exists, NoSuchSnapshot, Unknown, NotOnDisk, MachineState,
        Unsupported, VmstateNotChoosable, MemoryWithoutFile, MemoryWithoutDocument, MemoryBlocked,
        BadMemoryPath, MemoryFileExists, MemoryNoFile, MemoryFileIsOverlay, SaveImage(0),
        BadOverlayPath, OverlayOfOther, InternalBesideMemory, RecordHandedIn, VhostUser,
        MetadataCache, TransientDisk, StorageRefuses, Unused(0), Revert(0), Delete(0), Off(0),
        Image(0), Storage(0), Quiesce(0),
    }
    UnusedRefusal {
        Provider, Hook, ReuseExternal, Sparse, AlreadyFrozen,
    }
    RevertRefusal {
        FlagsExclude, FlagNeeds, StandOnDiscarded, ImageOnDiscarded, NoRollbackInfo, EndsTheMachine,
        OtherMachine, MemoryOfOther, MemoryUnusable, OffOfTransient, Slept, NoGoal, JobOnRevert,
        NoLauncher, CannotLaunch, SourceNotFile, ImageMissing, ImageWritten, Chain, ManualDisks, HeldInWhatGoesBack,
        CannotResetNvram, OnAnotherBranch, OverlayAbove, RecordedAbove, OverlayKept,
    }
    DeleteRefusal {
        ChildrenTwice, NotRecorded, ExternalAmongMany, InternalBelow, Branches, DeletionUnfinished,
        NotInChain, NothingBelow, HoldsInternal, InternalParent, OtherBranch, NamedTwice,
        StrangerAbove, ImageShared, BitmapLost, JobOnDelete,
    }
    OffRefusal {
        ImageInUse, ImageUnreadable, MonitorListens, Document, OtherImage, WhereUnknown, OtherFormat,
        MayHaveMoved, MayHaveStayed, NotRunning, NotLocal, ManagedSave, NotRecorded, NoMonitor,
        QemuNotEnded, QemuUnknown,
    }
    ImageRefusal {
        GivenAway, StateHasLeft, NotOpen, NotPlugged, Undescribed, OtherFormat, WentOnElsewhere, WasMerged,
        NotAbsolute, Unknown, RecordUnread, Unreadable,
    }
    StorageRefusal {
        Another, ByItsWordAlone, PartOfVolume, OtherImage, LiesThereToo,
    }
    QuiesceRefusal {
        AgentSilent(0), AgentUnfit(0), FrozenBefore, GuestStopped, ManualDisk, NotFrozen,
    }
    HoldError {
        Held, Host,
    }
    JournalError {
        File, Unreadable, StillRuns, AnotherMachine,
    }
    ConnectError {
        Unreachable, Silent, NotAMonitor(lost), Negotiation,
    }
    CommandError {
        Refused, TimedOut, Lost(lost), Unreadable,
    }
    Lost {
        Closed, Io, Wire(0),
    }
    WireError {
        TooLong, NotQmp, ReplyBeforeGreeting, SecondGreeting,
    }
    AgentError {
        NotConfigured, NotConnected, Unresponsive, Unsynchronised, Failed,
    }
    RestError {
        Agent(0), FrozenMeanwhile, NothingFrozen, NoneFrozen, NoGuard, LetGo, NotThawed(0),
    }
    ToolError {
        Missing, CannotRun, Refused, Killed, Nonsense, Relative, NoSnapshot,
    }
    LaunchError {
        CannotGive, Relative, Images(source), FormatNotStated, Endless, OverlayStays, Missing,
        CannotRun, Refused, Killed, BrokenContract, Monitor(0), StillThere,
    }
    DiskError {
        NoDisk, UnknownDisk, NoMethod, UnknownMethod, UnknownPlace, UnknownRest, Missing,
        OtherMethods, NotTogether, InUse, Unsure(why), MovedOn, NotRead, NotHeld, LiesThereToo,
        Beside, Name(0), ByQemu, NoRecords, OfOthers, NotExported, ExportLeft, Storage(0),
        Operation(0),
    }
    StorageError {
        Exists, Busy, NoSpace, Gone, Stale, ToolMissing, CannotRun, Killed, TimedOut, GaveWay,
        NotSupported, NotCaught, StaysBehind, Refused, Nonsense, BadName, Unfinished, Left(error),
    }
    StoreError {
        Machine(0), Name(0), Locked, Linked, File, CurrentUnknown,
    }
    Passed {
        Unreadable, Bad(bad), OtherName, Inconsistent(0),
    }
    Inconsistent {
        NoParent, Circle, NoCurrent,
    }
    BadName {
        Empty, TooLong, Slash, LeadingDot, LeadingDash, Control,
    }
    BadSaveImage {
        Magic, Short, Version, Compressed, Format, Length, Cookie, NoStream, Cut, Text, Nul, Long,
    }
    BadRedefinition {
        Domain(why), OwnParent, NoParent, Circle, NotDiskOnly, OtherMachine, OnlineOffline, DiskOnlyFull,
        MachineChanged, NoSuchDisk, DiskTwice,
    }
    BadHandOver {
        TransientDisk, DeletionUnfinished, Other, Redefinition(0),
    }
    BadSnapshot {
        Xml(0), Root, Twice, NoName, NoCreationTime, NoState, UnknownState, UnknownMemory,
        ManualMemory, MemoryFileUnused, NoMemoryFile, MemoryWithoutMachine, RelativeMemoryFile,
        NoDiskName, UnknownLocation, SourceTypeUnsupported, UnknownSourceType, UnknownFormat,
        RelativePath, NoActive,
    }
    BadMachine {
        Xml(0), Root, NoName, BadUuid, NoTarget, TargetTwice, UnknownLocation,
    }
    BadXml {
        TooLong, TooDeep, TooMany, TooManyAttributes, NotUtf8, Encoding, Character, DocType, Entity,
        Malformed, Outside, SecondRoot, Empty, Unfinished,
    }
    AgentWireError {
        TooLong, NotAReply,
    }
    Turn {
        NotBegun, Back, Forward, Unknown, Forgotten,
    }
    WhyKept {
        InUse, Unclear, Link, Holds, NoPart, Another, MayHaveRun, Twin, Unrecorded, Below,
    }
}
