//! The guest's agent and the storages below the disks, as far as an operation on the machine needs them.

use super::Machine;
use crate::{
    agent::{AgentError, FreezeStatus, Guard, Presence},
    commands::QueryChardev,
    domain_snapshot::DomainSnapshot,
    env::{Endpoint, Env},
    mark,
    observed::{Observed, ObservedDisk},
    plan::{self, Facts, Held, Plan},
    report::{Quiesced, Verdict},
    request::{Create, CreateFlag, Quiesce, Request},
    storage::{Snapshot, StorageError, Volumes},
    store::Changes,
};

impl<E: Env> Machine<E> {
    /// The same machine, whose guest's agent is reached at this socket. It is asked for nothing but snapshots that want the
    /// guest at rest, and its port is left to others in between: it serves one at a time.
    #[must_use]
    pub fn with_agent(mut self, socket: Endpoint) -> Self {
        self.monitor = self.monitor.with_agent(socket);
        self
    }

    /// Whether the guest may still be frozen by the last operation, which could not let it go.
    pub fn may_be_frozen(&self) -> bool {
        self.monitor.rest().may_be_frozen()
    }

    /// Who lets the guest go should this driver die while an operation has it frozen; and whether one has.
    pub fn guard(&self) -> Guard {
        self.monitor.rest().guard()
    }

    /// How the agent stands, if the guest runs and is to be at rest. A guest that does not run is not asked: it would answer
    /// when it goes on, whoever listens then.
    pub(super) async fn ask_agent(
        &self,
        request: &Request,
        observed: &Observed,
    ) -> Option<Result<FreezeStatus, AgentError>> {
        let Request::Create(create) = request else { return None };
        let rest = self.monitor.rest();
        let socket = rest.port()?;
        let is_of_no_interest = create.quiesce() == Quiesce::Off && create.frozen_by.is_none();
        if is_of_no_interest || !observed.status.running {
            return None;
        }
        let env = self.monitor.env();
        let deadline = env.now() + self.patience.at_most(create.within).command;
        // Of a port that QEMU does not tell of, a sync tells.
        let chardevs = self.client().execute("observe", &QueryChardev {}, deadline).await.unwrap_or_default();
        if Presence::at(socket, &chardevs) == Presence::Closed {
            let why = "nobody in the guest has its port open".to_owned();
            return Some(Err(AgentError::NotConnected(why)));
        }
        Some(rest.status(deadline).await)
    }

    /// What is to be told of the guest's rest, unless a freeze tells more.
    pub(super) fn expect_rest(&self, request: &Request, facts: Facts<'_>) {
        if let Request::Create(create) = request {
            self.monitor.rest().expect(plan::quiesced(create, facts));
        }
    }

    /// Which snapshots the volumes have below the disks that their storages are to take, to put back or to let go of. What is to be
    /// taken or put back has to hold the disks.
    pub(super) async fn ask_storages(
        &self,
        volumes: Vec<(Vec<String>, Volumes)>,
        request: &Request,
        observed: &Observed,
    ) -> Vec<Held> {
        let holds = matches!(request, Request::Create(_) | Request::Revert(_));
        let mut below = Vec::new();
        for (targets, volumes) in volumes {
            let disks = targets.iter().filter(|_| holds).filter_map(|target| observed.disk(target));
            let goes_back = matches!(request, Request::Revert(_));
            let (found, whole) = match self.ask_storage(&volumes, disks.collect(), goes_back).await {
                Ok((found, whole)) => (Ok(found), whole.map_err(|error| mark::told(&error))),
                Err(error) => (Err(mark::told(&error)), Ok(())),
            };
            below.push(Held { targets, volumes, found, whole });
        }
        below
    }

    /// The snapshots of volumes that hold these disks, and have room for one more if they do not go back; and of those that do, whether
    /// they do so as a whole.
    async fn ask_storage(
        &self,
        volumes: &Volumes,
        disks: Vec<&ObservedDisk>,
        goes_back: bool,
    ) -> Result<(Vec<Snapshot>, Result<(), StorageError>), StorageError> {
        let storage = volumes.storage(self.monitor.env().clone())?;
        let found = storage.list().await?;
        if !disks.is_empty() {
            let images: Vec<_> = disks.iter().map(|disk| disk.file.clone()).collect();
            let data = disks.iter().filter_map(|disk| disk.chain.first()?.data_file.clone());
            storage.check_holds(&images, &data.collect::<Vec<_>>()).await?;
            if !goes_back {
                storage.check_room().await?;
            }
        }
        let whole = if goes_back { storage.check_goes_back_whole().await } else { Ok(()) };
        Ok((found, whole))
    }

    /// What is planned begins.
    pub(super) async fn begin_rest(&self, request: &Request, plan: &Plan) {
        let by_the_caller = |create: &Create| create.quiesce().is_by_the_caller(create.frozen_by.as_ref());
        let by_the_caller = matches!(request, Request::Create(create) if by_the_caller(create));
        self.monitor.rest().begins(plan.freezes(), by_the_caller).await;
    }

    /// What is to be told of the guest's rest. A freeze of the caller's is looked at again, unless it was when it last could be.
    pub(super) async fn quiesced(&self) -> Quiesced {
        let rest = self.monitor.rest();
        rest.look_again(self.monitor.env().now() + self.patience.ask).await;
        rest.told()
    }

    /// Writes down with a snapshot whether the guest was at rest for it, where somebody wanted to know. That the record does not say it
    /// is no word against it: whoever is killed before comes not so far.
    pub(super) async fn record_rest(&self, request: &Request, quiesced: &Quiesced) {
        let Request::Create(create) = request else { return };
        let is_asked = create.quiesce() != Quiesce::Off || quiesced.verdict != Verdict::No;
        let Some(records) =
            self.records.as_ref().filter(|_| is_asked && !create.flags.has(CreateFlag::NoMetadata))
        else {
            return;
        };
        let (folder, old) = (records.borrow().folder().to_owned(), records.borrow().tree().clone());
        let name = create.wish.name.as_deref().unwrap_or_default();
        let Some(record) = old.get(name).filter(|record| record.domain.is_some()) else { return };
        let mut tree = old.clone();
        let noted = Quiesced { frozen_for: None, ..quiesced.clone() };
        tree.insert(DomainSnapshot { quiesced: Some(noted), ..record.clone() });
        let Ok(changes) = Changes::between(&folder, &old, &tree) else { return };
        match changes.write(self.monitor.env()).await {
            Ok(()) => records.borrow_mut().adopt(tree),
            Err(error) => tracing::warn!(%error, "whether the guest was at rest is not written down"),
        }
    }
}
