//! What a verb has to say: text for a person, or one JSON object for a program.
//!
//! With `--json` standard output holds one object and nothing else, also of a verb that failed:
//!
//! ```text
//! {"error": {"code": "NO_DOMAIN_SNAPSHOT", "message": "...", "outcome": "not-begun", "remains": []}, "exit-code": 1}
//! ```

use std::process::ExitCode;

use serde_json::{Value, json};

use super::{CliError, disk, output};

/// What a verb has to say.
#[derive(Debug)]
pub(super) struct Told {
    /// For a person; whole lines.
    pub(super) text: String,
    /// For a program.
    pub(super) object: Value,
}

impl Told {
    pub(super) fn new(text: impl Into<String>, object: Value) -> Self {
        Self { text: text.into(), object }
    }

    /// The same with a word more.
    pub(super) fn and(mut self, words: &str, name: &str, value: Value) -> Self {
        self.text += words;
        self.object[name] = value;
        self
    }

    /// The same of what was only tried out: nothing was changed.
    pub(super) fn tried(self, dry_run: bool) -> Self {
        if !dry_run {
            return self;
        }
        let Self { text, mut object } = self;
        object["dry-run"] = true.into();
        Self { text: format!("dry run, nothing is changed: {text}"), object }
    }
}

/// Says what a verb has to say. An error is said once more in words, on standard error, by whoever gets it.
///
/// # Errors
/// The verb's own, and [`CliError::Unsaid`]: whatever it was to do is done.
pub(super) fn tell(told: Result<Told, CliError>, json: bool) -> Result<ExitCode, CliError> {
    match told {
        Ok(Told { text, object }) => {
            let text = if json { line(&object) } else { text };
            match output::print(&text) {
                Err(CliError::Write { source, .. }) => return Err(CliError::Unsaid { text, source }),
                said => said?,
            }
        }
        Err(error) => {
            if json {
                output::print(&line(&object(&error)))?;
            }
            return Err(error);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn line(object: &Value) -> String {
    format!("{object:#}\n")
}

fn object(error: &CliError) -> Value {
    let words = error.to_string();
    let (code, outcome, remains) = match error {
        CliError::Snapshot(error) => (Some(error.code().name()), error.outcome(), error.remains()),
        CliError::Disk(error) => {
            let (outcome, remains) = disk::outcome(error);
            (Some(error.code().name()), outcome, remains)
        }
        CliError::Fs(error) => (Some(error.code().name()), error.outcome(), &[][..]),
        CliError::Document { code, .. } => (Some(code.name()), "not-begun", &[][..]),
        _ => (None, "not-begun", &[][..]),
    };
    let message = match error {
        CliError::Snapshot(error) => error.to_string(),
        CliError::Disk(error) => error.to_string(),
        CliError::Fs(error) => error.to_string(),
        _ => words.strip_prefix("error: ").unwrap_or(&words).to_owned(),
    };
    json!({
        "error": { "code": code, "message": message, "outcome": outcome, "remains": remains },
        "exit-code": error.exit_code(),
    })
}
