//! What QEMU is told of a machine as libvirt describes it.

use std::collections::BTreeSet;

use super::*;

/// A machine that runs under libvirt 9.0, which lists a USB controller before the port that it is in.
const RUNS: &str = include_str!("../../../tests/libvirt-9.0-running/dumpxml-start-1.xml");

fn words(document: &str) -> Result<Vec<String>, LaunchError> {
    let (domain, chains) = (DomainXml::read(document.as_bytes()).unwrap(), Chains::new());
    let monitor = "/run/vm".into();
    let machine =
        Machine { domain: &domain, chains: &chains, monitor, power: Power::Running, accelerator: None };
    of(&machine)
}

/// The options of this name, each with what it says.
fn options<'w>(words: &'w [String], name: &str) -> Vec<&'w str> {
    words.windows(2).filter(|pair| pair[0] == name).map(|pair| pair[1].as_str()).collect()
}

#[test]
fn a_bus_is_there_before_what_is_on_it() {
    let words = words(RUNS).unwrap();
    let mut buses = BTreeSet::from(["pcie.0".to_owned(), "ide.0".to_owned()]);
    let mut plugged = 0;
    for device in options(&words, "-device") {
        let says = |name: &str| device.split(',').find_map(|said| said.strip_prefix(name));
        if let Some(bus) = says("bus=") {
            assert!(buses.contains(bus), "{device}");
            plugged += 1;
        }
        let id = says("id=").unwrap();
        buses.extend([id.to_owned(), format!("{id}.0")]);
    }
    assert_eq!(plugged, 19);
}

#[test]
fn what_joins_the_guest_to_the_host_is_made_anew() {
    let words = words(RUNS).unwrap();
    assert!(options(&words, "-chardev").contains(&"pty,id=charserial0"), "{words:?}");
    assert_eq!(options(&words, "-vnc"), ["127.0.0.1:0,to=99"]);
}

#[test]
fn a_place_that_is_not_there_or_taken_is_refused_before_anything_is_touched() {
    for (from, to, told) in [
        (
            "bus='0x07' slot",
            "bus='0x27' slot",
            "169:7: the built-in launcher cannot give a device on PCI bus 39, which is not there",
        ),
        ("bus='0x07' slot", "bus='0x06' slot", "two devices in slot 0x0, function 0 of PCI bus 6"),
        (
            "bus='0x02' slot='0x00'",
            "bus='0x02' slot='0x01'",
            "slot 0x1, function 0 of PCI bus 2, which has no such place",
        ),
        (
            " multifunction='on'",
            "",
            "more than one device in slot 0x2 of PCI bus 0 without `multifunction='on'`",
        ),
        ("function='0x7'", "function='0x6'", "two devices in slot 0x2, function 6 of PCI bus 0"),
        (
            "bus='0' port='1'/>\n    </input>",
            "bus='0' port='16'/>\n    </input>",
            "port 16 of USB bus 0, which has no such place",
        ),
        (
            "bus='0' port='1'/>\n    </channel>",
            "bus='0' port='0'/>\n    </channel>",
            "port 0 of the virtio-serial controller 0",
        ),
        (
            "target='0' unit='0'",
            "target='0' unit='6'",
            "0:0:6 of the sata controller 0, which has no such place",
        ),
    ] {
        let document = RUNS.replace(from, to);
        assert_ne!(document, RUNS, "{from}");
        let refused = words(&document).expect_err(told).to_string();
        assert!(refused.contains(told), "{refused}");
    }
}

#[test]
fn a_display_that_needs_a_secret_is_refused() {
    let with = |graphics: &str| {
        let (before, rest) = RUNS.split_once("<graphics").unwrap();
        let (_, after) = rest.split_once("</graphics>").unwrap();
        words(&format!("{before}{graphics}{after}"))
    };
    for odd in [
        "<graphics type='vnc' port='5900' passwd='a'/>",
        "<graphics type='spice'/>",
        "<graphics type='vnc' port='80'/>",
    ] {
        assert!(matches!(with(odd), Err(LaunchError::CannotGive { .. })), "{odd}");
    }
    let at = |graphics| options(&with(graphics).unwrap(), "-vnc")[0].to_owned();
    assert_eq!(at("<graphics type='vnc' port='5907' autoport='no' listen='::1'/>"), "[::1]:7");
    assert_eq!(at("<graphics type='vnc' socket='/run/vnc,1'/>"), "unix:/run/vnc,,1");
}
