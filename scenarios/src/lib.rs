//! Scenario files for snapshot software.
pub mod language;
