//! The live machine as one step sees it: a lane on the monitor, a deadline, and the host's files.

use std::time::Duration;

use camino::Utf8Path;

use crate::{
    agent::rest::Rest,
    client::{Client, CommandError, Events},
    commands::Command,
    env::Env,
    kept::{KeptFile, KeptFiles, WhyKept},
    patience::Patience,
    progress::{Progress, Teller},
    standstill::OwnStop,
    wire::Event,
};

/// One step's hold on the machine.
#[derive(Debug)]
pub struct Live<E: Env> {
    env: E,
    client: Client<E>,
    lane: String,
    deadline: Duration,
    patience: Patience,
    teller: Teller,
    rest: Rest<E>,
    kept: KeptFiles,
    /// QEMU is known to have ended.
    gone: bool,
}

impl<E: Env> Live<E> {
    /// A hold for the step that speaks as `lane` and must be done by `deadline`.
    pub fn new(
        env: E,
        client: Client<E>,
        lane: String,
        deadline: Duration,
        patience: Patience,
        teller: Teller,
        rest: Rest<E>,
    ) -> Self {
        Self { env, client, lane, deadline, patience, teller, rest, kept: KeptFiles::default(), gone: false }
    }

    /// The same hold, that tells there what it has kept.
    pub(crate) fn keeping(self, kept: KeptFiles) -> Self {
        Self { kept, ..self }
    }

    /// The same hold, that speaks as another lane: for what is asked beside the step's own conversation.
    pub(crate) fn beside(&self, lane: &str) -> Self {
        Self {
            env: self.env.clone(),
            client: self.client.clone(),
            lane: lane.to_owned(),
            deadline: self.deadline,
            patience: self.patience,
            teller: self.teller.clone(),
            rest: self.rest.clone(),
            kept: self.kept.clone(),
            gone: self.gone,
        }
    }

    /// The same hold on a machine whose QEMU has ended, if it has.
    pub(crate) fn of_one_that_is_gone(self, gone: bool) -> Self {
        Self { gone, ..self }
    }

    /// Whether QEMU is known to have ended: what was open in it went with it.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone
    }

    /// Tells how far the step is, in bytes.
    pub fn progress(&self, done: u64, total: u64) {
        self.teller.tell(Progress { lane: self.lane.clone(), done, total });
    }

    /// Takes note of a file that is not removed: it is told when the operation has ended.
    pub(crate) fn keep(&self, file: &Utf8Path, why: WhyKept) {
        self.kept.note(KeptFile { file: file.to_owned(), why });
    }

    /// Whether a file is kept because the machine's description names it.
    pub(crate) fn is_spared(&self, file: &Utf8Path) -> bool {
        self.kept.is_spared(file)
    }

    /// The world outside the monitor.
    pub fn env(&self) -> &E {
        &self.env
    }

    /// The guest, and whether it was brought to rest.
    pub(crate) fn rest(&self) -> &Rest<E> {
        &self.rest
    }

    /// When the step must be done.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Listens to every event from now on.
    pub fn events(&self) -> Events<E> {
        self.client.events()
    }

    /// Why the guest stands still, if it was heard to stop of its own and not to go on since.
    pub fn own_stop(&self) -> Option<OwnStop> {
        self.client.own_stop()
    }

    /// Takes note of why the guest stands still since this STOP, which no event has told.
    pub(crate) fn note_own_stop(&self, why: OwnStop, stop: &Event) {
        self.client.note_own_stop(why, stop);
    }

    /// Closes the connection, for all who share it: nothing can be asked any more.
    pub fn close(&self) {
        self.client.close();
    }

    /// Sends a command; its reply must come within the command timeout and before the step's deadline.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn execute<C: Command>(&self, command: &C) -> Result<C::Returns, CommandError> {
        let deadline = self.deadline.min(self.env.now() + self.patience.command);
        self.client.execute(&self.lane, command, deadline).await
    }

    /// Sends a command that takes an open file, and the file with it.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn execute_with_file<C: Command>(
        &self,
        command: &C,
        file: E::File,
    ) -> Result<C::Returns, CommandError> {
        let deadline = self.deadline.min(self.env.now() + self.patience.command);
        self.client.execute_with_file(&self.lane, command, file, deadline).await
    }

    /// Sends a command that works as long as the step itself: the reply to `snapshot-save` comes only when
    /// the memory is written.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn execute_long<C: Command>(&self, command: &C) -> Result<C::Returns, CommandError> {
        self.client.execute(&self.lane, command, self.deadline).await
    }

    /// Asks how things stand, a little past the deadline if need be: to know is worth more waiting.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn ask<C: Command>(&self, question: &C) -> Result<C::Returns, CommandError> {
        let deadline = self.deadline.max(self.env.now() + self.patience.ask);
        self.client.execute(&self.lane, question, deadline).await
    }
}
