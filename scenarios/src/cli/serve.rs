//! `freezeframe serve`: a simulated machine on real sockets.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    fmt::Display,
    io::{self, Write as _},
    num::NonZeroUsize,
    pin::pin,
    process::ExitCode,
    rc::Rc,
};

use camino::Utf8PathBuf;
use clap::{Args, ValueEnum};
use freezeframe_driver::race::race;
use freezeframe_sim::Release;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    runtime::Builder,
    task::{JoinSet, LocalSet},
};

use super::{CliError, interrupt::Interrupt, output::complain};
use crate::serve::{
    Missed, Served, Service, Speed, Termination,
    address::{Address, BadAddress, numbered},
    rest,
    subject::Subject,
};

#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// What is served: a scenario's machine and faults, a TOML file with `[machine]` alone, or a file of QEMU's arguments
    #[arg(value_name = "SCENARIO|MACHINE")]
    subject: Utf8PathBuf,
    /// Which release of QEMU [default: the newest that the scenario is for]
    #[arg(long, value_name = "R")]
    release: Option<Release>,
    /// Where a monitor listens: unix:PATH or tcp:HOST:PORT; given again, a further monitor
    #[arg(long, value_name = "ADDRESS", required = true)]
    qmp: Vec<Address>,
    /// Where the guest agent's port listens; a guest without an agent gets one then
    #[arg(long, value_name = "ADDRESS")]
    agent: Option<Address>,
    /// Let this seed, plus the machine's number, choose among everything that could go otherwise
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// How fast the machine's time passes
    #[arg(long, value_enum, default_value = "1x")]
    speed: SpeedArg,
    /// Write the transcript of the first monitor to this file, as it goes
    #[arg(long, value_name = "FILE")]
    transcript: Option<Utf8PathBuf>,
    /// Keep the machine's images in this folder, as real files without data
    #[arg(long, value_name = "DIR")]
    images: Option<Utf8PathBuf>,
    // Braces around the n would be taken for the end of a line.
    /// Serve so many machines; an `n` in braces in a path is the machine's number
    #[arg(long, value_name = "N", default_value = "1")]
    count: NonZeroUsize,
    /// Allow TCP addresses that other hosts can reach: whoever connects is in command of the machine
    #[arg(long)]
    listen_anywhere: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SpeedArg {
    /// As the host's time
    #[value(name = "1x")]
    Real,
    /// Nobody waits: time is set forward to whatever happens next
    Max,
}

