//! The runtime folder of the user: where the locks on machines are.

use std::{
    env,
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::process::geteuid;

/// What ours is called, wherever it is.
const NAME: &str = "freezeframe";

/// Where it may be, the best first. Root's is the same with and without a session; that of another user is the session's, which
/// a service of the user's without one finds under the number.
pub(super) fn candidates() -> Vec<Utf8PathBuf> {
    let user = geteuid();
    if user.is_root() {
        return vec![Utf8Path::new("/run").join(NAME), of_tmp(user.as_raw())];
    }
    let session = env::var("XDG_RUNTIME_DIR").ok().map(Utf8PathBuf::from);
    let session = session.filter(|folder| folder.is_absolute());
    let folder = session.unwrap_or_else(|| format!("/run/user/{}", user.as_raw()).into());
    vec![folder.join(NAME), of_tmp(user.as_raw())]
}

/// Where there is nothing else: anybody may have made one of that name before, so that it is looked at.
fn of_tmp(user: u32) -> Utf8PathBuf {
    Utf8PathBuf::from(format!("/tmp/{NAME}-{user}"))
}

/// The first that is there or can be made, if it is the user's alone.
pub(super) fn first_of(candidates: &[Utf8PathBuf]) -> io::Result<Utf8PathBuf> {
    let mut refused = io::Error::from(io::ErrorKind::NotFound);
    for folder in candidates {
        match make(folder) {
            Ok(()) => return Ok(folder.clone()),
            Err(error) => refused = io::Error::new(error.kind(), format!("`{folder}`: {error}")),
        }
    }
    Err(refused)
}

fn make(folder: &Utf8Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = fs::symlink_metadata(folder)?;
    let is_ours = found.is_dir() && found.uid() == geteuid().as_raw() && found.mode() & 0o077 == 0;
    if is_ours { Ok(()) } else { Err(io::Error::other("it is not a folder that is this user's alone")) }
}
