//! How long a guest stands frozen for a snapshot of two disks, and how long the whole takes: this driver's command and `virsh`,
//! turn by turn in the same run, on the same machine.
//!
//! A libvirt of the benchmark's own starts the guest of `ci/build-guest.sh` anew for every snapshot, for both; it writes to both
//! disks all the time. Between whoever speaks to the agent and QEMU stands a witness, which passes bytes on and takes the
//! time: the guest is frozen from the reply to the freeze to the request to thaw. The whole is the wall clock of the command,
//! from its start to its end. Medians of [`ROUNDS`], by turns, so that what else the host does strikes both. Without libvirt,
//! QEMU or guest it says so and measures nothing. It fails above [`AT_MOST`].
//!
//! The agent's port serves one at a time: of the machine for this driver libvirt does not know that there is an agent.
#![allow(missing_docs, reason = "a benchmark")]
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "measures real programs in real time, and says so"
)]

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    process::{Command, ExitCode},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe::world::guest::Guest;
use freezeframe_tests::{
    bench::{self, Failed, Who},
    libvirt::Libvirt,
    real,
};

/// How often each is done by each.
const ROUNDS: usize = 7;

/// How many times as long as with `virsh` the guest may stand frozen at most, and the whole take.
const AT_MOST: (f64, f64) = (0.1, 1.0);

/// How long the guest gets until its agent answers.
const BOOTS_WITHIN: Duration = Duration::from_secs(120);

/// The options of `snapshot-create-as` that both commands take, `DIR` being a new folder.
const OPTIONS: [&str; 7] = [
    "--disk-only",
    "--atomic",
    "--quiesce",
    "--diskspec",
    "vda,file=DIR/a.s1",
    "--diskspec",
    "vdb,file=DIR/b.s1",
];

/// How long the guest writes, from when its agent first answers, before it is snapshotted: whoever were faster to begin would freeze a
/// guest that still boots.
const SETTLES: Duration = Duration::from_secs(1);

/// One snapshot: how long the guest was frozen, and the whole.
#[derive(Clone, Copy)]
struct Took {
    frozen: Duration,
    whole: Duration,
}

