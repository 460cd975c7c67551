//! The driver's typed commands against the schema of every release: what it sends is what that QEMU takes.
//!
//! The schemas are those of the simulator, as the real binaries gave them.

use std::collections::{BTreeMap, BTreeSet};

use freezeframe_driver::commands::*;
use freezeframe_sim::{Release, schema::Schema};
use serde_json::Value;

/// Commands that a release has not, and the driver does without there.
fn missing_in(release: Release) -> &'static [&'static str] {
    match release {
        // Internal snapshots of the machine go through the human monitor there.
        Release::V5_2 => &["blockdev-set-active", "snapshot-delete", "snapshot-load", "snapshot-save"],
        // Nothing is merged there before the guest goes on, where QEMU has given the images away.
        Release::V7_2 => &["blockdev-set-active"],
        Release::V10_0 | Release::V11_1 => &[],
    }
}

/// Arguments that a release has not, and the driver does without there.
fn needs_newer(release: Release, sample: &Value) -> bool {
    let newer = match release {
        // The machine's memory goes through descriptors there, and a load that fails ends QEMU.
        Release::V5_2 | Release::V7_2 => ["channels", "exit-on-error"].as_slice(),
        Release::V10_0 | Release::V11_1 => &[],
    };
    newer.iter().any(|member| sample.get(member).is_some())
}

/// For each command what it sends, in every shape that its type can take.
#[allow(clippy::too_many_lines, reason = "a list: a line for each command")]
fn samples() -> BTreeMap<&'static str, Vec<Value>> {
    let mut samples = Samples::default();
    let devices = ["vda".to_owned(), "vdb".to_owned()];
    samples.add(&QmpCapabilities { enable: &[] });
    samples.add(&QmpCapabilities { enable: &["oob"] });
    samples.add(&QueryQmpSchema {});
    samples.add(&QueryStatus {});
    samples.add(&QueryUuid {});
    samples.add(&QueryMemorySizeSummary {});
    samples.add(&QomGet { path: "/machine", property: "type" });
    samples.add(&Quit {});
    samples.add(&QueryBlock {});
    samples.add(&QueryChardev {});
    samples.add(&QueryNamedBlockNodes { flat: true });
    samples.add(&QueryJobs {});
    samples.add(&QueryBlockJobs {});
    samples.add(&JobDismiss { id: "job" });
    samples.add(&JobCancel { id: "job" });
    samples.add(&SnapshotSave { job_id: "job", tag: "s1", vmstate: "vda", devices: &devices });
    samples.add(&SnapshotLoad { job_id: "job", tag: "s1", vmstate: "vda", devices: &devices });
    samples.add(&SnapshotDelete { job_id: "job", tag: "s1", devices: &devices });
    samples.add(&HumanMonitor { command_line: "savevm s1" });
    samples_of_overlays(&mut samples);
    samples_of_disks_alone(&mut samples);
    let commit = |backing_file| BlockCommit {
        job_id: "job",
        device: "overlay",
        top_node: "overlay",
        base_node: "vda",
        backing_file,
        auto_finalize: false,
        auto_dismiss: false,
    };
    samples.add(&commit(None));
    samples.add(&commit(Some("/images/vda.qcow2")));
    let stream = |base_node, base, backing_file| BlockStream {
        job_id: "job",
        device: "overlay",
        base_node,
        base,
        backing_file,
        auto_finalize: false,
        auto_dismiss: false,
    };
    samples.add(&stream(None, None, None));
    samples.add(&stream(Some("vda"), None, Some("/images/vda.qcow2")));
    samples.add(&stream(None, Some("/images/vda.qcow2"), Some("/images/vda.qcow2")));
    samples.add(&BlockdevSetActive { active: true });
    samples.add(&JobComplete { id: "job" });
    samples.add(&JobFinalize { id: "job" });
    samples.add(&Cont {});
    samples.add(&Stop {});
    samples.add(&Getfd { fdname: "memory" });
    samples.add(&Closefd { fdname: "memory" });
    add_migration(&mut samples);
    samples.0
}

/// Those by which disks are caught inside their images, and by which what a snapshot holds is served.
fn samples_of_disks_alone(samples: &mut Samples) {
    let take = |device| Action::BlockdevSnapshotInternalSync { device, name: "s1" };
    samples.add(&Transaction { actions: vec![take("vda"), take("vdb")] });
    samples.add(&BlockdevSnapshotDeleteInternalSync { device: "vda", name: "s1" });
    samples.add(&QueryBlockExports {});
    samples.add(&NbdServerStart { addr: ServerAddress::Unix { path: "/run/nbd.sock" } });
    samples.add(&NbdServerStop {});
    let (id, node_name, name, writable) = ("ff-1-0", "vda", "vda", false);
    samples.add(&BlockExportAdd::Nbd { id, node_name, name, writable });
    samples.add(&BlockExportDel { id, mode: "hard" });
}

