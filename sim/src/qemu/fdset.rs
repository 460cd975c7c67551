//! Sets of open files that clients pass: `add-fd`, `remove-fd`, `query-fdsets`.
//!
//! A file of a set could be opened as `/dev/fdset/<id>`: nothing here does. Source: the four releases, asked.

use super::{Context, QmpError, arguments::Arguments};
use crate::{
    Release,
    qobject::{QObject, key, qdict},
};

/// The first file that is passed, as the process numbers it: any will do, and real ones differ from start to start.
const FIRST_FILE: u64 = 18;

/// An open file.
#[derive(Debug)]
struct File {
    number: u64,
    /// What the client said of it.
    opaque: Option<String>,
}

/// All sets, the newest first, each with its id.
#[derive(Debug, Default)]
pub(crate) struct FdSets {
    sets: Vec<(i64, Vec<File>)>,
    so_far: u64,
}

impl FdSets {
    /// `add-fd`: into the set of an id, or a new one with the lowest that is free.
    pub(crate) fn add(
        &mut self,
        arguments: Arguments<'_>,
        cx: &mut Context<'_>,
    ) -> Result<QObject, QmpError> {
        if cx.passed.take().is_none() {
            return Err(QmpError::generic("No file descriptor supplied via SCM_RIGHTS"));
        }
        let asked = arguments.0.get("fdset-id").map(|_| arguments.integer("fdset-id"));
        if asked.is_some_and(|id| id < 0) {
            return Err(QmpError::generic("Parameter 'fdset-id' expects a non-negative value"));
        }
        let free = || (0..).find(|id| self.sets.iter().all(|(known, _)| known != id)).unwrap_or(0);
        let id = asked.unwrap_or_else(free);
        let number = FIRST_FILE + self.so_far;
        self.so_far += 1;
        let file = File { number, opaque: arguments.optional_text("opaque").map(str::to_owned) };
        match self.sets.iter_mut().find(|(known, _)| *known == id) {
            Some((_, files)) => files.push(file),
            None => {
                // Sets are kept by id, where it was asked for; the others come first.
                let at =
                    if asked.is_some() { self.sets.partition_point(|(known, _)| *known > id) } else { 0 };
                self.sets.insert(at, (id, vec![file]));
            }
        }
        Ok(qdict! { "fd": number, "fdset-id": id.unsigned_abs() }.into())
    }

    /// `remove-fd`: a file, or a whole set.
    /// `running` tells whether the guest does: old releases close nothing while it rests.
    pub(crate) fn remove(
        &mut self,
        arguments: Arguments<'_>,
        release: Release,
        running: bool,
    ) -> Result<QObject, QmpError> {
        let id = arguments.integer("fdset-id");
        let number = arguments.0.get("fd").and_then(serde_json::Value::as_u64);
        let named = number.map_or(String::new(), |number| format!(", fd:{number}"));
        let not_found =
            || QmpError::generic(format!("File descriptor named 'fdset-id:{id}{named}' not found"));
        let (_, files) = self.sets.iter_mut().find(|(known, _)| *known == id).ok_or_else(not_found)?;
        let stays = !running && release.files_stay_while_the_guest_rests();
        if let Some(number) = number {
            let at = files.iter().position(|file| file.number == number).ok_or_else(not_found)?;
            if !stays {
                files.remove(at);
            }
        } else if stays {
            return Ok(QObject::empty());
        } else {
            files.clear();
        }
        self.sets.retain(|(_, files)| !files.is_empty());
        Ok(QObject::empty())
    }

    /// The reply to `query-fdsets`.
    pub(crate) fn query(&self) -> QObject {
        let file = |file: &File| {
            let mut info = qdict! { "fd": file.number };
            if let Some(opaque) = &file.opaque {
                info.put(key!("opaque"), opaque.clone());
            }
            QObject::from(info)
        };
        let set = |(id, files): &(i64, Vec<File>)| {
            qdict! { "fdset-id": id.unsigned_abs(), "fds": files.iter().map(file).collect::<QObject>() }
                .into()
        };
        self.sets.iter().map(set).collect()
    }
}
