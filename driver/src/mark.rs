//! Coverage marks: every way in which this driver can fail has a name, and a test holds that a scenario goes there.
//!
//! Three kinds of branch have one:
//!
//! - each variant of each enum of errors ([`errors`]): `StepError::JobFailed`. Branches that make the same variant tell a caller the same, and
//!   share it;
//! - each kind of step, where it fails and where it cannot be put back: the executor's own branches, `Step::Pause failed`;
//! - what a recovery came to, and what a file is kept for.
//!
//! An error that is handed on carries its marks to whoever reads it, who walks it down to its causes ([`Marked::marks`]). One that ends
//! in the words of another (`why: String`) is noted where it becomes words.
//!
//! They are kept only with the feature `marks`, which the tests have. Without it [`reached`] does nothing, and nothing of them is left.

mod errors;

use std::fmt;

use crate::{kept::KeptFile, recover::Recovered, report::Report, step::Step};

/// What has come out of a branch that has a mark.
pub trait Marked {
    /// Tells its marks to `reach`: its own, and those of what it came of.
    fn marks(&self, reach: &mut dyn FnMut(&'static str));
}

impl Marked for KeptFile {
    fn marks(&self, reach: &mut dyn FnMut(&'static str)) {
        self.why.marks(reach);
    }
}

impl Marked for Recovered {
    fn marks(&self, reach: &mut dyn FnMut(&'static str)) {
        self.turn.marks(reach);
        self.kept.iter().for_each(|kept| kept.marks(reach));
    }
}

impl Marked for Report {
    fn marks(&self, reach: &mut dyn FnMut(&'static str)) {
        self.kept.iter().for_each(|kept| kept.marks(reach));
    }
}

/// The words of an error, where nobody gets the error itself. Its marks are noted.
pub(crate) fn told(error: &(impl Marked + fmt::Display)) -> String {
    reached(error);
    error.to_string()
}

/// Every mark there is, each once.
pub fn all() -> Vec<&'static str> {
    let mut all: Vec<_> = errors::ALL.iter().flat_map(|marks| marks.iter().copied()).collect();
    all.extend(Step::MARKS.iter().flat_map(|kind| [Some(kind.failed), kind.not_put_back]).flatten());
    all
}

#[cfg(feature = "marks")]
mod noted {
    use std::{cell::RefCell, collections::BTreeSet};

    use super::Marked;

    thread_local! {
        static REACHED: RefCell<BTreeSet<&'static str>> = const { RefCell::new(BTreeSet::new()) };
    }

    /// Notes the marks of what has come out.
    pub fn reached(of: &(impl Marked + ?Sized)) {
        of.marks(&mut note);
    }

    /// Notes a branch that is not an error's but a step's, if it has a mark.
    pub(crate) fn taken(mark: impl Into<Option<&'static str>>) {
        mark.into().into_iter().for_each(note);
    }

    fn note(mark: &'static str) {
        REACHED.with_borrow_mut(|reached| reached.insert(mark));
    }

    /// The marks that the drivers of this thread have reached since this was asked last.
    pub fn take() -> BTreeSet<&'static str> {
        REACHED.take()
    }
}

#[cfg(feature = "marks")]
pub(crate) use self::noted::taken;
#[cfg(feature = "marks")]
pub use self::noted::{reached, take};

/// Notes the marks of what has come out: nobody keeps them.
#[cfg(not(feature = "marks"))]
pub const fn reached(_: &(impl Marked + ?Sized)) {}

/// Notes a branch that is a step's: nobody keeps it.
#[cfg(not(feature = "marks"))]
pub(crate) fn taken(_: impl Into<Option<&'static str>>) {}
