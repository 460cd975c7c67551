use super::*;
use crate::machine::{Actions, OnPanic};

const DISK: &str = "-blockdev driver=file,node-name=file0,filename=/images/disk0 \
                    -blockdev driver=qcow2,node-name=disk0,file=file0";

fn machine(arguments: &str) -> Result<Machine, Unknown> {
    Machine::from_arguments(arguments.split_ascii_whitespace())
}

#[test]
fn a_disk_keeps_all_its_names() {
    let machine = machine(&format!("-S -m 128 {DISK} -device virtio-blk-pci,id=vd0,drive=disk0")).unwrap();
    let disk = &machine.disks[0];
    assert_eq!(
        (disk.target.as_str(), disk.file_node.as_str(), disk.device.as_str()),
        ("disk0", "file0", "vd0")
    );
    assert_eq!(disk.path, "/images/disk0");
    assert_eq!((machine.power, machine.memory), (Power::Prelaunch, 128 << 20));
}

#[test]
fn sockets_know_what_is_at_their_end() {
    let machine = machine(
        "-machine pc -chardev socket,id=mon0,path=/run/qmp,server=on,wait=off -mon chardev=mon0,mode=control \
         -device virtio-serial-pci,id=vser0 -chardev socket,id=ch0,path=/run/ga,server=on,wait=off \
         -device virtserialport,chardev=ch0,id=port0",
    )
    .unwrap();
    let frontends: Vec<_> = machine.chardevs.iter().map(|chardev| chardev.frontend).collect();
    assert_eq!(frontends, [Some(Frontend::Monitor(0)), Some(Frontend::SerialPort)]);
    assert_eq!((machine.chipset, machine.serial_controller.as_str()), (Chipset::Pc, "vser0"));
}

#[test]
fn a_disk_may_be_behind_a_root_port_that_is_there() {
    let behind =
        |port: &str| machine(&format!("{port} {DISK} -device virtio-blk-pci,id=vd0,drive=disk0,bus=rp0"));
    assert_eq!(behind("-device pcie-root-port,id=rp0").unwrap().disks[0].bus.as_deref(), Some("rp0"));
    assert!(behind("").is_err());
}

#[test]
fn a_disk_may_have_errors_injected_below_it() {
    let machine = machine(
        "-blockdev driver=file,node-name=f,filename=/a \
         -blockdev driver=blkdebug,node-name=d,image=f,inject-error.0.event=write_aio,inject-error.0.errno=28 \
         -blockdev driver=qcow2,node-name=q,file=d \
         -device virtio-blk-pci,id=vd0,drive=q,bootindex=1,werror=stop",
    )
    .unwrap();
    let disk = &machine.disks[0];
    assert_eq!((disk.file_node.as_str(), disk.guest_writes), ("f", true));
    assert_eq!(disk.on_write_error, OnError::Stop);
    let rules = &disk.injected.as_ref().unwrap().rules;
    assert!(rules.contains(&("inject-error.0.errno".into(), 28.into())), "{rules:?}");
}

#[test]
fn a_disk_may_be_backed_by_other_nodes() {
    let machine = machine(
        "-blockdev driver=file,node-name=bf,filename=/b -blockdev driver=qcow2,node-name=b,file=bf,read-only=on \
         -blockdev driver=file,node-name=f,filename=/a -blockdev driver=qcow2,node-name=q,file=f,backing=b \
         -device virtio-blk-pci,id=vd0,drive=q",
    )
    .unwrap();
    assert_eq!((machine.disks.len(), machine.disks[0].backing.as_deref()), (1, Some("b")));
    let nodes: Vec<_> = machine.nodes.iter().map(|node| node["node-name"].as_str().unwrap()).collect();
    assert_eq!(nodes, ["bf", "b"]);
    assert_eq!(machine.nodes[1]["backing"], Value::Null);
}

#[test]
fn a_drive_gives_its_disk_a_name_and_its_nodes_none() {
    let drive = "-drive file=/a,format=raw,if=none,id=drive0";
    let machine = machine(&format!("{drive} -device virtio-blk-pci,id=vd0,drive=drive0")).unwrap();
    let disk = &machine.disks[0];
    assert_eq!((disk.drive.as_str(), disk.device.as_str(), disk.target.as_str()), ("drive0", "vd0", ""));
    assert_eq!((disk.path.as_str(), disk.format), ("/a", Format::Raw));
}

#[test]
fn a_machine_has_the_name_and_the_uuid_that_it_is_given() {
    let machine = machine("-name guest=vm,debug-threads=on -uuid C9B3F5A0-1111-2222-3333-444455556666");
    let machine = machine.unwrap();
    assert_eq!(machine.name.as_deref(), Some("vm"));
    assert_eq!(machine.uuid.as_deref(), Some("c9b3f5a0-1111-2222-3333-444455556666"));
}

#[test]
fn what_is_done_about_the_guests_acts_can_be_given_in_two_ways() {
    let given = machine("-action panic=none,reboot=shutdown -action shutdown=pause,watchdog=pause").unwrap();
    let panic = OnPanic::GoOn;
    let actions = Actions { reset_ends: true, stays_after_shutdown: true, panic, watchdog: "pause" };
    assert_eq!(given.actions, actions);
    let given = machine("-no-reboot -no-shutdown -watchdog-action pause").unwrap();
    assert_eq!(given.actions, Actions { panic: OnPanic::ShutDown, ..actions });
    assert!(machine("-action panic=maybe").is_err());
}

#[test]
fn memory_is_in_mebibytes_unless_a_unit_is_given() {
    let of = |arguments: &str| machine(arguments).unwrap().memory;
    assert_eq!([of("-m 64"), of("-m 1G"), of("-m size=512k")], [64 << 20, 1 << 30, 512 << 10]);
    assert!(machine("-m 1T").is_err());
}

#[test]
fn a_machine_that_the_simulator_cannot_be_is_refused() {
    let asked = [
        "-incoming tcp:0:1".to_owned(),
        "-machine microvm".to_owned(),
        "-drive file=/a,format=raw,if=scsi".to_owned(),
        "-drive file=/a,format=raw,if=none,id=d,snapshot=on".to_owned(),
        format!("{DISK} -device virtio-blk-pci,id=vd0,drive=disk0,share-rw=on"),
        format!("{DISK} -device virtio-blk-pci,id=vd0,drive=disk0,werror=maybe"),
        "-blockdev driver=blkdebug,node-name=d,image=f,inject-error.0.errno=1".to_owned(),
    ];
    for arguments in asked {
        assert!(machine(&arguments).is_err(), "{arguments}");
    }
}
