//! `btrfs subvolume`: `show`, `list -r`, `list -o`, `snapshot`, `delete`.
//!
//! Of what `show` says of a subvolume the identifiers, generations and times are left out. To make a snapshot at a folder that is
//! there makes it inside of that, as the real one does.

use camino::{Utf8Path, Utf8PathBuf};

use super::{Refusal, Said, Storage, Surroundings};

/// The number of the first subvolume.
const FIRST: usize = 256;

pub(super) fn run(words: &[&str], around: &mut Surroundings<'_>) -> Said {
    match words {
        ["subvolume", "show", path] => show(path, around),
        ["subvolume", "list", "-r", path] => list(path, |_, readonly| readonly, around),
        ["subvolume", "list", "-o", path] => list(path, |known, _| right_below(known, path, around), around),
        ["subvolume", "snapshot", "-r", source, target] => snapshot(source, target, true, around),
        ["subvolume", "snapshot", source, target] => snapshot(source, target, false, around),
        ["subvolume", "delete", path] => delete(path, "(no-commit)", around),
        ["subvolume", "delete", "--commit-after", path] => delete(path, "(commit)", around),
        _ => Err(Refusal::not_simulated("btrfs", words)),
    }
}

fn refused(words: impl Into<String>) -> Refusal {
    Refusal::new(1, format!("ERROR: {}", words.into()))
}

impl Storage {
    /// Whether a path is on btrfs, and by which name a subvolume goes there.
    fn subvolume(&self, path: &Utf8Path) -> Result<Utf8PathBuf, Refusal> {
        let inside = self.btrfs.as_ref().and_then(|root| path.strip_prefix(root).ok());
        let inside = inside.ok_or_else(|| refused("Not a Btrfs filesystem: Invalid argument"))?;
        if self.subvolumes.contains_key(path) || inside == "" {
            Ok(inside.to_owned())
        } else {
            Err(refused("Not a Btrfs subvolume: Invalid argument"))
        }
    }

    /// Lets subvolumes go by their new names.
    pub(super) fn renamed(&mut self, from: &Utf8Path, to: &Utf8Path) {
        let moved: Vec<_> = self.subvolumes.keys().filter(|path| path.starts_with(from)).cloned().collect();
        for old in moved {
            let readonly = self.subvolumes.remove(&old).unwrap_or_default();
            let inside = old.strip_prefix(from).unwrap_or(&old);
            let new = if inside == "" { to.to_owned() } else { to.join(inside) };
            self.subvolumes.insert(new, readonly);
        }
    }
}

fn show(path: &str, around: &Surroundings<'_>) -> Said {
    if !around.host.is_folder(path.into()) {
        return Err(refused(format!("cannot find real path for '{path}': No such file or directory")));
    }
    let inside = around.storage.subvolume(path.into())?;
    let Some(name) = inside.file_name() else { return Ok("/\n\tName: \t\t\t<FS_TREE>\n".to_owned()) };
    let readonly = around.storage.subvolumes.get(Utf8Path::new(path)).copied().unwrap_or_default();
    let flags = if readonly { "readonly" } else { "-" };
    Ok(format!("{inside}\n\tName: \t\t\t{name}\n\tFlags: \t\t\t{flags}\n\tSnapshot(s):\n"))
}

/// Whether a subvolume lies in this one, and in none between.
fn right_below(known: &Utf8Path, path: &str, around: &Surroundings<'_>) -> bool {
    let subvolumes = around.storage.subvolumes.keys().map(Utf8PathBuf::as_path);
    let around_it = subvolumes.filter(|other| *other != known && known.starts_with(other));
    around_it.max_by_key(|other| other.as_str().len()) == Some(Utf8Path::new(path))
}

/// Those that are asked for, wherever in the file system.
fn list(path: &str, asked: impl Fn(&Utf8Path, bool) -> bool, around: &Surroundings<'_>) -> Said {
    if !around.host.is_folder(path.into()) {
        let words =
            format!("cannot access '{path}': No such file or directory\nERROR: can't access '{path}'");
        return Err(refused(words));
    }
    let Some(root) = around.storage.btrfs.as_ref().filter(|root| Utf8Path::new(path).starts_with(root))
    else {
        return Err(refused(format!("not a btrfs filesystem: {path}\nERROR: can't access '{path}'")));
    };
    let all = around.storage.subvolumes.iter().enumerate();
    let all = all.filter(|(_, (path, readonly))| asked(path, **readonly));
    let line = |(number, (path, _)): (usize, (&Utf8PathBuf, &bool))| {
        let inside = path.strip_prefix(root).unwrap_or(path);
        format!("ID {} gen 9 top level 5 path {inside}\n", FIRST + number)
    };
    Ok(all.map(line).collect())
}

fn snapshot(source: &str, target: &str, readonly: bool, around: &mut Surroundings<'_>) -> Said {
    let gone = || refused("Could not statfs: No such file or directory");
    if !around.host.is_folder(source.into()) {
        return Err(gone());
    }
    let name = around.storage.subvolume(source.into())?.file_name().unwrap_or_default().to_owned();
    let mut place = Utf8PathBuf::from(target);
    if around.host.is_folder(&place) {
        if around.storage.subvolumes.get(&place) == Some(&true) {
            return Err(refused(format!("cannot snapshot '{source}': Read-only file system")));
        }
        place.push(name);
    }
    let folder = place.parent().unwrap_or(&place);
    if !around.host.is_folder(folder) {
        return Err(refused(format!("cannot access '{folder}': No such file or directory")));
    }
    let mut contents = around.host.contents(source.into());
    let within = around.storage.subvolumes.keys().filter_map(|nested| nested.strip_prefix(source).ok());
    within.filter(|nested| *nested != "").for_each(|nested| contents.empty(nested));
    around.host.put(&place, &contents);
    around.storage.subvolumes.insert(place.clone(), readonly);
    let kind = if readonly { "readonly snapshot" } else { "snapshot" };
    Ok(format!("Create a {kind} of '{source}' in '{place}'\n"))
}

fn delete(path: &str, commit: &str, around: &mut Surroundings<'_>) -> Said {
    if !around.host.is_folder(path.into()) {
        return Err(refused("Could not statfs: No such file or directory"));
    }
    around.storage.subvolume(path.into())?;
    if around.storage.subvolumes.keys().any(|other| other != path && other.starts_with(path)) {
        return Err(refused("Could not destroy subvolume/snapshot: Directory not empty"));
    }
    around.host.clear(path.into());
    around.storage.subvolumes.remove(Utf8Path::new(path));
    Ok(format!("Delete subvolume {commit}: '{path}'\n"))
}
