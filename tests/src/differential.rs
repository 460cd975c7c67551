//! The simulator and a real QEMU side by side: both are told the same, at random, and must say the same.
//!
//! ```text
//!              +--> simulator ---+
//! model --> command              +--> lanes --> the same?   no: shrunk to the fewest commands that show it
//!              +--> real QEMU ---+
//! ```
//!
//! | module | what it is |
//! | --- | --- |
//! | [`model`] | what the generator believes of the machine, so that most commands mean something |
//! | [`command`] | the commands, valid and invalid, that may come next |
//! | [`server`] | a real QEMU or storage daemon and its socket |
//! | [`pair`] | both of them, told the same |
//! | `passed_over` | what neither is held to |
//! | [`breakage`] | no commands but bytes: a client that keeps no rule of the protocol |
//! | [`campaign`] | so and so many steps over one release, and what came out |
//! | [`verdict`] | whether a difference is a finding, or a race of the real program's |
//!
//! What is compared: every reply, and the events of each lane in their order ([`freezeframe::fidelity::lane`]), with the
//! placeholders of the recordings. After each step both are let come to rest, so that the client's own speed decides
//! nothing. What the simulator says it does not simulate is told to neither: it is counted.

pub mod breakage;
pub mod campaign;
pub mod command;
pub mod kept;
pub mod model;
pub mod pair;
mod passed_over;
pub mod server;
pub mod verdict;
