//! A program that speaks JSON, as freezeframe's `docs/storage-exec.md` describes it. Its volumes are paths.

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Value, json};

use super::{Said, Surroundings};

pub(super) fn run(program: &Utf8Path, input: &[u8], around: &mut Surroundings<'_>) -> Said {
    let asked: Value = serde_json::from_slice(input).unwrap_or_default();
    Ok(format!("{}\n", answer(program, &asked, around)))
}

fn failed(kind: &str, message: &str) -> Value {
    json!({"error": {"kind": kind, "message": message}})
}

fn answer(program: &Utf8Path, asked: &Value, around: &mut Surroundings<'_>) -> Value {
    let Surroundings { host, storage, .. } = around;
    let Some(snapshots) = storage.programs.get_mut(program) else { return Value::Null };
    let volumes = asked["volumes"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let volumes: Vec<Utf8PathBuf> = volumes.map(Utf8PathBuf::from).collect();
    let missing = volumes.iter().find(|volume| host.length(volume).is_none() && !host.is_folder(volume));
    if let Some(missing) = missing {
        return failed("gone", &format!("there is no volume {missing}"));
    }
    let name = asked["name"].as_str().unwrap_or_default();
    let known = snapshots.iter().position(|(known, _)| known == name);
    match (asked["operation"].as_str().unwrap_or_default(), known) {
        ("list", _) => {
            let names: Vec<&str> = snapshots.iter().map(|(name, _)| name.as_str()).collect();
            return json!({"snapshots": names});
        }
        ("snapshot", Some(_)) => return failed("exists", &format!("there is a snapshot {name}")),
        ("snapshot", None) if storage.liars.contains(program) => {}
        ("snapshot", None) if storage.full => return failed("no-space", "the storage is full"),
        ("snapshot", None) => {
            let held = volumes.iter().map(|volume| (volume.clone(), host.contents(volume))).collect();
            snapshots.push((name.to_owned(), held));
        }
        ("delete" | "merge", Some(at)) => drop(snapshots.remove(at)),
        ("revert", Some(at)) => {
            snapshots[at].1.iter().for_each(|(volume, contents)| host.put(volume, contents));
        }
        ("delete" | "merge" | "revert", None) => {
            return failed("gone", &format!("there is no snapshot {name}"));
        }
        (operation, _) => return failed("not-supported", &format!("not simulated: {operation}")),
    }
    json!({"done": {}})
}
