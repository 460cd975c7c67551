//! Puts every prepared overlay under its disk: the moment of the snapshot.

use std::fmt;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::{Begun, CommitImage, EndCommit, Happened, Kind, Remains, has_open};
use crate::{
    commands::{Action, BlockCommit, Command as _, DirtyBitmap, QueryBlock, Transaction},
    env::Env,
    error::StepError,
    job,
    live::Live,
    mutant::{Mutant, planted},
    observed::file_of,
    qcow2,
};

/// Puts every prepared overlay under its disk in one transaction: the moment of the snapshot.
///
/// Once QEMU has answered, the guest writes to the overlays: most plans have their point of no return here. Undoing it puts
/// what the guest has written since into the images below and the guest back onto them; what cannot be put back is kept.
///
/// Source: QEMU QAPI `transaction`, `blockdev-snapshot`, and `block-commit` for the way back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SwitchOverlays {
    /// One for each disk.
    pub switches: Vec<Switch>,
    /// Whether the memory is kept with them: a guest of which nobody knows whether the snapshot holds it must not lose it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub with_memory: bool,
}

/// One disk's change of image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Switch {
    /// The disk.
    pub target: String,
    /// The node that becomes the backing one.
    pub node: String,
    /// The overlay's node.
    pub overlay: String,
    /// The overlay's file.
    pub file: Utf8PathBuf,
    /// Whether the overlay is the caller's, and may have held something before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reused: bool,
    /// Bitmaps that go on in the overlay: what keeps account of writes must not stop at a snapshot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bitmaps: Vec<CarriedBitmap>,
}

/// A bitmap that goes on in the overlay under its name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CarriedBitmap {
    /// Its name.
    pub name: String,
    /// How many bytes one bit stands for.
    pub granularity: u32,
}

impl From<&DirtyBitmap> for CarriedBitmap {
    fn from(bitmap: &DirtyBitmap) -> Self {
        Self { name: bitmap.name.clone().unwrap_or_default(), granularity: bitmap.granularity }
    }
}

impl SwitchOverlays {
    /// The switches whose overlays are on top of their disks: by their nodes, or by their files in a QEMU that was started on them
    /// since.
    async fn on_top<E: Env>(&self, live: &Live<E>) -> Result<Vec<&Switch>, StepError> {
        let devices = live.ask(&QueryBlock {}).await?;
        let tops = || devices.iter().filter_map(|device| device.inserted.as_ref());
        let is_on_top = |switch: &&Switch| {
            tops().any(|top| {
                top.node_name.as_ref() == Some(&switch.overlay) || file_of(&top.image.filename) == switch.file
            })
        };
        Ok(self.switches.iter().filter(is_on_top).collect())
    }

    /// Whether QEMU has one of the overlays open.
    async fn is_prepared<E: Env>(&self, live: &Live<E>) -> Result<bool, StepError> {
        let is_overlay = |file: &Utf8Path| self.switches.iter().any(|switch| switch.file == file);
        Ok(has_open(live, is_overlay).await?)
    }

    /// What the overlays tell once QEMU is gone. Where nothing was ever written to one of them the images below hold all that the guest
    /// has written, whether they were switched or not; its memory they do not hold. What holds something was written to by the guest
    /// alone, but for what was the caller's.
    async fn as_written<E: Env>(&self, env: &E) -> Happened {
        let mut written = Vec::new();
        for switch in &self.switches {
            // In use by whom nobody knows, it is no trace of the past.
            let is_free = matches!(env.image_in_use(&switch.file).await, Ok(false));
            written.push(match qcow2::holds_data(env, &switch.file).await.filter(|_| is_free) {
                Some(true) if switch.reused => None,
                holds => holds,
            });
        }
        match written.iter().all(|holds| *holds == Some(false)) {
            true if !self.with_memory => Happened::No,
            _ if written.contains(&Some(true)) => Happened::Yes,
            _ => Happened::Unknown,
        }
    }

    /// No disk goes back before all can. Whether the guest runs meanwhile does not matter. One that has gone back already, in a
    /// recovery that was itself killed, stays there: merged once more, its overlay would write over what the guest has written since.
    /// Tells why that failed, and what is left of it.
    async fn go_back<E: Env>(&self, live: &Live<E>) -> Result<(), String> {
        let mut ready: Vec<(&Switch, CommitImage)> = Vec::new();
        for switch in self.on_top(live).await.map_err(|error| error.to_string())? {
            let commit = switch.commit();
            if let Err(error) = commit.act(live).await {
                ready.push((switch, commit));
                return Err(given_up(&ready, error, live).await);
            }
            ready.push((switch, commit));
        }
        for (at, (switch, CommitImage { target, job, .. })) in ready.iter().enumerate() {
            let (target, job) = (target.clone(), job.clone());
            let end = EndCommit { target, job, active: true, file: switch.file.clone() };
            if let Err(error) = end.act(live).await {
                return Err(given_up(&ready[at..], error, live).await);
            }
        }
        Ok(())
    }
}

