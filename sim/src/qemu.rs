//! The QEMU process: block graph, jobs, run state and the commands on them.
//!
//! It carries out one command at a time, as QEMU's main loop does, and what a command leaves for later comes back as
//! a [`Timer`]. Events, timers and time go through the [`Context`]; sockets, JSON and schemas are the world's business.
//! What is not modelled fails with a text that begins with "not simulated: ".
//!
//! - [`block`]: nodes, devices, overlays, internal snapshots of one disk
//! - [`job`]: the life of a job
//! - `snapshot_job` and `vm_snapshot`: snapshots of the whole machine
//! - [`run_state`]: whether the guest runs
//! - `guest`: where QEMU and the guest on it meet
//! - `command`: which part carries a command out
//! - `drive_name`: disks by the names of drives
//! - `request`: `stop`, `cont`, `system_reset`, `quit`
//! - `power`: what the guest does to its machine
//! - `migration`: a machine's state leaves or comes
//! - `boot_sector`: a program that writes to its disk
//! - `program`: one that panics, or starves its watchdog
//! - `fdset`: open files that clients pass
//! - `beside`: what these machines do not have
//! - `object`: objects that clients make: I/O threads and throttle groups
//! - `firmware`: what it does after a reset
//! - `qdev`: devices that come and go
//! - `pci`: the bus that they are on
//! - `qom`: where they are among QEMU's objects
//! - `change`: what puts nodes into the graph, and the rests of jobs that follow
//! - `chardev`: the machine's sockets
//! - `human_monitor`: `savevm` and its kin
//! - `ended`: what is left when a job has ended, or the process
//! - `about`: what never changes
//! - `differences`: all in which the releases differ

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Map, Value};

use crate::{
    guest::Guest,
    host::{Host, Image},
    machine::{Actions, Format, Machine, Power},
    oracle::Oracle,
    qobject::QObject,
    release::Release,
};

pub mod block;
pub mod context;
pub mod job;
pub mod run_state;

mod about;
mod arguments;
mod beside;
mod boot_sector;
mod change;
mod chardev;
mod command;
mod differences;
mod drive_name;
mod ended;
mod fdset;
mod firmware;
mod guest;
mod human_monitor;
mod migration;
mod object;
mod pci;
mod power;
mod program;
mod qdev;
mod qom;
mod request;
mod snapshot_job;
mod timer;
mod vm_snapshot;
mod work;

pub use context::{Context, Event, QmpError};
pub use guest::GuestAction;
pub use power::GuestAct;
pub use request::Request;
pub use timer::Timer;

use arguments::Arguments;
use boot_sector::BootSector;
use drive_name::DriveNames;
use ended::Saving;
use job::{Job, Jobs};
use migration::Migration;
use program::Booted;
use run_state::{Cpus, RunState};
use work::Work;

/// One QEMU process.
#[derive(Debug)]
pub struct Qemu {
    graph: block::Graph,
    jobs: Jobs,
    cpus: Cpus,
    migration: Migration,
    actions: Actions,
    boot_sector: BootSector,
    booted: Booted,
    firmware: firmware::Firmware,
    devices: qdev::Devices,
    pci: pci::PciBus,
    objects: object::Objects,
    fdsets: fdset::FdSets,
    chardevs: chardev::Chardevs,
    about: about::About,
    /// It has a watchdog.
    watched: bool,
    gone: bool,
    aborted: bool,
    hung: bool,
    /// Internal snapshots that are not in the images before the main loop goes on.
    saving: Option<Saving>,
}

