//! Any text as a scenario: reading it never panics, and what is wrong with it is told with its place, which lies in the text.

#![no_main]

use camino::Utf8Path;
use freezeframe::language::Scenario;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(wrong) = Scenario::parse(Utf8Path::new("fuzzed.toml"), text) {
        let told = wrong.to_string();
        assert!(told.contains("fuzzed.toml"), "no place is told: {told}");
    }
});
