//! Migration: a machine's state leaves for a file, a descriptor or a program, or comes from one.
//!
//! ```text
//! out:  none -(migrate)-> setup -> active -(memory is nearly all out)-> [pre-switchover] -> [device] -> completed
//!                           |         |-------(migrate_cancel)-----> cancelling -> cancelled
//!                           \---------\--------(cannot be written)-> [failing] -> failed
//! in:   none -(migrate-incoming)-> setup -> active -> completed
//!                                             \----> failed: QEMU ends, unless it was told not to
//! ```
//! What is in brackets depends on release and capabilities. QEMU has a thread for it: each arrow is a [`Timer`] here, and
//! how many passes over the memory it takes is a choice. A snapshot of the whole machine goes through the same states,
//! all at once.
//!
//! - `capabilities` and `parameters`: what can be set before
//! - `channel`: where the state goes to or comes from
//! - `outgoing` and `incoming`: the two directions
//! - `query`: `query-migrate`
//!
//! Not here: sockets (nobody listens), another end that answers, postcopy, TLS that works, COLO, several channels, bitmaps
//! that go along, compression.
//!
//! Source: recordings `migrate-*`, `background-snapshot` and `oob`; the four releases, asked.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    Context, QmpError, Timer, arguments::Arguments, block::Graph, not_simulated, pci::PciBus, run_state::Cpus,
};
use crate::{
    host::{Descriptor, Hardware},
    machine::Machine as Described,
    qobject::{QObject, qdict},
};

mod capabilities;
mod channel;
mod incoming;
mod outgoing;
mod parameters;
mod query;

use capabilities::Capabilities;
use incoming::Incoming;
use outgoing::Outgoing;
use parameters::Parameters;

/// How far a migration is, by QAPI's `MigrationStatus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Status {
    #[default]
    None,
    Setup,
    Active,
    PreSwitchover,
    Device,
    Completed,
    Cancelling,
    Cancelled,
    Failing,
    Failed,
}

impl Status {
    /// The name on the wire.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Status::None => "none",
            Status::Setup => "setup",
            Status::Active => "active",
            Status::PreSwitchover => "pre-switchover",
            Status::Device => "device",
            Status::Completed => "completed",
            Status::Cancelling => "cancelling",
            Status::Cancelled => "cancelled",
            Status::Failing => "failing",
            Status::Failed => "failed",
        }
    }

    /// Whether a migration is under way.
    fn is_running(self) -> bool {
        matches!(
            self,
            Status::Setup
                | Status::Active
                | Status::PreSwitchover
                | Status::Device
                | Status::Cancelling
                | Status::Failing
        )
    }
}

/// What a migration works on.
pub(crate) struct Machine<'a> {
    /// The block graph.
    pub(crate) graph: &'a mut Graph,
    /// The virtual processors.
    pub(crate) cpus: &'a mut Cpus,
}

/// All that a machine knows of its migrations.
#[derive(Debug)]
pub(crate) struct Migration {
    hardware: Arc<Hardware>,
    capabilities: Capabilities,
    parameters: Parameters,
    /// What clients have passed with `getfd`, and not used.
    descriptors: BTreeMap<String, Descriptor>,
    outgoing: Outgoing,
    /// Nothing for a machine that was not started to wait for a state.
    incoming: Option<Incoming>,
    /// Which timer counts, of all that were asked for.
    serial: u64,
}

impl Migration {
    /// Of a machine that starts.
    pub(crate) fn of(machine: &Described, bus: &PciBus) -> Self {
        Self {
            hardware: Arc::new(bus.hardware(machine.memory)),
            capabilities: Capabilities::default(),
            parameters: Parameters::default(),
            descriptors: BTreeMap::new(),
            outgoing: Outgoing::default(),
            incoming: machine.incoming.then(Incoming::default),
            serial: 0,
        }
    }

    /// What this machine is, for the states that are saved of it.
    pub(crate) fn hardware(&self) -> &Arc<Hardware> {
        &self.hardware
    }