impl Qemu {
    /// Starts QEMU on a machine. Its images are put on the host, but for those that are there already.
    pub fn new(machine: &Machine, release: Release, host: &mut Host) -> Self {
        host.set_folder(&machine.folder);
        for disk in &machine.disks {
            if let Some(folder) = host.resolve(&disk.path).parent() {
                host.add_folder(folder);
            }
            let image = match disk.format {
                Format::Qcow2 => Image::qcow2(disk.size),
                Format::Raw => Image::raw(disk.size),
            };
            // An image that is there stays as it is: this is then a second start.
            let _ = host.create_new(&disk.path, image);
        }
        let state = match machine.power {
            _ if machine.incoming => RunState::InMigrate,
            Power::Running => RunState::Running,
            Power::Prelaunch => RunState::Prelaunch,
            Power::Paused => RunState::Paused,
        };
        let mut graph = block::Graph::of(machine);
        let objects = object::Objects::of(machine, &mut graph);
        if !machine.node_order.is_empty() {
            let mut oracle = Oracle::default_order();
            graph.open_others(machine, &mut Context::new(Duration::ZERO, release, &mut oracle, host));
        }
        graph.load_all_bitmaps(host);
        graph.note_lengths(release, host);
        graph.note_backing(&Jobs::default());
        if machine.incoming && release.waiting_machines_hold_no_images() {
            graph.wait_for_images();
        }
        let autostart = machine.power == Power::Running;
        let pci = pci::PciBus::of(machine);
        Self {
            graph,
            jobs: Jobs::default(),
            cpus: Cpus::new(
                state,
                machine.serial_ports.clone(),
                Guest::of(machine, release, !matches!(state, RunState::Prelaunch | RunState::InMigrate)),
                autostart,
            ),
            migration: Migration::of(machine, &pci),
            actions: machine.actions.clone(),
            boot_sector: BootSector::of(machine),
            booted: Booted::of(machine),
            firmware: firmware::Firmware::default(),
            devices: qdev::Devices::of(machine),
            pci,
            objects,
            fdsets: fdset::FdSets::default(),
            chardevs: chardev::Chardevs::of(machine),
            about: about::About::of(machine),
            watched: machine.watchdog,
            gone: false,
            aborted: false,
            hung: false,
            saving: None,
        }
    }

    /// What happens by itself once it has started: when, and what.
    pub fn first_timers(&mut self) -> Vec<(Duration, Timer)> {
        let acts = self.booted.first_timer(self.cpus.state());
        self.boot_sector.first_timer().into_iter().chain(acts).collect()
    }

    /// Carries out one command whose arguments the release's schema has accepted.
    ///
    /// # Errors
    /// As QEMU refuses it; "not simulated: ..." for what the model does not know.
    pub fn execute(
        &mut self,
        command: &str,
        mut arguments: Map<String, Value>,
        cx: &mut Context<'_>,
    ) -> Result<QObject, QmpError> {
        let drives = DriveNames::of(&self.graph);
        drives.resolve(command, &mut arguments);
        let reply = self.dispatch(command, Arguments(&arguments), cx);
        // A question changes no node.
        if !command.starts_with("query-") {
            self.note_nodes(cx);
        }
        self.settle(cx);
        reply.map_err(|refused| drives.name(refused))
    }

    /// Carries out what it had asked for with [`Context::schedule`].
    pub fn timer(&mut self, timer: Timer, cx: &mut Context<'_>) {
        self.strike(timer, cx);
        self.note_nodes(cx);
        self.settle(cx);
    }

    /// What is noted of the nodes when a command or a timer has changed them.
    fn note_nodes(&mut self, cx: &mut Context<'_>) {
        self.graph.store_closed_bitmaps(cx.host());
        self.graph.note_lengths(cx.release(), cx.host());
        self.graph.note_backing(&self.jobs);
    }

    /// What is left to be done when a command or a timer has been carried out.
    fn settle(&mut self, cx: &mut Context<'_>) {
        self.aborted |= cx.aborted;
        self.gone |= cx.aborted;
        self.hung |= cx.hung;
        self.saving = cx.saving.take().or(self.saving.take());
    }

