//! `create`: a snapshot as a document describes it.

use camino::Utf8PathBuf;
use clap::{Args, ValueEnum};
use freezeframe_driver::{
    domain_snapshot::{DomainSnapshot, Purpose},
    env::{Env as _, tokio::TokioEnv},
    error::{OperationError, Refusal},
    request::{ByStorage, Create, CreateFlag, CreateFlags, Quiesce, Request},
    save_image::Format,
};

use super::{
    SnapshotError,
    operate::OperateArgs,
    redefine::{Redefinition, hand_in},
    spec::{self, ProviderSpec},
    validate::ValidateArgs,
    xml::Document,
};
use crate::cli::{CliError, fs::watchdog::GuardArgs, told::Told};

/// What a snapshot may be called, for whoever gives it its name.
pub(super) const NAMES: &str = "\
A snapshot's name has at most 200 bytes, no / and no control character, and begins neither with .
nor with -. One of digits alone, fewer than ten of them, is no internal snapshot's: QEMU could take
it for the id of another one.";

/// What says how a snapshot is taken; who hands in a record takes none. libvirt's own flags are refused with its code.
const TO_TAKE_ONE: [&str; 7] =
    ["reuse_external", "quiesce", "already_frozen", "providers", "hook", "memory_format", "transient"];

#[derive(Debug, Args)]
#[command(after_help = NAMES)]
pub(super) struct CreateArgs {
    #[command(flatten)]
    operate: OperateArgs,
    /// What is wished, as <domainsnapshot>; - is standard input [default: all that the machine has by default]
    #[arg(value_name = "XMLFILE", group = "document")]
    file: Option<Utf8PathBuf>,
    /// The document, as an option
    #[arg(long, value_name = "XMLFILE", group = "document")]
    xmlfile: Option<Utf8PathBuf>,
    /// Record a snapshot that exists; no disk is touched
    #[arg(long, requires = "document", conflicts_with_all = TO_TAKE_ONE)]
    redefine: bool,
    /// With --redefine: make it the current snapshot
    #[arg(long)]
    current: bool,
    #[command(flatten)]
    flags: FlagArgs,
    #[command(flatten)]
    validate: ValidateArgs,
}

/// libvirt's flags of a snapshot that is taken.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
pub(super) struct FlagArgs {
    /// Take it and keep no record
    #[arg(long)]
    no_metadata: bool,
    /// Stop the machine once it is taken
    #[arg(long)]
    halt: bool,
    /// The machine, which runs, is forgotten when it stops: --halt is refused
    #[arg(long, requires = "qmp", conflicts_with = "off")]
    transient: bool,
    /// Of disks alone, without memory
    #[arg(long)]
    pub(super) disk_only: bool,
    /// The overlays' files are there already
    #[arg(long)]
    reuse_external: bool,
    /// Bring the guest's file systems to rest first, with --disk-only and --agent: required, or not taken; best-effort, or taken
    /// all the same, and told so
    #[arg(long, value_enum, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "required")]
    quiesce: Option<QuiesceHow>,
    /// Should the guest agent refuse to freeze, send a thaw, so that its hooks run for the end of a freeze; it would let go what
    /// somebody else has frozen past the agent
    #[arg(long, requires = "quiesce")]
    thaw_hooks: bool,
    /// The guest's file systems are frozen already, by you: they are neither frozen nor thawed
    #[arg(long, conflicts_with = "quiesce")]
    already_frozen: bool,
    #[command(flatten)]
    guard: GuardArgs,
    /// Let the storage below a disk take it, in the moment in which QEMU takes the others: vdb,method=btrfs (also volume=, group=,
    /// settings=, program=, room=; docs/storage.md). A disk whose document has a <diskSnapshot> needs no word
    #[arg(long = "provider", value_name = "DISK,method=METHOD")]
    providers: Vec<ProviderSpec>,
    /// Let this program take the disks whose snapshot is `manual`, in the moment in which QEMU takes the others
    /// (docs/storage-exec.md)
    #[arg(long, value_name = "PROGRAM")]
    hook: Option<Utf8PathBuf>,
    /// All disks or none; it always is so
    #[arg(long)]
    atomic: bool,
    /// Save the memory while the guest runs
    #[arg(long)]
    live: bool,
    /// How the memory is laid out in its file: as it comes, or each page in its own place (QEMU 9.0 and newer)
    #[arg(long, value_enum, default_value_t, conflicts_with = "disk_only")]
    memory_format: MemoryFormat,
    /// With --live: write the memory of the beginning in the background, where QEMU can, and do not stop the guest at the end
    #[arg(long, requires = "live")]
    background: bool,
}

