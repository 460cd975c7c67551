//! The human monitor for what QMP has no command for: the snapshots of a QEMU without snapshot jobs, and the flush of a node. Its
//! errors come as text in a reply that says success.
//!
//! Source: recordings of QEMU 5.2; there `savevm` and `loadvm` say nothing when they succeed.

use crate::{commands::HumanMonitor, env::Env, error::StepError, live::Live, words};

/// Runs a command that is silent on success.
///
/// # Errors
/// [`StepError::HumanMonitor`] if the monitor said anything, [`StepError::Command`].
pub async fn run<E: Env>(live: &Live<E>, command: &str, arguments: &[&str]) -> Result<(), StepError> {
    let arguments: String = arguments.iter().map(|argument| format!(" {}", quoted(argument))).collect();
    let line = format!("{command}{arguments}");
    let text = live.execute_long(&HumanMonitor { command_line: &line }).await?;
    match text.trim() {
        "" => Ok(()),
        said => Err(StepError::HumanMonitor {
            text: words::plain(&said.strip_prefix("Error: ").unwrap_or(said).replace("\r\n", " ")),
            command: line,
        }),
    }
}

/// Brings what was written to a node to its image's file, so that it outlives QEMU.
///
/// # Errors
/// Those of [`run`].
pub async fn flush<E: Env>(live: &Live<E>, node: &str) -> Result<(), StepError> {
    run(live, "qemu-io", &[node, "flush"]).await
}

/// An argument as the human monitor reads strings: in double quotes, where only `"` and `\` are special.
fn quoted(argument: &str) -> String {
    let escaped = argument.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_backslashes_stay_inside_the_argument() {
        assert_eq!(quoted("s1"), r#""s1""#);
        assert_eq!(quoted(r#"a "b" \c"#), r#""a \"b\" \\c""#);
    }
}
