//! The coreutils and `find`, as far as snapshots by reflinks and renamed folders need them.

use camino::Utf8Path;

use super::{Refusal, Said, Surroundings};
use crate::host::{Host, Image};

pub(super) fn run(program: &str, words: &[&str], around: &mut Surroundings<'_>) -> Said {
    match (program, words) {
        ("cp", ["--reflink=always", "--preserve=all", from, to]) => copy(from, to, around),
        ("ln", ["-T", from, to]) => link(from, to, around.host),
        ("mv", ["-T", from, to]) => rename(from, to, around),
        ("rm", [file]) => remove(file, around),
        ("sync", [path]) if there(around.host, path) => Ok(String::new()),
        ("sync", [path]) => Err(Refusal::new(1, format!("sync: error opening '{path}': {GONE}"))),
        ("stat", ["--format=%d", "--", files @ ..]) => devices(files, around),
        ("find", [folder, rest @ ..]) if rest == FIND => find(folder, around.host),
        // The simulated data sets are not nested.
        ("find", [folder, "-xdev", "-type", "f", "-print0"] | [folder, "-type", "f", "-print0"]) => {
            find_below(folder, around.host)
        }
        _ => Err(Refusal::not_simulated(program, words)),
    }
}

const GONE: &str = "No such file or directory";
const FULL: &str = "No space left on device";
const FIND: [&str; 8] = ["-mindepth", "1", "-maxdepth", "1", "-type", "f", "-printf", "%f\\0"];

fn there(host: &Host, path: &str) -> bool {
    host.length(path.into()).is_some() || host.is_folder(path.into())
}

/// What a tool has done before it waits on a frozen file system: `cp` has made the file that it would write to.
pub(super) fn begin(words: &[&str], around: &mut Surroundings<'_>) {
    if let ["--reflink=always", "--preserve=all", _, to] = words {
        // It fails where `cp` would not have come so far.
        let _ = around.host.create_new((*to).into(), Image::raw(0));
    }
}

/// Clones a file. What was made of the other one is left behind where it cannot be.
fn copy(from: &str, to: &str, around: &mut Surroundings<'_>) -> Said {
    let refused = |words: String| Err(Refusal::new(1, format!("cp: {words}")));
    let (source, target) = (Utf8Path::new(from), Utf8Path::new(to));
    if around.host.length(source).is_none() {
        return refused(format!("cannot stat '{from}': {GONE}"));
    }
    if !around.host.can_create(target) {
        return refused(format!("cannot create regular file '{to}': {GONE}"));
    }
    if around.storage.full {
        return refused(format!("cannot create regular file '{to}': {FULL}"));
    }
    let system = |path: &Utf8Path| around.storage.shares.iter().filter(|root| path.starts_with(root)).max();
    let why = match (system(source), system(target)) {
        (Some(one), Some(other)) if one == other => None,
        (None, None) => Some("Operation not supported"),
        _ => Some("Invalid cross-device link"),
    };
    match why {
        None => {
            let contents = around.host.contents(source);
            around.host.put(target, &contents);
            Ok(String::new())
        }
        Some(why) => {
            let _ = around.host.create(target, Image::raw(0));
            refused(format!("failed to clone '{to}' from '{from}': {why}"))
        }
    }
}

fn link(from: &str, to: &str, host: &mut Host) -> Said {
    if host.length(from.into()).is_none() {
        return Err(Refusal::new(1, format!("ln: failed to access '{from}': {GONE}")));
    }
    if there(host, to) {
        return Err(Refusal::new(1, format!("ln: failed to create hard link '{to}': File exists")));
    }
    host.put(to.into(), &host.contents(from.into()));
    Ok(String::new())
}

/// Renames as rename(2) does: a file takes the place of a file, a folder that of an empty one.
fn rename(from: &str, to: &str, around: &mut Surroundings<'_>) -> Said {
    let host = &mut *around.host;
    let refused = |words: String| Err(Refusal::new(1, format!("mv: {words}")));
    if !there(host, from) {
        return refused(format!("cannot stat '{from}': {GONE}"));
    }
    match (host.is_folder(from.into()), host.is_folder(to.into())) {
        (true, true) if !host.contents(to.into()).is_empty() => {
            return refused(format!("cannot move '{from}' to '{to}': Directory not empty"));
        }
        (true, false) if there(host, to) => {
            return refused(format!("cannot overwrite non-directory '{to}' with directory '{from}'"));
        }
        (false, true) => return refused(format!("cannot overwrite directory '{to}' with non-directory")),
        _ => {}
    }
    let contents = host.contents(from.into());
    host.clear(from.into());
    host.put(to.into(), &contents);
    around.storage.renamed(from.into(), to.into());
    Ok(String::new())
}

/// The number of the file system that each file lies in: each subvolume of btrfs has its own, and so has each data set.
fn devices(files: &[&str], around: &Surroundings<'_>) -> Said {
    let line = |file: &&str| match there(around.host, file) {
        true => Ok(format!("{}\n", around.storage.device(Utf8Path::new(file)))),
        false => Err(Refusal::new(1, format!("stat: cannot statx '{file}': {GONE}"))),
    };
    files.iter().map(line).collect()
}

fn remove(file: &str, around: &mut Surroundings<'_>) -> Said {
    let gone = |_| Refusal::new(1, format!("rm: cannot remove '{file}': {GONE}"));
    around.host.remove(file.into()).map(|()| String::new()).map_err(gone)
}

/// All files in a folder and in those below.
fn find_below(folder: &str, host: &Host) -> Said {
    if !host.is_folder(folder.into()) {
        return Err(Refusal::new(1, format!("find: '{folder}': {GONE}")));
    }
    let contents = host.contents(folder.into());
    Ok(contents.files().map(|file| format!("{}\0", Utf8Path::new(folder).join(file))).collect())
}

fn find(folder: &str, host: &Host) -> Said {
    let names = host.names(folder.into());
    let names = names.map_err(|_| Refusal::new(1, format!("find: '{folder}': {GONE}")))?;
    let files = names.iter().filter(|name| host.length(&Utf8Path::new(folder).join(name)).is_some());
    Ok(files.map(|name| format!("{name}\0")).collect())
}
