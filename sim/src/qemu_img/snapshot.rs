//! `qemu-img snapshot`: takes, deletes, applies and lists the internal snapshots of an image.

use std::time::Duration;

use super::{
    Refusal, Run,
    open::{Access, Layer},
    options::Options,
    size,
};
use crate::{
    host::{InternalSnapshot, Qcow2},
    machine::Format,
};

/// A refusal's words for a raw image.
const NO_SNAPSHOTS: &str = "Block driver does not support snapshots";

/// What is done to an image.
enum Verb<'a> {
    Create(&'a str),
    Delete(&'a str),
    Apply(&'a str),
    List,
}

pub(super) fn snapshot(run: &mut Run<'_>, options: &Options<'_>) -> Result<(), Refusal> {
    let verb = match (options.value("-c"), options.value("-d"), options.value("-a"), options.has("-l")) {
        (Some(name), None, None, false) => Verb::Create(name),
        (None, Some(name), None, false) => Verb::Delete(name),
        (None, None, Some(name), false) => Verb::Apply(name),
        (None, None, None, _) => Verb::List,
        _ => return Err(Refusal::not_simulated("a usage error")),
    };
    let access = match verb {
        Verb::List => Access::Read,
        // Whether a raw image has that one is known without a look.
        Verb::Delete(_) => Access::WriteUnread,
        Verb::Create(_) | Verb::Apply(_) => Access::Write,
    };
    let chain = run.open_chain(options.name()?, None, access)?;
    run.takes += Duration::from_millis(15);
    match verb {
        Verb::Create(name) => run.take_snapshot(&chain[0], name),
        Verb::Delete(name) => run.delete_snapshot(&chain[0], name),
        Verb::Apply(name) => run.apply_snapshot(&chain[0], name),
        Verb::List => {
            run.list_snapshots(&chain[0]);
            Ok(())
        }
    }
}

impl Run<'_> {
    fn qcow2_mut(&mut self, layer: &Layer) -> Option<&mut Qcow2> {
        self.around.host.image_mut(&layer.path)?.as_qcow2_mut()
    }

    fn take_snapshot(&mut self, layer: &Layer, name: &str) -> Result<(), Refusal> {
        let clock = self.around.clock;
        let release = self.around.release;
        let Some(qcow2) = self.qcow2_mut(layer) else {
            let text = release.unsupported_snapshot();
            return Err(Refusal::new(format!("Could not create snapshot '{name}': {text}")));
        };
        // It asks the clock for microseconds.
        let date = Duration::from_micros(u64::try_from(clock.as_micros()).unwrap_or(u64::MAX));
        qcow2.take_snapshot(name, 0, date, Duration::ZERO);
        qcow2.keep_no_instructions();
        Ok(())
    }

    fn delete_snapshot(&mut self, layer: &Layer, name: &str) -> Result<(), Refusal> {
        let holds_some = layer.format == Format::Qcow2;
        let deleted = self.qcow2_mut(layer).filter(|_| holds_some).and_then(|qcow2| {
            let id = qcow2.find(name)?.id.clone();
            qcow2.delete_snapshot(&id)
        });
        let text = || format!("Could not delete snapshot '{name}': snapshot not found");
        deleted.map(drop).ok_or_else(|| Refusal::new(text()))
    }

    fn apply_snapshot(&mut self, layer: &Layer, name: &str) -> Result<(), Refusal> {
        let refused = |why: &str| Refusal::new(format!("Could not apply snapshot '{name}': {why}"));
        if layer.guessed {
            // What has no snapshots is opened anew before that is said.
            self.warn_of_guess(&layer.name);
        }
        let Some(qcow2) = self.qcow2_mut(layer) else { return Err(refused(NO_SNAPSHOTS)) };
        let Some((id, size)) = qcow2.find_for_load(name).map(|found| (found.id.clone(), found.size)) else {
            return Err(refused("Failed to load snapshot: No such file or directory"));
        };
        if size != qcow2.size {
            return Err(Refusal::not_simulated("a snapshot of a disk of another size"));
        }
        qcow2.revert(&id);
        Ok(())
    }

    fn list_snapshots(&mut self, layer: &Layer) {
        let known =
            self.image(layer).and_then(|image| image.as_qcow2()).map_or(&[][..], |known| &known.snapshots);
        if known.is_empty() {
            return;
        }
        let release = self.around.release;
        let lines: String = known
            .iter()
            .map(|known| {
                release.listed_snapshot(
                    [&known.id, &known.name, &size::show(known.vm_state_size)],
                    &date(known),
                    known.vm_clock,
                    known.icount,
                )
            })
            .collect();
        self.stdout += &format!("Snapshot list:\n{}{lines}", release.head_of_listed_snapshots());
    }
}

/// `2026-01-01 00:00:00`, as a host in UTC shows it.
fn date(snapshot: &InternalSnapshot) -> String {
    let seconds = snapshot.date.as_secs();
    let (year, month, day) = civil(seconds / 86_400);
    let of_day = seconds % 86_400;
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", of_day / 3600, of_day / 60 % 60, of_day % 60)
}

/// Year, month and day of a day since 1970-01-01, of which a host's clock shows none before.
fn civil(mut days: u64) -> (u64, u64, u64) {
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Host;

    #[test]
    fn a_day_is_found_in_its_year() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(Host::EPOCH.as_secs() / 86_400), (2026, 1, 1));
        assert_eq!(civil(19_782), (2024, 2, 29));
        assert_eq!(civil(20_453), (2025, 12, 31));
    }
}