/// Those of a machine's memory on its way.
fn add_migration(samples: &mut Samples) {
    samples.add(&Migrate { to: Address::descriptor("memory") });
    samples.add(&Migrate { to: Address::file("/images/memory", 65536) });
    samples.add(&MigrateIncoming { from: Address::descriptor("memory"), exit_on_error: None });
    let from = Address::file("/images/memory", 65536);
    samples.add(&MigrateIncoming { from, exit_on_error: Some(false) });
    samples.add(&MigrateCancel {});
    samples.add(&QueryMigrate {});
    samples.add(&QueryMigrateCapabilities {});
    let events = MigrationCapabilityStatus { capability: "events".into(), state: true };
    samples.add(&MigrateSetCapabilities { capabilities: &[events] });
    samples.add(&QueryMigrateParameters {});
    samples.add(&MigrateSetParameters { parameters: MigrationParameters { max_bandwidth: 1 << 40 } });
}

/// Those by which overlays are made, put under disks and kept account of.
fn samples_of_overlays(samples: &mut Samples) {
    samples.add(&BlockdevAdd::File { node_name: "overlay-file", filename: "/images/vda.s1" });
    samples.add(&BlockdevAdd::HostDevice { node_name: "overlay-file", filename: "/dev/vg/vda.s1" });
    samples.add(&BlockdevAdd::Qcow2 {
        node_name: "overlay",
        file: "overlay-file",
        backing: None,
        cache_size: None,
    });
    samples.add(&BlockdevAdd::Qcow2 {
        node_name: "overlay",
        file: "overlay-file",
        backing: Some("vda"),
        cache_size: Some(4 << 20),
    });
    samples.add(&BlockdevAdd::Null { node_name: "mark", read_only: true });
    samples.add(&BlockdevDel { node_name: "overlay" });
    let options = CreateOptions::Qcow2 {
        file: "overlay-file",
        size: 16 << 20,
        backing_file: "/images/vda.qcow2",
        backing_fmt: "qcow2",
        cluster_size: Some(32_768),
        extended_l2: true,
    };
    samples.add(&BlockdevCreate { job_id: "job", options });
    let switch = |node, overlay| Action::BlockdevSnapshot { node, overlay };
    samples.add(&Transaction { actions: vec![switch("vda", "overlay"), switch("vdb", "other")] });
    let (node, name) = ("vda", "b0");
    let (persistent, disabled) = (true, true);
    let add = Action::BlockDirtyBitmapAdd { node, name, granularity: 65_536, persistent, disabled };
    let enable = Action::BlockDirtyBitmapEnable { node, name };
    let bitmaps = vec![BitmapOf { node: "overlay", name }];
    let merge = Action::BlockDirtyBitmapMerge { node, target: name, bitmaps };
    samples.add(&Transaction { actions: vec![add, enable, merge] });
}

#[derive(Default)]
struct Samples(BTreeMap<&'static str, Vec<Value>>);

impl Samples {
    fn add<C: Command>(&mut self, command: &C) {
        let arguments = serde_json::to_value(command).expect("a command is JSON");
        self.0.entry(C::NAME).or_default().push(arguments);
    }
}

#[test]
fn every_command_has_a_sample() {
    let known: BTreeSet<_> = NAMES.iter().copied().collect();
    assert_eq!(samples().into_keys().collect::<BTreeSet<_>>(), known);
}

#[test]
fn a_release_lacks_only_what_the_driver_does_without() {
    for release in Release::ALL {
        let schema = Schema::of(release);
        let samples = samples();
        let missing: Vec<_> = samples.keys().copied().filter(|name| schema.command(name).is_none()).collect();
        assert_eq!(missing, missing_in(release), "{release}");
    }
}

#[test]
fn what_is_sent_is_accepted_by_every_release_that_has_the_command() {
    for release in Release::ALL {
        let schema = Schema::of(release);
        for (name, samples) in samples() {
            let Some(command) = schema.command(name) else { continue };
            for sample in samples.iter().filter(|sample| !needs_newer(release, sample)) {
                let arguments = sample.as_object().expect("arguments are an object");
                assert_eq!(schema.check(command, arguments), Ok(()), "{release} {name} {sample}");
            }
        }
    }
}
