use std::time::Duration;

use super::*;
use crate::{
    Machine, Oracle, Port, Release,
    host::{Backing, Image},
};

/// A world with one disk in which QEMU has carried out these commands.
fn world(commands: &[&str]) -> World {
    let machine = Machine::new().disk("vda");
    let mut world = World::new(&machine, Release::V10_0, Oracle::default_order());
    let connection = world.connect(Duration::ZERO, Port::Monitor(0)).unwrap();
    for (at, command) in (1..).zip([r#"{"execute":"qmp_capabilities"}"#].iter().chain(commands)) {
        let now = Duration::from_millis(at * 10);
        world.advance(now);
        world.receive(now, connection, command.as_bytes()).unwrap();
    }
    world.advance(Duration::from_secs(1));
    world
}

fn broken(world: &World) -> Vec<String> {
    world.check_invariants().err().map_or_else(Vec::new, |broken| broken.0)
}

/// A disk and an overlay over it, whose header names `backing`.
fn with_overlay(backing: &str) -> World {
    let mut world = world(&[]);
    let header = Backing { file: backing.into(), format: Some("qcow2".into()) };
    let overlay = Image::overlay(Machine::DISK_SIZE, Some(header));
    world.host_mut().create_new("s1".into(), overlay).unwrap();
    world
}

/// Puts the overlay of [`with_overlay`] under the device.
fn switch(world: &mut World) {
    let connection = world.connect(Duration::from_secs(1), Port::Monitor(1)).unwrap();
    let commands = [
        r#"{"execute":"qmp_capabilities"}"#,
        r#"{"execute":"blockdev-add","arguments":{"driver":"file","node-name":"f","filename":"s1"}}"#,
        r#"{"execute":"blockdev-add","arguments":{"driver":"qcow2","node-name":"o","file":"f","backing":null}}"#,
        r#"{"execute":"blockdev-snapshot","arguments":{"node":"vda","overlay":"o"}}"#,
    ];
    for (at, command) in (1..).zip(commands) {
        world.receive(Duration::from_secs(at), connection, command.as_bytes()).unwrap();
        world.advance(Duration::from_secs(at + 1));
    }
    assert_eq!(world.qemu().chain("vda-device"), ["o", "vda"]);
}

#[test]
fn a_fresh_machine_and_one_with_an_overlay_are_whole() {
    assert_eq!(world(&[]).check_invariants(), Ok(()));
    let mut world = with_overlay("vda.qcow2");
    switch(&mut world);
    assert_eq!(world.check_invariants(), Ok(()));
}

#[test]
fn an_image_that_is_in_use_must_not_be_unlinked() {
    let mut world = world(&[]);
    world.host_mut().remove("vda.qcow2".into()).unwrap();
    assert_eq!(
        broken(&world),
        ["the file of node vda was unlinked", "the file of node vda-file was unlinked"]
    );
    world.kill_qemu();
    assert_eq!(world.check_invariants(), Ok(()), "nobody uses it any more");
}

#[test]
fn a_backing_file_must_exist_even_when_qemu_is_gone() {
    let mut world = with_overlay("gone.qcow2");
    world.kill_qemu();
    assert_eq!(broken(&world), ["file /images/s1 is backed by /images/gone.qcow2, which does not exist"]);
}

#[test]
fn an_image_must_not_be_its_own_backing_file() {
    assert_eq!(broken(&with_overlay("s1")), ["file /images/s1 is its own backing file, at some depth"]);
}

#[test]
fn what_a_chain_stands_on_is_what_the_header_names() {
    let mut world = with_overlay("other.qcow2");
    world.host_mut().create_new("other.qcow2".into(), Image::qcow2(Machine::DISK_SIZE)).unwrap();
    switch(&mut world);
    assert_eq!(
        broken(&world),
        ["node o stands on /images/vda.qcow2, and its image names /images/other.qcow2"]
    );
}

#[test]
fn a_qcow2_node_needs_a_qcow2_image() {
    let mut world = world(&[]);
    world.host_mut().create("vda.qcow2".into(), Image::raw(512)).unwrap();
    assert_eq!(broken(&world), ["node vda is qcow2, and its image is not"]);
}

#[test]
fn internal_snapshots_are_numbered_apart() {
    let save = r#"{"execute":"blockdev-snapshot-internal-sync","arguments":{"device":"vda","name":"a"}}"#;
    let mut world = world(&[save]);
    let image = world.host_mut().image_mut("vda.qcow2".into()).and_then(Image::as_qcow2_mut).unwrap();
    let again = image.snapshots[0].clone();
    image.snapshots.push(again);
    assert_eq!(broken(&world), ["file /images/vda.qcow2 has two internal snapshots numbered 1"]);
}

#[test]
fn a_job_rests_only_where_a_job_can_rest() {
    let create = r#"{"execute":"blockdev-create","arguments":{"job-id":"j","options":{"driver":"file","filename":"new","size":512}}}"#;
    let world = world(&[create]);
    let graph = world.qemu().graph();
    let concluded = world.qemu().jobs().next().unwrap();
    assert_eq!(jobs(&[concluded], graph), [""; 0]);
    assert_eq!(jobs(&[concluded, concluded], graph), ["two jobs are called j"]);
    let standing = |status| {
        let mut job = concluded.clone();
        job.status = status;
        job
    };
    assert_eq!(jobs(&[&standing(JobStatus::Pending)], graph), ["job j rests in pending"]);
    assert_eq!(jobs(&[&standing(JobStatus::Running)], graph), ["job j is running and has nothing to do"]);
    let mut using = standing(JobStatus::Pending);
    using.nodes.push("nosuch".into());
    assert!(jobs(&[&using], graph).contains(&"job j uses node nosuch, which does not exist".into()));
}

#[test]
fn what_a_device_or_a_node_stands_on_must_exist() {
    let world = world(&[]);
    let mut graph = world.qemu().graph().clone();
    graph.remove("vda-file");
    let lost = "node vda stands on vda-file, which does not exist".to_owned();
    assert!(nodes(&graph, world.host()).contains(&lost));
    graph.remove("vda");
    assert_eq!(devices(&graph), ["device vda-device uses node vda, which does not exist"]);
}

#[test]
fn a_format_stands_on_a_protocol_and_an_overlay_on_a_format() {
    let world = world(&[]);
    let mut graph = world.qemu().graph().clone();
    let wrong = Driver::Qcow2 { file: "vda".into(), backing: Some("vda-file".into()) };
    graph.insert(Node {
        name: "wrong".into(),
        driver: wrong,
        read_only: true,
        owned_by_monitor: true,
        caching: Default::default(),
    });
    assert_eq!(
        nodes(&graph, world.host()),
        [
            "node wrong stands on vda, which is of the wrong kind",
            "node wrong stands on vda-file, which is of the wrong kind"
        ]
    );
}

#[test]
fn a_file_has_one_writer() {
    let world = world(&[]);
    let mut graph = world.qemu().graph().clone();
    let again = Driver::Qcow2 { file: "vda-file".into(), backing: None };
    graph.insert(Node {
        name: "reads".into(),
        driver: again.clone(),
        read_only: true,
        owned_by_monitor: true,
        caching: Default::default(),
    });
    assert_eq!(chains(&graph, world.host()), [""; 0]);
    graph.insert(Node {
        name: "writes".into(),
        driver: again,
        read_only: false,
        owned_by_monitor: true,
        caching: Default::default(),
    });
    assert_eq!(chains(&graph, world.host()), ["file /images/vda.qcow2 is written by two nodes"]);
}
