//! Any bytes as a machine's document: reading them never panics, and what is read is written so that it is read as the same.

#![no_main]

use freezeframe_driver::domain_xml::DomainXml;
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
});
