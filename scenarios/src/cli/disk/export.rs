//! `disk export`: what a snapshot holds, as NBD, until the time is up or a signal comes. Nothing is left behind then: a program that
//! serves is ended, what QEMU serves too, and the socket removed. The program ends also with a command that is killed ([`super::tethered`]).

use std::{convert::Infallible, future::ready, time::Duration};

use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, ValueEnum};
use freezeframe_driver::{
    disk::{
        By, DiskError, QemuDisks, Taker,
        export::{Export, Readable, live::Served, uri},
    },
    env::{Ended, Endpoint, Env as _, FileKind, HostCommand, tokio::TokioEnv},
    name::SnapshotName,
    qemu_img::QemuImg,
    race::{First, race},
};
use serde_json::json;

use super::{
    WITHIN,
    tethered::{NOT_STARTED, tethered},
    which::NamedArgs,
};
use crate::cli::{CliError, interrupt::Interrupt, output, snapshot::operate::Gone, told::Told};

/// How often it is looked whether the program listens by now.
const PAUSE: Duration = Duration::from_millis(50);

/// As good as for ever.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 86_400);

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    pub(super) named: NamedArgs,
    /// Where to listen; nothing may be there
    #[arg(long, value_name = "SOCK")]
    socket: Utf8PathBuf,
    /// End after so long [default: not before a signal comes]
    #[arg(long = "for", value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    seconds: Option<u32>,
    /// Who serves [default: QEMU itself where --qmp says how it is reached, a program of its own otherwise]
    #[arg(long, value_enum, value_name = "WHO")]
    by: Option<Server>,
    /// The program that serves [default: qemu-storage-daemon]
    #[arg(long, value_name = "PROGRAM")]
    storage_daemon: Option<Utf8PathBuf>,
    /// The program that serves what is inside an image [default: qemu-nbd]
    #[arg(long, value_name = "PROGRAM")]
    qemu_nbd: Option<Utf8PathBuf>,
    /// The program that reads images' headers [default: qemu-img]
    #[arg(long, value_name = "PROGRAM")]
    qemu_img: Option<Utf8PathBuf>,
}

/// Who serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Server {
    /// The QEMU of the machine, which has the image open below its overlay
    Qemu,
    /// A program of its own
    Daemon,
}

/// Serves it.
pub(super) async fn export(
    arguments: &ExportArgs,
    interrupt: &Interrupt,
    json: bool,
) -> Result<Told, CliError> {
    let ExportArgs { named, by, .. } = arguments;
    let socket = &arguments.socket()?;
    // QEMU may serve there for one that was killed, and ends that first.
    if !named.which.has_monitor() || *by == Some(Server::Daemon) {
        check_free(socket).await?;
    }
    let name = SnapshotName::new(&*named.name).map_err(DiskError::from)?;
    match (named.which.by()?, by) {
        (By::Storage(_), Some(Server::Qemu)) => {
            let why = "QEMU has no snapshot of a storage open: a program of its own serves that";
            Err(CliError::Usage(why.to_owned()))
        }
        (By::Storage(_), _) => {
            named.which.check_no_qemu()?;
            let readable = interrupt.or(named.which.storage(interrupt.env())?.readable(&name)).await??;
            by_program(&readable, arguments, interrupt, json).await
        }
        (By::Qemu, by) => {
            let operate = named.which.machine(None, WITHIN)?;
            let machine = interrupt
                .or(operate.machine(interrupt.env(), operate.machine.domain()?, Gone::Fails))
                .await??;
            let disks = QemuDisks::of(&machine, &named.which.disks)?;
            let readable = interrupt.or(disks.readable(&name)).await??;
            let has_monitor = named.which.has_monitor();
            let by_itself = match by {
                Some(Server::Qemu) if !has_monitor => {
                    return Err(CliError::Usage("--by qemu needs --qmp".to_owned()));
                }
                Some(server) => *server == Server::Qemu,
                // What is inside an image QEMU cannot serve.
                None => has_monitor && readable.iter().all(|disk| disk.tag.is_none()),
            };
            // The machine is held as long as it is served: nobody merges into what a backup reads.
            if !by_itself {
                return by_program(&readable, arguments, interrupt, json).await;
            }
            arguments.check_no_program()?;
            let served = interrupt.to_the_end(Served::begin(&machine, socket, &readable)).await?;
            by_qemu(served, &readable, arguments, interrupt, json).await
        }
    }
}

/// Whether nothing is where it is to listen.
async fn check_free(socket: &Utf8Path) -> Result<(), CliError> {
    match TokioEnv::new().file_kind(socket).await {
        Ok(FileKind::Absent) => Ok(()),
        _ => Err(CliError::Usage(format!("{socket} is there already, or cannot be looked at"))),
    }
}

