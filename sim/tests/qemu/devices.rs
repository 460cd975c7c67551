//! Devices that come and go, trays, and the firmware after a reset.

use freezeframe_sim::machine::{CdDrive, CdModel, Chipset};

use super::*;

/// A machine of type `q35` with a disk, a root port and a drive, and a node that nothing uses.
fn bench() -> Bench {
    let drive = CdDrive { id: "cd0".into(), model: CdModel::Scsi };
    let machine = Machine { root_ports: vec!["rp0".into()], cd_drives: vec![drive], ..Machine::new() };
    let mut bench = Bench::new(machine.disk("vda").serial_port("port0"));
    bench.host.create_new("hp".into(), Image::qcow2(Machine::DISK_SIZE)).unwrap();
    bench.ok("blockdev-add", json!({"driver": "file", "node-name": "hp-file", "filename": "hp"}));
    bench.ok("blockdev-add", json!({"driver": "qcow2", "node-name": "hp", "file": "hp-file"}));
    bench
}

fn disk(id: &str, drive: &str, bus: &str) -> Value {
    json!({"driver": "virtio-blk-pci", "id": id, "drive": drive, "bus": bus})
}

#[test]
fn a_disk_behind_a_root_port_leaves_at_the_next_reset_and_its_node_is_free() {
    let mut bench = bench();
    bench.ok("device_add", disk("hpd", "hp", "rp0"));
    assert_eq!(bench.qemu.chain("hpd"), ["hp"]);
    assert_eq!(bench.refused("blockdev-del", json!({"node-name": "hp"})), "Node hp is in use");
    bench.ok("device_del", json!({"id": "hpd"}));
    bench.ok("device_del", json!({"id": "/machine/peripheral/hpd"}));
    assert!(bench.settle().is_empty(), "the firmware does not answer");
    bench.ok("system_reset", json!({}));
    assert_eq!(bench.settle(), ["DEVICE_DELETED", "DEVICE_DELETED", "RESET"]);
    assert_eq!(bench.refused("device_del", json!({"id": "hpd"})), "Device 'hpd' not found");
    bench.ok("blockdev-del", json!({"node-name": "hp"}));
}

#[test]
fn a_disk_on_the_chipsets_own_bus_stays_on_q35_and_leaves_on_pc() {
    let mut q35 = bench();
    let refused = q35.refused("device_del", json!({"id": "vda-device"}));
    assert_eq!(refused, "Bus 'pcie.0' does not support hotplugging");
    let mut pc = Bench::new(Machine { chipset: Chipset::Pc, ..Machine::new() }.disk("vda"));
    pc.ok("device_del", json!({"id": "vda-device"}));
    pc.ok("system_reset", json!({}));
    pc.settle();
    pc.ok("blockdev-del", json!({"node-name": "vda"}));
}

#[test]
fn a_device_that_cannot_be_added_is_refused_in_qemus_words() {
    let mut bench = bench();
    let refusals = [
        (json!({"id": "x"}), "Parameter 'driver' is missing"),
        (json!({"driver": "nosuch", "id": "x"}), "'nosuch' is not a valid device model name"),
        (disk("x", "hp", "pcie.0"), "Bus 'pcie.0' does not support hotplugging"),
        (disk("x", "hp", "nosuch"), "Bus 'nosuch' not found"),
        (disk("vda-device", "hp", "rp0"), "Duplicate device ID 'vda-device'"),
        (disk("x", "nosuch", "rp0"), "Property 'virtio-blk-device.drive' can't find value 'nosuch'"),
        (
            disk("x", "vda", "rp0"),
            "Permission conflict on node 'vda': permissions 'write' are both required by block device \
             '/machine/peripheral/vda-device/virtio-backend' (uses node 'vda' as 'root' child) and unshared by \
             block device '/machine/peripheral/x/virtio-backend' (uses node 'vda' as 'root' child).",
        ),
    ];
    for (arguments, text) in refusals {
        assert_eq!(bench.refused("device_add", arguments.clone()), text, "{arguments}");
    }
    bench.ok("device_add", disk("hpd", "hp", "rp0"));
    let occupied = bench.refused("device_add", disk("y", "hp", "rp0"));
    assert!(occupied.starts_with("PCI: slot 0 function 0 already occupied"), "{occupied}");
}

#[test]
fn a_serial_port_leaves_without_the_guests_consent() {
    let mut bench = bench();
    let (events, reply) = bench.send("device_del", json!({"id": "port0"}));
    assert!(events.is_empty() && reply.is_ok());
    assert_eq!(bench.refused("device_del", json!({"id": "port0"})), "Device 'port0' not found");
    assert_eq!(bench.settle(), ["DEVICE_DELETED"]);
}

#[test]
fn a_medium_goes_into_an_open_tray_alone() {
    let mut bench = bench();
    let insert = json!({"id": "cd0", "node-name": "hp"});
    assert_eq!(bench.refused("blockdev-insert-medium", insert.clone()), "Tray of the device is not open");
    let (events, _) = bench.send("blockdev-open-tray", json!({"id": "cd0"}));
    assert_eq!(events, ["DEVICE_TRAY_MOVED"]);
    assert!(bench.send("blockdev-open-tray", json!({"id": "cd0"})).0.is_empty(), "it is open");
    bench.ok("blockdev-insert-medium", insert.clone());
    assert_eq!(bench.refused("blockdev-insert-medium", insert), "Node 'hp' is already in use");
    bench.ok("blockdev-close-tray", json!({"id": "cd0"}));
    let removed = bench.refused("blockdev-remove-medium", json!({"id": "cd0"}));
    assert_eq!(removed, "Tray of device 'cd0' is not open");
    let (events, _) = bench.send("eject", json!({"id": "cd0"}));
    assert_eq!(events, ["DEVICE_TRAY_MOVED"]);
    bench.ok("blockdev-del", json!({"node-name": "hp"}));
    let virtio = bench.refused("eject", json!({"id": "vda-device"}));
    assert_eq!(virtio, "Device does not have a block device backend");
}

