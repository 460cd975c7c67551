//! `create-as`: a snapshot as options describe it.

use clap::Args;
use freezeframe_driver::{domain_snapshot::Purpose, xml::Element};
use serde_json::json;

use super::{
    SnapshotError,
    create::{FlagArgs, NAMES, take_with},
    operate::OperateArgs,
    spec::{DiskSpec, MemSpec},
    validate::ValidateArgs,
    xml::Document,
};
use crate::cli::{CliError, told::Told};

#[derive(Debug, Args)]
// To print the document no machine is needed.
#[command(
    after_help = format!("{NAMES}

--domain, --state and --qmp are needed, except with --print-xml. All disks that are not named by --diskspec take part as the
machine has them by default.

  freezeframe snapshot create-as before-upgrade --disk-only --diskspec vdb,snapshot=no \\
      --domain vm.xml --state /var/lib/freezeframe --qmp /run/vm.qmp"),
    mut_arg("domain", |domain| domain.required(false).required_unless_present("print_xml")),
    mut_arg("state", |state| state.required(false).required_unless_present("print_xml"))
)]
pub(super) struct CreateAsArgs {
    #[command(flatten)]
    operate: OperateArgs,
    /// The snapshot's name [default: the second in which it is taken, since 1970]
    #[arg(value_name = "NAME")]
    positional_name: Option<String>,
    /// What is to be said of it
    #[arg(value_name = "DESCRIPTION")]
    positional_description: Option<String>,
    /// The name, as an option
    #[arg(long, value_name = "NAME", conflicts_with = "positional_name")]
    name: Option<String>,
    /// The description, as an option
    #[arg(long, value_name = "TEXT", conflicts_with = "positional_description")]
    description: Option<String>,
    /// Print the document that these options make, and do nothing. Flags are no part of it: say them again with `create`
    #[arg(long)]
    print_xml: bool,
    #[command(flatten)]
    flags: FlagArgs,
    /// Where the memory goes: [file=]FILE[,snapshot=no|internal|external]; a comma in it is written twice
    #[arg(long, value_name = "SPEC")]
    memspec: Option<MemSpec>,
    /// One disk: DISK[,snapshot=no|internal|external|manual][,driver=qcow2][,stype=file|block][,file=FILE]; may be given
    /// several times
    #[arg(long, value_name = "SPEC")]
    diskspec: Vec<DiskSpec>,
    #[command(flatten)]
    validate: ValidateArgs,
}

pub(super) fn create_as(arguments: &CreateAsArgs) -> Result<Told, CliError> {
    let text = arguments.element().document();
    // Read as anybody's: an option may hold what no document can, and no record could be read back.
    let document =
        Document { file: "the document of these options".into(), bytes: text.clone().into_bytes() };
    let wish = document.snapshot(Purpose::Create { without_memory: arguments.flags.disk_only })?;
    arguments.validate.check(&document)?;
    if arguments.print_xml {
        if let Some(name) = &wish.name {
            SnapshotError::name(name)?;
        }
        return Ok(Told::new(text.clone(), json!({ "name": wish.name, "xml": text })));
    }
    take_with(&arguments.operate, wish, &arguments.flags, arguments.validate.validate)
}

impl CreateAsArgs {
    fn element(&self) -> Element {
        let mut root = Element::new("domainsnapshot");
        let texts = [
            ("name", self.name.as_ref().or(self.positional_name.as_ref())),
            ("description", self.description.as_ref().or(self.positional_description.as_ref())),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                root.push(Element::of_text(name, text));
            }
        }
        if let Some(MemSpec(memory)) = &self.memspec {
            root.push(memory.clone());
        }
        if !self.diskspec.is_empty() {
            let mut disks = Element::new("disks");
            self.diskspec.iter().for_each(|DiskSpec(disk)| disks.push(disk.clone()));
            root.push(disks);
        }
        root
    }
}
