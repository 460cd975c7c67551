//! The monitor of one machine: connected, and connected anew when the connection is lost or mute.
//!
//! It hands out [`Live`], one step's hold on the machine. It knows neither disks nor plans.

use std::{cell::RefCell, time::Duration};

use crate::{
    client::{Client, ConnectError},
    env::{Endpoint, Env},
    live::Live,
    patience::Patience,
    progress::{Listener, Teller},
};

/// The monitor of one machine.
#[derive(Debug)]
pub struct Monitor<E: Env> {
    env: E,
    endpoint: Endpoint,
    client: RefCell<Client<E>>,
    teller: Teller,
}

impl<E: Env> Monitor<E> {
    /// Connects.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(env: E, endpoint: Endpoint, within: Duration) -> Result<Self, ConnectError> {
        let client = Client::connect(&env, &endpoint, false, within).await?;
        Ok(Self { env, endpoint, client: RefCell::new(client), teller: Teller::default() })
    }

    /// The world that it is in.
    pub fn env(&self) -> &E {
        &self.env
    }

    /// Where it listens.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
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
        old.close();
        let client = Client::connect(&self.env, &self.endpoint, false, within).await?;
        *self.client.borrow_mut() = client;
        Ok(())
    }

    /// A hold on the machine for the step that speaks as `lane` and must be done by `deadline`.
    pub fn live(&self, lane: String, deadline: Duration, patience: Patience) -> Live<E> {
        Live::new(self.env.clone(), self.client(), lane, deadline, patience, self.teller.clone())
    }

    /// Listens to how far steps are.
    pub fn progress(&self) -> Listener {
        self.teller.listen()
    }
}
