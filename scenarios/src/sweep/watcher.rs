//! Looks on while a scenario is played with faults, and asks the oracle after each operation.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe_sim::{
    Oracle,
    exec::Spawner,
    host::Qcow2,
    qemu::{GuestAction, run_state::RunState},
};

use super::{
    Ended, Outcome, Survey, is_operation,
    points::{Place, Places},
    within,
};
use crate::{
    language::{Action, DeleteFlag, FaultKind, Flag, MemoryPlace, Step, StorageVerb},
    oracle::{self, Beside, Data, Deed, Invariant, Seen, State, Violation},
    play::{Next, Stands, Told, Watch},
    transcript::Entry,
    world::sim::SimWorld,
};

/// Looks on while a scenario is played.
pub(crate) struct Watcher {
    world: SimWorld<Spawner>,
    scenario: Vec<Step>,
    /// Whether anybody keeps records of snapshots.
    keeps_records: bool,
    /// Whether a fault was added that kills the driver.
    kills_the_driver: bool,
    /// How many faults the scenario has in all.
    faults: usize,
    /// How it goes where nothing was added; none while that is being found out.
    usual: Option<Rc<Survey>>,
    /// The step that is going on, and how often it was begun.
    now: Cell<Option<usize>>,
    tries: Cell<u32>,
    /// How everything stood when it was begun, and when that was.
    before: RefCell<State>,
    began: Cell<Duration>,
    /// What was told of its first try.
    first: RefCell<Option<Told>>,
    /// Everything has gone as usual until the step that is going on.
    on_course: Cell<bool>,
    /// How often a fault has struck, and how often before this try.
    struck: Cell<usize>,
    struck_before: Cell<usize>,
    /// In which step one has struck first, and in which last.
    struck_in: Cell<Option<(usize, usize)>>,
    /// How much had been asked of the oracle when each step was over.
    asked: RefCell<Vec<u64>>,
    /// What the last fault was, in words.
    fault: RefCell<String>,
    killed: Cell<bool>,
    /// A fault has reached into the guest.
    in_guest: Cell<bool>,
    /// How everything stood when somebody else was about to change it, until that has happened.
    stirring: RefCell<Option<State>>,
    /// In which run state somebody else has left the guest.
    stirred: Cell<Option<&'static str>>,
    /// It was told that the guest may still be frozen.
    frozen_told: Cell<bool>,
    /// The image that each disk was written to when it was last looked at.
    tops: RefCell<BTreeMap<String, Utf8PathBuf>>,
    /// Disks whose file system was not frozen when they were switched, or caught by a storage.
    awake: RefCell<BTreeSet<String>>,
    places: RefCell<Places>,
    /// How many places had come when the last fault struck.
    places_before: Cell<usize>,
    steps: RefCell<Vec<Ended>>,
    data: RefCell<Data>,
    /// How often the guest has written.
    turn: Cell<u64>,
    /// In which step it has last written that step's own block.
    wrote_own: Cell<Option<usize>>,
    violations: RefCell<Vec<Violation>>,
}

/// How many blocks of each disk the guest writes to, in turn. Behind them is one for each step, which is written once: without those
/// the newest image would soon hold all that there is, and what is lost below it would not be missed.
const BLOCKS: u64 = 4;

impl Watcher {
    /// For a scenario in its world.
    pub(super) fn new(
        scenario: &crate::language::Scenario,
        world: SimWorld<Spawner>,
        usual: Option<Rc<Survey>>,
    ) -> Self {
        // What was added stands in front.
        let added = usual.as_ref().map_or(0, |usual| scenario.faults.len() - usual.faults);
        let kills_the_driver =
            scenario.faults[..added].iter().any(|fault| fault.kind == FaultKind::KillDriver);
        Self {
            world,
            kills_the_driver,
            faults: scenario.faults.len(),
            scenario: scenario.steps.clone(),
            keeps_records: scenario.machine.records,
            usual,
            now: Cell::default(),
            tries: Cell::default(),
            before: RefCell::default(),
            began: Cell::default(),
            first: RefCell::default(),
            on_course: Cell::new(true),
            struck: Cell::default(),
            struck_before: Cell::default(),
            struck_in: Cell::default(),
            asked: RefCell::default(),
            fault: RefCell::default(),
            killed: Cell::default(),
            in_guest: Cell::default(),
            stirring: RefCell::default(),
            stirred: Cell::default(),
            frozen_told: Cell::default(),
            tops: RefCell::default(),
            awake: RefCell::default(),
            places: RefCell::default(),
            places_before: Cell::default(),
            steps: RefCell::default(),
            data: RefCell::default(),
            turn: Cell::default(),
            wrote_own: Cell::default(),
            violations: RefCell::default(),
        }
    }

