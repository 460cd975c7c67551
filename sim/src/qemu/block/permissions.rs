//! Who may do what with a node: QEMU's permissions, and the refusal where two users do not get along.
//!
//! Each user of a node does some of four things with it, and bears others to do some of them. Devices, exports and jobs
//! say for themselves; a node passes on to what it stands on what its own users do and bear:
//!
//! | child | does | bears |
//! | --- | --- | --- |
//! | `file` of a format | reads, and what its users do; writes and resizes, if it may be written at all | no write, no resize |
//! | `file` of a filter or of raw | what its users do | what its users bear |
//! | `backing` | reads, if its users do | writes only if its users bear writes |
//!
//! A change is tried on the graph, looked at from here downwards, and taken back if it is refused. Of two users that do
//! not get along QEMU names the one that does something and the one that does not bear it; which of several pairs, goes
//! by age: the newest user first. Source: QEMU's `docs/devel/block-...`, probes of the four releases.
//!
//! What jobs do to the nodes that they work on is in `job_use`; they block most commands on those altogether.

use std::fmt;

use camino::{Utf8Path, Utf8PathBuf};

use super::{Device, Driver, Graph, Node, export::Export, job_filter::JobFilter};
use crate::{
    Release,
    host::Host,
    qemu::{Context, QmpError, differences::Conflict},
};

/// A set of things to do with a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Permissions(u8);

impl Permissions {
    /// Nothing.
    pub(crate) const NONE: Permissions = Permissions(0);
    /// To read, and find what was written.
    pub(crate) const READ: Permissions = Permissions(1);
    /// To write.
    pub(crate) const WRITE: Permissions = Permissions(2);
    /// To write what is there already.
    pub(crate) const WRITE_UNCHANGED: Permissions = Permissions(4);
    /// To make the node longer or shorter.
    pub(crate) const RESIZE: Permissions = Permissions(8);
    /// Everything.
    pub(crate) const ALL: Permissions = Permissions(15);

    const NAMES: [(Permissions, &str); 4] = [
        (Permissions::READ, "consistent read"),
        (Permissions::WRITE, "write"),
        (Permissions::WRITE_UNCHANGED, "write unchanged"),
        (Permissions::RESIZE, "resize"),
    ];

    /// These and those.
    pub(crate) const fn and(self, more: Permissions) -> Permissions {
        Permissions(self.0 | more.0)
    }

    /// Those that are among the others too.
    pub(crate) const fn among(self, others: Permissions) -> Permissions {
        Permissions(self.0 & others.0)
    }

    /// These, but not those.
    pub(crate) const fn without(self, less: Permissions) -> Permissions {
        Permissions(self.0 & !less.0)
    }

    /// Whether there is none.
    pub(crate) const fn is_none(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = Self::NAMES.iter().filter(|(one, _)| !self.among(*one).is_none());
        if let Some((_, first)) = names.next() {
            f.write_str(first)?;
        }
        names.try_for_each(|(_, name)| write!(f, ", {name}"))
    }
}

/// Who uses a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum User<'a> {
    /// The node of this name stands on it.
    Node(&'a str),
    /// A device.
    Device(&'a Device),
    /// A job, by its name.
    Job {
        /// QAPI's `JobType`.
        kind: &'static str,
        /// Its id.
        id: &'a str,
    },
    /// A job, an export or a command.
    Unnamed,
}

/// Who uses a node, and what the node is to it.
type Link<'a> = (User<'a>, &'static str);

/// One user of a node, and what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Use<'a> {
    /// Who.
    pub(crate) user: User<'a>,
    /// What the node is to its user: `root`, `file`, `backing`, `target`.
    pub(crate) role: &'static str,
    /// What it does.
    pub(crate) does: Permissions,
    /// What it lets others do.
    pub(crate) bears: Permissions,
}

impl Use<'_> {
    /// A command, a job or an export that does and bears this.
    pub(crate) fn root(does: Permissions, bears: Permissions) -> Use<'static> {
        Use { user: User::Unnamed, role: "root", does, bears }
    }
}

impl Graph {
    /// Checks whether a new user of a node would get along with the others.
    ///
    /// # Errors
    /// The conflict, in the release's words.
    pub(crate) fn check_use(&self, node: &str, new: Use<'_>, cx: &mut Context<'_>) -> Result<(), QmpError> {
        Check {
            graph: self,
            new: Some((node, new)),
            new_files: Vec::new(),
            before: None,
            release: cx.release(),
            host: cx.host(),
        }
        .node(node, (new.user, new.role))
    }

