//! `qemu-img`, release by release, over the files of the simulated host.
//!
//! Pure: arguments and files in, and out what it says, how it ends, and the files changed. It opens images as QEMU does,
//! and what a running QEMU has locked is refused as the real lock refuses it. Relative paths start in the machine's folder.
//!
//! | command | with |
//! | --- | --- |
//! | `create` | `-f -F -b -u -q`, a size |
//! | `snapshot` | `-c -d -a -l -q` |
//! | `commit` | `-f -b -d -q` |
//! | `rebase` | `-u -f -F -b -q` |
//! | `info` | `--output=json -f --backing-chain -U` |
//! | `check` | `--output=json -f -U` |
//!
//! A name may be plain or `json:{"driver": ..., "backing": null, "file": {"driver": "file", "filename": ...}}`. Everything else,
//! usage errors above all, ends with "not simulated" and exit code 1, and changes nothing.
//!
//! Source: the real programs of the four releases; `tests/tests/qemu_img.rs` holds this one against them.

mod check;
mod commit;
mod create;
mod info;
mod json;
mod open;
mod options;
mod rebase;
mod size;
mod snapshot;

use std::time::Duration;

use camino::Utf8Path;

use crate::{
    Release,
    host::Host,
    qemu::block::{
        Graph,
        permissions::{Permissions, locked_by_reader},
    },
    world::Ran,
};
use options::Options;

/// What `qemu-img` is run in.
pub(crate) struct Surroundings<'w> {
    /// The files.
    pub(crate) host: &'w mut Host,
    /// What a running QEMU has open; none runs otherwise.
    pub(crate) graph: Option<&'w Graph>,
    /// Which release it is of.
    pub(crate) release: Release,
    /// The wall clock, since the Unix epoch.
    pub(crate) clock: Duration,
}

/// Why it ends before it has done what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Refusal {
    exit: i32,
    text: String,
}

impl Refusal {
    fn new(text: impl Into<String>) -> Self {
        Self { exit: 1, text: format!("{}\n", text.into()) }
    }

    fn not_simulated(what: &str) -> Self {
        Self::new(format!("not simulated: {what}"))
    }
}

/// What one run has said so far, and where it runs.
struct Run<'w> {
    around: Surroundings<'w>,
    stdout: String,
    stderr: String,
    takes: Duration,
}

impl Run<'_> {
    /// Why a file cannot be opened for this beside the QEMU that runs and whoever reads it, in two lines.
    fn lock_on(&self, named: &str, path: &Utf8Path, uses: (Permissions, Permissions)) -> Option<String> {
        let Surroundings { host, graph, release, .. } = &self.around;
        let lock = match graph {
            Some(graph) => graph.lock_on(path, uses, host, *release),
            None => locked_by_reader(host, path, uses),
        }?;
        Some(format!("{lock}\nIs another process using the image [{named}]?"))
    }
}

/// Runs it.
pub(crate) fn run(arguments: &[String], around: Surroundings<'_>) -> Ran {
    const STARTS: Duration = Duration::from_millis(5);
    let mut run = Run { around, stdout: String::new(), stderr: String::new(), takes: STARTS };
    let mut words = arguments.iter().map(String::as_str);
    let command = words.next().unwrap_or_default();
    let options = |valued: &[&str], flags: &[&str]| Options::read(words.clone(), valued, flags);
    let done = match command {
        "create" => {
            options(&["-f", "-F", "-b"], &["-u", "-q"]).and_then(|given| create::create(&mut run, &given))
        }
        "snapshot" => {
            options(&["-c", "-d", "-a"], &["-l", "-q"]).and_then(|given| snapshot::snapshot(&mut run, &given))
        }
        "commit" => options(&["-f", "-b"], &["-d", "-q"]).and_then(|given| commit::commit(&mut run, &given)),
        "rebase" => {
            options(&["-f", "-F", "-b"], &["-u", "-q"]).and_then(|given| rebase::rebase(&mut run, &given))
        }
        "info" => {
            let flags = ["--backing-chain", "-U"];
            options(&["-f", "--output"], &flags).and_then(|given| info::info(&mut run, &given))
        }
        "check" => options(&["-f", "--output"], &["-U"]).and_then(|given| check::check(&mut run, &given)),
        other => Err(Refusal::not_simulated(&format!("`qemu-img {other}`"))),
    };
    let exit = done.err().map_or(0, |refusal| {
        run.stderr += &format!("qemu-img: {}", refusal.text);
        refusal.exit
    });
    Ran { exit, stdout: run.stdout, stderr: run.stderr, takes: run.takes }
}
