//! libvirt's rules, one row each, and its own records read without loss.

use super::*;
use crate::error::Code;

const CREATE: Purpose = Purpose::Create { without_memory: false };
const DISKS_ONLY: Purpose = Purpose::Create { without_memory: true };

fn read(inside: &str, purpose: Purpose) -> Result<DomainSnapshot, BadDefinition> {
    DomainSnapshot::read(format!("<domainsnapshot>{inside}</domainsnapshot>").as_bytes(), purpose)
}

/// A record with what every record must say.
fn record(inside: &str) -> Result<DomainSnapshot, BadDefinition> {
    read(&format!("<name>s</name><creationTime>1</creationTime>{inside}"), Purpose::Redefine)
}

#[test]
fn a_new_snapshot_without_a_name_is_called_by_its_second() {
    let wish = read("<description>d</description>", CREATE).unwrap();
    assert_eq!((wish.name.as_deref(), wish.creation_time), (None, None));
    let taken = wish.taken_at(1_700_000_000);
    assert_eq!((taken.name.as_deref(), taken.creation_time), (Some("1700000000"), Some(1_700_000_000)));
    assert_eq!(taken.description.as_deref(), Some("d"));
    assert_eq!(read("<name>s</name>", CREATE).unwrap().taken_at(1).name.as_deref(), Some("s"));
}

#[test]
fn a_new_snapshot_takes_nothing_from_what_a_document_says_of_the_past() {
    let made = read(
        "<name>s</name><state>paused</state><creationTime>5</creationTime><parent><name>p</name></parent>\
         <domain type='kvm'/><revertDisks><disk name='vda'/></revertDisks><active>1</active>",
        CREATE,
    )
    .unwrap();
    assert_eq!(made, DomainSnapshot { name: Some("s".into()), ..read("", CREATE).unwrap() });
}

#[test]
fn what_a_record_must_say_is_missed_by_name() {
    let why = |inside: &str, purpose| read(inside, purpose).unwrap_err().why;
    let named = "<name>s</name>";
    assert_eq!(why("", Purpose::Redefine), Why::NoName);
    assert_eq!(why("<name/>", Purpose::Redefine), Why::NoName);
    assert_eq!(why(named, Purpose::Redefine), Why::NoCreationTime);
    assert_eq!(
        why(&format!("{named}<creationTime>x</creationTime>"), Purpose::Redefine),
        Why::NoCreationTime
    );
    assert_eq!(why(&format!("{named}<creationTime>1</creationTime>"), Purpose::Redefine), Why::NoState);
    let full = format!("{named}<creationTime>1</creationTime><state>running</state>");
    assert_eq!(why(&full, Purpose::Load), Why::NoActive);
    assert_eq!(why(&format!("{full}<active>yes</active>"), Purpose::Load), Why::NoActive);
    assert_eq!(why(&full.replace("running", "on"), Purpose::Redefine), Why::UnknownState("on".into()));
    assert!(read(&full, Purpose::Redefine).is_ok());
}

