//! What an operation has done, told truthfully.

use std::{collections::BTreeMap, fmt, time::Duration};

use camino::Utf8PathBuf;

use crate::{
    client::{StandstillWatch, seconds},
    domain::Domain,
    kept::{self, KeptFile},
    launch::arguments::Power,
    plan::{Plan, TPM_LEFT_OUT},
    request::{CreateFlag, DeleteFlag, DeleteFlags, Request},
    standstill::OwnStop,
    step::Step,
};

/// What an operation has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The snapshot.
    pub name: String,
    /// What was done with it.
    pub deed: Deed,
    /// The disks that took part, by target.
    pub disks: Vec<String>,
    /// The disks that go on in an overlay since.
    pub overlaid: Vec<Overlaid>,
    /// In which images the machine is since a snapshot was taken of it, or was when it was halted for it; empty of every other deed,
    /// of which the machine itself can tell.
    pub images: Images,
    /// How long the guest stood still for it, by QEMU's own clock. None if the connection has ended, and nobody knows.
    pub stopped_for: Option<Duration>,
    /// Why it stands still now, if it was heard to stop of its own while the snapshot stopped it.
    pub own_stop: Option<OwnStop>,
    /// Why the memory of a guest that ran was not written in the background, where that was asked for: it is of the end then,
    /// and the guest stood still for it.
    pub not_in_background: Option<String>,
    /// Whether a snapshot was taken without the state of the machine's TPM, which is neither in memory that was not saved nor on a disk.
    pub tpm_left_out: bool,
    /// Whether the memory that was loaded held a freeze; none if none was loaded, or there is no agent to ask.
    pub loaded_freeze: Option<LoadedFreeze>,
    /// What it was to remove and has kept.
    pub kept: Vec<KeptFile>,
    /// What operations before it have left, open in QEMU or on the host's disk, and still is.
    pub open: Vec<String>,
}

/// The image that each disk is in, by target.
pub type Images = BTreeMap<String, Utf8PathBuf>;

/// Whether the memory that was loaded held a freeze by the guest's agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadedFreeze {
    /// It did not.
    None,
    /// It did, and the guest was thawed.
    Thawed,
    /// The agent could not be asked: the guest may be frozen.
    Unknown(String),
}

impl fmt::Display for LoadedFreeze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadedFreeze::None => Ok(()),
            LoadedFreeze::Thawed => {
                f.write_str("; the guest had been frozen when it was taken, and was thawed")
            }
            LoadedFreeze::Unknown(why) => write!(
                f,
                "; should the guest have been frozen when it was taken, it still is, for its agent could not be asked: {why}"
            ),
        }
    }
}

/// A disk that goes on in an overlay: what it was in before holds its part of the snapshot, and is written no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlaid {
    /// The disk.
    pub target: String,
    /// The image that it was in.
    pub image: Utf8PathBuf,
    /// That image's format.
    pub format: String,
    /// The overlay, a qcow2 one.
    pub overlay: Utf8PathBuf,
}

impl Overlaid {
    fn of(step: &Step) -> Option<Self> {
        let (target, image, format, overlay) = match step {
            Step::PrepareOverlay(step) => {
                (&step.target, &step.backing_file, &step.backing_format, &step.file)
            }
            Step::CreateOverlay(step) => (&step.target, &step.backing_file, &step.backing_format, &step.file),
            _ => return None,
        };
        let (image, overlay) = (image.clone(), overlay.clone());
        Some(Self { target: target.clone(), image, format: format.clone(), overlay })
    }
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// A snapshot was taken.
    Taken {
        /// What a guest finds when it is put back.
        consistency: Consistency,
        /// Whether the guest was asked to come to rest.
        quiesced: Quiesced,
        /// What became of the machine.
        left: Left,
    },
    /// The machine was put back.
    Reverted(Anew),
    /// The snapshot was removed, or what these flags say.
    Deleted(DeleteFlags),
}

/// What became of a machine that was put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anew {
    /// It goes on in its process.
    No,
    /// It was started anew, and runs.
    Running,
    /// It was started anew, and is paused.
    Paused,
    /// It is off: it was ended, or was so before.
    Off,
}

impl Anew {
    fn of(plan: &Plan, was_off: bool) -> Self {
        let has = |is: fn(&Step) -> bool| plan.steps().any(is);
        let runs = |step: &Step| match step {
            Step::StartMachine(start) => start.power == Power::Running,
            step => matches!(step, Step::Resume(_)),
        };
        match (was_off || has(|step| matches!(step, Step::StopMachine(_))), has(Step::starts_a_machine)) {
            (false, _) => Anew::No,
            (true, false) => Anew::Off,
            (true, true) if plan.steps().any(runs) => Anew::Running,
            (true, true) => Anew::Paused,
        }
    }
}

