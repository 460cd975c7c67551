//! The real world through tokio: the only file that names `tokio::{time, net, fs, task}`.
