//! What is left when a job has ended, or the process.
//!
//! ```text
//! a job ends:       its work is done as a whole, or left where it stands
//! QEMU is killed:   block jobs leave their work where it stands; a snapshot that is being saved is not in the images
//! ```
//! Source: images of real QEMUs after SIGKILL, as `qemu-img` shows them.

use std::time::Duration;

use super::{
    Context, Qemu,
    block::{backup, commit, mirror, stream},
    job::Ended,
    work::Work,
};

/// A snapshot of the machine that is being saved: its state is written first, the images' lists of snapshots last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Saving {
    /// When it is done.
    pub(crate) until: Duration,
    /// The nodes, in this order, and the snapshot's id in each.
    pub(crate) snapshots: Vec<(String, String)>,
}

impl Qemu {
    /// Lets the block jobs that have ended leave graph and images as they should.
    pub(super) fn finish_block_jobs(&mut self, cx: &mut Context<'_>) {
        for Ended { id, work, filter, completion, copied, filter_stays, nodes_stay, kept } in
            self.jobs.take_ended()
        {
            self.graph.keep_nodes(if nodes_stay { &kept } else { &[] });
            let filtered = filter.and_then(|filter| match filter_stays {
                true => self.graph.leave_filter_behind(&filter),
                false => self.graph.take_filter(&filter),
            });
            let fails = completion.is_none() && matches!(work, Work::Commit(_));
            self.graph.end_uses(&id, nodes_stay && !fails, cx.release());
            let graph = &mut self.graph;
            match work {
                Work::Commit(commit) => commit::finish(graph, &commit, completion, copied, cx),
                Work::Stream(stream) => stream::finish(graph, &stream, completion, copied, cx),
                Work::Mirror(mirror) => mirror::finish(graph, &mirror, completion, copied, cx),
                Work::Backup(backup) => backup::finish(graph, backup, completion, copied, cx),
                Work::Done(_) | Work::WriteHeader(_) => {}
            }
            // Its device may have gone meanwhile: the filter was its last user then.
            filtered.into_iter().for_each(|node| self.graph.release(&node));
            if !nodes_stay {
                self.graph.let_go_of_nodes(&kept);
            }
        }
    }

    /// Brings what was written to a node to its image's file, so that it outlives the process.
    pub(crate) fn flush(&mut self, node: &str) {
        self.graph.flush(node);
        self.jobs.flushed(Some(node));
    }

    /// The same of all nodes.
    pub(crate) fn flush_all(&mut self) {
        self.graph.flush_all();
        self.jobs.flushed(None);
    }

    /// The host has ended the process without a word: what was copied by then is in the images.
    pub(crate) fn killed(&mut self, cx: &mut Context<'_>) {
        for (work, copied) in self.jobs.take_unfinished(cx) {
            match work {
                Work::Commit(commit) => commit::leave(&self.graph, &commit, copied, cx),
                Work::Stream(stream) => stream::leave(&self.graph, &stream, copied, cx),
                Work::Mirror(mirror) => mirror::leave(&self.graph, &mirror, copied, cx),
                Work::Backup(backup) => backup::leave(&self.graph, &backup, copied, cx),
                Work::Done(_) | Work::WriteHeader(_) => {}
            }
        }
        self.graph.lose_unflushed(cx.host());
        let Some(saving) = self.saving.take().filter(|saving| cx.now() < saving.until) else { return };
        // Nearly always it is the state that is being written; else some of the lists were.
        let listed = cx.choose("snapshots-listed-before-the-kill", saving.snapshots.len());
        for (node, id) in saving.snapshots.into_iter().skip(listed) {
            if let Some(image) = self.graph.qcow2_mut(&node, cx.host()) {
                image.delete_snapshot(&id);
            }
        }
    }
}