/// libvirt takes the first, and nobody learns that there was another.
#[test]
fn what_is_said_twice_is_refused_at_the_second() {
    let again = |inside: &str, purpose| {
        let error = read(inside, purpose).unwrap_err();
        assert_eq!(error.why.code(), Code::XmlError);
        (error.why.to_string(), error.at.column)
    };
    let twice = |part: &str, whole: &str| {
        format!(
            "a second `<{part}>` in `<{whole}>`, which has one at the most: which of them is meant is not known"
        )
    };
    let root = "<domainsnapshot>".len() as u32;
    for part in ["name", "description", "memory", "disks"] {
        let (text, column) = (format!("<{part}/>"), root + part.len() as u32 + 4);
        let refused = (twice(part, "domainsnapshot"), column);
        assert_eq!(again(&text.repeat(2), CREATE), refused);
        assert_eq!(again(&text.repeat(2), Purpose::Redefine), refused);
    }
    let past =
        ["state", "parent", "creationTime", "revertDisks", "domain", "inactiveDomain", "cookie", "active"];
    for part in past {
        let text = format!("<{part}/>").repeat(2);
        assert!(read(&text, CREATE).is_ok(), "a wish says nothing of it");
        for purpose in [Purpose::Redefine, Purpose::Load] {
            assert_eq!(again(&text, purpose).0, twice(part, "domainsnapshot"));
        }
    }
    for part in ["driver", "source"] {
        let disk = format!("<disks><disk name='vda'><{part}/><{part}/></disk></disks>");
        assert_eq!(again(&disk, CREATE).0, twice(part, "disk"));
    }
    let parents = "<state>running</state><parent><name>a</name><name>b</name></parent>";
    assert_eq!(record(parents).unwrap_err().why.to_string(), twice("name", "parent"));
    // What nobody here knows may stand there as often as it likes.
    assert!(read("<other/><other/>", CREATE).is_ok());
}

#[test]
fn the_memory_is_where_it_is_said_or_where_the_state_puts_it() {
    let of = |state: &str, memory: &str| {
        record(&format!("<state>{state}</state>{memory}"))
            .map(|record| record.memory.location)
            .map_err(|e| e.why)
    };
    assert_eq!(of("running", ""), Ok(Some(Location::Internal)));
    assert_eq!(of("shutoff", ""), Ok(Some(Location::No)));
    assert_eq!(of("disk-snapshot", ""), Ok(Some(Location::No)));
    assert_eq!(of("running", "<memory file='/m'/>"), Ok(Some(Location::External)));
    assert_eq!(of("running", "<memory snapshot='no'/>"), Ok(Some(Location::No)));
    assert_eq!(of("shutoff", "<memory snapshot='internal'/>"), Err(Why::MemoryWithoutMachine));
    assert_eq!(read("", CREATE).unwrap().memory.location, None);
    let disks_only =
        |memory: &str| read(memory, DISKS_ONLY).map(|made| made.memory.location).map_err(|e| e.why);
    assert_eq!(disks_only("<memory file='/m'/>"), Err(Why::MemoryWithoutMachine));
    assert_eq!(disks_only("<memory snapshot='no'/>"), Ok(Some(Location::No)));
}

#[test]
fn a_cookie_goes_with_the_memory() {
    let has_cookie = |state: &str| {
        record(&format!("<state>{state}</state><cookie><x/></cookie>")).unwrap().document().contains("cookie")
    };
    assert!(has_cookie("running"));
    assert!(!has_cookie("shutoff") && !has_cookie("disk-snapshot"));
}

#[test]
fn memory_that_cannot_be_is_refused() {
    let why = |memory: &str| read(memory, CREATE).unwrap_err().why;
    assert_eq!(why("<memory snapshot='manual'/>"), Why::ManualMemory);
    assert_eq!(why("<memory snapshot='here'/>"), Why::UnknownMemory("here".into()));
    assert_eq!(why("<memory snapshot='external'/>"), Why::NoMemoryFile);
    assert_eq!(why("<memory snapshot='no' file='/m'/>"), Why::MemoryFileUnused("/m".into()));
    assert_eq!(why("<memory snapshot='external' file='m'/>"), Why::RelativeMemoryFile("m".into()));
}

#[test]
fn a_disk_with_a_file_or_a_format_is_external() {
    let disk = |text: &str| read(&format!("<disks>{text}</disks>"), CREATE).unwrap().disks.remove(0);
    assert_eq!(disk("<disk name='vda'/>").location, None);
    assert_eq!(disk("<disk name='vda'><source file='/a'/></disk>").location, Some(Location::External));
    assert_eq!(disk("<disk name='vda'><driver type='qed'/></disk>").location, Some(Location::External));
    let block = disk("<disk name='vda' snapshot='external' type='block'><source dev='/dev/a'/></disk>");
    assert_eq!((block.source_type, block.path()), (SourceType::Block, Some("/dev/a".into())));
    let network = disk("<disk name='vda' type='network'><source protocol='rbd' name='p/i'/></disk>");
    assert_eq!((network.path(), network.location), (Some("p/i".into()), Some(Location::External)));
}

