//! Ctrl-C and its like, while real QEMUs run: what was started is ended and cleared away, then the command ends.
//!
//!   signal -> every thread drops what it plays (its QEMU dies, its folder goes) -> exit code 128 + the signal's number
//!
//! A second signal ends the command at once, whatever is left then. On the simulator there is nothing to clear away, so
//! there the system's own way holds: nobody listens.
#![allow(clippy::disallowed_methods, reason = "the thread that waits for signals; no play sees it")]

use std::{io, pin::pin, thread};

use freezeframe_driver::{
    env::tokio::TokioEnv,
    race::{First, race},
};
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use super::{CliError, output};

/// Whether a signal has come, for every thread to ask. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Interrupt {
    came: watch::Receiver<Option<Signal>>,
    /// The same for those who ask for no more than that.
    any: watch::Receiver<bool>,
}

/// A signal that asks the command to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// The terminal is gone: SIGHUP.
    Hangup,
    /// Ctrl-C: SIGINT.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// Ctrl-\: SIGQUIT.
    Quit,
}

impl Signal {
    /// What a shell makes of it: 128 and the signal's number.
    pub(super) fn exit_code(self) -> u8 {
        match self {
            Signal::Hangup => 129,
            Signal::Interrupt => 130,
            Signal::Terminate => 143,
            Signal::Quit => 131,
        }
    }
}

impl Interrupt {
    /// Listens from now on, in a thread of its own.
    pub(super) fn listen() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_io().build()?;
        let inside = runtime.enter();
        let mut hangup = signal(SignalKind::hangup())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut quit = signal(SignalKind::quit())?;
        drop(inside);
        let (sender, came) = watch::channel(None);
        let (tell_any, any) = watch::channel(false);
        thread::spawn(move || {
            runtime.block_on(async {
                loop {
                    let asked = race(interrupt.recv(), terminate.recv());
                    let signal = match race(asked, race(quit.recv(), hangup.recv())).await {
                        First::Left(First::Left(_)) => Signal::Interrupt,
                        First::Left(First::Right(_)) => Signal::Terminate,
                        First::Right(First::Left(_)) => Signal::Quit,
                        First::Right(First::Right(_)) => Signal::Hangup,
                    };
                    tell_any.send_replace(true);
                    if sender.send_replace(Some(signal)).is_some() {
                        std::process::exit(signal.exit_code().into());
                    }
                }
            });
        });
        Ok(Self { came, any })
    }

    /// The real world, in which programs that give way are ended by a signal.
    pub(super) fn env(&self) -> TokioEnv {
        TokioEnv::new().until_unwanted(self.any.clone())
    }

    /// Does something unless a signal comes first: then it is dropped where it stands.
    ///
    /// # Errors
    /// [`CliError::Interrupted`].
    pub(super) async fn or<T>(&self, work: impl Future<Output = T>) -> Result<T, CliError> {
        let mut came = self.came.clone();
        let signalled = async {
            match came.wait_for(Option::is_some).await.map(|signal| *signal) {
                Ok(Some(signal)) => signal,
                _ => std::future::pending().await,
            }
        };
        match race(signalled, work).await {
            First::Left(signal) => Err(CliError::Interrupted(signal)),
            First::Right(done) => Ok(done),
        }
    }

    /// Does something to its end, whatever comes: a signal is answered by saying so, and ends no more than programs that give way, whose
    /// work is then put back. Only a second one ends it where it stands.
    pub(super) async fn to_the_end<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        match self.or(work.as_mut()).await {
            Ok(done) => done,
            Err(_) => {
                output::complain(
                    "this is brought to its end first; a second signal leaves it where it stands",
                );
                work.await
            }
        }
    }
}
