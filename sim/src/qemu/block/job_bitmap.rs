//! Bitmaps without a name, in which a block job keeps what it has still to do. Clients see them beside their own.
//!
//! | job | on its source | on its filter |
//! | --- | --- | --- |
//! | mirror, commit of the active layer, up to 7.2 | what is left to copy | |
//! | the same from 10.0 on | | what is left to copy |
//! | backup in 5.2 | what is left to copy | |
//! | backup in 7.2 | what is left to copy | what was overwritten, what may be read |
//! | backup from 10.0 on | | what is left to copy, what was overwritten, what may be read |
//! | backup with a bitmap of the client | what is written meanwhile | |
//!
//! They come with the filter and go with it. That a write of the guest gives a mirror more to copy, and a backup less,
//! is not simulated.
//!
//! Source: probes of all releases.

use std::collections::BTreeSet;

use super::{
    Graph,
    bitmap::{Bitmap, GRANULARITY},
};
use crate::{
    Release,
    host::{Blocks, Host},
};

/// Whose a bitmap is. Only a client's has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A client has made it.
    Client,
    /// It stands in for the client's bitmap of this name while a backup works with that one.
    Backup {
        /// The client's bitmap.
        of: String,
    },
    /// A job keeps it.
    Job(Kept),
}

/// A job's own bitmap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The job's filter, by node name.
    pub(super) filter: String,
    pub(super) counts: Counts,
    /// It is told what is written.
    pub(super) records: bool,
}

/// What a job's own bitmap counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counts {
    /// What the job has still to copy.
    Left,
    /// What was written since it was made.
    Written,
    /// The whole disk.
    All,
}

/// A mirror, or a commit of the active layer, as far as its bitmap shows it.
pub(crate) struct Mirrored<'a> {
    /// Its filter, by node name.
    pub(crate) filter: &'a str,
    /// What it reads.
    pub(crate) source: &'a str,
    /// Bytes that may be copied as a whole.
    pub(crate) granularity: u64,
    /// What the guest writes goes to the target at once.
    pub(crate) write_blocking: bool,
}

impl<'a> Mirrored<'a> {
    /// Of which nothing was stated.
    pub(crate) fn usual(filter: &'a str, source: &'a str) -> Self {
        Self { filter, source, granularity: GRANULARITY, write_blocking: false }
    }
}

impl Graph {
    /// A mirror begins: what it has to copy is kept.
    pub(crate) fn keep_for_mirror(&mut self, mirrored: &Mirrored<'_>, release: Release) {
        let Mirrored { filter, source, granularity, write_blocking } = *mirrored;
        let in_filter = release.jobs_keep_bitmaps_in_their_filters();
        let node = if in_filter { filter } else { source };
        let records = !in_filter && !write_blocking;
        let kept = Kept { filter: filter.into(), counts: Counts::Left, records };
        self.bitmaps.push(Bitmap { granularity, ..Bitmap::new(node, Owner::Job(kept)) });
    }

    /// A backup begins: what it has to copy is kept, and what is overwritten.
    pub(crate) fn keep_for_backup(&mut self, filter: &str, source: &str, host: &Host, release: Release) {
        let in_filter = release.jobs_keep_bitmaps_in_their_filters();
        let kept = |node: &str, counts| {
            Bitmap::new(node, Owner::Job(Kept { filter: filter.into(), counts, records: false }))
        };
        self.bitmaps.push(kept(if in_filter { filter } else { source }, Counts::Left));
        if release.filters_of_backups_keep_bitmaps() {
            let held = self.held_by(source, host);
            self.bitmaps.push(Bitmap { recording_since: Some(held), ..kept(filter, Counts::Written) });
            self.bitmaps.push(kept(filter, Counts::All));
        }
    }

    /// A job is over: so are its bitmaps.
    pub(super) fn forget_bitmaps_of_job(&mut self, filter: &str) {
        let is_its = |bitmap: &Bitmap| matches!(&bitmap.owner, Owner::Job(kept) if kept.filter == filter);
        self.bitmaps.retain(|bitmap| !is_its(bitmap));
    }

    /// A backup begins to work with a client's bitmap: that one stays as it is, and another stands in for it.
    pub(crate) fn begin_with_bitmap(&mut self, node: &str, name: &str, held: &Blocks) {
        let Some(bitmap) = self.bitmaps.iter_mut().find(|bitmap| bitmap.is(node, name)) else { return };
        bitmap.busy = true;
        bitmap.dirty = bitmap.granules(held);
        let stand_in = Bitmap {
            granularity: bitmap.granularity,
            recording_since: bitmap.recording_since.as_ref().map(|_| held.clone()),
            ..Bitmap::new(node, Owner::Backup { of: name.into() })
        };
        self.bitmaps.push(stand_in);
    }

    /// A backup no longer works with a client's bitmap. If that is to be `clean`, the one that stood in for it takes
    /// its name and its place, and knows only of what was written meanwhile.
    pub(crate) fn end_with_bitmap(&mut self, node: &str, name: &str, clean: bool) {
        let Some(at) = self.bitmaps.iter().position(|bitmap| bitmap.is(node, name)) else { return };
        let stands_in = |bitmap: &Bitmap| {
            bitmap.node == node && matches!(&bitmap.owner, Owner::Backup { of } if of == name)
        };
        let Some(stand_in) = self.bitmaps.iter().position(stands_in) else { return };
        self.bitmaps[at].busy = false;
        if clean {
            let recording_since = self.bitmaps[stand_in].recording_since.take();
            let known = self.bitmaps[at].clone();
            self.bitmaps[stand_in] = Bitmap { dirty: BTreeSet::new(), recording_since, ..known };
            self.bitmaps.remove(at);
        } else {
            self.bitmaps.remove(stand_in);
        }
    }
}

impl Bitmap {
    /// A bitmap without a name, in which nothing is dirty.
    fn new(node: &str, owner: Owner) -> Self {
        Self {
            node: node.into(),
            name: String::new(),
            owner,
            granularity: GRANULARITY,
            persistent: false,
            read_only: false,
            dirty: BTreeSet::new(),
            recording_since: None,
            busy: false,
            to_remove: false,
        }
    }
}
