//! What a snapshot's document tells to those only who ask for it: passwords, as libvirt hides them.

use super::DomainSnapshot;
use crate::xml::Element;

impl DomainSnapshot {
    /// The same without what opens a door: passwords of screens, cookies of network disks.
    #[must_use]
    pub fn without_passwords(&self) -> Self {
        let mut hidden = self.clone();
        for machine in [&mut hidden.domain, &mut hidden.inactive_domain].into_iter().flatten() {
            let Some(devices) = machine.child_mut("devices") else { continue };
            devices.elements_mut().for_each(hide);
        }
        for disk in hidden.disks.iter_mut().chain(&mut hidden.revert_disks) {
            disk.source.iter_mut().for_each(|source| source.remove("cookies"));
        }
        hidden
    }
}

fn hide(device: &mut Element) {
    match device.name.as_str() {
        "graphics" => device.attributes.retain(|(name, _)| name != "passwd"),
        "disk" => without_cookies(device),
        _ => {}
    }
}

/// In a disk's source, and in those below it.
fn without_cookies(disk: &mut Element) {
    let mut open = vec![disk];
    while let Some(element) = open.pop() {
        if element.name == "source" {
            element.remove("cookies");
        }
        open.extend(element.elements_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain_snapshot::Purpose;

    const RECORD: &str = "<domainsnapshot><name>s1</name><state>running</state><creationTime>1</creationTime>
        <domain><name>vm</name><devices>
        <graphics type='vnc' passwd='open sesame' passwdValidTo='2030-01-01T00:00:00'/><graphics type='spice'/>
        <disk type='network'><source protocol='https' name='a'><cookies><cookie name='k'>open sesame</cookie></cookies></source>
        <target dev='vda'/><backingStore type='network'><source protocol='https' name='b'><cookies>
        <cookie name='k'>open sesame</cookie></cookies></source></backingStore></disk></devices></domain></domainsnapshot>";

    #[test]
    fn passwords_are_hidden_and_all_else_stays() {
        let record = DomainSnapshot::read(RECORD.as_bytes(), Purpose::Redefine).unwrap();
        assert_eq!(record.document().matches("open sesame").count(), 3);
        let hidden = record.without_passwords();
        assert_eq!(hidden.document().matches("open sesame").count(), 0);
        assert_eq!(hidden.document().matches("<source").count(), 2);
        let domain = hidden.domain.unwrap();
        let screens: Vec<_> = domain.child("devices").unwrap().elements().take(2).collect();
        assert_eq!(screens[0].attribute("passwd"), None);
        assert_eq!(screens[0].attribute("type"), Some("vnc"));
    }
}