/// Ends the jobs of a way back that has failed: without them the chains are as they were. Why it has failed, and which of them
/// may be left.
async fn given_up<E: Env>(jobs: &[(&Switch, CommitImage)], error: StepError, live: &Live<E>) -> String {
    let mut told = error.to_string();
    for (_, job) in jobs {
        if let Err(error) = job::remove(live, &job.job, BlockCommit::NAME).await {
            told = format!("{told}; {}: {error}", job.remains());
        }
    }
    told
}

impl SwitchOverlays {
    /// The overlays' files.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Utf8Path> {
        self.switches.iter().map(|switch| &*switch.file)
    }

    /// What may be left of it when QEMU is gone.
    pub(crate) fn remains_off(&self) -> Remains {
        let files: Vec<_> = self.files().map(Utf8Path::as_str).collect();
        format!(
            "the overlays {} are kept, for the guest may have written to them: see what they hold (qemu-img map) before you remove or start \
             anything",
            files.join(", ")
        )
    }
}

impl Switch {
    /// What puts into the image below what the guest has written since.
    fn commit(&self) -> CommitImage {
        CommitImage {
            target: self.target.clone(),
            job: format!("{}-back", self.overlay),
            device: self.overlay.clone(),
            top: self.overlay.clone(),
            base: self.node.clone(),
            backing_file: None,
        }
    }
}

impl Kind for SwitchOverlays {
    const UNDO: Option<&'static str> = Some("merge back");

    fn lane(&self) -> String {
        "switch".into()
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        let bitmaps = self.switches.iter().flat_map(|Switch { overlay, bitmaps, .. }| {
            bitmaps.iter().map(move |CarriedBitmap { name, granularity }| Action::BlockDirtyBitmapAdd {
                node: overlay,
                name,
                granularity: *granularity,
                persistent: true,
                disabled: false,
            })
        });
        let switches = self
            .switches
            .iter()
            .map(|Switch { node, overlay, .. }| Action::BlockdevSnapshot { node, overlay });
        let actions: Vec<_> = bitmaps.chain(switches).collect();
        if planted(Mutant::SwitchesOneByOne) {
            for action in actions {
                live.execute(&Transaction { actions: vec![action] }).await?;
            }
            return Ok(());
        }
        live.execute(&Transaction { actions }).await?;
        Ok(())
    }

    /// All disks or none: anything between would be a defect in QEMU, and is reported as such.
    async fn probe<E: Env>(&self, live: &Live<E>) -> Result<Happened, StepError> {
        let on_top = self.on_top(live).await?;
        let switched: Vec<_> = on_top.iter().map(|switch| switch.target.as_str()).collect();
        match switched.len() {
            // A process that has none of them open was started since, and says nothing of the one that was there.
            0 if !self.is_prepared(live).await? => Ok(match self.as_written(live.env()).await {
                Happened::No => Happened::No,
                _ => Happened::Unknown,
            }),
            0 => Ok(Happened::No),
            all if all == self.switches.len() => Ok(Happened::Yes),
            _ => Err(StepError::Torn(switched.join(", "))),
        }
    }

    async fn probe_gone<E: Env>(&self, env: &E) -> Happened {
        self.as_written(env).await
    }

    /// Overlays on top are to go back, as many as there are. A way back that was begun is ended first: its jobs stand in the way.
    async fn look_back<E: Env>(&self, live: &Live<E>) -> Result<Option<Begun>, Remains> {
        for switch in &self.switches {
            let CommitImage { job, .. } = switch.commit();
            if let Err(error) = job::remove(live, &job, BlockCommit::NAME).await {
                tracing::debug!(%error, job, "the way back cannot be ended");
            }
        }
        match self.on_top(live).await {
            Ok(on_top) if on_top.is_empty() => Ok(None),
            _ => Ok(Some(Begun::Whole)),
        }
    }

    /// A refused transaction has changed nothing. After one that was carried out the images below take what was written since.
    async fn undo<E: Env>(
        &self,
        live: &Live<E>,
        begun: Begun,
        _why: Option<&StepError>,
    ) -> Result<(), Remains> {
        if begun != Begun::Whole {
            return Ok(());
        }
        self.go_back(live).await.map_err(|error| format!("{}: {error}", self.remains()))
    }

    fn remains(&self) -> Remains {
        let files: Vec<_> = self.switches.iter().map(|switch| switch.file.as_str()).collect();
        format!(
            "the overlays {} are kept, for the guest may have written to them: see with query-block which images are \
             in use before you remove or start anything",
            files.join(", ")
        )
    }
}

impl fmt::Display for SwitchOverlays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.switches.as_slice() {
            [one] => write!(f, "switch disk {} in one transaction", one.target),
            all => write!(f, "switch {} disks in one transaction", all.len()),
        }
    }
}
