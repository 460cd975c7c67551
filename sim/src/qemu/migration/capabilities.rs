//! What a migration may do beyond moving memory: `migrate-set-capabilities` and `query-migrate-capabilities`.
//!
//! All of them can be set, and are refused together as real ones are; few do something here: `events`,
//! `pause-before-switchover`, `background-snapshot`, `mapped-ram`, and those that want an answer from the other end, which no
//! file gives. Source: the four releases, asked.

use crate::{
    Release,
    qemu::{QmpError, arguments::Arguments},
    qobject::{QObject, qdict},
};

/// A capability: its name, and the first and the last release that has it.
type Known = (&'static str, Release, Release);

const OLDEST: Release = Release::V5_2;
const NEWEST: Release = Release::V11_1;

/// All of them in the order of the query.
const KNOWN: [Known; 24] = [
    ("xbzrle", OLDEST, NEWEST),
    ("rdma-pin-all", OLDEST, NEWEST),
    ("auto-converge", OLDEST, NEWEST),
    ("zero-blocks", OLDEST, Release::V10_0),
    ("compress", OLDEST, Release::V7_2),
    ("events", OLDEST, NEWEST),
    ("postcopy-ram", OLDEST, NEWEST),
    ("x-colo", OLDEST, NEWEST),
    ("release-ram", OLDEST, NEWEST),
    ("block", OLDEST, Release::V7_2),
    ("return-path", OLDEST, NEWEST),
    ("pause-before-switchover", OLDEST, NEWEST),
    ("multifd", OLDEST, NEWEST),
    ("dirty-bitmaps", OLDEST, NEWEST),
    ("postcopy-blocktime", OLDEST, NEWEST),
    ("late-block-activate", OLDEST, NEWEST),
    ("x-ignore-shared", OLDEST, NEWEST),
    ("validate-uuid", OLDEST, NEWEST),
    ("background-snapshot", Release::V7_2, NEWEST),
    ("zero-copy-send", Release::V7_2, NEWEST),
    ("postcopy-preempt", Release::V7_2, NEWEST),
    ("switchover-ack", Release::V10_0, NEWEST),
    ("dirty-limit", Release::V10_0, NEWEST),
    ("mapped-ram", Release::V10_0, NEWEST),
];

/// What a background snapshot cannot go with, in the order in which it is looked for.
const NOT_IN_THE_BACKGROUND: [&str; 14] = [
    "postcopy-ram",
    "dirty-bitmaps",
    "postcopy-blocktime",
    "late-block-activate",
    "return-path",
    "multifd",
    "pause-before-switchover",
    "auto-converge",
    "release-ram",
    "rdma-pin-all",
    "compress",
    "xbzrle",
    "x-colo",
    "validate-uuid",
];

/// The capabilities that are on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Capabilities {
    on: Vec<&'static str>,
}

impl Capabilities {
    /// Those that are on.
    pub(crate) fn on(&self) -> impl Iterator<Item = &'static str> {
        self.on.iter().copied()
    }

    /// Whether a capability is on.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.on.contains(&name)
    }

    /// `migrate-set-capabilities`: all that are named, or none.
    ///
    /// # Errors
    /// For what does not go together.
    pub(crate) fn set(&mut self, arguments: Arguments<'_>, release: Release) -> Result<(), QmpError> {
        let mut wanted = self.clone();
        for status in arguments.list("capabilities").iter().filter_map(|status| status.as_object()) {
            let status = Arguments(status);
            let Some((name, ..)) = KNOWN.iter().find(|(name, ..)| *name == status.text("capability")) else {
                continue;
            };
            wanted.on.retain(|on| on != name);
            if status.flag("state") {
                wanted.on.push(name);
            }
        }
        wanted.check(self, release)?;
        *self = wanted;
        Ok(())
    }

    /// `query-migrate-capabilities`.
    pub(crate) fn query(&self, release: Release) -> QObject {
        let here = KNOWN.iter().filter(|(_, since, until)| (*since..=*until).contains(&release));
        here.map(|(name, ..)| qdict! { "capability": *name, "state": self.has(name) }.into()).collect()
    }

    /// Whether they go together.
    fn check(&self, before: &Capabilities, release: Release) -> Result<(), QmpError> {
        let has = |name: &str| self.has(name);
        let refuse = |why: &str| Err(QmpError::generic(why));
        if release >= Release::V11_1 && has("x-colo") && !has("return-path") {
            return refuse("Capability 'x-colo' requires capability 'return-path'");
        }
        if has("postcopy-ram") && has("x-ignore-shared") {
            return refuse("Postcopy is not compatible with ignore-shared");
        }
        if release == Release::V10_0 && has("postcopy-ram") && has("multifd") {
            return refuse("Postcopy is not yet compatible with multifd");
        }
        if has("background-snapshot")
            && let Some(other) = NOT_IN_THE_BACKGROUND.into_iter().find(|name| has(name))
        {
            return refuse(&format!("Background-snapshot is not compatible with {other}"));
        }
        if has("zero-copy-send") && (!has("multifd") || has("compress")) {
            return refuse("Zero copy only available for non-compressed non-TLS multifd migration");
        }
        if has("postcopy-preempt") && !has("postcopy-ram") {
            return refuse("Postcopy preempt requires postcopy-ram");
        }
        if release >= Release::V7_2 && has("multifd") && has("compress") {
            return refuse("Multifd is not compatible with compress");
        }
        if has("switchover-ack") && !has("return-path") {
            return refuse("Capability 'switchover-ack' requires capability 'return-path'");
        }
        if has("dirty-limit") && !before.has("dirty-limit") {
            return refuse("dirty-limit requires KVM with accelerator property 'dirty-ring-size' set");
        }
        if has("mapped-ram") && has("xbzrle") {
            return refuse("Mapped-ram migration is incompatible with xbzrle");
        }
        if has("mapped-ram") && has("postcopy-ram") {
            return refuse("Mapped-ram migration is incompatible with postcopy");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(capabilities: &mut Capabilities, named: &[(&str, bool)]) -> Result<(), String> {
        let list: Vec<_> =
            named.iter().map(|(name, state)| json!({ "capability": name, "state": state })).collect();
        let arguments = json!({ "capabilities": list });
        let arguments = Arguments(arguments.as_object().expect("an object"));
        capabilities.set(arguments, Release::V10_0).map_err(|error| error.desc)
    }

    #[test]
    fn what_does_not_go_together_changes_nothing() {
        let mut capabilities = Capabilities::default();
        let refused = set(&mut capabilities, &[("events", true), ("mapped-ram", true), ("xbzrle", true)]);
        assert_eq!(refused.unwrap_err(), "Mapped-ram migration is incompatible with xbzrle");
        assert_eq!(capabilities, Capabilities::default());
    }

    #[test]
    fn a_background_snapshot_excludes_what_comes_later_too() {
        let mut capabilities = Capabilities::default();
        set(&mut capabilities, &[("background-snapshot", true), ("events", true)]).unwrap();
        let refused = set(&mut capabilities, &[("return-path", true)]).unwrap_err();
        assert_eq!(refused, "Background-snapshot is not compatible with return-path");
        set(&mut capabilities, &[("background-snapshot", false), ("return-path", true)]).unwrap();
    }
}
