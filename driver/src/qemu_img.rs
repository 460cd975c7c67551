//! `qemu-img`, the tool for images that no machine has open: its commands, typed.
//!
//! It is run through [`Env::run`], never through a shell. A format is always stated and none is ever looked for in the data,
//! names are absolute so that none is taken for an option or a protocol, and what can be asked for in JSON is. An image that
//! a machine has open is refused by the tool itself, which finds it locked; this does not look for machines.
//!
//! Source: QEMU's documentation of `qemu-img`; QAPI's `ImageInfo` and `SnapshotInfo`.

mod image;

use std::{io, time::Duration};

use camino::{Utf8Path, Utf8PathBuf};
use serde::Deserialize;
use serde_json::json;

pub(crate) use self::image::data_file;
pub use self::image::{
    Backing, BitmapInfo, Clusters, FormatSpecific, ImageInfo, NewImage, Qcow2Specific, SnapshotInfo,
};
use crate::{
    env::{Ended, Env, FileKind, HostCommand},
    words,
};

/// The tool, and how long each of its runs may take.
#[derive(Debug, Clone)]
pub struct QemuImg<E> {
    /// What runs it.
    pub env: E,
    /// The program: `qemu-img` for the one on the path.
    pub program: Utf8PathBuf,
    /// How long a run may take; a commit copies data.
    pub within: Duration,
}

