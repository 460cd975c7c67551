//! `docs/libvirt.md` says of each of libvirt's rules what is done here, and what shows it. Here it is held to that: what it names is
//! there, each rule that is kept is shown, and each refusal of the driver is shown in its own words, by its code.
#![allow(clippy::disallowed_methods, reason = "reads the document, the sources and the transcripts")]

use std::{collections::BTreeMap, fs};

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe_driver::error::Code;
use freezeframe_tests::{suite, suite_folder};

/// How a row says what is done here, and whether that must be shown.
const WORDS: [(&str, bool); 5] =
    [("same", true), ("safer", true), ("other", true), ("not yet", false), ("none here", false)];

/// libvirt's codes that stand in the document, and that nothing here has.
const NOT_HERE: [&str; 1] = ["OPERATION_DENIED"];

/// The bugs of the field that are to be shown, each by its row and a report of it: of the agent and of quiescing, and of memory, internal
/// snapshots and going back. A row that is dropped from the document is missed here.
const FIELD_BUGS: [(&str, &str); 24] = [
    ("A1", "bca425a33f"),
    ("A2", "1e77faaa41"),
    ("A4", "vdsm#160"),
    ("A5", "17e54674"),
    ("A6", "ee91c825"),
    ("A7", "linstor_un#11"),
    ("A8", "kubevirt#16653"),
    ("A10", "adc88091"),
    ("A11", "cloudstack#13020"),
    ("A12", "kubevirt#9998"),
    ("A14", "94358a166a"),
    ("A15", "virtnbdbackup#145"),
    ("A17", "13418faa17"),
    ("D1", "lxd#9723"),
    ("D2", "d064764a"),
    ("D3", "c799e40f"),
    ("D4", "568b295c"),
    ("D6", "lxd#9875"),
    ("D7", "virt-manager#851"),
    ("D8", "libvirt 10.10.0"),
    ("D10", "14b02090"),
    ("D12", "cloudstack#7538"),
    ("D13", "libvirt 9.10.0"),
    ("D14", "kubevirt#10481"),
];

/// The shortest words by which a refusal is recognised in a test.
const TELLING: usize = 12;

#[test]
fn every_row_of_the_document_names_what_is_there_and_shows_what_is_kept() {
    let (known, tests) = (scenarios(), tests());
    let mut wrong = Vec::new();
    for Row { cells, shown } in rows().into_iter().filter(|row| row.cells.len() == 4) {
        let [rule, code, here, _] = cells.as_slice() else { unreachable!("it has four cells") };
        let word = WORDS.iter().find(|(word, _)| here.starts_with(word));
        match word {
            None => wrong.push(format!("`{rule}`: `{here}` does not begin with one of the words")),
            Some((word, true)) if shown.is_empty() => {
                wrong.push(format!("`{rule}` is said to be {word}, and nothing shows it"));
            }
            Some(_) => {}
        }
        if !code.is_empty() && !NOT_HERE.contains(&code.as_str()) && of_name(code).is_none() {
            wrong.push(format!("`{rule}`: there is no code {code}"));
        }
        for name in &shown {
            if !known.contains_key(name) && !tests.contains_key(name) {
                wrong.push(format!("`{rule}`: there is no scenario and no test `{name}`"));
            }
        }
        // Where it is said that another code is told, that one.
        let told = here.split("as ").skip(1).find_map(|rest| of_name(rest.split([':', ',', ' ']).next()?));
        let told = told.or_else(|| of_name(code)).filter(|_| here.starts_with("same"));
        let fails: Vec<_> =
            shown.iter().filter_map(|name| known.get(name)).flat_map(|it| &it.fails).collect();
        if let Some(told) =
            told.filter(|told| !fails.is_empty() && !fails.iter().any(|code| *code == told.name()))
        {
            wrong.push(format!("`{rule}`: no scenario of it fails by {told}, but by {fails:?}"));
        }
    }
    assert!(wrong.is_empty(), "docs/libvirt.md:\n  {}", wrong.join("\n  "));
}

