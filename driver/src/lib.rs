//! A snapshot driver for QEMU: plans that can be read before they are carried out, undone when they fail, and
//! results that say what really happened.
//!
//! Data goes one way: **request** -> [`plan`] -> [`step`]s -> [`client`] and [`wire`] -> [`env`], the world.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`env`] | the one door to everything outside; the real world is [`env::tokio`] |
//! | [`wire`] | QMP as bytes, without time or I/O |
//! | [`client`] | one monitor connection: commands, replies by id, events |
//! | [`agent`] | the guest's agent: its connection, and the guest's rest during an operation |
//! | [`commands`] | the QMP commands that are sent, typed |
//! | [`capabilities`] | what this QEMU can do, by its schema |
//! | [`xml`], [`domain_snapshot`], [`domain_xml`] | documents as trees, `<domainsnapshot>` and `<domain>` as libvirt means them |
//! | [`launch`] | starting and stopping the machine's QEMU |
//! | [`qemu_img`], [`images`] | the tool for images that no machine has open; what it says of those of a machine that is off |
//! | [`strangers`] | images that nobody here knows, and that stand on the machine's |
//! | [`tree`], [`store`] | a machine's snapshots and how they descend, and their records on the host's disk |
//! | [`disk`] | which storage takes a disk's snapshots, and what is done by it |
//! | [`storage`] | snapshots that the storage below the disks takes by itself: btrfs, reflink, LVM, ZFS, RBD, a user's program |
//! | [`save_image`] | the file that holds a machine's memory, as bytes |
//! | [`domain`], [`observed`], [`standstill`] | what the caller knows of the machine, and what it says of itself |
//! | [`request`], [`name`] | what a caller asks for |
//! | [`align`] | what a wish means for this machine: every disk gets its place |
//! | [`plan`] | from request and facts to stages of steps; sends nothing |
//! | [`step`] | the steps: act, undo, probe; with [`live`], [`job`], [`migration`], [`human_monitor`] as their tools |
//! | [`machine`] | the front door: a connected machine and its operations; the executor behind it |
//! | [`monitor`], [`patience`] | one machine's monitor, connected anew when it must be; how long to wait |
//! | [`mark`] | the names of the ways to fail, which tests hold against the scenarios; kept in no other build |
//! | [`mutant`] | mistakes that tests plant, to see that they are found; in no other build |
//! | [`report`], [`error`] | what was done, or why not and how things stand |
//!
//! It knows nothing of any simulator, reads no clock, and opens nothing but through its [`env::Env`].

pub mod agent;
pub mod align;
mod all;
pub mod capabilities;
pub mod client;
pub mod commands;
pub mod disk;
pub mod domain;
pub mod domain_snapshot;
pub mod domain_xml;
pub mod env;
pub mod error;
mod execute;
pub mod human_monitor;
pub mod images;
pub mod job;
pub mod journal;
pub mod kept;
pub mod launch;
pub mod live;
pub mod machine;
pub mod mark;
pub mod migration;
pub mod monitor;
pub mod mutant;
pub mod name;
pub mod observed;
pub mod patience;
pub mod plan;
pub mod progress;
mod qcow2;
pub mod qemu_img;
pub mod race;
pub mod recover;
pub mod report;
pub mod request;
pub mod save_image;
pub mod standstill;
pub mod step;
pub mod storage;
pub mod store;
pub mod strangers;
pub mod tree;
pub mod wire;
mod words;
pub mod xml;

pub use execute::UNDO_WITHIN;
pub use machine::Machine;
pub use patience::Patience;
