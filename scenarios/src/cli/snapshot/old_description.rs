//! Whether the file with a machine's description names other images than its disks are in: it is kept in step only where that is
//! asked for, and a machine that is started from it as it is would go on in what it has left.

use camino::Utf8Path;
use freezeframe_driver::{
    Machine,
    domain_xml::DomainXml,
    env::{Env as _, tokio::TokioEnv},
    report::{Anew, Deed, Images, Report},
};
use serde_json::json;

use crate::cli::told::Told;

/// Those of a machine that runs; none if it does not answer.
pub(super) async fn images_of_running(machine: &Machine<TokioEnv>) -> Images {
    machine.observe().await.map(|observed| observed.images_by_target()).unwrap_or_default()
}

/// Those that an operation has left the machine in.
pub(super) async fn images_after(machine: &Machine<TokioEnv>, report: &Report) -> Images {
    match &report.deed {
        Deed::Taken { .. } => report.images.clone(),
        Deed::Reverted(Anew::Running | Anew::Paused | Anew::Off) => {
            let document = machine.domain().document;
            let disks = document.iter().flat_map(DomainXml::disks);
            disks.filter_map(|disk| Some((disk.target.to_owned(), disk.path()?.to_owned()))).collect()
        }
        Deed::Reverted(Anew::No) | Deed::Deleted(_) => images_of_running(machine).await,
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
    match words(file, differences) {
        Some(words) => told.and(&format!("{words}\n"), "description-is-old", json!(true)),
        None => told,
    }
}

/// The words for it; none if there is nothing to tell.
pub(super) fn words(file: &Utf8Path, differences: &Images) -> Option<String> {
    if differences.is_empty() {
        return None;
    }
    let goes_on: Vec<_> = differences.iter().map(|(target, image)| format!("{target} in {image}")).collect();
    Some(format!(
        "{file} still names the images of before: it has to say {} before the machine is started anew (--write-domain writes it)",
        goes_on.join(", ")
    ))
}