#[test]
fn every_error_of_a_storage_is_shown_by_what_its_row_names() {
    let (known, tests) = (scenarios(), tests());
    let mut wrong = Vec::new();
    let errors = rows_of("docs/storage.md").into_iter().filter(|row| row.cells.len() == 3);
    for Row { cells, shown } in errors {
        let [error, code, _] = cells.as_slice() else { unreachable!("it has three cells") };
        for name in &shown {
            match known.get(name) {
                Some(shows) if of_name(code).is_some() && !shows.fails.contains(code) => {
                    wrong.push(format!("`{error}`: `{name}` does not fail by {code}"));
                }
                None if !tests.contains_key(name) => {
                    wrong.push(format!("`{error}`: there is no scenario and no test `{name}`"));
                }
                _ => {}
            }
        }
    }
    assert!(wrong.is_empty(), "docs/storage.md:\n  {}", wrong.join("\n  "));
}

#[test]
fn every_bug_of_the_field_is_shown_to_be_none_here_or_said_not_to_be() {
    let (known, tests) = (scenarios(), tests());
    let mut wrong = Vec::new();
    let rows = rows_of("docs/field-bugs.md");
    for (id, source) in FIELD_BUGS {
        let of_it: Vec<_> = rows.iter().filter(|row| row.cells[0] == id).collect();
        if of_it.len() != 1 || !of_it[0].cells[2].contains(source) {
            wrong.push(format!("{id}, which {source} reports, has no row of its own"));
        }
    }
    for Row { cells, shown } in rows {
        let [id, bug, _, here, _] = cells.as_slice() else { panic!("five cells: {cells:?}") };
        if !FIELD_BUGS.iter().any(|(known, _)| known == id) {
            wrong.push(format!("`{bug}`: {id} is none of the bugs that are to be shown"));
        }
        // The fault is in a scenario, where anybody can read it and play it.
        let in_a_scenario = shown.iter().any(|name| known.contains_key(name));
        let has_a_reason = here.strip_prefix("not here: ").is_some_and(|why| !why.is_empty());
        if in_a_scenario == has_a_reason {
            wrong
                .push(format!("{id}: a scenario shows it, or it is `not here: ` for a reason, and not both"));
        }
        for name in shown.iter().filter(|name| !known.contains_key(*name) && !tests.contains_key(*name)) {
            wrong.push(format!("`{bug}`: there is no scenario and no test `{name}`"));
        }
    }
    assert!(wrong.is_empty(), "docs/field-bugs.md:\n  {}", wrong.join("\n  "));
}

#[test]
fn every_refusal_is_shown_in_its_own_words() {
    let (known, tests) = (scenarios(), tests());
    let refusals = refusals();
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    for row in self::rows().into_iter().filter(|row| row.cells.len() == 3) {
        rows.insert(row.cells[0].trim_matches('`').to_owned(), row);
    }
    let (mut wrong, mut unshown) = (Vec::new(), 0);
    for refusal in &refusals {
        let name = &refusal.name;
        let Some(row) = rows.remove(name) else {
            wrong.push(format!("{name}: no row says what shows it"));
            continue;
        };
        if row.cells[1] != refusal.code.name() {
            wrong.push(format!("{name}: its code is {}, not {}", refusal.code, row.cells[1]));
        }
        match row.cells[2].starts_with(UNSHOWN.0) {
            true => unshown += 1,
            false if row.shown.is_empty() => wrong.push(format!("{name}: nothing shows it")),
            false => {}
        }
        for shown in row.shown {
            let is_shown = match (known.get(&shown), tests.get(&shown)) {
                (Some(scenario), _) => refusal.is_told_in(&scenario.goldens),
                (None, Some(test)) => refusal.is_looked_for_in(test),
                (None, None) => false,
            };
            if !is_shown {
                wrong.push(format!("{name}: `{shown}` is not there, or does not show it"));
            }
        }
    }
    if unshown > UNSHOWN.1 {
        wrong.push(format!("{unshown} refusals are shown by nothing"));
    }
    wrong.extend(rows.keys().map(|name| format!("{name}: the driver has no such refusal")));
    assert!(wrong.is_empty(), "docs/libvirt.md, the last table:\n  {}", wrong.join("\n  "));
}

