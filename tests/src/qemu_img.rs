//! `qemu-img` run in two folders that hold the same: a real one, and that of the simulated host.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "runs real programs and reads real files"
)]

pub mod grammar;
pub mod story;

use std::{collections::BTreeMap, error::Error, fs, process::Command, time::Duration};

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe_sim::{
    World,
    host::{Host, Image},
    machine::Format,
};
use serde_json::Value;

type Failed = Box<dyn Error>;

/// How much each block of the simulator is, in bytes.
const CLUSTER: u64 = 65536;

/// What stands for the folder in arguments and in what is said.
pub const DIR: &str = "$DIR";

/// A real folder with the `qemu-img` that works there, and a simulated host.
#[derive(Debug)]
pub struct Pair {
    /// The real program, and its kin beside it.
    pub program: Utf8PathBuf,
    /// The real folder.
    pub folder: Utf8PathBuf,
    /// The simulated host.
    pub world: World,
    now: Duration,
}

/// What one `qemu-img` said, told so that it is the same in every folder and at any time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    exit: Option<i32>,
    stdout: String,
    stderr: String,
}

/// What came of a command in both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Both said the same, and hold the same.
    Same,
    /// The simulator does not know this, said so, and the real one was not asked.
    NotSimulated,
    /// What was different.
    Different(String),
}

impl Pair {
    /// A real folder, and a simulated world whose folder holds the same.
    pub fn new(program: &Utf8Path, folder: &Utf8Path, world: World) -> Self {
        Self { program: program.to_owned(), folder: folder.to_owned(), world, now: Duration::from_secs(1) }
    }

    /// Runs `qemu-img` in both.
    ///
    /// # Errors
    /// When the real one cannot be run or its folder cannot be read.
    pub fn run(&mut self, arguments: &[&str]) -> Result<Outcome, Failed> {
        self.now += Duration::from_secs(1);
        let simulated: Vec<_> = arguments.iter().map(|word| word.replace(DIR, "/images")).collect();
        let before = self.world.host().clone();
        let ran =
            self.world.run_program(self.now, "qemu-img".into(), &simulated, b"").ok_or("no qemu-img")?;
        if ran.stderr.contains("not simulated: ") {
            let is_unchanged = *self.world.host() == before;
            return if is_unchanged {
                Ok(Outcome::NotSimulated)
            } else {
                Err("it changed what it refused".into())
            };
        }
        let simulated = said(Some(ran.exit), &ran.stdout, &ran.stderr, "/images");
        let real = arguments.iter().map(|word| word.replace(DIR, self.folder.as_str()));
        let output = Command::new(&self.program).args(real).current_dir(&self.folder).output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let real =
            said(output.status.code(), &text(&output.stdout), &text(&output.stderr), self.folder.as_str());
        if simulated != real {
            return Ok(Outcome::Different(format!("simulated: {simulated:?}\nreal:      {real:?}")));
        }
        self.files()
    }

    /// Writes to blocks of an image in both; what is behind it is opened, and has to be there.
    ///
    /// # Errors
    /// When the real one cannot be written.
    pub fn write(&mut self, name: &str, blocks: std::ops::Range<u64>, pattern: u8) -> Result<(), Failed> {
        let Some(image) = self.world.host_mut().image_mut(name.into()) else { return Ok(()) };
        let format = if image.as_qcow2().is_some() { Format::Qcow2 } else { Format::Raw };
        let size = image.virtual_size() / CLUSTER;
        let blocks = blocks.start.min(size)..blocks.end.min(size);
        if blocks.is_empty() {
            return Ok(());
        }
        let (start, length) = (blocks.start * CLUSTER, (blocks.end - blocks.start) * CLUSTER);
        blocks.for_each(|block| image.write(block, pattern.into()));
        let write = format!("write -P {pattern} {start} {length}");
        // No backing file is needed, since whole clusters are written.
        let described = match format {
            Format::Qcow2 => format!(
                r#"json:{{"driver":"qcow2","backing":null,"file":{{"driver":"file","filename":"{}/{name}"}}}}"#,
                self.folder
            ),
            Format::Raw => format!(
                r#"json:{{"driver":"raw","file":{{"driver":"file","filename":"{}/{name}"}}}}"#,
                self.folder
            ),
        };
        let io = self.program.with_file_name("qemu-io");
        let output = Command::new(io).args(["-c", &write, &described]).output()?;
        if output.status.success() { Ok(()) } else { Err(String::from_utf8(output.stderr)?.into()) }
    }

