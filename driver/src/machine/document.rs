//! The file that holds a machine's description: read before an operation on a machine that is off, kept in step with what its disks
//! are in.
//!
//! While the machine is off the file alone says which images it is made of, and writing it is a step of the plan. While it runs QEMU
//! says so; the file is written when the operation is done, for the next time that the machine is started.

use camino::{Utf8Path, Utf8PathBuf};

use super::Machine;
use crate::{
    domain::Domain,
    domain_xml::DomainXml,
    env::Env,
    error::{OffRefusal, OperationError, StepError},
    mark,
    observed::Observed,
    plan::{self, Plan},
    step::{Step, WriteDocument},
    xml::Limits,
};

impl<E: Env> Machine<E> {
    /// The same machine, whose description is in this file and is kept in step.
    #[must_use]
    pub fn with_document(mut self, path: Utf8PathBuf) -> Self {
        self.document = Some(path);
        self
    }

    /// Of a machine that is off, reads the description anew, if it is in a file; where that is and what it says.
    pub(super) async fn read_document(&self) -> Result<Option<(Utf8PathBuf, String)>, OperationError> {
        let Some(path) = self.document.clone().filter(|_| self.is_off()) else { return Ok(None) };
        let (text, document) = self.description(&path).await?;
        let transient = self.domain.borrow().transient;
        self.domain.replace(Domain { transient, ..Domain::from(document) });
        Ok(Some((path, text)))
    }

    /// Of a machine that runs, what the file with its description says: it is written when all is done, and what stands in the way of
    /// that is told before.
    pub(super) async fn read_of_running(&self) -> Result<Option<DomainXml>, OperationError> {
        let Some(path) = self.document.as_ref().filter(|_| !self.is_off()) else { return Ok(None) };
        Ok(Some(self.description(path).await?.1))
    }

    pub(super) async fn description(&self, path: &Utf8Path) -> Result<(String, DomainXml), OperationError> {
        let bad =
            |why: String| OperationError::Refused(OffRefusal::Document { path: path.to_owned(), why }.into());
        let bytes = self.monitor.env().read_file(path, Limits::default().bytes).await;
        let bytes = bytes.map_err(|error| bad(error.to_string()))?;
        let document = DomainXml::read(&bytes).map_err(|error| bad(mark::told(&error)))?;
        let text = String::from_utf8(bytes).map_err(|error| bad(error.to_string()))?;
        Ok((text, document))
    }

    /// After an operation on a machine that ran: writes down what it is made of by now, if that is in a file and has changed. Tells whether
    /// it has.
    pub(super) async fn keep_document(
        &self,
        path: Option<&Utf8Path>,
        plan: &Plan,
        new: Option<&DomainXml>,
    ) -> Result<bool, OperationError> {
        let Some(path) = path.map(Utf8Path::to_owned) else { return Ok(false) };
        let unfinished = |cause: StepError| OperationError::Unfinished {
            done: plan.title.clone(),
            step: format!("write {}", path.file_name().unwrap_or_default()),
            cause,
            remains: vec![format!(
                "`{path}` does not name the images that the machine is in now: write them there before it is started anew"
            )],
        };
        let unread = |error: OperationError| {
            // The operation is done: it is the file alone that nothing was done to.
            let source = std::io::Error::other(match &error {
                OperationError::Refused(refusal) => mark::told(refusal),
                error => error.to_string(),
            });
            unfinished(StepError::File { action: "bring up to date", path: path.clone(), source })
        };
        let (before, old) = self.description(&path).await.map_err(unread)?;
        let document = match new {
            Some(new) if plan.merges().next().is_none() => new.without_chains(),
            _ => match self.images_now(plan, &old, new).await.map_err(unread)? {
                Some(now) => now,
                None => return Ok(false),
            },
        };
        if document == old {
            return Ok(false);
        }
        let write = WriteDocument { path: path.clone(), document, before };
        write.write(self.monitor.env()).await.map_err(unfinished)?;
        Ok(true)
    }

    /// The description with the images in use now; none if the plan has changed none. Of a deletion QEMU says it, as long as it runs: it may
    /// be another one than was there.
    async fn images_now(
        &self,
        plan: &Plan,
        old: &DomainXml,
        new: Option<&DomainXml>,
    ) -> Result<Option<DomainXml>, OperationError> {
        let switched: Vec<(&str, &Utf8Path, &str)> = plan
            .steps()
            .flat_map(|step| match step {
                Step::SwitchOverlays(step) => step.switches.as_slice(),
                _ => &[],
            })
            .map(|switch| (switch.target.as_str(), &*switch.file, "qcow2"))
            .collect();
        if !switched.is_empty() {
            return Ok(Some(old.with_sources(switched)));
        }
        if !plan.steps().any(|step| matches!(step, Step::EndCommit(_))) {
            return Ok(None);
        }
        let planned = || match new {
            Some(new) => Some(new.without_chains()),
            None => self.tree().map(|tree| plan::taken_out(old, &tree)),
        };
        let mut observed = self.observe().await;
        // A disk that is known by its images alone is not known by the one that it has left.
        let is_unknown = |seen: &Observed| plan.merges().any(|end| seen.disk(&end.target).is_none());
        if observed.as_ref().is_ok_and(is_unknown)
            && let Some(planned) = planned()
        {
            observed = self.observe_as(planned).await;
        }
        match observed {
            Ok(observed) => match plan.merges().find(|end| observed.disk(&end.target).is_none()) {
                Some(unknown) => Err(OperationError::Refused(observed.no_image(&unknown.target))),
                None => Ok(Some(old.without_chains().with_sources(observed.sources()))),
            },
            Err(_) if self.has_ended().await => Ok(planned()),
            Err(error) => Err(error),
        }
    }

    /// Asks QEMU what it has of the machine that is described so.
    async fn observe_as(&self, document: DomainXml) -> Result<Observed, OperationError> {
        let transient = self.domain.borrow().transient;
        let before = self.domain.replace(Domain { transient, ..Domain::from(document) });
        let observed = self.observe().await;
        self.domain.replace(before);
        observed
    }

    /// Whether nobody listens at the monitor any more.
    pub(super) async fn has_ended(&self) -> bool {
        self.is_off()
            || matches!(self.monitor.reconnect(self.patience.connect).await, Err(error) if error.is_gone())
    }
}
