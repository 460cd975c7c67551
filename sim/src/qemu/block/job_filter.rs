//! The filter that QEMU puts on top of a node while a block job works on it.
//!
//! ```text
//! device -> node      while the job works: device -> filter -> node      then: device -> node
//! ```
//! A filter whose name the client has not stated is implicit: `query-block` shows what is below it. That of a backup is
//! always shown. Which driver, by job:
//!
//! | job | driver | child |
//! | --- | --- | --- |
//! | mirror, commit of the active layer | `mirror_top` | `backing` |
//! | commit of layers in between | `commit_top` | `backing` |
//! | stream, but for the oldest release | `copy-on-read` | `file` |
//! | backup | `copy-before-write`, and `backup-top` in the oldest release | `file`, and `backing`; `target` |
//!
//! Not here: what passes through it, which is as if there were no filter. Source: probes of all releases.

use super::{
    Caching, Driver, Graph, Node,
    filter::Filter,
    open::take_name,
    permissions::{Permissions, Use, User},
};
use crate::{
    Release,
    qemu::{Context, QmpError, arguments::Arguments},
};

/// The filter of a block job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFilter {
    /// What it does.
    pub driver: JobDriver,
    /// Queries of devices do not show it.
    pub implicit: bool,
    /// The node that a backup's filter writes to.
    pub target: Option<String>,
    /// Its job has concluded: nothing passes through it any more.
    pub left_behind: bool,
}

/// The drivers of filters that only jobs put in, and the one that clients may open too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobDriver {
    /// `mirror_top`
    MirrorTop,
    /// `mirror_top` of a commit of the active layer.
    MirrorTopOfCommit,
    /// `commit_top`
    CommitTop,
    /// `backup-top`
    BackupTop,
    /// `copy-before-write`
    CopyBeforeWrite,
    /// `copy-on-read`
    CopyOnRead,
}

impl JobDriver {
    /// The driver's name.
    pub fn name(self) -> &'static str {
        match self {
            JobDriver::MirrorTop | JobDriver::MirrorTopOfCommit => "mirror_top",
            JobDriver::CommitTop => "commit_top",
            JobDriver::BackupTop => "backup-top",
            JobDriver::CopyBeforeWrite => "copy-before-write",
            JobDriver::CopyOnRead => "copy-on-read",
        }
    }

    /// Limits of the node below do not reach it.
    pub(crate) fn has_no_limits(self) -> bool {
        matches!(self, JobDriver::MirrorTop | JobDriver::MirrorTopOfCommit | JobDriver::CommitTop)
    }

    /// What the node below is to it.
    pub(crate) fn role(self) -> &'static str {
        match self {
            JobDriver::MirrorTop
            | JobDriver::MirrorTopOfCommit
            | JobDriver::CommitTop
            | JobDriver::BackupTop => "backing",
            JobDriver::CopyBeforeWrite | JobDriver::CopyOnRead => "file",
        }
    }

    /// What it does with the node below, and bears others to do, when its own users do and bear this.
    fn passed_on(
        self,
        (does, bears): (Permissions, Permissions),
        release: Release,
    ) -> (Permissions, Permissions) {
        match self {
            JobDriver::CommitTop => (Permissions::NONE, Permissions::ALL),
            JobDriver::MirrorTop | JobDriver::MirrorTopOfCommit
                if release.mirrors_bear_whatever_is_done() =>
            {
                (does.among(Permissions::WRITE), Permissions::ALL.without(Permissions::RESIZE))
            }
            // What is above the base is not consistent any more, and the base itself is written.
            JobDriver::MirrorTopOfCommit => {
                (does.without(Permissions::READ), bears.without(Permissions::RESIZE).and(Permissions::WRITE))
            }
            JobDriver::BackupTop | JobDriver::CopyBeforeWrite => {
                let writes = !does.among(Permissions::WRITE).is_none();
                let reads = if writes { Permissions::READ } else { Permissions::NONE };
                (does.and(reads), bears.without(Permissions::WRITE.and(Permissions::RESIZE)))
            }
            _ => (does, bears.without(Permissions::RESIZE)),
        }
    }
}

impl JobFilter {
    /// What it does with the node below, and bears others to do, when its own users do and bear this.
    pub(crate) fn passed_on(
        &self,
        used: (Permissions, Permissions),
        release: Release,
    ) -> (Permissions, Permissions) {
        if self.left_behind {
            (Permissions::NONE, Permissions::ALL)
        } else {
            self.driver.passed_on(used, release)
        }
    }

    /// Whether it writes to this node.
    pub(crate) fn writes_to(&self, node: &str) -> bool {
        !self.left_behind && self.target.as_deref() == Some(node)
    }

    /// What the filter of that name does with its target. It looks at the size only once.
    pub(crate) fn use_of_target(name: &str) -> Use<'_> {
        let bears = Permissions::ALL.without(Permissions::RESIZE);
        Use { user: User::Node(name), role: "target", does: Permissions::WRITE, bears }
    }

    /// Its filename is that of the node below; otherwise a description stands for it.
    pub(crate) fn has_name_of_what_is_below(&self) -> bool {
        self.implicit || self.driver != JobDriver::CopyOnRead
    }
}

