//! Any bytes as a machine's or a snapshot's document: reading them never panics, and what is read is written so that it is read as
//! the same.

#![no_main]

use freezeframe_driver::{
    domain_snapshot::{DomainSnapshot, Purpose},
    domain_xml::DomainXml,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match DomainXml::read(bytes) {
        Ok(domain) => {
            let written = domain.element().document();
            let again = DomainXml::read(written.as_bytes()).expect("what is written is read");
            assert_eq!(again.element().document(), written);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let create = |without_memory| Purpose::Create { without_memory };
    for purpose in [create(false), create(true), Purpose::Redefine] {
        let _ = DomainSnapshot::read(bytes, purpose).map(|snapshot| snapshot.document());
    }
    if let Ok(record) = DomainSnapshot::read(bytes, Purpose::Load) {
        let written = record.file();
        let again = DomainSnapshot::read(written.as_bytes(), Purpose::Load).expect("what is written is read");
        assert_eq!(again.file(), written);
    }
});
