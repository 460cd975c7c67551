//! The driver of a play: how it begins, and begins again when it was killed.

use std::{rc::Rc, time::Duration};

use camino::Utf8Path;
use freezeframe_driver::{
    Machine, Patience,
    capabilities::Capabilities,
    client::ConnectError,
    domain_xml::DomainXml,
    env::{Endpoint, Env},
    error::OperationError,
    machine::Off,
    mark,
    recover::{Recovered, Turn},
    request::WITHIN,
    store::{Store, StoreError},
};

use super::{CannotPlay, Ending, OWN, Stands, Told};
use crate::{
    inspect,
    language::{self, Becomes, Describe, Power, Recover},
    machine,
    recorded::Recorded,
    world::World,
};

/// What a driver is told of the machine when it begins.
pub(super) struct Driver<'a, W: World> {
    pub(super) described: &'a language::Machine,
    /// What its description says otherwise by now.
    pub(super) anew: Describe,
    pub(super) world: &'a W,
    pub(super) capabilities: Rc<Capabilities>,
}

/// The driver's hold on a machine, or why it has none.
type Hold<W> = Result<Machine<Recorded<<W as World>::Env>>, OperationError>;

impl<W: World> Driver<'_, W> {
    /// The first driver. A machine that is off has its description in a file.
    pub(super) async fn begins(&self, env: &Recorded<W::Env>) -> Result<Hold<W>, CannotPlay> {
        if self.described.state == Power::Off {
            let path = inspect::description(self.world.folder());
            let failed = |error: std::io::Error| CannotPlay::new(format!("{path}: {error}"));
            let plain = self.world.env();
            plain.create_folder(&inspect::state(self.world.folder())).await.map_err(failed)?;
            let document = self.document().element().document();
            plain.replace_file(&path, document.as_bytes()).await.map_err(failed)?;
            return self.with_the_rest(env, Ok(self.off(env).with_document(path))).await;
        }
        self.with_the_rest(env, self.connects(env).await).await
    }

    /// A new driver in the place of one that was killed: it knows what is in the files, and no more.
    pub(super) async fn begins_again(&self, env: &Recorded<W::Env>) -> Result<Hold<W>, CannotPlay> {
        let was_off = self.described.state == Power::Off;
        let connected = match was_off {
            true => Ok(self.off(env).with_document(inspect::description(self.world.folder()))),
            false => self.connects(env).await,
        };
        let hold = match connected {
            // Nobody listens there any more: QEMU is gone too.
            Err(OperationError::Unreachable(ConnectError::Unreachable { .. })) => Ok(self.off(env)),
            connected => connected,
        };
        self.with_the_rest(env, hold).await
    }

    /// The same for whoever sees first whether a machine that was off has been started since.
    pub(super) async fn begins_where_it_runs(&self, env: &Recorded<W::Env>) -> Result<Hold<W>, CannotPlay> {
        let runs = self.world.env().connect(&self.world.monitor()).await.is_ok();
        if self.described.state != Power::Off || !runs {
            return self.begins_again(env).await;
        }
        let hold = self.connects(env).await;
        let path = inspect::description(self.world.folder());
        self.with_the_rest(env, hold.map(|machine| machine.with_document(path))).await
    }

    async fn connects(&self, env: &Recorded<W::Env>) -> Hold<W> {
        let mut domain = machine::domain(&self.machine(), self.world.folder());
        if domain.document.is_some() {
            let document = self.document();
            for disk in &mut domain.disks {
                disk.format = document.disk(&disk.target).map(|disk| disk.format().to_owned());
            }
            domain.document = Some(document);
        }
        let capabilities = Some(self.capabilities.clone());
        Machine::connect(env.clone(), self.world.monitor(), domain, capabilities, Patience::default()).await
    }

    fn document(&self) -> DomainXml {
        machine::anew(machine::document(&self.machine(), self.world.folder()), &self.anew)
    }

    /// The machine with the disks that are described since.
    fn machine(&self) -> language::Machine {
        let mut machine = self.described.clone();
        machine.disks.extend(self.anew.disks.iter().cloned());
        machine
    }

    fn off(&self, env: &Recorded<W::Env>) -> Machine<Recorded<W::Env>> {
        let Endpoint::Unix(monitor) = self.world.monitor();
        let off = Off {
            domain: self.document(),
            monitor: self.described.launcher.then_some(monitor),
            capabilities: Some(self.capabilities.clone()),
            tool: Some(self.world.tool()),
            managed_save: None,
        };
        Machine::off(env.clone(), off, Patience::default())
    }

    async fn with_the_rest(&self, env: &Recorded<W::Env>, hold: Hold<W>) -> Result<Hold<W>, CannotPlay> {
        let mut machine = match hold {
            Ok(machine) => machine,
            Err(error) => return Ok(Err(error)),
        };
        if self.described.records {
            let state = inspect::state(self.world.folder());
            machine = machine.with_records(open(env, &state).await?);
        }
        if self.described.agent.is_some() {
            machine = machine.with_agent(self.world.agent());
        }
        if self.described.launcher {
            machine = machine.with_launcher(self.world.launcher());
        }
        Ok(Ok(machine))
    }
}

