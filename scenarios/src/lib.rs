//! Scenario files for snapshot software: one file says the machine, what is done to it, what goes wrong meanwhile
//! and how it must end; it is played on the simulator, or on a real QEMU, with the same driver.
//!
//! ```text
//! language (a file) --> play (steps, faults) --> driver --> recorded --> interpose --> world: sim | qemu
//!                          |                                  |
//!                       inspect (how it ended)           transcript (what was said) --> golden, compare
//! ```
//!
//! | module | what it is |
//! | --- | --- |
//! | [`language`] | scenario files: reading, checking, their JSON Schema |
//! | [`diagnostic`] | what is wrong with a file, and where |
//! | [`world`] | where a scenario is played |
//! | [`play`] | plays one scenario in one world |
//! | [`recorded`], [`interpose`] | what stands between driver and world: the record, and the faults |
//! | [`serve`] | the machine of a scenario on real sockets, for other programs |
//! | [`inspect`] | how everything stands at the end |
//! | [`transcript`] | what was said and done, as text and as a partial order |
//! | [`sweep`], [`oracle`] | every fault at every point; what must hold then |
//! | [`explore`] | every order, with and without a fault; the same must hold |
//! | [`regression`] | findings that are kept: a scenario with faults and an order, held against how it goes without |
//! | [`shrink`] | a finding of a campaign as the smallest scenario file that shows it |
//! | [`fidelity`] | the simulator held against recordings of real QEMU |

pub mod cli;
pub mod diagnostic;
pub mod explore;
pub mod fidelity;
pub mod golden;
pub mod inspect;
pub mod interpose;
pub mod language;
mod life;
pub mod machine;
pub mod oracle;
pub mod play;
pub mod recorded;
pub mod regression;
pub mod serve;
pub mod shrink;
pub mod suite;
pub mod sweep;
pub mod transcript;
pub mod world;
