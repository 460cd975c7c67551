//! What holds in any order: jobs follow QEMU's table, `STOP` and `RESUME` alternate, a block job tells how it ended right
//! before `concluded`, and time does not go back but for events that were held back.

use std::collections::BTreeMap;

use serde_json::Value;

/// Whether a job may go from one state to the next: QEMU's table, of which `undefined` is where none was told yet.
fn may_follow(state: &str, next: &str) -> bool {
    let may: &[&str] = match state {
        "undefined" | "null" => &["created"],
        "created" => &["running", "aborting", "null"],
        "running" => &["paused", "ready", "waiting", "aborting"],
        "paused" => &["running"],
        "ready" => &["standby", "waiting", "aborting"],
        "standby" => &["ready"],
        "waiting" => &["pending", "aborting"],
        "pending" => &["concluded", "aborting"],
        "aborting" => &["concluded", "aborting"],
        "concluded" => &["null"],
        _ => &[],
    };
    may.contains(&next)
}

/// What was heard, as far as the rules need it.
#[derive(Default)]
pub(crate) struct Rules {
    jobs: BTreeMap<String, String>,
    /// Whether the guest was last heard to stop; nothing if neither.
    stopped: Option<bool>,
    ended: Option<String>,
    time: (u64, u64),
}

impl Rules {
    /// Takes the next line.
    ///
    /// # Errors
    /// Which rule it breaks.
    pub(crate) fn hear(&mut self, message: &Value) -> Result<(), String> {
        let Some(event) = message["event"].as_str() else { return Ok(()) };
        let stamp = &message["timestamp"];
        let time = (stamp["seconds"].as_u64().unwrap_or(0), stamp["microseconds"].as_u64().unwrap_or(0));
        if event != "VSERPORT_CHANGE" {
            if time < self.time {
                return Err(format!("{event} goes back in time"));
            }
            self.time = time;
        }
        let text = |name: &str| message["data"][name].as_str().unwrap_or_default().to_owned();
        if let Some(job) = self.ended.take()
            && (event, text("id"), text("status"))
                != ("JOB_STATUS_CHANGE", job.clone(), "concluded".to_owned())
        {
            return Err(format!("job {job} told its end, and then {event} comes"));
        }
        match event {
            "JOB_STATUS_CHANGE" => {
                let state = self.jobs.entry(text("id")).or_insert_with(|| "undefined".to_owned());
                if !may_follow(state, &text("status")) {
                    return Err(format!("job {} goes from {state} to {}", text("id"), text("status")));
                }
                *state = text("status");
            }
            "BLOCK_JOB_COMPLETED" | "BLOCK_JOB_CANCELLED" => self.ended = Some(text("device")),
            "STOP" | "RESUME" if self.stopped == Some(event == "STOP") => {
                return Err(format!("{event} comes twice"));
            }
            "STOP" | "RESUME" => self.stopped = Some(event == "STOP"),
            _ => {}
        }
        Ok(())
    }
}
