//! Which storage a disk's XML means.

use super::*;
use crate::{
    domain_xml::DomainXml,
    error::Code,
    name::SnapshotName,
    storage::{self, BackupSource, InUse},
};

fn domain(disks: &str) -> DomainXml {
    let document = format!("<domain><name>vm</name><devices>{disks}</devices></domain>");
    DomainXml::read(document.as_bytes()).unwrap()
}

fn file(target: &str, path: &str, said: &str) -> String {
    format!("<disk type='file'><source file='{path}'/><target dev='{target}'/>{said}</disk>")
}

fn chosen(disks: &str, targets: &[&str]) -> Result<String, DiskError> {
    let domain = domain(disks);
    let found: Vec<_> = targets.iter().map(|target| domain.disk(target).unwrap()).collect();
    let wishes = found.iter().map(|disk| Wish::of(disk, None)).collect::<Result<Vec<_>, _>>()?;
    let provider = together(&wishes, storage::WITHIN)?.provider()?;
    Ok(format!("{} {}", provider.method(), provider.volume()))
}

#[test]
fn a_disks_source_names_the_volume_of_each_method() {
    let block = |dev: &str, said: &str| {
        format!("<disk type='block'><source dev='{dev}'/><target dev='vda'/>{said}</disk>")
    };
    let rbd = "<disk type='network'><source protocol='rbd' name='p/i'/><target dev='vda'/><diskSnapshot method='rbd'/></disk>";
    for (disk, expected) in [
        (file("vda", "/p/vm1/a.raw", "<diskSnapshot method='btrfs'/>"), "btrfs /p/vm1"),
        (file("vda", "/p/a.raw", "<diskSnapshot method='reflink'/>"), "reflink /p/a.raw"),
        (file("vda", "/p/a.raw", "<diskSnapshot method='zfs' volume='tank/vm1'/>"), "zfs tank/vm1"),
        (block("/dev/vg/vm1", "<diskSnapshot method='lvm' room='20'/>"), "lvm vg/vm1"),
        (block("/dev/zvol/tank/a/b", "<diskSnapshot method='zfs'/>"), "zfs tank/a/b"),
        (rbd.to_owned(), "rbd p/i"),
    ] {
        assert_eq!(chosen(&disk, &["vda"]).unwrap(), expected);
    }
}

#[test]
fn what_does_not_say_enough_is_refused() {
    for (said, code) in [
        ("", Code::ConfigUnsupported),
        ("<diskSnapshot/>", Code::ConfigUnsupported),
        ("<diskSnapshot method='floppy'/>", Code::InvalidArg),
        ("<diskSnapshot method='lvm'/>", Code::ConfigUnsupported),
        ("<diskSnapshot method='lvm' volume='vg/a' room='0'/>", Code::ConfigUnsupported),
        ("<diskSnapshot method='exec'/>", Code::ConfigUnsupported),
        ("<diskSnapshot method='exec' program='relative'/>", Code::InvalidArg),
        ("<diskSnapshot method='rbd'/>", Code::ConfigUnsupported),
        ("<diskSnapshot method='zfs' volume='-a/b'/>", Code::InvalidArg),
    ] {
        let refused = chosen(&file("vda", "/p/a.raw", said), &["vda"]).unwrap_err();
        assert_eq!(refused.code(), code, "{said}: {refused}");
    }
}

#[test]
fn several_disks_are_caught_at_one_point_in_time_or_not_at_all() {
    let two = |one: &str, other: &str, first: &str, second: &str| {
        chosen(&format!("{}{}", file("vda", one, first), file("vdb", other, second)), &["vda", "vdb"])
    };
    let btrfs = "<diskSnapshot method='btrfs'/>";
    assert_eq!(two("/p/vm1/a", "/p/vm1/b", btrfs, btrfs).unwrap(), "btrfs /p/vm1");
    let exec = "<diskSnapshot method='exec' program='/bin/array'/>";
    assert_eq!(two("/p/a", "/p/b", exec, exec).unwrap(), "exec /p/a /p/b");
    let group = |volume: &str| format!("<diskSnapshot method='rbd' volume='p/{volume}' group='p/g'/>");
    assert_eq!(two("/a", "/b", &group("a"), &group("b")).unwrap(), "rbd p/g");
    let alone = |method: &str, volume: &str| format!("<diskSnapshot method='{method}' volume='p/{volume}'/>");
    for (first, second) in [
        (btrfs.to_owned(), btrfs.to_owned()),
        (btrfs.to_owned(), exec.to_owned()),
        ("<diskSnapshot method='reflink'/>".to_owned(), "<diskSnapshot method='reflink'/>".to_owned()),
        (alone("lvm", "a"), alone("lvm", "b")),
        (alone("rbd", "a"), alone("rbd", "b")),
    ] {
        let refused = two("/p/vm1/a", "/p/vm2/b", &first, &second);
        assert!(matches!(refused, Err(DiskError::NotTogether { .. })), "{first} {second}: {refused:?}");
    }
}

