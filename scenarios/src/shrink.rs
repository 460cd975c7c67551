//! A finding of a campaign as the smallest scenario file that shows it: [`crate::regression`] plays it ever after.
//!
//! ```text
//! the scenario that was played, the faults that were added, the order --> one text
//!   for as long as one of these still shows it, by itself:
//!     a part less:    a step, a fault, a choice of the schedule, a disk, a word of what is left
//!     a number less:  an occurrence, an answer, a delay
//! ```
//!
//! "Shows it" is: the same invariant does not hold, and without the added faults and the order all holds, where it did so in what
//! was found. The words may change meanwhile: what is left says less, but it says the same. After "Simplifying and isolating
//! failure-inducing input" (Zeller and Hildebrandt, 2002), one part at a time: what comes out has no part that can be left out.
//!
//! A step or a disk that goes takes occurrences with it: the second `transaction` is the first one then. So where something does
//! not go by itself, it is tried with lower occurrences too.
//!
//! | module | |
//! | --- | --- |
//! | `document` | the text as a tree, and back |
//! | [`keep`] | the file |

mod document;
mod keep;

use camino::Utf8Path;
use freezeframe_sim::{Release, oracle::Trace};
use toml::{Table, Value};

use self::document::{Turn, Way, count, forget, item, part, parts, text, without};
pub use self::keep::{Kept, keep};
use crate::{
    language::{Fault, Invariant, Scenario},
    regression, sweep,
    world::sim::Simulator,
};

/// How many candidates are played at most for one finding; one that is not done by then is written as it is by then.
const TRIES_MAX: u32 = 5_000;

/// With how many lower occurrences a part is tried that does not go by itself.
const RETARGETS_MAX: usize = 200;

/// Something that was found, and in what.
#[derive(Debug, Clone)]
pub struct Found<'a> {
    /// The text of the scenario that was played.
    pub text: &'a str,
    /// On which release.
    pub release: Release,
    /// The faults that were added.
    pub faults: &'a [Fault],
    /// In which order it went.
    pub order: &'a Trace,
    /// What did not hold.
    pub shows: Invariant,
    /// What has found it: `sweep`, `explore`, `choice`.
    pub by: &'a str,
}

/// The smallest scenario that shows a finding.
#[derive(Debug, Clone, PartialEq)]
pub struct Small {
    /// What a file is called that holds it, without a number and `.toml`: the scenario, the release and what it shows.
    pub name: String,
    table: Table,
    /// Where it was found, and by what.
    origin: String,
    release: Release,
    what: String,
    told: String,
    /// How many candidates were played.
    pub tries: u32,
}

/// Looks for the smallest scenario that shows it. None if it cannot be shown by a scenario: by none that was written down so does it
/// come back.
pub fn shrink(simulator: &mut Simulator, found: &Found<'_>) -> Option<Small> {
    let (table, id) = whole(found)?;
    let name = format!("{}-{}-{}", id.replace('/', "-"), found.release, found.shows.name());
    let mut shrinker = Shrinker {
        simulator,
        release: found.release,
        shows: found.shows,
        usually: Usually::AsItMay,
        tries: 0,
    };
    if !shrinker.shows(&table) {
        return None;
    }
    for usually in [Usually::AsWritten, Usually::Holds] {
        shrinker.usually = usually;
        if shrinker.shows(&table) {
            break;
        }
        shrinker.usually = Usually::AsItMay;
    }
    let table = shrinker.smallest(table);
    let scenario = parsed(&table)?;
    let played = regression::play(shrinker.simulator, &scenario, found.release, None);
    let finding = played.findings.into_iter().find(|finding| finding.shows == found.shows)?;
    let (tries, release) = (shrinker.tries, found.release);
    let origin = format!("`freezeframe {}` in {id} on QEMU {release}", found.by);
    let told = finding.told.unwrap_or_default();
    Some(Small { name, table, origin, release, what: finding.what, told, tries })
}

