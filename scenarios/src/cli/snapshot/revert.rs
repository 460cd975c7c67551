//! `revert`: the machine is put back.

use clap::Args;
use freezeframe_driver::request::{Request, Revert};

use super::{
    SnapshotError,
    operate::OperateArgs,
    records::{Records, WhichArgs},
};
use crate::cli::{CliError, told::Told};

#[derive(Debug, Args)]
pub(super) struct RevertArgs {
    #[command(flatten)]
    operate: OperateArgs,
    #[command(flatten)]
    which: WhichArgs,
}

pub(super) fn revert(arguments: &RevertArgs) -> Result<Told, CliError> {
    let records = Records::read(&arguments.operate.machine)?;
    let name = SnapshotError::name(arguments.which.name(&records.tree)?)?;
    let within = arguments.operate.within();
    arguments.operate.operate(&Request::Revert(Revert { name, within }))
}