/// Opens the records. A program that is just being started beside has the lock of a driver that was killed for a moment more, until
/// it is one of its own: on a real host that is waited for.
async fn open<E: Env>(env: &E, state: &Utf8Path) -> Result<Store<E>, CannotPlay> {
    let until = env.now() + OWN;
    loop {
        match Store::open(env.clone(), state, machine::NAME).await {
            Ok((store, passed)) => {
                passed.iter().for_each(mark::reached);
                return Ok(store);
            }
            Err(StoreError::Locked(_)) if env.now() < until => {
                env.sleep_until(env.now() + Duration::from_millis(20)).await;
            }
            Err(error) => return Err(CannotPlay::new(error.to_string())),
        }
    }
}

/// Puts right what an operation has left, and holds what became of it against what the scenario says.
pub(super) async fn recover<E: Env>(machine: &Machine<E>, recover: &Recover) -> Ending {
    let failed = |error: OperationError| Ending::failed(&error);
    if recover.forget {
        return match machine.forget_pending().await {
            Ok(Some(pending)) => {
                let left = machine.left_in_doubt(&pending).await;
                let left: String = left.iter().map(|left| format!("\n  left: {left}")).collect();
                Ending::Done(format!("forgotten: {}{left}", pending.title()))
            }
            Ok(None) => Ending::Done("nothing was pending".to_owned()),
            Err(error) => failed(error),
        };
    }
    let recovered = match machine.recover(WITHIN).await {
        Ok(recovered) => recovered.or_else(|| machine.forgotten()),
        Err(error) => return failed(error),
    };
    if let Some(recovered) = &recovered {
        mark::reached(recovered);
    }
    let became = recovered.as_ref().map_or(Becomes::Nothing.name(), |recovered| recovered.turn.name());
    let text = recovered.as_ref().map_or("nothing was pending".to_owned(), ToString::to_string);
    let unlike = recover.becomes.map(Becomes::name).filter(|wanted| *wanted != became);
    let leaves = recovered.is_some_and(|recovered| !recovered.remains.is_empty());
    let stands = if leaves { Stands::Left } else { Stands::Done };
    match unlike {
        // How it stands is none the worse for that the scenario has expected something else.
        Some(wanted) => {
            let text = format!("it was to be {wanted}, and is {became}: {text}");
            Ending::Failed { code: "recover", text, stands }
        }
        None if leaves => Ending::Failed { code: "OPERATION_FAILED", text, stands },
        None => Ending::Done(text),
    }
}

/// What is told of a recovery of whatever was going on: how everything stands, as against how it stood before that had begun.
pub(super) fn told(recovered: &Result<Option<Recovered>, OperationError>) -> Told {
    let (stands, text) = match recovered {
        Err(error) => (error.into(), error.to_string()),
        Ok(None) => (Stands::Unsaid, "nothing was pending".to_owned()),
        Ok(Some(recovered)) => {
            let stands = match recovered.turn {
                Turn::Unknown => Stands::Unknown,
                _ if !recovered.remains.is_empty() => Stands::Left,
                Turn::NotBegun | Turn::Back => Stands::AsBefore,
                Turn::Forward => Stands::Done,
                Turn::Forgotten => Stands::Left,
            };
            (stands, recovered.to_string())
        }
    };
    Told { stands, text, frozen: false, quiesced: None }
}