    /// Carries out `migrate`, `getfd` and their kin.
    ///
    /// # Errors
    /// As QEMU refuses it.
    pub(crate) fn command(
        &mut self,
        command: &str,
        machine: &mut Machine<'_>,
        arguments: Arguments<'_>,
        cx: &mut Context<'_>,
    ) -> Result<QObject, QmpError> {
        let refuse = |why: &str| Err(QmpError::generic(why));
        match command {
            "migrate" => self.migrate(machine, arguments, cx)?,
            "migrate_cancel" => self.cancel(cx),
            "migrate-continue" => self.go_on(arguments.text("state"), cx)?,
            "migrate-incoming" => self.migrate_incoming(machine, arguments, cx)?,
            "migrate-pause" => return Err(cx.release().no_postcopy_to_pause()),
            "migrate-recover" => return refuse("Migrate recover can only be run when postcopy is paused."),
            "migrate-start-postcopy" if !self.capabilities.has("postcopy-ram") => {
                return refuse("Enable postcopy with migrate_set_capability before the start of migration");
            }
            "migrate-set-capabilities" if self.outgoing.status().is_running() => {
                return refuse("There's a migration process in progress");
            }
            "migrate-set-capabilities" => self.capabilities.set(arguments, cx.release())?,
            // What is set already counts, not what is to be set.
            "migrate-set-parameters"
                if self.capabilities.has("mapped-ram") && !self.parameters.suit_mapped_ram() =>
            {
                return refuse("Mapped-ram only available for non-compressed non-TLS multifd migration");
            }
            "migrate-set-parameters" => {
                self.parameters.set(arguments, cx.release())?;
                self.change_pace(cx);
            }
            "getfd" => self.take_descriptor(arguments.text("fdname"), cx)?,
            "closefd" => {
                let name = arguments.text("fdname");
                if self.descriptors.remove(name).is_none() {
                    return refuse(&format!("File descriptor named '{name}' not found"));
                }
            }
            other => return Err(not_simulated(&format!("command `{other}`"))),
        }
        Ok(QObject::empty())
    }

    /// What clients set for one migration and forget for the next: which capabilities are on, and how fast it may go.
    pub(crate) fn settings(&self) -> BTreeSet<String> {
        let bandwidth = format!("max-bandwidth={}", self.parameters.number("max-bandwidth"));
        self.capabilities.on().map(str::to_owned).chain([bandwidth]).collect()
    }

    /// Whether there is, or was, a migration to tell of.
    pub(crate) fn has_begun(&self) -> bool {
        self.outgoing.status() != Status::None
    }

    /// `query-migrate`, `query-migrate-capabilities` and `query-migrate-parameters`.
    pub(crate) fn query(&self, query: &str, cx: &Context<'_>) -> Result<QObject, QmpError> {
        match query {
            "query-migrate" => Ok(self.query_migrate(cx)),
            "query-migrate-capabilities" => Ok(self.capabilities.query(cx.release())),
            "query-migrate-parameters" => Ok(self.parameters.query(cx.release())),
            other => Err(not_simulated(&format!("command `{other}`"))),
        }
    }

    /// Goes on where the migration thread has something to do.
    pub(crate) fn timer(&mut self, serial: u64, machine: &mut Machine<'_>, cx: &mut Context<'_>) {
        if serial != self.serial {
            return;
        }
        if self.outgoing.status().is_running() {
            self.step(machine, cx);
        } else {
            self.take_in(machine, cx);
        }
    }

    /// Asks for the next timer; those before do not count any more.
    fn schedule(&mut self, delay: std::time::Duration, cx: &mut Context<'_>) {
        self.serial += 1;
        cx.schedule(delay, Timer::Migration { serial: self.serial });
    }

    /// That an incoming migration is set up.
    fn tell_setup(&self, cx: &mut Context<'_>) {
        if self.capabilities.has("events") || cx.release().incoming_setup_is_always_told() {
            cx.event("MIGRATION", Some(qdict! { "status": Status::Setup.name() }));
        }
    }

    fn tell(&self, status: Status, cx: &mut Context<'_>) {
        if self.capabilities.has("events") {
            cx.event("MIGRATION", Some(qdict! { "status": status.name() }));
        }
    }

    fn take_descriptor(&mut self, name: &str, cx: &mut Context<'_>) -> Result<(), QmpError> {
        let Some(descriptor) = cx.passed.take() else {
            return Err(QmpError::generic("No file descriptor supplied via SCM_RIGHTS"));
        };
        if name.starts_with(|first: char| first.is_ascii_digit()) {
            return Err(QmpError::generic("Parameter 'fdname' expects a name not starting with a digit"));
        }
        self.descriptors.insert(name.to_owned(), descriptor);
        Ok(())
    }

    fn use_descriptor(&mut self, name: &str) -> Result<Descriptor, QmpError> {
        self.descriptors
            .remove(name)
            .ok_or_else(|| QmpError::generic(format!("File descriptor named '{name}' has not been found")))
    }
}
