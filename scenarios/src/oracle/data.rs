//! What the guest has written, and whether it is still there.
//!
//! The guest writes numbered blocks to its disks while operations go on; each write is acknowledged at once. What a disk must
//! hold is known here by itself, without any image: it is held against what the chain of images holds, layer by layer.
//!
//! ```text
//! write 7 to vda, 8 to vdb, 9 to vda ...   -->  what each disk holds now          invariant `writes`
//! a snapshot is taken                      -->  what each disk held at one moment  invariant `point-in-time`
//! one goes back to it                      -->  that is what each disk holds again
//! ```
//!
//! It does not know memory: a guest that is put back goes on as if nothing had been, and writes what it likes. What was written to
//! the overlay of a `<transient/>` disk goes with its machine, as is asked for; the next one begins with what is below.

use std::collections::{BTreeMap, BTreeSet};

use freezeframe_sim::host::Blocks;

use super::{Invariant, Record, State, disk_of, is_kept_by_storage};
use crate::play::{Stands, Told};

/// One write: its number is its place in the history, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Write {
    disk: String,
    block: u64,
}

/// What an operation is, as far as data go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed<'a> {
    /// A snapshot of this name is taken.
    Take(&'a str),
    /// The machine goes back to it.
    GoBack(&'a str),
    /// Something past the driver, which is believed.
    Raw,
    /// Anything that lets all data be as they are.
    Nothing,
}

/// What a guest has written.
#[derive(Debug, Clone, Default)]
pub struct Data {
    history: Vec<Write>,
    /// What each disk must hold; of a disk that is not here nobody knows.
    holds: BTreeMap<String, Blocks>,
    /// What each disk held, and how long the history was, when the operation began.
    began: (BTreeMap<String, Blocks>, usize),
    /// The image that each disk was last seen to write to then.
    began_on: BTreeMap<String, String>,
    /// The image that each disk was last seen to write to.
    tops: BTreeMap<String, String>,
    /// What is kept of each snapshot, by disk.
    snapshots: BTreeMap<String, BTreeMap<String, Blocks>>,
    /// The jobs that were begun past the driver, and may write as long as they are there.
    jobs: BTreeSet<String>,
}

/// Whether an image goes with its machine: the overlay of a `<transient/>` disk, by libvirt's name.
fn goes_with_machine(image: &str) -> bool {
    image.strip_suffix(crate::machine::NAME).is_some_and(|image| image.ends_with(".TRANSIENT-"))
}

impl Data {
    /// The guest writes a block of a disk. Returns the number of the write.
    pub fn write(&mut self, disk: &str, block: u64) -> u64 {
        self.history.push(Write { disk: disk.to_owned(), block });
        let number = self.history.len() as u64;
        if let Some(holds) = self.holds.get_mut(disk) {
            holds.insert(block, number);
        }
        number
    }

    /// A disk is written to this image from now on.
    pub fn is_on(&mut self, disk: &str, top: &str) {
        if self.tops.get(disk).map(String::as_str) != Some(top) {
            self.tops.insert(disk.to_owned(), top.to_owned());
        }
    }

    /// An operation begins. Of disks that nothing is known of, what they hold is what they must hold from now on.
    pub fn begins(&mut self, state: &State) {
        self.see(state);
        for (disk, top) in &self.tops {
            if !self.holds.contains_key(disk) {
                self.holds.extend(state.content(top).map(|content| (disk.clone(), content)));
            }
        }
        self.began = (self.holds.clone(), self.history.len());
        self.began_on = self.tops.clone();
    }

    /// Notes to which image each disk is written. A machine that is gone wrote last to what it was last seen to write to.
    pub fn see(&mut self, state: &State) {
        for (device, chain) in &state.chains {
            let disk = disk_of(device);
            self.tops.extend(chain.first().map(|top| (disk.to_owned(), top.clone())));
        }
    }

    /// The images that the disks were last seen to write to.
    pub fn last_tops(&self) -> BTreeSet<String> {
        self.tops.values().cloned().collect()
    }

    /// An operation has ended, and this was told of it. Returns what does not hold.
    pub fn ended(
        &mut self,
        deed: Deed<'_>,
        told: &Told,
        before: &State,
        state: &State,
    ) -> Vec<(Invariant, String)> {
        self.let_go(deed, told, state);
        self.see(state);
        if before.guest.is_none() && state.guest.is_none() && told.stands == Stands::AsBefore {
            // A guest that was let run for it has never been.
            (self.holds, self.tops) = (self.began.0.clone(), self.began_on.clone());
        }
        let is_done = matches!(told.stands, Stands::Done | Stands::Unfinished);
        let mut found = Vec::new();
        match deed {
            Deed::GoBack(name) => {
                if !matches!(told.stands, Stands::Untouched | Stands::AsBefore | Stands::Gone) {
                    found.extend(self.go_back(name, is_done, state));
                }
            }
            Deed::Take(name) if is_done => {
                let taken = self.taken(name, before, state);
                // While the machine is off nobody writes.
                let moment = self.wrong_moment(name, &taken).filter(|_| before.guest.is_some());
                found.extend(moment);
                // The record of that name may be another snapshot's, beside which this one is not recorded.
                let is_another =
                    before.records.contains_key(name) && before.records.get(name) == state.records.get(name);
                if !is_another {
                    self.snapshots.insert(name.to_owned(), taken);
                }
            }
            Deed::Raw => {
                self.holds.clear();
                self.believe(state);
                self.jobs.extend(state.jobs.difference(&before.jobs).cloned());
            }
            Deed::Nothing if !self.jobs.is_disjoint(&before.jobs) => self.believe(state),
            Deed::Take(_) | Deed::Nothing => {}
        }
        found.extend(self.lost(state));
        found.extend(self.changed_snapshots(state));
        // One that is recorded no more is gone: the next of its name is another. Where nothing is recorded, nobody tells.
        let was_recorded = |name: &String| before.records.contains_key(name) || !state.records.is_empty();
        self.snapshots.retain(|name, _| state.records.contains_key(name) || !was_recorded(name));
        found
    }

    /// Of what a machine that has ended wrote to overlays that go with it nothing must be held.
    fn let_go(&mut self, deed: Deed<'_>, told: &Told, state: &State) {
        let goes_on = matches!(told.stands, Stands::Untouched | Stands::AsBefore);
        let has_ended = state.guest.is_none() || (matches!(deed, Deed::GoBack(_)) && !goes_on);
        let tops = &self.tops;
        self.holds.retain(|disk, _| !has_ended || tops.get(disk).is_none_or(|top| !goes_with_machine(top)));
    }

    /// What was done past the driver may have changed what a snapshot holds: that is what it must hold from now on.
    fn believe(&mut self, state: &State) {
        for (name, record) in &state.records {
            let Some(kept) = self.snapshots.get_mut(name) else { continue };
            for (disk, image) in &record.images {
                let content = held(record, name, image, state);
                if let (Some(kept), Some(content)) = (kept.get_mut(disk), content) {
                    *kept = content;
                }
            }
        }
    }

    /// The disks of a snapshot hold what they held then, and what the guest has written since it goes on again. Of a machine that
    /// does not run nobody knows.
    fn go_back(&mut self, name: &str, is_sure: bool, state: &State) -> Option<(Invariant, String)> {
        // What these hold by now their storage alone knows.
        for disk in state.records.get(name).into_iter().flat_map(|record| &record.elsewhere) {
            self.holds.remove(disk);
        }
        let kept = self.snapshots.get(name).filter(|_| is_sure && state.guest.is_some());
        let Some(kept) = kept.cloned() else {
            self.holds.clear();
            return None;
        };
        let took_part = state.records.get(name).into_iter().flat_map(|record| record.images.keys());
        took_part.filter(|disk| !kept.contains_key(*disk)).for_each(|disk| drop(self.holds.remove(disk)));
        let content = |disk: &String| state.content(self.tops.get(disk)?);
        for since in (self.began.1..=self.history.len()).rev() {
            let mut holds = kept.clone();
            for (number, write) in self.history.iter().enumerate().skip(since) {
                holds.entry(write.disk.clone()).and_modify(|holds| {
                    holds.insert(write.block, number as u64 + 1);
                });
            }
            if holds.iter().all(|(disk, must)| content(disk).as_ref() == Some(must)) {
                self.holds.extend(holds);
                return None;
            }
        }
        let found = kept.keys().map(|disk| format!("{disk} {:?}", content(disk))).collect::<Vec<_>>();
        self.holds.clear();
        let what =
            format!("after going back to {name} the disks hold {}, and held {kept:?} then", found.join(", "));
        Some((Invariant::Writes, what))
    }

    /// What a snapshot that was just taken holds of each disk that took part: what was below the image that is new, or what its
    /// image holds inside.
    fn taken(&self, name: &str, before: &State, state: &State) -> BTreeMap<String, Blocks> {
        let mut taken = BTreeMap::new();
        for (device, chain) in &before.chains {
            let disk = disk_of(device);
            let Some(top) = chain.first() else { continue };
            let had =
                |state: &State| state.data.get(top).is_some_and(|layer| layer.inside.contains_key(name));
            let content = if had(state) && !had(before) {
                state.content_inside(top, name)
            } else if state.chains.get(device).and_then(|chain| chain.first()).is_some_and(|now| now != top) {
                state.content(top)
            } else {
                None
            };
            taken.extend(content.map(|content| (disk.to_owned(), content)));
        }
        if before.guest.is_none()
            && let Some(record) = state.records.get(name)
        {
            let images = record.images.iter();
            let held =
                images.filter_map(|(disk, image)| Some((disk.clone(), held(record, name, image, state)?)));
            taken.extend(held);
        }
        let kept = state.records.get(name).into_iter().flat_map(|record| &record.images);
        for (disk, file) in kept.filter(|(_, file)| is_kept_by_storage(file, name)) {
            taken.extend(state.content(file).map(|content| (disk.clone(), content)));
        }
        taken
    }

    /// All disks of a snapshot must be of one moment while the operation went on.
    fn wrong_moment(&self, name: &str, taken: &BTreeMap<String, Blocks>) -> Option<(Invariant, String)> {
        let (held, began) = &self.began;
        let mut at: BTreeMap<&String, Blocks> =
            taken.keys().filter_map(|disk| Some((disk, held.get(disk)?.clone()))).collect();
        if at.len() < taken.len() {
            return None;
        }
        for number in *began..=self.history.len() {
            if at.iter().all(|(disk, content)| taken.get(*disk) == Some(content)) {
                return None;
            }
            let Some(write) = self.history.get(number) else { break };
            if let Some(content) = at.get_mut(&write.disk) {
                content.insert(write.block, number as u64 + 1);
            }
        }
        let held = taken.iter().map(|(disk, content)| format!("{disk} {content:?}")).collect::<Vec<_>>();
        let what = format!("the disks of snapshot {name} are of no one moment: {}", held.join(", "));
        Some((Invariant::PointInTime, what))
    }

    fn lost(&self, state: &State) -> Vec<(Invariant, String)> {
        let mut found = Vec::new();
        for (disk, must) in &self.holds {
            let Some(top) = self.tops.get(disk) else { continue };
            let Some(content) = state.content(top) else {
                found.push((Invariant::Writes, format!("{disk} was written to {top}, which is not there")));
                continue;
            };
            if let Some((block, must, is)) = first_difference(must, &content) {
                let what = format!("block {block} of {disk} was write {must}, and is {is}, on {top}");
                found.push((Invariant::Writes, what));
            }
        }
        found
    }

    /// What was kept of a snapshot stays as it is as long as it is recorded.
    fn changed_snapshots(&self, state: &State) -> Vec<(Invariant, String)> {
        let mut found = Vec::new();
        for (name, record) in state.records.iter().filter(|(_, record)| !record.being_deleted) {
            let Some(kept) = self.snapshots.get(name) else { continue };
            for (disk, image) in &record.images {
                let Some(must) = kept.get(disk) else { continue };
                // One that is not there is told of elsewhere.
                let Some(content) = held(record, name, image, state) else { continue };
                if let Some((block, must, is)) = first_difference(must, &content) {
                    let what = format!(
                        "block {block} of {disk} in snapshot {name} was write {must}, and is {is}, on {image}"
                    );
                    found.push((Invariant::Writes, what));
                }
            }
        }
        found
    }
}

/// What an image holds of a recorded snapshot, inside or as a whole.
fn held(record: &Record, name: &str, image: &str, state: &State) -> Option<Blocks> {
    match record.inside.contains(image) {
        true => state.content_inside(image, name),
        false => state.content(image),
    }
}

/// The first block that differs, what it must carry and what it does; 0 is none.
fn first_difference(must: &Blocks, is: &Blocks) -> Option<(u64, u64, u64)> {
    let blocks = must.keys().chain(is.keys());
    let differ = |block: &u64| must.get(block) != is.get(block);
    let block = *blocks.filter(|block| differ(block)).min()?;
    let of = |blocks: &Blocks| blocks.get(&block).copied().unwrap_or(0);
    Some((block, of(must), of(is)))
}
