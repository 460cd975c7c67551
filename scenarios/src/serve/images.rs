//! The folder of a served machine as a real one, so that programs find the images that the machine talks of.
//!
//! ```text
//!   real folder -- take in: new files are raw ones, removed files are gone --> simulated host
//!   real folder <-- give out: new files and new headers, as empty images ----- simulated host
//! ```
//!
//! What it puts there is real in shape alone: size, format and backing file. Data and internal snapshots stay in the
//! simulation. A file that has contents of somebody else's is never written to, and the contents of what is taken in
//! are not looked at. A symbolic link is the file that it leads to, and is never written through. Folders in the folder
//! are passed over.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "the thin shell that reads and writes one real folder"
)]

use std::{collections::BTreeMap, fs, io, io::Write as _};

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe_sim::host::{Backing, Host, Image};

use super::qcow2;

/// A real folder, and what both sides know to be in it.
#[derive(Debug)]
pub struct Images {
    folder: Utf8PathBuf,
    known: BTreeMap<String, Known>,
}

/// A file that both sides know.
#[derive(Debug)]
struct Known {
    shape: Shape,
    /// Its contents were put there by us.
    ours: bool,
}

/// What a file is, as far as a real one shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Shape {
    Raw { size: u64 },
    Qcow2 { size: u64, backing: Option<Backing> },
}

impl Images {
    /// The images in a folder, which must be there.
    ///
    /// # Errors
    /// What the system says; `InvalidData` for a path that is no UTF-8.
    pub fn open(folder: &Utf8Path) -> io::Result<Self> {
        let folder = folder.canonicalize_utf8()?;
        fs::read_dir(&folder)?;
        Ok(Self { folder, known: BTreeMap::new() })
    }

    /// The folder from the root, without symbolic links.
    pub fn folder(&self) -> &Utf8Path {
        &self.folder
    }

    /// Tells the simulated host which files have come and gone.
    pub fn take_in(&mut self, host: &mut Host) {
        let Ok(real) = self.real() else { return };
        let gone: Vec<_> = self.known.keys().filter(|name| !real.contains_key(*name)).cloned().collect();
        for name in gone {
            self.known.remove(&name);
            let _ = host.remove(&self.folder.join(name));
        }
        for (name, size) in real {
            if !self.known.contains_key(&name)
                && host.create_new(&self.folder.join(&name), Image::raw(size)).is_ok()
            {
                self.known.insert(name, Known { shape: Shape::Raw { size }, ours: false });
            }
        }
    }

    /// Puts into the folder what the machine has made. What cannot be written is said on standard error, once.
    pub fn give_out(&mut self, host: &Host) {
        for (path, image) in host.files() {
            let Some(name) =
                path.strip_prefix(&self.folder).ok().filter(|name| name.components().count() == 1)
            else {
                continue;
            };
            let shape = shape(image);
            let known = self.known.get(name.as_str());
            if known.is_some_and(|known| known.shape == shape) {
                continue;
            }
            let written = write(path, image, known.is_some_and(|known| known.ours));
            if let Err(error) = &written {
                eprintln!("{path} stays as it is: {error}");
            }
            self.known.insert(name.to_string(), Known { shape, ours: written.is_ok() });
        }
    }

    /// The plain files of the folder, and those that links in it lead to, with their lengths in bytes.
    fn real(&self) -> io::Result<BTreeMap<String, u64>> {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            // A link that leads nowhere is no file.
            let Ok(found) = fs::metadata(entry.path()) else { continue };
            if let (true, Ok(name)) = (found.is_file(), entry.file_name().into_string()) {
                files.insert(name, found.len());
            }
        }
        Ok(files)
    }
}

fn shape(image: &Image) -> Shape {
    match image {
        Image::Raw { size, .. } => Shape::Raw { size: *size },
        Image::MachineState(state) => Shape::Raw { size: state.size },
        Image::Qcow2(image) => Shape::Qcow2 { size: image.size, backing: image.backing.clone() },
    }
}

/// Writes an empty image, into a file that is not there, that is empty, or whose contents are `ours`.
fn write(path: &Utf8Path, image: &Image, ours: bool) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    match fs::symlink_metadata(path) {
        Err(_) => options.write(true).create_new(true),
        Ok(found) if found.is_file() && (ours || found.len() == 0) => options.write(true).truncate(true),
        Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
    };
    let contents = match image {
        Image::Raw { .. } | Image::MachineState(_) => Vec::new(),
        Image::Qcow2(image) => qcow2::bytes(image).ok_or(io::ErrorKind::InvalidInput)?,
    };
    let mut file = options.open(path)?;
    file.write_all(&contents)?;
    match image {
        Image::Raw { size, .. } => file.set_len(*size),
        Image::MachineState(state) => file.set_len(state.size),
        Image::Qcow2(_) => Ok(()),
    }
}