    /// Whether both folders hold the same files, as long in both.
    fn files(&self) -> Result<Outcome, Failed> {
        let host: &Host = self.world.host();
        let simulated: BTreeMap<_, _> =
            host.files().map(|(path, image)| (name_of(path), image.file_length())).collect();
        let mut real = BTreeMap::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            real.insert(entry.file_name().to_string_lossy().into_owned(), entry.metadata()?.len());
        }
        Ok(if simulated == real {
            Outcome::Same
        } else {
            Outcome::Different(format!("files, simulated: {simulated:?}\nreal: {real:?}"))
        })
    }

    /// Compares what all images hold, each by itself.
    ///
    /// # Errors
    /// When a real one cannot be read.
    pub fn contents(&self) -> Result<Outcome, Failed> {
        for (path, image) in self.world.host().files() {
            let real = clusters(&self.program, &self.folder.join(name_of(path)), image)?;
            if *image.blocks() != real {
                let text = format!("{path} holds {:?}, and the real one {real:?}", image.blocks());
                return Ok(Outcome::Different(text));
            }
        }
        Ok(Outcome::Same)
    }
}

fn name_of(path: &Utf8Path) -> String {
    path.file_name().unwrap_or_default().to_owned()
}

fn said(exit: Option<i32>, stdout: &str, stderr: &str, folder: &str) -> Said {
    Said { exit, stdout: timeless(&stdout.replace(folder, DIR)), stderr: stderr.replace(folder, DIR) }
}

/// Without dates, and without what the host's file system decides: how much of its disk a file takes.
fn timeless(text: &str) -> String {
    let varies = ["\"date-sec\":", "\"date-nsec\":", "\"actual-size\":"];
    let line = |line: &str| match varies.iter().find(|varies| line.trim_start().starts_with(**varies)) {
        Some(varies) => format!("{varies} ...\n"),
        None => format!("{}\n", dateless(line)),
    };
    text.lines().map(line).collect()
}

/// A line without the date of a snapshot in it: `2026-01-01 00:00:00`.
fn dateless(line: &str) -> String {
    let shape = |window: &[u8]| {
        window.iter().zip(b"dddd-dd-dd dd:dd:dd").all(|(byte, shape)| match shape {
            b'd' => byte.is_ascii_digit(),
            exact => byte == exact,
        })
    };
    match line.as_bytes().windows(19).position(shape) {
        Some(at) => format!("{}<date>{}", &line[..at], &line[at + 19..]),
        None => line.to_owned(),
    }
}

/// The clusters that hold data in a real image itself, and their first byte.
fn clusters(program: &Utf8Path, path: &Utf8Path, image: &Image) -> Result<BTreeMap<u64, u64>, Failed> {
    let raw = image.as_qcow2().is_none();
    let described = if raw {
        format!(r#"json:{{"driver":"raw","file":{{"driver":"file","filename":"{path}"}}}}"#)
    } else {
        format!(r#"json:{{"driver":"qcow2","backing":null,"file":{{"driver":"file","filename":"{path}"}}}}"#)
    };
    let copy = tempfile::NamedTempFile::new()?;
    let copied = copy.path().to_str().ok_or("a path that is no text")?;
    let ask = |arguments: &[&str]| -> Result<Vec<u8>, Failed> {
        let output = Command::new(program).args(arguments).output()?;
        if output.status.success() {
            Ok(output.stdout)
        } else {
            Err(String::from_utf8(output.stderr)?.into())
        }
    };
    let map: Value = serde_json::from_slice(&ask(&["map", "--output=json", &described])?)?;
    ask(&["convert", "-O", "raw", &described, copied])?;
    let bytes = fs::read(copied)?;
    let mut clusters = BTreeMap::new();
    for extent in map.as_array().ok_or("no map")? {
        let [start, length] = ["start", "length"].map(|name| extent[name].as_u64().unwrap_or_default());
        if extent["data"] == true {
            for cluster in start / CLUSTER..(start + length).div_ceil(CLUSTER) {
                clusters.insert(cluster, u64::from(bytes[usize::try_from(cluster * CLUSTER)?]));
            }
        }
    }
    // A file system may show more of a raw file as data than was written.
    clusters.retain(|_, byte| *byte != 0);
    Ok(clusters)
}
