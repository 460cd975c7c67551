//! Images beside a machine's that neither it nor its records name, and that stand on one of its own all the same.
//!
//! An overlay that was made without a record, or that a revert has left behind, is in nobody's chain. Whoever writes to what it
//! stands on, or removes that, has broken it; and only its own header says what that is.
//!
//! Overlays are qcow2 images here; what does not begin as one is passed over, and so is what cannot be read or is in another folder.
//! A guest's raw disk can look like one: nothing comes of what is found but a refusal.

use std::collections::BTreeSet;

use camino::{Utf8Path, Utf8PathBuf};

use crate::{
    env::{Env, one_name},
    qcow2,
};

/// An image that nobody here knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranger {
    /// Its file.
    pub file: Utf8PathBuf,
    /// What it stands on.
    pub on: Utf8PathBuf,
}

/// The images beside these that stand on one of them, but for those that are known.
pub async fn standing_on<E: Env>(
    env: &E,
    images: &BTreeSet<Utf8PathBuf>,
    known: &BTreeSet<Utf8PathBuf>,
) -> Vec<Stranger> {
    let mut names = Vec::new();
    for image in images {
        names.push((one_name(env, image).await, image));
    }
    let folders: BTreeSet<&Utf8Path> = images.iter().filter_map(|image| image.parent()).collect();
    let mut strangers = Vec::new();
    for folder in folders {
        for name in env.list_folder(folder).await.unwrap_or_default() {
            let file = folder.join(name);
            if images.contains(&file) || known.contains(&file) {
                continue;
            }
            let Some(below) = qcow2::below(env, &file).await else { continue };
            let below = one_name(env, &folder.join(below)).await;
            let on = names.iter().filter(|(name, _)| *name == below);
            strangers.extend(on.map(|(_, on)| Stranger { file: file.clone(), on: (*on).clone() }));
        }
    }
    strangers
}
