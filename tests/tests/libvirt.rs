//! What this driver and real libvirt hand to each other: its records are taken by `virsh snapshot-create --redefine`, libvirt's are
//! read without loss, and options mean the same to both commands.
//!
//! Needs root, Debian's libvirt-daemon-system and libvirt-clients, and a real QEMU (see `freezeframe_tests::real::programs`); the
//! schema needs libxml2-utils too.
//!
//! A test without libtest's harness, which hides what a passing test prints: what is skipped must be seen.
#![allow(clippy::print_stdout, reason = "it has no harness to speak for it")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "runs real programs on real files")]

use std::{
    error::Error,
    fs,
    process::{Command, ExitCode},
};

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe::{
    language::{Action, Folder},
    machine,
    play::{self, CannotPlay},
    suite::Case,
    world::{World as _, sim::SimWorld},
};
use freezeframe_driver::{
    domain_snapshot::{DomainSnapshot, Purpose},
    domain_xml::DomainXml,
    store,
    tree::SnapshotTree,
    xml::Element,
};
use freezeframe_sim::{Oracle, Simulation};
use freezeframe_tests::{libvirt::Libvirt, suite, unharnessed::asked_for};

type Failed = Box<dyn Error>;

/// Tells what was compared.
type Test = fn(&Libvirt) -> Result<Told, Failed>;

/// How a test came out that did not fail.
enum Told {
    /// What was compared.
    Passed(String),
    /// What it lacks.
    Skipped(String),
}

/// How many scenarios leave records, at least: of those that keep some more than a hundred and fifty do, and those that are not
/// played any more are to be missed.
const SCENARIOS: usize = 150;

/// What a test runner calls these tests, and what they do.
const TESTS: [(&str, Test); 4] = [
    ("libvirt_takes_every_record_that_the_suite_leaves", takes_records),
    ("what_libvirt_records_is_read_without_loss", reads_records),
    ("options_mean_what_they_mean_to_virsh", options),
    ("libvirts_schema_is_asked", validates),
];