    /// What was found where nothing was added.
    pub(super) fn survey(&self) -> Survey {
        Survey {
            places: self.places.take().of_operations(&self.scenario),
            violations: self.violations.take(),
            steps: self.steps.take(),
            faults: self.faults,
        }
    }

    /// What decided all choices, and knows which; what is played on after this goes the default way.
    pub(crate) fn take_oracle(&self) -> Oracle {
        std::mem::take(self.world.world_mut().oracle_mut())
    }

    /// What was found with faults.
    pub(crate) fn outcome(&self) -> Outcome {
        let places = self.places.take().behind(self.places_before.get());
        let behind: Vec<Place> =
            places.into_iter().filter(|place| is_operation(&self.scenario[place.step].action)).collect();
        let (struck, struck_in, asked) = (self.struck.get(), self.struck_in.get(), self.asked.take());
        Outcome { violations: self.violations.take(), behind, struck, struck_in, asked }
    }

    /// A guest that runs writes to each of its disks, unless the file system there is frozen.
    fn guest_writes(&self) {
        let (tops, runs) = self.tops();
        tops.iter().for_each(|(disk, path, _)| self.data.borrow_mut().is_on(disk, path.as_str()));
        if !runs {
            return;
        }
        let writes = tops.into_iter().filter_map(|(disk, path, writable)| writable.then_some((disk, path)));
        let (mut data, mut world) = (self.data.borrow_mut(), self.world.world_mut());
        let turn = self.turn.replace(self.turn.get() + 1);
        let step = self.now.get().filter(|step| self.wrote_own.replace(Some(*step)) != Some(*step));
        let blocks = [Some(turn % BLOCKS), step.map(|step| BLOCKS + step as u64)];
        for (disk, path) in writes {
            let Some(image) = world.host_mut().image_mut(&path) else { continue };
            let end = image.virtual_size() / Qcow2::CLUSTER;
            for block in blocks.into_iter().flatten().filter(|block| *block < end) {
                image.write(block, data.write(&disk, block));
            }
        }
    }

    /// For each disk its name, the image that it is written to, and whether the guest could write now; and whether it runs.
    fn tops(&self) -> (Vec<(String, Utf8PathBuf, bool)>, bool) {
        let world = self.world.world();
        if !world.qemu_is_running() {
            return (Vec::new(), false);
        }
        let (qemu, host) = (world.qemu(), world.host());
        let mut tops = Vec::new();
        for device in qemu.graph().devices() {
            let disk = oracle::disk_of(&device.id);
            let file = qemu.graph().chain(&device.node).find_map(|node| qemu.graph().file_of(node));
            let Some(path) = file.map(|file| host.resolve(Utf8Path::new(file))) else { continue };
            let frozen = qemu.guest().is_some_and(|guest| guest.is_frozen(disk));
            let fits = host.image(&path).is_some_and(|image| image.virtual_size() >= BLOCKS * Qcow2::CLUSTER);
            tops.push((disk.to_owned(), path, !frozen && fits && !device.read_only));
        }
        (tops, qemu.run_state() == RunState::Running)
    }

    /// Notes whose file system is not frozen, if this was the moment of a snapshot: a disk is written to another image since the
    /// last look, or a storage was told to catch it. A thaw is sent before it is carried out, and so told of later.
    fn looks_who_is_awake(&self, entry: &Entry) {
        if self.world.world().qemu().guest().is_none() {
            return;
        }
        let now: BTreeMap<_, _> = self.tops().0.into_iter().map(|(disk, path, _)| (disk, path)).collect();
        let switched = self.tops.borrow().iter().any(|(disk, was)| now.get(disk).is_some_and(|is| is != was));
        self.tops.replace(now);
        if switched || catches(entry) {
            let world = self.world.world();
            let guest = world.qemu().guest().filter(|_| world.qemu_is_running());
            let awake =
                guest.into_iter().flat_map(|guest| guest.file_systems()).filter(|known| !known.frozen);
            self.awake.borrow_mut().extend(awake.map(|known| known.disk.clone()));
        }
    }

