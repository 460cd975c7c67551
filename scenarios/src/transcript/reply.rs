//! How a reply is told: whole where it is short and the same in every release, else by what matters of it.

use serde_json::Value;

/// The value that a command returned, told for a transcript. `others` are the jobs that a lane beside this one has
/// started: how far they are when this lane asks is a matter of time, and theirs to tell.
pub(super) fn told(command: &str, value: &Value, others: impl Fn(&str) -> bool) -> String {
    match (command, value) {
        ("query-qmp-schema", Value::Array(_)) => "[the schema]".to_owned(),
        ("query-status", Value::Object(status)) => {
            // `singlestep` was removed after 7.2.
            let members = status.iter().filter(|(name, _)| *name != "singlestep");
            Value::Object(sorted(members)).to_string()
        }
        ("query-block", Value::Array(devices)) => list(devices.iter().map(device)),
        // The order of nodes is that of their making: side-by-side overlays may come either way.
        ("query-named-block-nodes", Value::Array(nodes)) => {
            let mut nodes: Vec<_> = nodes.iter().map(node).collect();
            nodes.sort();
            list(nodes)
        }
        ("query-jobs", Value::Array(jobs)) => {
            let own = jobs.iter().filter(|job| !others(text(job, "id")));
            let mut jobs: Vec<_> = own.map(job).collect();
            jobs.sort();
            list(jobs)
        }
        // Where sockets lie, and which monitors there are, is the runner's affair.
        ("query-chardev", Value::Array(chardevs)) => {
            let ports = chardevs.iter().filter(|chardev| text(chardev, "label").starts_with("chardev-"));
            list(ports.map(|chardev| {
                let open = if chardev["frontend-open"] == true { "open" } else { "closed" };
                format!("{} {open}", text(chardev, "label"))
            }))
        }
        ("query-migrate-capabilities", Value::Array(known)) => {
            let on = known.iter().filter(|capability| capability["state"] == true);
            format!(
                "[on: {}]",
                on.map(|capability| text(capability, "capability")).collect::<Vec<_>>().join(", ")
            )
        }
        ("query-migrate-parameters", Value::Object(parameters)) => {
            format!("{{\"max-bandwidth\":{}}}", parameters.get("max-bandwidth").unwrap_or(&Value::Null))
        }
        // How long it took and how much of the memory was worth sending is a matter of time and of the guest.
        ("query-migrate", Value::Object(migration)) => {
            let members =
                migration.iter().filter(|(name, _)| ["status", "error-desc"].contains(&name.as_str()));
            Value::Object(sorted(members)).to_string()
        }
        _ => placed(value).to_string(),
    }
}

/// A value with typed placeholders for what no two runs have in common: wall clock, guest clock, and how much of the
/// memory was worth saving.
fn placed(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let members = members.iter().map(|(name, value)| {
                let placed = match name.as_str() {
                    "date-sec" | "date-nsec" | "vm-clock-sec" | "vm-clock-nsec" => Value::from("<time>"),
                    "vm-state-size" if *value != 0 => Value::from("<size>"),
                    _ => placed(value),
                };
                (name.clone(), placed)
            });
            Value::Object(members.collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(placed).collect()),
        _ => value.clone(),
    }
}

fn sorted<'a>(members: impl Iterator<Item = (&'a String, &'a Value)>) -> serde_json::Map<String, Value> {
    let mut members: Vec<_> = members.map(|(name, value)| (name.clone(), value.clone())).collect();
    members.sort_by(|(left, _), (right, _)| left.cmp(right));
    members.into_iter().collect()
}

fn list(items: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", items.into_iter().collect::<Vec<_>>().join(", "))
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or("?")
}

/// `vda-device: vda qcow2 vda.qcow2 {s1}`.
fn device(device: &Value) -> String {
    let path = text(device, "qdev").trim_end_matches("/virtio-backend");
    let id = path.rsplit('/').next().unwrap_or_default();
    format!("{id}: {}", device.get("inserted").map_or_else(|| "empty".into(), node))
}

/// `vda qcow2 /images/vda.qcow2 ro {s1 s2}`: name, driver, file, and what is remarkable.
fn node(node: &Value) -> String {
    let image = &node["image"];
    let file = freezeframe_driver::observed::file_of(text(image, "filename"));
    // What QEMU calls a node that has got no name ends in digits of chance.
    let name = Some(text(node, "node-name")).filter(|name| !name.starts_with("#block")).unwrap_or("<node>");
    let mut told = format!("{name} {} {file}", text(node, "drv"));
    if node["ro"] == true {
        told += " ro";
    }
    if node["active"] == false {
        told += " inactive";
    }
    if let Some(snapshots) = image["snapshots"].as_array() {
        let names: Vec<_> = snapshots.iter().map(|snapshot| text(snapshot, "name")).collect();
        told += &format!(" {{{}}}", names.join(" "));
    }
    told
}

/// `ff-1-save snapshot-save concluded 1/1`, with the error if it has one. The progress of a job at work varies.
fn job(job: &Value) -> String {
    let error = job["error"].as_str().map(|error| format!(": {error}")).unwrap_or_default();
    let status = text(job, "status");
    let progress = match status {
        "concluded" => format!(" {}/{}", job["current-progress"], job["total-progress"]),
        _ => String::new(),
    };
    format!("{} {} {status}{progress}{error}", text(job, "id"), text(job, "type"))
}
