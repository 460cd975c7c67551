//! A snapshot driver for QEMU.
pub mod env;
