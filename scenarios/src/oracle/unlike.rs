//! In what a state is not as another one: as it was before, or as it usually is then. Names are compared without the numbers that
//! make them one operation's own.

use std::collections::{BTreeMap, BTreeSet};

use super::{ImageState, Record, State};

/// In what a state is not as another one. Of a machine that is gone only its files are compared.
pub fn unlike(wanted: &State, found: &State, when: &str) -> Vec<String> {
    let mut differences = Vec::new();
    let mut differ = |what: &str, was: BTreeSet<String>, is: BTreeSet<String>| {
        let list = |names: Vec<&String>| names.into_iter().cloned().collect::<Vec<_>>().join(" ");
        let (missing, new) =
            (was.difference(&is).collect::<Vec<_>>(), is.difference(&was).collect::<Vec<_>>());
        if !missing.is_empty() {
            differences.push(format!("{what} gone, which {when} was there: {}", list(missing)));
        }
        if !new.is_empty() {
            differences.push(format!("{what} there, which {when} was not: {}", list(new)));
        }
    };
    let plain = |names: Vec<&String>| names.into_iter().map(|name| numberless(name)).collect::<BTreeSet<_>>();
    let names = |state: &State| ranked(state.files()).into_keys().collect();
    differ("file", names(wanted), names(found));
    differ("record", wanted.records.keys().cloned().collect(), found.records.keys().cloned().collect());
    if wanted.guest.is_some() && found.guest.is_some() {
        let jobs = |state: &State| plain(state.jobs.iter().collect());
        differ("job", jobs(wanted), jobs(found));
        differ("migration setting", wanted.settings.clone(), found.settings.clone());
        // An image that is below nothing any more is open still.
        let below = |file: &&String| wanted.chains.values().flatten().any(|below| below == *file);
        let loose =
            found.loose.values().filter(|file| wanted.loose.values().any(|was| was == *file) || !below(file));
        differ("node", plain(wanted.loose.values().collect()), plain(loose.collect()));
        for (device, chain) in &wanted.chains {
            let (was, is) = (files_of(Some(chain)), files_of(found.chains.get(device)));
            if was != is && !found.chains.get(device).is_some_and(|is| is_shorter(chain, is)) {
                differences.push(format!("{device} was {when} on {was}, and is on {is}"));
            }
        }
    }
    let others = ranked(found.images.keys());
    for (name, path) in ranked(wanted.images.keys()) {
        // A job of a driver that was killed goes on by itself: it makes an image that nobody uses yet.
        let is_made =
            wanted.pending && !wanted.jobs.is_empty() && wanted.loose.values().any(|file| file == path);
        let is_it = |other: &&&String| **other == path && reads_the_same(path, wanted, found);
        let other = others.get(&name).filter(|other| !is_made && !is_it(other));
        let Some(other) = other else { continue };
        let (was, is) = (told_of(&wanted.images[path]), told_of(&found.images[*other]));
        if was != is {
            differences.push(format!("{path} was {when} {was}, and is {is}"));
        }
    }
    for (name, record) in &wanted.records {
        let is = found.records.get(name).map(numberless_record);
        if is.is_some_and(|is| is != numberless_record(record)) {
            differences.push(format!("the record of {name} is another than {when}"));
        }
    }
    if found.pending && !wanted.pending {
        differences.push("an operation is written down that has left something".to_owned());
    }
    if wanted.current != found.current {
        let name = |current: &Option<String>| current.clone().unwrap_or_else(|| "none".to_owned());
        let (was, is) = (name(&wanted.current), name(&found.current));
        differences.push(format!("the current snapshot was {when} {was}, and is {is}"));
    }
    differences
}

/// Whether a chain has the same top and bottom part, and only lacks images between: what they held is in one above.
fn is_shorter(was: &[String], is: &[String]) -> bool {
    let mut left = was.iter();
    was.first() == is.first() && is.iter().all(|file| left.any(|was| was == file))
}

/// Whether what was copied into an image from those below it is all that has changed of it: it stands on one further down then, and
/// shows what it showed. What the guest writes to meanwhile is held against what it has written, elsewhere.
fn reads_the_same(path: &str, wanted: &State, found: &State) -> bool {
    let (Some(was), Some(is)) = (wanted.images.get(path), found.images.get(path)) else { return false };
    let below = |state: &State| {
        let next = |file: &String| state.images.get(file)?.backing.clone();
        std::iter::successors(Some(path.to_owned()), next).take(state.images.len() + 1).collect::<Vec<_>>()
    };
    let in_use = |state: &State| state.chains.values().flatten().any(|file| file == path);
    was.tags == is.tags
        && is_shorter(&below(wanted), &below(found))
        && (in_use(wanted) || wanted.content(path) == found.content(path))
}

/// A name without the number that makes it one of its own: a second try has another. An overlay of a `<transient/>` disk is called
/// by its image, so that the number may be followed by a dot.
fn numberless(name: &str) -> String {
    let parts = name.split('-').map(|part| {
        let (number, rest) = part.split_at(part.find('.').unwrap_or(part.len()));
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        if is_number { format!("#{rest}") } else { part.to_owned() }
    });
    parts.collect::<Vec<_>>().join("-")
}

/// Names without their numbers, and which is which: of two that differ in these alone the one with the lower number comes first.
pub(super) fn ranked<'n>(names: impl IntoIterator<Item = &'n String>) -> BTreeMap<String, &'n String> {
    let mut sorted: Vec<&String> = names.into_iter().collect();
    sorted.sort_by_key(|name| (name.len(), *name));
    let mut ranked = BTreeMap::new();
    for name in sorted {
        let plain = numberless(name);
        let mut of_its_own = plain.clone();
        let mut rank = 1;
        while ranked.contains_key(&of_its_own) {
            rank += 1;
            of_its_own = format!("{plain} ({rank})");
        }
        ranked.insert(of_its_own, name);
    }
    ranked
}

fn numberless_record(record: &Record) -> Record {
    let set = |paths: &BTreeSet<String>| paths.iter().map(|path| numberless(path)).collect();
    let images = record.images.iter().map(|(disk, image)| (disk.clone(), numberless(image)));
    Record {
        needs: set(&record.needs),
        // In which of several branches it went on it need not say the same.
        overlays: BTreeSet::new(),
        inside: set(&record.inside),
        images: images.collect(),
        ..record.clone()
    }
}

fn files_of(chain: Option<&Vec<String>>) -> String {
    let each = |chain: &Vec<String>| chain.iter().map(|file| numberless(file)).collect::<Vec<_>>();
    chain.map_or("nothing".to_owned(), |chain| each(chain).join(" on "))
}

fn told_of(image: &ImageState) -> String {
    let backing = numberless(image.backing.as_deref().unwrap_or("nothing"));
    format!("on {backing} with [{}] inside", image.tags.join(" "))
}
