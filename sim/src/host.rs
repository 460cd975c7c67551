//! The files of the simulated host.

/// The files of the simulated host.
#[derive(Debug, Default)]
pub struct Host {}
