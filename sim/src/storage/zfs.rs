//! `zfs list -t snapshot`, `get`, `snapshot`, `destroy` and `rollback`. Several snapshots in one command are OpenZFS's: all or none.

use super::{Refusal, Said, Surroundings};

pub(super) fn run(words: &[&str], around: &mut Surroundings<'_>) -> Said {
    match words {
        ["list", "-H", "-d", "1", "-t", "snapshot", "-o", "name", set] => list(set, around),
        ["get", "-H", "-o", "value", "mounted,mountpoint", set] => get(set, around),
        ["snapshot", places @ ..] if !places.is_empty() => snapshot(places, around),
        ["destroy", place] => destroy(place, around),
        ["rollback", place] => rollback(place, around),
        _ => Err(Refusal::not_simulated("zfs", words)),
    }
}

fn missing(name: &str) -> Refusal {
    Refusal::new(1, format!("cannot open '{name}': dataset does not exist"))
}

fn list(set: &str, around: &Surroundings<'_>) -> Said {
    let found = around.storage.sets.get(set).ok_or_else(|| missing(set))?;
    Ok(found.snapshots.iter().map(|(name, _)| format!("{set}@{name}\n")).collect())
}

/// All of them are file systems, mounted where their names say.
fn get(set: &str, around: &Surroundings<'_>) -> Said {
    let found = around.storage.sets.get(set).ok_or_else(|| missing(set))?;
    Ok(format!("yes\n{}\n", found.root))
}

fn snapshot(places: &[&str], around: &mut Surroundings<'_>) -> Said {
    let split: Vec<_> = places.iter().filter_map(|place| place.split_once('@')).collect();
    for (place, (set, name)) in places.iter().zip(&split) {
        let found = around.storage.sets.get(*set).ok_or_else(|| missing(set))?;
        let refused = |why: &str| Err(Refusal::new(1, format!("cannot create snapshot '{place}': {why}")));
        if found.has(name) {
            return refused("dataset already exists");
        }
        if around.storage.full {
            return refused("out of space");
        }
    }
    for (set, name) in split {
        if let Some(found) = around.storage.sets.get_mut(set) {
            found.snapshots.push((name.to_owned(), around.host.contents(&found.root)));
        }
    }
    Ok(String::new())
}

fn destroy(place: &str, around: &mut Surroundings<'_>) -> Said {
    let (set, name) = place.split_once('@').unwrap_or((place, ""));
    let found = around.storage.sets.get_mut(set).filter(|found| found.has(name));
    let found = found.ok_or_else(|| missing(place))?;
    found.snapshots.retain(|(known, _)| known != name);
    Ok(String::new())
}

/// Goes back to the newest alone.
fn rollback(place: &str, around: &mut Surroundings<'_>) -> Said {
    let (set, name) = place.split_once('@').unwrap_or((place, ""));
    let found = around.storage.sets.get(set).filter(|found| found.has(name));
    let found = found.ok_or_else(|| missing(place))?;
    let later = found.snapshots.iter().skip_while(|(known, _)| known != name).skip(1);
    let later: Vec<String> = later.map(|(known, _)| format!("{set}@{known}")).collect();
    if !later.is_empty() {
        return Err(Refusal::new(
            1,
            format!(
                "cannot rollback to '{place}': more recent snapshots exist\n\
                 use '-r' to force deletion of the following snapshots:\n{}",
                later.join("\n")
            ),
        ));
    }
    if let Some((_, contents)) = found.snapshots.last() {
        around.host.put(&found.root, contents);
    }
    Ok(String::new())
}
