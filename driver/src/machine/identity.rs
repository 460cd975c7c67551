//! Whether the machine that answers is the one that is described.
//!
//! Aliases and names of devices are the same in many machines, and what was done to the wrong one would be written down for the
//! other. And what is described is what a snapshot's record keeps, and what is started when it is gone back to: a guest's memory
//! does not fit another amount of it, nor another kind of machine.

use std::pin::Pin;

use super::Machine;
use crate::{
    all::all,
    commands::{QomGet, QueryMemorySizeSummary, QueryUuid},
    domain_xml::DomainXml,
    env::Env,
    error::{OperationError, Refusal},
    live::Live,
};

/// libvirt counts memory in whole MiB, rounded up.
const MIB: u64 = 1 << 20;

impl<E: Env> Machine<E> {
    /// Checks that the machine that answers is the one that is described, as far as both say what they are: by its UUID, its kind
    /// and its memory.
    ///
    /// # Errors
    /// [`Refusal::AnotherMachine`], [`Refusal::AnotherDescription`], [`OperationError::Unobserved`].
    pub async fn check_identity(&self) -> Result<(), OperationError> {
        let Some(described) = self.domain.borrow().document.clone() else { return Ok(()) };
        let deadline = self.monitor.env().now() + self.patience.command;
        let live = self.monitor.live("identity".into(), deadline, self.patience);
        // Asked at once: three answers take no longer than one.
        let checks: [Pin<Box<dyn Future<Output = _>>>; 3] = [
            Box::pin(self.check_uuid(&live, &described)),
            Box::pin(check_board(&live, &described)),
            Box::pin(check_memory(&live, &described)),
        ];
        all(checks).await.into_iter().collect()
    }

    async fn check_uuid(&self, live: &Live<E>, described: &DomainXml) -> Result<(), OperationError> {
        let answers = live.execute(&QueryUuid {}).await?.uuid;
        if answers.chars().all(|digit| matches!(digit, '0' | '-')) {
            return Ok(());
        }
        self.answered.replace(Some(answers.clone()));
        match described.uuid().filter(|described| *described != answers) {
            Some(described) => Err(Refusal::AnotherMachine { answers, described }.into()),
            None => Ok(()),
        }
    }
}

/// An alias such as `q35` is any version of its family.
async fn check_board<E: Env>(live: &Live<E>, described: &DomainXml) -> Result<(), OperationError> {
    let Some(described) = described.board() else { return Ok(()) };
    let family = match described {
        "pc" => "pc-i440fx-",
        "q35" => "pc-q35-",
        stated => stated,
    };
    let answers = live.execute(&QomGet { path: "/machine", property: "type" }).await?;
    let answers = answers.strip_suffix("-machine").unwrap_or(&answers);
    let same = if family == described { answers == described } else { answers.starts_with(family) };
    match same {
        true => Ok(()),
        false => Err(other("kind", answers, described)),
    }
}

async fn check_memory<E: Env>(live: &Live<E>, described: &DomainXml) -> Result<(), OperationError> {
    let Some(described) = described.memory_at_start() else { return Ok(()) };
    let answers = live.execute(&QueryMemorySizeSummary {}).await?.base_memory;
    match answers.div_ceil(MIB) == described.div_ceil(MIB) {
        true => Ok(()),
        false => Err(other("memory", &format!("{answers} bytes"), &format!("{described} bytes"))),
    }
}

fn other(what: &'static str, answers: &str, described: &str) -> OperationError {
    Refusal::AnotherDescription { what, answers: answers.to_owned(), described: described.to_owned() }.into()
}