fn main() -> ExitCode {
    // A test runner that looks for tests finds none.
    if std::env::args().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    let (guest, libvirt) = match surroundings() {
        Ok(found) => found,
        Err(why) => {
            println!("skipped: {why}");
            return ExitCode::SUCCESS;
        }
    };
    println!("QEMU: {}, guest: {}", libvirt.qemu, guest.folder());
    match bench::by_turns(ROUNDS, |who| snapshot(&libvirt, &guest, who)) {
        Ok(turns) => {
            let frozen = turns.tell("guest stands frozen", |took| Some(took.frozen));
            let whole = turns.tell("whole", |took| Some(took.whole));
            // What was not measured holds no limit either.
            let holds = |ratio: Option<f64>, most: f64| ratio.is_some_and(|ratio| ratio <= most);
            if holds(frozen, AT_MOST.0) && holds(whole, AT_MOST.1) {
                return ExitCode::SUCCESS;
            }
            println!("more than {AT_MOST:?} times as long as virsh");
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// A guest and a libvirt; if there are none, why not.
fn surroundings() -> Result<(Guest, Libvirt), String> {
    let guest = real::guest().map_err(|error| error.to_string())?;
    let guest = guest.ok_or("no guest here; `ci/build-guest.sh` builds one")?;
    let libvirt = Libvirt::start().map_err(|why| format!("no real libvirt here: {why}"))?;
    Ok((guest, libvirt))
}

/// A machine that has just been started, one snapshot of it, and the machine's end.
fn snapshot(libvirt: &Libvirt, guest: &Guest, who: Who) -> Result<Took, Failed> {
    let folder = bench::folder(libvirt)?;
    let result =
        start(libvirt, guest, &folder, who).and_then(|witness| taken(libvirt, &folder, who, &witness));
    let ended = bench::end(libvirt);
    let took = result?;
    ended?;
    Ok(took)
}

fn start(libvirt: &Libvirt, guest: &Guest, folder: &Utf8Path, who: Who) -> Result<Witness, Failed> {
    bench::start(libvirt, &machine(libvirt.qemu.as_str(), guest, folder, who))?;
    let witness = Witness::between(&folder.join("agent"))?;
    if who == Who::Virsh {
        let begun = Instant::now();
        let ping = ["qemu-agent-command", "vm", "{\"execute\":\"guest-ping\"}"];
        while let Err(error) = libvirt.virsh(&ping) {
            if begun.elapsed() > BOOTS_WITHIN {
                return Err(error);
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
    Ok(witness)
}

fn taken(libvirt: &Libvirt, folder: &Utf8Path, who: Who, witness: &Witness) -> Result<Took, Failed> {
    let options = bench::options(&OPTIONS, folder);
    let options: Vec<_> = options.iter().map(String::as_str).collect();
    let domain = libvirt.file("live.xml", &libvirt.virsh(&["dumpxml", "vm"])?)?;
    thread::sleep((witness.agent_there + SETTLES).saturating_duration_since(Instant::now()));
    let file = |name: &str| folder.join(name).into_string();
    let (monitor, agent, state) = (file("driver"), file("agent"), bench::state(libvirt));
    let begun = Instant::now();
    match who {
        Who::Virsh => drop(libvirt.virsh(&[&["snapshot-create-as", "vm", "s1"], &options[..]].concat())?),
        Who::Driver => {
            let ran = Command::new(env!("CARGO_BIN_EXE_freezeframe-command"))
                .args(["snapshot", "create-as", "--name", "s1", "--domain", domain.as_str()])
                .args(["--qmp", &monitor, "--state", state.as_str(), "--agent", &agent])
                .args(options)
                .output()?;
            if !ran.status.success() {
                return Err(String::from_utf8_lossy(&ran.stderr).into());
            }
        }
    }
    let whole = begun.elapsed();
    let frozen = witness.frozen().ok_or("nobody froze the guest, or nobody thawed it")?;
    Ok(Took { frozen, whole })
}

/// Stands between QEMU's socket of the agent's port and its client, and takes the time.
struct Witness {
    /// When the agent first answered.
    agent_there: Instant,
    seen: Arc<Mutex<Seen>>,
}

/// What it has seen.
#[derive(Default)]
struct Seen {
    /// A freeze was asked for and is not answered.
    freezing: bool,
    frozen_at: Option<Instant>,
    thaw_at: Option<Instant>,
}

impl Witness {
    /// Takes the place of QEMU's socket, once the agent behind it answers.
    fn between(socket: &Utf8Path) -> Result<Self, Failed> {
        let far = Utf8PathBuf::from(format!("{socket}.qemu"));
        fs::rename(socket, &far)?;
        let listener = UnixListener::bind(socket)?;
        let mut agent = BufReader::new(UnixStream::connect(&far)?);
        agent.get_ref().set_read_timeout(Some(BOOTS_WITHIN))?;
        agent.get_mut().write_all(b"{\"execute\":\"guest-ping\"}\n")?;
        agent.read_line(&mut String::new())?;
        drop(agent);
        let seen = Arc::<Mutex<Seen>>::default();
        let witness = Self { agent_there: Instant::now(), seen: seen.clone() };
        thread::spawn(move || {
            for near in listener.incoming() {
                let passed = near.and_then(|near| pass(near, UnixStream::connect(&far)?, &seen));
                if let Err(error) = passed {
                    println!("the witness is gone: {error}");
                    return;
                }
            }
        });
        Ok(witness)
    }

    /// From the reply to the freeze to the request to thaw.
    fn frozen(&self) -> Option<Duration> {
        let seen = self.seen.lock().ok()?;
        Some(seen.thaw_at?.saturating_duration_since(seen.frozen_at?))
    }
}

/// Passes bytes on in both directions, each in a thread of its own.
fn pass(near: UnixStream, far: UnixStream, seen: &Arc<Mutex<Seen>>) -> io::Result<()> {
    let (back, forth) = (seen.clone(), seen.clone());
    let (near_end, far_end) = (near.try_clone()?, far.try_clone()?);
    let asked = move |bytes: &[u8], at: Instant| {
        let Ok(mut seen) = forth.lock() else { return };
        let says = |word: &[u8]| bytes.windows(word.len()).any(|window| window == word);
        if says(b"guest-fsfreeze-freeze") {
            seen.freezing = true;
        } else if says(b"guest-fsfreeze-thaw") {
            seen.thaw_at = seen.thaw_at.or(Some(at));
        }
    };
    let answered = move |_: &[u8], at: Instant| {
        let Ok(mut seen) = back.lock() else { return };
        if std::mem::take(&mut seen.freezing) {
            seen.frozen_at = Some(at);
        }
    };
    thread::spawn(move || pump(near, far_end, asked));
    thread::spawn(move || pump(far, near_end, answered));
    Ok(())
}

/// Passes bytes on until either side has ended; a message comes in one piece.
fn pump(mut from: UnixStream, mut to: UnixStream, see: impl Fn(&[u8], Instant)) {
    let mut piece = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut piece) {
        see(&piece[..length], Instant::now());
        if to.write_all(&piece[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}

fn machine(qemu: &str, guest: &Guest, folder: &Utf8Path, who: Who) -> String {
    let channel = format!(
        "<channel type='unix'><source mode='bind' path='{folder}/agent'/>\
         <target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
    );
    let unknown = format!(
        "<qemu:arg value='-device'/><qemu:arg value='virtio-serial-pci,addr=0x1e'/>\
         <qemu:arg value='-chardev'/><qemu:arg value='socket,id=ff-agent,path={folder}/agent,server=on,wait=off'/>\
         <qemu:arg value='-device'/><qemu:arg value='virtserialport,chardev=ff-agent,name=org.qemu.guest_agent.0'/>"
    );
    let (channel, unknown) =
        if who == Who::Virsh { (channel, String::new()) } else { (String::new(), unknown) };
    format!(
        "<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>vm</name>\
         <memory unit='MiB'>128</memory><vcpu>1</vcpu>\
         <os><type arch='x86_64' machine='q35'>hvm</type><kernel>{boot}/vmlinuz</kernel><initrd>{boot}/initrd.img</initrd>\
         <cmdline>console=ttyS0 quiet panic=-1</cmdline></os>\
         <cpu mode='custom' match='exact'><model>qemu64</model><feature policy='require' name='rdrand'/></cpu>\
         <devices><emulator>{qemu}</emulator>{}{}{channel}\
         <serial type='file'><source path='{folder}/console'/></serial><serial type='null'/></devices>\
         <qemu:commandline>{}{unknown}</qemu:commandline></domain>\n",
        bench::disk(folder, "a", "vda"),
        bench::disk(folder, "b", "vdb"),
        bench::monitor(folder, "driver"),
        boot = guest.folder(),
    )
}