/// A row of a table.
struct Row {
    cells: Vec<String>,
    /// What its last cell names.
    shown: Vec<String>,
}

/// All rows of the document, without the heads of its tables.
fn rows() -> Vec<Row> {
    rows_of("docs/libvirt.md")
}

fn rows_of(document: &str) -> Vec<Row> {
    let text = fs::read_to_string(root().join(document)).expect("the document can be read");
    let lines = text.lines().collect::<Vec<_>>();
    let is_head = |at: usize| lines.get(at + 1).is_some_and(|next| next.starts_with("| ---"));
    let row = |(at, line): (usize, &&str)| {
        let inner = line.strip_prefix("| ").filter(|_| !line.starts_with("| ---") && !is_head(at))?;
        let cells: Vec<String> =
            inner.trim_end_matches('|').split(" |").map(|cell| cell.trim().to_owned()).collect();
        let shown = cells.last()?.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        Some(Row { cells, shown })
    };
    lines.iter().enumerate().filter_map(row).collect()
}

/// A scenario of the suite.
struct Shows {
    /// The codes by which its steps are to fail.
    fails: Vec<String>,
    /// Its transcripts, one behind the other.
    goldens: String,
}

/// The suite, by id.
fn scenarios() -> BTreeMap<String, Shows> {
    let shows = |case: &freezeframe::suite::Case| {
        let fails = case.scenario.steps.iter().filter_map(|step| step.fails.as_ref()?.code.clone());
        let stem = case.path.file_stem().expect("a scenario has a name");
        let folder = case.path.parent().expect("a file is in a folder");
        let goldens = files(folder, "snap").into_iter().filter(|path| {
            let name = path.file_stem().unwrap_or_default();
            name.split('@').next() == Some(stem)
        });
        let goldens = goldens.map(|path| fs::read_to_string(path).expect("a transcript can be read"));
        (case.scenario.id.clone(), Shows { fails: fails.collect(), goldens: goldens.collect() })
    };
    assert!(suite_folder().is_dir(), "there is a suite");
    suite().iter().map(shows).collect()
}

/// The text of each test of the sources, with what stands right above it, by its name.
fn tests() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for folder in ["driver/src", "tests/tests", "scenarios/src"] {
        for path in files(&root().join(folder), "rs") {
            let text = fs::read_to_string(&path).expect("a source can be read");
            let lines: Vec<&str> = text.lines().collect();
            for (at, line) in lines.iter().enumerate() {
                let Some((_, name)) = line.split_once("fn ") else { continue };
                let end = format!("{}}}", &line[..line.len() - line.trim_start().len()]);
                let Some(length) = lines[at..].iter().position(|line| *line == end) else { continue };
                let begin = lines[..at].iter().rposition(|line| line.is_empty()).map_or(0, |blank| blank + 1);
                let text = lines[begin..=at + length].join("\n");
                if ["#[test]", "#[rstest]", "#[tokio::test"].iter().any(|mark| text.contains(mark)) {
                    let name = name.split(['(', '<']).next().unwrap_or_default();
                    found.insert(name.to_owned(), text);
                }
            }
        }
    }
    found
}

/// A refusal of the driver, as its source has it.
struct Refusal {
    /// `Refusal::NoImage`, `RevertRefusal::Slept`.
    name: String,
    code: Code,
    /// The parts of its message between what is filled in; none if it tells another's.
    words: Vec<String>,
}

impl Refusal {
    /// Whether a transcript ends a step with it.
    fn is_told_in(&self, transcript: &str) -> bool {
        let told = format!("!! {} ", self.code);
        transcript.lines().filter_map(|line| line.split_once(&told)).any(|(_, mut rest)| {
            self.words.iter().all(|word| {
                let found = rest.find(word.as_str());
                rest = &rest[found.map_or(0, |at| at + word.len())..];
                found.is_some()
            })
        })
    }

