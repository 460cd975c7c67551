//! The monitor of one machine: connected, and connected anew when the connection is lost or mute.
//!
//! It hands out [`Live`], one step's hold on the machine. It knows neither disks nor plans.

use std::{
    cell::{Cell, RefCell},
    time::Duration,
};

use crate::{
    agent::rest::Rest,
    client::{Client, ConnectError},
    env::{Endpoint, Env},
    kept::KeptFiles,
    live::Live,
    patience::Patience,
    progress::{Listener, Teller},
};

/// The monitor of one machine.
#[derive(Debug)]
pub struct Monitor<E: Env> {
    env: E,
    /// None of a machine that is off and is not to be started.
    endpoint: Option<Endpoint>,
    client: RefCell<Client<E>>,
    teller: Teller,
    /// Nobody has listened there yet.
    off: Cell<bool>,
    rest: Rest<E>,
    kept: KeptFiles,
}

impl<E: Env> Monitor<E> {
    /// Connects.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(env: E, endpoint: Endpoint, within: Duration) -> Result<Self, ConnectError> {
        let client = Client::connect(&env, &endpoint, false, within).await?;
        Ok(Self::of(env, Some(endpoint), client, false))
    }

    /// That of a machine that is off: there is nobody to connect to until one is started that listens at `endpoint`.
    pub fn off(env: E, endpoint: Option<Endpoint>) -> Self {
        let client = Client::to_nobody(&env);
        Self::of(env, endpoint, client, true)
    }

    fn of(env: E, endpoint: Option<Endpoint>, client: Client<E>, off: bool) -> Self {
        let (client, off, rest) = (RefCell::new(client), Cell::new(off), Rest::new(env.clone(), None));
        let (teller, kept) = (Teller::default(), KeptFiles::default());
        Self { env, endpoint, client, teller, off, rest, kept }
    }

    /// The same machine, whose guest's agent is reached there.
    pub(crate) fn with_agent(self, port: Endpoint) -> Self {
        Self { rest: Rest::new(self.env.clone(), Some(port)), ..self }
    }

    /// The guest, and whether an operation has brought it to rest.
    pub(crate) fn rest(&self) -> &Rest<E> {
        &self.rest
    }

    /// What operations have kept and not told yet.
    pub(crate) fn kept(&self) -> &KeptFiles {
        &self.kept
    }

    /// Whether the machine is off, and none was started in its place since.
    pub fn is_off(&self) -> bool {
        self.off.get()
    }

    /// The machine was ended, and what comes next finds it off.
    pub(crate) fn went_off(&self) {
        self.client().close();
        *self.client.borrow_mut() = Client::to_nobody(&self.env);
        self.off.set(true);
    }

    /// The world that it is in.
    pub fn env(&self) -> &E {
        &self.env
    }

    /// Where it listens, or is to; none of a machine that is off and is not to be started.
    pub fn endpoint(&self) -> Option<&Endpoint> {
        self.endpoint.as_ref()
    }

    /// The connection as of now.
    pub fn client(&self) -> Client<E> {
        self.client.borrow().clone()
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
        let Some(endpoint) = &self.endpoint else { return Ok(()) };
        old.close();
        let client = Client::connect(&self.env, endpoint, false, within).await?;
        *self.client.borrow_mut() = client;
        self.off.set(false);
        Ok(())
    }

    /// A hold on the machine for the step that speaks as `lane` and must be done by `deadline`.
    pub fn live(&self, lane: String, deadline: Duration, patience: Patience) -> Live<E> {
        let (env, teller, rest) = (self.env.clone(), self.teller.clone(), self.rest.clone());
        Live::new(env, self.client(), lane, deadline, patience, teller, rest).keeping(self.kept.clone())
    }

    /// Listens to how far steps are.
    pub fn progress(&self) -> Listener {
        self.teller.listen()
    }
}