    /// Checks whether a node gets along with the other users of what it stands on.
    ///
    /// # Errors
    /// The conflict, in the release's words.
    pub(crate) fn check_children(&self, name: &str, cx: &mut Context<'_>) -> Result<(), QmpError> {
        let check = Check {
            graph: self,
            new: None,
            new_files: Vec::new(),
            before: None,
            release: cx.release(),
            host: cx.host(),
        };
        self.node(name).map_or(Ok(()), |node| check.children(node))
    }

    /// Checks whether nodes that were reopened together get along with all others.
    ///
    /// # Errors
    /// The conflict, or that one of them is written and no longer may be, in the release's words.
    pub(crate) fn check_reopened(
        &self,
        names: &[&str],
        before: &Graph,
        cx: &mut Context<'_>,
    ) -> Result<(), QmpError> {
        let file = |graph: &Graph, name: &str| Some(graph.node(name)?.driver.file()?.to_owned());
        let new_files = names.iter().copied().filter(|name| file(self, name) != file(before, name)).collect();
        let check = Check {
            graph: self,
            new: None,
            new_files,
            before: Some(before),
            release: cx.release(),
            host: cx.host(),
        };
        check.reopened(names)
    }

    /// Why another program cannot open a file that is locked here, for what it does and bears others to do.
    pub(crate) fn lock_on(
        &self,
        path: &Utf8Path,
        does_and_bears: (Permissions, Permissions),
        host: &Host,
        release: Release,
    ) -> Option<String> {
        Check { graph: self, new: None, new_files: Vec::new(), before: None, release, host }
            .locked_by_another("", path, does_and_bears)
    }

    /// Whether a user of a node writes to it.
    pub(crate) fn is_written(&self, name: &str, cx: &mut Context<'_>) -> bool {
        self.is_used_for(Permissions::WRITE, name, cx)
    }

    /// Whether a user of a node reads what was written to it.
    pub(crate) fn is_read(&self, name: &str, cx: &mut Context<'_>) -> bool {
        self.is_used_for(Permissions::READ, name, cx)
    }

    fn is_used_for(&self, what: Permissions, name: &str, cx: &mut Context<'_>) -> bool {
        let check = Check {
            graph: self,
            new: None,
            new_files: Vec::new(),
            before: None,
            release: cx.release(),
            host: cx.host(),
        };
        let (does, _) = check.together(name);
        !does.among(what).is_none()
    }
}

impl Device {
    /// What it does with the node below it.
    fn permissions(&self) -> Use<'_> {
        let writes = if self.read_only { Permissions::NONE } else { Permissions::WRITE };
        Use {
            user: User::Device(self),
            role: "root",
            does: Permissions::READ.and(writes),
            bears: Permissions::ALL.without(Permissions::WRITE),
        }
    }
}

/// A look at the graph with one user more than it has.
struct Check<'a> {
    graph: &'a Graph,
    new: Option<(&'a str, Use<'a>)>,
    /// Nodes whose file is newer than their backing node.
    new_files: Vec<&'a str>,
    /// The graph before nodes were reopened, if they were.
    before: Option<&'a Graph>,
    release: Release,
    host: &'a Host,
}

impl<'a> Check<'a> {
    /// Checks a node, one of whose users has changed, and all below it.
    fn node(&self, name: &'a str, changed: Link<'a>) -> Result<(), QmpError> {
        let Some(node) = self.graph.node(name) else { return Ok(()) };
        self.alone(node, changed)?;
        self.children(node)
    }

    /// Checks a node, one of whose users has changed.
    fn alone(&self, node: &'a Node, changed: Link<'a>) -> Result<(), QmpError> {
        let name = &node.name;
        if let Some(asking) = self.uses(name).find(|one| (one.user, one.role) == changed) {
            self.users_get_along(name, asking)?;
        }
        let (does, bears) = self.together(name);
        let writes = Permissions::WRITE.and(Permissions::WRITE_UNCHANGED);
        if node.read_only && !does.among(writes).is_none() {
            return Err(self.read_only(name));
        }
        if let Some(path) = self.path(node)
            && let Some(lock) = self.locked_by_another(name, &path, (does, bears))
        {
            return Err(QmpError::generic(lock));
        }
        Ok(())
    }