/// Serves until every machine has ended, then 0, or 1 if a fault never struck; or until a signal comes, which the machines
/// tell of, then 128 and its number.
pub(super) fn serve(arguments: &ServeArgs) -> Result<ExitCode, CliError> {
    let mut addresses = arguments.qmp.iter().chain(&arguments.agent);
    let foreign = addresses.find(|address| !address.is_local() && !arguments.listen_anywhere);
    if let Some(address) = foreign {
        let why = format!("{address} can be reached from other hosts; `--listen-anywhere` allows it");
        return Err(CliError::Usage(why));
    }
    let subject = Subject::load(&arguments.subject)?;
    let release = arguments.release.or(subject.releases.last().copied());
    let Some(release) = release.filter(|release| subject.releases.contains(release)) else {
        return Err(CliError::Usage(format!("{} is not for that release", arguments.subject)));
    };
    let count = arguments.count.get();
    let services: Result<Vec<_>, _> = (0..count).map(|number| arguments.service(number, release)).collect();
    let services = services?;
    check_addresses(&services)?;
    allow_many_sockets().map_err(CliError::Runtime)?;
    let subject = Rc::new(subject);
    let interrupt = Interrupt::listen().map_err(CliError::Runtime)?;
    let runtime = Builder::new_current_thread().enable_all().build().map_err(CliError::Runtime)?;
    let (faults, terminations) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
    let served = async {
        let mut machines = Vec::new();
        for service in &services {
            machines.push(Served::open(subject.clone(), service).await?);
        }
        *faults.borrow_mut() = machines.iter().map(Served::missed).collect();
        *terminations.borrow_mut() = machines.iter().map(Served::termination).collect();
        say(release, &machines).map_err(CliError::Runtime)?;
        run(machines).await
    };
    // A signal goes to the machines, which tell of it as real ones do; then they are dropped, and with them their sockets.
    let until_signalled = async {
        let mut served = pin!(served);
        let ended = interrupt.or(served.as_mut()).await;
        if ended.is_err() {
            terminations.borrow().iter().for_each(Termination::terminate);
            race(served, rest()).await;
        }
        ended
    };
    let ended = LocalSet::new().block_on(&runtime, until_signalled);
    let missed: Vec<String> = faults.take().iter().flat_map(Missed::told).collect();
    for missed in &missed {
        complain(missed);
    }
    ended??;
    Ok(if missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

impl ServeArgs {
    /// How one of the machines is served.
    fn service(&self, number: usize, release: Release) -> Result<Service, CliError> {
        let count = self.count.get();
        let wrong = |option: &str, value: &dyn Display, why: BadAddress| {
            CliError::Usage(format!("`{option} {value}`: {why}"))
        };
        let address = |option, address: &Address| {
            address.of_machine(number, count).map_err(|why| wrong(option, address, why))
        };
        let monitors: Result<_, _> = self.qmp.iter().map(|qmp| address("--qmp", qmp)).collect();
        let path = |option, path: &Option<Utf8PathBuf>| {
            let numbered = |path| numbered(path, number, count).map_err(|why| wrong(option, path, why));
            path.as_ref().map(numbered).transpose()
        };
        Ok(Service {
            release,
            speed: match self.speed {
                SpeedArg::Real => Speed::Real,
                SpeedArg::Max => Speed::Max,
            },
            monitors: monitors?,
            agent: self.agent.as_ref().map(|agent| address("--agent", agent)).transpose()?,
            seed: self.seed.map(|seed| seed.wrapping_add(number as u64)),
            transcript: path("--transcript", &self.transcript)?,
            images: path("--images", &self.images)?,
        })
    }
}

/// Nobody can listen where somebody else of the same command does.
fn check_addresses(services: &[Service]) -> Result<(), CliError> {
    let mut taken = BTreeSet::new();
    let addresses = services.iter().flat_map(|service| service.monitors.iter().chain(&service.agent));
    let any_port = |address: &&Address| matches!(address, Address::Tcp(address) if address.port() == 0);
    let mut fixed = addresses.filter(|address| !any_port(address));
    match fixed.find(|address| !taken.insert(address.to_string())) {
        Some(twice) => Err(CliError::Usage(format!("{twice} is given twice: each socket needs its own"))),
        None => Ok(()),
    }
}

/// Says where the machines listen, each with its agent last; with the last line, all do.
fn say(release: Release, machines: &[Served]) -> io::Result<()> {
    let mut output = io::stdout().lock();
    for machine in machines {
        for address in machine.addresses() {
            writeln!(output, "listening {address}")?;
        }
    }
    writeln!(output, "ready: {} on simulated QEMU {release}", machines_in_words(machines.len()))?;
    output.flush()
}

fn machines_in_words(count: usize) -> String {
    if count == 1 { "1 machine".to_owned() } else { format!("{count} machines") }
}

async fn run(machines: Vec<Served>) -> Result<(), CliError> {
    let mut running = JoinSet::new();
    for machine in machines {
        running.spawn_local(machine.run());
    }
    while let Some(ended) = running.join_next().await {
        ended.map_err(|error| CliError::Runtime(io::Error::other(error)))??;
    }
    Ok(())
}

/// Each socket and each connection is a file descriptor: as many as the system grants.
fn allow_many_sockets() -> io::Result<()> {
    let granted = getrlimit(Resource::Nofile).maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current: granted, maximum: granted })?)
}
