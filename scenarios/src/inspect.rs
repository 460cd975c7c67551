//! How everything stands after the last step: held against the scenario's expectations, and against what must hold in
//! any case.
//!
//! It looks through the second monitor and at the folder, in either world the same way; of a machine that is off at its images. What must hold in any case
//! (DESIGN's invariants, as far as they can be seen from outside):
//! - the guest stands as it did before, unless the scenario says otherwise;
//! - no file system of the guest is left frozen;
//! - no job, no node is left that the scenario does not name;
//! - every file is in use by a disk, or was there before.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe_driver::{
    client::{Client, CommandError},
    commands::{BlockNode, ImageInfo, QueryBlock, QueryJobs, QueryNamedBlockNodes, QueryStatus},
    domain_snapshot::DomainSnapshot,
    domain_xml::DomainXml,
    env::Env,
    images,
    observed::file_of,
    qemu_img::QemuImg,
    store,
};

use crate::{
    language::{Expect, GuestState, Power, Scenario},
    machine, oracle,
    world::World,
};

use std::time::Duration;

/// The longest description of a machine, in bytes.
const DESCRIPTION_MAX: usize = 1 << 20;

/// How long a question may take.
const ASK: Duration = Duration::from_secs(10);

/// How things stand.
struct Final {
    /// `running`, `paused`, ..., `gone`.
    guest: String,
    /// For each disk the files of its chain, base first.
    chains: BTreeMap<String, Vec<String>>,
    /// For each disk the internal snapshots of its top image.
    internal: BTreeMap<String, Vec<String>>,
    /// The ids of all jobs.
    jobs: BTreeSet<String>,
    /// Every named node and its file.
    nodes: BTreeMap<String, String>,
    /// The files in the folder.
    files: BTreeSet<String>,
}

/// Everything that is not as it should be.
pub(crate) async fn findings<W: World>(
    scenario: &Scenario,
    world: &W,
    control: Option<&Client<W::Env>>,
) -> Vec<String> {
    let files = match world.files().await {
        Ok(files) => files,
        Err(error) => return vec![format!("the machine's folder cannot be read: {error}")],
    };
    let look = match control {
        None => match look_at_images(world).await {
            Ok(look) => Final { files, ..look },
            Err(why) => return vec![why],
        },
        Some(control) => match look(world, control).await {
            Ok(look) => Final { files, ..look },
            Err(CommandError::Lost { .. }) => gone(files),
            Err(error) => return vec![format!("QEMU does not tell how it stands: {error}")],
        },
    };
    let mut findings = Vec::new();
    expectations(scenario, &look, &mut findings);
    invariants(scenario, &look, &mut findings);
    if look.guest != "gone" {
        findings.extend(frozen(scenario, world).await);
    }
    findings
}

/// Whether the guest was left frozen, and was not to be.
async fn frozen<W: World>(scenario: &Scenario, world: &W) -> Option<String> {
    match (world.is_frozen().await, scenario.expect.frozen) {
        (Ok(true), false) => Some("the guest was left frozen".to_owned()),
        (Ok(false), true) => Some("the guest was to be left frozen, and is not".to_owned()),
        (Ok(_), _) => None,
        // Nobody says so of an agent that is away on purpose.
        (Err(error), true) => Some(error.to_string()),
        (Err(_), false) => None,
    }
}

fn gone(files: BTreeSet<String>) -> Final {
    Final {
        guest: "gone".into(),
        chains: BTreeMap::new(),
        internal: BTreeMap::new(),
        jobs: BTreeSet::new(),
        nodes: BTreeMap::new(),
        files,
    }
}

