//! A machine's state leaves.
//!
//! The guest runs while its memory is sent, in passes: what it writes meanwhile is sent again. Then it stops, and the
//! rest follows in one go. A background snapshot stops it for a moment at the beginning instead.

use std::time::Duration;

use super::{
    Machine, Migration, Status,
    channel::{Channel, Sink, channel, no_plain_file, sink_of},
    query::Memory,
};
use crate::{
    Release,
    host::{Descriptor, Image, MachineState},
    qemu::{
        Context, QmpError,
        arguments::Arguments,
        differences::takes,
        run_state::{Cpus, RunState},
    },
    qobject::qdict,
};

/// From `migrate` to its first pass; the first is usual where a program has to be started.
const SETUP: [Duration; 3] = [Duration::from_millis(12), Duration::from_millis(2), Duration::from_millis(5)];
/// So much sooner in the background: off the beat of this project's own driver, which asks every three milliseconds then, so that no
/// scenario has to tell what comes first within one instant.
const SOONER: Duration = Duration::from_millis(1);
/// A background snapshot sends its memory page by page.
const BACKGROUND: Duration = Duration::from_millis(70);
/// The thread looks up this often when it sends slowly.
const TICK: Duration = Duration::from_millis(40);

/// What the migration thread does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Next {
    #[default]
    Begin,
    /// Nothing takes what is sent.
    Fail,
    SwitchOver,
    /// Nothing: it waits for `migrate-continue`.
    Wait,
    HandOver,
    EndBackground,
    EndCancelled,
}

/// The last migration from here, whether it is under way or over.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    status: Status,
    error: Option<String>,
    memory: Memory,
    sink: Option<Sink>,
    /// Why connecting fails, once it is tried.
    deaf: Option<String>,
    next: Next,
    /// How the machine stood before it was stopped to hand over, and the pass that was made last.
    before: Option<RunState>,
    pass: u64,
}

impl Outgoing {
    /// How far it is.
    pub(crate) fn status(&self) -> Status {
        self.status
    }

    /// Why it failed.
    pub(crate) fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// What was sent.
    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }
}

impl Migration {
    /// `migrate`.
    pub(super) fn migrate(
        &mut self,
        machine: &mut Machine<'_>,
        arguments: Arguments<'_>,
        cx: &mut Context<'_>,
    ) -> Result<(), QmpError> {
        arguments.only(&["uri", "channels", "detach", "resume", "blk", "inc"])?;
        let release = cx.release();
        let early = release.protocols_are_checked_first();
        let target = if early {
            let target = channel(arguments, release)?;
            self.suits(&target)?;
            Some(target)
        } else {
            None
        };
        self.may_begin(machine, arguments, release)?;
        self.is_simulated(target.as_ref().or(channel(arguments, release).ok().as_ref()))?;
        self.outgoing =
            Outgoing { memory: Memory::new(&self.hardware, machine.cpus, cx), ..Outgoing::default() };
        self.set_status(Status::Setup, cx);
        let target = match target {
            Some(target) => target,
            None => channel(arguments, release).inspect_err(|_| self.set_status(Status::Failed, cx))?,
        };
        if let Err(error) = self.open(target, cx) {
            self.outgoing.error = Some(error.desc.clone());
            self.fail(cx);
            return Err(error);
        }
        if let Some(name) = self.parameters.credentials().filter(|_| self.outgoing.deaf.is_none()) {
            // The connection is to be upgraded at once, and there are no credentials that a client could have made.
            self.outgoing.error = Some(format!("No TLS credentials with id '{name}'"));
            self.fail(cx);
            return Ok(());
        }
        if cx.choose("migration-begins-before-its-reply", 4) == 3 && self.outgoing.deaf.is_none() {
            self.begin(machine, true, cx);
        } else {
            let setup = SETUP[cx.choose("migration-setup", SETUP.len())];
            let sooner = if self.capabilities.has("background-snapshot") { SOONER } else { Duration::ZERO };
            self.schedule(setup - sooner, cx);
        }
        Ok(())
    }

