//! The forms that written things take: names, durations and sizes, each said once.
//!
//! A form is a JSON Schema with a `title` (what the thing is called in an error), a `description` (how to
//! write it, shown as the help of an error) and a `pattern`. The fields that carry such a text name its form
//! with `#[schemars(with = "...")]` and hold a plain `String`; [`Timespan`] and [`Size`] are forms that hold
//! a number.
//!
//! Names that the subject of a scenario may refuse, such as a snapshot's, have no form here: a scenario
//! must be able to ask for a name that is empty or far too long.

use std::{borrow::Cow, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

/// The id of a scenario.
pub(super) struct ScenarioId;

impl JsonSchema for ScenarioId {
    fn schema_name() -> Cow<'static, str> {
        "ScenarioId".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        form(
            "scenario id",
            "the file's path below `suite/` without `.toml`, in lower case: \"external/two-disks\"",
            "^[a-z0-9][a-z0-9-]*(/[a-z0-9][a-z0-9-]*)*$",
        )
    }
}

/// What the guest calls a disk.
pub(super) struct DiskTarget;

impl JsonSchema for DiskTarget {
    fn schema_name() -> Cow<'static, str> {
        "DiskTarget".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        form(
            "disk target",
            "a lower-case letter, then up to 15 letters and digits: \"vda\"",
            "^[a-z][a-z0-9]{0,15}$",
        )
    }
}

/// A serial port of the guest.
pub(super) struct PortName;

impl JsonSchema for PortName {
    fn schema_name() -> Cow<'static, str> {
        "PortName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        form(
            "serial port",
            "a lower-case letter, then up to 31 letters, digits and dashes: \"port0\"",
            "^[a-z][a-z0-9-]{0,31}$",
        )
    }
}

/// A file in the machine's folder. No path: a scenario may come from a stranger and must not reach
/// outside that folder.
pub(super) struct FileName;

impl JsonSchema for FileName {
    fn schema_name() -> Cow<'static, str> {
        "FileName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        form(
            "file name",
            "letters, digits, `.`, `_`, `@` and `-`, no folder, starting with a letter, a digit or `_`: \"vda.qcow2\"",
            "^[A-Za-z0-9_][A-Za-z0-9._@-]*$",
        )
    }
}

/// A model of a processor.
pub(super) struct CpuModel;

impl JsonSchema for CpuModel {
    fn schema_name() -> Cow<'static, str> {
        "CpuModel".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        form("model of a processor", "as QEMU names it: \"Nehalem\"", "^[A-Za-z0-9][A-Za-z0-9._-]*$")
    }
}

/// A code that the driver's errors carry.
pub(super) struct ErrorCode;

impl JsonSchema for ErrorCode {
    fn schema_name() -> Cow<'static, str> {
        "ErrorCode".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        form("error code", "capital letters and `_`: \"OPERATION_FAILED\"", "^[A-Z_]+$")
    }
}

/// A QMP command.
pub(super) struct CommandName;

impl JsonSchema for CommandName {
    fn schema_name() -> Cow<'static, str> {
        "CommandName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        form("QMP command", "as QEMU names it: \"snapshot-save\"", "^[A-Za-z_][A-Za-z0-9_.-]*$")
    }
}

/// A QMP event.
pub(super) struct EventName;

impl JsonSchema for EventName {
    fn schema_name() -> Cow<'static, str> {
        "EventName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        form("QMP event", "as QEMU names it: \"JOB_STATUS_CHANGE\"", "^[A-Z][A-Z0-9_]*$")
    }
}

/// A length of time in whole milliseconds, more than none: simulated and real clocks agree on those.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Timespan(Duration);

impl Timespan {
    /// The same as the standard library's type.
    pub fn duration(self) -> Duration {
        self.0
    }
}

impl std::fmt::Display for Timespan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} s", self.0.as_secs_f64())
    }
}

impl TryFrom<String> for Timespan {
    type Error = WrongForm;

