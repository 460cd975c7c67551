//! Commands that put a node into the graph or take one out of it, and how often block jobs rest for that.
//!
//! A change of the graph drains nodes: all of them where an overlay is put on top, whatever comes of it, and what is
//! attached or detached besides. Probed with a backup whose guest had not run.

use super::{Context, Qemu, QmpError, arguments::Arguments, block, differences::Drain};
use crate::qobject::QObject;

impl Qemu {
    pub(super) fn change_graph(
        &mut self,
        command: &str,
        arguments: Arguments<'_>,
        cx: &mut Context<'_>,
    ) -> Result<QObject, QmpError> {
        match command {
            "blockdev-add" => self.add_node(arguments, cx),
            "blockdev-del" => {
                let gone = block::add::blockdev_del(&mut self.graph, &self.jobs, arguments, cx)?;
                self.jobs.drained(Drain::NodeGone, cx);
                Ok(gone)
            }
            "blockdev-snapshot" => {
                let below = self.jobs.uses(arguments.text("node"));
                let put = block::snapshot::blockdev_snapshot(&mut self.graph, &self.jobs, arguments, cx);
                self.overlay_put(put, Drain::Overlay, below, cx)
            }
            _ => {
                let below = arguments.optional_text("node-name").is_some_and(|node| self.jobs.uses(node));
                let put = block::snapshot::blockdev_snapshot_sync(&mut self.graph, &self.jobs, arguments, cx);
                self.overlay_put(put, Drain::OverlayMade, below, cx)
            }
        }
    }

    /// `blockdev-add`: a child that was there before is drained while it is attached, and the jobs above it once more.
    fn add_node(&mut self, arguments: Arguments<'_>, cx: &mut Context<'_>) -> Result<QObject, QmpError> {
        let child = arguments.optional_text("file").filter(|child| self.graph.node(child).is_some());
        let of_job = child.is_some_and(|child| self.is_of_job(child));
        let has_children = ["file", "backing"].iter().any(|child| arguments.0.contains_key(*child));
        let added = block::add::blockdev_add(&mut self.graph, arguments, cx);
        match &added {
            Ok(_) if child.is_some() => self.jobs.drained(Drain::Attached, cx),
            Err(_) if !has_children => self.jobs.drained(Drain::NodeGone, cx),
            _ => {}
        }
        if of_job && added.is_ok() {
            self.jobs.drained(Drain::AttachedBelowJob, cx);
        }
        added
    }

    /// Commands on exports: jobs rest while a node gets an export, and while it loses it before that is told.
    pub(super) fn export(
        &mut self,
        command: &str,
        arguments: Arguments<'_>,
        cx: &mut Context<'_>,
    ) -> Result<QObject, QmpError> {
        let exports = self.graph.exports();
        let gone: Vec<_> = match command {
            "nbd-server-stop" => exports.of_nbd().map(str::to_owned).collect(),
            "nbd-server-remove" => {
                exports.node_of(arguments.text("name")).map(str::to_owned).into_iter().collect()
            }
            "block-export-del" => {
                exports.node_of(arguments.text("id")).map(str::to_owned).into_iter().collect()
            }
            _ => Vec::new(),
        };
        for node in gone {
            let of_job = self.is_of_job(&node);
            self.jobs.drained(if of_job { Drain::ExportOfJobGone } else { Drain::ExportGone }, cx);
        }
        let done = block::export::command(&mut self.graph, command, arguments, cx)?;
        if command.ends_with("-add") {
            self.jobs.drained(Drain::Exported, cx);
        }
        Ok(done)
    }

    /// Whether a job uses a node, or its filter stands on it.
    fn is_of_job(&self, node: &str) -> bool {
        self.jobs.uses(node) || self.graph.parents(node).any(|parent| parent.driver.job_filter().is_some())
    }

    /// The end of a command that put an overlay on top, or could not; `of_job` says that a job uses the node below.
    fn overlay_put(
        &mut self,
        put: Result<QObject, QmpError>,
        drain: Drain,
        of_job: bool,
        cx: &mut Context<'_>,
    ) -> Result<QObject, QmpError> {
        self.jobs.drained(if put.is_ok() { drain } else { Drain::Transaction }, cx);
        if of_job {
            self.jobs.drained(Drain::BelowOverlay, cx);
        }
        put
    }
}