    /// A node that is only read, from before or from now on, is written.
    fn read_only(&self, name: &str) -> QmpError {
        let was_written =
            self.before.and_then(|before| before.node(name)).is_some_and(|node| !node.read_only);
        QmpError::generic(match was_written {
            true => format!("Read-only block node '{name}' cannot support read-write users"),
            false => "Block node is read-only".into(),
        })
    }

    /// Whether a user of a node gets along with all others.
    fn users_get_along(&self, node: &'a str, asking: Use<'a>) -> Result<(), QmpError> {
        let others = || self.uses(node).filter(|other| *other != asking);
        let check = |doer: Use<'a>, other: Use<'a>, doer_was_first| {
            if doer.does.without(other.bears).is_none() {
                return Ok(());
            }
            Err(self.release.conflict(Conflict { node, doer, other, doer_was_first }))
        };
        if self.release.users_are_checked_one_by_one() {
            return others().try_for_each(|other| {
                check(asking, other, false)?;
                check(other, asking, true)
            });
        }
        others().try_for_each(|other| check(other, asking, true))?;
        others().try_for_each(|other| check(asking, other, false))
    }

    /// Checks all that a node stands on: each child and what is below it, or each node once all above it are done.
    fn children(&self, node: &'a Node) -> Result<(), QmpError> {
        if self.release.each_child_is_checked_with_all_below_it() {
            return links(node).rev().try_for_each(|(child, link)| self.node(child, link));
        }
        let mut visited = Vec::new();
        self.visit(node, &mut visited);
        (0..visited.len()).rev().try_for_each(|at| self.check_from_above(&visited, at))
    }

    /// Checks nodes that were reopened together, and all that they stand on, each once all above it are done.
    fn reopened(&self, names: &[&str]) -> Result<(), QmpError> {
        let mut roots: Vec<_> = names.iter().filter_map(|name| self.graph.node(name)).collect();
        if self.release.each_child_is_checked_with_all_below_it() {
            return roots.into_iter().try_for_each(|root| {
                self.may_still_be_written(root)?;
                self.children(root)
            });
        }
        if !self.release.last_node_to_reopen_is_checked_first() {
            roots.reverse();
        }
        let mut visited = Vec::new();
        roots.iter().for_each(|root| self.visit(root, &mut visited));
        (0..visited.len()).rev().try_for_each(|at| {
            self.check_from_above(&visited, at)?;
            let is_reopened = names.contains(&&*visited[at].name);
            if is_reopened { self.may_still_be_written(visited[at]) } else { Ok(()) }
        })
    }

    /// A node that was reopened for reading only may not be written.
    fn may_still_be_written(&self, node: &'a Node) -> Result<(), QmpError> {
        let was_read_only =
            self.before.and_then(|before| before.node(&node.name)).is_some_and(|node| node.read_only);
        let (does, _) = self.together(&node.name);
        if node.read_only && !was_read_only && !does.among(Permissions::WRITE).is_none() {
            return Err(self.read_only(&node.name));
        }
        Ok(())
    }

