//! What can go wrong at a point, and how it is written in a scenario.
//!
//! Only what can happen in the world: a command is not doubled on its way, QEMU does not refuse what it has done, and an event is
//! not answered.

use std::{fmt::Write as _, num::NonZeroU32, time::Duration};

use clap::ValueEnum;

use super::points::Place;
use crate::language::{
    At, ErrorClass, Fault, FaultKind, GuestAct, JobStatus, Moment, Point, QmpError, Timespan,
};

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Kind {
    /// A command, a reply or an event is lost.
    LoseReply,
    /// The connection breaks.
    Disconnect,
    /// QEMU is killed.
    KillQemu,
    /// The monitor, or the agent, says nothing any more.
    Silence,
    /// A reply or an event comes twice.
    Duplicate,
    /// A command, a reply or an event comes later: a little, and longer than anybody waits.
    Delay,
    /// QEMU, or the agent, refuses.
    Error,
    /// A line that is none comes before.
    Garbage,
    /// A line comes in two pieces.
    Split,
    /// A program fails.
    Fail,
    /// A program is killed.
    KillProgram,
    /// The agent is killed.
    KillAgent,
    /// The agent is stopped.
    MuteAgent,
    /// The driver is killed, and what it has left is recovered.
    KillDriver,
}

/// A little later, and longer than anybody waits.
const DELAYS: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(40)];

/// The words of a refusal.
const REFUSAL: &str = "it cannot be done";

/// Every fault of these kinds that can strike at a place. `guest` says whether there is an agent in it that can be killed.
pub fn faults_at(place: &Place, kinds: &[Kind], guest: bool) -> Vec<Fault> {
    let sides: &[Point] = match place.moment {
        Moment::Command(_) | Moment::Agent(_) | Moment::Program(_) | Moment::File(_) => {
            &[Point::Before, Point::Applied]
        }
        Moment::Event(_) | Moment::Job(_) => &[Point::Before, Point::After],
    };
    let mut faults = Vec::new();
    for point in sides {
        for kind in kinds.iter().filter(|kind| fits(**kind, &place.moment, *point, guest)) {
            for kind in written(*kind) {
                let at = At { moment: place.moment.clone(), point: *point, with: None, nth: place.nth };
                faults.push(Fault { at, kind, times: NonZeroU32::MIN, added: false });
            }
        }
    }
    faults
}

/// Whether such a thing can happen there.
fn fits(kind: Kind, moment: &Moment, point: Point, guest: bool) -> bool {
    let is_program = matches!(moment, Moment::Program(_));
    match kind {
        // Behind an event is before whatever the driver does next.
        Kind::KillDriver => point != Point::After,
        // At a file nothing strikes but what kills the driver.
        _ if matches!(moment, Moment::File(_)) => false,
        Kind::Fail => is_program && point == Point::Before,
        Kind::KillProgram => is_program,
        _ if is_program => false,
        Kind::KillAgent | Kind::MuteAgent => guest && !matches!(moment, Moment::Event(_) | Moment::Job(_)),
        Kind::Disconnect | Kind::KillQemu | Kind::Silence => true,
        Kind::LoseReply | Kind::Delay | Kind::Split => point != Point::After,
        // The agent's replies have no ids: one that comes twice is the answer to what is asked next, and nobody can tell.
        Kind::Duplicate if matches!(moment, Moment::Agent(_)) => false,
        Kind::Duplicate | Kind::Garbage => {
            point == Point::Applied
                || (point == Point::Before && matches!(moment, Moment::Event(_) | Moment::Job(_)))
        }
        Kind::Error => point == Point::Before && matches!(moment, Moment::Command(_) | Moment::Agent(_)),
    }
}

/// A kind in the language of scenarios.
fn written(kind: Kind) -> Vec<FaultKind> {
    let one = match kind {
        Kind::Delay => {
            let delays = DELAYS.iter().filter_map(|delay| spelled(*delay).try_into().ok());
            return delays.map(FaultKind::Delay).collect();
        }
        Kind::LoseReply => FaultKind::LoseReply,
        Kind::Disconnect => FaultKind::Disconnect,
        Kind::KillQemu => FaultKind::KillQemu,
        Kind::Silence => FaultKind::Silence,
        Kind::Duplicate => FaultKind::Duplicate,
        Kind::Error => {
            FaultKind::Error(QmpError { class: ErrorClass::GenericError, desc: REFUSAL.to_owned() })
        }
        Kind::Garbage => FaultKind::Garbage("]no line of any use[".to_owned()),
        Kind::Split => FaultKind::Split(NonZeroU32::MIN.saturating_add(6)),
        Kind::Fail => FaultKind::Fail(REFUSAL.to_owned()),
        Kind::KillProgram => FaultKind::KillProgram,
        Kind::KillAgent => FaultKind::Guest(GuestAct::KillAgent),
        Kind::MuteAgent => FaultKind::Guest(GuestAct::MuteAgent),
        Kind::KillDriver => FaultKind::KillDriver,
    };
    vec![one]
}

