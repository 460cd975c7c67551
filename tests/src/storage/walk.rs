//! What is the same for every storage, real or simulated.

use freezeframe_driver::{
    env::Env,
    name::SnapshotName,
    storage::{Storage, StorageError},
};

/// Fails unless an error of this kind is found, with these words in it.
#[macro_export]
macro_rules! fails {
    ($operation:expr, $kind:pat, $words:expr) => {
        match $operation.await {
            Err(error @ $kind) => {
                let told = error.to_string();
                $crate::storage::walk::holds(told.contains($words), &format!("`{told}` has `{}`", $words))
            }
            Err(error) => Err(format!("{} is {error:?}", stringify!($operation))),
            Ok(_) => Err(format!("{} succeeded", stringify!($operation))),
        }
    };
}

/// Whether what a test has found is what it must.
///
/// # Errors
/// What was to be.
pub fn holds(is: bool, what: &str) -> Result<(), String> {
    if is { Ok(()) } else { Err(format!("not so: {what}")) }
}

/// A snapshot's name.
///
/// # Panics
/// If it is no good one.
pub fn name(name: &str) -> SnapshotName {
    SnapshotName::new(name).expect("a good name")
}

/// The names of the snapshots that there are.
///
/// # Errors
/// The storage's.
pub async fn listed<E: Env>(storage: &Storage<E>) -> Result<Vec<String>, StorageError> {
    Ok(storage.list().await?.into_iter().map(|snapshot| snapshot.name.to_string()).collect())
}

/// A snapshot is made, listed, not made again, gone back to and deleted. `write` and `read` are those of the live volume.
///
/// # Errors
/// What was not as it must be.
pub async fn walk<E: Env>(
    storage: &Storage<E>,
    write: impl Fn(&str) -> Result<(), String>,
    read: impl Fn() -> Result<String, String>,
) -> Result<(), Box<dyn std::error::Error>> {
    let (s1, s2) = (name("s1"), name("s2"));
    let consumed = storage.provider().capabilities().revert_consumes;
    write("old")?;
    holds(listed(storage).await?.is_empty(), "there is nothing at first")?;
    storage.snapshot(&s1).await?;
    holds(listed(storage).await? == ["s1"], "it is listed")?;
    write("new")?;
    fails!(storage.snapshot(&s1), StorageError::Exists { .. }, "s1")?;
    holds(read()? == "new", "what is written stays")?;
    fails!(storage.delete(&s2), StorageError::Gone { .. }, "no snapshot `s2`")?;
    fails!(storage.revert(&s2), StorageError::Gone { .. }, "no snapshot `s2`")?;
    storage.revert(&s1).await?;
    holds(read()? == "old", "it is what it was")?;
    if consumed {
        holds(listed(storage).await?.is_empty(), "to go back uses the snapshot up")?;
        storage.snapshot(&s1).await?;
    }
    holds(listed(storage).await? == ["s1"], "to go back leaves the snapshot")?;
    storage.snapshot(&s2).await?;
    holds(listed(storage).await? == ["s1", "s2"], "a second is listed after a revert")?;
    storage.merge(&s2).await?;
    storage.delete(&s1).await?;
    holds(listed(storage).await?.is_empty(), "there is nothing at last")?;
    holds(read()? == "old", "to delete leaves the live volume")?;
    Ok(())
}
