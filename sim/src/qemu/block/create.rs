//! `blockdev-create`: makes a file, or writes the header of a qcow2 image into one.
//!
//! Always a job, always to be dismissed. What can fail is tried at once; whether the client hears of it before or
//! after the reply to the command differs by release and by what failed. Success comes some milliseconds later,
//! so that other commands can come in between: how many is a choice. The header is written at the end.

use std::{io, time::Duration};

use camino::Utf8Path;

use super::{
    Driver, Graph,
    permissions::{Permissions, Use},
};
use crate::{
    host::{Backing, Image},
    qemu::{
        Context, QmpError, Timer,
        arguments::Arguments,
        job::Jobs,
        not_simulated,
        work::{Header, Work},
    },
    qobject::QObject,
};

/// How long a job that succeeds may take, in milliseconds.
const TAKES_MS: [u64; 4] = [1, 2, 10, 100];

/// What a job does with the node that it writes a header to.
const WRITES: Permissions = Permissions::WRITE.and(Permissions::RESIZE);

/// Why a job fails, and on which side of the reply that is said.
struct Refusal {
    error: String,
    before_the_reply: bool,
}

/// `blockdev-create`.
pub(crate) fn blockdev_create(
    graph: &Graph,
    jobs: &mut Jobs,
    arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<QObject, QmpError> {
    let options = arguments.structure("options")?;
    match options.text("driver") {
        "file" => options.only(&["driver", "filename", "size"])?,
        "qcow2" => options.only(&["driver", "file", "size", "backing-file", "backing-fmt"])?,
        other => return Err(not_simulated(&format!("blockdev-create of `{other}`"))),
    }
    if options.text("driver") == "qcow2" && options.optional_text("file").is_none() {
        return Err(not_simulated("a child given in place"));
    }
    let job = jobs.start(arguments.text("job-id"), "create", cx)?;
    let beside_another = jobs.newest_first().skip(1).any(|other| other.status.is_alive());
    let races = beside_another && cx.release().failing_create_races_its_reply();
    let begun = match options.text("driver") {
        "file" => create_file(graph, options, cx),
        _ => check_qcow2(graph, options, cx),
    };
    match begun {
        Ok(work) => {
            let nodes = options.optional_text("file").map(str::to_owned).into_iter().collect();
            jobs.give_work(job, work, nodes);
            let ms = TAKES_MS[cx.choose("blockdev-create-takes", TAKES_MS.len())];
            cx.schedule(Duration::from_millis(ms), Timer::Job { serial: job });
        }
        Err(refusal)
            if refusal.before_the_reply || races && cx.choose("create-fails-before-the-reply", 2) == 1 =>
        {
            jobs.end(job, Err(refusal.error), cx);
        }
        Err(refusal) => {
            jobs.give_work(job, Work::Done(Err(refusal.error)), Vec::new());
            cx.schedule(Duration::ZERO, Timer::Job { serial: job });
        }
    }
    Ok(QObject::empty())
}

/// Writes the header. The file may have been unlinked meanwhile: then what was written is lost with it.
pub(crate) fn write_header(graph: &mut Graph, header: Header, cx: &mut Context<'_>) {
    let Header { node, path, size, backing } = header;
    if cx.host().image(&path).is_some() {
        let format = |image: &mut Image| *image = Image::formatted(image.file_length(), size, backing);
        graph.write_through(&node, &path, cx.host(), format);
        graph.forget_length(&node);
    }
}

fn create_file(graph: &Graph, options: Arguments<'_>, cx: &mut Context<'_>) -> Result<Work, Refusal> {
    let before_the_reply = cx.release().create_fails_on_open_before_the_reply();
    let size = options.size("size");
    let can_be = i64::try_from(size).is_ok();
    match make_file(graph, options.text("filename"), Image::raw(if can_be { size } else { 0 }), cx) {
        // The file is there by then.
        Ok(()) if !can_be => Ok(Work::Done(Err("Could not resize file: Invalid argument".into()))),
        Ok(()) => Ok(Work::Done(Ok(()))),
        Err(error) => Err(Refusal { error, before_the_reply }),
    }
}

/// Makes a file, or overwrites one that no node holds open.
///
/// # Errors
/// QEMU's text.
pub(super) fn make_file(
    graph: &Graph,
    filename: &str,
    image: Image,
    cx: &mut Context<'_>,
) -> Result<(), String> {
    check_not_locked(graph, filename, cx)?;
    let made = cx.host().create(Utf8Path::new(filename), image);
    made.map_err(|error| format!("Could not create '{filename}': {}", strerror(&error)))
}

/// A file that a format node holds open cannot be written through another.
fn check_not_locked(graph: &Graph, filename: &str, cx: &mut Context<'_>) -> Result<(), String> {
    let path = cx.host().resolve(Utf8Path::new(filename));
    let locked = graph.newest_first().any(|node| {
        node.driver.file().is_some()
            && graph.file_of(node).is_some_and(|used| cx.host().resolve(Utf8Path::new(used)) == path)
    });
    if locked { Err("Failed to get \"write\" lock".into()) } else { Ok(()) }
}

/// The checks before any I/O, in QEMU's order: node, size, backing format, users.
fn check_qcow2(graph: &Graph, options: Arguments<'_>, cx: &mut Context<'_>) -> Result<Work, Refusal> {
    let release = cx.release();
    let refuse = |error: String| Refusal {
        error,
        before_the_reply: release.create_fails_on_checks_before_the_reply(),
    };
    let file = options.text("file");
    let node = graph.lookup(file, release).map_err(|error| refuse(error.desc))?;
    let size = options.size("size");
    if !size.is_multiple_of(512) {
        return Err(refuse("Image size must be a multiple of 512 bytes".into()));
    }
    let format = options.optional_text("backing-fmt").map(str::to_owned);
    let backing = options
        .optional_text("backing-file")
        .map(|file| Backing { file: file.into(), format: format.clone() });
    if format.is_some() && backing.is_none() {
        return Err(refuse("Backing format cannot be used without backing file".into()));
    }
    graph.check_use(file, Use::root(WRITES, Permissions::ALL), cx).map_err(|error| refuse(error.desc))?;
    let Driver::File { filename, .. } = &node.driver else {
        return Err(refuse(not_simulated("an image inside another").desc));
    };
    let path = cx.host().resolve(Utf8Path::new(filename));
    Ok(Work::WriteHeader(Header { node: file.to_owned(), path, size, backing }))
}

fn strerror(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "No such file or directory",
        io::ErrorKind::IsADirectory => "Is a directory",
        _ => "Input/output error",
    }
}