impl ExportArgs {
    /// Whether a program is named where QEMU serves.
    fn check_no_program(&self) -> Result<(), CliError> {
        match [&self.storage_daemon, &self.qemu_nbd, &self.qemu_img].into_iter().flatten().next() {
            None => Ok(()),
            Some(program) => Err(CliError::Usage(format!(
                "QEMU itself serves it, and `{program}` would not be used: leave that out, or say --by daemon"
            ))),
        }
    }

    fn within(&self) -> Duration {
        self.seconds.map_or(FOR_EVER, |seconds| Duration::from_secs(seconds.into()))
    }

    /// Where it listens, for everybody: QEMU and a backup program are somewhere else.
    fn socket(&self) -> Result<Utf8PathBuf, CliError> {
        let absolute = camino::absolute_utf8(&self.socket);
        absolute.map_err(|error| CliError::Usage(format!("{}: {error}", self.socket)))
    }

    /// What is said once it is served.
    fn begun(socket: &Utf8Path, readable: &[Readable], json: bool) -> String {
        let uris = readable.iter().map(|disk| (&disk.target, uri(&disk.target, socket)));
        match json {
            true => {
                let exports: Vec<_> =
                    uris.map(|(target, uri)| json!({ "disk": target, "uri": uri })).collect();
                format!("{:#}\n", json!({ "exports": exports }))
            }
            false => uris.map(|(target, uri)| format!("{target} is read at {uri}\n")).collect(),
        }
    }
}

/// Lets QEMU serve until it is over, and has it end that.
async fn by_qemu(
    mut served: Served<'_, TokioEnv>,
    readable: &[Readable],
    arguments: &ExportArgs,
    interrupt: &Interrupt,
    json: bool,
) -> Result<Told, CliError> {
    let over = match output::print(&ExportArgs::begun(served.socket(), readable, json)) {
        Ok(()) => {
            let deadline = TokioEnv::new().now() + arguments.within();
            interrupt.or(served.until(deadline)).await
        }
        Err(error) => Err(error),
    };
    served.end().await?;
    over??;
    Ok(Told::new("", json!({})))
}

/// Lets a program serve until it is over, which ends it.
async fn by_program(
    readable: &[Readable],
    arguments: &ExportArgs,
    interrupt: &Interrupt,
    json: bool,
) -> Result<Told, CliError> {
    let env = interrupt.env();
    let ExportArgs { storage_daemon, qemu_nbd, qemu_img, .. } = arguments;
    let socket = &arguments.socket()?;
    check_free(socket).await?;
    let or = |said: &Option<Utf8PathBuf>, default: &str| said.clone().unwrap_or_else(|| default.into());
    let (daemon, nbd) = (or(storage_daemon, "qemu-storage-daemon"), or(qemu_nbd, "qemu-nbd"));
    let export = Export { daemon, nbd, socket: socket.clone(), within: arguments.within() };
    let tool = QemuImg { program: or(qemu_img, "qemu-img"), ..QemuImg::new(env.clone()) };
    let command = interrupt.or(export.command(&tool, readable)).await??;
    let told = async {
        while env.connect(&Endpoint::Unix(socket.clone())).await.is_err() {
            env.sleep_until(env.now() + PAUSE).await;
        }
        output::print(&ExportArgs::begun(socket, readable, json))?;
        std::future::pending::<Result<Infallible, CliError>>().await
    };
    let target = readable.first().map(|disk| disk.target.clone()).unwrap_or_default();
    let refused = |why: String| CliError::from(DiskError::NotExported { target, why });
    let program = &command.program;
    let serving = match tethered(&command) {
        Ok(serving) => HostCommand { gives_way: true, ..serving },
        Err(error) => return Err(refused(format!("cannot run `{program}`: {error}"))),
    };
    let served = race(told, env.run(&serving)).await;
    // One that was killed leaves it.
    let _ = env.remove_file(socket).await;
    // A signal ends the program alone, which was waited for.
    match interrupt.or(ready(served)).await? {
        First::Left(Err(error)) => Err(error),
        First::Left(Ok(never)) => match never {},
        First::Right(Err(error)) => Err(refused(format!("cannot run `{program}`: {error}"))),
        First::Right(Ok(ran)) if ran.ended == Ended::TooLate => Ok(Told::new("", json!({}))),
        First::Right(Ok(ran)) if ran.ended == Ended::Exited(NOT_STARTED.into()) => Err(refused(ran.words())),
        First::Right(Ok(ran)) => {
            let (how, words) = (ran.ended, ran.words());
            Err(refused(format!("`{program}` has ended by itself, {how}: {words}{}", hint(&words))))
        }
    }
}

/// What to do about what a program says of itself.
fn hint(words: &str) -> &'static str {
    let lacks_rbd = words.contains("rbd") && (words.contains("nknown") || words.contains("not supported"));
    if lacks_rbd { "; it cannot read RBD images: in Debian that is the package qemu-block-extra" } else { "" }
}