    /// How a step usually ends, if everything has gone as usual until then.
    fn usual(&self, step: usize) -> Option<&Ended> {
        let usual = self.usual.as_ref().filter(|_| self.on_course.get())?.steps.get(step)?;
        (usual.guest == self.before.borrow().guest).then_some(usual)
    }

    /// Whether a step that was struck is to be done once more.
    fn try_again(&self, step: usize, told: &Told) -> bool {
        let usually_done = self.usual(step).is_some_and(|usual| usual.told.stands == Stands::Done);
        let struck = self.struck.get() > self.struck_before.get();
        let failed = !matches!(told.stands, Stands::Done | Stands::Killed | Stands::Unsaid);
        usually_done && struck && failed && self.tries.get() == 1
    }

    /// Whether the driver was killed here by a fault that was added, and not by one of the scenario's own.
    fn is_killed_by_us(&self, step: usize, told: &Told, after: &State) -> bool {
        let usual = self.usual.as_ref().and_then(|usual| usual.steps.get(step));
        let places = self.places.borrow().count();
        let is_its_own = |usual: &Ended| {
            let is_same = usual.places == places && usual.fault == *self.fault.borrow();
            usual.told.stands == Stands::Killed && is_same && usual.state == *after
        };
        self.kills_the_driver && told.stands == Stands::Killed && !usual.is_some_and(is_its_own)
    }

    /// How everything stands behind a recovery, as against how it stood before the operation had begun.
    fn stands_after_all(&self, action: &Action, told: &Told, after: &State) -> Stands {
        let before = self.before.borrow();
        let is_as_before = oracle::unlike(&before, after, "before").is_empty();
        let is_one_of_many = matches!(action, Action::Delete(delete) if delete.flags.contains(&DeleteFlag::Children)
            || delete.flags.contains(&DeleteFlag::ChildrenOnly));
        match told.stands {
            // It begins where another one was killed.
            Stands::AsBefore | Stands::Unsaid if matches!(action, Action::Recover(_)) => Stands::Done,
            // What was recovered may be an operation before it, or one of several deletions.
            Stands::AsBefore | Stands::Done | Stands::Unsaid if before.pending || is_one_of_many => {
                Stands::Partly
            }
            // What goes back to what looks the same may have done so or not.
            Stands::Unsaid if is_as_before && matches!(action, Action::Revert(_)) => Stands::Partly,
            Stands::Unsaid if is_as_before => Stands::AsBefore,
            // Nothing is pending of what is done.
            Stands::Unsaid => Stands::Done,
            stands => stands,
        }
    }