    /// Whether a test names it, has all its words, or has some of its words beside its code.
    fn is_looked_for_in(&self, test: &str) -> bool {
        let named = test.match_indices(&self.name).any(|(at, name)| stands_alone(test, at, name.len()));
        let literals = || test.split('"').skip(1).step_by(2).filter(|literal| literal.len() >= TELLING);
        let telling = || self.words.iter().filter(|words| words.len() >= TELLING);
        let whole = telling().next().is_some()
            && telling().all(|words| literals().any(|said| said.contains(&**words)));
        let code = test.contains(&format!("Code::{:?}", self.code)) || test.contains(self.code.name());
        let some =
            telling().any(|words| literals().any(|said| said.contains(&**words) || words.contains(said)));
        named || whole || (some && code)
    }
}

/// The enums of refusals, and their files.
const ENUMS: [(&str, &str); 8] = [
    ("Refusal", "refusal.rs"),
    ("RevertRefusal", "revert_refusal.rs"),
    ("DeleteRefusal", "delete_refusal.rs"),
    ("ImageRefusal", "image_refusal.rs"),
    ("OffRefusal", "off_refusal.rs"),
    ("QuiesceRefusal", "quiesce_refusal.rs"),
    ("StorageRefusal", "storage_refusal.rs"),
    ("UnusedRefusal", "unused_refusal.rs"),
];

/// How a row says that nothing shows it, and why; and how many may say so.
const UNSHOWN: (&str, usize) = ("not shown: ", 1);

/// Every refusal: of the enums all variants but those that hold another of them.
fn refusals() -> Vec<Refusal> {
    let mut found = Vec::new();
    for (enumeration, file) in ENUMS.map(|(name, file)| (name, format!("driver/src/error/{file}"))) {
        let text = fs::read_to_string(root().join(&file)).expect("the source can be read");
        let (variants, codes) = text.split_once("\n}\n").expect("the enum ends");
        for part in variants.split("#[error(").skip(1) {
            let (message, rest) = part.split_once(")]\n").expect("an attribute ends");
            let variant: String = rest.trim_start().chars().take_while(char::is_ascii_alphanumeric).collect();
            let name = format!("{enumeration}::{variant}");
            if ["Revert", "Delete", "Image", "Off", "Quiesce", "Storage", "Unused"].contains(&&*variant) {
                continue;
            }
            let code = code(codes, &variant).unwrap_or_else(|| panic!("{variant} has a code in {file}"));
            found.push(Refusal { words: words(message), name, code });
        }
    }
    assert!(found.len() > 80, "{} refusals are found", found.len());
    found
}

/// The code in the last arm that names a variant.
fn code(arms: &str, name: &str) -> Option<Code> {
    let named = arms.match_indices(name).map(|(at, _)| at);
    // A code may be called as a variant is.
    let arm =
        named.filter(|at| stands_alone(arms, *at, name.len()) && !arms[..*at].ends_with("Code::")).last()?;
    let code: String =
        arms[arm..].split_once("Code::")?.1.chars().take_while(char::is_ascii_alphanumeric).collect();
    Code::ALL.into_iter().find(|known| format!("{known:?}") == code)
}

/// Whether a name in a text is no part of a longer one.
fn stands_alone(text: &str, at: usize, length: usize) -> bool {
    let part = |beside: char| beside.is_ascii_alphanumeric();
    !text[..at].ends_with(part) && !text[at + length..].starts_with(part)
}

/// The parts of a message between its braces.
fn words(message: &str) -> Vec<String> {
    let Some((_, text)) = message.split_once('"') else { return Vec::new() };
    let text = text.split_once('"').map_or(text, |(text, _)| text);
    let mut lines = String::new();
    for line in text.split("\\\n") {
        lines.push_str(if lines.is_empty() { line } else { line.trim_start() });
    }
    let parts =
        lines.split('{').flat_map(|part| part.split_once('}').map_or(Some(part), |(_, text)| Some(text)));
    parts.filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

fn of_name(name: &str) -> Option<Code> {
    Code::ALL.into_iter().find(|code| code.name() == name)
}

/// The files of that kind in a folder and those below it.
fn files(folder: &Utf8Path, extension: &str) -> Vec<Utf8PathBuf> {
    let mut found = Vec::new();
    for entry in folder.read_dir_utf8().expect("the folder can be read") {
        let path = entry.expect("the folder can be read").into_path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension() == Some(extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn root() -> Utf8PathBuf {
    Utf8Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are in the project").to_owned()
}