/// How much the guest's rest is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum QuiesceHow {
    Required,
    BestEffort,
}

/// How memory is laid out in a file.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum MemoryFormat {
    #[default]
    Raw,
    Sparse,
}

impl From<MemoryFormat> for Format {
    fn from(format: MemoryFormat) -> Self {
        match format {
            MemoryFormat::Raw => Format::Raw,
            MemoryFormat::Sparse => Format::Sparse,
        }
    }
}

impl From<QuiesceHow> for Quiesce {
    fn from(how: QuiesceHow) -> Self {
        match how {
            QuiesceHow::Required => Quiesce::Required,
            QuiesceHow::BestEffort => Quiesce::BestEffort,
        }
    }
}

impl FlagArgs {
    fn by_storage(&self) -> Result<ByStorage, CliError> {
        Ok(ByStorage { stated: spec::stated(&self.providers)?, hook: self.hook.clone() })
    }

    fn quiesce(&self) -> Quiesce {
        match (self.already_frozen, self.quiesce) {
            (true, _) => Quiesce::AlreadyFrozen,
            (false, Some(how)) => how.into(),
            (false, None) => Quiesce::Off,
        }
    }

    /// Those that are given, and more.
    fn and(&self, more: &[(CreateFlag, bool)]) -> CreateFlags {
        let given = [
            (CreateFlag::NoMetadata, self.no_metadata),
            (CreateFlag::Halt, self.halt),
            (CreateFlag::DiskOnly, self.disk_only),
            (CreateFlag::ReuseExternal, self.reuse_external),
            (CreateFlag::Quiesce, self.quiesce == Some(QuiesceHow::Required)),
            (CreateFlag::Atomic, self.atomic),
            (CreateFlag::Live, self.live),
        ];
        given.iter().chain(more).filter(|(_, given)| *given).map(|(flag, _)| *flag).collect()
    }
}

pub(super) fn create(arguments: &CreateArgs) -> Result<Told, CliError> {
    let CreateArgs { operate, file, xmlfile, redefine, current, flags: given, validate } = arguments;
    let file = file.as_ref().or(xmlfile.as_ref());
    let flags = given.and(&[
        (CreateFlag::Redefine, *redefine),
        (CreateFlag::Current, *current),
        (CreateFlag::Validate, validate.validate),
    ]);
    flags.check().map_err(refused)?;
    if let (true, Some(file)) = (*redefine, file) {
        return hand_in(&Redefinition {
            machine: &operate.machine,
            file,
            current: *current,
            disk_only: given.disk_only,
            validate,
            dry_run: operate.dry_run,
        });
    }
    let document = match file {
        Some(file) => Document::read(file)?,
        None => Document { file: "-".into(), bytes: b"<domainsnapshot/>".to_vec() },
    };
    let wish = document.snapshot(Purpose::Create { without_memory: given.disk_only })?;
    validate.check(&document)?;
    take(operate, wish, flags, given)
}

/// Takes the snapshot that is wished with the flags that are given.
pub(super) fn take_with(
    operate: &OperateArgs,
    wish: DomainSnapshot,
    flags: &FlagArgs,
    validated: bool,
) -> Result<Told, CliError> {
    take(operate, wish, flags.and(&[(CreateFlag::Validate, validated)]), flags)
}

fn take(
    operate: &OperateArgs,
    wish: DomainSnapshot,
    flags: CreateFlags,
    given: &FlagArgs,
) -> Result<Told, CliError> {
    // A name is needed to be checked; the driver gives it anew if the second has passed.
    let named = wish.clone().taken_at(TokioEnv::new().seconds());
    let (within, by_storage) = (operate.within(), given.by_storage()?);
    let request = |wish| {
        Request::Create(Box::new(Create {
            memory_format: given.memory_format.into(),
            in_background: given.background,
            quiesce: given.quiesce(),
            thaw_hooks: given.thaw_hooks,
            by_storage: by_storage.clone(),
            within,
            ..Create::new(wish, flags.iter())
        }))
    };
    let operate = &operate.with_transient(given.transient);
    operate.check(&request(named))?;
    let guard = matches!(given.quiesce(), Quiesce::Required | Quiesce::BestEffort).then_some(&given.guard);
    operate.operate_guarded(&request(wish), guard)
}

fn refused(refusal: Refusal) -> SnapshotError {
    OperationError::Refused(refusal).into()
}