#[test]
fn a_disk_that_cannot_be_is_refused_where_it_stands() {
    let bad = |text: &str| read(&format!("\n<disks>\n  {text}</disks>"), CREATE).unwrap_err();
    assert_eq!(bad("<disk/>").why, Why::NoDiskName);
    assert_eq!(bad("<disk name='vda' snapshot='default'/>").why, Why::UnknownLocation("default".into()));
    assert_eq!(bad("<disk name='vda' type='volume'/>").why, Why::SourceTypeUnsupported("volume".into()));
    assert_eq!(bad("<disk name='vda' type='tape'/>").why, Why::UnknownSourceType("tape".into()));
    let format = bad("<disk name='vda'>\n   <driver type='foo'/></disk>");
    assert_eq!(
        (format.to_string(), format.why.code()),
        ("4:4: `foo` is no format of an image".into(), Code::ConfigUnsupported)
    );
    let relative = bad("<disk name='vda'><source file='a.qcow2'/></disk>");
    assert_eq!((relative.why.code(), relative.why), (Code::XmlError, Why::RelativePath("a.qcow2".into())));
    assert_eq!(read("", CREATE).map(|_| ()), Ok(()));
    assert_eq!(DomainSnapshot::read(b"<domain/>", CREATE).unwrap_err().why, Why::Root("domain".into()));
}

#[test]
fn the_records_of_real_libvirt_are_read_without_loss() {
    for (name, file) in [
        ("disk-only", include_str!("../../tests/libvirt-9.0/metadata-disk-only.xml")),
        ("disk-only-2", include_str!("../../tests/libvirt-9.0/metadata-disk-only-2.xml")),
        ("ext-mem", include_str!("../../tests/libvirt-9.0/metadata-ext-mem.xml")),
        ("internal-full", include_str!("../../tests/libvirt-9.0/metadata-internal-full.xml")),
        // Not observed: as the code of 11.3 writes it (`virDomainSnapshotDefFormatInternal`).
        ("revert-disks", include_str!("../../tests/libvirt-11.3/metadata-revert-disks.xml")),
    ] {
        let record = DomainSnapshot::read(file.as_bytes(), Purpose::Load).expect(name);
        let after_the_head = |text: &str| text.split_once("-->\n\n").expect("a head").1.to_owned();
        assert_eq!(after_the_head(&record.file()), after_the_head(file), "{name}");
    }
}

#[test]
fn what_real_libvirt_shows_of_a_snapshot_is_a_record_to_hand_in() {
    for (name, text) in [
        ("disk-only", include_str!("../../tests/libvirt-9.0/dumpxml-disk-only.xml")),
        ("ext-mem", include_str!("../../tests/libvirt-9.0/dumpxml-ext-mem.xml")),
        ("internal-full", include_str!("../../tests/libvirt-9.0/dumpxml-internal-full.xml")),
    ] {
        let record = DomainSnapshot::read(text.as_bytes(), Purpose::Redefine).expect(name);
        assert_eq!(record.document().trim_end(), text.trim_end(), "{name}");
    }
}

/// What somebody else has put into a document, in every place where it may stand.
const OF_OTHERS: &str = "<domainsnapshot xmlns:x='urn:x' x:a='1' b='2'>
  <name>s</name>
  <description lang='en'>d</description>
  <state>running</state>
  <parent>
    <name>p</name>
    <x:note/>
  </parent>
  <creationTime>1</creationTime>
  <memory snapshot='internal' x:fast='yes'>
    <x:note>memory</x:note>
  </memory>
  <disks x:count='1'>
    <disk name='vda' snapshot='external' type='file' x:a='3'>
      <driver type='qcow2'>
        <metadata_cache>
          <max_size unit='MiB'>4</max_size>
        </metadata_cache>
      </driver>
      <source file='/images/vda.s' startupPolicy='optional'>
        <seclabel model='dac' relabel='no'/>
      </source>
      <x:note>disk</x:note>
    </disk>
    <x:note>disks</x:note>
  </disks>
  <domain type='qemu'>
    <name>vm</name>
  </domain>
  <x:note>root</x:note>
  <later/>
  <!-- said by hand -->
