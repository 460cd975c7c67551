//! A running machine and the operations on it: the driver's front door.
//!
//! ```text
//! request -> observe -> plan -> carry out -> report
//! ```

use std::{rc::Rc, time::Duration};

use crate::{
    capabilities::Capabilities,
    client::Client,
    commands::{QueryBlock, QueryStatus},
    domain::Domain,
    env::{Endpoint, Env},
    error::OperationError,
    execute,
    monitor::Monitor,
    observed::Observed,
    patience::Patience,
    plan::{self, Facts, Plan},
    progress::Listener,
    report::Report,
    request::Request,
};

/// A running machine.
#[derive(Debug)]
pub struct Machine<E: Env> {
    monitor: Monitor<E>,
    domain: Domain,
    patience: Patience,
    capabilities: Rc<Capabilities>,
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
        Ok(Self { monitor, domain, patience, capabilities })
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

    /// Plans an operation and does nothing.
    ///
    /// # Errors
    /// [`OperationError::Refused`], and those of [`Machine::observe`].
    pub async fn plan(&self, request: &Request) -> Result<Plan, OperationError> {
        let observed = self.observe_within(self.patience.at_most(request.within())).await?;
        let unique = self.monitor.env().unique_id();
        let facts = Facts {
            domain: &self.domain,
            observed: &observed,
            capabilities: &self.capabilities,
            unique: &unique,
        };
        Ok(plan::plan(request, facts)?)
    }

    /// Plans an operation and carries it out.
    ///
    /// # Errors
    /// [`OperationError`]; it says how things stand now.
    pub async fn perform(&self, request: &Request) -> Result<Report, OperationError> {
        let deadline = self.monitor.env().now() + request.within();
        let plan = self.plan(request).await?;
        let mut events = self.client().events();
        let patience = self.patience.at_most(request.within());
        execute::carry_out(&self.monitor, &plan, deadline, patience).await?;
        Ok(Report::new(request, plan.disks, &mut events))
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
        Ok(Observed::new(&self.domain, status, &devices))
    }
}
