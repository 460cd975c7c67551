//! A machine that is off: nobody is asked but its description and its images.
//!
//! Its description says which images it is made of. Where that is a file ([`Machine::with_document`]), it is read anew for each
//! operation, behind the lock on the machine's records, and written by those that put the machine on other images. That nobody else has the images is what
//! `qemu-img` finds out; a machine that is started in the very moment between is not.

use std::{
    cell::{Cell, OnceCell, RefCell},
    rc::Rc,
};

use camino::Utf8PathBuf;

use super::Machine;
use crate::{
    capabilities::Capabilities,
    client::listens,
    domain_xml::{Disk, DomainXml},
    env::{Endpoint, Env, FileKind},
    error::{ImageRefusal, OffRefusal, OperationError},
    images,
    launch::{BuiltIn, Launcher, Start, Stop, arguments::Power},
    mark,
    monitor::Monitor,
    observed::Observed,
    patience::Patience,
    plan,
    qemu_img::QemuImg,
    request::Request,
};

/// A machine that is off.
#[derive(Debug, Clone)]
pub struct Off {
    /// Its description.
    pub domain: DomainXml,
    /// Where its monitor is to listen, should it be started.
    pub monitor: Option<Utf8PathBuf>,
    /// What the QEMU can do that would be started, if that is known.
    pub capabilities: Option<Rc<Capabilities>>,
    /// `qemu-img`; by default the one beside the machine's QEMU, or else the one on the path.
    pub tool: Option<Utf8PathBuf>,
    /// The file with the memory that it goes on with when it is started; by default where libvirt has it.
    pub managed_save: Option<Utf8PathBuf>,
}

impl<E: Env> Machine<E> {
    /// A machine that is off.
    pub fn off(env: E, off: Off, patience: Patience) -> Self {
        Self {
            monitor: Monitor::off(env, off.monitor.clone().map(Endpoint::Unix)),
            domain: RefCell::new(off.domain.clone().into()),
            patience,
            capabilities: off.capabilities.clone().unwrap_or_default(),
            asked: OnceCell::new(),
            records: None,
            launcher: None,
            document: None,
            off: Some(off),
            no_background: RefCell::default(),
            answered: RefCell::default(),
            nothing_pends: Cell::default(),
            held: RefCell::default(),
        }
    }

    /// Whether it is off, as far as is known here.
    pub fn is_off(&self) -> bool {
        self.monitor.is_off()
    }

    /// Asks the images how they stand, and whether anybody has them.
    pub(super) async fn observe_images(&self, request: &Request) -> Result<Observed, OperationError> {
        let env = self.monitor.env();
        if let Some(endpoint @ Endpoint::Unix(path)) = self.monitor.endpoint()
            && listens(env, endpoint).await
        {
            return Err(OperationError::Refused(OffRefusal::MonitorListens(path.clone()).into()));
        }
        let domain = self.domain();
        let Some(document) = &domain.document else {
            return Ok(Observed {
                status: crate::commands::Status::off(),
                disks: Vec::new(),
                missing: Vec::new(),
                undescribed: Vec::new(),
                nvram: None,
            });
        };
        check_paths(document).map_err(|refusal| OperationError::Refused(refusal.into()))?;
        let program = self.tool(document).await;
        let tool = QemuImg {
            program,
            within: request.within().max(self.patience.command),
            ..QemuImg::new(env.clone())
        };
        let tree = self.tree();
        let needed = |target: &str| plan::needs_images(request, tree.as_ref(), target);
        let observed = images::observe(&tool, document, needed).await;
        observed.map_err(|refusal| OperationError::Refused(refusal.into()))
    }

    /// Whether it is known what its QEMU can do.
    pub(super) fn knows_qemu(&self) -> bool {
        self.asked.get().is_some() || self.off.as_ref().is_none_or(|off| off.capabilities.is_some())
    }

