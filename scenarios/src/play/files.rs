//! Steps in which somebody changes a file of the host's, past the driver.

use std::io;

use freezeframe_driver::env::{Access, Env as _, OpenFile as _};

use crate::{
    inspect, interpose,
    language::{Folder, Shorten, Tamper},
    machine,
    world::World,
};

/// Takes bytes from the end of a file, past the driver.
pub(super) async fn shorten<W: World>(world: &W, lost: &Shorten) -> io::Result<()> {
    let file = world.env().open(&world.folder().join(&lost.file), Access::Write).await?;
    let left = file.length().await?.checked_sub(lost.by.get().into());
    file.set_length(left.ok_or(io::ErrorKind::UnexpectedEof)?).await
}

/// Writes over a file, or removes it, past the driver.
pub(super) async fn tamper<W: World>(world: &W, tampered: &Tamper) -> io::Result<()> {
    let (env, images) = (world.env(), world.folder());
    let path = match tampered.folder {
        Folder::Images => images.join(&tampered.file),
        Folder::Records => inspect::state(images).join(machine::NAME).join(&tampered.file),
        Folder::Descriptions => inspect::state(images).join(&tampered.file),
    };
    match (&tampered.with, tampered.at) {
        (None, _) => env.remove_file(&path).await,
        (Some(text), None) => {
            // Another file of that name, and no longer one: who has the old one open has what it held.
            match env.remove_file(&path).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => env.replace_file(&path, &interpose::bytes_of(text)).await,
            }
        }
        (Some(text), Some(at)) => {
            env.open(&path, Access::Write).await?.write_at(at.into(), &interpose::bytes_of(text)).await
        }
    }
}
