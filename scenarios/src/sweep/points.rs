//! The points of a run at which something can go wrong: each command, each event, each request to the agent, each program and
//! each change of a file of the driver's operations, by its number among those of its name.

use std::{collections::BTreeMap, num::NonZeroU32};

use serde::{
    Deserialize,
    de::{IntoDeserializer as _, value},
};

use crate::{
    interpose::{Message, name_of_request},
    language::{Action, JobStatus, Moment, Step},
    transcript::Entry,
};

/// A point of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// At what.
    pub moment: Moment,
    /// At which of those of that name, counted from 1.
    pub nth: NonZeroU32,
    /// In which step, counted from 0.
    pub step: usize,
}

/// Collects the points of a run while it goes on.
#[derive(Debug, Default)]
pub(super) struct Places {
    seen: BTreeMap<(&'static str, String), u32>,
    places: Vec<Place>,
}

impl Places {
    /// Something has happened in this step; none is before the first.
    pub(super) fn happened(&mut self, entry: &Entry, step: Option<usize>) {
        let Some(moment) = moment_of(entry) else { return };
        let seen = self.seen.entry(key(&moment)).or_default();
        *seen += 1;
        let (Some(step), Some(nth)) = (step, NonZeroU32::new(*seen)) else { return };
        self.places.push(Place { moment, nth, step });
    }

    /// How many have come.
    pub(super) fn count(&self) -> usize {
        self.places.len()
    }

    /// Those that came behind the first ones.
    pub(super) fn behind(mut self, first: usize) -> Vec<Place> {
        self.places.split_off(first.min(self.places.len()))
    }

    /// Those in the steps that are operations of the driver's.
    pub(super) fn of_operations(self, steps: &[Step]) -> Vec<Place> {
        let mut places = self.places;
        places.retain(|place| is_operation(&steps[place.step].action));
        places
    }
}

/// Whether a step is something that the driver does: what is said past it is nobody's to get right.
pub(super) fn is_operation(action: &Action) -> bool {
    match action {
        Action::Snapshot(_)
        | Action::Revert(_)
        | Action::Delete(_)
        | Action::Storage(_)
        | Action::Recover(_) => true,
        Action::Probe(_)
        | Action::Qmp(_)
        | Action::Agent(_)
        | Action::Guest(_)
        | Action::Host(_)
        | Action::Shorten(_)
        | Action::Tamper(_)
        | Action::Hold(_)
        | Action::Plug(_)
        | Action::Describe(_) => false,
    }
}

fn key(moment: &Moment) -> (&'static str, String) {
    match moment {
        Moment::Command(name) => ("qmp", name.clone()),
        Moment::Event(name) => ("event", name.clone()),
        Moment::Job(status) => ("job", status.name().to_owned()),
        Moment::Program(name) => ("run", name.clone()),
        Moment::Agent(name) => ("agent", name.clone()),
        Moment::File(name) => ("file", name.clone()),
    }
}

/// What of a command is looked at.
#[derive(Deserialize)]
struct Command {
    #[serde(rename = "execute", alias = "exec-oob")]
    name: String,
}

/// What a fault could wait for, where this was said or done.
fn moment_of(entry: &Entry) -> Option<Moment> {
    match entry {
        Entry::Sent(line) => {
            let Command { name } = serde_json::from_slice(line).ok()?;
            Some(Moment::Command(name))
        }
        Entry::Received(line) => {
            // Most lines are replies, and long: what is no event need not be read.
            memchr::memmem::find(line, b"\"event\"")?;
            let message = Message::read(line)?;
            let event = message.event?;
            Some(match message.status {
                Some(status) => Moment::Job(job_status(&status)?),
                None => Moment::Event(event),
            })
        }
        Entry::AgentSent(line) => Some(Moment::Agent(name_of_request(line)?)),
        Entry::Ran { program, .. } => Some(Moment::Program(program.clone())),
        Entry::Change(file) => Some(Moment::File(file.clone())),
        _ => None,
    }
}

fn job_status(name: &str) -> Option<JobStatus> {
    let name: value::StrDeserializer<'_, value::Error> = name.into_deserializer();
    JobStatus::deserialize(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_numbered_by_name_and_those_before_the_first_step_count() {
        let mut places = Places::default();
        let sent = |name: &str| Entry::Sent(format!("{{\"execute\":\"{name}\"}}").into_bytes());
        let status = |status: &str| {
            let event = format!("{{\"event\":\"JOB_STATUS_CHANGE\",\"data\":{{\"status\":\"{status}\"}}}}");
            Entry::Received(event.into_bytes())
        };
        places.happened(&sent("query-block"), None);
        places.happened(&sent("query-block"), Some(0));
        places.happened(&status("running"), Some(0));
        places.happened(&Entry::Received(b"{\"return\": {}}".to_vec()), Some(0));
        places.happened(&status("concluded"), Some(1));
        let told: Vec<_> =
            places.places.iter().map(|place| (key(&place.moment).1, place.nth.get(), place.step)).collect();
        let expected =
            [("query-block".to_owned(), 2, 0), ("running".to_owned(), 1, 0), ("concluded".to_owned(), 1, 1)];
        assert_eq!(told, expected);
    }
}
