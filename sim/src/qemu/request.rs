//! What a client, or the host, asks of the guest and of the machine's power: `stop`, `cont`, `system_reset`,
//! `system_powerdown`, `quit`, SIGTERM.
//!
//! Here is what the whole process does about it, in order; the run state itself is [`super::run_state`]'s.

use std::time::Duration;

use super::{
    Context, Qemu, QmpError, Timer, arguments::Arguments, differences::Drain, not_simulated, run_state,
};
use crate::qobject::{QDict, QObject};

/// What a client, or the host, asks of the machine's power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// `quit`
    Quit,
    /// `system_reset`
    Reset,
    /// `system_powerdown`
    Powerdown,
    /// The host's SIGTERM.
    Terminate,
    /// What follows from the panic of a guest that is to end of it.
    EndOfPanic,
}

impl Qemu {
    /// Carries out one of these commands, or one about the guest's own acts.
    ///
    /// # Errors
    /// As QEMU refuses it; "not simulated" for any other command.
    pub(super) fn power_command(
        &mut self,
        command: &str,
        arguments: Arguments<'_>,
        cx: &mut Context<'_>,
    ) -> Result<QObject, QmpError> {
        match command {
            "stop" => self.stop(cx),
            "cont" => self.cont(cx)?,
            "system_wakeup" => return self.wake_up(cx),
            "set-action" => self.actions.set_all(arguments),
            "watchdog-set-action" => drop(self.actions.set("watchdog", arguments.text("action"))),
            // The guest gets it, and there is none to do anything about it.
            "inject-nmi" => {}
            "quit" => self.request(Request::Quit, cx),
            "system_reset" => self.request(Request::Reset, cx),
            "system_powerdown" => self.request(Request::Powerdown, cx),
            other => return self.command_beside(other, arguments, cx),
        }
        Ok(QObject::empty())
    }

    /// Stops the guest, if it runs.
    pub(super) fn stop(&mut self, cx: &mut Context<'_>) {
        if self.cpus.running() {
            self.jobs.drained(Drain::Stop, cx);
        }
        self.cpus.pause(cx);
        self.jobs.drained(Drain::Stopped, cx);
        self.flush_all();
    }

    /// Lets the guest run. Ports that a loaded state closed are reported before the reply, more rarely behind it;
    /// always behind it by the oldest release.
    pub(super) fn cont(&mut self, cx: &mut Context<'_>) -> Result<(), QmpError> {
        self.cpus.may_go_on()?;
        let looks_for_disks = self.cpus.found_disks_at(cx.now()).is_none();
        if looks_for_disks && !self.cpus.running() && self.graph.is_read_through_an_empty_stream(cx.host()) {
            return Err(not_simulated(
                "a guest that reads through a stream of nothing, at which QEMU crashes",
            ));
        }
        self.graph.reset_io_status();
        self.jobs.reset_io_status();
        let rested = !self.cpus.running();
        self.cpus.cont(cx);
        if self.cpus.running() {
            self.graph.set_all_active(true);
            if rested {
                self.jobs.drained(Drain::Cont, cx);
            }
        }
        self.firmware.resumed(&self.cpus, cx);
        self.boot_sector.resumed(&mut self.graph, &mut self.cpus, cx);
        self.booted.resumed(&self.cpus, cx);
        if !self.cpus.owes_a_port_report() {
            return Ok(());
        }
        let before = cx.release().ports_report_before_the_reply();
        if before && cx.choose("port-report-behind-cont", 2) == 0 {
            self.cpus.report_ports(cx);
        } else {
            cx.schedule(Duration::ZERO, Timer::SerialPorts);
        }
        Ok(())
    }

    pub(super) fn request(&mut self, request: Request, cx: &mut Context<'_>) {
        if cx.release().requests_act_before_the_reply() {
            self.carry_out(request, cx);
        } else {
            cx.schedule(Duration::ZERO, Timer::Request(request));
        }
    }

    /// Does what was asked for.
    pub(super) fn carry_out(&mut self, request: Request, cx: &mut Context<'_>) {
        match request {
            Request::Reset if self.actions.reset_ends => {
                self.shut_down(run_state::by_host("host-qmp-system-reset"), cx);
            }
            Request::Reset => {
                self.jobs_rest_for_reset(cx);
                self.cpus.reset(cx);
                self.devices.reset(&mut self.graph, &mut self.cpus, cx);
                self.firmware.reset(self.devices.chipset(), &self.cpus, cx);
                self.booted.reset(&self.cpus, cx);
            }
            Request::Powerdown => cx.event("POWERDOWN", None),
            Request::Quit => self.end(run_state::by_host("host-qmp-quit"), cx),
            Request::EndOfPanic => self.shut_down(run_state::by_guest("guest-panic"), cx),
            Request::Terminate => self.end(run_state::by_host("host-signal"), cx),
        }
    }

    /// The machine of a guest that runs is about to be reset: its disks are drained.
    pub(super) fn jobs_rest_for_reset(&mut self, cx: &mut Context<'_>) {
        if self.cpus.running() && self.jobs.any_would_rest() {
            let set_up = self.disks_are_started(cx.now());
            let drain = if set_up { Drain::Reset } else { Drain::ResetAgain };
            self.jobs.disks_drained(drain, &self.graph, cx);
            self.finish_block_jobs(cx);
        }
    }

    /// The process ends, in order: what is under way is given up.
    pub(super) fn end(&mut self, cause: QDict, cx: &mut Context<'_>) {
        cx.event("SHUTDOWN", Some(cause));
        self.migration.close(cx);
        self.graph.exports_mut().close_all(cx);
        self.jobs.close_all(cx);
        self.graph.store_all_bitmaps(cx.host());
        self.gone = true;
        self.aborted |= self.graph.leaks();
    }
}
