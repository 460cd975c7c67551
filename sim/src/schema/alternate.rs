//! Names of the types that QEMU's errors name and its schema hides.
//!
//! A value that fits no choice of an alternate is refused with the type's name ("expected: BlockdevRef"), but
//! `query-qmp-schema` replaces names by numbers. There are seven alternates, and their shapes tell them apart.
//! Source: what the binaries answered to a value that does not fit.

use serde_json::Value;

use super::types::{list, text};
use crate::release::Release;

/// The name of the alternate of these choices.
pub(super) fn name<'s>(release: Release, choices: impl Iterator<Item = &'s Value>) -> &'static str {
    let mut shape: Vec<&str> = choices.map(shape).collect();
    shape.sort_unstable();
    match shape[..] {
        ["driver", "string"] => "BlockdevRef",
        ["driver", "null", "string"] => "BlockdevRefOrNull",
        ["enum", "template"] => "Qcow2OverlapChecks",
        ["node", "string"] if release < Release::V7_2 => "BlockDirtyBitmapMergeSource",
        ["node", "string"] => "BlockDirtyBitmapOrStr",
        ["null", "string"] => "StrOrNull",
        ["array", "string"] => "BlockExportIothreads",
        ["array", "boolean", "int"] => "StatsValue",
        _ => "alternate",
    }
}

/// What tells a choice apart: its first member for an object, else what JSON calls it.
fn shape(choice: &Value) -> &str {
    match text(&choice["meta-type"]) {
        "object" => list(&choice["members"]).next().map_or("object", |member| text(&member["name"])),
        "builtin" => text(&choice["json-type"]),
        other => other,
    }
}
