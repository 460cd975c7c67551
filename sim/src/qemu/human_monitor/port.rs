//! `o`: writes to a port of the machine as its processor would. Only two devices listen to what is simulated:
//!
//! | port | device | what is written |
//! | --- | --- | --- |
//! | 0x505 | `pvpanic` | 1: the guest's kernel has panicked; 2: it has loaded another kernel since |
//! | 0x443 | `ib700` | 15: the watchdog has no time left |
//!
//! It comes from the main loop, not from a processor: a guest that is to end is stopped first. Not here: other numbers for the
//! watchdog, which give it time, and what it does once a stopped guest goes on.
//!
//! Source: the four releases, asked.

use super::{EXTRANEOUS, complaint};
use crate::{
    machine::OnPanic,
    qemu::{Context, GuestAct, Qemu, QmpError, Request, Timer, not_simulated, run_state::RunState},
};

/// Where `pvpanic` listens.
const PVPANIC: u64 = 0x505;

/// Where `ib700` is started.
const IB700: u64 = 0x443;

/// The word for no time at all, to `ib700`.
const NO_TIME: u64 = 15;

/// `o [/format] address value`.
pub(super) fn command(qemu: &mut Qemu, words: &[String], cx: &mut Context<'_>) -> Result<String, QmpError> {
    let words = match words.split_first() {
        Some((format, rest)) if format.starts_with('/') => {
            if !["/b", "/h", "/w"].contains(&format.as_str()) {
                return Err(not_simulated("that format of `o`"));
            }
            rest
        }
        _ => words,
    };
    let [address, value] = match words {
        [address, value] => [address, value].map(|word| number(word)),
        [_, _, ..] => return Ok(complaint("", "o", EXTRANEOUS)),
        _ => return Ok("unexpected end of expression\r\nTry \"help o\" for more information\r\n".into()),
    };
    let (Some(address), Some(value)) = (address, value) else {
        return Err(not_simulated("an expression that is no number"));
    };
    match address {
        PVPANIC if qemu.devices.has_model("pvpanic") => {
            if value & 1 != 0 {
                panics(qemu, cx);
            }
            if value & 2 != 0 && qemu.cpus.running() {
                qemu.guest_does(GuestAct::CrashLoaded, cx);
            }
        }
        IB700 if qemu.watched => {
            if value & 0xf != NO_TIME || !qemu.cpus.running() {
                return Err(not_simulated("a watchdog that waits"));
            }
            if cx.release().requests_act_before_the_reply() {
                qemu.guest_does(GuestAct::WatchdogExpires, cx);
            } else {
                cx.schedule(std::time::Duration::ZERO, Timer::Guest(GuestAct::WatchdogExpires));
            }
        }
        _ => {}
    }
    Ok(String::new())
}

fn number(word: &str) -> Option<u64> {
    match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    }
}

/// The device says that the guest's kernel has panicked, also of a guest that does not run.
fn panics(qemu: &mut Qemu, cx: &mut Context<'_>) {
    let ends = match qemu.actions.panic {
        OnPanic::GoOn | OnPanic::Pause => false,
        OnPanic::ShutDown => !qemu.actions.stays_after_shutdown,
        OnPanic::ExitFailure => true,
    };
    if !ends {
        return qemu.guest_panics(cx);
    }
    if cx.release().a_fatal_panic_is_told_twice() {
        Qemu::tell_panic("pause", cx);
        qemu.cpus.stop(RunState::GuestPanicked, cx);
        Qemu::tell_panic("poweroff", cx);
    } else {
        Qemu::tell_panic("poweroff", cx);
        qemu.cpus.stop(RunState::GuestPanicked, cx);
    }
    qemu.request(Request::EndOfPanic, cx);
}
