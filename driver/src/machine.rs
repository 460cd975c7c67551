//! A machine and the operations on it: the driver's front door. It runs, and is reached through its monitor; or it is off ([`Off`]).
//!
//! ```text
//! request -> observe -> plan -> carry out -> report
//! ```

mod aside;
mod document;
mod hold;
mod identity;
mod off;
mod pending;
mod quiesce;

use std::{
    cell::{Cell, OnceCell, RefCell},
    rc::{Rc, Weak},
    time::Duration,
};

use camino::Utf8PathBuf;

pub use self::{hold::HoldError, off::Off};
use crate::{
    capabilities::Capabilities,
    client::{Client, CommandError},
    commands::{
        Command as _, MigrateSetCapabilities, QueryBlock, QueryBlockJobs, QueryNamedBlockNodes, QueryStatus,
    },
    domain::Domain,
    env::{Endpoint, Env, FileKind},
    error::{OperationError, Refusal, StepError},
    execute,
    journal::{Journal, Left},
    launch::Launcher,
    migration::Before,
    monitor::Monitor,
    observed::Observed,
    patience::Patience,
    plan::{self, Facts, HostFiles, Plan, Planned, Records},
    progress::Listener,
    report::{Images, Report},
    request::Request,
    store::{self, Store},
    tree::SnapshotTree,
    wire::Greeting,
};

