//! A running machine and the operations on it: the driver's front door.
//!
//! ```text
//! request -> observe -> plan -> carry out -> report
//! ```

use std::{cell::RefCell, rc::Rc, time::Duration};

use crate::{
    capabilities::Capabilities,
    client::Client,
    commands::{QueryBlock, QueryBlockJobs, QueryNamedBlockNodes, QueryStatus},
    domain::Domain,
    env::{Endpoint, Env, FileKind},
    error::OperationError,
    execute,
    migration::Settings,
    monitor::Monitor,
    observed::Observed,
    patience::Patience,
    plan::{self, Facts, HostFiles, Plan, Planned, Records},
    progress::Listener,
    report::Report,
    request::Request,
    store::Store,
    tree::SnapshotTree,
};

/// A running machine.
pub struct Machine<E: Env> {
    monitor: Monitor<E>,
    domain: Domain,
    patience: Patience,
    capabilities: Rc<Capabilities>,
    records: Option<RefCell<Store<E>>>,
}

impl<E: Env> Machine<E> {
    /// Connects to a machine's monitor. Without `capabilities` QEMU is asked for them.
    ///
    /// # Errors
    /// [`OperationError::Unreachable`], [`OperationError::Unobserved`].
    pub async fn connect(
        env: E,
        endpoint: Endpoint,
        domain: Domain,
        capabilities: Option<Rc<Capabilities>>,
        patience: Patience,
    ) -> Result<Self, OperationError> {
        let monitor = Monitor::connect(env, endpoint, patience.connect).await?;
        let capabilities = match capabilities {
            Some(known) => known,
            None => {
                let deadline = monitor.env().now() + patience.command;
                Rc::new(Capabilities::probe(&monitor.client(), deadline).await?)
            }
        };
        Ok(Self { monitor, domain, patience, capabilities, records: None })
    }

    /// The connection, for commands of the caller's own.
    pub fn client(&self) -> Client<E> {
        self.monitor.client()
    }

    /// Listens to how far steps are.
    pub fn progress(&self) -> Listener {
        self.monitor.progress()
    }

    /// What this QEMU can do.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// Asks the machine how it stands.
    ///
    /// # Errors
    /// [`OperationError::Unreachable`], [`OperationError::Unobserved`].
    pub async fn observe(&self) -> Result<Observed, OperationError> {
        self.observe_within(self.patience).await
    }

    /// The same machine, of whose snapshots records are kept.
    #[must_use]
    pub fn with_records(mut self, records: Store<E>) -> Self {
        self.records = Some(RefCell::new(records));
        self
    }

    /// What the records say; none if none are kept.
    pub fn tree(&self) -> Option<SnapshotTree> {
        Some(self.records.as_ref()?.borrow().tree().clone())
    }

    /// Plans an operation and does nothing.
    ///
    /// # Errors
    /// [`OperationError::Refused`], and those of [`Machine::observe`].
    pub async fn plan(&self, request: &Request) -> Result<Plan, OperationError> {
        Ok(self.planned(&self.named(request)).await?.plan)
    }

    /// Plans an operation and carries it out.
    ///
    /// # Errors
    /// [`OperationError`]; it says how things stand now.
    pub async fn perform(&self, request: &Request) -> Result<Report, OperationError> {
        let deadline = self.monitor.env().now() + request.within();
        let request = self.named(request);
        let Planned { plan, tree } = self.planned(&request).await?;
        let mut events = self.client().events();
        let patience = self.patience.at_most(request.within());
        let carried_out = execute::carry_out(&self.monitor, &plan, deadline, patience).await;
        // Done is done, whatever failed behind it.
        if matches!(carried_out, Ok(()) | Err(OperationError::Unfinished { .. }))
            && let (Some(records), Some(tree)) = (&self.records, tree)
        {
            records.borrow_mut().adopt(tree);
        }
        carried_out?;
        Ok(Report::new(&request, &plan, &mut events))
    }

    /// A snapshot that nobody named is called by its second.
    fn named(&self, request: &Request) -> Request {
        let mut request = request.clone();
        if let Request::Create(create) = &mut request {
            create.wish = create.wish.clone().taken_at(self.monitor.env().seconds());
        }
        request
    }

    async fn planned(&self, request: &Request) -> Result<Planned, OperationError> {
        plan::check_alone(request, &self.domain)?;
        let env = self.monitor.env();
        let observed = self.observe_within(self.patience.at_most(request.within())).await?;
        let mut files = HostFiles::new();
        for path in plan::paths(request, &self.domain, &observed) {
            // Of what cannot be looked at nothing is assumed but that something is there.
            let kind = env.file_kind(&path).await.unwrap_or(FileKind::Other);
            files.insert(path, kind);
        }
        let migration = match plan::saves_memory(request) {
            true => {
                let deadline = env.now() + self.patience.command;
                Some(Settings::ask(&self.client(), "observe", deadline).await?)
            }
            false => None,
        };
        let records = self.records.as_ref().map(RefCell::borrow);
        let records = records.as_ref().map(|store| Records { folder: store.folder(), tree: store.tree() });
        let facts = Facts {
            domain: &self.domain,
            observed: &observed,
            capabilities: &self.capabilities,
            unique: &env.unique_id(),
            migration: migration.as_ref(),
            files: &files,
            records,
            seconds: env.seconds(),
        };
        Ok(plan::plan(request, facts)?)
    }

    /// Carries out a plan, one of [`Machine::plan`]'s or of the caller's own making.
    ///
    /// # Errors
    /// [`OperationError`]; it says how things stand now.
    pub async fn carry_out(&self, plan: &Plan, within: Duration) -> Result<(), OperationError> {
        let deadline = self.monitor.env().now() + within;
        execute::carry_out(&self.monitor, plan, deadline, self.patience.at_most(within)).await
    }

    async fn observe_within(&self, patience: Patience) -> Result<Observed, OperationError> {
        self.monitor.reconnect(patience.connect).await?;
        let deadline = self.monitor.env().now() + patience.command;
        let live = self.monitor.live("observe".into(), deadline, patience);
        let status = live.execute(&QueryStatus {}).await?;
        let devices = live.execute(&QueryBlock {}).await?;
        let jobs = live.execute(&QueryBlockJobs {}).await?;
        let mut observed = Observed::new(&self.domain, status, &devices);
        if !jobs.is_empty() {
            // Only the nodes tell which disk a job works on.
            observed.find_busy(&live.execute(&QueryNamedBlockNodes { flat: true }).await?);
        }
        Ok(observed)
    }
}
