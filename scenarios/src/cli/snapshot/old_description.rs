//! Whether the file with a machine's description names other images than its disks are in: it is kept in step only where that is
//! asked for, and a machine that is started from it as it is would go on in what it has left.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe_driver::{
    Machine,
    domain_xml::DomainXml,
    env::{Env as _, tokio::TokioEnv},
    report::{Anew, Deed, Left, Report},
};
use serde_json::json;

use crate::cli::told::Told;

/// The image that each disk is in, by target.
pub(super) type Images = BTreeMap<String, Utf8PathBuf>;

/// Those of a machine that runs; none if it does not answer.
pub(super) async fn images_of_running(machine: &Machine<TokioEnv>) -> Images {
    let observed = machine.observe().await.ok();
    let sources = observed.iter().flat_map(|observed| observed.sources());
    sources.map(|(target, file, _)| (target.to_owned(), file.to_owned())).collect()
}

/// Those that an operation has left the machine in. `before` are those of one that was halted by it: nobody answers any more.
pub(super) async fn images_after(machine: &Machine<TokioEnv>, report: &Report, before: Images) -> Images {
    match &report.deed {
        Deed::Taken { left: Left::Off | Left::OffFor(_), .. } => {
            let overlays = report.overlaid.iter().map(|disk| (disk.target.clone(), disk.overlay.clone()));
            before.into_iter().chain(overlays).collect()
        }
        Deed::Reverted(Anew::Running | Anew::Paused | Anew::Off) => {
            let document = machine.domain().document;
            let disks = document.iter().flat_map(DomainXml::disks);
            disks.filter_map(|disk| Some((disk.target.to_owned(), disk.path()?.to_owned()))).collect()
        }
        Deed::Taken { .. } | Deed::Reverted(Anew::No) | Deed::Deleted(_) => images_of_running(machine).await,
    }
}

/// What a description would have to say of which disks.
pub(super) async fn differences(described: &DomainXml, images: Images) -> Images {
    let mut other = Images::new();
    for (target, image) in images {
        let said = described.disk(&target).and_then(|disk| disk.path());
        if let Some(said) = said
            && !is_one(said, &image).await
        {
            other.insert(target, image);
        }
    }
    other
}

/// Whether both paths lead to one file. From where QEMU sees one that does not begin at the root is not known.
async fn is_one(said: &Utf8Path, image: &Utf8Path) -> bool {
    let env = TokioEnv::new();
    let same_name = image.is_relative() && image.file_name() == said.file_name();
    said == image
        || same_name
        || matches!((env.canonical(said).await, env.canonical(image).await), (Ok(said), Ok(image)) if said == image)
}

/// Tells of a description that is old.
pub(super) fn tell(told: Told, file: &Utf8Path, differences: &Images) -> Told {
    if differences.is_empty() {
        return told;
    }
    let goes_on: Vec<_> = differences.iter().map(|(target, image)| format!("{target} in {image}")).collect();
    let words = format!(
        "{file} still names the images of before: it has to say {} before the machine is started anew (--write-domain writes \
         it)\n",
        goes_on.join(", ")
    );
    told.and(&words, "description-is-old", json!(true))
}
