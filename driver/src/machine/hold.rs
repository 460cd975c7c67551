//! One driver at a time on one machine, in whatever folder each keeps its records.
//!
//! The lock among the records keeps apart who uses the same ones. Two drivers with a folder each would plan on a chain that the
//! other is changing: so whoever changes a machine holds, for as long, a lock that is called by the machine's UUID and lies in
//! the user's runtime folder ([`Env::runtime_folder`]). It is no record: it stays behind as an empty file, and goes with the host.
//!
//! The UUID is that of the description, or else the one that QEMU answers with. A machine that has neither, and a driver of
//! another user, are not seen: QEMU's own locks on the images are all that is between them.

use std::{io, rc::Rc, time::Duration};

use camino::Utf8PathBuf;

use super::Machine;
use crate::{domain_xml::canonical_uuid, env::Env, error::Code};

/// A program that is just being started, for another machine of the same process, has the lock of an operation that is over for a
/// moment more, until it is one of its own: for so long that is waited for.
const PASSES_WITHIN: Duration = Duration::from_millis(200);
/// How often it is tried meanwhile.
const ASK_EVERY: Duration = Duration::from_millis(5);

/// Why a machine is not this driver's alone.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// Another driver works on it.
    #[error(
        "another freezeframe works on this machine, with its records in another folder (it holds `{0}`): try again when it is done"
    )]
    Held(Utf8PathBuf),
    /// The host has no place for the lock, or has refused it.
    #[error("the machine cannot be locked against other drivers: {0}")]
    Host(#[from] io::Error),
}

impl HoldError {
    /// libvirt's name for it.
    pub fn code(&self) -> Code {
        match self {
            HoldError::Held(_) => Code::OperationTimeout,
            HoldError::Host(_) => Code::SystemError,
        }
    }
}

impl<E: Env> Machine<E> {
    /// Keeps other drivers from the machine for as long as what is returned is held; nothing of one that has no UUID. Who holds it
    /// already gets the same again.
    pub(super) async fn hold(&self) -> Result<Option<Rc<E::Lock>>, HoldError> {
        if let Some(held) = self.held.borrow().upgrade() {
            return Ok(Some(held));
        }
        let Some(uuid) = self.uuid() else { return Ok(None) };
        let env = self.monitor.env();
        let path = env.runtime_folder().await?.join(format!("{uuid}.lock"));
        let until = env.now() + PASSES_WITHIN;
        let lock = loop {
            match env.lock(&path).await {
                Ok(lock) => break Rc::new(lock),
                Err(held) if held.kind() == io::ErrorKind::WouldBlock => {
                    if env.now() >= until {
                        return Err(HoldError::Held(path));
                    }
                    env.sleep_until(env.now() + ASK_EVERY).await;
                }
                Err(error) => return Err(error.into()),
            }
        };
        self.held.replace(Rc::downgrade(&lock));
        Ok(Some(lock))
    }

    /// Its UUID, which it may have been asked for with its identity.
    fn uuid(&self) -> Option<String> {
        let described = self.domain.borrow().document.as_ref().and_then(|document| document.uuid());
        described.or_else(|| canonical_uuid(self.answered.borrow().as_deref()?))
    }
}