    /// Whether capabilities let this be a target.
    fn suits(&self, target: &Channel) -> Result<(), QmpError> {
        self.can_seek(target)?;
        let mapped = self.capabilities.has("mapped-ram");
        let several = self.capabilities.has("multifd") || self.capabilities.has("postcopy-preempt");
        if several && !mapped && !matches!(target, Channel::Deaf(_)) {
            return Err(QmpError::generic("Migration requires multi-channel URIs (e.g. tcp)"));
        }
        Ok(())
    }

    /// Whether pages of memory can have places of their own there, if they are to.
    pub(super) fn can_seek(&self, channel: &Channel) -> Result<(), QmpError> {
        if self.capabilities.has("mapped-ram") && !matches!(channel, Channel::File(..)) {
            return Err(QmpError::generic("Migration requires seekable transport (e.g. file)"));
        }
        Ok(())
    }

    /// Whether what the capabilities ask for can be had: the simulator knows no other end that would answer.
    fn is_simulated(&self, target: Option<&Channel>) -> Result<(), QmpError> {
        let (connects, answers) = match target {
            Some(Channel::File(..)) => (true, false),
            Some(Channel::Command(_)) => (true, true),
            Some(Channel::Descriptor(name)) => (self.descriptors.contains_key(name), true),
            Some(Channel::Deaf(_)) | None => (false, false),
        };
        if !connects || self.parameters.credentials().is_some() {
            return Ok(());
        }
        if self.capabilities.has("x-colo") {
            return Err(crate::qemu::not_simulated("migration with `x-colo`"));
        }
        if answers && self.wants_answers() {
            return Err(crate::qemu::not_simulated("migration with an answer from the other end"));
        }
        Ok(())
    }

    /// Whether the other end is to answer.
    fn wants_answers(&self) -> bool {
        self.capabilities.has("return-path") || self.capabilities.has("postcopy-ram")
    }

    fn may_begin(
        &self,
        machine: &Machine<'_>,
        arguments: Arguments<'_>,
        release: Release,
    ) -> Result<(), QmpError> {
        let refuse = |why: &str| Err(QmpError::generic(why));
        if arguments.flag("resume") {
            return refuse("Cannot resume if there is no paused migration");
        }
        if self.outgoing.status.is_running() {
            return refuse("There's a migration process in progress");
        }
        match machine.cpus.state() {
            RunState::InMigrate => refuse("Guest is waiting for an incoming migration"),
            RunState::PostMigrate if !release.a_state_may_leave_twice() => {
                refuse("Can't migrate the vm that was paused due to previous migration")
            }
            _ if arguments.flag("blk") || arguments.flag("inc") => {
                Err(crate::qemu::not_simulated("migration of disks"))
            }
            _ if self.capabilities.has("mapped-ram") && self.parameters.credentials().is_some() => {
                refuse("Cannot use TLS with mapped-ram")
            }
            _ => Ok(()),
        }
    }

    fn open(&mut self, target: Channel, cx: &mut Context<'_>) -> Result<(), QmpError> {
        let sink = match target {
            Channel::Command(command) => sink_of(&command, cx.host())?,
            Channel::Descriptor(name) => match self.use_descriptor(&name)? {
                Descriptor::File { .. } if cx.release().plain_files_are_no_descriptors() => {
                    return Err(no_plain_file());
                }
                Descriptor::File { path, position } => Sink::File(path, position),
                Descriptor::Pipe(path) => Sink::PipedFile(path),
            },
            Channel::File(path, offset) => {
                if let Err(error) = cx.host().create(&path, Image::raw(offset)) {
                    let why = match error.kind() {
                        std::io::ErrorKind::IsADirectory => "Is a directory",
                        _ => "No such file or directory",
                    };
                    return Err(QmpError::generic(format!("Could not create '{path}': {why}")));
                }
                Sink::File(path, offset)
            }
            Channel::Deaf(why) => {
                self.outgoing.deaf = Some(why);
                return Ok(());
            }
        };
        self.outgoing.sink = Some(sink);
        Ok(())
    }

