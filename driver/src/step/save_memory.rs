//! Lets QEMU write the machine's memory into a save image.

use std::{fmt, time::Duration};

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use super::{Begun, Happened, Kind, Remains, Step, file_error, file_name, pause};
use crate::{
    capabilities::MemoryMethod,
    client::CommandError,
    commands::{Address, BlockdevSetActive, Closefd, Command as _, Getfd, Migrate, QueryMigrate, Stop},
    env::{Access, Env, OpenFile},
    error::StepError,
    live::Live,
    migration::{self, End},
    plan::Plan,
};

/// How often a migration in the background is asked whether the memory is fixed.
const ASK_EVERY: Duration = Duration::from_millis(2);

/// Lets QEMU write the machine's memory and devices into a save image, behind what [`super::BeginSaveImage`] has written, and
/// waits until it has. [`super::SetMigration`] has set what is to be used.
///
/// When it is done and the guest stands still, its run state is `postmigrate`, and QEMU has given the images away: it flushed
/// them and writes to them no more. `cont` ([`super::Resume`]) takes them back, and from 10.0 on `blockdev-set-active` without it. Overlays may be switched in between, and those
/// that were opened before may be used: asked of 5.2, 7.2, 10.0 and 11.1. In the background nothing is given away.
///
/// Source: QEMU QAPI `migrate`, `getfd`; recordings `migrate-fd`, `migrate-file`, `background-snapshot`; what libvirt sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SaveMemory {
    /// The save image.
    pub path: Utf8PathBuf,
    /// Where in it the memory begins, in bytes.
    pub at: u64,
    /// How QEMU gets the file.
    pub method: MemoryMethod,
    /// What the open file is called in QEMU, if it is handed over; must not begin with a digit.
    pub fdname: String,
    /// What the guest does meanwhile.
    pub guest: Meanwhile,
    /// Whether the images are taken back from where they are given to: the guest stood still before and stays so, and nobody
    /// will let it go on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub takes_back: bool,
}

/// What the guest does while its memory is saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Meanwhile {
    /// It stands still when this begins, and when this is done.
    Paused,
    /// It runs until nearly all is written. Then QEMU stops it, and it stands still when this is done: that is the moment
    /// that was saved.
    Live,
    /// It stands still when this begins, and goes on as soon as QEMU keeps hold of its memory as it is, while that is
    /// written: the moment that was saved is the one in which this began. Needs the capability `background-snapshot`.
    Background,
}

impl SaveMemory {
    async fn take_images_back<E: Env>(&self, live: &Live<E>) -> Result<(), CommandError> {
        if self.takes_back {
            live.ask(&BlockdevSetActive { active: true }).await?;
        }
        Ok(())
    }

    /// What no undoing brings back of a guest that stood still before, or has stopped of its own since: QEMU lets its state go
    /// once. A guest that is let go on again is as it was.
    pub(crate) async fn stays<E: Env>(&self, live: &Live<E>, plan: &Plan) -> Option<String> {
        let stopped_here =
            self.guest != Meanwhile::Paused || plan.steps().any(|step| matches!(step, Step::Pause(_)));
        let goes_on = stopped_here && live.own_stop().is_none();
        if goes_on || pause::status(live).await.ok()? != "postmigrate" {
            return None;
        }
        let images = if self.takes_back { "" } else { ", and its images are given away" };
        Some(format!(
            "QEMU is in `postmigrate`: until its guest has gone on (`cont`), its memory is not saved again{images}"
        ))
    }

