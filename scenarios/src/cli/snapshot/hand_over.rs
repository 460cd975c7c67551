//! `hand-over`: the records of a machine that has migrated go to its new host, as one operation. No disk is touched.
//!
//! ```text
//! all checked -> written there -> removed here
//!                            \--> broken off: both hosts have them; run again, it goes on
//! ```

use camino::Utf8PathBuf;
use clap::Args;
use freezeframe_driver::tree;
use serde_json::json;

use super::{
    SnapshotError,
    records::{self, Locked, MachineArgs},
};
use crate::cli::{CliError, told::Told};

#[derive(Debug, Args)]
pub(super) struct HandOverArgs {
    #[command(flatten)]
    machine: MachineArgs,
    /// Folder of freezeframe's records on the host that the machine has moved to
    #[arg(long, value_name = "DIR")]
    to: Utf8PathBuf,
    /// Check it and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Why records were not handed over as a whole.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum NotHandedOver {
    /// Both folders are one.
    #[error("`{0}` is where the records are")]
    SameFolder(Utf8PathBuf),
    /// There is none where the records are to go: the name is mistyped, or what it is on is not mounted.
    #[error("there is no folder `{0}`: make it if the records are to go there")]
    NoFolder(Utf8PathBuf),
    /// What cannot be read would be left behind.
    #[error("{0} files among the records, here or there, cannot be read as such: mend or remove them first")]
    Unread(usize),
    /// All are there; here they could not be removed.
    #[error(
        "all {recorded} records are in `{to}`, and {left} of them are here still: {cause} Run it again once that is mended"
    )]
    LeftHere {
        /// How many there are.
        recorded: usize,
        /// Where they have gone.
        to: Utf8PathBuf,
        /// How many are left.
        left: usize,
        /// Why.
        cause: Box<SnapshotError>,
    },
}

pub(super) fn hand_over(arguments: &HandOverArgs) -> Result<Told, CliError> {
    let HandOverArgs { machine, to, dry_run } = arguments;
    if !to.is_dir() {
        return Err(SnapshotError::from(NotHandedOver::NoFolder(to.clone())).into());
    }
    let real = |folder: &Utf8PathBuf| folder.canonicalize_utf8().unwrap_or_else(|_| folder.clone());
    if real(to) == real(&machine.state().to_owned()) {
        return Err(SnapshotError::from(NotHandedOver::SameFolder(to.clone())).into());
    }
    let mut here = Locked::open(machine, *dry_run)?;
    tree::check_moves(&here.domain).map_err(SnapshotError::from)?;
    let runtime = records::runtime()?;
    let name = here.domain.name();
    let opened = runtime.block_on(records::open(to, &name, *dry_run));
    let (mut there, passed) = opened.map_err(SnapshotError::from)?;
    records::warn(&passed);
    let unread = passed.len() + here.passed.len();
    if unread > 0 {
        return Err(SnapshotError::from(NotHandedOver::Unread(unread)).into());
    }
    let uuid = here.domain.uuid();
    let (taken, names) = here.change(true, |tree| {
        let taken = there.tree().take_over(tree, uuid.as_deref())?;
        Ok((taken, tree.topological().into_iter().map(str::to_owned).collect::<Vec<_>>()))
    })?;
    if !dry_run {
        runtime.block_on(there.save(taken)).map_err(SnapshotError::from)?;
        // What descends goes first, each by itself: what is left at any time is a tree, and has the parents that it has there.
        for name in names.iter().rev() {
            if let Err(cause) = here.change(false, |tree| Ok(tree.remove(name))) {
                let left = here.change(true, |tree| Ok(tree.len()))?;
                let (recorded, to, cause) = (names.len(), to.clone(), Box::new(cause));
                return Err(SnapshotError::from(NotHandedOver::LeftHere { recorded, to, left, cause }).into());
            }
        }
    }
    let lines = names.iter().map(|name| format!("record of snapshot {name} handed over\n"));
    let text = format!("{} records handed over to {to}\n{}", names.len(), lines.collect::<String>());
    Ok(Told::new(text, json!({ "handed-over": names })).tried(*dry_run))
}
