//! A host that runs QEMU as a daemon: a new machine in the place of one that has ended.

use std::time::Duration;

use freezeframe_sim::{
    Machine, Oracle, Port, Release, World,
    world::{Connection, Ran},
};

const QEMU: &str = "/bin/qemu-system-x86_64";

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn world() -> World {
    World::new(&Machine::new().disk("vda"), Release::V7_2, Oracle::default_order())
}

/// Starts a machine with an image as its disk, or fails to.
fn start(world: &mut World, now: Duration, image: &str) -> Ran {
    let arguments = format!(
        r#"-nodefaults -S -daemonize -m size=65536k -chardev socket,id=c,path=/monitor,server=on,wait=off
        -mon chardev=c,mode=control -blockdev {{"driver":"file","node-name":"f","filename":"{image}"}}
        -blockdev {{"driver":"qcow2","node-name":"a","file":"f","backing":null}} -device virtio-blk-pci,id=vd,drive=a"#
    );
    let arguments: Vec<_> = arguments.split_whitespace().map(str::to_owned).collect();
    world.run_program(now, QEMU.into(), &arguments, b"").expect("there is such a program")
}

fn ask(world: &mut World, now: Duration, connection: Connection, command: &str) -> String {
    let line = format!("{{\"execute\":\"qmp_capabilities\"}}{{\"execute\":\"{command}\"}}");
    world.receive(now, connection, line.as_bytes()).unwrap();
    world.advance(now + ms(100));
    String::from_utf8_lossy(world.output(connection)).lines().last().unwrap_or_default().to_owned()
}

#[test]
fn it_tells_its_version() {
    let ran = world().run_program(ms(0), QEMU.into(), &["--version".to_owned()], b"").unwrap();
    assert_eq!((ran.exit, &ran.stdout[..27]), (0, "QEMU emulator version 7.2.2"));
}

#[test]
fn a_new_machine_takes_the_place_of_one_that_has_ended() {
    let mut world = world();
    let old = world.connect(ms(0), Port::Monitor(0)).unwrap();
    world.kill_qemu();
    assert_eq!(start(&mut world, ms(1000), "/images/vda.qcow2").exit, 0);
    assert!(world.at_end(old), "what was said to the old one is said to nobody");
    assert!(world.receive(ms(1000), old, b"{}").is_err());
    world.close(ms(1000), old);
    let new = world.connect(ms(1001), Port::Monitor(0)).unwrap();
    assert!(world.connect(ms(1001), Port::Monitor(1)).is_err(), "it was given one monitor");
    let said = ask(&mut world, ms(1002), new, "query-status");
    assert!(said.contains(r#""status": "prelaunch""#), "{said}");
    world.check_invariants().unwrap();
}

#[test]
fn an_image_is_not_taken_from_a_machine_that_runs() {
    let mut world = world();
    let ran = start(&mut world, ms(0), "/images/vda.qcow2");
    assert!(ran.exit == 1 && ran.stderr.contains("Failed to get \"write\" lock"), "{}", ran.stderr);
    assert!(world.qemu_is_running());
}

#[test]
fn an_image_that_is_missing_is_not_made() {
    let mut world = world();
    world.kill_qemu();
    let ran = start(&mut world, ms(0), "/images/other.qcow2");
    assert!(ran.exit == 1 && ran.stderr.contains("No such file or directory"), "{}", ran.stderr);
    assert!(!world.qemu_is_running() && !world.host().exists("/images/other.qcow2".into()));
}

#[test]
fn what_it_cannot_be_is_refused() {
    let mut world = world();
    world.kill_qemu();
    let ran =
        world.run_program(ms(0), QEMU.into(), &["-daemonize".to_owned(), "-fw_cfg".to_owned()], b"").unwrap();
    assert!(ran.exit == 1 && ran.stderr.contains("not simulated"), "{}", ran.stderr);
    let ran = world.run_program(ms(0), QEMU.into(), &["-S".to_owned()], b"").unwrap();
    assert!(ran.exit == 1 && ran.stderr.contains("does not become a daemon"), "{}", ran.stderr);
}