    /// The next step of the migration thread.
    pub(super) fn step(&mut self, machine: &mut Machine<'_>, cx: &mut Context<'_>) {
        if let Some(why) = self.outgoing.deaf.take() {
            self.outgoing.error = Some(why);
            return self.fail(cx);
        }
        match self.outgoing.next {
            Next::Begin => self.begin(machine, false, cx),
            Next::Fail => self.fail(cx),
            Next::SwitchOver => self.switch_over(machine, cx),
            Next::Wait => {}
            Next::HandOver => self.hand_over(machine, cx),
            Next::EndBackground => self.end_background(machine, cx),
            Next::EndCancelled => {
                self.go_back(machine, cx);
                self.set_status(Status::Cancelled, cx);
            }
        }
    }

    /// The first pass begins; the reply to the command may still be due.
    fn begin(&mut self, machine: &mut Machine<'_>, before_the_reply: bool, cx: &mut Context<'_>) {
        let background = self.capabilities.has("background-snapshot");
        let every_pass = cx.release().every_pass_is_told();
        self.outgoing.pass = u64::from(!(background && every_pass));
        if every_pass && !background {
            self.tell_pass(cx);
        }
        self.set_status(Status::Active, cx);
        if self.wants_answers() {
            // A file is open for writing alone. Only the end of the migration looks at what was read.
            self.outgoing.error = Some("Unable to read from file: Bad file descriptor".into());
        }
        self.outgoing.memory.begin(cx.now());
        let Some(sink) = self.outgoing.sink.clone() else { return };
        sink.open(cx.host());
        if background {
            return self.begin_background(machine, cx);
        }
        let full = matches!(&sink, Sink::File(path, _) | Sink::PipedFile(path) if cx.host().is_full(path));
        if full || matches!(sink, Sink::Broken | Sink::Unread) {
            let state = self.state(machine, cx);
            self.outgoing.error = sink.write(state, cx.host()).err();
            let early = cx.release().setup_not_sent().filter(|_| sink == Sink::Unread);
            if early.is_some() && cx.choose("program-ends-behind-the-setup", 2) == 0 {
                self.outgoing.error = early.map(str::to_owned);
            }
            self.outgoing.next = Next::Fail;
            return if before_the_reply && cx.choose("migration-fails-before-its-reply", 2) == 0 {
                self.schedule(Duration::ZERO, cx);
            } else {
                self.fail(cx);
            };
        }
        self.outgoing.next = Next::SwitchOver;
        self.schedule(self.time_for_memory(cx), cx);
    }

    /// Stops the guest for as long as it takes to keep all that is not memory. 7.2 lets it run then, whether it did or not.
    fn begin_background(&mut self, machine: &mut Machine<'_>, cx: &mut Context<'_>) {
        let before = machine.cpus.state();
        self.outgoing.before = Some(before);
        machine.cpus.stop(RunState::Paused, cx);
        cx.stall(takes::SWITCHOVER);
        if before.is_live(cx.release()) || cx.release().background_snapshots_start_the_guest() {
            machine.cpus.resume(cx);
        }
        self.outgoing.next = Next::EndBackground;
        self.schedule(BACKGROUND, cx);
    }

    /// How long it takes to send all memory.
    fn time_for_memory(&self, cx: &Context<'_>) -> Duration {
        const USUAL: Duration = Duration::from_millis(8);
        /// What an idle machine sends before the switchover, in bytes: pages of zeroes cost next to nothing.
        const SENT: u64 = 540_000;
        let bandwidth = self.parameters.number("max-bandwidth");
        let Some(milliseconds) = (SENT * 1000).checked_div(bandwidth) else { return USUAL };
        let slowest = cx.release().slowest_migration(self.hardware.memory).unwrap_or(Duration::MAX);
        Duration::from_millis(milliseconds).clamp(USUAL, slowest)
    }