fn main() -> ExitCode {
    let asked = asked_for(&TESTS.map(|(name, _)| name));
    if asked.is_empty() {
        return ExitCode::SUCCESS;
    }
    let libvirt = match Libvirt::start() {
        Ok(libvirt) => libvirt,
        Err(why) => {
            println!("\nskipped {}: no real libvirt here: {why}", asked.len());
            println!("\nlibvirt: 0 passed, 0 failed, {} skipped\n", asked.len());
            return ExitCode::SUCCESS;
        }
    };
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for (name, test) in TESTS.into_iter().filter(|(name, _)| asked.contains(name)) {
        let (count, told) = match test(&libvirt) {
            Ok(Told::Passed(told)) => (&mut passed, told),
            Ok(Told::Skipped(why)) => (&mut skipped, format!("skipped: {why}")),
            Err(error) => (&mut failed, format!("FAILED: {error}")),
        };
        *count += 1;
        println!("{name}: {told}");
    }
    println!("\nlibvirt: {passed} passed, {failed} failed, {skipped} skipped\n");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The command that is tested.
fn freezeframe(arguments: &[&str]) -> Result<String, Failed> {
    let ran = Command::new(env!("CARGO_BIN_EXE_freezeframe-command")).args(arguments).output()?;
    if !ran.status.success() {
        let words = String::from_utf8_lossy(&ran.stderr);
        return Err(format!("freezeframe {}: {}", arguments.join(" "), words.trim()).into());
    }
    Ok(String::from_utf8(ran.stdout)?)
}

fn takes_records(libvirt: &Libvirt) -> Result<Told, Failed> {
    let (mut scenarios, mut records, mut by_storage) = (0, 0, 0);
    let suite = suite();
    let (edited, cases): (Vec<_>, Vec<_>) =
        suite.iter().filter(|case| case.scenario.machine.records).partition(|case| has_edited_records(case));
    for case in cases {
        let tree = left_by(case)?;
        if tree.is_empty() {
            continue;
        }
        let told = hand_over(libvirt, &tree).map_err(|error| format!("{}: {error}", case.scenario.id));
        // Whatever became of it, the next scenario's machine has the same name.
        let _ = libvirt.virsh(&["undefine", "vm", "--snapshots-metadata"]);
        records += told?;
        let holds = |name: &&str| tree.get(name).is_some_and(|record| !record.storage.is_empty());
        by_storage += tree.topological().iter().filter(|name| holds(name)).count();
        scenarios += 1;
    }
    if scenarios < SCENARIOS {
        return Err(format!("only {scenarios} scenarios leave records").into());
    }
    if by_storage < 2 {
        return Err(format!("only {by_storage} records tell of a storage").into());
    }
    Ok(Told::Passed(format!(
        "{records} records of {scenarios} scenarios, of which {by_storage} tell of a storage; left out: {} scenarios in which somebody \
         else has written to the records",
        edited.len()
    )))
}

/// Whether a scenario writes to the records past the driver: what is there then is not the driver's.
fn has_edited_records(case: &Case) -> bool {
    let steps = &case.scenario.steps;
    steps
        .iter()
        .any(|step| matches!(&step.action, Action::Tamper(tamper) if tamper.folder == Folder::Records))
}

/// The records that a scenario leaves on the simulator.
fn left_by(case: &Case) -> Result<SnapshotTree, Failed> {
    let release = case.releases().last().ok_or("a scenario is for a release")?;
    let machine = machine::of(&case.scenario);
    let simulation = Simulation::new(&machine, release, Oracle::default_order());
    let handle = simulation.handle();
    let world = SimWorld::new(&machine, handle.sockets(), handle.spawner());
    let tree = simulation.run(async {
        let capabilities = play::capabilities(&world).await?;
        play::play(&case.scenario, &world, capabilities.into()).await?;
        let loaded = store::load(world.env(), &world.folder().join("state"), "vm").await;
        loaded.map(|(tree, _)| tree).map_err(|error| CannotPlay::new(error.to_string()))
    })?;
    Ok(tree?)
}

/// Defines the machine of these records, hands all of them to libvirt, and holds what it then shows against them.
fn hand_over(libvirt: &Libvirt, tree: &SnapshotTree) -> Result<usize, Failed> {
    let names = tree.topological();
    let record = |name: &str| complete(tree.get(name).expect("it is listed"), libvirt);
    let machine = record(names[0]).domain.ok_or("a record without its machine")?;
    let machine = libvirt.file("machine.xml", &machine.document())?;
    libvirt.virsh(&["define", machine.as_str()])?;
    for name in &names {
        let ours = record(name);
        let file = libvirt.file("record.xml", &ours.document())?;
        let redefine = ["snapshot-create", "vm", file.as_str(), "--redefine"];
        let current: &[&str] = if tree.current() == Some(name) { &["--current"] } else { &[] };
        // What is in a namespace of its own has to pass libvirt's schema.
        let validate: &[&str] = if ours.storage.is_empty() { &[] } else { &["--validate"] };
        libvirt.virsh(&[&redefine[..], current, validate].concat())?;
        let theirs = libvirt.virsh(&["snapshot-dumpxml", "vm", name, "--security-info"])?;
        let theirs = DomainSnapshot::read(theirs.as_bytes(), Purpose::Redefine)?;
        same(&ours, &theirs).map_err(|error| format!("{name}: {error}"))?;
    }
    let current = libvirt.virsh(&["snapshot-current", "vm", "--name"]).ok();
    let current = current.as_deref().map(str::trim);
    if current != tree.current() {
        return Err(format!("current is {:?}, and {current:?} to libvirt", tree.current()).into());
    }
    Ok(names.len())
}

/// The suite's machines say nothing of what every machine of libvirt's must have; and libvirt's schema has no `<diskSnapshot>`.
fn complete(record: &DomainSnapshot, libvirt: &Libvirt) -> DomainSnapshot {
    let mut record = record.clone();
    if let Some(domain) = &mut record.domain {
        let mut os = Element::new("os");
        let mut kind = Element::of_text("type", "hvm");
        kind.set("arch", "x86_64");
        kind.set("machine", "q35");
        os.push(kind);
        domain.remove("os");
        domain.push(os);
        if let Some(devices) = domain.child_mut("devices") {
            devices.elements_mut().for_each(|device| device.remove("diskSnapshot"));
            devices.push(Element::of_text("emulator", libvirt.qemu.as_str()));
        }
    }
    record
}

/// Whether libvirt says what was handed in; the machine it completes by what it gives every machine.
fn same(ours: &DomainSnapshot, theirs: &DomainSnapshot) -> Result<(), Failed> {
    let without = |snapshot: &DomainSnapshot| {
        let mut disks = snapshot.disks.clone();
        // How far a deletion was when it broke off is for this driver alone; libvirt keeps the mark that one was begun.
        disks.iter_mut().for_each(|disk| ["merge", "merged"].iter().for_each(|note| disk.rest.remove(note)));
        // libvirt goes on naming an overlay that is gone.
        disks.iter_mut().for_each(|disk| disk.gone = false);
        // libvirt knows the overlays of a revert by name since 9.9; 9.0 drops them.
        DomainSnapshot { domain: None, active: None, disks, revert_disks: Vec::new(), ..snapshot.clone() }
    };
    if without(ours) != without(theirs) {
        let (ours, theirs) = (without(ours).document(), without(theirs).document());
        return Err(format!("{ours}is to libvirt\n{theirs}").into());
    }
    let disks = |snapshot: &DomainSnapshot| -> Result<Vec<String>, Failed> {
        let domain = DomainXml::of(snapshot.domain.clone().ok_or("no machine")?)?;
        Ok(domain
            .disks()
            .map(|disk| format!("{} {} {:?}", disk.target, disk.format(), disk.path()))
            .collect())
    };
    match (disks(ours)?, disks(theirs)?) {
        (ours, theirs) if ours == theirs => Ok(()),
        (ours, theirs) => Err(format!("{ours:?} are to libvirt {theirs:?}").into()),
    }
}

/// A machine of libvirt's that can be started, with two images.
fn machine(libvirt: &Libvirt) -> Result<(), Failed> {
    let mut disks = String::new();
    for target in ["vda", "vdb"] {
        let image = libvirt.path(&format!("{target}.qcow2"));
        let made =
            Command::new("qemu-img").args(["create", "-q", "-f", "qcow2", image.as_str(), "16M"]).status()?;
        if !made.success() {
            return Err("qemu-img makes no image".into());
        }
        disks += &format!(
            "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{image}'/>\
             <target dev='{target}' bus='virtio'/></disk>"
        );
    }
    let text = format!(
        "<domain type='qemu'><name>real</name><memory unit='MiB'>64</memory><os><type arch='x86_64' machine='q35'>hvm\
         </type></os><devices><emulator>{}</emulator>{disks}<graphics type='vnc' socket='{}' passwd='sesame' \
         passwdValidTo='2030-01-01T00:00:00'/></devices>\
         </domain>",
        libvirt.qemu,
        libvirt.path("vnc")
    );
    let file = libvirt.file("real.xml", &text)?;
    libvirt.virsh(&["define", file.as_str()]).map(drop)
}

fn reads_records(libvirt: &Libvirt) -> Result<Told, Failed> {
    machine(libvirt)?;
    let read = real_snapshots(libvirt).and_then(|()| all_the_same(libvirt));
    let _ = libvirt.virsh(&["destroy", "real"]);
    let _ = libvirt.virsh(&["undefine", "real", "--snapshots-metadata"]);
    read.map(|count| Told::Passed(format!("{count} snapshots that libvirt took")))
}

/// Every kind of snapshot that libvirt takes, in two branches.
fn real_snapshots(libvirt: &Libvirt) -> Result<(), Failed> {
    let take =
        |arguments: &[&str]| libvirt.virsh(&[&["snapshot-create-as", "real"], arguments].concat()).map(drop);
    take(&["off", "a < b & \"c\""])?;
    take(&["off2"])?;
    libvirt.virsh(&["snapshot-current", "real", "off"])?;
    libvirt.virsh(&["start", "real"])?;
    take(&["internal"])?;
    take(&["disks", "--disk-only", "--diskspec", "vdb,snapshot=no"])?;
    let file = libvirt.path("memory,1");
    take(&["memory", "--memspec", &file.as_str().replace(',', ",,"), "--diskspec", "vda,snapshot=external"])
}

/// Holds all that both commands print of libvirt's own files against each other.
fn all_the_same(libvirt: &Libvirt) -> Result<usize, Failed> {
    let machine = libvirt.virsh(&["dumpxml", "real"])?;
    let machine = libvirt.file("running.xml", &machine)?;
    let state = libvirt.snapshots();
    let here = ["--domain", machine.as_str(), "--state", state.as_str()];
    let mut compared = 0;
    let mut compare = |virsh: &[&str], ours: &[&str]| -> Result<(), Failed> {
        let theirs = libvirt.virsh(virsh)?;
        let ours = freezeframe(&[&["snapshot"], ours, &here].concat())?;
        // virsh ends some of its lines with blanks, and its output with an empty line.
        let lines =
            |text: &str| text.trim_end().lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>();
        let (theirs, ours) = (lines(&theirs), lines(&ours));
        if theirs != ours {
            let at = theirs.iter().zip(&ours).take_while(|(theirs, ours)| theirs == ours).count();
            let line = |lines: &[String]| lines.get(at).cloned().unwrap_or_default();
            let (theirs, ours) = (line(&theirs), line(&ours));
            let which = virsh.join(" ");
            return Err(format!("line {} of `virsh {which}`: {theirs:?}; here: {ours:?}", at + 1).into());
        }
        compared += 1;
        Ok(())
    };
    let names = libvirt.virsh(&["snapshot-list", "real", "--name", "--topological"])?;
    let names: Vec<&str> = names.split_whitespace().collect();
    for name in &names {
        compare(
            &["snapshot-dumpxml", "real", name, "--security-info"],
            &["dumpxml", name, "--security-info"],
        )?;
        compare(&["snapshot-dumpxml", "real", name], &["dumpxml", name])?;
        compare(&["snapshot-info", "real", name], &["info", name])?;
    }
    compare(&["snapshot-current", "real", "--name"], &["current", "--name"])?;
    compare(&["snapshot-current", "real"], &["current"])?;
    compare(&["snapshot-parent", "real", "--current"], &["parent", "--current"])?;
    for filters in [
        &["--tree"][..],
        &["--parent"],
        &["--roots", "--name"],
        &["--leaves", "--name"],
        &["--no-leaves", "--name"],
        &["--inactive", "--name"],
        &["--active", "--name"],
        &["--disk-only", "--name"],
        &["--internal", "--name"],
        &["--external", "--name"],
        &["--from", "off", "--name"],
        &["--from", "off", "--descendants", "--name"],
        &["--no-metadata", "--name"],
        &["--metadata", "--name"],
    ] {
        compare(&[&["snapshot-list", "real"], filters].concat(), &[&["list"], filters].concat())?;
    }
    if compared < 30 {
        return Err(format!("only {compared} answers were compared").into());
    }
    Ok(names.len())
}

fn options(libvirt: &Libvirt) -> Result<Told, Failed> {
    machine(libvirt)?;
    let cases: [&[&str]; 8] = [
        &["s1"],
        &["--name", "s1", "--description", "a < b & 'c'"],
        &["s1", "what it is", "--disk-only", "--diskspec", "vda,snapshot=no"],
        &["--diskspec", "vda,file=/a,,b,snapshot=external", "--diskspec", "vdb,driver=qcow2"],
        &["s1", "--diskspec", "vda,stype=block,file=/dev/a,driver=qcow2"],
        &["s1", "--diskspec", "vda,stype=file,file=/a"],
        &["s1", "--memspec", "/m,,1"],
        &["s1", "--memspec", "file=/m,snapshot=external", "--diskspec", "vda,snapshot=manual"],
    ];
    for options in cases {
        let theirs = libvirt.virsh(&[&["snapshot-create-as", "real", "--print-xml"], options].concat());
        let ours = freezeframe(&[&["snapshot", "create-as", "--print-xml"], options].concat());
        let purpose = Purpose::Create { without_memory: options.contains(&"--disk-only") };
        let read = |text: String| DomainSnapshot::read(text.as_bytes(), purpose);
        let (theirs, ours) = (read(theirs?)?, read(ours?)?);
        if ours != theirs {
            return Err(format!("{options:?}: {ours:#?}\nis to virsh\n{theirs:#?}").into());
        }
    }
    let _ = libvirt.virsh(&["undefine", "real"]);
    Ok(Told::Passed(format!("{} sets of options", cases.len())))
}

/// The file of a record that tells which storage holds a disk.
fn told_of_a_storage(libvirt: &Libvirt) -> Result<Utf8PathBuf, Failed> {
    let suite = suite();
    let case = suite.iter().find(|case| case.scenario.id == "storage/with-the-machines");
    let tree = left_by(case.ok_or("the scenario is gone")?)?;
    let record = complete(tree.get("s1").ok_or("it leaves no record")?, libvirt);
    let text = record.document();
    match text.contains("<freezeframe:volume") {
        true => libvirt.file("by-storage.xml", &text),
        false => Err(format!("no storage in {text}").into()),
    }
}

fn validates(libvirt: &Libvirt) -> Result<Told, Failed> {
    let schema = Utf8Path::new("/usr/share/libvirt/schemas/domainsnapshot.rng");
    if Command::new("xmllint").arg("--version").output().is_err() || !schema.exists() {
        return Ok(Told::Skipped("no xmllint (libxml2-utils), or no schema of libvirt's".into()));
    }
    let wish =
        "<domainsnapshot><name>s1</name><disks><disk name='vda' snapshot='no'/></disks></domainsnapshot>";
    let good = libvirt.file("good.xml", wish)?;
    let bad = libvirt.file("bad.xml", &wish.replace("<disks>", "<bogus/><disks>"))?;
    freezeframe(&["snapshot", "xml", good.as_str(), "--validate"])?;
    freezeframe(&["snapshot", "xml", bad.as_str()])?;
    let refused = freezeframe(&["snapshot", "xml", bad.as_str(), "--validate"]);
    let words = refused.err().ok_or("an element that nobody knows passes")?.to_string();
    if !words.contains("XML_INVALID_SCHEMA") || !words.contains("bogus") {
        return Err(words.into());
    }
    let record = told_of_a_storage(libvirt)?;
    freezeframe(&["snapshot", "xml", record.as_str(), "--redefine", "--validate"])?;
    let none = freezeframe(&["snapshot", "xml", good.as_str(), "--validate", "--schema", "/no/such.rng"]);
    let words = none.err().ok_or("without a schema everything passes")?.to_string();
    if !words.contains("OPERATION_UNSUPPORTED") {
        return Err(words.into());
    }
    let samples = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../driver/tests/libvirt-9.0");
    let mut count = 0;
    for entry in samples.read_dir_utf8()? {
        let entry = entry?;
        if entry.file_name().starts_with("dumpxml") && fs::metadata(entry.path())?.is_file() {
            freezeframe(&["snapshot", "xml", entry.path().as_str(), "--redefine", "--validate"])?;
            count += 1;
        }
    }
    if count < 4 {
        return Err(format!("only {count} real documents are held against the schema").into());
    }
    Ok(Told::Passed(format!("{count} real documents pass, and a wrong one does not")))
}