/// All that was played, as one scenario.
fn whole(found: &Found<'_>) -> Option<(Table, String)> {
    let mut table: Table = found.text.parse().ok()?;
    let id = table.get("id")?.as_str()?.to_owned();
    let quiesced = table.remove("expect").and_then(|expect| expect.get("quiesced").cloned());
    for key in ["refs", "level", "schedule", "regression"] {
        table.remove(key);
    }
    let texts = |texts: &[&str]| Value::from(texts.iter().map(ToString::to_string).collect::<Vec<_>>());
    table.insert("id".to_owned(), "regression".into());
    table.insert("title".to_owned(), "A finding".into());
    table.insert("why".to_owned(), "It is being shrunk.".into());
    table.insert("releases".to_owned(), texts(&[&found.release.to_string()]));
    table.insert("targets".to_owned(), texts(&["sim"]));
    let shows = Table::from_iter([("shows".to_owned(), found.shows.name().into())]);
    table.insert("regression".to_owned(), shows.into());
    // Of all that is expected of the end, only this is looked at while the oracle looks on.
    if let Some(quiesced) = quiesced.filter(|_| found.shows == Invariant::Written) {
        table.insert("expect".to_owned(), Table::from_iter([("quiesced".to_owned(), quiesced)]).into());
    }
    let mut faults = Vec::new();
    for fault in found.faults {
        let written = sweep::toml(&Fault { added: true, ..fault.clone() });
        faults.extend(written.parse::<Table>().ok()?.remove("fault")?.as_array()?.iter().cloned());
    }
    // In front, as it was played: where two wait for the same moment, the added one is meant.
    faults.extend(table.get("fault").and_then(Value::as_array).into_iter().flatten().cloned());
    if !faults.is_empty() {
        table.insert("fault".to_owned(), faults.into());
    }
    let choices: Option<Vec<Value>> = found.order.deviations().iter().map(choice).collect();
    let choices = choices?;
    if !choices.is_empty() {
        table.insert("schedule".to_owned(), choices.into());
    }
    Some((table, id))
}

fn choice(deviation: &freezeframe_sim::oracle::Deviation) -> Option<Value> {
    let nth = i64::from(deviation.occurrence) + 1;
    let answer = i64::try_from(deviation.value).ok()?;
    let entries: [(String, Value); 3] = [
        ("choice".to_owned(), deviation.label.as_ref().into()),
        ("nth".to_owned(), nth.into()),
        ("answer".to_owned(), answer.into()),
    ];
    Some(Table::from_iter(entries).into())
}

fn parsed(table: &Table) -> Option<Scenario> {
    Scenario::parse(Utf8Path::new("regression.toml"), &text(table)).ok()
}

/// How it is to go without the added faults and in the usual order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Usually {
    /// Its steps end as they are written to, too: else what is left makes no sense to who reads it.
    AsWritten,
    /// What must hold in any case holds.
    Holds,
    /// As it may: it was found without anything added.
    AsItMay,
}

struct Shrinker<'s> {
    simulator: &'s mut Simulator,
    release: Release,
    shows: Invariant,
    usually: Usually,
    tries: u32,
}