/// Why a command of the tool has failed.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// There is no such program.
    #[error("there is no `{program}`: is QEMU's package of tools installed?")]
    Missing {
        /// Which.
        program: Utf8PathBuf,
    },
    /// The program cannot be run, or said more than is taken.
    #[error("cannot run `{program}`: {source}")]
    CannotRun {
        /// Which.
        program: Utf8PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The tool refused; its exit code was not 0.
    #[error("`qemu-img {command}` of {file} failed: {text}")]
    Refused {
        /// `create`, `commit`, ...
        command: &'static str,
        /// The image.
        file: Utf8PathBuf,
        /// Its words.
        text: String,
    },
    /// The tool was killed: what it was to do may be done, or a part of it, or nothing.
    #[error("`qemu-img {command}` of {file} did not end by itself: {how}")]
    Killed {
        /// `create`, `commit`, ...
        command: &'static str,
        /// The image.
        file: Utf8PathBuf,
        /// By whom.
        how: Ended,
    },
    /// The tool succeeded, and what it says is none of what it should say.
    #[error("`qemu-img {command}` of {file} says what cannot be understood: {why}")]
    Nonsense {
        /// `info`.
        command: &'static str,
        /// The image.
        file: Utf8PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A path that could be taken for something else.
    #[error("`{0}` does not begin with `/`")]
    Relative(Utf8PathBuf),
    /// The image has no snapshot of that name. Nothing was changed.
    #[error("{file} has no snapshot `{name}`")]
    NoSnapshot {
        /// The image.
        file: Utf8PathBuf,
        /// The name.
        name: String,
    },
}

impl ToolError {
    /// Whether what was asked for may have been done, or a part of it, although this went wrong.
    pub fn in_doubt(&self) -> bool {
        matches!(self, ToolError::Killed { .. } | ToolError::CannotRun { .. })
    }

    /// Whether the tool refused because somebody else has the image open: `Failed to get "write" lock`, which all releases say.
    pub fn is_locked(&self) -> bool {
        matches!(self, ToolError::Refused { text, .. } if text.contains("Failed to get") && text.contains("lock"))
    }
}

impl<E: Env> QemuImg<E> {
    /// The tool of the path, whose runs may take a minute each.
    pub fn new(env: E) -> Self {
        Self { env, program: "qemu-img".into(), within: Duration::from_secs(60) }
    }

    /// Makes a qcow2 image. Its backing image is opened, unless a size makes that needless.
    ///
    /// # Errors
    /// [`ToolError`].
    pub async fn create(&self, new: &NewImage) -> Result<(), ToolError> {
        let mut arguments = words(&["create", "-q", "-f", "qcow2"]);
        if let Some(Backing { file, format }) = &new.backing {
            arguments.extend(words(&["-F", format, "-b", absolute(file)?.as_str()]));
            arguments.extend(new.size.map(|_| "-u".to_owned()));
        }
        let Clusters { size, extended_l2 } = new.clusters;
        let layout = size.map(|size| format!("cluster_size={size}"));
        let layout: Vec<_> =
            layout.into_iter().chain(extended_l2.then(|| "extended_l2=on".to_owned())).collect();
        if !layout.is_empty() {
            arguments.extend(["-o".to_owned(), layout.join(",")]);
        }
        arguments.push(absolute(&new.file)?.to_string());
        arguments.extend(new.size.map(|size| size.to_string()));
        self.run("create", &new.file, arguments).await.map(drop)
    }

    /// Takes an internal snapshot of a qcow2 image.
    ///
    /// # Errors
    /// [`ToolError`]. One of that name that is there already is none: look first.
    pub async fn snapshot_create(&self, file: &Utf8Path, name: &str) -> Result<(), ToolError> {
        self.snapshot("-c", file, name).await
    }

    /// Makes a qcow2 image again what it was when its first snapshot of that name was taken.
    ///
    /// # Errors
    /// [`ToolError`].
    pub async fn snapshot_apply(&self, file: &Utf8Path, name: &str) -> Result<(), ToolError> {
        // The tool would rather take a snapshot with that id than one of that name.
        let found = self.snapshot_list(file).await?.into_iter().find(|known| known.name == name);
        let missing = || ToolError::NoSnapshot { file: file.to_owned(), name: name.to_owned() };
        self.snapshot("-a", file, &found.ok_or_else(missing)?.id).await
    }

    /// Deletes the first internal snapshot of that name from a qcow2 image.
    ///
    /// # Errors
    /// [`ToolError`].
    pub async fn snapshot_delete(&self, file: &Utf8Path, name: &str) -> Result<(), ToolError> {
        self.snapshot("-d", file, name).await
    }

    /// The internal snapshots of a qcow2 image, oldest first.
    ///
    /// # Errors
    /// [`ToolError`].
    pub async fn snapshot_list(&self, file: &Utf8Path) -> Result<Vec<SnapshotInfo>, ToolError> {
        self.info(file, "qcow2").await.map(|info| info.snapshots)
    }

    /// Writes what is in a qcow2 image, and in those between the two, into `base` or into the image right behind it.
    /// Without a base the image is empty afterwards; with one it keeps what it has.
    ///
    /// # Errors
    /// [`ToolError`].
    pub async fn commit(&self, file: &Utf8Path, base: Option<&Utf8Path>) -> Result<(), ToolError> {
        let mut arguments = words(&["commit", "-q", "-f", "qcow2"]);
        if let Some(base) = base {
            arguments.extend(words(&["-b", absolute(base)?.as_str()]));
        }
        arguments.push(absolute(file)?.to_string());
        self.run("commit", file, arguments).await.map(drop)
    }

    /// Gives a qcow2 image another backing file, or none, and copies into it what it would show otherwise then. The header is
    /// written last: cut short, the image is on what it was on, and shows the same.
    ///
    /// # Errors
    /// [`ToolError`].
    pub async fn rebase(&self, file: &Utf8Path, backing: Option<&Backing>) -> Result<(), ToolError> {
        self.rebase_with(&[], file, backing).await
    }

    /// Writes another backing file, or none, into the header of a qcow2 image. Neither is looked at: the caller knows that
    /// the guest sees the same data on top of it.
    ///
    /// # Errors
    /// [`ToolError`].
    pub async fn rebase_unsafe(&self, file: &Utf8Path, backing: Option<&Backing>) -> Result<(), ToolError> {
        self.rebase_with(&["-u"], file, backing).await
    }

    async fn rebase_with(
        &self,
        how: &[&str],
        file: &Utf8Path,
        backing: Option<&Backing>,
    ) -> Result<(), ToolError> {
        let mut arguments = words(&["rebase"]);
        arguments.extend(words(how));
        arguments.extend(words(&["-f", "qcow2"]));
        match backing {
            Some(Backing { file, format }) => {
                arguments.extend(words(&["-F", format, "-b", absolute(file)?.as_str()]));
            }
            None => arguments.extend(words(&["-b", ""])),
        }
        arguments.push(absolute(file)?.to_string());
        self.run("rebase", file, arguments).await.map(drop)
    }

    /// What an image's header says.
    ///
    /// # Errors
    /// [`ToolError`].
    pub async fn info(&self, file: &Utf8Path, format: &str) -> Result<ImageInfo, ToolError> {
        let arguments = words(&["info", "--output=json", "-f", format, absolute(file)?.as_str()]);
        self.understood(file, arguments).await
    }

    /// The same of an image that somebody may be writing: what is asked for does not change while it is open.
    ///
    /// # Errors
    /// [`ToolError`].
    pub async fn info_while_open(&self, file: &Utf8Path, format: &str) -> Result<ImageInfo, ToolError> {
        let arguments = words(&["info", "--output=json", "-U", "-f", format, absolute(file)?.as_str()]);
        self.understood(file, arguments).await
    }

    /// What the headers of an image and of all behind it say, topmost first. A backing image whose format its overlay does
    /// not state is looked at by the tool to find it.
    ///
    /// # Errors
    /// [`ToolError`].
    pub async fn info_of_chain(&self, file: &Utf8Path, format: &str) -> Result<Vec<ImageInfo>, ToolError> {
        let file_word = absolute(file)?.as_str();
        let arguments = words(&["info", "--output=json", "--backing-chain", "-f", format, file_word]);
        self.understood(file, arguments).await
    }

    /// Whether nobody has a raw image open to write it. To ask for what is in it does not tell, as it does of a qcow2 image: whoever
    /// wants to delete a snapshot needs the lock, and only then is told that a raw image has none. Nobody has one open that is not
    /// there. Any other refusal tells nothing.
    ///
    /// # Errors
    /// [`ToolError`]; one that [`ToolError::is_locked`] if somebody has.
    ///
    /// Source: the tool of 5.2, 7.2, 10.0 and 11.1, asked: `Could not delete snapshot 'none': snapshot not found`.
    pub async fn raw_is_free(&self, file: &Utf8Path) -> Result<(), ToolError> {
        let protocol = self.protocol(file).await;
        let image = json!({ "driver": "raw", "file": { "driver": protocol, "filename": absolute(file)? } });
        let asked = words(&["snapshot", "-d", "none", &format!("json:{image}")]);
        match self.run("snapshot", file, asked).await {
            Err(ToolError::Refused { text, .. })
                if text.contains("Could not delete snapshot")
                    || text.contains("No such file or directory") =>
            {
                Ok(())
            }
            asked => asked.map(drop),
        }
    }

    /// `snapshot` knows no option for the format, and opens what is behind an image, which it does not need: a
    /// description says both.
    async fn snapshot(&self, verb: &str, file: &Utf8Path, name: &str) -> Result<(), ToolError> {
        let protocol = self.protocol(file).await;
        let image = json!({
            "driver": "qcow2",
            "backing": null,
            "file": { "driver": protocol, "filename": absolute(file)? },
        });
        let image = format!("json:{image}");
        self.run("snapshot", file, words(&["snapshot", verb, name, &image])).await.map(drop)
    }

    /// What QEMU calls the way to a file, or to a device of the host.
    async fn protocol(&self, path: &Utf8Path) -> &'static str {
        match self.env.file_kind(path).await {
            Ok(FileKind::Device) => "host_device",
            _ => "file",
        }
    }

    async fn understood<T: for<'de> Deserialize<'de>>(
        &self,
        file: &Utf8Path,
        arguments: Vec<String>,
    ) -> Result<T, ToolError> {
        let said = self.run("info", file, arguments).await?;
        serde_json::from_slice(&said).map_err(|error| ToolError::Nonsense {
            command: "info",
            file: file.to_owned(),
            why: words::of_error(&error),
        })
    }

    /// Runs it to its end; what it says if it succeeds.
    async fn run(
        &self,
        command: &'static str,
        file: &Utf8Path,
        arguments: Vec<String>,
    ) -> Result<Vec<u8>, ToolError> {
        let program = || self.program.clone();
        let asked = HostCommand::new(&self.program, arguments, self.within);
        let ran = self.env.run(&HostCommand { acts: true, ..asked }).await;
        let ran = ran.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => ToolError::Missing { program: program() },
            _ => ToolError::CannotRun { program: program(), source },
        })?;
        let file = file.to_owned();
        match ran.ended {
            Ended::Exited(0) => Ok(ran.stdout),
            Ended::Exited(_) => Err(ToolError::Refused { command, file, text: refusal(&ran.words()) }),
            how => Err(ToolError::Killed { command, file, how }),
        }
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn absolute(path: &Utf8Path) -> Result<&Utf8Path, ToolError> {
    if path.is_absolute() { Ok(path) } else { Err(ToolError::Relative(path.to_owned())) }
}