    /// Holds what was told, and how everything stands, against what must hold.
    fn hold(
        &self,
        step: usize,
        told: &Told,
        after: &State,
        (beside, deed, usual): (&Beside, Deed<'_>, Option<(&Told, &State)>),
    ) {
        let action = &self.scenario[step].action;
        let before = self.before.borrow();
        if is_operation(action) {
            let last_tops = self.data.borrow().last_tops();
            let seen = Seen {
                before: &before,
                after,
                told,
                usual,
                last_tops: &last_tops,
                killed: self.killed.get(),
                took: self.world.now().saturating_sub(self.began.get()),
                within: within(action),
                beside,
            };
            self.violations.borrow_mut().extend(oracle::check(step, seen));
        }
        let wrong = self.data.borrow_mut().ended(deed, told, &before, after);
        let told = &told.text;
        let violations = wrong.into_iter().map(|(invariant, what)| Violation {
            invariant,
            step,
            what,
            told: told.clone(),
        });
        self.violations.borrow_mut().extend(violations);
    }

    /// Holds a second try against the first.
    fn converges(&self, step: usize, first: &Told, told: &Told, (after, beside): (&State, &Beside)) {
        // A fault of the scenario's own may have waited for the second try.
        if self.struck.get() > self.struck_before.get() {
            return;
        }
        let could_be_done = !self.killed.get() && after.guest.is_some();
        if let Some(what) = oracle::converges(first, told, could_be_done, beside) {
            let told = format!("{}; at first: {}", told.text, first.text);
            let violation = Violation { invariant: Invariant::Converges, step, what, told };
            self.violations.borrow_mut().push(violation);
        }
    }

    /// Notes how a step has ended.
    fn is_over(&self, told: Told, state: State) {
        self.asked.borrow_mut().push(self.world.world().oracle().choices());
        let guest = self.before.borrow().guest;
        let (places, fault) = (self.places.borrow().count(), self.fault.borrow().clone());
        self.steps.borrow_mut().push(Ended { told, state, guest, places, fault });
    }

    /// Somebody else is about to change how the machine stands.
    fn is_stirred(&self, fault: &str) {
        let changes = ["\"stop\"", "\"cont\"", "snapshot-delete-internal", "the guest's"];
        if fault.starts_with("meanwhile") && changes.iter().any(|change| fault.contains(change)) {
            self.stirring.replace(Some(State::of(&self.world.world())));
        }
    }

    /// What somebody else has changed is nothing that the operation has to answer for.
    fn settles(&self) {
        let Some(was) = self.stirring.take() else { return };
        let is = State::of(&self.world.world());
        if was.guest == is.guest && was.images == is.images {
            self.stirring.replace(Some(was));
            return;
        }
        if was.guest != is.guest {
            self.stirred.set(is.guest);
        }
        let mut before = self.before.borrow_mut();
        for (path, image) in &mut before.images {
            let gone = |tag: &String| {
                let has =
                    |state: &State| state.images.get(path).is_some_and(|image| image.tags.contains(tag));
                has(&was) && !has(&is)
            };
            image.tags.retain(|tag| !gone(tag));
        }
    }

    /// What is known of a step beside how everything stood.
    fn beside(&self, action: &Action) -> Beside {
        let takes = match action {
            Action::Snapshot(snapshot) => {
                let memory = match &snapshot.memory {
                    Some(MemoryPlace::File(name)) => Some(name.clone()),
                    _ => None,
                };
                let is_own = !self.keeps_records || snapshot.flags.contains(&Flag::NoMetadata);
                Some((snapshot.name.clone(), memory.filter(|_| is_own)))
            }
            Action::Storage(step) if step.verb == StorageVerb::Snapshot => {
                step.name.clone().map(|name| (name, None))
            }
            _ => None,
        };
        let recovers = matches!(action, Action::Recover(_));
        let awake = self.awake.borrow().clone();
        Beside { takes, frozen_told: self.frozen_told.get(), recovers, stirred: self.stirred.get(), awake }
    }
}

impl Watch for Watcher {
    fn happened(&self, entry: &Entry) {
        self.places.borrow_mut().happened(entry, self.now.get());
        self.looks_who_is_awake(entry);
        if matches!(entry, Entry::Sent(_) | Entry::AgentSent(_) | Entry::Ran { .. } | Entry::Fault(_)) {
            self.guest_writes();
        }
        self.settles();
        if let Entry::Fault(text) = entry {
            self.is_stirred(text);
            self.struck.set(self.struck.get() + 1);
            let step = self.now.get().unwrap_or_default();
            self.struck_in.set(Some((self.struck_in.get().map_or(step, |(first, _)| first), step)));
            self.fault.replace(text.clone());
            self.places_before.set(self.places.borrow().count());
            if text.starts_with("kill-qemu") {
                self.killed.set(true);
                self.data.borrow_mut().see(&State::of(&self.world.world()));
            }
            self.in_guest.set(self.in_guest.get() || text.contains("in the guest"));
        }
    }

    fn begins(&self, step: usize) {
        let again = self.now.get() == Some(step) && self.tries.get() > 0;
        self.tries.set(if again { self.tries.get() + 1 } else { 1 });
        self.now.set(Some(step));
        self.struck_before.set(self.struck.get());
        self.began.set(self.world.now());
        self.stirred.take();
        self.tops.replace(self.tops().0.into_iter().map(|(disk, path, _)| (disk, path)).collect());
        self.awake.take();
        let before = State::of(&self.world.world());
        self.data.borrow_mut().begins(&before);
        self.before.replace(before);
    }

    /// That is an operation of its own, and what comes behind it finds everything as it has left it.
    fn recovered(&self, told: &Told) {
        let Some(step) = self.now.get() else { return };
        self.settles();
        let after = State::of(&self.world.world());
        let action = &self.scenario[step].action;
        let beside = Beside { takes: None, recovers: true, ..self.beside(action) };
        self.data.borrow_mut().see(&after);
        self.hold(step, told, &after, (&beside, Deed::Nothing, None));
        self.data.borrow_mut().begins(&after);
        self.before.replace(after);
        // Beside what is left there the step does not end as it usually does.
        let leaves = told.text.contains("\n  left: ");
        self.on_course.set(!leaves && self.on_course.get());
    }