    /// # Errors
    /// When the text is not a whole number above zero and below ten million, then `ms`, `s` or `m`.
    fn try_from(text: String) -> Result<Self, WrongForm> {
        let (digits, unit) = number_and_unit(&text).ok_or(WrongForm(text.clone()))?;
        let unit_ms = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            _ => return Err(WrongForm(text)),
        };
        Ok(Timespan(Duration::from_millis(digits * unit_ms)))
    }
}

impl JsonSchema for Timespan {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        form(
            "duration",
            "a whole number above zero, then ms, s or m: \"200ms\", \"5s\", \"2m\"",
            "^[1-9][0-9]{0,6}(ms|s|m)$",
        )
    }
}

/// A size in bytes, more than none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Size(u64);

impl Size {
    /// A size of so many MiB.
    pub const fn mebibytes(count: u32) -> Self {
        Size(count as u64 * 1024 * 1024)
    }

    /// The size in bytes: a multiple of 1024.
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl TryFrom<String> for Size {
    type Error = WrongForm;

    /// # Errors
    /// When the text is not a whole number above zero and below ten million, then `K`, `M` or `G`.
    fn try_from(text: String) -> Result<Self, WrongForm> {
        let (digits, unit) = number_and_unit(&text).ok_or(WrongForm(text.clone()))?;
        let shift = match unit {
            "K" => 10,
            "M" => 20,
            "G" => 30,
            _ => return Err(WrongForm(text)),
        };
        Ok(Size(digits << shift))
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        form(
            "size",
            "a whole number above zero, then K, M or G (1024, 1024², 1024³ bytes): \"16M\"",
            "^[1-9][0-9]{0,6}[KMG]$",
        )
    }
}

/// A text that is no duration or no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither written nor bounded as it should be")]
pub struct WrongForm(String);

/// `"200ms"` as 200 and `"ms"`. The cap on the digits keeps every product with a unit inside 64 bits.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = text.split_at(end);
    if digits.starts_with('0') || digits.len() > 7 {
        return None;
    }
    Some((digits.parse().ok()?, unit))
}

fn form(title: &str, description: &str, pattern: &str) -> Schema {
    json_schema!({ "type": "string", "title": title, "description": description, "pattern": pattern })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The schema's pattern and the parser are two readings of one rule: both must give the same verdict.
    fn assert_both_say<T: JsonSchema + TryFrom<String>>(text: &str, right: bool) {
        let schema = T::json_schema(&mut SchemaGenerator::default());
        let pattern = schema.get("pattern").and_then(|p| p.as_str()).expect("a form has a pattern");
        let pattern = regex_lite::Regex::new(pattern).expect("the pattern is a regular expression");
        assert_eq!(pattern.is_match(text), right, "pattern on {text:?}");
        assert_eq!(T::try_from(text.into()).is_ok(), right, "parser on {text:?}");
    }

    #[test]
    fn durations_are_whole_milliseconds_above_zero() {
        for right in ["1ms", "200ms", "5s", "2m", "9999999m"] {
            assert_both_say::<Timespan>(right, true);
        }
        for wrong in ["", "5", "s", "0s", "05s", "1.5s", "-1s", "5 s", "5h", "5S", "12345678s", "5s\n"] {
            assert_both_say::<Timespan>(wrong, false);
        }
        assert_eq!(Timespan::try_from("2m".to_owned()).unwrap().duration(), Duration::from_secs(120));
        assert_eq!(Timespan::try_from("200ms".to_owned()).unwrap().duration(), Duration::from_millis(200));
    }

    #[test]
    fn sizes_are_multiples_of_1024_above_zero() {
        for right in ["1K", "16M", "9999999G"] {
            assert_both_say::<Size>(right, true);
        }
        for wrong in ["", "16", "M", "0M", "16m", "16MB", "1.5G", "16 M", "12345678K", "1T"] {
            assert_both_say::<Size>(wrong, false);
        }
        assert_eq!(Size::try_from("16M".to_owned()).unwrap(), Size::mebibytes(16));
        assert_eq!(Size::try_from("4K".to_owned()).unwrap().bytes(), 4096);
    }
}
