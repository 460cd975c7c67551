//! Mistakes that a driver like this one could make, planted on purpose: a test switches on one at a time, and holds that sweep
//! or explore finds it.
//!
//! They are built in only with the feature `mutants`, which the tests have. Without it [`planted`] is `false` for the compiler
//! too, and nothing of them is left.

macro_rules! mutants {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// One mistake.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Mutant {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Mutant {
            /// All of them.
            pub const ALL: &[Mutant] = &[$(Mutant::$name,)+];
        }
    };
}

mutants! {
    /// The events of a job are listened to when its command has been answered.
    ListensTooLate,
    /// A job that is at 0 of 0 when it is asked about has done its work.
    TakesNothingOfNothingForDone,
    /// What a concluded job says of its failure is not read.
    IgnoresJobErrors,
    /// A job that has concluded is not dismissed.
    KeepsJobs,
    /// A job that was told to pivot has done so.
    DoesNotAwaitThePivot,
    /// A commit that is ready is cancelled, and its overlay given up.
    CancelsReadyCommits,
    /// A reply is given to whoever has waited longest.
    MatchesRepliesByPosition,
    /// A command without a reply has not been carried out.
    TakesSilenceForRefusal,
    /// A command without a reply has been carried out.
    TakesSilenceForConsent,
    /// The first failure of a stage is all that is looked at.
    ForgetsWhatRanBeside,
    /// Things are put back in the order in which they were done.
    UndoesOldestFirst,
    /// At the point of no return a step in doubt is put back on a guess.
    UndoesInDoubt,
    /// Files are unlinked although the disks could not be taken off them.
    UnlinksWhatIsInUse,
    /// The guest is not let go when the decisive step fails.
    ForgetsToThaw,
    /// A freeze whose reply did not come has not struck.
    TakesSilentFreezeForNone,
    /// A guest that somebody else has frozen is thawed.
    ThawsWhatOthersFroze,
    /// A guest that was paused is not let go on when the snapshot fails.
    LeavesTheGuestPaused,
    /// A migration that failed has saved the memory.
    IgnoresFailedMigrations,
    /// The settings of the migration are not set back.
    KeepsMigrationSettings,
    /// The disks are switched one by one.
    SwitchesOneByOne,
    /// A snapshot that one disk holds is held by all.
    AsksOneDisk,
    /// A snapshot inside the images is deleted from the first disk alone.
    DeletesFromOneDisk,
    /// A file that is in the way is taken for one's own.
    TakesOthersFiles,
    /// A record is written into its file, and not put in its place.
    WritesRecordsInPlace,
    /// A record stays when what it tells of is put back.
    KeepsTheRecord,
    /// What is about to be done is written down when it has been done.
    WritesTheJournalBehind,
    /// The journal is closed before things are put back.
    ClosesTheJournalEarly,
    /// A recovery goes on to the end where nobody knows whether it was decided.
    RecoversForwardInDoubt,
    /// A recovery puts back what was decided.
    RecoversBack,
    /// A recovery leaves the guest as it is.
    RecoversWithoutThaw,
    /// What was copied upwards is not flushed before the chain changes.
    LeavesCopiesUnflushed,
    /// What was merged in between is not flushed before the chain changes.
    LeavesMergesUnflushed,
    /// Deleting a snapshot of a machine that is off leaves other branches on the image that goes.
    LeavesBranchesBehind,
}

#[cfg(feature = "mutants")]
mod switch {
    use std::cell::Cell;

    use super::Mutant;

    thread_local! {
        static PLANTED: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Plants one mistake in every driver of this thread, or none.
    pub fn plant(mutant: Option<Mutant>) {
        PLANTED.set(mutant);
    }

    /// Whether this mistake is planted.
    pub(crate) fn planted(mutant: Mutant) -> bool {
        PLANTED.get() == Some(mutant)
    }
}

#[cfg(feature = "mutants")]
pub use self::switch::plant;
#[cfg(feature = "mutants")]
pub(crate) use self::switch::planted;

/// Whether this mistake is planted: none is.
#[cfg(not(feature = "mutants"))]
pub(crate) const fn planted(_: Mutant) -> bool {
    false
}