async fn look<W: World>(world: &W, control: &Client<W::Env>) -> Result<Final, CommandError> {
    let deadline = world.env().now() + ASK;
    let status = control.execute("look", &QueryStatus {}, deadline).await?;
    let devices = control.execute("look", &QueryBlock {}, deadline).await?;
    let nodes = control.execute("look", &QueryNamedBlockNodes { flat: true }, deadline).await?;
    let jobs = control.execute("look", &QueryJobs {}, deadline).await?;
    let mut look = Final { guest: status.status, ..gone(BTreeSet::new()) };
    for device in devices {
        let (Some(qdev), Some(inserted)) = (device.qdev, device.inserted) else { continue };
        let target = target_of(&qdev);
        look.chains.insert(target.clone(), chain(&inserted.image));
        let names = inserted.image.snapshots.iter().map(|snapshot| snapshot.name.clone());
        look.internal.insert(target, names.collect());
    }
    look.jobs = jobs.into_iter().map(|job| job.id).collect();
    look.nodes = nodes.into_iter().filter_map(named).collect();
    Ok(look)
}

/// What the images of a machine that is off say, those that its description names.
async fn look_at_images<W: World>(world: &W) -> Result<Final, String> {
    let path = description(world.folder());
    let bytes =
        world.env().read_file(&path, DESCRIPTION_MAX).await.map_err(|error| format!("{path}: {error}"))?;
    let domain = DomainXml::read(&bytes).map_err(|error| format!("{path}: {error}"))?;
    let tool = QemuImg { program: world.tool(), ..QemuImg::new(world.env().clone()) };
    let observed = images::observe(&tool, &domain, |_| true).await.map_err(|error| error.to_string())?;
    let mut look = gone(BTreeSet::new());
    for disk in observed.disks.into_iter().chain(observed.nvram) {
        let name = |file: &Utf8Path| file.file_name().unwrap_or_default().to_owned();
        let chain = disk.chain.iter().rev().map(|image| name(&image.file)).collect();
        look.chains.insert(disk.target.clone(), chain);
        look.internal.insert(disk.target, disk.snapshots.into_iter().map(|held| held.name).collect());
    }
    Ok(look)
}

fn named(node: BlockNode) -> Option<(String, String)> {
    Some((node.node_name?, name_of(&node.image.filename)))
}

/// `/machine/peripheral/vda-device/virtio-backend` is disk `vda`; the board's second flash holds the firmware's variables.
fn target_of(qdev: &str) -> String {
    let device = qdev.split('/').find(|part| part.ends_with("-device"));
    oracle::disk_of(device.unwrap_or(qdev)).to_owned()
}

/// The file names of a chain, base first.
fn chain(top: &ImageInfo) -> Vec<String> {
    let mut files = Vec::new();
    let mut next = Some(top);
    while let Some(image) = next {
        files.push(name_of(&image.filename));
        next = image.backing_image.as_deref();
    }
    files.reverse();
    files
}

fn name_of(filename: &str) -> String {
    file_of(filename).file_name().unwrap_or(filename).to_owned()
}

/// What the scenario says must be.
fn expectations(scenario: &Scenario, look: &Final, findings: &mut Vec<String>) {
    let expect = &scenario.expect;
    if let Some(guest) = expect.guest.map(GuestState::name).filter(|guest| *guest != look.guest) {
        findings.push(format!("the guest was to be {guest}, and is {}", look.guest));
    }
    let mut same = |what: &str, disk: &str, wanted: &Vec<String>, found: Option<&Vec<String>>| {
        if found != Some(wanted) {
            let found = found.map_or("nothing".to_owned(), |found| format!("[{}]", found.join(", ")));
            findings.push(format!("{what} of {disk} was to be [{}], and is {found}", wanted.join(", ")));
        }
    };
    for (disk, wanted) in &expect.chain {
        same("the chain", disk, wanted, look.chains.get(disk));
    }
    for (disk, wanted) in &expect.internal {
        same("the list of internal snapshots", disk, wanted, look.internal.get(disk));
    }
    if let Some(wanted) = expect.files.as_ref().filter(|wanted| **wanted != look.files) {
        let list = |files: &BTreeSet<String>| files.iter().cloned().collect::<Vec<_>>().join(", ");
        findings.push(format!("the files were to be [{}], and are [{}]", list(wanted), list(&look.files)));
    }
    if look.jobs != expect.jobs {
        let list = |jobs: &BTreeSet<String>| jobs.iter().cloned().collect::<Vec<_>>().join(", ");
        findings.push(format!(
            "the jobs were to be [{}], and are [{}]",
            list(&expect.jobs),
            list(&look.jobs)
        ));
    }
}

