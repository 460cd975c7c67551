//! A running machine and the operations on it: the driver's front door.
//!
//! ```text
//! request -> observe -> plan -> carry out -> report
//! ```

use std::{cell::RefCell, rc::Rc, time::Duration};

use camino::Utf8Path;

use crate::{
    capabilities::Capabilities,
    client::Client,
    commands::{QueryBlock, QueryBlockJobs, QueryNamedBlockNodes, QueryStatus},
    domain::Domain,
    env::{Endpoint, Env, FileKind},
    error::OperationError,
    execute,
    launch::{Launcher, chain},
    migration::Settings,
    monitor::Monitor,
    observed::Observed,
    patience::Patience,
    plan::{self, Aside, Facts, GoingBack, HostFiles, Plan, Planned, Records},
    progress::Listener,
    qemu_img::QemuImg,
    report::Report,
    request::Request,
    step,
    store::{self, Store},
    tree::SnapshotTree,
};

/// A running machine.
pub struct Machine<E: Env> {
    monitor: Monitor<E>,
    /// It is another one once a revert has gone back to it.
    domain: RefCell<Domain>,
    patience: Patience,
    capabilities: Rc<Capabilities>,
    records: Option<RefCell<Store<E>>>,
    launcher: Option<Launcher>,
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
        let domain = RefCell::new(domain);
        Ok(Self { monitor, domain, patience, capabilities, records: None, launcher: None })
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
        self.observe_within(self.patience, false).await
    }

    /// The same machine, of whose snapshots records are kept.
    #[must_use]
    pub fn with_records(mut self, records: Store<E>) -> Self {
        self.records = Some(RefCell::new(records));
        self
    }

    /// The same machine, with somebody who starts and stops it.
    #[must_use]
    pub fn with_launcher(mut self, launcher: Launcher) -> Self {
        self.launcher = Some(launcher);
        self
    }

    /// What machine it is by now: a revert may have gone back to another one.
    pub fn domain(&self) -> Domain {
        self.domain.borrow().clone()
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
        let Planned { plan, tree, domain } = self.planned(&request).await?;
        let mut events = self.client().events();
        let patience = self.patience.at_most(request.within());
        let carried_out = execute::carry_out(&self.monitor, &plan, deadline, patience).await;
        // Done is done, whatever failed behind it; and what was not done may have been written down as begun.
        let done = matches!(carried_out, Ok(()) | Err(OperationError::Unfinished { .. }));
        if let (Some(records), Some(tree)) = (&self.records, tree) {
            let found = if done { Some(tree) } else { self.written_records().await };
            if let Some(tree) = found {
                records.borrow_mut().adopt(tree);
            }
        }
        if let Some(document) = domain.filter(|_| done) {
            let transient = self.domain.borrow().transient;
            self.domain.replace(Domain { transient, ..Domain::from(document) });
        }
        carried_out?;
        Ok(Report::new(&request, &plan, &mut events))
    }

    /// What the records say on the host's disk; none if they cannot be read.
    async fn written_records(&self) -> Option<SnapshotTree> {
        let folder = self.records.as_ref()?.borrow().folder().to_owned();
        let read = store::read_folder(self.monitor.env(), &folder).await;
        read.ok().map(|(tree, _)| tree)
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
        let domain = self.domain();
        plan::check_alone(request, &domain)?;
        let env = self.monitor.env();
        let needs_nodes = plan::needs_nodes(request, self.tree().as_ref());
        let observed = self.observe_within(self.patience.at_most(request.within()), needs_nodes).await?;
        let mut files = HostFiles::new();
        for path in plan::paths(request, &domain, &observed) {
            // Of what cannot be looked at nothing is assumed but that something is there.
            let kind = env.file_kind(&path).await.unwrap_or(FileKind::Other);
            files.insert(path, kind);
        }
        let going_back = plan::going_back(request, self.tree().as_ref());
        let aside = match &going_back {
            Some(going_back) => Some(self.look_aside(going_back, &mut files, request.within()).await),
            None => None,
        };
        let Endpoint::Unix(monitor) = self.monitor.endpoint();
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
            domain: &domain,
            observed: &observed,
            capabilities: &self.capabilities,
            unique: &env.unique_id(),
            migration: migration.as_ref(),
            files: &files,
            records,
            seconds: env.seconds(),
            launcher: self.launcher.as_ref(),
            monitor,
            aside: aside.as_ref(),
        };
        Ok(plan::plan(request, facts)?)
    }

    /// Reads what lies aside, which nobody writes: a machine that runs is not touched.
    async fn look_aside(&self, going_back: &GoingBack, files: &mut HostFiles, within: Duration) -> Aside {
        let env = self.monitor.env();
        let GoingBack { domain, memory } = going_back;
        for path in domain.disks().filter_map(|disk| disk.path()) {
            let kind = env.file_kind(path).await.unwrap_or(FileKind::Other);
            files.insert(path.to_owned(), kind);
        }
        let beside = self.launcher.as_ref().and_then(|launcher| launcher.tool(domain));
        let tool = match beside {
            Some(path) if matches!(env.file_kind(&path).await, Ok(FileKind::File { .. })) => path,
            _ => "qemu-img".into(),
        };
        let reader = QemuImg { program: tool.clone(), within, ..QemuImg::new(env.clone()) };
        // What is missing is told better by the plan.
        let is_there = |path: &Utf8Path| matches!(files.get(path), Some(FileKind::File { .. }));
        let found = domain.with_disks(|target| {
            domain.disks().any(|disk| disk.target == target && disk.path().is_some_and(is_there))
        });
        let chains = chain::read(&reader, &found).await.map_err(|error| error.to_string());
        let memory = match memory {
            Some(path) => Some(step::read_save_image(env, path).await.map_err(|error| error.to_string())),
            None => None,
        };
        Aside { tool, chains, memory }
    }

    /// Carries out a plan, one of [`Machine::plan`]'s or of the caller's own making.
    ///
    /// # Errors
    /// [`OperationError`]; it says how things stand now.
    pub async fn carry_out(&self, plan: &Plan, within: Duration) -> Result<(), OperationError> {
        let deadline = self.monitor.env().now() + within;
        execute::carry_out(&self.monitor, plan, deadline, self.patience.at_most(within)).await
    }

    /// Asks how the machine stands, and by which nodes it has its images open if that is needed.
    async fn observe_within(
        &self,
        patience: Patience,
        needs_nodes: bool,
    ) -> Result<Observed, OperationError> {
        self.monitor.reconnect(patience.connect).await?;
        let deadline = self.monitor.env().now() + patience.command;
        let live = self.monitor.live("observe".into(), deadline, patience);
        let status = live.execute(&QueryStatus {}).await?;
        let devices = live.execute(&QueryBlock {}).await?;
        let jobs = live.execute(&QueryBlockJobs {}).await?;
        let mut observed = Observed::new(&self.domain.borrow(), status, &devices);
        // Only the nodes tell which disk a job works on.
        if needs_nodes || !jobs.is_empty() {
            let nodes = live.execute(&QueryNamedBlockNodes { flat: true }).await?;
            observed.find_busy(&nodes);
            observed.find_nodes(&nodes);
        }
        Ok(observed)
    }
}