    /// Finds out what its QEMU can do, if that is not known and needed. While the machine is off its launcher starts it for that,
    /// without its disks and without letting the guest run, and ends it again; a program of the user's is not asked to.
    pub(super) async fn get_to_know(&self, request: &Request) -> Result<(), OperationError> {
        if self.knows_qemu() {
            return Ok(());
        }
        let env = self.monitor.env();
        if !self.is_off() {
            let known = Capabilities::probe(&self.client(), env.now() + self.patience.command).await?;
            self.asked.get_or_init(|| known);
            return Ok(());
        }
        let (domain, endpoint) = (self.domain(), self.monitor.endpoint());
        let (Some(launcher @ Launcher::BuiltIn(_)), Some(document), Some(endpoint)) =
            (&self.launcher, &domain.document, endpoint)
        else {
            return Ok(());
        };
        // One that runs after all is found to run next.
        if !plan::loads_memory(request, self.tree().as_ref()) || listens(env, endpoint).await {
            return Ok(());
        }
        let Endpoint::Unix(monitor) = endpoint;
        // Never at the machine's own monitor: one that a killed driver leaves would be taken for the machine. Left at this one, it is
        // asked by the next, and ended.
        let beside = Utf8PathBuf::from(format!("{monitor}.asked"));
        let (bare, within, monitor) = (document.with_disks(|_| false), self.patience.command, &*beside);
        let start = Start { domain: &bare, power: Power::Paused, monitor, within };
        let left = Endpoint::Unix(beside.clone());
        let started = match listens(env, &left).await {
            true => Monitor::connect(env.clone(), left, within).await.ok(),
            false => launcher.start(env, &start).await.ok(),
        };
        // Why it cannot be started is told by the plan, or by the start itself.
        let Some(started) = started else { return Ok(()) };
        let known = Capabilities::probe(&started.client(), env.now() + within).await;
        started.client().close();
        let ended = launcher.stop(env, &Stop { domain: &bare, monitor, within }).await;
        ended
            .map_err(|error| OperationError::Refused(OffRefusal::QemuNotEnded(mark::told(&error)).into()))?;
        if let Ok(known) = known {
            self.asked.get_or_init(|| known);
        }
        Ok(())
    }

    /// The file that libvirt calls a managed save, if the machine is off and has one: the one that was named, or else that of
    /// libvirt's folders, `qemu/save/NAME.save` beside the records in `qemu/snapshot/NAME`.
    pub(super) async fn managed_save(&self, name: &str) -> Option<Utf8PathBuf> {
        let save = match &self.off.as_ref().filter(|_| self.is_off())?.managed_save {
            Some(named) => named.clone(),
            None => {
                let folder = self.records.as_ref()?.borrow().folder().to_owned();
                // A path of one word has its neighbours all the same.
                let state = self.monitor.env().canonical(folder.parent()?).await.ok()?;
                state.parent()?.join("save").join(format!("{name}.save"))
            }
        };
        let kind = self.monitor.env().file_kind(&save).await;
        matches!(kind, Ok(FileKind::File { .. })).then_some(save)
    }

    /// `qemu-img`: the one that was named, the one beside the machine's QEMU, or the one on the path.
    pub(super) async fn tool(&self, domain: &DomainXml) -> Utf8PathBuf {
        if let Some(named) = self.off.as_ref().and_then(|off| off.tool.clone()) {
            return named;
        }
        let built_in = || Launcher::BuiltIn(BuiltIn::default()).tool(domain);
        let beside = self.launcher.as_ref().map_or_else(built_in, |launcher| launcher.tool(domain));
        match beside {
            Some(path) if matches!(self.monitor.env().file_kind(&path).await, Ok(FileKind::File { .. })) => {
                path
            }
            _ => "qemu-img".into(),
        }
    }
}

/// Whether each image is named from the root: any other path leads elsewhere from elsewhere, and this driver, QEMU and what the next one
/// is started by need not run in one folder.
fn check_paths(document: &DomainXml) -> Result<(), ImageRefusal> {
    let relative = |disk: Disk<'_>| {
        let path = disk.path().filter(|path| path.is_relative())?;
        Some(ImageRefusal::NotAbsolute { disk: disk.target.to_owned(), file: path.to_owned() })
    };
    match document.disks().filter(Disk::is_on_the_host).find_map(relative) {
        Some(refusal) => Err(refusal),
        None => Ok(()),
    }
}