    fn strike(&mut self, timer: Timer, cx: &mut Context<'_>) {
        match timer {
            Timer::Job { serial } => {
                self.cpus.report_ports(cx);
                let outcome = match self.jobs.take_work(serial) {
                    None => return,
                    Some(Work::Done(outcome)) => outcome,
                    Some(Work::WriteHeader(header)) => {
                        block::create::write_header(&mut self.graph, header, cx);
                        Ok(())
                    }
                    Some(_) => return,
                };
                self.jobs.end(serial, outcome, cx);
            }
            Timer::BlockJob { serial } => {
                self.jobs.look_around(serial, cx);
                self.finish_block_jobs(cx);
            }
            Timer::Exports => self.graph.exports_mut().report(cx),
            Timer::SerialPorts => self.cpus.report_ports(cx),
            Timer::GuestWrite => self.boot_sector.write(&mut self.graph, &self.cpus, cx),
            Timer::Program => {
                if let Some(act) = self.booted.acts(&self.cpus, cx) {
                    self.guest_does(act, cx);
                }
            }
            Timer::StopForIoError => boot_sector::stop(&mut self.cpus, cx),
            Timer::Firmware => {
                if self.firmware.wants_a_reset(&self.cpus) {
                    self.jobs_rest_for_reset(cx);
                    self.cpus.reset_by_guest(cx);
                    self.devices.reset(&mut self.graph, &mut self.cpus, cx);
                    self.firmware.has_reset(&self.jobs, &self.cpus, cx);
                }
            }
            Timer::FirmwareSetsUpDisks => {
                self.firmware.sets_up_disks(&self.graph, &mut self.jobs, &self.cpus, cx);
                self.finish_block_jobs(cx);
            }
            Timer::Unplug => self.devices.unplug(&mut self.graph, &mut self.cpus, cx),
            Timer::DeviceDeleted { serial } => self.devices.deleted(serial, &self.cpus, cx),
            Timer::WritersLetGo { freeze } => {
                let writes = self.cpus.guest_mut().map(|guest| guest.let_writers_go(freeze));
                guest::write(&self.graph, writes.unwrap_or_default(), cx.host());
            }
            Timer::Request(request) => self.carry_out(request, cx),
            Timer::Migration { serial } => {
                let mut machine = migration::Machine { graph: &mut self.graph, cpus: &mut self.cpus };
                self.migration.timer(serial, &mut machine, cx);
            }
            Timer::Guest(act) => self.guest_does(act, cx),
        }
    }

    /// Whether the guest has started its disks.
    fn disks_are_started(&self, now: Duration) -> bool {
        let set_up = self.cpus.devices_are_set_up(now) || self.boot_sector.has_run();
        set_up && !self.cpus.rests_since_load()
    }

    /// A client has come to a monitor, or left it.
    pub fn set_connected(&mut self, monitor: usize, connected: bool) {
        self.chardevs.set_connected(monitor, connected);
    }

    /// A client has come to the guest agent's port, or left it.
    pub(crate) fn set_agent_connected(&mut self, connected: bool) {
        self.chardevs.set_agent_connected(connected);
    }

    /// What runs on the machine, if that is known.
    pub fn guest(&self) -> Option<&Guest> {
        self.cpus.guest()
    }

    /// Whether the process has ended, by `quit` or by a crash.
    pub fn gone(&self) -> bool {
        self.gone
    }

    /// Whether it has ended by an assertion of its own: what it was about to say is never said.
    pub fn aborted(&self) -> bool {
        self.aborted
    }

    /// Whether it waits for what never comes: only the host can end it, by SIGKILL.
    pub fn hung(&self) -> bool {
        self.hung
    }

    /// The block graph.
    pub fn graph(&self) -> &block::Graph {
        &self.graph
    }

    /// The names of the nodes under a device, top first; nothing for an unknown device.
    pub fn chain(&self, device: &str) -> Vec<&str> {
        let device = self.graph.devices().iter().find(|known| known.id == device);
        let nodes = device.into_iter().flat_map(|device| self.graph.chain(&device.node));
        let nodes = nodes.filter(|node| node.driver.job_filter().is_none());
        nodes.map(|node| node.name.as_str()).collect()
    }

    /// All jobs that a client would see, newest first.
    pub fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.jobs.newest_first()
    }

    /// How its migrations are set: the capabilities that are on, and the bandwidth.
    pub fn migration_settings(&self) -> BTreeSet<String> {
        self.migration.settings()
    }

    /// Whether the guest runs, and why not.
    pub fn run_state(&self) -> RunState {
        self.cpus.state()
    }
}

/// The error for what the model does not know.
pub(crate) fn not_simulated(what: &str) -> QmpError {
    QmpError::generic(format!("not simulated: {what}"))
}
