//! QEMU as a deterministic model under virtual time, release by release.
pub mod host;
pub mod machine;
pub mod monitor;
pub mod oracle;
pub mod qemu;
pub mod release;
pub mod schema;
pub mod wire;
pub mod world;
pub use machine::Machine;
pub use oracle::Oracle;
pub use release::Release;