    /// Checks one of the nodes that were visited against what those above it do, which come behind it.
    fn check_from_above(&self, visited: &[&'a Node], at: usize) -> Result<(), QmpError> {
        let node = visited[at];
        let users = visited[at + 1..].iter().rev();
        let mut changed = users.flat_map(|above| links(above)).filter(|(child, _)| *child == node.name);
        changed.try_for_each(|(_, link)| self.alone(node, link))
    }

    /// Puts a node behind all that it stands on, its newest child first.
    fn visit(&self, node: &'a Node, visited: &mut Vec<&'a Node>) {
        if visited.iter().any(|known| known.name == node.name) {
            return;
        }
        let mut children: Vec<_> = links(node).map(|(child, _)| child).collect();
        if !self.new_files.contains(&&*node.name) {
            children.reverse();
        }
        for child in children.into_iter().filter_map(|child| self.graph.node(child)) {
            self.visit(child, visited);
        }
        visited.push(node);
    }

    /// All users of a node, newest first.
    fn uses(&self, name: &'a str) -> impl Iterator<Item = Use<'a>> {
        let new = self.new.filter(|(node, _)| *node == name).map(|(_, new)| new);
        let nodes = self.graph.youngest_link_first(name).flat_map(move |node| {
            let children =
                [(node.driver.file_role(), node.driver.file()), ("backing", node.driver.backing())];
            children
                .into_iter()
                .filter(move |(_, child)| *child == Some(name))
                .map(move |(role, _)| (node, role))
        });
        let writer = |node: &'a Node| {
            let (filter, _) = node.driver.job_filter()?;
            filter.writes_to(name).then(|| JobFilter::use_of_target(&node.name))
        };
        let writers = self.graph.newest_first().filter_map(writer);
        let nodes = nodes.map(|(node, role)| {
            let (does, bears) = passed_on(node, role, self.together(&node.name), self.release);
            Use { user: User::Node(&node.name), role, does, bears }
        });
        let devices = self.graph.devices().iter().rev().filter(move |device| device.node == name);
        let exports = self.graph.exports().on(name).map(Export::permissions);
        let jobs = |ended| self.graph.uses_of_jobs(name, ended);
        new.into_iter()
            .chain(exports)
            .chain(jobs(false))
            .chain(writers)
            .chain(nodes)
            .chain(devices.map(Device::permissions))
            .chain(jobs(true))
    }

    /// What all users of a node do, and what all of them bear.
    fn together(&self, name: &'a str) -> (Permissions, Permissions) {
        let start = (Permissions::NONE, Permissions::ALL);
        self.uses(name).fold(start, |(does, bears), one| (does.and(one.does), bears.among(one.bears)))
    }

    /// A file is locked against other openings of it for what its users do and do not bear: why it cannot be opened beside
    /// `name` for this.
    fn locked_by_another(
        &self,
        name: &str,
        path: &Utf8Path,
        (does, bears): (Permissions, Permissions),
    ) -> Option<String> {
        let is_same = |other: &&Node| {
            other.name != name
                && self.graph.is_active(&other.name)
                && self.path(other).is_some_and(|other| other == path)
        };
        for other in self.graph.newest_first().filter(is_same) {
            let (they_do, they_bear) = self.together(&other.name);
            if let Some(lock) = refused_beside((they_do, they_bear), (does, bears)) {
                return Some(lock);
            }
        }
        locked_by_reader(self.host, path, (does, bears))
    }

    fn path(&self, node: &Node) -> Option<Utf8PathBuf> {
        match &node.driver {
            Driver::File { filename, locking: true, .. } => Some(self.host.resolve(Utf8Path::new(filename))),
            _ => None,
        }
    }
}

/// Why a file that another program reads cannot be opened for this, if one does and it cannot.
pub(crate) fn locked_by_reader(
    host: &Host,
    path: &Utf8Path,
    wanted: (Permissions, Permissions),
) -> Option<String> {
    let changes = Permissions::WRITE.and(Permissions::RESIZE);
    let reads = (Permissions::READ, Permissions::ALL.without(changes));
    host.is_read_by_another(path).then(|| refused_beside(reads, wanted))?
}

/// Why a file that somebody has open for this cannot be opened by another for that.
fn refused_beside(
    (they_do, they_bear): (Permissions, Permissions),
    (does, bears): (Permissions, Permissions),
) -> Option<String> {
    for (one, what) in Permissions::NAMES {
        if !does.among(one).without(they_bear).is_none() {
            return Some(format!("Failed to get \"{what}\" lock"));
        }
    }
    for (one, what) in Permissions::NAMES {
        if !they_do.among(one).without(bears).is_none() {
            return Some(format!("Failed to get shared \"{what}\" lock"));
        }
    }
    None
}

/// A node's children, and what it is to each.
fn links(node: &Node) -> impl DoubleEndedIterator<Item = (&str, Link<'_>)> {
    let children = [(node.driver.file_role(), node.driver.file()), ("backing", node.driver.backing())];
    children.into_iter().filter_map(|(role, child)| Some((child?, (User::Node(&node.name), role))))
}

/// What a node does with a child, and bears others to do with it, when its own users do and bear this.
fn passed_on(
    node: &Node,
    role: &'static str,
    (does, bears): (Permissions, Permissions),
    release: Release,
) -> (Permissions, Permissions) {
    let changes = Permissions::WRITE.and(Permissions::RESIZE);
    if let Some((filter, _)) = node.driver.job_filter() {
        return filter.passed_on((does, bears), release);
    }
    match role {
        "backing" => {
            let changes = if bears.among(Permissions::WRITE).is_none() { Permissions::NONE } else { changes };
            let always = Permissions::READ.and(Permissions::WRITE_UNCHANGED);
            (does.among(Permissions::READ), always.and(changes))
        }
        _ if node.driver.passes_on() => (does, bears),
        _ => {
            let changes_itself = if node.read_only { Permissions::NONE } else { changes };
            (does.and(Permissions::READ).and(changes_itself), bears.without(changes))
        }
    }
}