/// The description of a machine that is off.
pub(crate) fn description(folder: &Utf8Path) -> Utf8PathBuf {
    state(folder).join(format!("{}.xml", machine::NAME))
}

/// The folder of the driver's records: in the machine's own, so that it goes with it.
pub(crate) fn state(folder: &Utf8Path) -> Utf8PathBuf {
    folder.join("state")
}

/// What of the records is not as the scenario says.
pub(crate) async fn records<W: World>(expect: &Expect, world: &W) -> Vec<String> {
    let (tree, passed) = match store::load(world.env(), &state(world.folder()), machine::NAME).await {
        Ok(found) => found,
        Err(error) => return vec![error.to_string()],
    };
    let mut findings: Vec<String> = passed.iter().map(ToString::to_string).collect();
    let found: BTreeSet<String> = tree.topological().into_iter().map(str::to_owned).collect();
    if let Some(wanted) = expect.records.as_ref().filter(|wanted| **wanted != found) {
        let list = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(", ");
        findings.push(format!("the records were to be [{}], and are [{}]", list(wanted), list(&found)));
    }
    if let Some(wanted) = expect.current.as_deref().filter(|wanted| tree.current() != Some(wanted)) {
        let found = tree.current().unwrap_or("none");
        findings.push(format!("the current snapshot was to be {wanted}, and is {found}"));
    }
    for (name, wanted) in &expect.record_holds {
        let document = tree.get(name).map(DomainSnapshot::document).unwrap_or_default();
        let missing = wanted.iter().filter(|words| !document.contains(words.as_str()));
        findings.extend(missing.map(|words| format!("the record of {name} does not hold `{words}`")));
    }
    findings
}

/// What must be in any case.
fn invariants(scenario: &Scenario, look: &Final, findings: &mut Vec<String>) {
    let before = match scenario.machine.state {
        Power::Running => "running",
        Power::Paused => "paused",
        Power::Prelaunch => "prelaunch",
        Power::Off => "gone",
    };
    if scenario.expect.guest.is_none() && look.guest != before {
        findings.push(format!("the guest was {before} and was left {}", look.guest));
    }
    let was_off = scenario.machine.state == Power::Off;
    if look.guest == "gone" && !was_off {
        if scenario.expect.files.is_none() {
            findings.push(
                "QEMU is gone and cannot tell which files are in use: the scenario must name `files`".into(),
            );
        }
        return;
    }
    let images = scenario.machine.disks.iter().map(|disk| name_of(&disk.image()));
    let mut used: BTreeSet<String> = images.chain(scenario.machine.flash().into_iter().flatten()).collect();
    used.extend(look.chains.values().flatten().cloned());
    used.extend(scenario.machine.files.iter().map(|file| file.name.clone()));
    for (node, file) in &look.nodes {
        if !used.contains(file) && !scenario.expect.nodes.contains(node) {
            findings.push(format!("node {node} on {file} was left open"));
        }
    }
    let named = scenario.expect.files.as_ref();
    for file in &look.files {
        if !used.contains(file) && !named.is_some_and(|named| named.contains(file)) {
            findings.push(format!("file {file} was left behind"));
        }
    }
    // A disk that is a volume itself lies in no folder of the machine's.
    let volumes = scenario.machine.disks.iter().filter(|disk| disk.image().starts_with('/'));
    let volumes: BTreeSet<String> = volumes.map(|disk| name_of(&disk.image())).collect();
    let is_there = |file: &&String| look.files.contains(*file) || volumes.contains(*file);
    for file in look.chains.values().flatten().filter(|file| !is_there(file)) {
        findings.push(format!("file {file} is in use and does not exist"));
    }
}