#[test]
fn a_qcow2_on_btrfs_on_lvm_is_caught_at_the_level_that_is_stated() {
    let disk = "<disk type='file'><driver type='qcow2'/><source file='/pool/vm1/a.qcow2'/><target dev='vda'/></disk>";
    let domain = domain(disk);
    let stated = |words: &[(&str, &str)]| {
        words.iter().fold(Element::new(ELEMENT), |said, (name, value)| said.with(name, value))
    };
    let targets = ["vda".to_owned()];
    let by = |said: &Element| By::of(&domain, &targets, Some(said)).unwrap();
    let volume = |said: &Element| {
        let wish = Wish::of(&domain.disk("vda").unwrap(), Some(said)).unwrap();
        together(&[wish], storage::WITHIN).unwrap().provider().unwrap()
    };
    let (qemu, btrfs) = (stated(&[("method", "qemu")]), stated(&[("method", "btrfs")]));
    let lvm = stated(&[("method", "lvm"), ("volume", "vg/pool")]);
    assert_eq!(by(&qemu), By::Qemu);
    assert_eq!(volume(&btrfs).volume(), "/pool/vm1");
    let lvm = volume(&lvm);
    assert_eq!(lvm.volume(), "vg/pool");
    let name = SnapshotName::new("s1").unwrap();
    let shown =
        |path: &str, device: bool| lvm.backup_source(&name, Some(&InUse { path: path.into(), device }));
    // The image is a file in a file system on that volume, wherever that is: no device is the disk.
    assert_eq!(shown("/pool/vm1/a.qcow2", false), None);
    assert_eq!(shown("/dev/shm/a.qcow2", false), None);
    // A device is the volume, whatever it is called.
    assert!(matches!(shown("/dev/vg/pool", true), Some(BackupSource::Block(_))));
    assert!(matches!(shown("/run/disks/vda", true), Some(BackupSource::Block(_))));
}

#[test]
fn a_disks_type_says_who_takes_its_snapshots_only_where_it_leaves_no_doubt() {
    let rbd = "<disk type='network'><source protocol='rbd' name='p/i'/><target dev='vda'/></disk>";
    assert_eq!(chosen(rbd, &["vda"]).unwrap(), "rbd p/i");
    let zvol = "<disk type='block'><source dev='/dev/zvol/tank/a'/><target dev='vda'/></disk>";
    assert_eq!(chosen(zvol, &["vda"]).unwrap(), "zfs tank/a");
    let qemu = file("vda", "/p/a.raw", "<diskSnapshot method='qemu'/>");
    assert!(matches!(chosen(&qemu, &["vda"]), Err(DiskError::ByQemu { .. })));
}

#[test]
fn a_disk_says_whether_qemu_takes_its_snapshots_inside_the_image() {
    let by_qemu = |place: &str| format!("<diskSnapshot method='qemu'{place}/>");
    let two = |one: &str, other: &str| file("vda", "/a", one) + &file("vdb", "/b", other);
    let (internal, plain) = (by_qemu(" snapshot='internal'"), by_qemu(""));
    let of = |disks: &str, targets: &[&str], stated: Option<&Element>| {
        let targets: Vec<_> = targets.iter().map(|target| (*target).to_owned()).collect();
        inside(&domain(disks), &targets, stated)
    };
    assert!(of(&file("vda", "/a", &internal), &["vda"], None).unwrap());
    assert!(!of(&file("vda", "/a", &plain), &["vda"], None).unwrap());
    assert!(!of(&file("vda", "/a", &by_qemu(" snapshot='external'")), &["vda"], None).unwrap());
    let stated = Element::new(ELEMENT).with("method", "qemu");
    assert!(!of(&file("vda", "/a", &internal), &["vda"], Some(&stated)).unwrap(), "the call counts");
    let mixed = of(&two(&internal, &plain), &["vda", "vdb"], None);
    assert_eq!(mixed.unwrap_err().code(), Code::OperationUnsupported);
    for wrong in
        [by_qemu(" snapshot='manual'"), "<diskSnapshot method='btrfs' snapshot='internal'/>".to_owned()]
    {
        let error = of(&file("vda", "/a", &wrong), &["vda"], None).unwrap_err();
        assert!(matches!(error, DiskError::UnknownPlace { .. }), "{error}");
    }
}
