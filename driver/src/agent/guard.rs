//! Who lets the guest go should this driver die while it stands frozen: called while the snapshot is made ready, and waited for before
//! the freeze.
//!
//! ```text
//! Unwanted
//! Wanted -- a freeze is planned --> Called -- is_there --> There: the freeze is sent
//!                                       \----------------> Failed: it is not
//! ```

use std::rc::Rc;

use tokio::sync::watch;

/// How far one is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Unwanted,
    Wanted,
    Called,
    There,
    Failed(String),
}

/// What an operation and whoever guards its freeze know of each other. Clones share it.
#[derive(Debug, Clone)]
pub struct Guard {
    state: Rc<watch::Sender<State>>,
    frozen: Rc<watch::Sender<bool>>,
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            state: Rc::new(watch::Sender::new(State::Unwanted)),
            frozen: Rc::new(watch::Sender::new(false)),
        }
    }
}

impl Guard {
    /// From now on nothing is frozen before somebody has said [`Guard::is_there`].
    pub fn want(&self) {
        self.state.send_replace(State::Wanted);
    }

    /// Waits until a freeze is ahead.
    pub async fn called(&self) {
        // The sender is this guard's own: it does not go.
        let _ = self.state.subscribe().wait_for(|state| *state == State::Called).await;
    }

    /// Somebody has been found who lets the guest go, or why there is nobody.
    pub fn is_there(&self, found: Result<(), String>) {
        self.state.send_replace(found.map_or_else(State::Failed, |()| State::There));
    }

    /// Tells when the guest may stand frozen, and when it does not any more.
    pub fn watch_frozen(&self) -> watch::Receiver<bool> {
        self.frozen.subscribe()
    }

    /// A freeze is planned.
    pub(super) fn call(&self) {
        self.state.send_if_modified(|state| {
            let wanted = *state == State::Wanted;
            if wanted {
                *state = State::Called;
            }
            wanted
        });
    }

    pub(super) fn is_frozen(&self, frozen: bool) {
        self.frozen.send_replace(frozen);
    }

    /// Waits until somebody is there, if anybody is wanted: or why nobody is.
    pub(super) async fn there(&self) -> Result<(), String> {
        let mut state = self.state.subscribe();
        let found = state.wait_for(|state| !matches!(state, State::Wanted | State::Called)).await;
        match found.as_deref() {
            Ok(State::Failed(why)) => Err(why.clone()),
            // The sender is this guard's own: it does not go.
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::{Pin, pin},
        task::{Context, Poll, Waker},
    };

    use super::*;

    fn once<T>(future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(told) => Some(told),
            Poll::Pending => None,
        }
    }

    #[test]
    fn where_nobody_is_wanted_nobody_is_waited_for() {
        let guard = Guard::default();
        guard.call();
        assert_eq!(once(pin!(guard.there())), Some(Ok(())));
        assert_eq!(once(pin!(guard.called())), None, "and nobody is called");
    }

    #[test]
    fn a_freeze_waits_for_who_is_called_when_it_is_planned() {
        let guard = Guard::default();
        guard.want();
        let (mut called, mut there) = (pin!(guard.called()), pin!(guard.there()));
        assert_eq!((once(called.as_mut()), once(there.as_mut())), (None, None), "no freeze is planned");
        guard.call();
        assert_eq!((once(called), once(there.as_mut())), (Some(()), None), "who was called is not there yet");
        guard.is_there(Ok(()));
        assert_eq!(once(there), Some(Ok(())));
    }

    #[test]
    fn where_nobody_comes_the_freeze_is_told_why() {
        let guard = Guard::default();
        guard.want();
        guard.call();
        guard.is_there(Err("no memory".into()));
        assert_eq!(once(pin!(guard.there())), Some(Err("no memory".into())));
    }
}
