//! The process that a revert ends, and the one that it starts.

use camino::Utf8Path;

use super::{Fresh, Goal, Way, location};
use crate::{
    domain_snapshot::Location,
    domain_xml::DomainXml,
    error::{OffRefusal, Refusal, RevertRefusal},
    launch::{BuiltIn, Launcher, arguments::Power, chain::Chains},
    mark,
    plan::Stage,
    step::{LoadMemory, StartMachine, StopMachine, TryMachine},
};

impl Way<'_> {
    /// The machine as it is started: on the new overlays, and beside them on what is in use by now or was put back.
    pub(super) fn machine(&self, fresh: &[Fresh]) -> Result<DomainXml, RevertRefusal> {
        let left_out = |target: &str| location(self.record, target) == Location::No;
        let kept = self.facts.observed.sources().filter(|(target, ..)| left_out(target));
        let new = fresh.iter().map(|overlay| (overlay.target.as_str(), &*overlay.file, "qcow2"));
        let domain = self.domain.with_sources(kept.chain(new));
        let Some(aside) = self.facts.aside else { return Ok(domain) };
        let found = aside.chains.as_ref().map_err(|why| RevertRefusal::Chain(why.clone()))?;
        for overlay in fresh {
            let behind = found.get(&overlay.target).into_iter().flatten();
            behind.into_iter().try_for_each(|image| self.check_is_there(&overlay.target, &image.file))?;
        }
        let chains: Chains = fresh
            .iter()
            .map(|overlay| {
                let behind = found.get(&overlay.target).into_iter().flatten().cloned();
                (overlay.target.clone(), [overlay.under.clone()].into_iter().chain(behind).collect())
            })
            .collect();
        Ok(domain.with_chains(&chains))
    }

    /// Ends the machine; nothing of one that is off.
    pub(super) fn stop(&self) -> Option<StopMachine> {
        let document = self.facts.domain.document.as_ref().unwrap_or(&self.domain);
        let runs = self.facts.off.is_none();
        runs.then(|| StopMachine {
            launcher: self.facts.launcher.cloned().unwrap_or(Launcher::BuiltIn(BuiltIn::default())),
            domain: document.clone(),
            monitor: self.monitor().to_owned(),
        })
    }

    /// Writes down what machine a machine that is off is from now on. The images behind its disks are left to be found.
    pub(super) fn described(&self, domain: &DomainXml) -> Option<Stage> {
        Some(Stage::one(self.facts.off?.document(&domain.without_chains())?))
    }

    /// Starts it, and loads its memory if there is any to be loaded.
    pub(super) fn started(
        &self,
        launcher: &Launcher,
        domain: &DomainXml,
        memory: Option<LoadMemory>,
    ) -> impl Iterator<Item = Stage> {
        let power = match (&memory, self.goal) {
            (Some(_), _) => Power::Incoming,
            (None, Goal::Running) => Power::Running,
            (None, _) => Power::Paused,
        };
        let start = Stage::one(self.start(launcher, domain, power));
        std::iter::once(start).chain(memory.map(Stage::one))
    }

    /// Asks whether the machine can be started that is to follow the one that runs: nothing where none is ended, or where a program
    /// starts it, which cannot be asked.
    pub(super) fn try_out(&self, launcher: &Launcher, domain: &DomainXml) -> Option<Stage> {
        let is_asked = self.facts.off.is_none() && matches!(launcher, Launcher::BuiltIn(_));
        is_asked.then(|| {
            let (launcher, domain) = (launcher.clone(), domain.clone());
            Stage::one(TryMachine { launcher, domain, monitor: self.monitor().to_owned() })
        })
    }

    pub(super) fn start(&self, launcher: &Launcher, domain: &DomainXml, power: Power) -> StartMachine {
        let (launcher, domain) = (launcher.clone(), domain.clone());
        StartMachine { launcher, domain, monitor: self.monitor().to_owned(), power }
    }

    /// Where the machine's monitor is: it was seen before that somebody has said so.
    pub(super) fn monitor(&self) -> &Utf8Path {
        self.facts.monitor.unwrap_or(Utf8Path::new(""))
    }

    /// Whether it is known how memory gets into the QEMU that is to be started.
    pub(super) fn knows_qemu(&self) -> Result<(), OffRefusal> {
        match self.facts.off.is_none_or(|off| off.knows_qemu) {
            true => Ok(()),
            false => Err(OffRefusal::QemuUnknown(self.name())),
        }
    }

    pub(super) fn launcher_if_needed(&self, domain: &DomainXml) -> Result<Option<&Launcher>, Refusal> {
        (self.goal != Goal::Off).then(|| self.launcher(domain)).transpose()
    }

    pub(super) fn launcher(&self, domain: &DomainXml) -> Result<&Launcher, Refusal> {
        let launcher = self.facts.launcher.ok_or_else(|| RevertRefusal::NoLauncher(self.name()))?;
        let cannot = |why: String| RevertRefusal::CannotLaunch { name: self.name(), why };
        let monitor = self.facts.monitor.ok_or_else(|| OffRefusal::NoMonitor(self.name()))?;
        launcher.check(domain, monitor).map_err(|error| cannot(mark::told(&error)))?;
        if let Launcher::BuiltIn(_) = launcher {
            self.check_overlays(domain).map_err(|error| cannot(mark::told(&error)))?;
        }
        Ok(launcher)
    }
}
