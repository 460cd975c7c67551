//! Another machine's state comes to one that was started to wait for it.

use std::time::Duration;

use super::{
    Machine, Migration, Status,
    channel::{Channel, Source, channel, no_plain_file, source_of},
};
use crate::{
    host::{Descriptor, Image},
    qemu::{
        Context, QmpError,
        arguments::Arguments,
        differences::{Unloadable, takes},
        run_state::RunState,
    },
};

/// What a machine knows of the state that it waits for.
#[derive(Debug)]
pub(crate) struct Incoming {
    status: Status,
    error: Option<String>,
    /// It has been told where the state comes from.
    begun: bool,
    source: Source,
    exit_on_error: bool,
}

impl Default for Incoming {
    fn default() -> Self {
        Self { status: Status::None, error: None, begun: false, source: Source::Nothing, exit_on_error: true }
    }
}

impl Incoming {
    /// How far it is.
    pub(crate) fn status(&self) -> Status {
        self.status
    }

    /// Why it failed.
    pub(crate) fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }
}

impl Migration {
    /// `migrate-incoming`.
    pub(super) fn migrate_incoming(
        &mut self,
        machine: &Machine<'_>,
        arguments: Arguments<'_>,
        cx: &mut Context<'_>,
    ) -> Result<(), QmpError> {
        arguments.only(&["uri", "channels", "exit-on-error"])?;
        let release = cx.release();
        let Some(incoming) = &self.incoming else { return Err(release.not_started_to_wait()) };
        if incoming.begun {
            return Err(QmpError::generic("The incoming migration has already been started"));
        }
        if machine.cpus.state() != RunState::InMigrate {
            return Err(release.not_started_to_wait());
        }
        if incoming.status != Status::None {
            let text = format!("Illegal migration incoming state: {}", incoming.status.name());
            return Err(QmpError::generic(text));
        }
        if self.parameters.credentials().is_some() || self.capabilities.has("x-colo") {
            return Err(crate::qemu::not_simulated("an incoming migration with TLS or `x-colo`"));
        }
        if !release.protocols_are_checked_first() {
            self.tell_setup(cx);
        }
        let unknown = |error: QmpError| match arguments.optional_text("uri") {
            // All releases say it alike here.
            Some(uri) if error == release.unknown_protocol(uri) => {
                QmpError::generic(format!("unknown migration protocol: {uri}"))
            }
            _ => error,
        };
        let from = channel(arguments, release).map_err(unknown)?;
        self.can_seek(&from)?;
        if release.protocols_are_checked_first() {
            self.tell_setup(cx);
        }
        if let Some(incoming) = self.incoming.as_mut().filter(|_| release.incoming_setup_is_kept()) {
            incoming.status = Status::Setup;
        }
        let source = match from {
            Channel::Descriptor(name) if release.plain_files_are_no_descriptors() => {
                match self.use_descriptor(&name)? {
                    Descriptor::File { .. } => return Err(no_plain_file()),
                    Descriptor::Pipe(path) => Source::File(path, 0),
                }
            }
            Channel::Command(command) => source_of(&command, cx.host())?,
            Channel::Descriptor(name) => {
                let descriptor = self.use_descriptor(&name)?;
                Source::File(descriptor.path().clone(), descriptor.position())
            }
            Channel::File(path, offset) if cx.host().exists(&path) => Source::File(path, offset),
            Channel::File(path, _) => {
                return Err(QmpError::generic(format!("Could not open '{path}': No such file or directory")));
            }
            Channel::Deaf(_) => return Err(crate::qemu::not_simulated("waiting for a connection")),
        };
        let comes = source != Source::Nothing;
        let exit_on_error = arguments.flag_or("exit-on-error", true);
        if let Some(incoming) = &mut self.incoming {
            *incoming = Incoming { begun: true, source, exit_on_error, status: incoming.status, error: None };
        }
        if comes {
            self.schedule(Duration::from_millis(1), cx);
        }
        Ok(())
    }

    /// The state has come: takes it in, and lets the guest go on.
    pub(super) fn take_in(&mut self, machine: &mut Machine<'_>, cx: &mut Context<'_>) {
        let Some(Incoming { source: Source::File(path, offset), .. }) = &self.incoming else { return };
        let (path, offset) = (path.clone(), *offset);
        self.set_incoming(Status::Active, cx);
        cx.stall(takes::LOAD);
        let loaded = match cx.host().image(&path).and_then(Image::as_machine_state) {
            Some(state) if state.at != offset => Err(Unloadable::NoStream),
            None => Err(Unloadable::NoStream),
            Some(state) if state.mapped != self.capabilities.has("mapped-ram") => {
                Err(Unloadable::Capabilities)
            }
            Some(state) if !state.is_whole() => Err(Unloadable::Short),
            Some(state) => match self.hardware.takes(&state.hardware) {
                Ok(()) => Ok((state.clock, state.memory.clone(), state.run_state)),
                Err(unfit) => {
                    let (saved, here) = (state.hardware.memory, self.hardware.memory);
                    Err(Unloadable::Unfit { unfit, saved, here })
                }
            },
        };
        let (clock, memory, stood) = match loaded {
            Ok(loaded) => loaded,
            Err(why) => return self.refuse(&why, cx),
        };
        machine.cpus.loaded(clock, memory, cx);
        let stood = RunState::named(stood).unwrap_or(RunState::Paused);
        let goes_on = machine.cpus.autostart() && stood == RunState::Running;
        let late =
            cx.release().waiting_machines_hold_no_images() || self.capabilities.has("late-block-activate");
        machine.graph.state_has_come(goes_on || !late);
        if !machine.cpus.autostart() {
            machine.cpus.set_state(RunState::Paused, cx);
        } else if stood == RunState::Running {
            machine.cpus.resume(cx);
        } else {
            machine.cpus.set_state(stood, cx);
        }
        self.set_incoming(Status::Completed, cx);
        machine.cpus.report_ports(cx);
    }

    fn refuse(&mut self, why: &Unloadable, cx: &mut Context<'_>) {
        self.set_incoming(Status::Failed, cx);
        let Some(incoming) = &mut self.incoming else { return };
        incoming.error = Some(cx.release().not_taken_in(why));
        if incoming.exit_on_error {
            cx.abort();
        }
    }

    fn set_incoming(&mut self, status: Status, cx: &mut Context<'_>) {
        if let Some(incoming) = &mut self.incoming {
            incoming.status = status;
        }
        self.tell(status, cx);
    }
}