    /// Pages go out only when the rest of the machine is written and the memory is protected: from then on the guest may run.
    /// 7.2 lets it run by itself then.
    async fn go_on_when_fixed<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        loop {
            let info = live.ask(&QueryMigrate {}).await?;
            let running = matches!(info.status.as_deref(), Some("setup" | "active"));
            if info.ram.is_some_and(|ram| ram.duplicate + ram.normal > 0) {
                return pause::go_on(live).await;
            }
            // Over, or the time is up: to wait for the end tells which.
            let now = live.env().now();
            if !running || now >= live.deadline() {
                return Ok(());
            }
            live.env().sleep_until(now + ASK_EVERY).await;
        }
    }

    async fn put_back<E: Env>(
        &self,
        live: &Live<E>,
        begun: Begun,
        why: Option<&StepError>,
    ) -> Result<(), StepError> {
        if begun != Begun::Whole && !why.is_some_and(is_over) {
            if self.guest == Meanwhile::Background {
                // Who writes to a page that is held waits for it, and QEMU with it: nobody lets go of it any more then.
                live.ask(&Stop {}).await?;
            }
            migration::cancel(live).await?;
        }
        if begun != Begun::Whole && self.method == MemoryMethod::Descriptor {
            // Refused where it was used, or never came.
            match live.ask(&Closefd { fdname: &self.fdname }).await {
                Ok(_) | Err(CommandError::Refused { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        match self.guest {
            Meanwhile::Live | Meanwhile::Background => pause::go_on(live).await,
            // Whoever has stopped it lets it go on.
            Meanwhile::Paused => Ok(self.take_images_back(live).await?),
        }
    }
}

impl Kind for SaveMemory {
    const UNDO: Option<&'static str> = Some("cancel");
    /// Live too: QEMU stops the guest for the last of its memory.
    const STOPS_THE_GUEST: bool = true;
    const ONLY_IN_QEMU: bool = true;

    fn lane(&self) -> String {
        "memory".into()
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        let mut events = live.events();
        let to = match self.method {
            MemoryMethod::File => Address::file(self.path.as_str(), self.at),
            MemoryMethod::Descriptor => {
                let failed = |action| file_error(action, &self.path);
                let file = live.env().open(&self.path, Access::Write).await.map_err(failed("open"))?;
                file.seek(self.at).await.map_err(failed("seek in"))?;
                live.execute_with_file(&Getfd { fdname: &self.fdname }, file).await?;
                Address::descriptor(&self.fdname)
            }
        };
        live.execute(&Migrate { to }).await?;
        if self.guest == Meanwhile::Background {
            self.go_on_when_fixed(live).await?;
        }
        migration::wait(live, &mut events, "saved").await?;
        if self.guest != Meanwhile::Background {
            pause::status(live).await?;
        }
        self.take_images_back(live).await.map_err(StepError::from)
    }

    /// QEMU's last migration has completed, and it was this one: nobody else writes behind the header of this file.
    async fn probe<E: Env>(&self, live: &Live<E>) -> Result<Happened, StepError> {
        let end = migration::settle(live, "saved").await?;
        let failed = |action| file_error(action, &self.path);
        let file = live.env().open(&self.path, Access::Read).await.map_err(failed("open"))?;
        let written = file.length().await.map_err(failed("look into"))? > self.at;
        if end != End::Completed || !written {
            return Ok(Happened::No);
        }
        if self.guest == Meanwhile::Background {
            pause::go_on(live).await?;
        }
        self.take_images_back(live).await?;
        Ok(Happened::Yes)
    }

    /// Stops what is under way, and lets a guest go on that this has stopped. What was written is for
    /// [`super::BeginSaveImage`] to remove.
    async fn undo<E: Env>(
        &self,
        live: &Live<E>,
        begun: Begun,
        why: Option<&StepError>,
    ) -> Result<(), Remains> {
        self.put_back(live, begun, why).await.map_err(|error| format!("{}: {error}", self.remains()))
    }

    fn remains(&self) -> Remains {
        "the machine's memory may still be on its way to a file, and the guest may stand still: see with query-migrate and \
         query-status, stop the one with migrate_cancel and let the other go on with cont"
            .to_owned()
    }
}

impl fmt::Display for SaveMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.guest {
            Meanwhile::Paused => "",
            Meanwhile::Live => ", live",
            Meanwhile::Background => ", in the background",
        };
        write!(f, "save memory to {}{how}", file_name(&self.path))
    }
}

/// Whether a failure says that no migration of this step is under way. Then any that is, is somebody else's.
fn is_over(why: &StepError) -> bool {
    match why {
        StepError::Command(CommandError::Refused { command, .. }) => {
            [Getfd::NAME, Migrate::NAME].contains(&command.as_str())
        }
        // Files come before the migration.
        StepError::File { .. } | StepError::MigrationFailed { .. } | StepError::MigrationCancelled => true,
        _ => false,
    }
}
