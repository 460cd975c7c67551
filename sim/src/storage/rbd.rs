//! `rbd snap`, `rbd group snap`, `rbd group image list` and `rbd status`: what they say without progress and the library's log.
//!
//! A full pool lets whoever writes to it wait; nothing is refused for want of room.

use super::{Group, Refusal, Said, Surroundings, Volume};

pub(super) fn run(words: &[&str], around: &mut Surroundings<'_>) -> Said {
    let asked = without_surroundings(words);
    match asked[..] {
        ["snap", "ls", image, "--format", "json"] => list(image, around),
        ["snap", "create", place] => create(place, around),
        ["snap", "rm", place] => remove(place, around),
        ["snap", "rollback", place] => rollback(place, around),
        ["status", image, "--format", "json"] => status(image, around),
        ["group", "image", "list", group, "--format", "json"] => Ok(members(group, around)),
        ["group", "snap", "ls", group, "--format", "json"] => Ok(list_group(group, around)),
        ["group", "snap", verb @ ("create" | "rm" | "rollback"), place] => of_group(verb, place, around),
        _ => Err(Refusal::not_simulated("rbd", words)),
    }
}

/// The words without how long to wait, and which cluster it is: there is one, and it answers.
fn without_surroundings<'w>(words: &[&'w str]) -> Vec<&'w str> {
    let mut rest = words.iter().copied();
    let mut asked = Vec::new();
    while let Some(word) = rest.next() {
        if matches!(word, "--rados-osd-op-timeout" | "--client-mount-timeout" | "--conf") {
            rest.next();
        } else {
            asked.push(word);
        }
    }
    asked
}

const GONE: i32 = 2;
const EXISTS: i32 = 17;

fn image<'s>(name: &str, around: &'s mut Surroundings<'_>) -> Result<&'s mut Volume, Refusal> {
    let short = name.rsplit('/').next().unwrap_or(name);
    let words = format!("rbd: error opening image {short}: (2) No such file or directory");
    around.storage.images.get_mut(name).ok_or_else(|| Refusal::new(GONE, words))
}

fn list(name: &str, around: &mut Surroundings<'_>) -> Said {
    let of = |(number, (name, _)): (usize, &(String, _))| {
        serde_json::json!({"id": number + 4, "name": name, "size": 16 << 20, "protected": "false",
            "timestamp": "Thu Jan  1 00:00:00 2026"})
    };
    let snapshots = &image(name, around)?.snapshots;
    Ok(format!("{}\n", serde_json::Value::from_iter(snapshots.iter().enumerate().map(of))))
}

fn split(place: &str) -> (&str, &str) {
    place.split_once('@').unwrap_or((place, ""))
}

fn create(place: &str, around: &mut Surroundings<'_>) -> Said {
    let (name, snapshot) = split(place);
    let found = image(name, around)?;
    if found.has(snapshot) {
        return Err(Refusal::new(EXISTS, "rbd: failed to create snapshot: (17) File exists"));
    }
    let root = found.root.clone();
    let contents = around.host.contents(&root);
    image(name, around)?.snapshots.push((snapshot.to_owned(), contents));
    Ok(String::new())
}

fn remove(place: &str, around: &mut Surroundings<'_>) -> Said {
    let (name, snapshot) = split(place);
    let found = image(name, around)?;
    if !found.has(snapshot) {
        let words = "rbd: failed to remove snapshot: (2) No such file or directory";
        return Err(Refusal::new(GONE, words));
    }
    found.snapshots.retain(|(known, _)| known != snapshot);
    Ok(String::new())
}

fn rollback(place: &str, around: &mut Surroundings<'_>) -> Said {
    let (name, snapshot) = split(place);
    let found = image(name, around)?;
    let held = found.snapshots.iter().find(|(known, _)| known == snapshot).cloned();
    let root = found.root.clone();
    let gone = || Refusal::new(GONE, "rbd: rollback failed: (2) No such file or directory");
    let (_, contents) = held.ok_or_else(gone)?;
    around.host.put(&root, &contents);
    Ok(String::new())
}

fn status(name: &str, around: &mut Surroundings<'_>) -> Said {
    let root = image(name, around)?.root.clone();
    let watcher = r#"{"address":"127.0.0.1:0/1","client":4100,"cookie":1}"#;
    let watchers = if around.open.contains(&root) { watcher } else { "" };
    Ok(format!("{{\"watchers\":[{watchers}]}}\n"))
}

/// A group that is not there is an empty one.
fn members(group: &str, around: &Surroundings<'_>) -> String {
    let images = around.storage.groups.get(group).map(|group| &group.images[..]).unwrap_or_default();
    let of = |image: &String| {
        let (pool, image) = image.rsplit_once('/').unwrap_or_default();
        serde_json::json!({"image": image, "pool": pool, "namespace": "", "state": 0})
    };
    format!("{}\n", serde_json::Value::from_iter(images.iter().map(of)))
}

fn list_group(group: &str, around: &Surroundings<'_>) -> String {
    let snapshots = around.storage.groups.get(group).map(|group| &group.snapshots[..]).unwrap_or_default();
    let of = |(name, _): &(String, _)| serde_json::json!({"snapshot": name, "state": "ok"});
    format!("{}\n", serde_json::Value::from_iter(snapshots.iter().map(of)))
}

fn of_group(verb: &str, place: &str, around: &mut Surroundings<'_>) -> Said {
    let (name, snapshot) = split(place);
    let Surroundings { host, storage, .. } = around;
    let failed = |what: &str| Refusal::new(GONE, format!("rbd: {what}: (2) No such file or directory"));
    let Some(Group { images, snapshots }) = storage.groups.get_mut(name) else {
        return Err(failed("group snapshot failed"));
    };
    let roots: Vec<_> =
        images.iter().filter_map(|image| Some(storage.images.get(image)?.root.clone())).collect();
    let known = snapshots.iter().position(|(known, _)| known == snapshot);
    match (verb, known) {
        ("create", Some(_)) => {
            let words =
                "librbd::api::Group: snap_create: snapshot with this name already exists: (17) File exists";
            return Err(Refusal::new(EXISTS, words));
        }
        ("create", None) => {
            let held = roots.iter().map(|root| host.contents(root)).collect();
            snapshots.push((snapshot.to_owned(), held));
        }
        ("rm", Some(at)) => drop(snapshots.remove(at)),
        ("rm", None) => return Err(failed("failed to remove group snapshot")),
        (_, Some(at)) => {
            roots.iter().zip(&snapshots[at].1).for_each(|(root, contents)| host.put(root, contents));
        }
        (_, None) => return Err(failed("rollback group to snapshot failed")),
    }
    Ok(String::new())
}
