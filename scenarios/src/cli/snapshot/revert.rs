//! `revert`: the machine is put back.

use camino::Utf8PathBuf;
use clap::Args;
use freezeframe_driver::request::{Request, Revert, RevertFlag};

use super::{
    SnapshotError,
    operate::OperateArgs,
    records::{Records, WhichArgs},
    spec::{self, ProviderSpec},
};
use crate::cli::{CliError, told::Told};

#[derive(Debug, Args)]
pub(super) struct RevertArgs {
    #[command(flatten)]
    operate: OperateArgs,
    #[command(flatten)]
    which: WhichArgs,
    /// The guest runs afterwards, whatever it did when the snapshot was taken
    #[arg(long)]
    running: bool,
    /// The guest is paused afterwards
    #[arg(long)]
    paused: bool,
    /// The machine may be ended for it, where the snapshot is of one that was off or of another one
    #[arg(long)]
    force: bool,
    /// Make the variables of the firmware anew
    #[arg(long)]
    reset_nvram: bool,
    /// What came after the snapshot goes for good: what it went on in, and refused if other snapshots stand on that
    #[arg(long)]
    discard: bool,
    /// With --discard: the snapshots that descend from it are deleted too
    #[arg(long)]
    delete_children: bool,
    /// The storage of the disks that are `manual` in the snapshot has been put back by you: nothing is done to it
    #[arg(long)]
    storage_is_back: bool,
    /// Which storage holds a disk's part of it, where the record does not say so: vdb,method=btrfs (as of create-as)
    #[arg(long = "provider", value_name = "DISK,method=METHOD", conflicts_with = "storage_is_back")]
    providers: Vec<ProviderSpec>,
    /// The machine, which runs, is forgotten when it stops: it is put back to no snapshot that leaves it off
    #[arg(long, requires = "qmp", conflicts_with = "off")]
    transient: bool,
    /// Of a machine that is off: the file with the memory that it goes on with when it is started [default: save/NAME.save beside
    /// the folder of the records, where libvirt has it if that is its qemu/snapshot]
    #[arg(long, value_name = "FILE")]
    managed_save: Option<Utf8PathBuf>,
}

pub(super) fn revert(arguments: &RevertArgs) -> Result<Told, CliError> {
    if arguments.managed_save.is_some() && !arguments.operate.is_off() {
        let why =
            "--managed-save is of a machine that is off, and this one runs: --qmp is given without --off";
        return Err(CliError::Usage(why.to_owned()));
    }
    let records = Records::read(&arguments.operate.machine)?;
    let name = SnapshotError::name(arguments.which.name(&records.tree)?)?;
    let within = arguments.operate.within();
    let given = [
        (RevertFlag::Running, arguments.running),
        (RevertFlag::Paused, arguments.paused),
        (RevertFlag::Force, arguments.force),
        (RevertFlag::ResetNvram, arguments.reset_nvram),
        (RevertFlag::Discard, arguments.discard),
        (RevertFlag::DeleteChildren, arguments.delete_children),
    ];
    let flags = given.into_iter().filter_map(|(flag, given)| given.then_some(flag)).collect();
    let (storage_is_back, stated) = (arguments.storage_is_back, spec::stated(&arguments.providers)?);
    let operate = arguments.operate.with_transient(arguments.transient);
    let operate = operate.with_managed_save(arguments.managed_save.clone());
    operate.operate(&Request::Revert(Revert { name, flags, storage_is_back, stated, within }))
}