fn spelled(time: Duration) -> String {
    format!("{}ms", time.as_millis())
}

/// A fault as it stands in a scenario file.
pub fn toml(fault: &Fault) -> String {
    let Fault { at, kind, times, added } = fault;
    let text = |text: &str| toml::Value::from(text).to_string();
    let (what, name) = match &at.moment {
        Moment::Command(name) => ("qmp", name.as_str()),
        Moment::Event(name) => ("event", name.as_str()),
        Moment::Job(status) => ("job", JobStatus::name(*status)),
        Moment::Program(name) => ("run", name.as_str()),
        Moment::Agent(name) => ("agent", name.as_str()),
        Moment::File(name) => ("file", name.as_str()),
    };
    let point = match at.point {
        Point::Before => "before",
        Point::Applied => "applied",
        Point::After => "after",
    };
    let mut written = format!("[[fault]]\nat = {{ {what} = {}, point = \"{point}\"", text(name));
    if let Some(with) = &at.with {
        let _ = write!(written, ", with = {}", text(with));
    }
    if at.nth.get() > 1 {
        let _ = write!(written, ", nth = {}", at.nth);
    }
    let _ = write!(written, " }}\ndo = {}\n", kind_toml(kind));
    if times.get() > 1 {
        let _ = writeln!(written, "times = {times}");
    }
    if *added {
        written.push_str("added = true\n");
    }
    written
}

fn kind_toml(kind: &FaultKind) -> String {
    let text = |text: &str| toml::Value::from(text).to_string();
    match kind {
        FaultKind::LoseReply => text("lose-reply"),
        FaultKind::Disconnect => text("disconnect"),
        FaultKind::KillQemu => text("kill-qemu"),
        FaultKind::Silence => text("silence"),
        FaultKind::Duplicate => text("duplicate"),
        FaultKind::Delay(time) => format!("{{ delay = {} }}", text(&spelled(Timespan::duration(*time)))),
        FaultKind::Error(error) => {
            let (class, desc) = (text(error.class.name()), text(&error.desc));
            format!("{{ error = {{ class = {class}, desc = {desc} }} }}")
        }
        FaultKind::Garbage(garbage) => format!("{{ garbage = {} }}", text(garbage)),
        FaultKind::Split(at) => format!("{{ split = {at} }}"),
        FaultKind::Qmp(json) => format!("{{ qmp = {} }}", text(json)),
        FaultKind::GuestPanics => text("guest-panics"),
        FaultKind::WatchdogFires => text("watchdog-fires"),
        FaultKind::GuestWriteFails(disk) => format!("{{ guest-write-fails = {} }}", text(disk)),
        FaultKind::NoSpace(file) => format!("{{ no-space = {} }}", text(file)),
        FaultKind::Guest(act) => format!("{{ guest = {} }}", text(act.name())),
        FaultKind::Fail(says) => format!("{{ fail = {} }}", text(says)),
        FaultKind::MissingProgram => text("missing-program"),
        FaultKind::KillProgram => text("kill-program"),
        FaultKind::HangProgram => text("hang-program"),
        FaultKind::Refuse(error) => format!("{{ refuse = {} }}", text(error.name())),
        FaultKind::KillDriver => text("kill-driver"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language::Scenario;

    fn place(moment: Moment) -> Place {
        Place { moment, nth: NonZeroU32::MIN.saturating_add(1), step: 0 }
    }

    #[test]
    fn every_fault_is_read_back_as_it_was_written() {
        let moments = [
            Moment::Command("transaction".into()),
            Moment::Event("STOP".into()),
            Moment::Job(JobStatus::Ready),
            Moment::Program("qemu-img".into()),
            Moment::Agent("guest-fsfreeze-freeze".into()),
            Moment::File("s1.xml".into()),
        ];
        let mut kinds = 0;
        for fault in
            moments.map(place).iter().flat_map(|place| faults_at(place, Kind::value_variants(), true))
        {
            let text = format!(
                "id = \"a\"\ntitle = \"t\"\nwhy = \"w\"\ntargets = [\"sim\"]\n[machine]\ndisks = [{{ target = \"vda\" }}]\nagent = \"linux\"\n\
                 [[step]]\nsnapshot = {{ name = \"s\" }}\n{}",
                toml(&fault)
            );
            let read = Scenario::parse("a.toml".into(), &text).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(read.faults, [fault], "{text}");
            kinds += 1;
        }
        assert!(kinds > 50, "{kinds} faults are too few to be all");
    }

    #[test]
    fn qemu_refuses_nothing_that_it_has_done() {
        let faults = faults_at(&place(Moment::Command("transaction".into())), &[Kind::Error], false);
        assert_eq!(faults.iter().map(|fault| fault.at.point).collect::<Vec<_>>(), [Point::Before]);
    }
}