/// A machine, one that runs unless it is said to be off.
pub struct Machine<E: Env> {
    monitor: Monitor<E>,
    /// It is another one once a revert has gone back to it.
    domain: RefCell<Domain>,
    patience: Patience,
    capabilities: Rc<Capabilities>,
    /// What was asked of a QEMU of which nothing was known when the machine was off.
    asked: OnceCell<Capabilities>,
    records: Option<RefCell<Store<E>>>,
    launcher: Option<Launcher>,
    /// The file that holds its description.
    document: Option<Utf8PathBuf>,
    /// What is known of one that is, or was, off.
    off: Option<Off>,
    /// Why this QEMU does not write memory in the background, once it has said so.
    no_background: RefCell<Option<String>>,
    /// The UUID that it has answered with, if it has one.
    answered: RefCell<Option<String>>,
    /// Whether it is known that no operation pends, so that nobody has to look again.
    nothing_pends: Cell<bool>,
    /// The lock that keeps other drivers from it, while somebody holds it.
    held: RefCell<Weak<E::Lock>>,
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
        Self::connect_to_one(env, endpoint, domain, |_| capabilities, patience).await
    }

    /// Connects to a machine's monitor. QEMU is asked what it can do if that is not `known` of the one that greets so.
    ///
    /// # Errors
    /// As [`Machine::connect`].
    pub async fn connect_to_one(
        env: E,
        endpoint: Endpoint,
        domain: Domain,
        known: impl FnOnce(&Greeting) -> Option<Rc<Capabilities>>,
        patience: Patience,
    ) -> Result<Self, OperationError> {
        let monitor = Monitor::connect(env, endpoint, patience.connect).await?;
        let capabilities = match known(monitor.client().greeting()) {
            Some(known) => known,
            None => {
                let deadline = monitor.env().now() + patience.command;
                Rc::new(Capabilities::probe(&monitor.client(), deadline).await?)
            }
        };
        let domain = RefCell::new(domain);
        Ok(Self {
            monitor,
            domain,
            patience,
            capabilities,
            asked: OnceCell::new(),
            records: None,
            launcher: None,
            document: None,
            off: None,
            no_background: RefCell::default(),
            answered: RefCell::default(),
            nothing_pends: Cell::default(),
            held: RefCell::default(),
        })
    }

    /// The connection, for commands of the caller's own.
    pub fn client(&self) -> Client<E> {
        self.monitor.client()
    }

    /// What it is reached by, for what is no operation on snapshots.
    pub(crate) fn monitor(&self) -> &Monitor<E> {
        &self.monitor
    }

    /// Listens to how far steps are.
    pub fn progress(&self) -> Listener {
        self.monitor.progress()
    }

    /// What this QEMU can do; nothing as long as that of a machine that is off is not known.
    pub fn capabilities(&self) -> &Capabilities {
        self.asked.get().unwrap_or(&self.capabilities)
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
        let planned = self.plan_first(request).await;
        self.monitor.rest().release();
        planned
    }

    async fn plan_first(&self, request: &Request) -> Result<Plan, OperationError> {
        let parts = self.parts(request)?;
        let Some(first) = parts.first() else { return Ok(self.planned(&self.named(request)).await?.0.plan) };
        let plan = self.planned(first).await?.0.plan;
        let names: Vec<_> = parts.iter().map(Request::name).collect();
        let title = format!("delete snapshots {}, one by one; first: {}", names.join(" "), plan.title);
        Ok(Plan { title, ..plan })
    }

    /// Plans an operation and carries it out.
    ///
    /// # Errors
    /// [`OperationError`]; it says how things stand now.
    pub async fn perform(&self, request: &Request) -> Result<Report, OperationError> {
        let _held = self.hold().await?;
        if let Some(recovered) = self.put_right(request.within()).await? {
            tracing::warn!(%recovered, "an earlier operation had not come to its end");
        }
        let parts = self.parts(request)?;
        if parts.is_empty() {
            let done = self.perform_one(&self.named(request)).await;
            self.monitor.rest().release();
            return done;
        }
        let until = self.monitor.env().now() + request.within();
        let mut reports = Vec::new();
        for part in parts {
            let within = until.saturating_sub(self.monitor.env().now()).max(Duration::from_millis(1));
            let name = part.name().to_owned();
            match self.perform_one(&part.within_time(within)).await {
                Ok(report) => reports.push(report),
                Err(error) if reports.is_empty() => return Err(error),
                Err(error) => {
                    let kept = reports.iter().flat_map(|report| report.kept.clone()).collect();
                    let done = reports.into_iter().map(|report| report.name).collect();
                    return Err(OperationError::Partly { done, kept, name, cause: Box::new(error) });
                }
            }
        }
        Ok(Report::of_all(request, &self.domain(), reports))
    }

    /// The deletions that it stands for, if each of them is done by itself and all can be; nothing for any other request.
    fn parts(&self, request: &Request) -> Result<Vec<Request>, Refusal> {
        let parts = plan::one_by_one(request, self.tree().as_ref(), self.is_off());
        if !parts.is_empty() {
            plan::check_alone(request, &self.domain())?;
            plan::check_one_by_one(&parts, self.tree().as_ref(), self.is_off())?;
        }
        Ok(parts)
    }

    /// What is refused in the background is done once more without it: nothing but an attempt tells whether the host can.
    async fn perform_one(&self, request: &Request) -> Result<Report, OperationError> {
        let deadline = self.monitor.env().now() + request.within();
        let was_known = self.no_background.borrow().is_some();
        let first = self.attempt(request, deadline).await;
        match !was_known && self.no_background.borrow().is_some() {
            true => self.attempt(request, deadline).await,
            false => first,
        }
    }

    async fn attempt(&self, request: &Request, deadline: Duration) -> Result<Report, OperationError> {
        let (Planned { plan, tree, domain }, images) = self.planned(request).await?;
        self.begin_rest(request, &plan).await;
        let was_off = self.is_off();
        let stood = self.client().watch_standstill();
        let patience = self.patience.at_most(request.within());
        let journal = self.begin_journal(&plan, domain.as_ref()).await?;
        let carried_out =
            Box::pin(execute::carry_out(&self.monitor, &plan, deadline, patience, journal.as_ref())).await;
        let quiesced = self.quiesced().await;
        if let Err(error) = &carried_out {
            self.note_background(&plan, error);
        }
        // Done is done, whatever failed behind it.
        let done = matches!(carried_out, Ok(()) | Err(OperationError::Unfinished { .. }));
        let tree = match tree {
            // What was not done may have been written down as begun.
            Some(_) if !done => self.written_records().await,
            tree => tree,
        };
        let taken_over = self.take_over(&plan, tree, domain, done, was_off, self.document.as_deref()).await;
        let kept = self.monitor.kept().take();
        // What could not be done behind the point of no return is told before what follows from it.
        let ended = carried_out.and(taken_over.map(drop)).map_err(|error| error.and_kept(&kept));
        let open: Vec<_> = journal.iter().flat_map(Journal::left).map(Left::remains).collect();
        self.end_journal(journal, &ended).await;
        ended?;
        self.record_rest(request, &quiesced).await;
        let not_in_background = self.why_not_in_background(request).filter(|_| plan.saves_live());
        let loaded_freeze = self.monitor.rest().take_loaded();
        let tpm_left_out = plan::leaves_tpm_out(request, &plan, &self.domain());
        Ok(Report {
            tpm_left_out,
            not_in_background,
            loaded_freeze,
            kept,
            open,
            ..Report::new(request, &plan, was_off, images, quiesced, &stood)
        })
    }

    /// Why a memory is not written in the background though that is asked for.
    fn why_not_in_background(&self, request: &Request) -> Option<String> {
        let is_asked = matches!(request, Request::Create(create) if create.in_background);
        let refused = || self.no_background.borrow().clone();
        is_asked
            .then(|| refused().unwrap_or_else(|| plan::why_not_in_background(self.capabilities()).to_owned()))
    }

    /// Keeps in mind that this QEMU does not write memory in the background, if that is what a plan has failed of.
    fn note_background(&self, plan: &Plan, error: &OperationError) {
        if let OperationError::RolledBack {
            cause: StepError::Command(CommandError::Refused { command, error }),
            ..
        } = error
            && command == MigrateSetCapabilities::NAME
            && plan.saves_in_background()
        {
            self.no_background.replace(Some(error.desc.clone()));
        }
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

    /// What is at the paths that a plan will want to know about.
    async fn look_at_files(&self, request: &Request, domain: &Domain, observed: &Observed) -> HostFiles {
        let mut paths = plan::paths(request, domain, observed);
        if let Some(store) = &self.records {
            paths.extend(plan::went_on(store.borrow().tree(), observed));
        }
        let mut files = HostFiles::new();
        for path in paths {
            // Of what cannot be looked at nothing is assumed but that something is there.
            let kind = self.monitor.env().file_kind(&path).await.unwrap_or(FileKind::Other);
            files.insert(path, kind);
        }
        files
    }

    /// What is done, and the images that the machine is in before it is.
    async fn planned(&self, request: &Request) -> Result<(Planned, Images), OperationError> {
        let document = self.read_document().await?;
        let described = self.read_of_running().await?;
        let domain = self.domain();
        plan::check_alone(request, &domain)?;
        let env = self.monitor.env();
        self.get_to_know(request).await?;
        let observed = if self.is_off() {
            self.observe_images(request).await?
        } else {
            let needs_nodes = plan::needs_nodes(request, self.tree().as_ref());
            self.observe_within(self.patience.at_most(request.within()), needs_nodes).await?
        };
        let mut files = self.look_at_files(request, &domain, &observed).await;
        let going_back = plan::going_back(request, self.tree().as_ref());
        let aside = match &going_back {
            Some(going_back) => Some(self.look_aside(request, &observed, going_back, &mut files).await),
            None => None,
        };
        let beside = self.look_beside(request, &observed, &domain).await;
        let agent = self.ask_agent(request, &observed).await;
        let volumes = plan::volumes(request, &domain, &observed, self.tree().as_ref());
        let below = self.ask_storages(volumes, request, &observed).await;
        let monitor = self.monitor.endpoint().map(|Endpoint::Unix(path)| &**path);
        let migration = self.ask_migrations(request).await?;
        let tool = match (&domain.document, self.is_off()) {
            (Some(document), true) => Some(self.tool(document).await),
            _ => None,
        };
        let managed_save = self.managed_save(&domain.name).await;
        let off = tool.as_deref().map(|tool| plan::Off {
            tool,
            document: document.as_ref().map(|(path, text)| (&**path, text.as_str())),
            managed_save: managed_save.as_deref(),
            knows_qemu: self.knows_qemu(),
        });
        let records = self.records.as_ref().map(RefCell::borrow);
        let records = records.as_ref().map(|store| Records {
            folder: store.folder(),
            tree: store.tree(),
            unread: store.unread(),
        });
        let facts = Facts {
            domain: &domain,
            observed: &observed,
            capabilities: self.capabilities(),
            unique: &env.unique_id(),
            migration: migration.as_ref(),
            files: &files,
            records,
            seconds: env.seconds(),
            launcher: self.launcher.as_ref(),
            described: described.as_ref(),
            monitor,
            aside: aside.as_ref(),
            off,
            beside: beside.as_ref(),
            agent: agent.as_ref(),
            has_agent: self.monitor.rest().port().is_some(),
            below: &below,
            no_background: self.no_background.borrow().is_some(),
        };
        let planned = plan::plan(request, facts)?;
        self.expect_rest(request, facts);
        Ok((planned, observed.images_by_target()))
    }

    /// How QEMU stands before a migration, of a machine that runs and whose memory is to be saved.
    async fn ask_migrations(&self, request: &Request) -> Result<Option<Before>, OperationError> {
        if self.is_off() || !plan::saves_memory(request) {
            return Ok(None);
        }
        let deadline = self.monitor.env().now() + self.patience.command;
        Ok(Some(Before::ask(&self.client(), "observe", deadline).await?))
    }

    /// Carries out a plan, one of [`Machine::plan`]'s or of the caller's own making.
    ///
    /// # Errors
    /// [`OperationError`]; it says how things stand now.
    pub async fn carry_out(&self, plan: &Plan, within: Duration) -> Result<(), OperationError> {
        let _held = self.hold().await?;
        let deadline = self.monitor.env().now() + within;
        let journal = self.begin_journal(plan, None).await?;
        let patience = self.patience.at_most(within);
        let ended = execute::carry_out(&self.monitor, plan, deadline, patience, journal.as_ref()).await;
        self.end_journal(journal, &ended).await;
        ended
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
