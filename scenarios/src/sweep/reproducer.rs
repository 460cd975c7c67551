//! The smallest scenario that shows a finding: the file as it is written, with the faults, without the steps that come later and
//! without what it expects, which does not hold any more.

use std::fmt::Write as _;

use super::toml;
use crate::language::Fault;

/// The scenario in `text` with these faults, up to a step counted from 0. `found` says what does not hold then.
pub fn reproducer(text: &str, faults: &[Fault], last_step: usize, found: &str) -> String {
    let mut written = String::new();
    let mut keeps = true;
    let mut steps = 0;
    let mut in_text = false;
    for line in text.lines() {
        if !in_text {
            if line == "[[step]]" {
                steps += 1;
                keeps = steps <= last_step + 1;
            } else if line.starts_with("[expect") {
                keeps = false;
            } else if line.starts_with('[') && !line.starts_with("[step.") {
                keeps = true;
            }
        }
        // A line that opens a text of several lines, or closes one.
        let marks = line.matches("\"\"\"").count() + line.matches("'''").count();
        in_text ^= marks % 2 == 1;
        if keeps {
            written.push_str(line);
            written.push('\n');
        }
    }
    let _ = writeln!(written, "\n# Found by `freezeframe sweep`: {}", found.replace('\n', " "));
    for fault in faults {
        written.push_str(&toml(fault));
    }
    written
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::language::{At, FaultKind, Moment, Point, Scenario};

    const SCENARIO: &str = r#"id = "a"
title = "t"
why = """
[[step]]
is no step here."""

[machine]
disks = [{ target = "vda" }]

[[step]]
snapshot = { name = "s1", disk-only = true }

[[step]]
[step.snapshot]
name = "s2"
disk-only = true

[expect]
guest = "running"
"#;

    #[test]
    fn later_steps_and_expectations_go_and_the_fault_comes() {
        let at = At {
            moment: Moment::Command("transaction".into()),
            point: Point::Applied,
            with: None,
            nth: NonZeroU32::MIN,
        };
        let fault = Fault { at, kind: FaultKind::LoseReply, times: NonZeroU32::MIN };
        let text = reproducer(SCENARIO, std::slice::from_ref(&fault), 0, "it is wrong");
        let read = Scenario::parse("a.toml".into(), &text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!((read.steps.len(), read.faults.as_slice()), (1, [fault].as_slice()), "{text}");
        assert_eq!(read.expect, crate::language::Expect::default(), "{text}");
        assert_eq!(
            Scenario::parse("a.toml".into(), &reproducer(SCENARIO, &[], 1, "x")).unwrap().steps.len(),
            2
        );
    }
}