/// What became of a machine whose snapshot was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// It is as it was.
    AsItWas,
    /// It stands still until the caller has taken these disks and lets it run.
    PausedFor(Vec<String>),
    /// It was stopped.
    Off,
    /// It is off, and is not to be started before the caller has taken these disks.
    OffFor(Vec<String>),
}

impl Left {
    /// The disks that the caller is to take.
    pub fn take_yourself(&self) -> &[String] {
        match self {
            Left::PausedFor(disks) | Left::OffFor(disks) => disks,
            Left::AsItWas | Left::Off => &[],
        }
    }
}

/// What a guest finds when it is put back to a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consistency {
    /// Its memory and disks of the same moment: it goes on as if nothing had been.
    Memory,
    /// Its disks of the same moment, with whole file systems: the guest had come to rest.
    FileSystem,
    /// Its disks as after a power cut, all of the same moment.
    Crash,
    /// Its disks as it left them when it went off.
    Off,
}

/// Whether the guest had come to rest: its file systems held whole what it had written, and it wrote no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quiesced {
    /// Whether it had.
    pub verdict: Verdict,
    /// How that is known, or why not.
    pub why: String,
    /// How long it was frozen for it: from the reply to the freeze until the thaw was sent. None if nothing was frozen here,
    /// or nobody knows since when.
    pub frozen_for: Option<Duration>,
}

/// Yes, no, or nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is so.
    Yes,
    /// It is not so.
    No,
    /// Nobody knows.
    Unknown,
}

impl Verdict {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Yes => "yes",
            Verdict::No => "no",
            Verdict::Unknown => "unknown",
        }
    }

    /// The verdict that a word is for.
    pub fn of(word: &str) -> Option<Self> {
        [Verdict::Yes, Verdict::No, Verdict::Unknown].into_iter().find(|verdict| verdict.name() == word)
    }
}

impl Quiesced {
    /// It had come to rest.
    pub fn yes(why: impl Into<String>) -> Self {
        Self { verdict: Verdict::Yes, why: why.into(), frozen_for: None }
    }

    /// It had not.
    pub fn no(why: impl Into<String>) -> Self {
        Self { verdict: Verdict::No, ..Self::yes(why) }
    }

    /// Nobody knows.
    pub fn unknown(why: impl Into<String>) -> Self {
        Self { verdict: Verdict::Unknown, ..Self::yes(why) }
    }
}

impl fmt::Display for Quiesced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.verdict.name(), self.why)?;
        match self.frozen_for {
            None => Ok(()),
            Some(frozen) => write!(f, "; guest frozen for {}", seconds(frozen)),
        }
    }
}

impl Report {
    /// What `stood` has heard since the operation began tells how long the guest stood still. `before` are the images that the machine
    /// was in.
    pub(crate) fn new(
        request: &Request,
        plan: &Plan,
        was_off: bool,
        before: Images,
        quiesced: Quiesced,
        stood: &StandstillWatch,
    ) -> Self {
        let stands_still = plan.steps().any(Step::stops_the_guest);
        let (name, deed) = match request {
            Request::Create(create) => {
                let consistency = match was_off {
                    true => Consistency::Off,
                    false if plan.has_memory() => Consistency::Memory,
                    false if quiesced.verdict == Verdict::Yes => Consistency::FileSystem,
                    false => Consistency::Crash,
                };
                let left = match plan.manual.as_slice() {
                    _ if create.flags.has(CreateFlag::Halt) => Left::Off,
                    [] => Left::AsItWas,
                    disks if was_off => Left::OffFor(disks.to_vec()),
                    disks => Left::PausedFor(disks.to_vec()),
                };
                (create.wish.name.clone().unwrap_or_default(), Deed::Taken { consistency, quiesced, left })
            }
            Request::Revert(revert) => (revert.name.to_string(), Deed::Reverted(Anew::of(plan, was_off))),
            Request::Delete(delete) => (delete.name.to_string(), Deed::Deleted(delete.flags.clone())),
        };
        // Disks alone are switched under a guest that goes on.
        let (stopped_for, own_stop) =
            if stands_still { (stood.total(), stood.own_stop()) } else { (Some(Duration::ZERO), None) };
        let disks = plan.disks.clone();
        let (mut overlaid, mut images) = (Vec::new(), Images::new());
        if let Deed::Taken { .. } = deed {
            overlaid.extend(plan.steps().filter_map(Overlaid::of));
            images = before;
            images.extend(overlaid.iter().map(|disk| (disk.target.clone(), disk.overlay.clone())));
        }
        Self { overlaid, images, ..Self::plain(name, deed, disks, stopped_for, own_stop) }
    }