    /// A new bandwidth counts from now on.
    pub(super) fn change_pace(&mut self, cx: &mut Context<'_>) {
        if self.outgoing.status == Status::Active && self.outgoing.next == Next::SwitchOver {
            self.schedule(self.time_for_memory(cx), cx);
        }
    }

    /// Nearly all memory is out: the guest stops for the rest.
    fn switch_over(&mut self, machine: &mut Machine<'_>, cx: &mut Context<'_>) {
        let before = machine.cpus.state();
        let runs = before.is_live(cx.release());
        let least = usize::from(!cx.release().every_pass_is_told());
        let more = if runs { cx.choose("migration-passes", 3) } else { 0 };
        for _ in 0..least + more {
            self.outgoing.pass += 1;
            self.tell_pass(cx);
        }
        if runs {
            self.outgoing.memory.write_again((least + more) as u64);
        }
        if before == RunState::RestoreVm {
            // An invalid transition of the run state.
            return cx.abort();
        }
        self.outgoing.before = Some(before);
        machine.cpus.stop(RunState::FinishMigrate, cx);
        machine.cpus.set_state(RunState::FinishMigrate, cx);
        self.outgoing.memory.stop(cx.now());
        if self.capabilities.has("pause-before-switchover") {
            self.outgoing.next = Next::Wait;
            self.set_status(Status::PreSwitchover, cx);
        } else {
            if cx.release().every_switchover_is_told() {
                self.set_status(Status::Device, cx);
            }
            self.hand_over(machine, cx);
        }
    }

    /// `migrate-continue`: only from where the client believes it to be.
    pub(super) fn go_on(&mut self, from: &str, cx: &mut Context<'_>) -> Result<(), QmpError> {
        let status = self.outgoing.status;
        if status.name() != from {
            return Err(QmpError::generic(format!("Migration not in expected state: {}", status.name())));
        }
        if status == Status::PreSwitchover {
            self.outgoing.next = Next::HandOver;
            self.schedule(Duration::ZERO, cx);
        }
        Ok(())
    }

    /// Sends what is left, and gives the images away.
    fn hand_over(&mut self, machine: &mut Machine<'_>, cx: &mut Context<'_>) {
        if self.outgoing.status == Status::PreSwitchover {
            self.set_status(Status::Device, cx);
        }
        if cx.release().every_pass_is_told() {
            self.outgoing.pass += 1;
            self.tell_pass(cx);
        }
        if !machine.graph.all_are_active() && cx.release().giving_images_away_twice_aborts() {
            return cx.abort();
        }
        cx.stall(takes::SWITCHOVER);
        let state = self.state(machine, cx);
        let written = self.outgoing.sink.clone().map_or(Ok(()), |sink| sink.write(state, cx.host()));
        self.outgoing.memory.end(cx.now());
        match written {
            Ok(()) if self.wants_answers() => self.fail_after_the_stop(machine, cx),
            Ok(()) => {
                machine.graph.flush_all();
                machine.graph.set_all_active(false);
                self.set_status(Status::Completed, cx);
                machine.cpus.set_state(RunState::PostMigrate, cx);
            }
            Err(_) => {
                self.outgoing.error = cx.release().pipe_broke_at_the_switchover().map(str::to_owned);
                self.fail_after_the_stop(machine, cx);
            }
        }
    }

    fn end_background(&mut self, machine: &mut Machine<'_>, cx: &mut Context<'_>) {
        let state = self.state(machine, cx);
        let written = self.outgoing.sink.clone().map_or(Ok(()), |sink| sink.write(state, cx.host()));
        self.outgoing.memory.end(cx.now());
        match written {
            Ok(()) => self.set_status(Status::Completed, cx),
            Err(error) => {
                self.outgoing.error = Some(error);
                self.fail(cx);
            }
        }
    }

