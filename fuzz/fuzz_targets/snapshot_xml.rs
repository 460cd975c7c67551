//! Any bytes as a snapshot's document, for each of its uses: reading them never panics, and a record that is read is written so that it
//! is read as the same.

#![no_main]

use freezeframe_driver::domain_snapshot::{DomainSnapshot, Purpose};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let create = |without_memory| Purpose::Create { without_memory };
    for purpose in [create(false), create(true), Purpose::Redefine] {
        match DomainSnapshot::read(bytes, purpose) {
            Ok(snapshot) => drop(snapshot.document()),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    if let Ok(record) = DomainSnapshot::read(bytes, Purpose::Load) {
        let written = record.file();
        let again = DomainSnapshot::read(written.as_bytes(), Purpose::Load).expect("what is written is read");
        assert_eq!(again.file(), written);
    }
});