    /// Of which there is nothing more to say.
    fn plain(
        name: String,
        deed: Deed,
        disks: Vec<String>,
        stopped_for: Option<Duration>,
        own_stop: Option<OwnStop>,
    ) -> Self {
        Self {
            name,
            deed,
            disks,
            overlaid: Vec::new(),
            images: Images::new(),
            stopped_for,
            own_stop,
            not_in_background: None,
            tpm_left_out: false,
            loaded_freeze: None,
            kept: Vec::new(),
            open: Vec::new(),
        }
    }
}

impl Report {
    /// What several deletions, one by one, have done together.
    pub(crate) fn of_all(request: &Request, domain: &Domain, reports: Vec<Report>) -> Self {
        let has = |target: &String| reports.iter().any(|report| report.disks.contains(target));
        let disks =
            domain.disks.iter().map(|disk| disk.target.clone()).filter(|target| has(target)).collect();
        let flags = match request {
            Request::Delete(delete) => delete.flags.clone(),
            _ => DeleteFlags::default(),
        };
        let stopped_for = reports.iter().map(|report| report.stopped_for).sum();
        let kept = reports.iter().flat_map(|report| report.kept.clone()).collect();
        let last = reports.into_iter().next_back();
        let own_stop = last.as_ref().and_then(|last| last.own_stop);
        let open = last.map(|last| last.open).unwrap_or_default();
        let (name, deed) = (request.name().to_owned(), Deed::Deleted(flags));
        Self { kept, open, ..Self::plain(name, deed, disks, stopped_for, own_stop) }
    }
}

/// What these flags say of the snapshot that is named.
fn deleted(name: &str, flags: &DeleteFlags) -> String {
    match (flags.has(DeleteFlag::Children), flags.has(DeleteFlag::ChildrenOnly)) {
        (true, _) => format!("snapshot {name} and all that descend from it"),
        (_, true) => format!("all that descend from snapshot {name}"),
        _ => format!("snapshot {name}"),
    }
}

impl Report {
    /// How long the guest stood still for it, behind what was done; nothing where it did not, or where its QEMU was ended.
    fn stopped(&self) -> String {
        match self.stopped_for {
            Some(Duration::ZERO) => String::new(),
            None if matches!(self.deed, Deed::Reverted(anew) if anew != Anew::No) => String::new(),
            Some(stopped) => format!("; guest stopped for {}", seconds(stopped)),
            None => {
                "; how long the guest was stopped is unknown: the connection to QEMU has ended".to_owned()
            }
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let disks = self.disks.join(" ");
        match &self.deed {
            Deed::Taken { consistency, quiesced, left } => {
                let name = &self.name;
                match consistency {
                    Consistency::Memory => write!(f, "snapshot {name} taken: memory and disks of {disks}"),
                    Consistency::FileSystem => {
                        write!(f, "snapshot {name} taken: file-system-consistent of {disks}")
                    }
                    Consistency::Crash => write!(f, "snapshot {name} taken: crash-consistent of {disks}"),
                    Consistency::Off => write!(f, "snapshot {name} taken: {disks}, the machine is off"),
                }?;
                if *consistency != Consistency::Off {
                    write!(f, "; quiesced: {quiesced}")?;
                }
                if self.tpm_left_out {
                    write!(f, "; {TPM_LEFT_OUT}")?;
                }
                match left {
                    Left::AsItWas => {}
                    Left::Off => return f.write_str("; the machine is off"),
                    Left::OffFor(disks) => {
                        return write!(f, "; take {} before it is started", disks.join(" "));
                    }
                    Left::PausedFor(disks) => {
                        let disks = disks.join(" ");
                        return write!(f, "; the guest is paused: take {disks}, then let it run");
                    }
                }
            }
            Deed::Reverted(anew) => {
                let then = match anew {
                    Anew::No => "",
                    Anew::Running => "; the machine was started anew and runs",
                    Anew::Paused => "; the machine was started anew and is paused",
                    Anew::Off => "; the machine is off",
                };
                write!(f, "reverted to {}: {disks}{then}", self.name)?;
            }
            Deed::Deleted(flags) => {
                let what = deleted(&self.name, flags);
                match flags.has(DeleteFlag::MetadataOnly) {
                    true => write!(f, "{what} forgotten; no disk was touched")?,
                    false if disks.is_empty() => {
                        write!(f, "{what} deleted; no disk of the machine was changed")?
                    }
                    false => write!(f, "{what} deleted from {disks}")?,
                }
            }
        }
        f.write_str(&self.stopped())?;
        if let Some(why) = &self.not_in_background {
            write!(f, "; its memory is of the end, and was not written in the background: {why}")?;
        }
        if let Some(loaded) = &self.loaded_freeze {
            loaded.fmt(f)?;
        }
        if let Some(why) = self.own_stop {
            write!(f, "; the guest stands still, and was left so: {why}")?;
        }
        f.write_str(&kept::told(&self.kept))?;
        match self.open.is_empty() {
            true => Ok(()),
            false => write!(f, "; of earlier operations: {}", self.open.join("; ")),
        }
    }
}
