//! Which disks, and who takes their snapshots: the options of every verb.

use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use freezeframe_driver::{
    disk::{By, DiskError, Disks, ELEMENT, inside},
    domain_xml::DomainXml,
    env::tokio::TokioEnv,
    xml::Element,
};

use crate::cli::{
    CliError,
    snapshot::{operate::OperateArgs, records::MachineArgs, xml},
};

#[derive(Debug, Args)]
pub(super) struct NamedArgs {
    /// The snapshot
    pub(super) name: String,
    #[command(flatten)]
    pub(super) which: WhichArgs,
}

/// Which disks, and who takes their snapshots.
#[derive(Debug, Args)]
pub(super) struct WhichArgs {
    /// The machine's <domain> document
    #[arg(long, value_name = "FILE")]
    domain: Utf8PathBuf,
    /// A disk by its target; again for more, which are caught at one point in time
    #[arg(long = "disk", value_name = "TARGET", required = true)]
    pub(super) disks: Vec<String>,
    /// Who takes the snapshots, in the place of what the document says
    #[arg(long, value_name = "METHOD")]
    method: Option<By>,
    /// The volume, where the disk's source does not name it
    #[arg(long, requires = "method")]
    volume: Option<String>,
    /// lvm: room of a thick volume's snapshot, in percent of the volume
    #[arg(long, value_name = "PERCENT", requires = "method")]
    room: Option<String>,
    /// rbd: the group of images, POOL/GROUP
    #[arg(long, requires = "method")]
    group: Option<String>,
    /// rbd: the cluster's ceph.conf
    #[arg(long, value_name = "FILE", requires = "method")]
    settings: Option<String>,
    /// exec: the program
    #[arg(long, value_name = "FILE", requires = "method")]
    program: Option<String>,
    /// qemu: the folder of the machine's records, as `freezeframe snapshot` has it
    #[arg(long, value_name = "DIR")]
    state: Option<Utf8PathBuf>,
    /// qemu: the socket of QEMU's monitor, one that nobody else uses. Without it the machine is off
    #[arg(long, value_name = "SOCK", requires = "state")]
    qmp: Option<Utf8PathBuf>,
}

impl WhichArgs {
    /// Who takes the snapshots.
    pub(super) fn by(&self) -> Result<By, CliError> {
        Ok(By::of(&self.document()?, &self.disks, self.stated().as_ref())?)
    }

    /// Whether the document says that QEMU's snapshots are to be inside the images.
    pub(super) fn inside(&self) -> Result<bool, CliError> {
        Ok(inside(&self.document()?, &self.disks, self.stated().as_ref())?)
    }

    /// Whether the machine runs, as far as is said.
    pub(super) fn has_monitor(&self) -> bool {
        self.qmp.is_some()
    }

    /// The disks and their storage.
    pub(super) fn storage(&self, env: TokioEnv) -> Result<Disks<TokioEnv>, CliError> {
        Ok(Disks::of(env, &self.document()?, &self.disks, self.stated().as_ref())?)
    }

    /// The machine, of which QEMU takes the snapshots.
    pub(super) fn machine(&self, agent: Option<&Utf8Path>, within: u32) -> Result<OperateArgs, CliError> {
        let state = self.state.clone().ok_or(DiskError::NoRecords)?;
        let machine = MachineArgs::of(self.domain.clone(), state);
        Ok(OperateArgs::of(machine, self.qmp.clone(), agent.map(ToOwned::to_owned), within))
    }

    /// Whether anything is said that is QEMU's affair alone.
    pub(super) fn check_no_qemu(&self) -> Result<(), CliError> {
        match (&self.state, self.qmp.is_some()) {
            (None, _) => Ok(()),
            (Some(_), with_monitor) => {
                let option = if with_monitor { "--state and --qmp are" } else { "--state is" };
                let why =
                    "for the method qemu: a storage asks no QEMU, and its snapshots stand in no records";
                Err(CliError::Usage(format!("{option} {why}")))
            }
        }
    }

    fn document(&self) -> Result<DomainXml, CliError> {
        xml::domain(&self.domain)
    }

    /// What the options say, in the place of what the document says.
    fn stated(&self) -> Option<Element> {
        let mut said = Element::new(ELEMENT).with("method", self.method?.name());
        let options = [
            ("volume", &self.volume),
            ("room", &self.room),
            ("group", &self.group),
            ("settings", &self.settings),
            ("program", &self.program),
        ];
        for (name, value) in options {
            if let Some(value) = value {
                said.set(name, value);
            }
        }
        Some(said)
    }
}