impl Shrinker<'_> {
    /// Whether this is a scenario, and shows it.
    fn shows(&mut self, table: &Table) -> bool {
        let Some(scenario) = parsed(table).filter(|_| self.tries < TRIES_MAX) else { return false };
        self.tries += 1;
        let played = regression::play(self.simulator, &scenario, self.release, None);
        if !played.shows(self.shows) || !played.stale.is_empty() {
            return false;
        }
        let (mut usual, _) = scenario.without_what_was_added();
        match self.usually {
            Usually::AsItMay => return true,
            Usually::Holds => {}
            Usually::AsWritten => usual.regression = None,
        }
        regression::play(self.simulator, &usual, self.release, None).findings.is_empty()
    }

    /// The same, as long as something can go or be lowered.
    fn smallest(&mut self, mut table: Table) -> Table {
        loop {
            let before = table.clone();
            for list in ["schedule", "fault", "step"] {
                table = self.fewer(table, list);
            }
            table = self.fewer_disks(table);
            table = self.fewer_words(table);
            table = self.lower(table);
            if table == before {
                return table;
            }
        }
    }

    /// Fewer items of a list, the last one first.
    fn fewer(&mut self, mut table: Table, list: &str) -> Table {
        for number in (0..count(&table, list)).rev() {
            if let Some(less) = self.aimed_anew(without(&table, &item(list, number))) {
                table = less;
            }
        }
        table
    }

    /// Fewer disks, and nothing that names them.
    fn fewer_disks(&mut self, mut table: Table) -> Table {
        let disks = |table: &Table| -> Vec<String> {
            let disks =
                table.get("machine").and_then(|machine| machine.get("disks")).and_then(Value::as_array);
            let targets = disks.into_iter().flatten().filter_map(|disk| disk.get("target")?.as_str());
            targets.map(ToOwned::to_owned).collect()
        };
        for (number, target) in disks(&table).iter().enumerate().rev() {
            let way = ["machine", "disks"].map(|key| Turn::Key(key.to_owned()));
            let way: Way = way.into_iter().chain([Turn::Item(number)]).collect();
            let mut less = without(&table, &way);
            less.get_mut("step").into_iter().for_each(|steps| forget(steps, target));
            if let Some(less) = self.aimed_anew(less) {
                table = less;
            }
        }
        table
    }

    /// Fewer words in what is left: a flag, a format, an agent.
    fn fewer_words(&mut self, mut table: Table) -> Table {
        let mut ways = Vec::new();
        for key in ["machine", "step", "fault"] {
            let Some(value) = table.get(key) else { continue };
            parts(value, &vec![Turn::Key(key.to_owned())], &mut ways);
        }
        // Lists of disks, steps and faults are shortened elsewhere; how a step fails is not said for brevity's sake.
        let is_word = |way: &Way| match way.last() {
            Some(Turn::Item(_)) => way.len() > 3,
            Some(Turn::Key(key)) => key != "fails" && key != "added",
            None => false,
        };
        for way in ways.into_iter().filter(is_word) {
            // It may have gone with what held it.
            if part(&mut table, &way).is_none() {
                continue;
            }
            let less = without(&table, &way);
            if self.shows(&less) {
                table = less;
            }
        }
        table
    }

    /// Lower occurrences and answers, and shorter delays.
    fn lower(&mut self, mut table: Table) -> Table {
        for way in occurrences(&table).into_iter().chain(answers(&table)) {
            let Some(value) = part(&mut table, &way).and_then(|value| value.as_integer()) else { continue };
            let lower =
                (1..value).take(16).chain([value / 2, value - 1]).filter(|lower| (1..value).contains(lower));
            for lower in lower {
                let less = with(&table, &way, lower.into());
                if self.shows(&less) {
                    table = less;
                    break;
                }
            }
        }
        for number in 0..count(&table, "fault") {
            let mut way = item("fault", number);
            way.extend(["do", "delay"].map(|key| Turn::Key(key.to_owned())));
            let less = with(&table, &way, "100ms".into());
            if part(&mut table, &way).is_some() && less != table && self.shows(&less) {
                table = less;
            }
        }
        table
    }

    /// It as it stands, or with lower occurrences, if that shows it.
    fn aimed_anew(&mut self, table: Table) -> Option<Table> {
        if self.shows(&table) {
            return Some(table);
        }
        parsed(&table)?;
        let mut tables = vec![table.clone()];
        for way in occurrences(&table) {
            let mut more = Vec::new();
            for table in &tables {
                let mut table = table.clone();
                let value = part(&mut table, &way).and_then(|value| value.as_integer()).unwrap_or(1);
                more.extend((1..value).rev().map(|lower| with(&table, &way, lower.into())));
            }
            tables.extend(more);
            tables.truncate(RETARGETS_MAX);
        }
        tables.into_iter().skip(1).find(|table| self.shows(table))
    }
}

/// The same with another value there.
fn with(table: &Table, way: &[Turn], value: Value) -> Table {
    let mut with = table.clone();
    if let Some(part) = part(&mut with, way) {
        *part = value;
    }
    with
}

/// The ways to all numbers that say at which of several something is to be.
fn occurrences(table: &Table) -> Vec<Way> {
    let key = |key: &str| Turn::Key(key.to_owned());
    let faults = (0..count(table, "fault"))
        .map(|number| [item("fault", number), vec![key("at"), key("nth")]].concat());
    let choices =
        (0..count(table, "schedule")).map(|number| [item("schedule", number), vec![key("nth")]].concat());
    let ways = faults.chain(choices);
    ways.filter(|way| part(&mut table.clone(), way).is_some()).collect()
}

/// The ways to the answers of the schedule.
fn answers(table: &Table) -> Vec<Way> {
    let choices = 0..count(table, "schedule");
    choices.map(|number| [item("schedule", number), vec![Turn::Key("answer".to_owned())]].concat()).collect()
}
