//! QEMU as a program of the host: a new machine in the place of one that has ended.
//!
//! ```text
//! qemu-system-x86_64 --version               -> what release it is
//! qemu-system-x86_64 ... -S -qmp stdio       -> reads its arguments, and the `quit` that it is told; nothing else comes of it
//! qemu-system-x86_64 ... -daemonize          -> refused: an image is missing, or another machine has it; exit code 1
//!                                            \-> runs: its monitors listen when the program that was run has ended
//! ```
//! One world has one machine: while it runs, no second one is started. Its sockets are found by their numbers, whatever their
//! paths. An image that is missing is never made, as it is for the machine that a world begins with.
//!
//! Not here: a QEMU that is no daemon, and would not end.

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};

use super::{MainLoop, Monitor, Ran, World};
use crate::{guest_agent, machine::Machine, monitor::throttle::Throttle, qemu::Qemu};

/// How long QEMU needs until its monitors listen.
const STARTS: Duration = Duration::from_millis(50);

/// How long it needs to tell its version, or that it will not start.
const TELLS: Duration = Duration::from_millis(10);

impl World {
    /// Runs QEMU with these arguments.
    pub(super) fn run_qemu(
        &mut self,
        now: Duration,
        program: &str,
        arguments: &[String],
        input: &[u8],
    ) -> Ran {
        let words = arguments.iter().map(String::as_str);
        if words.clone().any(|word| word == "--version") {
            let (major, minor, micro) = self.release.version();
            let package = self.release.package();
            let stdout = format!("QEMU emulator version {major}.{minor}.{micro} ({package})\n");
            return Ran { exit: 0, stdout, stderr: String::new(), takes: TELLS };
        }
        if arguments.windows(2).any(|pair| pair == ["-qmp", "stdio"]) {
            return on_trial(program, arguments, input);
        }
        let started = match Machine::from_arguments(words.clone()) {
            Err(unknown) => Err(format!("not simulated: {unknown}")),
            Ok(_) if !words.clone().any(|word| word == "-daemonize") => {
                Err("not simulated: a QEMU that does not become a daemon".to_owned())
            }
            Ok(machine) => self.start(now, Machine { folder: self.host.folder().to_owned(), ..machine }),
        };
        let (exit, stderr, takes) = match started {
            Ok(()) => (0, String::new(), STARTS),
            Err(why) => (1, format!("{program}: {why}\n"), TELLS),
        };
        Ran { exit, stdout: String::new(), stderr, takes }
    }

    fn start(&mut self, now: Duration, machine: Machine) -> Result<(), String> {
        let behind = |node: &serde_json::Map<_, _>| Some(Utf8PathBuf::from(node.get("filename")?.as_str()?));
        let paths = machine.disks.iter().map(|disk| disk.path.clone());
        for path in machine.nodes.iter().filter_map(behind).chain(paths) {
            self.check_image(&path)?;
        }
        self.now = now;
        self.qemu = Qemu::new(&machine, self.release, &mut self.host);
        // What was under way belonged to the machine that has ended; places among all that happens go on.
        self.main_loop = MainLoop::continuing(&mut self.main_loop);
        let timers =
            self.qemu.first_timers().into_iter().map(|(after, timer)| (now + after, timer)).collect();
        self.main_loop.end_turn(now, now, timers);
        self.alive = true;
        self.links.values_mut().for_each(|link| link.outlived = true);
        self.monitors = (0..machine.monitors).map(|_| Monitor::default()).collect();
        self.agent = machine.agent.as_ref().map(|_| guest_agent::port::Port::default());
        self.throttle = Throttle::new(self.release);
        Ok(())
    }

    fn check_image(&self, path: &Utf8Path) -> Result<(), String> {
        if self.alive {
            return Err(format!(
                "-blockdev: Failed to get \"write\" lock\nIs another process using the image [{path}]?"
            ));
        }
        if self.host.image(path).is_none() {
            return Err(format!("-blockdev: Could not open '{path}': No such file or directory"));
        }
        Ok(())
    }
}

/// A QEMU that has no image, and whose monitor is its standard input: it is there to tell whether it takes its arguments. What it
/// says at that monitor is not simulated.
fn on_trial(program: &str, arguments: &[String], input: &[u8]) -> Ran {
    let quits = input.windows(6).any(|word| word == b"\"quit\"");
    // What holds nothing, or leads nowhere, is one of what the machine knows.
    let known = arguments.iter().filter(|word| !["-qmp", "stdio"].contains(&word.as_str())).map(|word| {
        let word = word.replace(r#""driver":"null-co""#, r#""driver":"file","filename":"/dev/null""#);
        word.replace("null,id=", "socket,path=/dev/null,id=")
    });
    let known: Vec<String> = known.collect();
    let why = match Machine::from_arguments(known.iter().map(String::as_str)) {
        Ok(_) if quits => None,
        Ok(_) => Some("not simulated: a QEMU that does not become a daemon".to_owned()),
        Err(unknown) => Some(format!("not simulated: {unknown}")),
    };
    let stderr = why.map(|why| format!("{program}: {why}\n")).unwrap_or_default();
    Ran { exit: i32::from(!stderr.is_empty()), stdout: String::new(), stderr, takes: STARTS }
}
