//! What a running job still has to do when its timer comes. Jobs hold it and hand it out; they never look inside.
//! Here too is what a block job's work leaves behind in graph and images once it has ended.

use camino::Utf8PathBuf;

use super::{
    Context, Qemu,
    block::{
        backup::{self, Backup},
        commit::{self, Commit},
        mirror::{self, Mirror},
        stream::{self, Stream},
    },
    job::Ended,
};
use crate::host::Backing;

/// What a running job still has to do when its timer comes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Work {
    /// All was done within the command: this is how it ended.
    Done(Result<(), String>),
    /// Write the header of a new image.
    WriteHeader(Header),
    /// Move what overlays hold into what is below them.
    Commit(Commit),
    /// Move what is below an overlay into it.
    Stream(Stream),
    /// Let one disk take another's place.
    Mirror(Mirror),
    /// Write what a disk held.
    Backup(Backup),
}

/// A qcow2 header to be written into a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    /// The file.
    pub(crate) path: Utf8PathBuf,
    /// Virtual size in bytes.
    pub(crate) size: u64,
    /// What it names as its backing file.
    pub(crate) backing: Option<Backing>,
}

impl Qemu {
    /// Lets the block jobs that have ended leave graph and images as they should.
    pub(super) fn finish_block_jobs(&mut self, cx: &mut Context<'_>) {
        for Ended { work, filter, completion, stays, kept } in self.jobs.take_ended() {
            self.graph.keep_nodes(if stays { &kept } else { &[] });
            let filtered = filter.and_then(|filter| match stays {
                true => self.graph.leave_filter_behind(&filter),
                false => self.graph.take_filter(&filter),
            });
            match work {
                Work::Commit(commit) => commit::finish(&mut self.graph, &commit, completion, cx),
                Work::Stream(stream) => stream::finish(&mut self.graph, &stream, completion, cx),
                Work::Mirror(mirror) => mirror::finish(&mut self.graph, &mirror, completion, cx),
                Work::Backup(backup) => backup::finish(&mut self.graph, backup, completion, cx),
                Work::Done(_) | Work::WriteHeader(_) => {}
            }
            // Its device may have gone meanwhile: the filter was its last user then.
            filtered.into_iter().for_each(|node| self.graph.release(&node));
            if !stays {
                self.graph.let_go_of_nodes(&kept);
            }
        }
    }
}