#[test]
fn an_empty_drive_is_shown_and_no_snapshot_needs_it() {
    let mut bench = bench();
    let drive = bench.ok("query-block", json!({}))[1].clone();
    let expected = json!({
        "device": "", "type": "unknown", "locked": false, "removable": true, "tray_open": false, "qdev": "cd0",
        "io-status": "ok",
    });
    assert_eq!(drive, expected);
    assert_eq!(bench.ok("human-monitor-command", json!({"command-line": "savevm a"})), "");
}

#[test]
fn the_firmware_resets_the_machine_once_more_as_soon_as_the_guest_runs() {
    let mut bench = bench();
    bench.ok("stop", json!({}));
    assert_eq!(bench.send("system_reset", json!({})).0, ["RESET"]);
    assert!(bench.settle().is_empty());
    bench.ok("cont", json!({}));
    assert_eq!(bench.settle(), ["RESET"]);
    assert!(bench.settle().is_empty());
}

#[test]
fn a_disk_caches_writes_until_the_firmware_has_set_it_up() {
    let mut bench = bench();
    let caches = |bench: &mut Bench| {
        bench.ok("query-block", json!({}))[0]["inserted"]["cache"]["writeback"].as_bool().unwrap()
    };
    assert!(caches(&mut bench));
    bench.now = Duration::from_secs(1);
    assert!(!caches(&mut bench));
}

#[test]
fn the_firmware_gives_the_devices_on_the_bus_ports_memory_and_interrupts() {
    let machine = Machine { chipset: Chipset::Pc, serial_controller: "vser0".into(), ..Machine::new() };
    let mut bench = Bench::new(machine.disk("vda").disk("vdb").serial_port("port0"));
    let functions = |bench: &mut Bench| {
        let bus = bench.ok("query-pci", json!({}))[0].clone();
        let devices = bus["devices"].as_array().unwrap().iter();
        let addresses = |device: &Value| -> Vec<i64> {
            let regions = device["regions"].as_array().unwrap().iter();
            regions.map(|region| region["address"].as_i64().unwrap()).collect()
        };
        let slot = |device: &Value| (device["slot"].as_u64().unwrap(), device["function"].as_u64().unwrap());
        devices.map(|device| (slot(device), device["irq"].as_u64(), addresses(device))).collect::<Vec<_>>()
    };
    let before = functions(&mut bench);
    assert_eq!(before[4], ((2, 0), Some(0), vec![-1, -1, -1]));
    bench.now = Duration::from_secs(1);
    // As a real 10.0 says.
    let expected = [
        ((0, 0), None, vec![]),
        ((1, 0), None, vec![]),
        ((1, 1), None, vec![49472]),
        ((1, 3), Some(9), vec![]),
        ((2, 0), Some(10), vec![49152, 4_273_983_488, 4_273_930_240]),
        ((3, 0), Some(11), vec![49280, 4_273_987_584, 4_273_946_624]),
        ((4, 0), Some(11), vec![49408, 4_273_991_680, 4_273_963_008]),
    ];
    assert_eq!(functions(&mut bench), expected);
}

#[test]
fn a_bus_with_a_bridge_on_it_is_not_simulated() {
    assert!(bench().refused("query-pci", json!({})).starts_with("not simulated: "));
}

#[test]
fn devices_are_listed_among_qemus_objects_with_what_they_are() {
    let machine = Machine { serial_controller: "vser0".into(), ..Machine::new() };
    let mut bench = Bench::new(machine.disk("vda").serial_port("port0"));
    let listed = bench.ok("qom-list", json!({"path": "/machine/peripheral"}));
    let kinds: Vec<_> =
        listed.as_array().unwrap().iter().map(|each| each["type"].as_str().unwrap()).collect();
    assert_eq!(kinds[0], "string");
    assert!(kinds.contains(&"child<virtio-blk-pci>") && kinds.len() == 4, "{kinds:?}");
    let anonymous = bench.ok("qom-list", json!({"path": "/machine/peripheral-anon"}));
    assert_eq!(anonymous, json!([{"name": "type", "type": "string"}]));
    let nowhere = bench.refused("qom-list", json!({"path": "/machine/peripheral/nope"}));
    assert_eq!(nowhere, "Device '/machine/peripheral/nope' not found");
}

#[test]
fn the_drive_of_a_disk_is_its_top_node() {
    let mut bench = Bench::new(Machine::new().disk("vda"));
    let get = |bench: &mut Bench, path: &str, property: &str| {
        bench.ok("qom-get", json!({"path": path, "property": property}))
    };
    assert_eq!(get(&mut bench, "/machine/peripheral/vda-device", "type"), "virtio-blk-pci");
    assert_eq!(get(&mut bench, "vda-device", "drive"), "vda");
    let overlay = json!({"node-name": "vda", "snapshot-file": "ov", "snapshot-node-name": "ov"});
    bench.ok("blockdev-snapshot-sync", overlay);
    assert_eq!(get(&mut bench, "/machine/peripheral/vda-device/virtio-backend", "drive"), "ov");
}
