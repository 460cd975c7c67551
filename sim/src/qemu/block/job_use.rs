//! What block jobs do with the nodes that they work on, and bear others to do.
//!
//! | job | node | does | bears |
//! | --- | --- | --- | --- |
//! | mirror, commit of the active layer | its filter | reads | all but resizing |
//! | | source | | all but resizing |
//! | mirror | target | writes | writes of what is there already |
//! | commit of the active layer | base | writes | all but resizing |
//! | commit | layers above the base | | writes |
//! | commit of layers in between | base | reads, writes | reading, writes of what is there already |
//! | | the first of those layers | | all |
//! | stream | its filter | reads | all but resizing |
//! | | what it fills | | all but resizing |
//! | | layers below | | reading, writes of what is there already |
//!
//! A job does so by its own name, and to what it writes by a backend that has none; in the oldest release the first row,
//! that of what a stream fills, and the disk that a commit is of, are such backends too. The target of a backup is its filter's, and told there.
//!
//! Source: probes of all releases.

use super::{
    Graph,
    permissions::{Permissions, Use, User},
};
use crate::Release;

/// A job uses a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JobUse {
    /// The job's id; empty as long as it has none.
    job: String,
    kind: &'static str,
    node: String,
    /// What the node is to it; none by a backend of its own.
    role: Option<&'static str>,
    does: Permissions,
    bears: Permissions,
    /// Until the job is dismissed, if it has not failed.
    stays: bool,
    /// It has ended, and its filter is gone: what had come to use that uses the node since.
    ended: bool,
}

const REWRITES: Permissions = Permissions::WRITE_UNCHANGED;
const READS: Permissions = Permissions::READ.and(REWRITES);
const WRITES: Permissions = Permissions::WRITE.and(REWRITES);
const ALL_BUT_RESIZING: Permissions = Permissions::ALL.without(Permissions::RESIZE);

impl JobUse {
    fn of(kind: &'static str, node: &str, role: &'static str, bears: Permissions) -> Self {
        let (job, does) = (String::new(), Permissions::NONE);
        Self { job, kind, node: node.to_owned(), role: Some(role), does, bears, stays: false, ended: false }
    }

    fn does(self, does: Permissions) -> Self {
        Self { does, ..self }
    }

    fn by_backend(self) -> Self {
        Self { role: None, ..self }
    }

    /// How others see it.
    pub(super) fn shown(&self) -> Use<'_> {
        let user = match self.role {
            Some(_) => User::Job { kind: self.kind, id: &self.job },
            None => User::Unnamed,
        };
        Use { user, role: self.role.unwrap_or("root"), does: self.does, bears: self.bears }
    }
}

/// A mirror by way of a filter.
pub(super) fn of_mirror(filter: &str, source: &str, target: &str, release: Release) -> Vec<JobUse> {
    let writes = JobUse::of("mirror", target, "root", REWRITES).does(Permissions::WRITE).by_backend();
    above("mirror", filter, source, release).into_iter().chain([writes]).collect()
}

/// A commit of the active layer by way of a filter, which leaves out the layers in between.
pub(super) fn of_active_commit(
    filter: &str,
    [source, base]: [&str; 2],
    between: &[String],
    release: Release,
) -> Vec<JobUse> {
    let writes = JobUse::of("commit", base, "root", ALL_BUT_RESIZING).does(Permissions::WRITE).by_backend();
    let left_out = between.iter().map(|node| JobUse::of("commit", node, "intermediate node", WRITES));
    above("commit", filter, source, release).into_iter().chain([writes]).chain(left_out).collect()
}

/// A commit of layers that are not active.
pub(super) fn of_commit(root: &str, base: &str, layers: &[String], release: Release) -> Vec<JobUse> {
    let looks = |node: &str| JobUse::of("commit", node, "root", Permissions::ALL).by_backend();
    let main = release.jobs_hold_backends().then(|| JobUse { stays: true, ..looks(root) });
    let top = layers.first().map(|top| looks(top));
    let left_out = layers
        .iter()
        .map(|node| JobUse { stays: true, ..JobUse::of("commit", node, "intermediate node", WRITES) });
    let does = Permissions::READ.and(Permissions::WRITE);
    let writes = JobUse::of("commit", base, "root", READS).does(does).by_backend();
    main.into_iter().chain(left_out).chain([writes]).chain(top).collect()
}

/// A stream of layers into the first of them, by way of a filter where a release has one.
pub(super) fn of_stream(filter: Option<&str>, layers: &[String], release: Release) -> Vec<JobUse> {
    let Some((filled, below)) = layers.split_first() else { return Vec::new() };
    let read = filter.map(|filter| {
        JobUse::of("stream", filter, "root", ALL_BUT_RESIZING).does(Permissions::READ).by_backend()
    });
    let filled = JobUse::of("stream", filled, "active node", ALL_BUT_RESIZING);
    let filled = if release.jobs_hold_backends() { filled.does(READS).by_backend() } else { filled };
    let below = below.iter().map(|node| JobUse::of("stream", node, "intermediate node", READS));
    let layers = [filled].into_iter().chain(below).map(|one| JobUse { stays: true, ..one });
    read.into_iter().chain(layers).collect()
}

/// What is above what a job copies.
fn above(kind: &'static str, filter: &str, source: &str, release: Release) -> [JobUse; 2] {
    let main = JobUse::of(kind, filter, "main node", ALL_BUT_RESIZING).does(Permissions::READ);
    let main = if release.jobs_hold_backends() { main.by_backend() } else { main };
    [main, JobUse::of(kind, source, "source", ALL_BUT_RESIZING)]
}

impl Graph {
    /// A job has begun to use nodes.
    pub(super) fn begin_uses(&mut self, id: &str, uses: Vec<JobUse>) {
        self.job_uses.extend(uses.into_iter().map(|one| JobUse { job: id.to_owned(), ..one }));
    }

    /// A job has ended; until it is dismissed it may keep some of what it uses.
    pub(crate) fn end_uses(&mut self, id: &str, keeps: bool, release: Release) {
        self.job_uses.retain(|one| one.job != id || keeps && one.stays);
        let its = self.job_uses.iter_mut().filter(|one| one.job == id);
        its.for_each(|one| one.ended = !release.jobs_hold_backends());
    }

    /// Whether a job has a backend of its own on a node.
    pub(super) fn has_backend_of_job(&self, node: &str) -> bool {
        self.job_uses.iter().any(|one| one.node == node && one.role.is_none())
    }

    /// How jobs use a node, newest first: those that are at work, or those that have ended.
    pub(super) fn uses_of_jobs(&self, node: &str, ended: bool) -> impl Iterator<Item = Use<'_>> {
        let newest_first = self.job_uses.iter().rev();
        newest_first.filter(move |one| one.node == node && one.ended == ended).map(JobUse::shown)
    }
}