</domainsnapshot>
";

#[test]
fn what_a_definition_says_that_is_not_understood_is_kept_in_its_place() {
    let record = DomainSnapshot::read(OF_OTHERS.as_bytes(), Purpose::Redefine).unwrap();
    assert_eq!(record.document(), OF_OTHERS);
    let loaded = DomainSnapshot::read(record.file().as_bytes(), Purpose::Load).unwrap();
    assert_eq!(loaded, DomainSnapshot { active: Some(false), ..record });
    // A wish says nothing of the past, be it understood or not.
    let wish = DomainSnapshot::read(OF_OTHERS.as_bytes(), CREATE).unwrap();
    let document = wish.document();
    assert_eq!(document.matches("x:note").count(), 2 * 4, "{document}");
    assert!(document.contains("xmlns:x='urn:x'") && document.contains("lang='en'"), "{document}");
    assert!(!document.contains("<parent>"), "{document}");
    assert_eq!(DomainSnapshot::read(document.as_bytes(), CREATE).unwrap(), wish);
}

/// libvirt takes no record of an external disk that names no overlay, unless it can make up the name.
#[test]
fn an_overlay_that_is_gone_stays_named_in_the_record_and_is_none_to_go_by() {
    let disk =
        "<disk name='vda' snapshot='external' type='file'><source file='/images/vda.s1'/><gone/></disk>";
    let record = record(&format!("<state>shutoff</state><disks>{disk}</disks>")).unwrap();
    assert!(record.disks[0].gone && record.disks[0].path().is_none());
    let document = record.document();
    assert!(
        document.contains("<source file='/images/vda.s1'/>") && document.contains("<gone/>"),
        "{document}"
    );
    assert_eq!(DomainSnapshot::read(document.as_bytes(), Purpose::Redefine).unwrap(), record);
    // Who wishes for a snapshot says nothing of what became of one.
    let wish = read(&format!("<disks>{disk}</disks>"), CREATE).unwrap();
    assert_eq!(wish.disks[0].path().map(Utf8Path::as_str), Some("/images/vda.s1"));
}

#[test]
fn a_size_has_libvirts_units() {
    let cache = |max_size: &str| {
        let driver = format!("<driver type='qcow2'><metadata_cache>{max_size}</metadata_cache></driver>");
        let text = format!(
            "<domainsnapshot><disks><disk name='vda' snapshot='external'>{driver}</disk></disks></domainsnapshot>"
        );
        DomainSnapshot::read(text.as_bytes(), CREATE).unwrap().disks[0].metadata_cache()
    };
    for (said, bytes) in [
        ("<max_size>4096</max_size>", Some(4096)),
        ("<max_size unit='bytes'>7</max_size>", Some(7)),
        ("<max_size unit='KiB'>2</max_size>", Some(2048)),
        ("<max_size unit='k'>2</max_size>", Some(2048)),
        ("<max_size unit='KB'>2</max_size>", Some(2000)),
        ("<max_size unit='GiB'>1</max_size>", Some(1 << 30)),
        ("<max_size>0</max_size>", None),
        ("", None),
    ] {
        assert_eq!(cache(said), Ok(bytes), "{said}");
    }
    for said in
        ["unit='x'>1", "unit=''>1", "unit='\u{e9}'>1", "unit='EiB'>99", "unit='KiB'>-1", "unit='KiB'>one"]
    {
        assert!(cache(&format!("<max_size {said}</max_size>")).is_err(), "{said}");
    }
}