    fn ended(&self, step: usize, told: &Told) -> Next {
        self.settles();
        let after = State::of(&self.world.world());
        if self.is_killed_by_us(step, told, &after) {
            self.began.set(self.world.now());
            return Next::Recover;
        }
        let action = &self.scenario[step].action;
        let first = self.first.take();
        // What the first try has left is still there.
        let clean =
            first.as_ref().is_none_or(|first| matches!(first.stands, Stands::Untouched | Stands::AsBefore));
        let usual = self.usual(step).filter(|_| clean);
        let beside = self.beside(action);
        let found_before = self.violations.borrow().len();
        self.data.borrow_mut().see(&after);
        let usually = usual.map(|usual| (&usual.told, &usual.state));
        self.hold(step, told, &after, (&beside, deed(action), usually));
        let was_told = self.frozen_told.get() && !(is_operation(action) && told.stands == Stands::Done);
        self.frozen_told.set(was_told || told.frozen);
        if let Some(first) = &first {
            self.converges(step, first, told, (&after, &beside));
        } else if self.try_again(step, told) {
            if self.in_guest.get() {
                self.world.guest_acts(GuestAction::StartAgent);
            }
            self.first.replace(Some(told.clone()));
            return Next::Again;
        }
        // What was not done may have left other things than usually, which the words name.
        let as_usual = usual.is_some_and(|usual| {
            let same = usual.told.text == told.text;
            usual.told.stands == told.stands && (told.stands == Stands::Done || same)
        });
        // What is not as usual is told once, and not of every step behind it too.
        let well = self.violations.borrow().len() == found_before;
        self.on_course.set(as_usual && well && self.on_course.get());
        self.tries.set(0);
        self.is_over(told.clone(), after);
        Next::GoOn
    }

    fn put_right(&self, step: usize, told: &Told) -> Next {
        self.settles();
        let after = State::of(&self.world.world());
        let action = &self.scenario[step].action;
        let usual = self.usual(step);
        let told = Told { stands: self.stands_after_all(action, told, &after), ..told.clone() };
        let beside = Beside { recovers: true, ..self.beside(action) };
        let found_before = self.violations.borrow().len();
        self.data.borrow_mut().see(&after);
        let usually = usual.map(|usual| (&usual.told, &usual.state));
        self.hold(step, &told, &after, (&beside, deed(action), usually));
        self.frozen_told.set(self.frozen_told.get() || told.frozen);
        let well = self.violations.borrow().len() == found_before;
        let is_usually_done = usual.is_some_and(|usual| usual.told.stands == Stands::Done);
        if well && is_usually_done && told.stands == Stands::AsBefore {
            self.first.replace(Some(told));
            return Next::Again;
        }
        self.on_course.set(well && is_usually_done && told.stands == Stands::Done && self.on_course.get());
        self.tries.set(0);
        self.is_over(told, after);
        Next::GoOn
    }
}

/// Whether a storage's tool has caught a volume. What a program that speaks JSON was asked is not told.
fn catches(entry: &Entry) -> bool {
    let Entry::Ran { program, arguments, .. } = entry else { return false };
    let says = |word: &str| arguments.iter().any(|argument| argument == word);
    match Utf8Path::new(program).file_name().unwrap_or_default() {
        "btrfs" => says("snapshot"),
        "zfs" => arguments.first().is_some_and(|verb| verb == "snapshot"),
        "cp" => says("--reflink=always"),
        "lvcreate" => true,
        "rbd" => says("snap") && says("create"),
        _ => false,
    }
}

/// What an action does to data. What is done past the driver may do anything to them, and is believed.
fn deed(action: &Action) -> Deed<'_> {
    match action {
        Action::Snapshot(snapshot) if !snapshot.dry_run => Deed::Take(&snapshot.name),
        Action::Revert(revert) if !revert.dry_run => Deed::GoBack(&revert.name),
        Action::Storage(step) if step.verb == StorageVerb::Revert => Deed::Raw,
        Action::Qmp(_) => Deed::Raw,
        _ => Deed::Nothing,
    }
}