    /// `migrate_cancel`: nothing to do for what is not under way.
    pub(super) fn cancel(&mut self, cx: &mut Context<'_>) {
        let status = self.outgoing.status;
        if !status.is_running() || status == Status::Cancelling {
            return;
        }
        let mut delay = TICK;
        if status == Status::PreSwitchover {
            let interrupted = cx.release().cancelled_before_the_switchover().map(str::to_owned);
            self.outgoing.error = self.outgoing.error.take().or(interrupted);
            delay = Duration::from_millis(1);
        }
        self.outgoing.deaf = None;
        self.set_status(Status::Cancelling, cx);
        self.outgoing.next = Next::EndCancelled;
        self.schedule(delay, cx);
    }

    /// QEMU ends: nobody waits for what is under way.
    pub(crate) fn close(&mut self, cx: &mut Context<'_>) {
        self.cancel(cx);
    }

    /// Whether a migration is under way that a snapshot of the machine would get in the way of.
    pub(crate) fn is_under_way(&self) -> bool {
        self.outgoing.status.is_running()
    }

    /// A snapshot of the whole machine has been saved: that, too, was a migration.
    pub(crate) fn saved_snapshot(&mut self, cpus: &Cpus, cx: &mut Context<'_>) {
        let memory = Memory::of_snapshot(&self.hardware, cpus, cx);
        self.outgoing = Outgoing { memory, ..Outgoing::default() };
        self.set_status(Status::Setup, cx);
        self.outgoing.pass = 1;
        if cx.release().every_pass_is_told() {
            self.tell_pass(cx);
            self.outgoing.pass = 2;
            self.tell_pass(cx);
        }
        self.set_status(Status::Completed, cx);
    }

    /// A snapshot of the whole machine could not be saved.
    pub(crate) fn lost_snapshot(&mut self, cx: &mut Context<'_>) {
        self.outgoing = Outgoing::default();
        self.set_status(Status::Setup, cx);
        self.outgoing.pass = 1;
        if cx.release().every_pass_is_told() {
            self.tell_pass(cx);
        }
        self.set_status(Status::Failed, cx);
    }

    /// How often memory was looked through.
    pub(super) fn passes(&self) -> u64 {
        self.outgoing.pass
    }

    fn fail(&mut self, cx: &mut Context<'_>) {
        if cx.release().failing_is_told() {
            self.set_status(Status::Failing, cx);
        }
        self.set_status(Status::Failed, cx);
    }

    fn fail_after_the_stop(&mut self, machine: &mut Machine<'_>, cx: &mut Context<'_>) {
        if cx.release().failing_is_told() {
            self.set_status(Status::Failing, cx);
            self.go_back(machine, cx);
            self.set_status(Status::Failed, cx);
        } else {
            self.set_status(Status::Failed, cx);
            self.go_back(machine, cx);
        }
    }

    /// The machine is as it was before it was stopped to hand over.
    fn go_back(&self, machine: &mut Machine<'_>, cx: &mut Context<'_>) {
        let Some(before) = self.outgoing.before else { return };
        if machine.cpus.state() != RunState::FinishMigrate {
            return;
        }
        if before.is_live(cx.release()) {
            machine.cpus.resume(cx);
        } else if cx.release().a_failed_switchover_restores_the_state() {
            machine.cpus.set_state(before, cx);
        } else {
            machine.cpus.set_state(RunState::PostMigrate, cx);
        }
    }

    fn state(&self, machine: &Machine<'_>, cx: &Context<'_>) -> MachineState {
        let size = cx.release().vm_state_size(true);
        MachineState {
            at: 0,
            mapped: self.capabilities.has("mapped-ram"),
            hardware: self.hardware.clone(),
            clock: machine.cpus.clock(cx.now()),
            memory: machine.cpus.memory(),
            run_state: self.outgoing.before.unwrap_or(RunState::Running).name(),
            size,
            kept: size,
        }
    }

    fn set_status(&mut self, status: Status, cx: &mut Context<'_>) {
        self.outgoing.status = status;
        self.tell(status, cx);
    }

    fn tell_pass(&self, cx: &mut Context<'_>) {
        if self.capabilities.has("events") {
            cx.event("MIGRATION_PASS", Some(qdict! { "pass": self.outgoing.pass }));
        }
    }
}
