//! Sets what migrations of this QEMU may use, and how fast they are.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Begun, Happened, Kind, Remains};
use crate::{
    client::CommandError,
    commands::{
        Command as _, MigrateSetCapabilities, MigrateSetParameters, QueryMigrateCapabilities,
        QueryMigrateParameters,
    },
    env::Env,
    error::StepError,
    live::Live,
    migration::Settings,
    mutant::{Mutant, planted},
};

/// Sets what migrations of this QEMU may use, and how fast they are: before one is begun, and back when it is over.
///
/// QEMU has one such setting for all of its clients, and refuses to change it while anybody's migration is under way.
///
/// Source: QEMU QAPI `migrate-set-capabilities`, `migrate-set-parameters`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SetMigration {
    /// As it was.
    pub old: Settings,
    /// As it is to be.
    pub new: Settings,
}

impl SetMigration {
    /// The step that puts it back as it was.
    #[must_use]
    pub fn back(&self) -> Self {
        Self { old: self.new.clone(), new: self.old.clone() }
    }

    async fn set_back<E: Env>(&self, live: &Live<E>) -> Result<(), CommandError> {
        let capabilities = self.old.changes(&self.new);
        live.ask(&MigrateSetCapabilities { capabilities: &capabilities }).await?;
        live.ask(&MigrateSetParameters { parameters: self.old.parameters }).await?;
        Ok(())
    }
}

impl Kind for SetMigration {
    const UNDO: Option<&'static str> = Some("set back");
    const ONLY_IN_QEMU: bool = true;

    fn lane(&self) -> String {
        "settings".into()
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        let capabilities = self.new.changes(&self.old);
        live.execute(&MigrateSetCapabilities { capabilities: &capabilities }).await?;
        live.execute(&MigrateSetParameters { parameters: self.new.parameters }).await?;
        Ok(())
    }

    async fn probe<E: Env>(&self, live: &Live<E>) -> Result<Happened, StepError> {
        let capabilities = live.ask(&QueryMigrateCapabilities {}).await?;
        let parameters = live.ask(&QueryMigrateParameters {}).await?;
        let set = Settings { capabilities, parameters } == self.new;
        Ok(if set { Happened::Yes } else { Happened::No })
    }

    /// What was refused because of somebody else's migration has set nothing.
    async fn undo<E: Env>(
        &self,
        live: &Live<E>,
        _begun: Begun,
        why: Option<&StepError>,
    ) -> Result<(), Remains> {
        match why {
            Some(StepError::Command(CommandError::Refused { command, .. }))
                if command == MigrateSetCapabilities::NAME =>
            {
                Ok(())
            }
            _ if planted(Mutant::KeepsMigrationSettings) => Ok(()),
            _ => self.set_back(live).await.map_err(|error| format!("{}: {error}", self.remains())),
        }
    }

    fn remains(&self) -> Remains {
        format!(
            "migrations of this QEMU may be set for saving to a file: set max-bandwidth to {} and its capabilities to what \
             they were",
            self.old.parameters.max_bandwidth
        )
    }
}

impl fmt::Display for SetMigration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on = self.new.capabilities.iter().filter(|status| status.state);
        let on: Vec<_> = on.map(|status| status.capability.as_str()).collect();
        write!(f, "set migration: {}", if on.is_empty() { "nothing".to_owned() } else { on.join(" ") })
    }
}
