//! Scenario files for snapshot software.
