//! QEMU as a deterministic model under virtual time, release by release.
//!
//! A client of QEMU connects to a [`Simulation`] as it would to a real machine, over byte streams, and is
//! answered as QEMU 5.2, 7.2, 10.0 or 11.1 answers: same bytes, same order, same errors. Time is virtual, all
//! that could have gone otherwise is asked of one [`Oracle`], and a run repeats bit for bit. It shares no code
//! with the driver, so that one cannot hide the other's mistake.
//!
//! ```text
//!   client's futures -- exec -- stream --+          oracle: every choice
//!                                        |            |
//!   bytes and time ------------------> world ---- monitor ---- wire, schema
//!                                        |
//!                                      qemu ---- host
//! ```
//!
//! From the outside in:
//!
//! | module | |
//! | --- | --- |
//! | [`simulation`] | a machine, a client and virtual time: what a test starts from |
//! | [`exec`] | runs futures under virtual time, in an order that the oracle decides |
//! | [`stream`] | byte streams on the world for any runtime |
//! | [`connection`] | what a client and the world know of each other |
//! | [`world`] | the pure state machine: bytes and time in, bytes and time out; QEMU's main loop |
//! | [`monitor`] | one QMP monitor: greeting, negotiation, queue, events |
//! | [`schema`] | which commands a release has and how it refuses arguments |
//! | `introspection` | what a release tells of itself |
//! | [`wire`] | QEMU's JSON, byte for byte |
//! | [`qemu`] | the process: block graph, jobs, run state, commands |
//! | [`qobject`] | what QEMU says, before it is bytes |
//! | [`guest`] | the guest: its file systems, and whether they are frozen |
//! | [`guest_agent`] | `qemu-ga` in the guest, and the host's side of its port |
//! | [`host`] | the host's files |
//! | [`storage`] | what lies below the host's files, and the tools that take its snapshots |
//! | `qemu_img` | `qemu-img` over those files |
//! | [`machine`], [`release`] | what is simulated |
//! | [`invariants`] | what must hold whatever a client did |
//! | [`oracle`] | the one question that everything which could have gone otherwise asks |

pub mod connection;
pub mod exec;
pub mod guest;
pub mod guest_agent;
pub mod host;
pub mod invariants;
pub mod machine;
pub mod monitor;
pub mod oracle;
pub mod qemu;
pub mod qobject;
pub mod release;
pub mod schema;
pub mod simulation;
pub mod storage;
pub mod stream;
pub mod wire;
pub mod world;

mod introspection;
mod qemu_img;

pub use machine::Machine;
pub use oracle::Oracle;
pub use release::Release;
pub use simulation::{Handle, Simulation};
pub use world::{Port, World};