/// A filter that is to be put in.
pub(crate) struct Planned {
    /// Its node name.
    pub(crate) name: String,
    filter: JobFilter,
    target: Option<String>,
}

impl Planned {
    /// The filter of a job with these arguments.
    ///
    /// # Errors
    /// A name that is malformed or taken.
    pub(crate) fn new(
        graph: &mut Graph,
        driver: JobDriver,
        arguments: Arguments<'_>,
        cx: &Context<'_>,
    ) -> Result<Self, QmpError> {
        let stated = arguments.optional_text("filter-node-name");
        let is_backup = matches!(driver, JobDriver::BackupTop | JobDriver::CopyBeforeWrite);
        let filter =
            JobFilter { driver, implicit: stated.is_none() && !is_backup, target: None, left_behind: false };
        Ok(Self { name: take_name(graph, stated, cx)?, filter, target: None })
    }

    /// The filter, which is to write to this node once it may ([`Graph::let_filter_write`]).
    pub(crate) fn with_target(self, target: &str) -> Self {
        Self { target: Some(target.to_owned()), ..self }
    }
}

impl Graph {
    /// Puts a job's filter on top of a node: what used the node uses the filter, but for what the filter writes to.
    pub(crate) fn put_filter(&mut self, planned: Planned, below: &str) {
        let Planned { name, filter, target } = planned;
        let read_only = filter.driver == JobDriver::CommitTop;
        let is_below_target = |node: &Node| target.iter().any(|target| self.stands_on(target, &node.name));
        let staying = self.parents(below).filter(|node| is_below_target(node)).map(|node| node.name.clone());
        let staying: Vec<_> = staying.collect();
        self.move_users(below, &name, &staying);
        let driver = Driver::Filter { filter: Filter::OfJob(filter), file: below.into() };
        let caching = Caching::default();
        self.insert(Node { name, driver, read_only, owned_by_monitor: false, caching });
    }

    /// Lets a job's filter write to its target from now on.
    pub(crate) fn let_filter_write(&mut self, name: &str, target: &str) {
        let node = self.nodes.iter_mut().find(|node| node.name == name);
        if let Some(Driver::Filter { filter: Filter::OfJob(filter), .. }) = node.map(|node| &mut node.driver)
        {
            filter.target = Some(target.to_owned());
        }
    }

    /// Takes a job's filter out: what used it uses the node below, whose name is returned.
    pub(crate) fn take_filter(&mut self, name: &str) -> Option<String> {
        let at = self.nodes.iter().position(|node| node.name == name)?;
        let below = self.nodes.remove(at).driver.file()?.to_owned();
        self.forget_bitmaps(name);
        self.forget_bitmaps_of_job(name);
        self.move_users(name, &below, &[]);
        Some(below)
    }

    /// Lets what used a job's filter use the node below, whose name is returned; the filter itself stays, unused.
    pub(crate) fn leave_filter_behind(&mut self, name: &str) -> Option<String> {
        let node = self.nodes.iter_mut().find(|node| node.name == name)?;
        let Driver::Filter { filter: Filter::OfJob(filter), file } = &mut node.driver else { return None };
        filter.left_behind = true;
        let below = file.clone();
        self.forget_bitmaps_of_job(name);
        self.move_users(name, &below, &[]);
        Some(below)
    }

    /// Whether there is such a filter.
    pub(crate) fn has_left_behind_filters(&self) -> bool {
        self.nodes.iter().any(|node| node.driver.job_filter().is_some_and(|(filter, _)| filter.left_behind))
    }

    fn move_users(&mut self, from: &str, to: &str, staying: &[String]) {
        for device in self.devices.iter_mut().filter(|device| device.node == from) {
            device.node = to.into();
        }
        self.exports.move_up(from, to);
        self.forget_backed_by(from);
        for node in self.nodes.iter_mut().filter(|node| !staying.contains(&node.name)) {
            node.driver.replace_child(from, to);
        }
    }

    /// The node of that name, or what is below it if it is an implicit filter: what queries of devices show.
    pub(crate) fn shown(&self, name: &str) -> Option<&Node> {
        let node = self.node(name)?;
        match node.driver.job_filter() {
            Some((filter, below)) if filter.implicit => self.shown(below),
            _ => Some(node),
        }
    }

    /// The node of that name, or the first below it that is no job's filter.
    pub(crate) fn below_job_filters(&self, name: &str) -> Option<&Node> {
        let node = self.node(name)?;
        match node.driver.job_filter() {
            Some((_, below)) => self.below_job_filters(below),
            None => Some(node),
        }
    }
}

impl Driver {
    /// The filter of a job, and the node below it.
    pub(crate) fn job_filter(&self) -> Option<(&JobFilter, &str)> {
        match self {
            Driver::Filter { filter: Filter::OfJob(filter), file } => Some((filter, file)),
            _ => None,
        }
    }
}
