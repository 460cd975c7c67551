//! `object-add` and `object-del`: objects that clients make for others to use.
//!
//! Only those that block devices use: I/O threads and throttle groups. Source: probes of the four releases.

use super::{
    Context, QmpError,
    arguments::Arguments,
    block::{Graph, throttle::Limits},
    job::is_well_formed,
    not_simulated,
};
use crate::{
    Machine, Release, introspection,
    qobject::{QObject, key, qdict},
};

/// For how long an I/O thread polls at most, in nanoseconds.
const POLLS_AT_MOST_NS: u64 = 32_768;

/// The thread of the first I/O thread, as the host numbers it: any will do, and real ones differ from start to start.
const FIRST_THREAD: u64 = 4_720;

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    IoThread,
    ThrottleGroup,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::IoThread => "iothread",
            Kind::ThrottleGroup => "throttle-group",
        }
    }

    /// Refuses a property that such an object does not have; throttle groups take each limit as one, too.
    fn check_properties(self, arguments: Arguments<'_>) -> Result<(), QmpError> {
        let has = |name: &str| match self {
            Kind::IoThread => name.starts_with("poll-"),
            Kind::ThrottleGroup => name == "limits" || name.starts_with("x-"),
        };
        let known = |name: &str| ["qom-type", "id", "props"].contains(&name) || has(name);
        match arguments.0.keys().find(|name| !known(name)) {
            Some(name) => Err(QmpError::generic(format!("Property '{}.{name}' not found", self.name()))),
            None => Ok(()),
        }
    }
}

/// All objects that the command line or clients have made.
#[derive(Debug)]
pub(crate) struct Objects {
    /// In the order in which they were made.
    objects: Vec<(String, Kind)>,
    /// How many of them the command line has made.
    first: usize,
}

impl Objects {
    /// Those of the command line.
    pub(crate) fn of(machine: &Machine, graph: &mut Graph) -> Self {
        for (id, limits) in &machine.throttle_groups {
            graph.add_throttle_group(id, Limits::of_object(Arguments(limits)));
        }
        let threads = machine.iothreads.iter().map(|id| (id.clone(), Kind::IoThread));
        let groups = machine.throttle_groups.iter().map(|(id, _)| (id.clone(), Kind::ThrottleGroup));
        let objects: Vec<_> = threads.chain(groups).collect();
        Self { first: objects.len(), objects }
    }

    /// Whether an object has that id.
    fn is_there(&self, id: &str) -> bool {
        self.objects.iter().any(|(known, _)| known == id)
    }

    /// All of them with their types, in the order in which they were made.
    pub(crate) fn list(&self) -> impl Iterator<Item = (&str, &'static str)> {
        self.objects.iter().map(|(id, kind)| (id.as_str(), kind.name()))
    }

    /// How many of those are of the command line.
    pub(crate) fn of_command_line(&self) -> usize {
        self.first
    }

    /// `object-add`. The oldest release takes an object's properties in `props`, and any id.
    pub(crate) fn add(
        &mut self,
        graph: &mut Graph,
        arguments: Arguments<'_>,
        cx: &Context<'_>,
    ) -> Result<QObject, QmpError> {
        let release = cx.release();
        if release.objects_are_made_of_anything() {
            for needed in ["qom-type", "id"] {
                let missing = || QmpError::generic(format!("Parameter '{needed}' is missing"));
                arguments.optional_text(needed).ok_or_else(missing)?;
            }
        }
        let id = arguments.text("id");
        let kind = match arguments.text("qom-type") {
            "iothread" => Kind::IoThread,
            "throttle-group" => Kind::ThrottleGroup,
            unknown
                if release.objects_are_made_of_anything() && introspection::is_no_type(release, unknown) =>
            {
                return Err(QmpError::generic(format!("invalid object type: {unknown}")));
            }
            other => return Err(not_simulated(&format!("an object of type `{other}`"))),
        };
        if release.objects_need_identifiers() && !is_well_formed(id) {
            return Err(QmpError::generic("Parameter 'id' expects an identifier"));
        }
        if release.objects_are_made_of_anything() {
            kind.check_properties(arguments)?;
        }
        if self.is_there(id) {
            let text = format!("attempt to add duplicate property '{id}' to object (type 'container')");
            return Err(QmpError::generic(text));
        }
        let is_told = |(name, value): (&String, &serde_json::Value)| match name.as_str() {
            "qom-type" | "id" => false,
            "props" => value.as_object().is_some_and(|properties| !properties.is_empty()),
            _ => true,
        };
        if kind == Kind::IoThread && arguments.0.iter().any(is_told) {
            return Err(not_simulated("the properties of an I/O thread"));
        }
        let nothing = serde_json::Map::new();
        if kind == Kind::ThrottleGroup {
            let properties =
                if arguments.0.contains_key("props") { arguments.structure("props")? } else { arguments };
            let limits = properties.0.get("limits").and_then(serde_json::Value::as_object);
            let limits = Limits::of_object(limits.map_or(Arguments(&nothing), Arguments));
            limits.check()?;
            graph.add_throttle_group(id, limits);
        }
        self.objects.push((id.into(), kind));
        Ok(QObject::empty())
    }

    /// `object-del`.
    pub(crate) fn delete(
        &mut self,
        graph: &mut Graph,
        arguments: Arguments<'_>,
        cx: &Context<'_>,
    ) -> Result<QObject, QmpError> {
        let id = arguments.text("id");
        let at = self.objects.iter().position(|(known, _)| known == id);
        let at = at.ok_or_else(|| QmpError::generic(format!("object '{id}' not found")))?;
        if self.objects[at].1 == Kind::ThrottleGroup && !graph.remove_throttle_group(id) {
            return Err(cx.release().throttle_group_in_use(id));
        }
        self.objects.remove(at);
        self.first -= usize::from(at < self.first);
        Ok(QObject::empty())
    }

    /// The reply to `query-iothreads`, by id.
    pub(crate) fn query_iothreads(&self, release: Release) -> QObject {
        let threads = self.objects.iter().filter(|(_, kind)| *kind == Kind::IoThread);
        let mut threads: Vec<_> = threads.zip(FIRST_THREAD..).collect();
        threads.sort_by_key(|((id, _), _)| id);
        threads.into_iter().map(|((id, _), thread)| iothread(id, thread, release)).collect()
    }
}

fn iothread(id: &str, thread: u64, release: Release) -> QObject {
    let factor = release.iothread_polling_factor();
    let mut info = qdict! {
        "id": id.to_owned(),
        "thread-id": thread,
        "poll-max-ns": POLLS_AT_MOST_NS,
        "poll-grow": factor,
        "poll-shrink": factor,
    };
    if release.iothreads_have_batches() {
        info.put(key!("aio-max-batch"), 0);
    }
    if release.iothreads_have_poll_weight() {
        info.put(key!("poll-weight"), 3);
    }
    info.into()
}
