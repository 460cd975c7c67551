//! `disk export`: what a snapshot holds, as NBD, until the time is up or a signal comes. Nothing is left behind then: the daemon is
//! killed, and its socket removed.

use std::time::Duration;

use camino::Utf8PathBuf;
use clap::Args;
use freezeframe_driver::{
    disk::{
        By, DiskError, QemuDisks,
        export::{Export, Readable},
    },
    env::{Ended, Endpoint, Env as _, FileKind, tokio::TokioEnv},
    name::SnapshotName,
    qemu_img::QemuImg,
    race::{First, race},
};
use serde_json::json;

use super::{WITHIN, which::NamedArgs};
use crate::cli::{CliError, interrupt::Interrupt, output, snapshot::operate::Gone, told::Told};

/// How often it is looked whether the daemon listens by now.
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
    /// The program that serves
    #[arg(long, value_name = "PROGRAM", default_value = "qemu-storage-daemon")]
    storage_daemon: Utf8PathBuf,
    /// The program that reads images' headers
    #[arg(long, value_name = "PROGRAM", default_value = "qemu-img")]
    qemu_img: Utf8PathBuf,
}

/// Serves it.
pub(super) async fn export(
    arguments: &ExportArgs,
    interrupt: &Interrupt,
    json: bool,
) -> Result<Told, CliError> {
    let ExportArgs { named, socket, seconds, storage_daemon, qemu_img } = arguments;
    let env = TokioEnv::new();
    let first = || named.which.disks.first().cloned().unwrap_or_default();
    let refused = |why: String| CliError::from(DiskError::NotExported { target: first(), why });
    if !matches!(env.file_kind(socket).await, Ok(FileKind::Absent)) {
        return Err(CliError::Usage(format!("{socket} is there already, or cannot be looked at")));
    }
    let readable = interrupt.or(readable(named)).await??;
    let within = seconds.map_or(FOR_EVER, |seconds| Duration::from_secs(seconds.into()));
    let export = Export { program: storage_daemon.clone(), socket: socket.clone(), within };
    let tool = QemuImg { program: qemu_img.clone(), ..QemuImg::new(env.clone()) };
    let command = interrupt.or(export.command(&tool, &readable)).await??;
    let told = async {
        while env.connect(&Endpoint::Unix(socket.clone())).await.is_err() {
            env.sleep_until(env.now() + PAUSE).await;
        }
        output::print(&begun(&export, &readable, json))?;
        std::future::pending::<Result<std::convert::Infallible, CliError>>().await
    };
    let served = interrupt.or(race(told, env.run(&command))).await;
    // One that was killed leaves it.
    let _ = env.remove_file(socket).await;
    match served? {
        First::Left(Err(error)) => Err(error),
        First::Left(Ok(never)) => match never {},
        First::Right(Err(error)) => Err(refused(format!("cannot run `{storage_daemon}`: {error}"))),
        First::Right(Ok(ran)) if ran.ended == Ended::TooLate => Ok(Told::new("", json!({}))),
        First::Right(Ok(ran)) => {
            let (how, words) = (ran.ended, ran.words());
            Err(refused(format!("`{storage_daemon}` has ended by itself, {how}: {words}")))
        }
    }
}

async fn readable(named: &NamedArgs) -> Result<Vec<Readable>, CliError> {
    let name = SnapshotName::new(&*named.name).map_err(DiskError::from)?;
    Ok(match named.which.by()? {
        By::Storage(_) => named.which.storage()?.readable(&name).await?,
        By::Qemu => {
            let operate = named.which.machine(None, WITHIN)?;
            let machine = operate.machine(operate.machine.domain()?, Gone::Fails).await?;
            QemuDisks::of(&machine, &named.which.disks)?.readable(&name)?
        }
    })
}

/// What is said once it is served.
fn begun(export: &Export, readable: &[Readable], json: bool) -> String {
    let uris = readable.iter().map(|disk| (&disk.target, export.uri(&disk.target)));
    match json {
        true => {
            let exports: Vec<_> = uris.map(|(target, uri)| json!({ "disk": target, "uri": uri })).collect();
            format!("{:#}\n", json!({ "exports": exports }))
        }
        false => uris.map(|(target, uri)| format!("{target} is read at {uri}\n")).collect(),
    }
}
