//! The live machine as one step sees it: a lane on the monitor, a deadline, and the host's files.

use std::time::Duration;

use crate::{
    client::{Client, CommandError, Events},
    commands::Command,
    env::Env,
};

/// How long a question may take that is asked after the time was up: to know is worth a little more waiting.
pub(crate) const ASK_WITHIN: Duration = Duration::from_secs(5);

/// One step's hold on the machine.
#[derive(Debug)]
pub struct Live<E: Env> {
    env: E,
    client: Client<E>,
    lane: String,
    deadline: Duration,
    command_timeout: Duration,
}

impl<E: Env> Live<E> {
    /// A hold for the step that speaks as `lane` and must be done by `deadline`.
    pub fn new(
        env: E,
        client: Client<E>,
        lane: String,
        deadline: Duration,
        command_timeout: Duration,
    ) -> Self {
        Self { env, client, lane, deadline, command_timeout }
    }

    /// The world outside the monitor.
    pub fn env(&self) -> &E {
        &self.env
    }

    /// When the step must be done.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Listens to every event from now on.
    pub fn events(&self) -> Events<E> {
        self.client.events()
    }

    /// Sends a command; its reply must come within the command timeout and before the step's deadline.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn execute<C: Command>(&self, command: &C) -> Result<C::Returns, CommandError> {
        let deadline = self.deadline.min(self.env.now() + self.command_timeout);
        self.client.execute(&self.lane, command, deadline).await
    }

    /// Sends a command that works as long as the step itself: the reply to `snapshot-save` comes only when
    /// the memory is written.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn execute_long<C: Command>(&self, command: &C) -> Result<C::Returns, CommandError> {
        self.client.execute(&self.lane, command, self.deadline).await
    }

    /// Asks how things stand, a little past the deadline if need be.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn ask<C: Command>(&self, question: &C) -> Result<C::Returns, CommandError> {
        let deadline = self.deadline.max(self.env.now() + ASK_WITHIN);
        self.client.execute(&self.lane, question, deadline).await
    }
}
