//! A running machine: the connection to it, and the operations on it.
//!
//! ```text
//! request -> observe -> plan -> carry out -> report
//! ```

use std::{cell::RefCell, rc::Rc, time::Duration};

use crate::{
    capabilities::Capabilities,
    client::{Client, ConnectError},
    commands::{QueryBlock, QueryStatus},
    domain::Domain,
    env::{Endpoint, Env},
    error::OperationError,
    execute,
    live::Live,
    observed::Observed,
    plan::{self, Facts, Plan},
    report::Report,
    request::Request,
};

/// How patient the driver is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// From the first byte to the end of the negotiation.
    pub connect: Duration,
    /// For the reply to a command that has nothing to wait for.
    pub command: Duration,
    /// For the answer to a question that is asked when the operation's time is up.
    pub ask: Duration,
}

impl Patience {
    /// No more patience than the caller has: an operation that may take one second does not ask for five how things
    /// stand.
    fn at_most(self, within: Duration) -> Self {
        Self {
            connect: self.connect.min(within),
            command: self.command.min(within),
            ask: self.ask.min(within),
        }
    }
}

impl Default for Patience {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { connect: seconds(5), command: seconds(10), ask: seconds(5) }
    }
}

/// A running machine.
#[derive(Debug)]
pub struct Machine<E: Env> {
    env: E,
    endpoint: Endpoint,
    domain: Domain,
    patience: Patience,
    capabilities: Rc<Capabilities>,
    client: RefCell<Client<E>>,
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
        let client = Client::connect(&env, &endpoint, false, patience.connect).await?;
        let capabilities = match capabilities {
            Some(known) => known,
            None => Rc::new(Capabilities::probe(&client, env.now() + patience.command).await?),
        };
        Ok(Self { env, endpoint, domain, patience, capabilities, client: RefCell::new(client) })
    }

    /// The world that it is in.
    pub fn env(&self) -> &E {
        &self.env
    }

    /// The connection, for commands of the caller's own.
    pub fn client(&self) -> Client<E> {
        self.client.borrow().clone()
    }

    /// What this QEMU can do.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// Connects anew if the connection was lost, or if nothing more is heard on it.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn reconnect(&self, within: Duration) -> Result<(), ConnectError> {
        let old = self.client();
        if old.lost().is_none() && !old.is_mute() {
            return Ok(());
        }
        old.close();
        let client = Client::connect(&self.env, &self.endpoint, false, within).await?;
        *self.client.borrow_mut() = client;
        Ok(())
    }

    /// Asks the machine how it stands.
    ///
    /// # Errors
    /// [`OperationError::Unreachable`], [`OperationError::Unobserved`].
    pub async fn observe(&self) -> Result<Observed, OperationError> {
        self.observe_within(self.patience).await
    }

    async fn observe_within(&self, patience: Patience) -> Result<Observed, OperationError> {
        self.reconnect(patience.connect).await?;
        let live = self.live("observe".into(), self.env.now() + patience.command, patience);
        let status = live.execute(&QueryStatus {}).await?;
        let devices = live.execute(&QueryBlock {}).await?;
        Ok(Observed::new(&self.domain, status, &devices))
    }

    /// Plans an operation and does nothing.
    ///
    /// # Errors
    /// [`OperationError::Refused`], and those of [`Machine::observe`].
    pub async fn plan(&self, request: &Request) -> Result<Plan, OperationError> {
        let observed = self.observe_within(self.patience.at_most(request.within())).await?;
        let unique = self.env.unique_id();
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
        let deadline = self.env.now() + request.within();
        let plan = self.plan(request).await?;
        let mut events = self.client().events();
        let patience = self.patience.at_most(request.within());
        execute::carry_out(self, &plan, deadline, patience).await?;
        Ok(Report::new(request, plan.disks, &mut events))
    }

    /// A hold on the machine for one step.
    pub(crate) fn live(&self, lane: String, deadline: Duration, patience: Patience) -> Live<E> {
        Live::new(self.env.clone(), self.client(), lane, deadline, patience)
    }
}