/// The tool's words without its own name.
fn refusal(said: &str) -> String {
    said.strip_prefix("qemu-img: ").unwrap_or(said).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_release_says_is_read() {
        let said = r#"{"snapshots": [{"icount": 0, "vm-clock-nsec": 0, "name": "s1", "date-sec": 5, "date-nsec": 6,
            "vm-clock-sec": 7, "id": "1", "vm-state-size": 8}], "virtual-size": 16777216, "filename": "/a",
            "format": "qcow2", "actual-size": 217088, "children": [], "full-backing-filename": "/b",
            "backing-filename": "b", "dirty-flag": false}"#;
        let info: ImageInfo = serde_json::from_str(said).unwrap();
        assert_eq!((info.virtual_size, info.backing_filename.as_deref()), (16 << 20, Some("b")));
        assert_eq!((info.full_backing_filename.as_deref(), info.backing_filename_format), (Some("/b"), None));
        let first = &info.snapshots[0];
        assert_eq!((first.name.as_str(), first.vm_state_size, first.vm_clock_sec), ("s1", 8, 7));
    }

    #[test]
    fn the_bitmaps_of_a_qcow2_image_are_read_and_those_of_no_other() {
        let info = |specific: &str| -> ImageInfo {
            let said = format!(
                r#"{{"virtual-size": 1, "filename": "/a", "format": "x", "format-specific": {specific}}}"#
            );
            serde_json::from_str(&said).unwrap()
        };
        let qcow2 = r#"{"type": "qcow2", "data": {"compat": "1.1", "bitmaps": [{"flags": ["auto"], "name": "b0", "granularity": 65536}]}}"#;
        let kept: Vec<_> = info(qcow2).bitmaps().cloned().collect();
        assert_eq!(kept, [BitmapInfo { name: "b0".into(), granularity: 65_536, flags: vec!["auto".into()] }]);
        assert_eq!(info(r#"{"type": "file", "data": {}}"#).bitmaps().next(), None);
    }

    #[test]
    fn a_lock_is_known_by_the_words_of_every_release() {
        let refused =
            |text: &str| ToolError::Refused { command: "info", file: "/a".into(), text: text.into() };
        for lock in [r#""write""#, r#"shared "write""#] {
            let text = format!(
                "Could not open '/a': Failed to get {lock} lock\nIs another process using the image [/a]?"
            );
            assert!(refused(&text).is_locked(), "{text}");
        }
        assert!(!refused("Could not open '/a': No such file or directory").is_locked());
    }

    #[test]
    fn a_path_that_could_be_an_option_is_refused() {
        for path in ["-c", "nbd:localhost", "a"] {
            assert!(matches!(absolute(path.into()), Err(ToolError::Relative(_))), "{path}");
        }
    }
}
